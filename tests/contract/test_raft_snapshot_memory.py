"""How much of the log stays in memory behind a snapshot, and for whom."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract_cluster import raft_cluster, until
from replicator_contract import request

from rendezvous_raft.replication.codec import encode_command, encode_entry
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy

LONG = encode_entry(b"x" * 960, 1, [encode_command(request("r"))])
"""An entry of some 1,000 bytes."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bytes_max", "catch_up", "kept"), [(3_100, 9_000, 3), (10_100, 9_000, 10)]
)
async def test_what_stays_behind_a_snapshot_is_bounded_by_bytes(
    tmp_path: Path, bytes_max: int, catch_up: int, kept: int
) -> None:
    policy = SnapshotPolicy(
        entries_kept=2_000, log_bytes_max=bytes_max, catch_up_bytes_max=catch_up
    )
    async with raft_cluster(tmp_path, size=1, snapshots=policy) as cluster:
        engine = await cluster.leader()
        for _ in range(20):
            engine._raft.propose(LONG)
        engine.wake()
        await until(lambda: engine._raft.last_applied >= engine._raft.last_index(), "all of it")
        taken = await engine.take_snapshot()
        journal = engine._raft.log
        assert journal.base_index == taken.index - kept


@pytest.mark.slow
async def test_what_a_follower_lacks_stays_too_within_its_own_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = SnapshotPolicy(entries_kept=0, catch_up_bytes_max=5_100)
    async with raft_cluster(tmp_path, size=1, snapshots=policy) as cluster:
        engine = await cluster.leader()
        for lacking, kept in ((3, 3), (8, 5), (-1, 0)):
            for _ in range(20):
                engine._raft.propose(LONG)
            engine.wake()
            await until(lambda: engine._raft.last_applied >= engine._raft.last_index(), "all")
            index = engine._raft.last_applied
            monkeypatch.setattr(
                engine._raft, "lacking_after", lambda index=index, lacking=lacking: index - lacking
            )
            taken = await engine.take_snapshot()
            assert taken.index == index
            assert engine._raft.log.base_index == index - kept
