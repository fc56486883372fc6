"""A cluster of the imagination for the command line: answers by address, remembers the calls."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

from click.testing import Result

from rendezvous_raft.client import AsyncClient, results
from rendezvous_raft.errors import NoLeader
from rendezvous_raft.types import BranchKind, Role, Standing, Status

Invoke = Callable[..., Result]
"""Runs a command line, given as one string, or in parts."""
MOMENT = dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def member(name: str, region: str, address: str) -> results.MemberDescription:
    return results.MemberDescription(
        name, region, address, "127.0.0.1:1", None, True, 0, Standing.VOTER, "127.0.0.1:2"
    )


MEMBERS = (
    member("n1", "eu", "127.0.0.1:7600"),
    member("n2", "us", "127.0.0.1:7610"),
    member("n3", "ap", "127.0.0.1:7620"),
)


def status(name: str = "n1", **changes: Any) -> results.ClusterDescription:
    fields: dict[str, Any] = {
        "name": name,
        "region": next(known.region for known in MEMBERS if known.name == name),
        "role": Role.LEADER if name == "n1" else Role.FOLLOWER,
        "term": 3,
        "leader": "n1",
        "revision": 40,
        "commit_index": 50,
        "applied_index": 50,
        "log_entries": 10,
        "members": MEMBERS,
        "version": "0.1.0",
        "durability": "disk",
        "requests": 2,
        "branches_open": 1,
        "waits_in_progress": 0,
        "pid": 7,
    }
    return results.ClusterDescription(**{**fields, **changes})


def description(**changes: Any) -> results.RequestDescription:
    branch = results.BranchDescription(
        branch_id="b1",
        service="post-storage",
        tag="write",
        zone="",
        parent_branch_id="",
        kind=BranchKind.REGIONAL,
        regions=(
            results.RegionStatus("eu", Status.CLOSED, MOMENT),
            results.RegionStatus("us", Status.OPEN, None),
        ),
        monitored=True,
        locator=b"\xff\x00",
        registered_at=MOMENT,
        status=Status.OPEN,
    )
    scope = results.ScopeDescription(("post-storage",), "us", "", None, "", False)
    waiter = results.WaiterDescription("n2", scope, 0.412, held_by=("b1",))
    found = results.RequestDescription(
        request_id="r1",
        status=Status.OPEN,
        registered_at=MOMENT,
        branches=(branch,),
        branches_total=1,
        waiters=(waiter,),
        revision=40,
        node="n2",
        node_region="us",
        answered_at=MOMENT + dt.timedelta(seconds=4),
        branches_open=1,
        expires_in=3_600.0,
    )
    return dataclasses.replace(found, **changes)


TURNS = 20
"""Enough for whoever was answered to go on."""
FOREVER = object()
"""In a stream: nothing more comes, and it does not end."""


@dataclass
class BlockedUntil:
    """An answer that comes some turns after another method was called so many times."""

    method: str
    answer: Any
    calls: int = 1


@dataclass
class FakeCluster:
    """Every answer may be replaced; an exception in the place of an answer is raised."""

    statuses: dict[str, Any] = field(
        default_factory=lambda: {known.grpc_address: status(known.name) for known in MEMBERS}
    )
    digests: dict[str, Any] = field(
        default_factory=lambda: {
            known.grpc_address: results.DigestResult(40, "ab" * 32) for known in MEMBERS
        }
    )
    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    """Address, method, arguments."""

    def connect(self, endpoints: str) -> AsyncClient:
        return cast("AsyncClient", FakeClient(self, endpoints))

    def streams(self, method: str) -> list[Any]:
        """What the next stream gives: of several lists the first, the last one for all others."""
        answer = self.answers[method]
        if answer and isinstance(answer[0], list):
            return cast("list[Any]", answer.pop(0) if len(answer) > 1 else answer[0])
        return cast("list[Any]", answer)

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(call[1] == method for call in self.calls)

    def called(self, method: str) -> dict[str, Any]:
        """The keyword arguments of the only call of a method; `args` has the others."""
        (call,) = [call for call in self.calls if call[1] == method]
        return {"address": call[0], "args": call[2], **call[3]}


class FakeClient:
    def __init__(self, cluster: FakeCluster, endpoints: str) -> None:
        self._cluster = cluster
        self._endpoints = endpoints

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self._cluster.calls.append((self._endpoints, method, args, kwargs))
            by_address = {"cluster_status": "statuses", "digest": "digests"}
            if method in by_address:
                answer = getattr(self._cluster, by_address[method]).get(
                    self._endpoints, NoLeader("connection refused")
                )
            else:
                answer = self._cluster.answers[method]
            if isinstance(answer, list):  # one for each call, the last for all that follow
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if isinstance(answer, BlockedUntil):
                while self._cluster.count(answer.method) < answer.calls:
                    await asyncio.sleep(0)
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                answer = answer.answer
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    async def watch_request(
        self, request_id: str, **kwargs: Any
    ) -> AsyncGenerator[results.RequestDescription]:
        self._cluster.calls.append((self._endpoints, "watch_request", (request_id,), kwargs))
        for step in self._cluster.streams("watch_request"):
            if isinstance(step, BaseException):
                raise step
            if step is FOREVER:
                await asyncio.Event().wait()
            yield step

    async def subscribe(
        self, service: str, region: str | None = None, *, tags: Sequence[str] = ()
    ) -> AsyncGenerator[results.SubscriptionEvent]:
        self._cluster.calls.append((self._endpoints, "subscribe", (service, region, tags), {}))
        for event in self._cluster.streams("subscribe"):
            if isinstance(event, BaseException):
                raise event
            if event is FOREVER:
                await asyncio.Event().wait()
            yield event
