"""A node over a scripted replicator, with calls in few words and a book of what was observed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from typing import TypeVar

from rendezvous_raft.core.commands import (
    Close,
    CloseBranches,
    Command,
    NewBranch,
    RegisterBranches,
    RegisterRequest,
    Scope,
)
from rendezvous_raft.core.results import BranchesClosed
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.calls import (
    BranchClosing,
    BranchRegistration,
    DescriptionQuery,
    Freshness,
    RequestDescription,
    SubscriptionEvent,
    SubscriptionKey,
    Synced,
    WaitAnswer,
    WaitQuery,
)
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.observer import SilentObserver
from rendezvous_raft.node.system import RandomIds
from rendezvous_raft.testing.fake_clock import LoopClock
from rendezvous_raft.testing.fake_replicator import FakeReplicator
from rendezvous_raft.testing.virtual_time import settle
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    Consistency,
    NodeName,
    Region,
    RequestId,
    Revision,
    Service,
    Tag,
    Zone,
)

T = TypeVar("T")
R1 = RequestId("r1")
LOCAL = Freshness(Consistency.LOCAL)
LINEARIZABLE = Freshness(Consistency.LINEARIZABLE)
DEADLINE_S = 30.0


def session(revision: int) -> Freshness:
    return Freshness(Consistency.SESSION, Revision(revision))


def branch(
    branch_id: str,
    *regions: str,
    service: str = "post",
    tag: str = "",
    zone: str = "",
    parent: str = "",
    monitored: bool = True,
    regionless: bool = False,
) -> NewBranch:
    """A branch; without regions a global one."""
    kind = BranchKind.REGIONAL if regions else BranchKind.GLOBAL
    return NewBranch(
        branch_id=BranchId(branch_id),
        service=Service(service),
        tag=Tag(tag),
        kind=BranchKind.REGIONLESS if regionless else kind,
        regions=tuple(Region(region) for region in sorted(regions)),
        zone=Zone(zone),
        parent_branch_id=BranchId(parent),
        monitored=monitored,
    )


def scope(
    *services: str,
    region: str = "",
    tag: str = "",
    zone: str | None = None,
    waiter: str = "",
    dependencies: bool = False,
) -> Scope:
    return Scope(
        services=tuple(Service(service) for service in services),
        region=Region(region),
        tag=Tag(tag),
        zone=None if zone is None else Zone(zone),
        waiter_service=Service(waiter),
        wait_dependencies=dependencies,
    )


def close(branch_id: str, region: str = "", *, all_regions: bool = False) -> Close:
    return Close(BranchId(branch_id), Region(region), all_regions)


class Book(SilentObserver):
    """What the node told its observer."""

    def __init__(self) -> None:
        self.proposals: list[str] = []
        self.waits: list[tuple[str, str, bool]] = []
        self.registered: list[tuple[str, int]] = []
        self.closed: list[tuple[str, int]] = []
        self.expired: list[tuple[str, int]] = []
        self.resyncs: list[str] = []
        self.limits: list[str] = []

    def proposal_done(self, outcome: str, seconds: float) -> None:
        self.proposals.append(outcome)

    def wait_done(self, outcome: str, seconds: float, region: str, *, prevented: bool) -> None:
        self.waits.append((outcome, region, prevented))

    def branch_registered(self, service: str, count: int) -> None:
        self.registered.append((service, count))

    def branch_closed(self, region: str, count: int) -> None:
        self.closed.append((region, count))

    def requests_expired(self, state: str, count: int) -> None:
        self.expired.append((state, count))

    def subscription_resync(self, reason: str) -> None:
        self.resyncs.append(reason)

    def limit_exceeded(self, limit: str) -> None:
        self.limits.append(limit)


class NodeBench:
    """One node, not opened: the pulse runs only where a test opens it."""

    def __init__(
        self, *, limits: NodeLimits | None = None, early_release: bool = True, name: str = "n1"
    ) -> None:
        self.clock = LoopClock()
        self.engine = FakeReplicator(self.clock)
        self.ids = RandomIds()
        self.book = Book()
        self.limits = limits or NodeLimits()
        self.node = Node(
            name=NodeName(name),
            region=Region("eu"),
            replicator=self.engine,
            clock=self.clock,
            ids=self.ids,
            limits=self.limits,
            observer=self.book,
            early_release=early_release,
        )
        self._tasks: list[asyncio.Task[object]] = []
        self.timeout_s = DEADLINE_S

    @property
    def deadline_s(self) -> float:
        """Half a minute from now, unless a test says otherwise."""
        return self.clock.monotonic_s() + self.timeout_s

    async def close(self) -> None:
        """Ends what the test has begun, then the node."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.engine.holding = self.engine.lagging = False
        self.engine.commit()
        await self.node.close()

    def start(self, call: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Begins a call; it is cancelled at the end if it is still blocked."""
        task = asyncio.get_running_loop().create_task(call)
        self._tasks.append(task)
        return task

    # What the cluster does without this node

    def elsewhere(self, *commands: Command) -> None:
        self.engine.commit_elsewhere(*commands)

    def registering(self, *branches: NewBranch, request_id: str = "r1") -> Command:
        at_ms = self.clock.wall_ms()
        command_id = self.ids.command_id()
        if not branches:
            return RegisterRequest(command_id, RequestId(request_id), at_ms)
        return RegisterBranches(command_id, RequestId(request_id), branches, at_ms)

    def closing(self, *closes: Close) -> Command:
        return CloseBranches(self.ids.command_id(), closes, self.clock.wall_ms())

    def opened(self, *branches: NewBranch, request_id: str = "r1") -> None:
        """Branches that are there from the begin."""
        self.elsewhere(self.registering(*branches, request_id=request_id))

    # Calls of this node

    async def register(
        self, *branches: NewBranch, request_id: str = "r1", await_s: float = 0.0
    ) -> Revision:
        registration = BranchRegistration(RequestId(request_id), branches, await_s)
        _, revision = await self.node.register_branches(registration, deadline_s=self.deadline_s)
        return revision

    async def close_all(self, *closes: Close, await_s: float = 0.0) -> list[str]:
        """The outcomes, in words."""
        result, _ = await self.node.close_branches(
            BranchClosing(closes, await_s), deadline_s=self.deadline_s
        )
        assert isinstance(result, BranchesClosed)
        return [outcome.value for outcome in result.outcomes]

    async def wait(
        self,
        in_scope: Scope = Scope(),  # noqa: B008 (a frozen value)
        *,
        request_id: str = "r1",
        timeout_s: float = 20.0,
        deadline_s: float | None = None,
        required: tuple[str, ...] = (),
        await_s: float = 0.0,
        freshness: Freshness = LOCAL,
    ) -> WaitAnswer:
        query = WaitQuery(
            request_id=RequestId(request_id),
            scope=in_scope,
            timeout_s=timeout_s,
            required_branches=tuple(BranchId(branch_id) for branch_id in required),
            await_registration_s=await_s,
            freshness=freshness,
        )
        return await self.node.wait(query, deadline_s=deadline_s or self.deadline_s)

    async def describe(self, in_scope: Scope | None = None, **query: object) -> RequestDescription:
        asked = DescriptionQuery(R1, in_scope, freshness=LOCAL, **query)  # type: ignore[arg-type]
        return await self.node.describe(asked, deadline_s=self.deadline_s)

    async def blocked(self, call: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Begins a call and makes sure that it is blocked."""
        task = self.start(call)
        await settle()
        assert not task.done(), f"not blocked: {task!r}"
        return task

    def nothing_is_left(self) -> None:
        """G7: no waiter, no place taken."""
        assert self.node.statistics().waits_in_progress == 0
        assert len(self.node._index) == 0
        assert self.node._index._parked == {}
        assert self.node._watch._watchers == {}
        assert len(self.node._request_watches) == 0
        assert self.node._request_watches._watchers == {}
        assert self.node._admission.waits == 0
        assert self.node._admission.proposals == 0


def key(
    service: str = "post",
    region: str = "eu",
    *,
    tags: tuple[str, ...] = (),
    group: str = "",
    resume: int = 0,
) -> SubscriptionKey:
    return SubscriptionKey(
        Service(service),
        Region(region),
        tuple(Tag(tag) for tag in tags),
        group,
        Revision(resume),
    )


class Reader:
    """A subscriber that reads when it is told to."""

    def __init__(self, bench: NodeBench, subscribed: SubscriptionKey) -> None:
        self._stream: AsyncGenerator[list[SubscriptionEvent]] = bench.node.subscribe(subscribed)
        self._next: asyncio.Task[list[SubscriptionEvent]] | None = None
        self._bench = bench

    async def read(self) -> list[SubscriptionEvent]:
        """The next batch; blocks until there is one."""
        reading, self._next = self._asking(), None
        return await reading

    async def read_nowait(self) -> list[SubscriptionEvent]:
        """Everything that is there, in one list; empty if there is nothing."""
        events: list[SubscriptionEvent] = []
        while True:
            self._next = self._asking()
            await settle()
            if not self._next.done():
                return events
            events += await self.read()

    async def read_nothing(self) -> None:
        """Makes sure that there is nothing to read."""
        assert await self.read_nowait() == []

    def _asking(self) -> asyncio.Task[list[SubscriptionEvent]]:
        return self._next or self._bench.start(_next_of(self._stream))

    async def close(self) -> None:
        if self._next is not None and not self._next.done():
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self._stream.aclose()


async def _next_of(stream: AsyncGenerator[list[SubscriptionEvent]]) -> list[SubscriptionEvent]:
    return await anext(stream)


def ids_of(events: list[SubscriptionEvent]) -> list[str]:
    """Branch ids in order; `SYNCED` for the mark."""
    return ["SYNCED" if isinstance(event, Synced) else event.branch_id for event in events]


async def failure_of(call: Awaitable[object]) -> BaseException | None:
    """What a call ended with, if it failed."""
    try:
        await call
    except Exception as error:  # noqa: BLE001 (the test looks at it)
        return error
    return None
