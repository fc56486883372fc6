"""A node: the use-cases over one engine. The front end talks to this class alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.events import (
    BranchOpened,
    GroupChanged,
    RegionClosed,
    RequestExpired,
    RequestOpened,
    WaitLeaseChanged,
)
from rendezvous_raft.core.model import GroupKey
from rendezvous_raft.core.results import (
    Applied,
    BranchesClosed,
    BranchesRegistered,
    RequestRegistered,
)
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MembershipChange
from rendezvous_raft.node.admission import Admission
from rendezvous_raft.node.calls import (
    BranchClosing,
    BranchRegistration,
    CheckAnswer,
    DependenciesAnswer,
    DescriptionQuery,
    Freshness,
    NumberedRegistration,
    RecognitionAnswer,
    RegionsAnswer,
    RequestDescription,
    RequestPage,
    SubscriptionEvent,
    SubscriptionKey,
    WaitAnswer,
    WaitQuery,
)
from rendezvous_raft.node.close import Closing, EarlyReleases
from rendezvous_raft.node.descriptions import Descriptions
from rendezvous_raft.node.digests import Digests
from rendezvous_raft.node.expiry import Expiry
from rendezvous_raft.node.groups import GroupKeeper
from rendezvous_raft.node.leases import LeaseKeeper
from rendezvous_raft.node.observer import NodeObserver
from rendezvous_raft.node.ports import Clock, IdSource, Replicator
from rendezvous_raft.node.proposals import Proposer
from rendezvous_raft.node.reads import Reads
from rendezvous_raft.node.register import Registering
from rendezvous_raft.node.request_watches import RequestWatches
from rendezvous_raft.node.status import ClusterStatus, SnapshotInfo
from rendezvous_raft.node.subscriptions import Subscriptions
from rendezvous_raft.node.wait import Waits
from rendezvous_raft.node.watches import RegistrationWatch, WaitIndex, Wakes
from rendezvous_raft.types import (
    BranchId,
    NodeName,
    Region,
    RequestId,
    Revision,
    Service,
    Status,
    Zone,
)


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """What a node holds at one instant."""

    revision: Revision
    requests: int
    branches_open: int
    branches_open_by_region: dict[Region, int]
    """Global and regionless branches under `""`."""
    waits_in_progress: int
    subscribers: dict[tuple[Service, Region], int]
    group_members: dict[GroupKey, int]
    """Members of each subscription group, on whichever nodes."""
    command_version: int
    """Highest version of commands that may be proposed."""
    subscription_queue_len_longest: int
    proposals_in_flight: int
    draining: bool


class Node:
    """Owns the use-cases, wires them to the engine's events, and hands calls through.

    Deadlines are absolute, in seconds of `clock.monotonic_s()`. Everything runs on one loop.
    """

    def __init__(
        self,
        *,
        name: NodeName,
        region: Region,
        replicator: Replicator,
        clock: Clock,
        ids: IdSource,
        limits: NodeLimits,
        observer: NodeObserver,
        early_release: bool = True,
    ) -> None:
        self.name = name
        self.region = region
        self.replicator = replicator
        self.clock = clock
        self.ids = ids
        self.limits = limits
        self._observer = observer
        self._admission = Admission(limits, observer)
        self._request_watches = RequestWatches(limits, observer)
        self._digests = Digests(replicator, clock)
        self._index = WaitIndex(self._request_watches.changed)
        self._watch = RegistrationWatch()
        self._leases = LeaseKeeper(name, replicator, limits, clock, ids)
        self._groups = GroupKeeper(name, replicator, limits, clock, ids)
        self._subscriptions = Subscriptions(
            replicator,
            limits,
            self._admission,
            self._groups,
            observer,
            self._request_watches.changed_all,
        )
        self._expiry = Expiry(
            replicator,
            limits,
            clock,
            ids,
            self._index,
            self._leases,
            self._groups,
            self._stand_still,
        )
        self._pulse: asyncio.Task[None] | None = None
        early = EarlyReleases() if early_release else None
        proposer = Proposer(replicator, clock, observer)
        self._reads = Reads(replicator)
        self._descriptions = Descriptions(
            name=name,
            region=region,
            replicator=replicator,
            clock=clock,
            limits=limits,
            waits=self._index,
            subscriptions=self._subscriptions,
            early=early,
            watches=self._request_watches,
            admission=self._admission,
        )
        self._waits = Waits(
            replicator, clock, self._index, self._leases, early, self._admission, observer
        )
        self._registering = Registering(
            replicator, proposer, self._admission, self._watch, clock, ids
        )
        self._closing = Closing(
            replicator, proposer, self._admission, self._watch, self._index, early, clock, ids
        )
        replicator.set_listener(self._on_applied, self._on_state_replaced)

    async def open(self) -> None:
        """Starts the engine and the pulse."""
        await self.replicator.open()
        self._pulse = asyncio.get_running_loop().create_task(self._expiry.run())

    def begin_drain(self) -> None:
        """Refuses new calls, ends waits of all kinds and subscriptions; proposals go on."""
        self._admission.draining = True
        draining = errors.Draining("the node is shutting down; use another one")
        self._index.fail_all(draining)
        self._watch.end(draining)
        self._subscriptions.end_all("draining", draining)
        self._request_watches.end_all(draining)

    def _stand_still(self, why: str | None) -> None:
        """Sends callers elsewhere while this node hears of nothing; None: it does again."""
        self._admission.stalled = why
        if why is None:
            return
        not_ready = errors.NotReady(why)
        self._index.fail_all(not_ready)
        self._watch.fail_all(not_ready)
        self._subscriptions.end_all("stalled", not_ready)
        self._request_watches.end_all(not_ready)

    async def close(self) -> None:
        """Ends leases and memberships, then the engine."""
        self.begin_drain()
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.gather(self._pulse, return_exceptions=True)
        try:
            async with asyncio.timeout(1.0):
                await asyncio.gather(self._leases.close(), self._groups.close())
        except TimeoutError:
            # Nobody renews them any more: the pulse of the others ends them.
            pass
        finally:
            await self.replicator.close()

    # Writes

    async def register_request(
        self, request_id: RequestId, *, deadline_s: float
    ) -> tuple[RequestRegistered, Revision]:
        """W1."""
        return await self._registering.register_request(request_id, deadline_s)

    async def register_branches(
        self, registration: BranchRegistration, *, deadline_s: float
    ) -> tuple[BranchesRegistered, Revision]:
        """W2, W3."""
        return await self._registering.register_branches(registration, deadline_s)

    async def register_numbered(
        self, registration: NumberedRegistration, *, deadline_s: float
    ) -> tuple[RequestRegistered | BranchesRegistered, Revision]:
        """5.4: registers under ids that the state numbers."""
        return await self._registering.register_numbered(registration, deadline_s)

    async def await_registered(
        self, branch_ids: tuple[BranchId, ...], *, deadline_s: float
    ) -> bool:
        """5.9: blocks until all of them are registered here; false at the deadline."""
        return await self._registering.await_registered(branch_ids, deadline_s)

    async def close_branches(
        self, closing: BranchClosing, *, deadline_s: float
    ) -> tuple[BranchesClosed, Revision]:
        """W4, W5."""
        return await self._closing.close_branches(closing, deadline_s)

    # Reads

    async def wait(self, query: WaitQuery, *, deadline_s: float) -> WaitAnswer:
        """R1."""
        return await self._waits.wait(query, deadline_s)

    async def check(
        self,
        request_id: RequestId,
        scope: Scope,
        *,
        detailed: bool,
        freshness: Freshness,
        deadline_s: float,
    ) -> CheckAnswer:
        """C1."""
        return await self._reads.check(
            request_id, scope, detailed=detailed, freshness=freshness, deadline_s=deadline_s
        )

    async def regional_status(
        self, request_id: RequestId, scope: Scope, *, freshness: Freshness, deadline_s: float
    ) -> CheckAnswer:
        """C1 as clients of the original `main` know it."""
        return await self._reads.regional_status(
            request_id, scope, freshness=freshness, deadline_s=deadline_s
        )

    async def recognise(
        self, request_id: RequestId, scope: Scope, *, freshness: Freshness, deadline_s: float
    ) -> RecognitionAnswer:
        """What of a scope the request ever used."""
        return await self._reads.recognise(
            request_id, scope, freshness=freshness, deadline_s=deadline_s
        )

    def request_of(self, branch_id: BranchId) -> RequestId | None:
        """The request of a branch, as far as this node has applied; None: no such branch."""
        branch = self.replicator.state.state.branches.get(branch_id)
        return None if branch is None else branch.request_id

    async def check_by_regions(
        self,
        request_id: RequestId,
        services: tuple[Service, ...],
        *,
        freshness: Freshness,
        deadline_s: float,
    ) -> RegionsAnswer:
        """C2."""
        return await self._reads.check_by_regions(
            request_id, services, freshness=freshness, deadline_s=deadline_s
        )

    async def fetch_dependencies(
        self,
        request_id: RequestId,
        service: Service,
        zone: Zone | None,
        *,
        freshness: Freshness,
        deadline_s: float,
    ) -> DependenciesAnswer:
        """D1."""
        return await self._reads.fetch_dependencies(
            request_id, service, zone, freshness=freshness, deadline_s=deadline_s
        )

    async def describe(self, query: DescriptionQuery, *, deadline_s: float) -> RequestDescription:
        """Q1."""
        return await self._descriptions.describe(query, deadline_s)

    def watch(
        self, query: DescriptionQuery, *, deadline_s: float
    ) -> AsyncGenerator[RequestDescription]:
        """Q1, whenever something changes. Close the generator to end it."""
        return self._descriptions.watch(query, deadline_s)

    async def list_requests(
        self,
        *,
        status: Status | None,
        service: Service,
        after: int,
        page_size: int,
        freshness: Freshness,
        deadline_s: float,
    ) -> RequestPage:
        """Q1."""
        return await self._reads.list_requests(
            status=status,
            service=service,
            after=after,
            page_size=page_size,
            freshness=freshness,
            deadline_s=deadline_s,
        )

    def subscribe(self, key: SubscriptionKey) -> AsyncGenerator[list[SubscriptionEvent]]:
        """U1. Close the generator to unsubscribe."""
        return self._subscriptions.subscribe(key)

    # Operating

    async def digest(self, min_revision: Revision, *, deadline_s: float) -> tuple[Revision, str]:
        """Digest of the local state, at least as new as asked. Takes time with the state."""
        return await self._digests.make(min_revision, deadline_s)

    async def take_snapshot(self) -> SnapshotInfo:
        """Writes a snapshot now."""
        return await self.replicator.take_snapshot()

    async def transfer_leadership(self, target: NodeName | None, *, deadline_s: float) -> NodeName:
        """Hands leadership over; names the successor."""
        return await self.replicator.transfer_leadership(target, deadline_s=deadline_s)

    async def change_membership(self, change: MembershipChange, *, deadline_s: float) -> None:
        """Adds or removes a member; blocks until that is committed."""
        await self.replicator.change_membership(change, deadline_s=deadline_s)

    def status(self) -> ClusterStatus:
        """What the engine knows."""
        return self.replicator.status()

    def statistics(self) -> NodeStatistics:
        """An immutable picture of what the node holds."""
        state = self.replicator.state.state
        return NodeStatistics(
            revision=state.revision,
            requests=len(state.requests),
            branches_open=state.branches_open,
            branches_open_by_region=dict(state.open_by_region),
            waits_in_progress=len(self._index),
            subscribers=self._subscriptions.counts(),
            command_version=state.version,
            group_members={key: len(members) for key, members in state.groups.items()},
            subscription_queue_len_longest=self._subscriptions.queue_len_longest(),
            proposals_in_flight=self._admission.proposals,
            draining=self._admission.draining,
        )

    # Events of the engine

    def _on_applied(self, batch: Sequence[Applied]) -> None:
        """Publishes what a batch brought about, in the turn in which it was applied."""
        divided_anew: dict[GroupKey, None] = {}
        wakes = Wakes()
        for applied in batch:
            for event in applied.events:
                match event:
                    case BranchOpened():
                        self._branch_opened(event)
                        wakes.add(event.request_id)
                    case RegionClosed():
                        self._region_closed(event, applied.revision)
                        wakes.add(event.request_id, event.region)
                    case RequestOpened() | WaitLeaseChanged():
                        wakes.add(event.request_id)
                    case RequestExpired():
                        self._request_expired(event, applied.revision)
                        wakes.add(event.request_id)
                    case GroupChanged():
                        divided_anew[event.service, event.region, event.group] = None
                        continue
                self._request_watches.changed(event.request_id)
        self._index.wake(wakes)
        for group in divided_anew:
            self._subscriptions.group_changed(group)

    def _branch_opened(self, event: BranchOpened) -> None:
        self._observer.branch_registered(event.service, 1)
        self._subscriptions.branch_opened(event)
        self._watch.registered(event.branch_id)

    def _region_closed(self, event: RegionClosed, revision: Revision) -> None:
        self._observer.branch_closed(event.region, 1)
        self._subscriptions.region_closed(event, revision)

    def _request_expired(self, event: RequestExpired, revision: Revision) -> None:
        self._observer.requests_expired("settled" if event.settled else "open", 1)
        self._subscriptions.request_expired(event, revision)

    def _on_state_replaced(self) -> None:
        """A snapshot was installed: events are missing, so everybody looks anew."""
        self._watch.state_replaced(self.replicator.state.state.branches)
        self._groups.state_replaced()
        self._index.wake_all()
        self._request_watches.changed_all()
        self._subscriptions.end_all(
            "snapshot",
            errors.SubscriptionOverflow("this node took over a newer state; subscribe again"),
        )
