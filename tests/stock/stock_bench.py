"""Members of *stock* PySyncObj on a bench: the same words as `RaftBench`, the library untouched.

`SyncObj` runs as it was released: with its own journals, dumps, elections and replication. Only
what it takes from outside is ours: the transport (its own abstract class), the monotonic clock (a
name of its module), and when it ticks (`autoTick=False`). A member stands for election only when
it is told to; everything else has the stock configuration unless a test says otherwise.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pysyncobj.syncobj
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from rendezvous_raft.testing.fake_clock import FakeClock

HEARTBEAT_S = 0.11
"""A little more than the stock `appendEntriesPeriod`: a leader that ticks now sends."""
NEVER_S = 1e6
"""An election time-out that no test lives to see."""
KINDS = {"entries": "append_entries", "answers": "next_node_idx"}


class BenchNode(Node):  # type: ignore[misc]
    """A member's name, hashed by its letters: PySyncObj iterates over sets of these."""

    def __hash__(self) -> int:
        return int.from_bytes(str(self.id).encode(), "big")


@dataclass(frozen=True, eq=False)
class Letter:
    """A message on its way."""

    sender: str
    receiver: str
    message: dict[str, Any]

    def is_a(self, kind: str) -> bool:
        return bool(self.message["type"] == KINDS.get(kind, kind))


class BenchTransport(Transport):  # type: ignore[misc]
    """Puts messages among the letters of the bench."""

    def __init__(self, bench: StockBench, name: str) -> None:
        super().__init__(None, None, [])
        self._bench = bench
        self._name = name

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        return self._bench.post(Letter(self._name, str(node.id), message))

    def connected(self, name: str) -> None:
        self._onNodeConnected(BenchNode(name))

    def disconnected(self, name: str) -> None:
        self._onNodeDisconnected(BenchNode(name))

    def receive(self, letter: Letter) -> None:
        self._onMessageReceived(BenchNode(letter.sender), letter.message)


class StockMember(SyncObj):  # type: ignore[misc]
    """A list of values as the replicated object."""

    def __init__(self, bench: StockBench, name: str, conf: SyncObjConf) -> None:
        self.wire = BenchTransport(bench, name)
        others = [BenchNode(other) for other in bench.names if other != name]
        super().__init__(BenchNode(name), others, conf, nodeClass=BenchNode, transport=self.wire)
        # What is set after the constructor is the state that PySyncObj dumps and loads.
        self.values: list[str] = []

    @replicated
    def add(self, value: str) -> int:
        self.values.append(value)
        return len(self.values)

    @replicated
    def fail(self, value: str) -> None:
        raise ValueError(value)

    def stand(self) -> None:
        """The election time-out passes."""
        self._SyncObj__raftElectionDeadline = 0.0

    def log(self) -> list[tuple[int, int]]:
        """Index and term of every entry."""
        return [(index, term) for _, index, term in self._SyncObj__raftLog[:]]


class StockBench:
    """A group of stock members; see `groups.Group` for the words.

    Args:
        names: of the members.
        clock: what PySyncObj takes for the monotonic one.
        directory: where journals and dumps are; None: the stock default, nothing is on disk.
        options: of `SyncObjConf`.
    """

    def __init__(
        self,
        *names: str,
        clock: FakeClock,
        directory: Path | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.names = names
        self.clock = clock
        self.letters: list[Letter] = []
        self.acknowledged: list[str] = []
        """Values whose proposer was told SUCCESS, in order."""
        self.answers: list[int] = []
        """Every code that a proposer was answered with."""
        self._directory = directory
        self._options = dict(options or {})
        self._cut: dict[str, None] = {}
        self._lives = dict.fromkeys(names, 0)
        self._members = {name: self._born(name) for name in names}
        for name in names:
            self._introduce(name)

    def __getitem__(self, name: str) -> StockMember:
        return self._members[name]

    def files(self, name: str) -> Path:
        """The directory of this life of a member."""
        assert self._directory is not None
        return self._directory / f"{name}-{self._lives[name]}"

    def _born(self, name: str) -> StockMember:
        conf: dict[str, object] = {
            "autoTick": False,
            "raftMinTimeout": NEVER_S,
            "raftMaxTimeout": 2 * NEVER_S,
            "connectionTimeout": 3 * NEVER_S,
            # A dump in a fork is one at a moment that no test can choose.
            "useFork": False,
        }
        if self._directory is not None:
            self.files(name).mkdir(exist_ok=True)
            conf["journalFile"] = str(self.files(name) / "journal")
            conf["fullDumpFile"] = str(self.files(name) / "dump")
        return StockMember(self, name, SyncObjConf(**(conf | self._options)))

    def _introduce(self, name: str) -> None:
        for other in self.names:
            if other != name and not {name, other} & self._cut.keys():
                self[name].wire.connected(other)

    # The network

    def post(self, letter: Letter) -> bool:
        if {letter.sender, letter.receiver} & self._cut.keys():
            return False
        self.letters.append(letter)
        return True

    def take(self, kind: str = "", *, sender: str = "", receiver: str = "") -> list[Letter]:
        taken = [
            letter
            for letter in self.letters
            if (not kind or letter.is_a(kind))
            and (not sender or letter.sender == sender)
            and (not receiver or letter.receiver == receiver)
        ]
        self.letters = [letter for letter in self.letters if letter not in taken]
        return taken

    def deliver(self, letter: Letter) -> None:
        if letter in self.letters:
            self.letters.remove(letter)
        self[letter.receiver].wire.receive(letter)
        self[letter.receiver].doTick(0)

    def settle(self) -> None:
        for _ in range(10):
            for name in self.names:
                self.turn(name)
            while self.letters:
                self.deliver(self.letters[0])

    def cut(self, name: str) -> None:
        self._cut[name] = None
        self.letters = [x for x in self.letters if name not in (x.sender, x.receiver)]
        for other in self.names:
            if other != name:
                self[name].wire.disconnected(other)
                self[other].wire.disconnected(name)

    def heal(self) -> None:
        self._cut.clear()
        for name in self.names:
            self._introduce(name)

    # Members

    def turn(self, name: str) -> None:
        self.clock.advance(HEARTBEAT_S)
        self[name].doTick(0)

    def propose(self, name: str, value: str) -> None:
        self[name].add(value, callback=lambda _result, code: self._answered(value, code))
        self[name].doTick(0)

    def _answered(self, value: str, code: int) -> None:
        self.answers.append(code)
        if code == FAIL_REASON.SUCCESS:
            self.acknowledged.append(value)

    def applied(self, name: str) -> list[str]:
        return list(self[name].values)

    def read(self, name: str) -> list[str] | None:
        """The state of the process: stock has no other read."""
        return self.applied(name)

    def now_s(self) -> float:
        return self.clock.monotonic_s()

    def leaders(self) -> list[str]:
        return [name for name in self.names if self[name]._isLeader()]

    def term(self, name: str) -> int:
        return int(self[name].raftCurrentTerm)

    def campaign(self, name: str) -> None:
        self[name].stand()
        self[name].doTick(0)

    def elect(self, name: str) -> None:
        self.campaign(name)
        self.settle()
        assert self[name]._isLeader(), f"{name} was not elected"

    def compact(self, name: str) -> None:
        self[name].forceLogCompaction()
        for _ in range(2):  # one tick dumps, the next one drops the log before it
            self[name].doTick(0)

    def crash(self, name: str) -> None:
        """SIGKILL and a new life: the files are as the system calls left them."""
        before = self._members[name]
        old = self.files(name) if self._directory is not None else None
        self._lives[name] += 1
        if old is not None:
            shutil.copytree(old, self.files(name))
        before._doDestroy()  # closes what the old life has open; its files are nobody's any more
        self.letters = [x for x in self.letters if name not in (x.sender, x.receiver)]
        for other in self.names:
            if other != name:
                self[other].wire.disconnected(name)
        self._members[name] = self._born(name)
        for one in self.names:
            self._introduce(one)
        self[name].doTick(0)

    def close(self) -> None:
        for member in self._members.values():
            member._doDestroy()


@contextmanager
def stock_group(
    *names: str, directory: Path | None = None, **options: object
) -> Iterator[StockBench]:
    """Stock members, whose clock stands still unless it is moved."""
    clock = FakeClock()
    before = pysyncobj.syncobj.monotonicTime
    pysyncobj.syncobj.monotonicTime = clock.monotonic_s
    try:
        bench = StockBench(*names, clock=clock, directory=directory, options=options)
        try:
            yield bench
        finally:
            bench.close()
    finally:
        pysyncobj.syncobj.monotonicTime = before
