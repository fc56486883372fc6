"""Whole histories from one seed: a network and disks that do their worst, and what must hold."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from rendezvous_raft.replication.raft.guard import REGULAR
from rendezvous_raft.testing.raft_bench import BenchMember, RaftBench

STEPS = 500
WEIGHTS = {
    "deliver": 60,
    "time": 12,
    "propose": 12,
    "sync": 12,
    "double": 3,
    "lose": 2,
    "slow": 2,
    "heal": 5,
    "cut": 3,
    "crash": 2,
    "full": 1,
}
"""How often something happens, against the others."""


class History:
    """Drives a bench by chance, and looks after each step at what must hold."""

    def __init__(self, seed: int, members: int) -> None:
        self.chance = random.Random(seed)
        self.bench = RaftBench(*"abcdefg"[:members], seed=seed)
        self.proposed = 0
        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[str, int], str] = {}
        self.committed: list[bytes] = []
        """The longest sequence that anybody has ever applied."""
        self.done: Counter[str] = Counter()

    def step(self) -> None:
        (kind,) = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        getattr(self, f"_{kind}")()
        self.done[kind] += 1
        self.check()

    def _member(self) -> BenchMember:
        return self.bench[self.chance.choice(self.bench.names)]

    def _deliver(self) -> None:
        # Links keep their order (TCP); which link is next is chance.
        if self.bench.letters:
            chosen = self.chance.choice(self.bench.letters)
            link = self.bench.on_the_way(sender=chosen.sender, receiver=chosen.receiver)
            for letter in link[: self.chance.randint(1, 6)]:
                self.bench.deliver(letter)

    def _double(self) -> None:
        if self.bench.letters:
            letter = self.chance.choice(self.bench.letters)
            self.bench[letter.receiver].receive(letter)

    def _lose(self) -> None:
        if self.bench.letters:
            self.bench.letters.remove(self.chance.choice(self.bench.letters))

    def _time(self) -> None:
        self.bench.advance(self.chance.choice((0.01, 0.02, 0.05, 0.1)))

    def _propose(self) -> None:
        leaders = self.bench.leaders()
        if leaders and self.bench[leader := self.chance.choice(leaders)].store.read_only is None:
            self.proposed += 1
            self.bench.propose(leader, b"p%d" % self.proposed)

    def _sync(self) -> None:
        self._member().sync()

    def _slow(self) -> None:
        member = self._member()
        member.store.syncs_at_once = not member.store.syncs_at_once
        if member.store.syncs_at_once:
            member.sync()

    def _cut(self) -> None:
        self.bench.cut(self._member().name)

    def _heal(self) -> None:
        self.bench.heal()

    def _crash(self) -> None:
        self.bench.crash(self._member().name)

    def _full(self) -> None:
        store = self._member().store
        store.read_only = None if store.read_only or self.chance.random() < 0.5 else "full"

    def check(self) -> None:
        for member in self.bench:
            raft = member.raft
            assert member.halted is None
            if raft.is_leader:
                assert self.leaders.setdefault(raft.term, member.name) == member.name
            if raft.voted_for is not None and member.store.position == member.store.synced:
                given = self.votes.setdefault((member.name, raft.term), raft.voted_for)
                assert given == raft.voted_for, f"{member.name} voted twice in {raft.term}"
            if len(member.applied) > len(self.committed):
                self.committed += member.applied[len(self.committed) :]
            assert member.applied == self.committed[: len(member.applied)]
            # What is committed is in the log of every leader that is younger (leader completeness).
        for a, b in zip(self.bench, list(self.bench)[1:], strict=False):
            shared = min(a.raft.last_index(), b.raft.last_index())
            terms = [(a.log.term_at(i), b.log.term_at(i)) for i in range(1, shared + 1)]
            matching = max((i for i, (x, y) in enumerate(terms) if x == y), default=-1)
            assert a.log[: matching + 1] == b.log[: matching + 1], "log matching"

    def heal_all(self) -> None:
        self.bench.heal()
        for member in self.bench:
            member.store.read_only = None
            member.store.syncs_at_once = True
            member.sync()
        self.bench.live(5)


@pytest.mark.parametrize("number", range(24))
def test_what_is_committed_stays_and_all_agree(number: int, seed: int) -> None:
    history = History(seed + number, members=(3, 5)[number % 2])
    for _ in range(STEPS):
        history.step()
    history.heal_all()
    history.check()
    bench = history.bench
    (leader,) = bench.leaders()
    bench.propose(leader, b"last")
    bench.settle()
    for member in bench:
        assert member.applied == [*history.committed, b"last"]
        assert [payload for payload, _ in member.entries() if payload[:1] == REGULAR] == [
            REGULAR + payload for payload in member.applied
        ]
    assert max(Counter(history.committed).values(), default=1) == 1
    assert history.done["deliver"] > STEPS / 5


def test_the_histories_are_eventful(seed: int) -> None:
    """A history in which nothing happens would prove nothing."""
    proposed = committed = terms = 0
    for number in range(16):
        history = History(seed + number, members=3)
        for _ in range(STEPS):
            history.step()
        proposed += history.proposed
        committed += len(history.committed)
        terms += len(history.leaders)
    assert proposed > 60
    assert committed > 30
    assert terms > 8


def test_a_history_can_be_made_again(seed: int) -> None:
    ends = []
    for _ in range(2):
        history = History(seed, members=3)
        for _ in range(STEPS):
            history.step()
        state = [(m.raft.term, m.raft.voted_for, m.log[:]) for m in history.bench]
        ends.append((state, history.bench.letters, history.bench.clock.now_s))
    assert ends[0] == ends[1]
