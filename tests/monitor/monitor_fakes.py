"""A metadata service and a datastore in memory, with faults on order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence

from rendezvous_raft.errors import (
    BranchNotFound,
    InvalidArgument,
    RendezvousError,
    RequestExpired,
    SubscriptionOverflow,
)
from rendezvous_raft.monitor.ports import (
    BranchClose,
    BranchClosed,
    BranchOpened,
    CloseAnswer,
    Delivery,
    EndpointLook,
    ListEnded,
    PendingBranch,
    ProbeError,
    ProbeResult,
    Selection,
)
from rendezvous_raft.testing.virtual_time import advance
from rendezvous_raft.types import BranchId, Region, RequestId, Revision, Tag

QUEUE_MAX = 64


class FakeService:
    """Open branches of one (service, region), their streams, and closes."""

    def __init__(self) -> None:
        self.revision = 0
        self.open: dict[BranchId, BranchOpened] = {}
        self.closed: set[BranchId] = set()
        self.expired: set[BranchId] = set()
        self.streams: list[asyncio.Queue[Delivery | RendezvousError]] = []
        self.subscriptions = 0
        self.calls: list[tuple[BranchClose, ...]] = []
        self.call_faults: list[RendezvousError | Exception | None] = []
        """Outcome of the next calls of close; None succeeds."""
        self.lost_answers = 0
        """How many of the next calls take effect but fail."""
        self.item_fault: Callable[[BranchClose], RendezvousError | None] = lambda _: None
        self.list_faults: list[RendezvousError | None] = []
        """Faults of the next subscriptions, in the middle of their list."""
        self.breaks_after_list = 0
        """How many of the next streams end right after their list."""
        self.close_takes_s = 0.0
        self.in_flight = 0
        self.in_flight_max = 0

    def register(
        self, name: str, *, at_s: float | None = None, is_global: bool = False
    ) -> BranchId:
        self.revision += 1
        branch_id = BranchId(name)
        opened = BranchOpened(
            branch_id=branch_id,
            request_id=RequestId("r1"),
            tag=Tag(""),
            locator=b"",
            registered_at_s=at_s,
            is_global=is_global,
            revision=Revision(self.revision),
        )
        self.open[branch_id] = opened
        self._publish(opened)
        return branch_id

    def settle(self, branch_id: BranchId) -> None:
        """Someone closes it."""
        self.revision += 1
        del self.open[branch_id]
        self.closed.add(branch_id)
        self._publish(BranchClosed(branch_id, Revision(self.revision)))

    def break_streams(self, error: RendezvousError) -> None:
        for stream in self.streams:
            while not stream.empty():
                stream.get_nowait()  # what was not read yet is lost with the stream
            stream.put_nowait(error)
        self.streams.clear()

    async def subscribe(self, selection: Selection) -> AsyncGenerator[Delivery, None]:
        self.subscriptions += 1
        stream: asyncio.Queue[Delivery | RendezvousError] = asyncio.Queue(QUEUE_MAX)
        listed = list(self.open.values())
        synced = ListEnded(Revision(self.revision))
        self.streams.append(stream)
        fault = self.list_faults.pop(0) if self.list_faults else None
        try:
            for position, delivery in enumerate(listed):
                if fault is not None and position == len(listed) // 2:
                    raise fault
                yield delivery
            if fault is not None:
                raise fault
            yield synced
            if self.breaks_after_list:
                self.breaks_after_list -= 1
                raise SubscriptionOverflow("at once")
            while True:
                delivery = await stream.get()
                if isinstance(delivery, RendezvousError):
                    raise delivery
                yield delivery
        finally:
            if stream in self.streams:
                self.streams.remove(stream)

    async def close_branches(
        self, closes: Sequence[BranchClose], *, timeout_s: float
    ) -> Sequence[CloseAnswer]:
        self.calls.append(tuple(closes))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            if self.close_takes_s:
                await advance(self.close_takes_s)
            fault = self.call_faults.pop(0) if self.call_faults else None
            if fault is not None:
                raise fault
            answers = [self._close(close) for close in closes]
            if self.lost_answers:
                self.lost_answers -= 1
                raise ConnectionResetError("the answer was lost")
            return answers
        finally:
            self.in_flight -= 1

    def _close(self, close: BranchClose) -> CloseAnswer:
        fault = self.item_fault(close)
        if fault is not None:
            return CloseAnswer(closed=False, already_closed=False, failure=fault)
        branch_id = close.branch_id
        if branch_id in self.expired:
            return CloseAnswer(
                closed=False, already_closed=False, failure=RequestExpired("it expired")
            )
        if branch_id in self.closed:
            return CloseAnswer(closed=False, already_closed=True)
        opened = self.open.get(branch_id)
        if opened is None:
            return CloseAnswer(closed=False, already_closed=False, failure=BranchNotFound("none"))
        if opened.is_global != (close.region == ""):
            fault = InvalidArgument.for_field("close.region", "not of this branch")
            return CloseAnswer(closed=False, already_closed=False, failure=fault)
        self.settle(branch_id)
        return CloseAnswer(closed=True, already_closed=False)

    def _publish(self, delivery: Delivery) -> None:
        for stream in list(self.streams):
            if stream.full():
                self.streams.remove(stream)
                while not stream.empty():
                    stream.get_nowait()
                stream.put_nowait(SubscriptionOverflow("too slow"))
            else:
                stream.put_nowait(delivery)


class FakeProbe:
    """A datastore: `visible` says what is there."""

    datastore = "fake"
    endpoints = ("fake:1",)

    def __init__(self, batch_max: int = 100) -> None:
        self.batch_max = batch_max
        self.visible: set[BranchId] = set()
        self.looks: list[tuple[BranchId, ...]] = []
        self.looked_at: list[float] = []
        self.times: Counter[BranchId] = Counter()
        self.faults: list[Exception | None] = []
        """Outcome of the next looks; None succeeds."""
        self.endpoint_faults = 0
        """How many of the next looks an endpoint does not answer."""
        self.broken: set[BranchId] = set()
        """Branches that fail alone."""
        self.unasked: set[BranchId] = set()
        self.hangs = False
        self.swallows_cancellation = False
        self.check_faults: list[Exception | None] = []
        self.closed = 0

    async def check(self) -> tuple[str, ...]:
        fault = self.check_faults.pop(0) if self.check_faults else None
        if fault is not None:
            raise fault
        return ()

    async def find_many(self, pending: Sequence[PendingBranch]) -> ProbeResult:
        asked = frozenset(branch.branch_id for branch in pending)
        assert len(pending) <= self.batch_max
        assert len(asked) == len(pending)
        self.looks.append(tuple(branch.branch_id for branch in pending))
        self.looked_at.append(asyncio.get_running_loop().time())
        self.times.update(asked)
        if self.hangs:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                if not self.swallows_cancellation:
                    raise
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        if self.endpoint_faults:
            self.endpoint_faults -= 1
            away = ProbeError("away")
            look = EndpointLook("fake:1", 0.0, 0, 0, len(asked), away)
            failed = dict.fromkeys(sorted(asked), away)
            return ProbeResult(frozenset(), frozenset(), failed, (look,))
        failed = {branch_id: ProbeError("broken") for branch_id in sorted(asked & self.broken)}
        visible = (asked & self.visible) - failed.keys()
        return ProbeResult(
            visible=frozenset(visible | self.unasked),
            absent=frozenset(asked - visible - failed.keys()),
            failed=failed,
        )

    async def close(self) -> None:
        self.closed += 1


class CountingObserver:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.batches: list[int] = []
        self.lags: list[float] = []
        self.close_lags: list[float] = []
        self.breaks: list[str] = []
        self.looks: list[EndpointLook] = []
        self.superseded_count = 0

    def looked(self, look: EndpointLook) -> None:
        self.looks.append(look)

    def became_visible(self, lag_s: float) -> None:
        self.lags.append(lag_s)

    def superseded(self, count: int) -> None:
        self.superseded_count += count

    def batch_sent(self, size: int) -> None:
        self.batches.append(size)

    def close_answered(self, result: str) -> None:
        self.answers[result] += 1

    def close_acknowledged(self, lag_s: float) -> None:
        self.close_lags.append(lag_s)

    def resubscribed(self, reason: str) -> None:
        self.breaks.append(reason)


def region(name: str = "eu") -> Region:
    return Region(name)
