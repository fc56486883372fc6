"""What both clients refuse before anything is sent, and what they just bear."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

import pytest
from fake_node import FakeNode
from twins import OpenClient, call, collect

from rendezvous_raft.client import CloseSpec
from rendezvous_raft.errors import InvalidArgument

TOO_LONG = [-1, float("nan"), float("inf"), 8e9, sys.maxsize, 10**400, dt.timedelta.max]


@pytest.mark.parametrize("time", TOO_LONG)
@pytest.mark.parametrize(
    ("name", "args", "field"),
    [
        ("wait_request", ("r",), "timeout"),
        ("wait_request", ("r",), "await_registration"),
        ("register_request", ("r",), "timeout"),
        ("close_branches", ([CloseSpec("b")],), "await_registration"),
        ("take_snapshot", (), "timeout"),
    ],
)
async def test_impossible_times_are_refused(
    node: FakeNode, open_client: OpenClient, name: str, args: tuple[Any, ...], field: str, time: Any
) -> None:
    """A deadline beyond what gRPC can count passed at once, for every attempt and for ever."""
    with pytest.raises(InvalidArgument, match=f"^{field}: 0 to 1000000000 seconds"):
        await call(open_client(node), name, *args, **{field: time})
    assert not node.received


async def test_impossible_time_outs_of_a_client_are_refused(
    node: FakeNode, open_client: OpenClient
) -> None:
    for time in [0, *TOO_LONG]:
        with pytest.raises(InvalidArgument, match=r"^timeout: "):
            open_client(node, timeout=time)


async def test_the_longest_times_are_served(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node, timeout=1e9)
    await call(client, "register_request", "r")
    await call(client, "close_branch", "b", await_registration=1e9)
    await call(client, "wait_request", "r", timeout=1e9, await_registration=1e9)
    assert len(node.received) == 3
    # gRPC tells a node of three years at most.
    assert all(left is not None and left > 9e7 for left in node.timeouts)


@pytest.mark.parametrize("revision", [-1, 2**63, 2**70])
async def test_impossible_revisions_are_refused(
    node: FakeNode, open_client: OpenClient, revision: int
) -> None:
    client = open_client(node)
    for name in ("wait_request", "check_request", "describe_request"):
        with pytest.raises(InvalidArgument, match=r"^min_revision: 0 to 9223372036854775807"):
            await call(client, name, "r", min_revision=revision)
    with pytest.raises(InvalidArgument, match=r"^min_revision: "):
        await call(client, "digest", min_revision=revision)
    with pytest.raises(InvalidArgument, match=r"^resume_revision: "):
        await collect(client, "subscribe", "s", resume_revision=revision)
    assert not node.received


async def test_impossible_pages_are_refused(node: FakeNode, open_client: OpenClient) -> None:
    for size in (-1, 1_001, 2**40):
        with pytest.raises(InvalidArgument, match=r"^page_size: 0 to 1000"):
            await call(open_client(node), "list_requests", page_size=size)
    assert not node.received


async def test_a_service_is_named_in_one_way(node: FakeNode, open_client: OpenClient) -> None:
    with pytest.raises(InvalidArgument, match=r"^service: "):
        await call(open_client(node), "wait_request", "r", service="a", services=["b"])
    assert not node.received
