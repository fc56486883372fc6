"""A node that does as the test says: the facade's signatures, scripted answers, recorded calls."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable
from typing import Any

from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.results import (
    BranchesClosed,
    BranchesRegistered,
    CloseOutcome,
    RequestRegistered,
)
from rendezvous_raft.errors import Draining
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MembershipChange
from rendezvous_raft.node.calls import (
    BranchClosing,
    BranchRegistration,
    CheckAnswer,
    DependenciesAnswer,
    DescriptionQuery,
    Freshness,
    RegionsAnswer,
    RequestDescription,
    RequestPage,
    SubscriptionKey,
    Synced,
    WaitAnswer,
    WaitQuery,
)
from rendezvous_raft.node.node import NodeStatistics
from rendezvous_raft.node.status import ClusterStatus, MemberStatus, SnapshotInfo
from rendezvous_raft.types import BranchId, RequestId, Revision, Role, Status, WaitOutcome

MEMBERS = (
    MemberStatus("n1", "eu", "127.0.0.1:7601", "127.0.0.1:7701", Role.FOLLOWER, True, 0),
    MemberStatus("n2", "us", "127.0.0.1:7602", "127.0.0.1:7702", Role.LEADER, True, 0),
)
STATUS = ClusterStatus(
    name="n1",
    region="eu",
    role=Role.FOLLOWER,
    term=3,
    leader="n2",
    revision=Revision(41),
    commit_index=50,
    applied_index=50,
    log_entries=7,
    durability="disk",
    members=MEMBERS,
)
STATISTICS = NodeStatistics(
    revision=Revision(41),
    requests=4,
    branches_open=3,
    branches_open_by_region={"eu": 2, "us": 1},
    waits_in_progress=5,
    subscribers={("post", "eu"): 1},
    command_version=1,
    group_members={("post", "eu", "g"): 2},
    subscription_queue_len_longest=6,
    proposals_in_flight=7,
    draining=False,
)


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 1_700_000_000_000


class CountingIds:
    """Ids that show that they were chosen, and in which order."""

    def __init__(self) -> None:
        self.count = 0

    def _next(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}-chosen-{self.count}"

    def request_id(self) -> RequestId:
        return RequestId(self._next("request"))

    def branch_id(self, service: str) -> BranchId:
        return BranchId(self._next(service))


class Gate:
    """An answer that comes when the test opens the gate."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def pass_through(self) -> None:
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@dataclasses.dataclass(frozen=True)
class Called:
    method: str
    argument: Any
    deadline_s: float
    options: dict[str, Any]


class ScriptedNode:
    """`answers[method]` is an exception, a value, a Gate, or a function of the argument."""

    def __init__(self) -> None:
        self.name, self.region = "n1", "eu"
        self.clock = ManualClock()
        self.ids = CountingIds()
        self.limits = NodeLimits()
        self.answers: dict[str, Any] = {}
        self.calls: list[Called] = []
        self.steps: list[str] = []
        self.cluster_status = STATUS
        self.node_statistics = STATISTICS
        self.subscription_batches: list[list[Any]] = [[Synced(Revision(41))]]
        self.watched: list[Any] = []
        """What a watch gives: descriptions, then perhaps the error that ends it."""
        self.subscription_ended = asyncio.Event()
        self._drained = asyncio.Event()

    def arguments(self, method: str) -> list[Any]:
        return [call.argument for call in self.calls if call.method == method]

    async def open(self) -> None:
        self.steps.append("open")
        if "open" in self.answers:
            raise self.answers["open"]

    def begin_drain(self) -> None:
        self.steps.append("begin_drain")
        self.node_statistics = dataclasses.replace(self.node_statistics, draining=True)
        self._drained.set()

    async def close(self) -> None:
        self.steps.append("close")
        if "close" in self.answers:
            raise self.answers["close"]

    async def register_request(self, request_id: str, *, deadline_s: float) -> Any:
        return await self._answer(
            "register_request",
            request_id,
            deadline_s,
            lambda _: (RequestRegistered(request_id, created=True), Revision(42)),
        )

    async def register_branches(
        self, registration: BranchRegistration, *, deadline_s: float
    ) -> Any:
        ids = tuple(branch.branch_id for branch in registration.branches)
        registered = BranchesRegistered(registration.request_id, ids, already_existed=False)
        return await self._answer(
            "register_branches", registration, deadline_s, lambda _: (registered, Revision(42))
        )

    async def close_branches(self, closing: BranchClosing, *, deadline_s: float) -> Any:
        closed = BranchesClosed(tuple(CloseOutcome.CLOSED for _ in closing.closes))
        return await self._answer(
            "close_branches", closing, deadline_s, lambda _: (closed, Revision(42))
        )

    async def wait(self, query: WaitQuery, *, deadline_s: float) -> Any:
        answer = WaitAnswer(WaitOutcome.IMMEDIATE, 0.0, Revision(42), (), known=True)
        return await self._answer("wait", query, deadline_s, lambda _: answer)

    async def check(
        self,
        request_id: str,
        scope: Scope,
        *,
        detailed: bool,
        freshness: Freshness,
        deadline_s: float,
    ) -> Any:
        answer = CheckAnswer(Status.CLOSED, None, None, Revision(42))
        options = {"scope": scope, "detailed": detailed, "freshness": freshness}
        return await self._answer("check", request_id, deadline_s, lambda _: answer, **options)

    async def check_by_regions(
        self, request_id: str, services: tuple[str, ...], *, freshness: Freshness, deadline_s: float
    ) -> Any:
        answer = RegionsAnswer({"eu": Status.OPEN}, Revision(42))
        options = {"services": services, "freshness": freshness}
        return await self._answer(
            "check_by_regions", request_id, deadline_s, lambda _: answer, **options
        )

    async def fetch_dependencies(
        self,
        request_id: str,
        service: str,
        zone: str | None,
        *,
        freshness: Freshness,
        deadline_s: float,
    ) -> Any:
        answer = DependenciesAnswer(("a",), ("b",), Revision(42))
        options = {"service": service, "zone": zone, "freshness": freshness}
        return await self._answer(
            "fetch_dependencies", request_id, deadline_s, lambda _: answer, **options
        )

    async def describe(self, query: DescriptionQuery, *, deadline_s: float) -> Any:
        answer = RequestDescription(query.request_id, Status.OPEN, 1_500, (), 0, (), Revision(42))
        return await self._answer(
            "describe",
            query.request_id,
            deadline_s,
            lambda _: answer,
            query=query,
            freshness=query.freshness,
        )

    async def watch(self, query: DescriptionQuery, *, deadline_s: float) -> AsyncGenerator[Any]:
        self.calls.append(Called("watch", query, deadline_s, {"freshness": query.freshness}))
        try:
            for description in self.watched:
                if isinstance(description, Exception):
                    raise description
                yield description
            await self._drained.wait()
            raise Draining("scripted")
        finally:
            self.subscription_ended.set()

    async def list_requests(
        self,
        *,
        status: Status | None,
        service: str,
        after: int,
        page_size: int,
        freshness: Freshness,
        deadline_s: float,
    ) -> Any:
        options = {"after": after, "page_size": page_size, "freshness": freshness}
        return await self._answer(
            "list_requests",
            (status, service),
            deadline_s,
            lambda _: RequestPage((), None, Revision(42)),
            **options,
        )

    async def subscribe(self, key: SubscriptionKey) -> AsyncGenerator[list[Any]]:
        self.calls.append(Called("subscribe", key, 0.0, {}))
        try:
            for batch in self.subscription_batches:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
            await self._drained.wait()
            raise Draining("the node is shutting down")
        finally:
            self.subscription_ended.set()

    async def digest(self, min_revision: int, *, deadline_s: float) -> Any:
        return await self._answer(
            "digest", min_revision, deadline_s, lambda _: (Revision(42), "abc")
        )

    async def take_snapshot(self) -> SnapshotInfo:
        return await self._answer(
            "take_snapshot", None, 0.0, lambda _: SnapshotInfo(Revision(42), 9, 1_000)
        )

    async def transfer_leadership(self, target: str | None, *, deadline_s: float) -> Any:
        self.steps.append("transfer_leadership")
        return await self._answer("transfer_leadership", target, deadline_s, lambda _: "n2")

    async def change_membership(self, change: MembershipChange, *, deadline_s: float) -> None:
        await self._answer("change_membership", change, deadline_s, lambda _: None)

    def status(self) -> ClusterStatus:
        return self.cluster_status

    def statistics(self) -> NodeStatistics:
        return self.node_statistics

    async def _answer(
        self,
        method: str,
        argument: Any,
        deadline_s: float,
        default: Callable[[Any], Any],
        **options: Any,
    ) -> Any:
        self.calls.append(Called(method, argument, deadline_s, options))
        answer = self.answers.get(method, default)
        if callable(answer):
            answer = answer(argument)
        if isinstance(answer, Gate):
            await answer.pass_through()
            answer = default(argument)
        if isinstance(answer, BaseException):
            raise answer
        return answer
