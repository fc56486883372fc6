"""Claims on running it: geo-replicated, cheap, and, beyond the original, through death.

The original kept everything in the memory of its servers: what it claimed of requests, branches and
ids held as long as all of them lived. Where that made a claim weaker than it is here, the test says
so.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from claims_world import World, blocked, until_described

from rendezvous_raft.client import AsyncClient
from rendezvous_raft.context import current_context
from rendezvous_raft.devcluster.cluster import ClusterSettings, DevCluster, NodeChange, NodeEvent
from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.types import Consistency, Status, WaitOutcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

REGIONS = ("eu", "us", "ap")


class MortalCluster:
    """A cluster of a test's own, whose nodes may be killed."""

    def __init__(self, cluster: DevCluster, events: asyncio.Queue[NodeEvent]) -> None:
        self._cluster = cluster
        self._events = events

    def client(self, region: str) -> AsyncClient:
        """Talks to the region's node alone."""
        (node,) = [node for node in self._cluster.nodes if node.region == region]
        return AsyncClient(node.grpc_address, region=region)

    def anybody(self) -> AsyncClient:
        return AsyncClient(self._cluster.endpoints)

    async def kill(self, *regions: str) -> None:
        """SIGKILL; returns when they are dead."""
        names = [node.name for node in self._cluster.nodes if node.region in regions]
        for name in names:
            pid = self._cluster.process(name).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        await self.heard(NodeChange.DIED, len(names))

    async def heard(self, change: NodeChange, count: int) -> None:
        while count:
            count -= (await self._events.get()).change is change


@asynccontextmanager
async def mortal(directory: Path, *, restart: bool = False) -> AsyncIterator[MortalCluster]:
    events: asyncio.Queue[NodeEvent] = asyncio.Queue(1_000)
    settings = ClusterSettings(node_count=3, regions=REGIONS, data_dir=directory, restart=restart)
    async with DevCluster(settings, report=events.put_nowait) as cluster:
        yield MortalCluster(cluster, events)


async def test_metadata_stays_small_however_much_a_request_does(world: World) -> None:
    """Claim: little metadata travels with a request.

    The context names the request and how far it has seen; it does not grow with the branches, as
    lineages of operations do.
    """
    eu = await world.client("eu")
    with eu.request(f"r-{world.name}"):
        await eu.register_branch("posts", regions=["eu", "us"])
        small = len(current_context().encode())  # type: ignore[union-attr]
        for _ in range(100):
            await eu.register_branch("posts", regions=["eu", "us"])
        large = len(current_context().encode())  # type: ignore[union-attr]
    digits = len(str(10**6))  # of a revision
    assert large <= small + digits < 150


async def test_a_reader_asks_its_own_region_and_no_other(tmp_path: Path) -> None:
    """Claim: geo-replicated, waits are local.

    Stronger here: with the two other regions dead, a reader with its context is still answered by
    its own node, and a close that its region's monitor sends to that node releases it, although
    nothing can be committed. What cannot be known without the others is refused, never guessed.
    """
    # semantics: G3.2, G4, R5, R6, R6.2
    async with mortal(tmp_path / "cluster") as cluster, cluster.client("us") as us:
        first = await us.register_branch("posts", regions=["us"])
        request_id = first.request_id
        second = await us.register_branch("posts", regions=["us"], request_id=request_id)
        await us.close_branch(first.branch_id, "us")
        session = {"min_revision": second.revision, "consistency": Consistency.SESSION}
        await cluster.kill("eu", "ap")

        check = await us.check_request(request_id, **session)
        assert check.status is Status.OPEN
        waiting = asyncio.create_task(us.wait_request(request_id, timeout=60, **session))
        watching = us.watch_request(request_id, consistency=Consistency.LOCAL)
        async for found in watching:
            if found.waiters:
                break
        await watching.aclose()
        assert not waiting.done()
        # The close gives up long before the wait does, and covers nothing from then on.
        closing = asyncio.create_task(us.close_branch(second.branch_id, "us", timeout=20))
        assert (await waiting).outcome is WaitOutcome.BLOCKED
        # Not committed, so that nobody else may rely on it yet; nor is it lost.
        assert not closing.done()
        assert (await us.check_request(request_id, **session)).status is Status.OPEN
        with pytest.raises(RendezvousError):
            await us.check_request(request_id, consistency=Consistency.LINEARIZABLE, timeout=0.5)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)


async def test_a_region_that_dies_takes_nothing_with_it(tmp_path: Path) -> None:
    """Claim: the state of a request is known in every region.

    Stronger here: what was acknowledged is on disk on a majority. The node that took the
    registration is killed at once; the reader in another region still waits for the branch, and
    whoever closes it may do so through a third one.
    """
    # semantics: G3, U4
    async with (
        mortal(tmp_path / "cluster") as cluster,
        cluster.client("eu") as eu,
        cluster.client("us") as us,
        cluster.client("ap") as ap,
    ):
        branch = await eu.register_branch("posts", regions=["us"])
        request_id = branch.request_id
        await cluster.kill("eu")
        wait = await blocked(us, request_id, us.wait_request(request_id, timeout=90))
        await ap.close_branch(branch.branch_id, "us", timeout=60)
        assert (await wait).outcome is WaitOutcome.BLOCKED


async def test_every_node_may_restart_and_all_is_as_it_was(tmp_path: Path) -> None:
    """Claim: requests and branches are known until they are done.

    Stronger here: the original lost all of them with a restart, and issued their ids again. All
    nodes are killed; what was open is open, what was closed is closed, and new ids are new.
    """
    # semantics: G2.4, W4, W6
    async with (
        mortal(tmp_path / "cluster", restart=True) as cluster,
        cluster.anybody() as client,
    ):
        branch = await client.register_branch("posts", regions=["eu", "us"])
        await client.close_branch(branch.branch_id, "eu")
        await cluster.kill(*REGIONS)
        await cluster.heard(NodeChange.RESTARTED, len(REGIONS))
        check = await client.check_request_by_regions(branch.request_id, timeout=60)
        assert check.statuses == {"eu": Status.CLOSED, "us": Status.OPEN}
        again = await client.register_branch("posts", regions=["eu"], timeout=60)
        assert again.branch_id != branch.branch_id
        assert again.request_id != branch.request_id


async def test_a_call_that_is_repeated_has_one_effect(world: World) -> None:
    """Claim: registering and closing are safe from any service.

    Stronger here: any call may be repeated, at any node, for ever. In the original a repeated
    registration was a second branch that nobody closed, or an error, and a repeated close an error.
    """
    # semantics: G2, W4.1
    request_id = f"r-{world.name}"
    for region in REGIONS:
        client = await world.client(region)
        branch = await client.register_branch(
            "posts", regions=["eu"], request_id=request_id, branch_id=f"b-{world.name}"
        )
        assert branch.already_existed == (region != "eu")
    for region in REGIONS:
        closed = await (await world.client(region)).close_branch(branch.branch_id, "eu")
        assert closed.already_closed == (region != "eu")
    found = await until_described(
        await world.client("ap"), request_id, lambda found: found.status is Status.CLOSED
    )
    assert found.branches_total == 1


async def test_a_notification_may_overtake_the_registration_itself(world: World) -> None:
    """Claim: a reader waits for what the request did before it was notified.

    Stronger here: the writer need not wait for the registration either. A branch that is not
    acknowledged yet travels in the context by its id, and holds the reader until it is registered
    and closed; the original's reader found nothing to wait for.
    """
    # semantics: R1.1, G5
    request_id, branch_id = f"r-{world.name}", f"b-{world.name}"
    eu, us = await world.client("eu"), await world.client("us")
    await eu.register_request(request_id)
    waiting = us.wait_request(request_id, required_branches=[branch_id], timeout=60)
    wait = await blocked(us, request_id, waiting)
    found = await us.describe_request(request_id)
    assert found.waiters[0].missing_branches == (branch_id,)
    await eu.register_branch(
        "posts", regions=["eu", "us"], request_id=request_id, branch_id=branch_id
    )
    await until_described(us, request_id, lambda found: bool(found.waiters[0].held_by))
    await eu.close_branch(branch_id, "us")
    assert (await wait).outcome is WaitOutcome.BLOCKED
