"""List, then watch: keeps a subscription alive and feeds what it delivers (M1, M2).

A broken stream is always taken up with a full list, never from a revision. A list heals what
resuming cannot: closes that happened during the break, the division of a group meanwhile,
and the rest of a batch of registrations of which only a part was delivered at one revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from random import Random
from typing import Protocol

import structlog

from rendezvous_raft.errors import PermissionDenied, RendezvousError, Unauthenticated
from rendezvous_raft.monitor.backoff import Backoff
from rendezvous_raft.monitor.ports import (
    BranchClosed,
    BranchOpened,
    ListEnded,
    Metadata,
    MonitorObserver,
    Selection,
)
from rendezvous_raft.monitor.wakeup import raise_if_cancelled

RESUBSCRIBE_FIRST_S = 0.050
RESUBSCRIBE_MAX_S = 2.0
"""Bounds of the pause before a stream is taken up again (M2)."""
DENIED_PAUSE_S = 30.0
"""Pause after the service refused the monitor's identity: people have to act first."""

_log = structlog.get_logger(__name__)


class DeliveryTarget(Protocol):
    """Takes what the subscription delivers; never blocks."""

    def list_began(self) -> None:
        """A new stream begins with its list."""
        ...

    def opened(self, delivery: BranchOpened, *, live: bool) -> None:
        """A branch is open; `live` tells a new one from one of the list."""
        ...

    def closed(self, delivery: BranchClosed) -> None:
        """A branch was closed or expired."""
        ...

    def list_ended(self, delivery: ListEnded) -> None:
        """Everything listed has been delivered. Raises what ends the stream."""
        ...

    def stream_broke(self) -> None:
        """The stream ended; deliveries may be missed until the next list ends."""
        ...


class Subscriber:
    """Runs the subscription of one selection until it is cancelled."""

    def __init__(
        self,
        *,
        metadata: Metadata,
        selection: Selection,
        target: DeliveryTarget,
        observer: MonitorObserver,
        random: Random,
        now: Callable[[], float],
    ) -> None:
        self._metadata = metadata
        self._selection = selection
        self._target = target
        self._observer = observer
        self._now = now
        self._backoff = Backoff(
            random, first_s=RESUBSCRIBE_FIRST_S, max_s=RESUBSCRIBE_MAX_S, jitter=0.5
        )
        self._synced_at: float | None = None
        self.last_break: str | None = None
        """Why the stream broke last; None while it never did."""

    async def run(self) -> None:
        """Subscribes, and again after every break; ends only by cancellation."""
        while True:
            pause_s = await self._follow_once()
            raise_if_cancelled()
            await asyncio.sleep(pause_s)

    async def _follow_once(self) -> float:
        """Follows one stream to its end; returns how long to pause, in seconds."""
        self._synced_at = None
        denied = False
        try:
            await self._follow()
            reason = "ended"
        except RendezvousError as error:
            reason = error.code
            denied = isinstance(error, Unauthenticated | PermissionDenied)
            _log.warning("subscription_broke", reason=reason, error=str(error), **self._names())
        except Exception:  # noqa: BLE001 - whatever broke it, branches must still be seen (U4)
            reason = "internal"
            _log.exception("subscription_broke", reason=reason, **self._names())
        self.last_break = reason
        self._target.stream_broke()
        self._observer.resubscribed(reason)
        if denied:
            return DENIED_PAUSE_S
        # Only a stream that held is a success: one that syncs and breaks at once must not spin.
        if self._synced_at is not None and self._now() - self._synced_at >= RESUBSCRIBE_MAX_S:
            self._backoff.reset()
        return self._backoff.next_pause_s()

    async def _follow(self) -> None:
        self._target.list_began()
        async with aclosing(self._metadata.subscribe(self._selection)) as deliveries:
            async for delivery in deliveries:
                match delivery:
                    case BranchOpened():
                        self._target.opened(delivery, live=self._synced_at is not None)
                    case BranchClosed():
                        self._target.closed(delivery)
                    case ListEnded():
                        self._synced_at = self._now()
                        self._target.list_ended(delivery)

    def _names(self) -> dict[str, str]:
        return {"service": self._selection.service, "region": self._selection.region}
