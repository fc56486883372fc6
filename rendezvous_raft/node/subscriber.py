"""One subscription: its filter, what waits to be delivered, and what it was given as a member.

The queue holds what happens, and is bounded by whoever pushes. What falls to a member of a group,
when it begins and when the group is divided anew, may be as much as there is open, and costs
hashes. So that is not queued but looked through when the consumer asks, a part at a time, which
neither holds the loop up nor counts as being slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rendezvous_raft import errors
from rendezvous_raft.node.calls import BranchIsOpen, SubscriptionEvent, SubscriptionKey
from rendezvous_raft.node.groups import GroupMembership
from rendezvous_raft.types import BranchId, Tag


class Subscriber:
    """One stream: what it watches and what waits to be delivered."""

    def __init__(self, key: SubscriptionKey) -> None:
        self.key = key
        self.begun = False
        """Whether the list was made; until then nothing is delivered."""
        self.membership: GroupMembership | None = None
        self.given: dict[BranchId, None] = {}
        """Of a member of a group: what it was given and is still open."""
        self.patience: asyncio.TimerHandle | None = None
        """Ends the wait for the membership."""
        self._tags = dict.fromkeys(key.tags)
        self._queue: list[SubscriptionEvent] = []
        self._share: Sequence[BranchId] = ()
        self._looked_through = 0
        """Those of the share whose turn has come."""
        self._at_once = 1
        self._list_end: SubscriptionEvent | None = None
        """Comes after the share, and before what is queued."""
        self._look: Callable[[BranchId], BranchIsOpen | None] = _nothing
        self._filled = asyncio.Event()
        self._error: errors.RendezvousError | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def ended(self) -> bool:
        """Whether the stream has been ended from this side."""
        return self._error is not None

    def wants(self, tag: Tag) -> bool:
        """Whether the tag passes the filter."""
        return not self._tags or tag in self._tags

    def push(self, event: SubscriptionEvent) -> None:
        """Queues an event."""
        self._queue.append(event)
        self._filled.set()

    def look_through(
        self,
        branch_ids: Sequence[BranchId],
        look: Callable[[BranchId], BranchIsOpen | None],
        *,
        at_once: int,
        list_end: SubscriptionEvent | None = None,
    ) -> None:
        """Lets the consumer look for what of these is its now, instead of what was left to look at.

        Args:
            branch_ids: in the order of their registration.
            look: what to deliver of a branch; None: nothing.
            at_once: how many are looked at in one turn of the loop.
            list_end: if this is the list of the stream, what ends it; the queue waits for it.
        """
        self._share, self._looked_through = branch_ids, 0
        self._look = look
        self._at_once = at_once
        self._list_end = list_end or self._list_end
        self._filled.set()

    def end(self, error: errors.RendezvousError) -> None:
        """Ends the stream with an error, instead of what is queued."""
        self._queue.clear()
        self._share = ()
        self._error = error
        self._filled.set()

    async def take(self) -> list[SubscriptionEvent]:
        """Blocks until there is something; everything queued at once. Raises the end's error."""
        while True:
            await self._filled.wait()
            if self._error is not None:
                raise self._error
            batch: list[SubscriptionEvent] = []
            if self._list_end is None:
                batch, self._queue = self._queue, []
            # A part with every batch: a queue that never runs dry must not keep the share waiting.
            batch += self._next_of_share()
            if not self._share:
                if self._list_end is not None:
                    batch.append(self._list_end)
                    self._list_end = None
                if not self._queue:
                    self._filled.clear()
            if batch:
                return batch
            await asyncio.sleep(0)  # a part in which nothing was its own

    def _next_of_share(self) -> list[SubscriptionEvent]:
        begin, self._looked_through = self._looked_through, self._looked_through + self._at_once
        events = map(self._look, self._share[begin : self._looked_through])
        found: list[SubscriptionEvent] = [event for event in events if event is not None]
        if self._looked_through >= len(self._share):
            self._share = ()
        return found


def _nothing(_branch_id: BranchId) -> None:
    return None
