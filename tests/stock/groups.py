"""One scenario, two engines: the words in which it is told, and ours behind them.

A scenario is a function of a `Group`. The tests run it on stock PySyncObj, where the promise must
be seen broken, and on our rules, where it must hold: so each is known to bite.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from stock_bench import stock_group

from rendezvous_raft.testing.raft_bench import Letter, RaftBench

KINDS = {"entries": "append", "answers": "append_reply"}


class Group(Protocol):
    """Members, the letters between them, and what the proposers were told.

    Letters are delivered in the order of their list, or by hand; a scenario that holds one back
    plays a link that is slow in that direction.
    """

    acknowledged: list[str]
    """Values whose proposers were told that they are committed, in order."""

    def elect(self, name: str) -> None:
        """The member stands for election and wins, and everything calms down."""

    def campaign(self, name: str) -> None:
        """The election time-out of a member passes; nothing is delivered."""

    def propose(self, name: str, value: str) -> None:
        """A client gives a value to a member, which leads."""

    def turn(self, name: str) -> None:
        """A heartbeat's time passes, and one member acts."""

    def take(self, kind: str = "", *, sender: str = "", receiver: str = "") -> list[Any]:
        """Takes letters out of the network: lost, unless they are delivered by hand."""

    def deliver(self, letter: Any) -> None:
        """Delivers a letter; its receiver acts."""

    def settle(self) -> None:
        """Delivers everything until there is nothing more to say."""

    def cut(self, name: str) -> None:
        """Cuts a member off: dead for the others, or partitioned until `heal`."""

    def heal(self) -> None:
        """Every link is there again."""

    def crash(self, name: str) -> None:
        """SIGKILL, and a new life of the member."""

    def compact(self, name: str) -> None:
        """The member takes a snapshot and drops the log before it."""

    def applied(self, name: str) -> list[str]:
        """Values in the state of a member."""

    def leaders(self) -> list[str]:
        """Members that believe to lead."""

    def term(self, name: str) -> int:
        """The term of a member."""

    def read(self, name: str) -> list[str] | None:
        """A linearizable read at a member, if it has such a thing; None: it does not answer."""

    def now_s(self) -> float:
        """The clock of all members."""


class OurGroup:
    """`RaftBench`: our rules, journal, outbox and frames."""

    def __init__(self, *names: str) -> None:
        self.bench = RaftBench(*names)
        self.acknowledged: list[str] = []
        self._open: dict[str, list[str]] = {name: [] for name in names}

    def _collect(self) -> None:
        """As the engine does: a proposer is answered when its own node applies the entry."""
        for name, values in self._open.items():
            done = [value for value in values if value.encode() in self.bench[name].applied]
            self.acknowledged += done
            self._open[name] = [value for value in values if value not in done]

    def elect(self, name: str) -> None:
        self.bench.elect(name)
        self._collect()

    def campaign(self, name: str) -> None:
        self.bench.campaign(name)

    def propose(self, name: str, value: str) -> None:
        self._open[name].append(value)
        self.bench.propose(name, value.encode())
        self._collect()

    def turn(self, name: str) -> None:
        self.bench.clock.advance(self.bench.timers.heartbeat_s)
        self.bench[name].turn()
        self._collect()

    def take(self, kind: str = "", *, sender: str = "", receiver: str = "") -> list[Letter]:
        return self.bench.take(KINDS.get(kind, kind), sender=sender, receiver=receiver)

    def deliver(self, letter: Letter) -> None:
        self.bench.deliver(letter)
        self._collect()

    def settle(self) -> None:
        self.bench.settle()
        self._collect()

    def cut(self, name: str) -> None:
        self.bench.cut(name)

    def heal(self) -> None:
        self.bench.heal()

    def crash(self, name: str) -> None:
        self._open[name] = []
        self.bench.crash(name)

    def compact(self, name: str) -> None:
        member = self.bench[name]
        index = member.raft.last_applied
        term = member.log.term_at(index)
        assert term is not None
        member.snapshot = (index, term, b"the state")
        member.log.drop_before(index)

    def applied(self, name: str) -> list[str]:
        return [payload.decode() for payload in self.bench[name].applied]

    def leaders(self) -> list[str]:
        return self.bench.leaders()

    def term(self, name: str) -> int:
        return int(self.bench[name].raft.term)

    def read(self, name: str) -> list[str] | None:
        member = self.bench[name]
        read_id = len(member.reads) + 1
        asked = member.raft.request_read(read_id)
        self.settle()
        index = member.reads.get(read_id)
        if not asked or index is None:
            return None
        assert member.raft.last_applied >= index
        return self.applied(name)

    def now_s(self) -> float:
        return self.bench.clock.monotonic_s()


MakeGroup = Callable[..., AbstractContextManager[Group]]


def our_group(*names: str) -> AbstractContextManager[OurGroup]:
    """Members under our rules; they always have a disk."""
    return nullcontext(OurGroup(*names))


STOCK: MakeGroup = stock_group
OURS: MakeGroup = our_group
