"""Subscriptions: list the open branches, then watch (semantics U1 to U5).

Listing and attaching happen in one turn of the loop, so there is no gap between the two. Each
subscriber has a bounded queue; when a slow one overflows, its stream ends and it subscribes
again: what is open is listed, so nothing is lost.

A member of a group is given what falls to it by the members that this replica knows of
(`core/groups.py`). When they change, it is given what is its now, is open, and was not given to it
before. So after every batch of applied commands each member has been given, or is about to be, all
that is its by the state at that point: nothing open is without a watcher. A subscription that waits
to be a member begins with its list once it is one, or with everything when its patience ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from rendezvous_raft import errors
from rendezvous_raft.core import queries
from rendezvous_raft.core.events import BranchOpened, RegionClosed, RequestExpired
from rendezvous_raft.core.model import Branch, GroupKey
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.admission import Admission
from rendezvous_raft.node.calls import (
    BranchIsClosed,
    BranchIsOpen,
    SubscriptionEvent,
    SubscriptionKey,
    Synced,
)
from rendezvous_raft.node.groups import GroupKeeper, Owners
from rendezvous_raft.node.observer import NodeObserver
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.node.subscriber import Subscriber
from rendezvous_raft.types import BranchId, BranchKind, Region, RequestId, Revision, Service, Tag

SHARE_HASHES_MAX = 1_500
"""Hashes for one subscriber in one turn, as it looks through what is open: 1 to 2 ms."""


class Subscriptions:
    """The subscribers of this node, fed from applied events.

    `changed` is told whenever they become more or fewer.
    """

    def __init__(
        self,
        replicator: Replicator,
        limits: NodeLimits,
        admission: Admission,
        groups: GroupKeeper,
        observer: NodeObserver,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._changed = changed
        self._replicator = replicator
        self._limits = limits
        self._admission = admission
        self._groups = groups
        self._observer = observer
        self._by_service: dict[Service, dict[Region, list[Subscriber]]] = {}

    async def subscribe(self, key: SubscriptionKey) -> AsyncGenerator[list[SubscriptionEvent]]:
        """Yields batches of events until the caller closes the generator.

        Raises:
            LimitExceeded: too many subscribers watch the same service and region here, or the group
                has too many members.
            SubscriptionOverflow: the caller was too slow; subscribe again.
            Draining, NotReady: the node shuts down or has halted; subscribe on another one.
        """
        self._admission.refuse_to_park()
        subscriber = self._attach(key)
        try:
            while True:
                yield await subscriber.take()
        finally:
            self._detach(subscriber)

    def _attach(self, key: SubscriptionKey) -> Subscriber:
        """Lists and attaches, in one turn."""
        subscriber = Subscriber(key)
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
        if key.group:
            self._join(subscriber)
        else:
            self._begin(subscriber)
        return subscriber

    def _join(self, subscriber: Subscriber) -> None:
        """Lets the subscriber become a member; its list comes then, or when patience ends."""
        subscriber.membership = self._groups.join(
            subscriber.key, lambda error: self._refuse_member(subscriber, error)
        )
        if not self._groups.is_active:
            self._begin(subscriber)
            return
        patience_s = self._limits.group_join_ms_max / 1000
        loop = asyncio.get_running_loop()
        subscriber.patience = loop.call_later(patience_s, self._begin, subscriber)

    def _begin(self, subscriber: Subscriber) -> None:
        """Lists what is open, from which on everything is delivered as it happens."""
        if subscriber.begun or subscriber.ended:
            return
        subscriber.begun = True
        key = subscriber.key
        list_end = Synced(self._replicator.state.revision)
        if key.group:
            # Whatever it resumes from: its share is not what it was.
            self._give_share(subscriber, self._ids_of_open(key), list_end)
            return
        # The list itself is bounded by the state; the bound of the queue is for what follows.
        for branch in self._open_branches(key, key.resume_revision):
            if subscriber.wants(branch.tag):
                subscriber.push(_opened(branch))
        subscriber.push(list_end)

    def _detach(self, subscriber: Subscriber) -> None:
        key = subscriber.key
        watching = self._by_service.get(key.service, {}).get(key.region, [])
        if subscriber not in watching:
            return
        watching.remove(subscriber)
        self._changed()
        if not watching:
            del self._by_service[key.service][key.region]
            if not self._by_service[key.service]:
                del self._by_service[key.service]
        if subscriber.patience is not None:
            subscriber.patience.cancel()
        if subscriber.membership is not None:
            self._groups.leave(subscriber.membership)

    def _refuse_member(self, subscriber: Subscriber, error: errors.RendezvousError) -> None:
        self._observer.limit_exceeded(error.details.get("limit", ""))
        self._end(subscriber, error)

    def _open_branches(self, key: SubscriptionKey, after: Revision) -> list[Branch]:
        state = self._replicator.state.state
        return queries.branches_for_subscriber(state, key.service, key.region, after)

    def _gets(self, subscriber: Subscriber, branch_id: BranchId, tag: Tag, owners: Owners) -> bool:
        """Whether the branch is to be given to the subscriber; it is taken to be, from now on."""
        membership = subscriber.membership
        if not subscriber.wants(tag):
            return False
        if membership is None:
            return True
        if not self._groups.gets(membership, branch_id, tag, owners):
            return False
        subscriber.given[branch_id] = None
        return True

    def group_changed(self, group: GroupKey) -> None:
        """Members of a group joined or left: what is open is divided anew.

        Call it after everything else that the same batch of commands brought about.
        """
        service, region, name = group
        still_open: tuple[BranchId, ...] | None = None
        for subscriber in list(self._by_service.get(service, {}).get(region, ())):
            membership = subscriber.membership
            if subscriber.key.group != name or membership is None or subscriber.ended:
                continue
            if not self._groups.is_member(membership):
                # Not yet, or the others took its node for dead: it is to be one again.
                self._groups.keep()
            elif subscriber.begun:
                if still_open is None:
                    still_open = self._ids_of_open(subscriber.key)
                self._give_share(subscriber, still_open)
            else:
                self._begin(subscriber)

    def _ids_of_open(self, key: SubscriptionKey) -> tuple[BranchId, ...]:
        return tuple(branch.branch_id for branch in self._open_branches(key, Revision(0)))

    def _give_share(
        self,
        subscriber: Subscriber,
        still_open: tuple[BranchId, ...],
        list_end: Synced | None = None,
    ) -> None:
        """Gives a member what is its now; what is closed before its turn has come is left out."""
        region, group = subscriber.key.region, subscriber.key.group

        def look(branch_id: BranchId) -> BranchIsOpen | None:
            if branch_id in subscriber.given:
                return None
            branch = self._replicator.state.state.branches.get(branch_id)
            if branch is None or not branch.is_open_in(region):
                return None
            return _opened(branch) if self._gets(subscriber, branch_id, branch.tag, {}) else None

        members = self._groups.count((subscriber.key.service, region, group))
        at_once = SHARE_HASHES_MAX // max(1, members)
        subscriber.look_through(still_open, look, at_once=at_once, list_end=list_end)

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
            owners: Owners = {}
            for subscriber in list(watched.get(region, ())):
                if subscriber.ended or not subscriber.begun:
                    continue
                if isinstance(event, BranchIsClosed):
                    # To every member of a group: it may have moved between them.
                    subscriber.given.pop(branch_id, None)
                    if subscriber.wants(tag):
                        self._deliver(subscriber, event)
                elif self._gets(subscriber, branch_id, tag, owners):
                    self._deliver(subscriber, event)

    def _deliver(self, subscriber: Subscriber, event: SubscriptionEvent) -> None:
        """Queues an event, or ends the stream of one that is too slow."""
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
        """Subscribers that are told of a branch; region `""` asks about a global one.

        Of a group, every member here that could have it as its share.
        """
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
