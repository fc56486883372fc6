"""One monitor: subscribes to a service in a region, looks for its branches, closes the visible.

    subscription ──opened──► pending set + schedule ──due──► probe ──visible──► closer ──► service
         ▲ closed, list ended: removed                                            │ settled: removed

A branch leaves the pending set only by an answer that settles its close, a `CLOSED` delivery, or a
list that no longer holds it (M9). Everything runs on one loop; each part blocks while idle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import structlog

from rendezvous_raft.errors import LimitExceeded
from rendezvous_raft.limits import PENDING_MAX
from rendezvous_raft.monitor.closer import Closer, CloseVerdict
from rendezvous_raft.monitor.looker import Looker
from rendezvous_raft.monitor.pending import OpenBranch, PendingSet
from rendezvous_raft.monitor.ports import (
    BranchClosed,
    BranchOpened,
    ListEnded,
    Metadata,
    MonitorObserver,
    PendingBranch,
    Probe,
    Selection,
    SilentObserver,
)
from rendezvous_raft.monitor.rate import TokenRate
from rendezvous_raft.monitor.schedule import INTERVAL_MAX_S, Schedule
from rendezvous_raft.monitor.subscriber import Subscriber
from rendezvous_raft.types import BranchId, RequestId

FLUSH_S = 5.0
"""How long a stop waits for the answers of closes (M11)."""
PROBES_PER_SECOND = 50_000.0
ENDPOINT_SILENT_S = 10 * INTERVAL_MAX_S
"""A datastore that failed and did not answer for so long is not ready (M11)."""
SKEW_S = 5.0
"""By how much the wall clocks of two machines may differ before ages are taken for wrong ones."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MonitorStatistics:
    """A snapshot of one monitor."""

    selection: Selection
    datastore: str
    endpoints: tuple[str, ...]
    pending: int
    """Branches open as far as the monitor knows."""
    closing: int
    """Of these, the ones that are visible and whose close is not settled."""
    oldest_pending_s: float
    """Age of the oldest; 0 when nothing is pending."""
    synced: bool
    datastore_ready: bool
    datastore_error: str | None
    last_break: str | None
    denied: bool

    @property
    def ready(self) -> bool:
        """Whether new branches are seen and looked for (M11)."""
        return self.synced and self.datastore_ready and not self.denied


@dataclass(frozen=True, slots=True)
class PendingView:
    """One pending branch, for people (M13)."""

    branch_id: BranchId
    request_id: RequestId
    tag: str
    age_s: float
    tries: int
    last_result: str
    next_look_in_s: float | None
    """None while it is being looked for or closed."""


class Monitor:
    """Watches one selection with one probe.

    Example:
        monitor = Monitor(selection=selection, metadata=metadata, probe=probe)
        task = asyncio.create_task(monitor.run())
        ...
        monitor.stop()
        await task
    """

    def __init__(
        self,
        *,
        selection: Selection,
        metadata: Metadata,
        probe: Probe,
        observer: MonitorObserver | None = None,
        random: Random | None = None,
        wall_s: Callable[[], float] = time.time,
        max_probes_per_second: float = PROBES_PER_SECOND,
    ) -> None:
        self._selection = selection
        self._probe = probe
        self._observer = observer or SilentObserver()
        self._wall_s = wall_s
        # Chance spreads load; nothing secret depends on it.
        chance = random or Random()  # noqa: S311
        self._pending = PendingSet()
        self._schedule = Schedule(chance)
        self._stopping = asyncio.Event()
        self._synced = asyncio.Event()
        self._streaming_until: float | None = None
        self._left_out = 0
        """Branches of the current list for which there was no room."""
        self._looker = Looker(
            probe=probe,
            schedule=self._schedule,
            target=self,
            rate=TokenRate(
                per_second=max_probes_per_second,
                burst=max(1, min(probe.batch_max * 4, int(max_probes_per_second))),
            ),
            observer=self._observer,
            random=chance,
            now=_now,
        )
        self._closer = Closer(
            metadata=metadata,
            region=selection.region,
            on_settled=self._settled,
            observer=self._observer,
            random=chance,
            now=_now,
        )
        self._subscriber = Subscriber(
            metadata=metadata,
            selection=selection,
            target=self,
            observer=self._observer,
            random=chance,
            now=_now,
        )

    async def run(self) -> None:
        """Runs until `stop`, then drains: no new looks, closes flushed, the stream ended (M11).

        Cancelling ends it at once; the next monitor gets every open branch again (V19).

        Raises:
            ExceptionGroup: of a `ProbeMisconfigured`, when the datastore must not be probed
                as configured.
        """
        try:
            async with asyncio.TaskGroup() as parts:
                looking = parts.create_task(self._looker.run())
                closing = parts.create_task(self._closer.run())
                watching = parts.create_task(self._subscriber.run())
                await self._stopping.wait()
                looking.cancel()
                if not await self._closer.flush(timeout_s=FLUSH_S):
                    _log.warning("closes_left", count=len(self._closer))
                watching.cancel()
                closing.cancel()
        finally:
            self._synced.clear()
            await self._probe.close()

    def stop(self) -> None:
        """Begins to drain; `run` returns after at most a few seconds."""
        self._stopping.set()

    async def wait_synced(self) -> None:
        """Blocks until a list of the open branches has arrived."""
        await self._synced.wait()

    def statistics(self) -> MonitorStatistics:
        """An immutable snapshot; linear in the number of pending branches."""
        now = _now()
        oldest = self._pending.oldest()
        return MonitorStatistics(
            selection=self._selection,
            datastore=self._probe.datastore,
            endpoints=self._probe.endpoints,
            pending=len(self._pending),
            closing=len(self._closer),
            oldest_pending_s=0.0 if oldest is None else max(0.0, now - oldest.since),
            synced=self._synced.is_set(),
            datastore_ready=self._datastore_ready(now),
            datastore_error=self._looker.last_error,
            last_break=self._subscriber.last_break,
            denied=self._closer.denied,
        )

    def pending(self, *, limit: int) -> tuple[PendingView, ...]:
        """The pending branches, oldest first, at most `limit`."""
        now = _now()
        known = sorted(self._pending, key=lambda branch: branch.since)[:limit]
        return tuple(self._view(branch, now) for branch in known)

    # What the subscription delivers (DeliveryTarget).

    def list_began(self) -> None:
        """A new stream begins with its list."""
        self._pending.begin_list()
        self._left_out = 0

    def opened(self, delivery: BranchOpened, *, live: bool) -> None:
        """A branch is open: it is looked for from now on.

        A listed one for which there is no room is left out: the list has to come to its end, for
        only that removes what is gone and makes room.

        Raises:
            LimitExceeded: too many are pending; the stream is taken up again later.
        """
        if len(self._pending) >= PENDING_MAX and delivery.branch_id not in self._pending:
            if live:
                raise _too_many()
            self._left_out += 1
            return
        since = self._opened_since(delivery) if live else self._listed_since(delivery)
        if self._pending.add(delivery, since=since):
            self._schedule.add(delivery.branch_id, since)
            self._looker.ring()

    def closed(self, delivery: BranchClosed) -> None:
        """A branch was closed by someone, or expired."""
        self._pending.discard(delivery.branch_id)
        self._schedule.remove(delivery.branch_id)

    def list_ended(self, delivery: ListEnded) -> None:
        """The pending set becomes what was listed.

        Raises:
            LimitExceeded: there was no room for all of it; the stream is taken up again later.
        """
        for branch_id in self._pending.end_list():
            self._schedule.remove(branch_id)
        if self._left_out:
            raise _too_many()
        self._synced.set()
        _log.info(
            "monitor_synced",
            service=self._selection.service,
            region=self._selection.region,
            revision=delivery.revision,
            pending=len(self._pending),
        )

    def stream_broke(self) -> None:
        """Looking and closing go on meanwhile."""
        if self._synced.is_set():
            self._streaming_until = _now()
        self._synced.clear()

    # What the looks find (LookTarget).

    def branch(self, branch_id: BranchId) -> PendingBranch | None:
        """The branch to ask the probe about."""
        known = self._pending.get(branch_id)
        return None if known is None else known.branch

    def is_awaited(self, branch_id: BranchId) -> bool:
        """Whether it is pending and not yet known to be visible."""
        known = self._pending.get(branch_id)
        return known is not None and known.visible_at is None

    def found_visible(self, branch_id: BranchId) -> None:
        """A branch is visible: it is closed as soon as possible."""
        known = self._pending.get(branch_id)
        if known is None or known.visible_at is not None:
            return
        known.visible_at = _now()
        registered_at_s = known.opened.registered_at_s
        if registered_at_s is None:
            self._observer.became_visible(known.visible_at - known.since)
        else:
            self._observer.became_visible(max(0.0, self._wall_s() - registered_at_s))
        self._closer.close_soon(branch_id, is_global=known.opened.is_global)

    def _settled(self, branch_id: BranchId, verdict: CloseVerdict) -> None:
        known = self._pending.discard(branch_id)
        self._schedule.remove(branch_id)
        acknowledged = verdict in {CloseVerdict.CLOSED, CloseVerdict.ALREADY}
        if known is not None and known.visible_at is not None and acknowledged:
            self._observer.close_acknowledged(_now() - known.visible_at)

    def _opened_since(self, delivery: BranchOpened) -> float:
        """When a branch that was not listed was registered: just now, or it comes from a member.

        In a group others leave, and what they had comes without a list. What looks younger than
        clocks may differ is taken for new.
        """
        now = _now()
        since = self._listed_since(delivery) if self._selection.group else now
        return since if now - since > SKEW_S else now

    def _listed_since(self, delivery: BranchOpened) -> float:
        """When a listed branch was registered, on the loop's clock.

        By two wall clocks, so it is an estimate: what the previous stream did not deliver is
        younger than that stream, which bounds the effect of skewed clocks. Not so in a group,
        where another member may have had the branch.
        """
        now = _now()
        since = now
        if delivery.registered_at_s is not None:
            since -= max(0.0, self._wall_s() - delivery.registered_at_s)
        if self._streaming_until is not None and not self._selection.group:
            since = max(since, self._streaming_until)
        return since

    def _datastore_ready(self, now: float) -> bool:
        answered_at = self._looker.answered_at
        if not self._looker.checked or answered_at is None:
            return False
        return self._looker.last_error is None or now - answered_at < ENDPOINT_SILENT_S

    def _view(self, known: OpenBranch, now: float) -> PendingView:
        history = self._schedule.history(known.opened.branch_id)
        tries, last_result, next_look_in_s = 0, "visible, closing", None
        if history is not None:
            outcome = history.last_outcome
            tries = history.tries
            last_result = "not looked for yet" if outcome is None else outcome.value
            if history.next_look_at is not None:
                next_look_in_s = max(0.0, history.next_look_at - now)
        return PendingView(
            branch_id=known.opened.branch_id,
            request_id=known.opened.request_id,
            tag=known.opened.tag,
            age_s=max(0.0, now - known.since),
            tries=tries,
            last_result=last_result,
            next_look_in_s=next_look_in_s,
        )


def _too_many() -> LimitExceeded:
    return LimitExceeded(
        f"{PENDING_MAX} branches are pending",
        details={"limit": "pending_max", "value": str(PENDING_MAX)},
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
