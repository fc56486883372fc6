"""How a snapshot arrives chunk by chunk, and takes the place of the state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from contract_cluster import CLOCK
from pysyncobj.node import Node
from replicator_contract import branch

from rendezvous_raft.core import snapshot
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.node.slices import ROWS_AT_ONCE
from rendezvous_raft.replication.applying import Replica
from rendezvous_raft.replication.codec import COMMAND_VERSION
from rendezvous_raft.replication.observer import SilentEngineObserver
from rendezvous_raft.replication.raft import snapshotting
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.memberships import encode_membership
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.snapshotting import DEFAULT_POLICY, Snapshots
from rendezvous_raft.replication.raft.storage import DiskFull, DurableLog
from rendezvous_raft.types import NodeName, Region

LEADER = Node("a")
PATH = Path("/var/node/9.snapshot")
MEMBERSHIP = Membership((MemberConfig(NodeName("n1"), Region("eu"), "127.0.0.1:1"),))


class Install:
    """A snapshot that arrives, in the hands of a store that has no disk."""

    def __init__(self, index: int, term: int) -> None:
        self.index, self.term = index, term
        self.content = b""
        self.aborted = False
        self.finished: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.full = False

    @property
    def received(self) -> int:
        return len(self.content)

    def write(self, offset: int, piece: bytes) -> None:
        if self.full:
            raise DiskFull("full")
        assert offset == self.received
        self.content += piece

    def abort(self) -> None:
        self.aborted = True

    async def finish(self) -> object:
        return await self.finished


class Bench:
    """`Snapshots` between a store, a log and rules that only remember what they are told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, int]] = []
        self.installs: list[Install] = []
        self.restarted: list[tuple[int, int, Membership]] = []
        self.halted: list[str] = []
        self.terms: dict[int, int] = {}
        """Of the entries in the log."""
        self.told: list[str] = []
        self.here: Any = None
        """A snapshot that was received, and behind which no log could be begun."""
        self.full = False
        self.raft = SimpleNamespace(
            commit_index=3,
            last_applied=3,
            installing=False,
            host=SimpleNamespace(halt=self.halted.append, wake=lambda: self.told.append("wake")),
            use_membership=lambda: None,
            answer_snapshot=lambda _node, *, offset, installed: self.answers.append(
                (offset, installed)
            ),
        )
        store = SimpleNamespace(
            begin_install=self._begin,
            load_in_chunks=_in_chunks,
            received_snapshot=lambda _index: self.here,
            resume_install=self._resume,
        )
        log = SimpleNamespace(
            restart_at=lambda index, term, membership: self.restarted.append(
                (index, term, membership)
            ),
            term_at=self.terms.get,
            bytes_added=0,
        )
        self.replica = Replica(origin=b"o", clock=CLOCK)
        self.snapshots = Snapshots(
            cast("DurableLog", store),
            self.replica,
            CLOCK,
            SilentEngineObserver(),
            DEFAULT_POLICY,
        )
        self.snapshots.attach(
            cast("DurableJournal", log),
            cast("Raft", self.raft),
            lambda: self.told.append(f"installed at {self.raft.last_applied}"),
        )

    def _begin(self, index: int, term: int) -> Install:
        self.installs.append(Install(index, term))
        return self.installs[-1]

    async def _resume(self, snapshot: object) -> object:
        if self.full:
            raise DiskFull("full")
        return snapshot

    def receive(
        self, offset: int, piece: bytes, *, index: int = 9, size: int = 6, term: int = 5
    ) -> None:
        chunk = {"index": index, "snapshot_term": 2, "offset": offset, "size": size}
        self.snapshots.receive(LEADER, {**chunk, "term": term, "data": piece})


async def test_chunks_are_taken_in_order_and_then_put_in_force() -> None:
    bench = Bench()
    bench.receive(0, b"abc")
    assert bench.answers == [(3, 0)]
    bench.receive(3, b"def")
    (install,) = bench.installs
    assert install.content == b"abcdef"
    assert bench.raft.installing
    assert bench.answers == [(3, 0)]
    bench.receive(0, b"abc")  # again, while it is put in force: nothing to say yet
    install.finished.set_result(SimpleNamespace(index=9, term=2, rows=_rows(), path=PATH))
    await bench.snapshots.close()
    assert bench.restarted == [(9, 2, MEMBERSHIP)]
    assert (bench.raft.commit_index, bench.raft.last_applied) == (9, 9)
    assert not bench.raft.installing
    assert bench.answers == [(3, 0), (0, 9)]
    assert bench.replica.machine.revision == 1
    # Readers whose index is in the snapshot would else wait for an entry behind it.
    assert bench.told == ["installed at 9", "wake"]


def _in_chunks(file: Any) -> Iterator[list[list[object]]]:
    rows = iter(file.rows)
    while chunk := list(islice(rows, ROWS_AT_ONCE)):
        yield chunk


def _rows(branches: int = 1) -> list[list[object]]:
    machine = StateMachine()
    for number in range(branches):
        machine.apply(branch(f"b{number}"))
    first: list[object] = ["membership", encode_membership(MEMBERSHIP)]
    return [first, *snapshot.rows(machine.state)]


async def test_a_large_one_is_read_back_with_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop stood still for one to two seconds per 100,000 requests."""
    bench = Bench()
    seen = []

    async def rest() -> None:
        seen.append((bench.replica.machine.revision, bench.raft.installing, bench.restarted[:]))

    monkeypatch.setattr(snapshotting, "rest", rest)
    bench.receive(0, b"abcdef")
    rows = _rows(5 * ROWS_AT_ONCE)
    bench.installs[0].finished.set_result(SimpleNamespace(index=9, term=2, rows=rows, path=PATH))
    await bench.snapshots.close()
    assert seen == [(0, True, [])] * -(-len(rows) // ROWS_AT_ONCE)
    assert bench.replica.machine.revision == 5 * ROWS_AT_ONCE
    assert bench.answers == [(0, 9)]


async def test_the_middle_of_another_snapshot_starts_it_anew() -> None:
    bench = Bench()
    bench.receive(3, b"def")
    bench.receive(0, b"abc")
    bench.receive(3, b"x", index=10)
    bench.receive(3, b"x", term=6)
    assert bench.answers == [(0, 0), (3, 0), (0, 0), (0, 0)]
    bench.receive(0, b"abc", index=10)
    bench.receive(0, b"abc", index=10, term=6)
    assert [(install.index, install.aborted) for install in bench.installs] == [
        (9, True),
        (10, True),
        (10, False),
    ]


async def test_a_chunk_that_comes_again_undoes_nothing() -> None:
    """Chunks sent twice chased each other back to the beginning, and none ever came to the end."""
    bench = Bench()
    bench.receive(0, b"abc", size=9)
    bench.receive(3, b"def", size=9)
    bench.receive(0, b"abc", size=9)
    bench.receive(3, b"def", size=9)
    bench.receive(8, b"i", size=9)
    assert bench.answers == [(3, 0), (6, 0), (6, 0), (6, 0), (6, 0)]
    (install,) = bench.installs
    assert install.content == b"abcdef"


async def test_a_snapshot_whose_last_entry_is_in_the_log_replaces_nothing() -> None:
    """Figure 13, rule 6: what follows it in the log may be committed too."""
    bench = Bench()
    bench.terms[9] = 2
    bench.receive(0, b"abc")
    assert bench.answers == [(0, 9)]
    assert (bench.raft.commit_index, bench.raft.last_applied) == (9, 3)
    assert bench.installs == bench.restarted == []


async def test_no_room_for_the_first_chunk_halts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def refuse(index: int, term: int) -> Install:
        raise DiskFull("full")

    monkeypatch.setattr(bench.snapshots._store, "begin_install", refuse)
    bench.receive(0, b"abc")
    assert bench.answers == [(0, 0)]
    assert bench.halted == []


async def test_what_is_committed_already_is_not_installed() -> None:
    bench = Bench()
    bench.receive(0, b"abc", index=3)
    assert bench.answers == [(0, 3)]
    assert bench.installs == []


async def test_without_room_it_waits_for_another_try() -> None:
    bench = Bench()
    bench.receive(0, b"abc")
    bench.installs[0].full = True
    bench.receive(3, b"def")
    assert bench.installs[0].aborted
    assert bench.answers == [(3, 0)]
    bench.receive(0, b"abcdef")
    bench.installs[1].finished.set_exception(DiskFull("full"))
    await bench.snapshots.close()
    assert not bench.raft.installing
    assert bench.halted == []
    bench.receive(0, b"abcdef")
    bench.installs[2].finished.set_result(SimpleNamespace(index=9, term=2, rows=_rows(), path=PATH))
    await bench.snapshots.close()
    assert bench.restarted == [(9, 2, MEMBERSHIP)]


@pytest.mark.parametrize("fault", ["rows", "membership", "disk"])
async def test_a_snapshot_that_cannot_be_read_halts(fault: str) -> None:
    """F12: nothing is swallowed; the state is as it was."""
    bench = Bench()
    bench.receive(0, b"abcdef")
    if fault == "disk":
        bench.installs[0].finished.set_exception(OSError(5, "no"))
    else:
        rows = _rows()[:-1] if fault == "rows" else _rows()[1:]
        damaged = SimpleNamespace(index=9, term=2, rows=rows, path=PATH)
        bench.installs[0].finished.set_result(damaged)
    await bench.snapshots.close()
    (reason,) = bench.halted
    assert reason.startswith("a snapshot from a could not be installed")
    assert bench.restarted == []
    assert bench.replica.machine.revision == 0


async def test_a_snapshot_that_was_received_waits_only_for_room_for_a_log() -> None:
    bench = Bench()
    bench.here = SimpleNamespace(index=9, term=2, rows=_rows(), path=PATH)
    bench.full = True
    bench.receive(3, b"def")
    await bench.snapshots.close()
    assert not bench.raft.installing
    bench.full = False
    bench.receive(0, b"abc", index=7, term=6)  # of another leader, whose newest one is older
    await bench.snapshots.close()
    assert bench.restarted == [(9, 2, MEMBERSHIP)]
    assert bench.answers == [(0, 9)]
    assert bench.installs == []
    assert bench.halted == []


async def test_a_log_that_came_to_a_received_snapshot_is_not_voided_by_it() -> None:
    bench = Bench()
    bench.here = SimpleNamespace(index=9, term=2, rows=_rows(), path=PATH)
    bench.terms[9] = 2
    bench.receive(0, b"abc", index=7)
    await bench.snapshots.close()
    assert bench.answers == [(0, 9)]
    assert bench.restarted == []


async def test_a_snapshot_of_newer_commands_is_refused() -> None:
    bench = Bench()
    machine = StateMachine()
    machine.state.version = COMMAND_VERSION + 1
    first: list[object] = ["membership", encode_membership(MEMBERSHIP)]
    rows = [first, *snapshot.rows(machine.state)]
    bench.receive(0, b"abcdef")
    bench.installs[0].finished.set_result(SimpleNamespace(index=9, term=2, rows=rows, path=PATH))
    await bench.snapshots.close()
    (reason,) = bench.halted
    assert f"uses commands of version {COMMAND_VERSION + 1}" in reason
    assert f"up to version {COMMAND_VERSION}" in reason
    assert bench.restarted == []


async def test_whatever_goes_wrong_after_an_install_halts(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def fail() -> None:
        raise LookupError("no membership")

    monkeypatch.setattr(bench.raft, "use_membership", fail)
    bench.receive(0, b"abcdef")
    bench.installs[0].finished.set_result(SimpleNamespace(index=9, term=2, rows=_rows(), path=PATH))
    await bench.snapshots.close()
    assert bench.halted == ["a snapshot from a could not be installed: no membership"]
