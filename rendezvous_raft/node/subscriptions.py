"""Subscriptions: list the open branches, then watch (semantics U1 to U5).

Listing and attaching happen in one turn of the loop, so there is no gap between the two. Each
subscriber has a bounded queue; when a slow one overflows, its stream ends and it subscribes
again: what is open is listed, so nothing is lost.

Members of a group on one node share the branches by rendezvous hashing: a branch belongs to the
member with the highest hash of member and branch, so that a join or leave moves only what it must.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable

from rendezvous_raft import errors
from rendezvous_raft.core import queries
from rendezvous_raft.core.events import BranchOpened, RegionClosed, RequestExpired
from rendezvous_raft.core.model import Branch
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.admission import Admission
from rendezvous_raft.node.calls import (
    BranchIsClosed,
    BranchIsOpen,
    SubscriptionEvent,
    SubscriptionKey,
    Synced,
)
from rendezvous_raft.node.observer import NodeObserver
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.types import BranchId, BranchKind, Region, RequestId, Revision, Service, Tag


class Subscriber:
    """One stream: what it watches and what waits to be delivered."""

    def __init__(self, key: SubscriptionKey, token: int) -> None:
        self.key = key
        self.token = token
        self._tags = dict.fromkeys(key.tags)
        self._queue: list[SubscriptionEvent] = []
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

    def end(self, error: errors.RendezvousError) -> None:
        """Ends the stream with an error, instead of what is queued."""
        self._queue.clear()
        self._error = error
        self._filled.set()

    async def take(self) -> list[SubscriptionEvent]:
        """Blocks until there is something; everything queued at once. Raises the end's error."""
        await self._filled.wait()
        if self._error is not None:
            raise self._error
        self._filled.clear()
        batch, self._queue = self._queue, []
        return batch


class Subscriptions:
    """The subscribers of this node, fed from applied events.

    `changed` is told whenever they become more or fewer.
    """

    def __init__(
        self,
        replicator: Replicator,
        limits: NodeLimits,
        admission: Admission,
        observer: NodeObserver,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._changed = changed
        self._replicator = replicator
        self._limits = limits
        self._admission = admission
        self._observer = observer
        self._by_service: dict[Service, dict[Region, list[Subscriber]]] = {}
        self._tokens = 0

    async def subscribe(self, key: SubscriptionKey) -> AsyncGenerator[list[SubscriptionEvent]]:
        """Yields batches of events until the caller closes the generator.

        Raises:
            LimitExceeded: too many subscribers watch the same service and region here.
            SubscriptionOverflow: the caller was too slow; subscribe again.
            Draining: the node shuts down; subscribe on another one.
        """
        self._admission.refuse_when_draining()
        subscriber = self._attach(key)
        try:
            while True:
                yield await subscriber.take()
        finally:
            self._detach(subscriber)

    def _attach(self, key: SubscriptionKey) -> Subscriber:
        """Lists and attaches, in one turn."""
        self._tokens += 1
        subscriber = Subscriber(key, self._tokens)
        regions = self._by_service.setdefault(key.service, {})
        watching = regions.setdefault(key.region, [])
        if len(watching) >= self._limits.subscribers_per_key_max:
            self._observer.limit_exceeded("subscribers_per_key_max")
            raise errors.LimitExceeded(
                f"{key.service} in {key.region} has {len(watching)} subscribers on this node",
                details={"limit": "subscribers_per_key_max", "value": str(len(watching))},
            )
        watching.append(subscriber)
        self._changed()
        # A member's share changes with its group: what it had seen before says nothing of it now.
        after = Revision(0) if key.group else key.resume_revision
        for branch in self._open_branches(key, after):
            if self._is_for(subscriber, branch.branch_id, branch.tag):
                subscriber.push(_opened(branch))
        # The list itself is bounded by the state; the bound of the queue is for what follows.
        subscriber.push(Synced(self._replicator.state.revision))
        return subscriber

    def _detach(self, subscriber: Subscriber) -> None:
        key = subscriber.key
        watching = self._by_service.get(key.service, {}).get(key.region, [])
        if subscriber not in watching:
            return
        before = [other for other in watching if other.key.group == key.group]
        watching.remove(subscriber)
        self._changed()
        if not watching:
            del self._by_service[key.service][key.region]
            if not self._by_service[key.service]:
                del self._by_service[key.service]
        elif key.group:
            self._hand_over(subscriber, before)

    def _hand_over(self, leaver: Subscriber, before: list[Subscriber]) -> None:
        """U5: the open branches of a member that left go to the others."""
        members = [member for member in before if member is not leaver]
        for branch in self._open_branches(leaver.key, Revision(0)):
            if _owner(before, branch.branch_id, branch.tag) is leaver:
                heir = _owner(members, branch.branch_id, branch.tag)
                if heir is not None:
                    self._deliver(heir, _opened(branch))

    def _open_branches(self, key: SubscriptionKey, after: Revision) -> list[Branch]:
        state = self._replicator.state.state
        return queries.branches_for_subscriber(state, key.service, key.region, after)

    def _is_for(self, subscriber: Subscriber, branch_id: BranchId, tag: Tag) -> bool:
        """Whether the filter passes and the branch is this member's share of its group."""
        key = subscriber.key
        if not subscriber.wants(tag):
            return False
        if not key.group:
            return True
        watching = self._by_service[key.service][key.region]
        members = [other for other in watching if other.key.group == key.group]
        return _owner(members, branch_id, tag) is subscriber

    def branch_opened(self, event: BranchOpened) -> None:
        """A branch was applied."""
        if event.service not in self._by_service or not event.monitored:
            return
        if not event.regions and not event.is_global:
            return
        opened = BranchIsOpen(
            branch_id=event.branch_id,
            request_id=event.request_id,
            tag=event.tag,
            locator=event.locator,
            registered_at_ms=event.at_ms,
            is_global=event.is_global,
            revision=event.revision,
        )
        self._publish(event.service, event.regions, event.branch_id, event.tag, opened)

    def region_closed(self, event: RegionClosed, revision: Revision) -> None:
        """A close was applied."""
        if not event.monitored or (not event.region and not event.is_global):
            return
        regions = (event.region,) if event.region else ()
        closed = BranchIsClosed(event.branch_id, event.request_id, event.is_global, revision)
        self._publish(event.service, regions, event.branch_id, event.tag, closed)

    def request_expired(self, event: RequestExpired, revision: Revision) -> None:
        """A request was dropped: its open branches are nobody's business any more."""
        for branch in event.branches:
            closed = BranchIsClosed(branch.branch_id, event.request_id, branch.is_global, revision)
            self._publish(branch.service, branch.regions, branch.branch_id, branch.tag, closed)

    def _publish(
        self,
        service: Service,
        regions: Iterable[Region],
        branch_id: BranchId,
        tag: Tag,
        event: BranchIsOpen | BranchIsClosed,
    ) -> None:
        """Delivers to the subscribers of these regions, or of all regions if there are none."""
        watched = self._by_service.get(service)
        if watched is None:
            return
        for region in list(regions) or list(watched):
            for subscriber in list(watched.get(region, ())):
                if subscriber.ended:
                    continue
                # A close goes to every member of a group: the branch may have moved between them.
                mine = self._is_for(subscriber, branch_id, tag)
                if mine or (isinstance(event, BranchIsClosed) and subscriber.wants(tag)):
                    self._deliver(subscriber, event)

    def _deliver(self, subscriber: Subscriber, event: SubscriptionEvent) -> None:
        """Queues an event, or ends the stream of one that is too slow.

        Its share then goes to the rest of its group, which may be too much for another one, so
        whoever delivers to several finds some of them ended.
        """
        if subscriber.ended:
            return
        if len(subscriber) >= self._limits.subscription_queue_len_max:
            self._observer.subscription_resync("overflow")
            self._end(
                subscriber,
                errors.SubscriptionOverflow(
                    "the subscriber was too slow; subscribe again, open branches are listed",
                    details={"limit": "subscription_queue_len_max"},
                ),
            )
        else:
            subscriber.push(event)

    def _end(self, subscriber: Subscriber, error: errors.RendezvousError) -> None:
        self._detach(subscriber)
        subscriber.end(error)

    def end_all(self, reason: str, error: errors.RendezvousError) -> None:
        """Ends every stream, e.g. when the node drains or its whole state was replaced."""
        for regions in list(self._by_service.values()):
            for watching in list(regions.values()):
                for subscriber in list(watching):
                    self._observer.subscription_resync(reason)
                    self._end(subscriber, error)

    def counts(self) -> dict[tuple[Service, Region], int]:
        """Subscribers per service and region."""
        return {
            (service, region): len(watching)
            for service, regions in self._by_service.items()
            for region, watching in regions.items()
        }

    def count_told(self, service: Service, region: Region, tag: Tag) -> int:
        """Subscribers that are told of a branch; region `""` asks about a global one."""
        regions = self._by_service.get(service, {})
        watching = regions.values() if not region else (regions.get(region, ()),)
        return sum(subscriber.wants(tag) for several in watching for subscriber in several)

    def queue_len_longest(self) -> int:
        """Length of the longest queue."""
        return max(
            (
                len(subscriber)
                for regions in self._by_service.values()
                for watching in regions.values()
                for subscriber in watching
            ),
            default=0,
        )


def _owner(members: list[Subscriber], branch_id: BranchId, tag: Tag) -> Subscriber | None:
    """Rendezvous hashing (Thaler and Ravishankar, 1998): the member with the highest weight.

    Only members whose filter lets the tag pass take part, or a branch could fall to one that
    drops it.
    """

    def weight(member: Subscriber) -> bytes:
        seed = member.token.to_bytes(8, "big")
        return hashlib.blake2b(branch_id.encode(), key=seed, digest_size=8).digest()

    return max((member for member in members if member.wants(tag)), key=weight, default=None)


def _opened(branch: Branch) -> BranchIsOpen:
    return BranchIsOpen(
        branch_id=branch.branch_id,
        request_id=RequestId(branch.request_id),
        tag=branch.tag,
        locator=branch.locator,
        registered_at_ms=branch.at_ms,
        is_global=branch.kind is BranchKind.GLOBAL,
        revision=branch.revision,
    )
