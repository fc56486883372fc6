"""Three members on loopback: failover, restart, isolation, snapshots, transfer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract_cluster import CLOCK, RaftCluster, digest, failure_of, raft_cluster, soon_s, until
from replicator_contract import IDS, UNKNOWN_ENTRY, branch, request

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Barrier
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy
from rendezvous_raft.types import NodeName, RequestId, Role

pytestmark = pytest.mark.slow


@pytest.fixture
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RaftCluster]:
    async with raft_cluster(tmp_path, tls=getattr(request, "param", False)) as cluster:
        yield cluster


over_both = pytest.mark.parametrize("cluster", [False, True], ids=["plain", "tls"], indirect=True)


async def fill(engine: Replicator, count: int, prefix: str = "b") -> None:
    names = [f"{prefix}{number:04}" for number in range(count)]
    calls = [engine.propose(branch(name), deadline_s=soon_s()) for name in names]
    await asyncio.gather(*calls)


class Writers:
    """Clients that register branches one after another and try again until they know."""

    def __init__(self, cluster: RaftCluster, count: int) -> None:
        self._cluster = cluster
        self.acknowledged: list[str] = []
        self._going = True
        self._tasks = [asyncio.ensure_future(self._write(number)) for number in range(count)]

    async def _write(self, writer: int) -> None:
        number = 0
        while self._going:
            name = f"w{writer}-{number}"
            command = branch(name)
            engines = list(self._cluster.engines.values())
            try:
                engine = engines[(writer + number) % len(engines)]
                await engine.propose(command, deadline_s=CLOCK.monotonic_s() + 2)
            except errors.RendezvousError as error:
                assert error.retryable, error
                await asyncio.sleep(0)
                continue
            self.acknowledged.append(name)
            number += 1

    async def stop(self) -> None:
        self._going = False
        await asyncio.gather(*self._tasks)


async def test_a_follower_forwards(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    before = leader.status().commit_index
    for engine in await cluster.followers():
        await fill(engine, 20, engine.status().name)
    assert leader.status().commit_index > before
    await cluster.converged()
    assert len(leader.state.state.branches) == 40


@over_both
async def test_nothing_acknowledged_is_lost_or_doubled_when_leaders_go(
    cluster: RaftCluster,
) -> None:
    writers = Writers(cluster, 8)
    for _ in range(2):
        leader = await cluster.leader()
        reached = len(writers.acknowledged) + 100
        await until(lambda reached=reached: len(writers.acknowledged) >= reached, "writes")
        name = leader.status().name
        await cluster.stop(name)
        successor = await cluster.leader()
        assert successor.status().name != name
        reached = len(writers.acknowledged) + 50
        await until(lambda reached=reached: len(writers.acknowledged) >= reached, "writes go on")
        await cluster.start(name)
    await writers.stop()
    leader = await cluster.leader()
    await leader.propose(Barrier(IDS.command_id()), deadline_s=soon_s())
    await cluster.converged()
    registered = list(leader.state.state.branches)
    assert len(writers.acknowledged) == len(set(writers.acknowledged)) > 300
    assert set(writers.acknowledged) <= set(registered)
    # Of what was not acknowledged, each writer may have one more on its way.
    assert len(registered) <= len(writers.acknowledged) + 8


async def test_a_restarted_node_catches_up(cluster: RaftCluster) -> None:
    (follower, _) = await cluster.followers()
    name = follower.status().name
    await fill(follower, 50)
    await cluster.stop(name)
    await fill(await cluster.leader(), 300, "c")
    again = await cluster.start(name)
    assert again.state.revision == 0  # nothing is applied before a leader says what is committed
    await cluster.converged()
    assert len(again.state.state.branches) == 350


async def test_all_nodes_may_stop_at_once(cluster: RaftCluster) -> None:
    await fill(await cluster.leader(), 200)
    await cluster.converged()
    before = digest(await cluster.leader())
    names = list(cluster.engines)
    for name in names:
        await cluster.stop(name)
    for name in names:
        await cluster.start(name)
    leader = await cluster.leader()
    assert digest(leader) == before
    await cluster.converged()


async def test_a_minority_serves_nothing(cluster: RaftCluster) -> None:
    # semantics: G4
    (follower, _) = await cluster.followers()
    for name in [name for name, engine in cluster.engines.items() if engine is not follower]:
        await cluster.stop(name)
    await until(lambda: follower.status().leader is None, "no leader")
    deadline_s = CLOCK.monotonic_s() + 0.3
    error = await failure_of(follower.propose(request(), deadline_s=deadline_s))
    assert isinstance(error, errors.NoLeader)
    assert error.definite
    error = await failure_of(follower.read_barrier(deadline_s=CLOCK.monotonic_s() + 0.3))
    assert isinstance(error, errors.NoLeader)


async def test_an_isolated_leader_neither_acknowledges_nor_confirms(cluster: RaftCluster) -> None:
    # semantics: G4
    old = await cluster.leader()
    cluster.isolate(old)
    deadline_s = CLOCK.monotonic_s() + 2
    proposing = asyncio.ensure_future(old.propose(request("lost"), deadline_s=deadline_s))
    reading = asyncio.ensure_future(old.read_barrier(deadline_s=deadline_s))
    others = [engine for engine in cluster.engines.values() if engine is not old]
    await until(lambda: any(e.status().role is Role.LEADER for e in others), "a successor")
    await others[0].propose(request("kept"), deadline_s=soon_s())
    error = await failure_of(proposing)
    assert isinstance(error, errors.OutcomeUnknown)
    assert isinstance(await failure_of(reading), errors.NoLeader)
    assert old.status().role is not Role.LEADER
    assert list(old.state.state.requests) == []
    for engine in others:
        await engine.read_barrier(deadline_s=soon_s())
        assert list(engine.state.state.requests) == ["kept"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_follower_far_behind_installs_a_snapshot(tmp_path: Path, *, tls: bool) -> None:
    policy = SnapshotPolicy(entries_kept=0, chunk_bytes=4_096)
    async with raft_cluster(tmp_path, snapshots=policy, tls=tls) as cluster:
        await _install_far_behind(cluster)


async def _install_far_behind(cluster: RaftCluster) -> None:
    (follower, _) = await cluster.followers()
    name = follower.status().name
    await fill(follower, 10, "before")
    await cluster.stop(name)
    leader = await cluster.leader()
    for prefix in ("c", "d", "e"):
        await fill(leader, 300, prefix)
    await cluster.converged()
    # Both: on a busy machine the other one may lead by the time that the follower is back.
    taken, same = [await engine.take_snapshot() for engine in cluster.engines.values()]
    assert taken.size_bytes > 3 * 4_096
    assert taken.revision == same.revision == leader.state.revision
    await fill(leader, 10, "after")
    again = cluster.make(name)
    replaced: list[int] = []
    told: list[int] = []
    again.set_listener(
        lambda batch: told.extend(applied.revision for applied in batch),
        lambda: replaced.append(again.state.revision),
    )
    waiting = asyncio.ensure_future(again.wait_applied(taken.revision, deadline_s=soon_s()))
    await again.open()
    await waiting
    await cluster.converged()
    assert replaced == [taken.revision]
    assert told[0] == taken.revision + 1
    assert len(again.state.state.branches) == 920
    # It has the snapshot on its own disk now.
    await cluster.stop(name)
    once_more = await cluster.start(name)
    assert once_more.state.revision >= taken.revision
    await cluster.converged()


async def test_snapshots_of_the_same_state_are_one(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    await fill(leader, 10)
    first, second = await asyncio.gather(leader.take_snapshot(), leader.take_snapshot())
    assert first == second


async def test_each_life_of_a_node_numbers_its_reads_in_its_own_way(cluster: RaftCluster) -> None:
    """So that no answer to an earlier life, which may be older, answers a later one."""
    # semantics: G3.3
    follower = (await cluster.followers())[0]
    name, earlier_id = follower.status().name, follower._reads._next_id
    await cluster.stop(name)
    again = await cluster.restart(name)
    assert abs(again._reads._next_id - earlier_id) > 1_000
    await again.read_barrier(deadline_s=soon_s())


@pytest.mark.parametrize("named", [True, False])
async def test_leadership_is_handed_over(cluster: RaftCluster, *, named: bool) -> None:
    leader = await cluster.leader()
    target = (await cluster.followers())[1].status().name
    writers = Writers(cluster, 4)
    successor = await leader.transfer_leadership(target if named else None, deadline_s=soon_s())
    assert successor != leader.status().name
    assert not named or successor == target
    new_leader = await cluster.leader()
    assert new_leader.status().name == successor
    await writers.stop()
    await cluster.converged()
    assert set(writers.acknowledged) <= set(new_leader.state.state.branches)


async def test_leadership_is_not_handed_to_nobody(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    (follower, other) = await cluster.followers()
    soon = soon_s()
    for target in ("n9", leader.status().name):
        error = await failure_of(leader.transfer_leadership(NodeName(target), deadline_s=soon))
        assert isinstance(error, errors.InvalidArgument)
    error = await failure_of(follower.transfer_leadership(None, deadline_s=soon))
    assert isinstance(error, errors.Unavailable)
    assert error.leader == leader.status().name
    gone = other.status().name
    await cluster.stop(gone)
    await until(lambda: not _is_connected(leader, gone), "the link is gone")
    error = await failure_of(leader.transfer_leadership(gone, deadline_s=soon))
    assert isinstance(error, errors.Unavailable)


def _is_connected(engine: Replicator, name: str) -> bool:
    return any(m.connected for m in engine.status().members if m.name == name)


async def test_reports_of_parked_requests_reach_the_leader(cluster: RaftCluster) -> None:
    # semantics: 5.2
    leader = await cluster.leader()
    for number, engine in enumerate(await cluster.followers()):
        engine.report_parked([RequestId(f"r{number}")])
    await until(lambda: len(leader.parked_elsewhere()) == 2, "reports")
    assert sorted(leader.parked_elsewhere()) == ["r0", "r1"]


async def test_a_node_that_has_halted_leads_nobody(cluster: RaftCluster) -> None:
    """F8: the others elect; what it was told to do is nobody's business but its own."""
    leader = await cluster.leader()
    leader.halt("for a test")
    leader.halt("only the first reason counts")
    others = [engine for engine in cluster.engines.values() if engine is not leader]
    await until(lambda: any(e.status().role is Role.LEADER for e in others), "a successor")
    await others[0].propose(request(), deadline_s=soon_s())
    assert leader.status().halted == "for a test"
    assert list(leader.state.state.requests) == []


async def test_an_entry_that_nobody_understands_halts_all_of_them(cluster: RaftCluster) -> None:
    """Not one diverges from the others."""
    leader = await cluster.leader()
    leader._raft.propose(UNKNOWN_ENTRY)
    leader.wake()
    engines = list(cluster.engines.values())
    # Halting cuts the links, so who has not learned of the commit may stay without a leader.
    await until(lambda: leader.status().halted is not None, "the leader has halted")
    assert all(
        engine.status().halted in (None, "unknown command v9")
        and engine.state.revision == leader.state.revision
        for engine in engines
    )


async def test_a_listener_that_raises_halts_its_node_alone(cluster: RaftCluster) -> None:
    """F8: going on would leave its waiters behind the state."""
    (broken, whole) = await cluster.followers()

    def raising(_batch: object) -> None:
        raise RuntimeError("a bug")

    broken.set_listener(raising, lambda: None)
    await whole.propose(request(), deadline_s=soon_s())
    await until(lambda: broken.status().halted is not None, "the node has halted")
    assert broken.status().halted == "RuntimeError: a bug"
    await whole.propose(request("r2"), deadline_s=soon_s())
    error = await failure_of(broken.propose(request("r3"), deadline_s=soon_s()))
    assert isinstance(error, errors.NotReady)


async def test_a_fault_while_something_is_proposed_leaves_nobody_waiting(
    cluster: RaftCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8: it may be in the log all the same, and the node goes no further."""
    # semantics: G6
    leader = await cluster.leader()

    def raising(_entry: bytes) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(leader._raft, "propose", raising)
    error = await failure_of(leader.propose(request(), deadline_s=soon_s()))
    assert isinstance(error, errors.OutcomeUnknown)
    assert leader.status().halted == "RuntimeError: a bug"


async def test_a_fault_while_a_link_opens_halts_its_node(
    cluster: RaftCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8: before, the link seemed open for ever and carried nothing."""
    (broken, other) = await cluster.followers()

    def raising(_node: object) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(broken._raft, "peer_connected", raising)
    name = other.status().name
    await cluster.stop(name)
    await cluster.start(name)
    await until(lambda: broken.status().halted is not None, "the node has halted")
    assert broken.status().halted == "OSError: too many open files"
