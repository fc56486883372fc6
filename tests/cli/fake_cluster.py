"""A cluster of the imagination for the command line: answers by address, remembers the calls."""

from __future__ import annotations

import asyncio
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


def description() -> results.RequestDescription:
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
    waiter = results.WaiterDescription("n2", scope, 0.412)
    return results.RequestDescription("r1", Status.OPEN, MOMENT, (branch,), 1, (waiter,), 40)


@dataclass
class BlockedUntil:
    """An answer that comes once another method was called."""

    method: str
    answer: Any


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
                while not any(call[1] == answer.method for call in self._cluster.calls):
                    await asyncio.sleep(0)
                answer = answer.answer
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    async def subscribe(
        self, service: str, region: str | None = None, *, tags: Sequence[str] = ()
    ) -> AsyncGenerator[results.SubscriptionEvent]:
        self._cluster.calls.append((self._endpoints, "subscribe", (service, region, tags), {}))
        for event in self._cluster.answers["subscribe"]:
            if isinstance(event, BaseException):
                raise event
            yield event
