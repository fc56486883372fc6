"""When snapshots are taken, and how."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from contract_cluster import raft_cluster, soon_s, until
from pysyncobj.node import Node
from replicator_contract import branch

from rendezvous_raft import errors
from rendezvous_raft.core import snapshot
from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.replication.codec import COMMAND_VERSION
from rendezvous_raft.replication.raft import snapshotting
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy
from rendezvous_raft.replication.raft.storage import DiskFull, DurableLog, StorageError
from rendezvous_raft.replication.raft.verification import verify_directory
from rendezvous_raft.types import NodeName, Region

LEADER = Node("a")
PATH = Path("/var/node/9.snapshot")
MEMBERSHIP = Membership((MemberConfig(NodeName("n1"), Region("eu"), "127.0.0.1:1"),))


@pytest.mark.slow
async def test_a_log_that_has_grown_long_is_cut(tmp_path: Path) -> None:
    async with raft_cluster(tmp_path, size=1, snapshots=SnapshotPolicy(20, 5)) as cluster:
        engine = await cluster.leader()
        for number in range(60):
            await engine.propose(branch(f"b{number}"), deadline_s=soon_s())
        await until(lambda: engine.status().log_entries < 30, "a shorter log")
        assert engine.status().commit_index > 60
        await cluster.stop("n1")
        again = await cluster.start("n1")
        await until(lambda: len(again.state.state.branches) == 60, "the state")


@pytest.mark.slow
async def test_a_log_of_many_bytes_is_cut_however_few_its_entries_are(tmp_path: Path) -> None:
    policy = SnapshotPolicy(entries_kept=0, log_bytes_max=2_000)
    async with raft_cluster(tmp_path, size=1, snapshots=policy) as cluster:
        engine = await cluster.leader()
        for number in range(60):
            await engine.propose(branch(f"b{number}"), deadline_s=soon_s())
        await until(lambda: engine.status().log_entries < 40, "a shorter log")
        await cluster.stop("n1")
        again = await cluster.start("n1")
        await until(lambda: len(again.state.state.branches) == 60, "the state")


@pytest.mark.slow
async def test_snapshots_write_no_more_than_in_proportion_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    save = DurableLog.save_snapshot

    async def counted(self: DurableLog, index: int, *rest: Any) -> object:
        written.append(index)
        return await save(self, index, *rest)

    monkeypatch.setattr(DurableLog, "save_snapshot", counted)
    policy = SnapshotPolicy(entries_kept=0, log_bytes_max=1)
    async with raft_cluster(tmp_path, size=1, snapshots=policy) as cluster:
        engine = await cluster.leader()
        for number in range(100):
            await engine.propose(branch(f"b{number}"), deadline_s=soon_s())
            await until(lambda: not engine._snapshots._is_due(), "no snapshot to be due")
    # Each has a state that is larger by a constant factor than the one before.
    assert 3 <= len(written) <= 30


@pytest.mark.slow
async def test_a_snapshot_that_cannot_be_written_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshotting, "RETRY_S", 0.01)
    tries = 0
    save = DurableLog.save_snapshot

    async def fail_twice(self: DurableLog, *args: Any) -> object:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise OSError(5, "no")
        return await save(self, *args)

    monkeypatch.setattr(DurableLog, "save_snapshot", fail_twice)
    async with raft_cluster(tmp_path, size=1, snapshots=SnapshotPolicy(5)) as cluster:
        engine = await cluster.leader()
        number = 0
        while engine._snapshots._newest is None:
            number += 1
            await engine.propose(branch(f"b{number}"), deadline_s=soon_s())
        assert tries == 3
        assert engine.status().halted is None


@pytest.mark.slow
async def test_a_due_snapshot_that_fails_for_no_known_reason_halts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F12: it was tried again in every turn, and nobody was told."""

    async def fail(*_args: Any) -> object:
        raise LookupError("a row that nobody knows")

    monkeypatch.setattr(DurableLog, "save_snapshot", fail)
    async with raft_cluster(tmp_path, size=1, snapshots=SnapshotPolicy(5)) as cluster:
        engine = await cluster.leader()
        with contextlib.suppress(errors.RendezvousError):
            for number in range(6):
                await engine.propose(branch(f"b{number}"), deadline_s=soon_s())
        await until(lambda: engine.status().halted is not None, "a halt")
        assert engine.status().halted == (
            "a snapshot could not be taken: LookupError: a row that nobody knows"
        )


@pytest.mark.slow
async def test_an_ordered_snapshot_on_a_full_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: Any) -> object:
        raise DiskFull("a snapshot: no space left")

    monkeypatch.setattr(DurableLog, "save_snapshot", fail)
    async with raft_cluster(tmp_path, size=1) as cluster:
        engine = await cluster.leader()
        await engine.propose(branch("b"), deadline_s=soon_s())
        with pytest.raises(errors.ReadOnly, match="this node's disk is full: a snapshot: no sp"):
            await engine.take_snapshot()


@pytest.mark.slow
async def test_a_node_of_an_older_version_does_not_start(tmp_path: Path) -> None:
    """It voted and acknowledged until the first newer command stopped it."""
    async with raft_cluster(tmp_path, size=1) as cluster:
        engine = await cluster.leader()
        await engine.propose(branch("b"), deadline_s=soon_s())
        engine.state.state.version = COMMAND_VERSION + 1
        await engine.take_snapshot()
        await cluster.stop("n1")
        problem = f"the cluster uses commands of version {COMMAND_VERSION + 1}, and this software"
        with pytest.raises(StorageError, match=problem):
            await cluster.start("n1")
        (found,) = verify_directory(engine._data_dir).problems
        assert problem in found.problem


@pytest.mark.slow
async def test_a_snapshot_is_made_with_rests_while_commands_are_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them the thread that syncs the log had to wait for each of its steps."""
    rests = 0
    async with raft_cluster(tmp_path, size=1, snapshots=SnapshotPolicy(rows_at_once=5)) as cluster:
        engine = await cluster.leader()
        for number in range(40):
            await engine.propose(branch(f"b{number}"), deadline_s=soon_s())
        before = engine.state.revision, snapshot.digest(engine.state.state)

        async def rest() -> None:
            nonlocal rests
            rests += 1
            await engine.propose(branch(f"late{rests}"), deadline_s=soon_s())

        monkeypatch.setattr(snapshotting, "rest", rest)
        await engine.take_snapshot()
        file = engine._snapshots.newest
        assert file is not None
        _, *rows = engine._store.load_snapshot(file)
        made = snapshot.load(rows)
        assert (made.revision, snapshot.digest(made.state)) == before
        assert engine.state.revision == before[0] + rests
        assert rests == -(-(len(rows) + 1) // 5) > 8
