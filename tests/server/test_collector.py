"""The garbage collector never looks at the state, and finds nothing in what calls leave behind."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress

import grpc
import pytest
from front_end import FrontEnd, failure_of
from node_process import start_process
from structlog.testing import capture_logs

from rendezvous_raft import AsyncClient, errors
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.server.collector import OBJECTS_BETWEEN

# A node without a collector, which tells at a signal what one would have had to find.
WITHOUT_A_COLLECTOR = """
import collections, gc, json, signal, sys
from rendezvous_raft.config import load_node_config
from rendezvous_raft.server.build import run_node

def tell(*_):
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = collections.Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.garbage)
    gc.garbage.clear()
    print(json.dumps(found), flush=True)

def announce(notice):
    print(json.dumps({"threshold": gc.get_threshold()[0], "frozen": gc.get_freeze_count()}))
    gc.disable()
    gc.unfreeze()
    gc.collect()
    print(notice.to_line(), flush=True)

signal.signal(signal.SIGUSR1, tell)
sys.exit(run_node(load_node_config(), on_ready=announce))
"""
OF_GRPC = ("_Metadatum", ".tuple", "_HandlerCallDetails", "find_method_handler", "_or_method")
"""Ends of the types in a cycle that gRPC makes when it looks up the method of a call. It is garbage
before the call begins."""
CALLS = 10
"""Of each kind."""

LONG_LIVED = """
import gc, json
from rendezvous_raft.server.collector import keep_collections_short

keep_collections_short()
before, looked_at = gc.get_freeze_count(), []

def look(phase, info):
    if phase == "start":
        looked_at.append(len(gc.get_objects()))

gc.callbacks.append(look)
state = [[] for _ in range(500_000)]
for _ in range(500_000):
    cycle = []
    cycle.append(cycle)
print(json.dumps({"looked_at": max(looked_at), "frozen": gc.get_freeze_count() - before}))
"""


class Unforeseen(Exception):
    """Can be referred to weakly, unlike those of the language."""


class Node:
    """A process that has no collector."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.at_start = json.loads(self._line())
        self.address = json.loads(self._line())["grpc_address"]

    def garbage(self) -> dict[str, int]:
        """What a collector would have had to find since the last time, by type."""
        self._process.send_signal(signal.SIGUSR1)
        found: dict[str, int] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@asynccontextmanager
async def node_without_a_collector() -> AsyncIterator[Node]:
    process = start_process(WITHOUT_A_COLLECTOR)
    try:
        yield Node(process)
    finally:
        process.kill()
        process.communicate()


async def refused(calls: Iterable[Awaitable[object]]) -> None:
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, errors.RendezvousError)


@pytest.mark.slow
async def test_what_calls_leave_behind_needs_no_collector() -> None:
    """Else it would stay for ever, once it is frozen."""
    async with node_without_a_collector() as node:
        assert node.at_start["threshold"] == OBJECTS_BETWEEN
        assert node.at_start["frozen"] > OBJECTS_BETWEEN
        node.garbage()  # of its start
        async with AsyncClient(node.address, region="eu") as client:
            await make_calls(client)
        found = node.garbage()
        assert found, "not even what gRPC makes"
        assert [name for name in found if not name.endswith(OF_GRPC)] == []


async def make_calls(client: AsyncClient) -> None:
    """Of each kind and with each end some, one at a time and together."""
    branch = await client.register_branch("post", regions=["eu"])
    names = {"request_id": branch.request_id, "branch_id": branch.branch_id}
    unknown, many = "nobody", range(CALLS)

    async def subscribe() -> None:
        async with aclosing(client.subscribe("post", "eu")) as events:
            async for _ in events:
                break

    async def watch() -> None:
        async with aclosing(client.watch_request(branch.request_id)) as seen:
            async for _ in seen:
                break

    async def cancelled() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.wait_request(branch.request_id, service="post", timeout=20)

    await asyncio.gather(*(client.register_branch("other", regions=["eu"]) for _ in many))
    for _ in many:
        await client.check_request(branch.request_id, service="post")
        await client.list_requests()
        await subscribe()
        await watch()
        await refused([client.register_branch("other", regions=["eu"], **names)])
    await refused(client.register_branch("other", regions=["eu"], **names) for _ in many)
    await refused(client.check_request(unknown) for _ in many)
    await refused(client.wait_request(unknown, await_registration=0.1) for _ in many)
    await refused(client.close_branch(unknown, "eu", await_registration=0.1) for _ in many)
    late = {"min_revision": 1_000_000, "timeout": 0.1}
    await refused(client.check_request(branch.request_id, **late) for _ in many)
    await asyncio.gather(*(client.wait_request(branch.request_id, timeout=0.1) for _ in many))
    await asyncio.gather(*(cancelled() for _ in many))
    waits = [asyncio.create_task(client.wait_request(branch.request_id)) for _ in many]
    await client.close_branch(branch.branch_id, "eu")
    await asyncio.gather(*waits)


async def test_a_fault_is_gone_when_it_is_told(front: FrontEnd) -> None:
    fault = Unforeseen("no")
    gone = weakref.ref(fault)
    front.node.answers["register_branches"] = fault
    spec = pb.BranchSpec(branch_id="b", service="s")
    gc.disable()
    try:
        call = front.stub.RegisterBranch(pb.RegisterBranchRequest(request_id="r", branch=spec))
        with capture_logs():
            assert (await failure_of(call)).code() is grpc.StatusCode.INTERNAL
        del fault, front.node.answers["register_branches"]
        while gone() is not None:  # the call ends a moment later than its caller knows
            await asyncio.sleep(0)
    finally:
        gc.enable()


def test_no_collection_looks_at_what_one_has_left() -> None:
    told = subprocess.run([sys.executable, "-c", LONG_LIVED], check=True, capture_output=True)
    counts = json.loads(told.stdout)
    # One in eleven is not of the young alone; what it leaves is there at the next.
    assert counts["looked_at"] < 3 * OBJECTS_BETWEEN
    # The state, but not the cycles.
    assert 400_000 < counts["frozen"] < 600_000
