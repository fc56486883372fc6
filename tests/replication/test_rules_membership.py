"""Changing the members of a group, on the bench: one at a time, and no forgotten promise counts.

F11: stock PySyncObj lets an isolated leader accept one change after the other.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from bench_members import add, agreed, agreed_among, named_directories, newcomer, standing

from rendezvous_raft import errors
from rendezvous_raft.membership import AddMember, Membership
from rendezvous_raft.replication.codec import COMMAND_VERSION
from rendezvous_raft.replication.raft.links import Node
from rendezvous_raft.replication.raft.membership_change import change_members, changed
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.replication.raft.storage import DiskFull, StorageError
from rendezvous_raft.testing.raft_bench import RaftBench
from rendezvous_raft.testing.virtual_time import advance, in_virtual_time, settle
from rendezvous_raft.types import Standing


@pytest.fixture
def bench() -> RaftBench:
    """Three voters whose directories are known; `a` leads."""
    return named_directories("a", "b", "c")


def test_the_leader_writes_down_whose_directory_speaks_for_whom(bench: RaftBench) -> None:
    assert {m.name: m.incarnation for m in agreed(bench).members} == {"a": 1, "b": 2, "c": 3}
    assert agreed(bench).voters() == ("a", "b", "c")


def test_a_newcomer_catches_up_before_it_votes(bench: RaftBench) -> None:
    for number in range(500):
        bench.propose("a", b"%d" % number)
    bench.settle()
    add(bench, "d")
    assert agreed(bench).voters() == ("a", "b", "c")
    bench.begin_anew("d", Birth(44, founding=False))
    assert not bench["d"].raft.is_voter
    bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c", "d")
    assert bench["d"].applied == bench["a"].applied
    assert bench["a"].raft.quorum == 3


def test_one_that_is_far_behind_waits_for_its_vote(bench: RaftBench) -> None:
    """What it was sent last took longer than an election time-out to arrive."""
    add(bench, "d")
    bench.begin_anew("d", Birth(44, founding=False))
    for _ in range(20):
        bench.propose("a", b"x")
        held = bench.take("append_reply", sender="d")
        bench.advance(bench.timers.election_min_s)
        held += bench.take("append_reply", sender="d")
        bench.propose("a", b"y")
        for letter in held:
            bench["a"].receive(letter)
        for letter in [x for x in bench.letters if "d" not in (x.sender, x.receiver)]:
            bench.deliver(letter)
    assert standing(bench, "a", "d") is Standing.JOINING


def test_a_non_voter_stays_one_and_counts_for_nothing(bench: RaftBench) -> None:
    add(bench, "d", Standing.NON_VOTER)
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(3)
    assert standing(bench, "d", "d") is Standing.NON_VOTER
    bench.cut("b")
    bench.cut("c")
    bench["a"].raft.propose(b"alone with d")
    bench.settle()
    assert bench["a"].applied == []
    bench.live(3)
    assert bench.leaders() == []
    assert bench["d"].raft.term == bench["a"].raft.term, "it never stands"


def test_a_non_voter_that_is_added_as_a_voter_becomes_one(bench: RaftBench) -> None:
    add(bench, "d", Standing.NON_VOTER)
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(3)
    leader = bench["a"].raft
    assert changed(leader, AddMember(newcomer("d", Standing.NON_VOTER))) is None
    membership = changed(leader, AddMember(newcomer("d")))
    assert membership is not None
    leader.propose_membership(membership)
    bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c", "d")
    assert changed(leader, AddMember(newcomer("d"))) is None


def test_a_voter_does_not_lose_its_vote_by_being_added(bench: RaftBench) -> None:
    leader = bench["a"].raft
    known = leader.membership.find("b")
    assert known is not None
    with pytest.raises(errors.AlreadyExists, match="remove it first"):
        changed(leader, AddMember(replace(known, standing=Standing.NON_VOTER)))


@pytest.mark.parametrize(
    ("fault", "answer"), [(DiskFull, errors.ReadOnly), (StorageError, errors.OutcomeUnknown)]
)
async def test_a_disk_that_takes_no_change_says_whether_it_happened(
    bench: RaftBench,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[StorageError],
    answer: type[errors.RendezvousError],
) -> None:
    def refuse(*_entry: object) -> None:
        raise fault("Input/output error")

    monkeypatch.setattr(bench["a"].store, "append", refuse)
    with pytest.raises(answer, match="Input/output error"):
        await change_members(bench["a"].raft, AddMember(newcomer("d")), deadline_s=10.0)
    assert standing(bench, "a", "d") is None


class Ordered:
    """A change ordered of `a`, which is cut off and appends it at index 4 of term 1."""

    def __init__(self, bench: RaftBench) -> None:
        bench.cut("a")
        self.bench, self.raft = bench, bench["a"].raft
        deadline_s = bench.clock.now_s + 30.0
        call = change_members(self.raft, AddMember(newcomer("d")), deadline_s=deadline_s)
        self._task = asyncio.get_running_loop().create_task(call)

    async def appended(self) -> None:
        await settle()
        assert (self.raft.last_index(), self.raft.term, self.raft.commit_index) == (4, 1, 3)

    def overwritten(self) -> None:
        """Another leader commits entries 4 and 5, and `a` learns of all that in one message."""
        self.bench.elect("b")
        self.bench.propose("b", b"x")
        self.bench.settle()
        self.bench.heal()
        self.bench.settle()
        assert self.raft.commit_index == 5

    async def answer(self) -> errors.RendezvousError | None:
        await advance(1.0)
        assert self._task.done()
        error = self._task.exception()
        assert error is None or isinstance(error, errors.RendezvousError)
        return error


@in_virtual_time
async def test_a_change_that_was_overwritten_is_not_reported_as_made() -> None:
    # semantics: G6
    bench = named_directories("a", "b", "c")
    order = Ordered(bench)
    await order.appended()
    order.overwritten()
    error = await order.answer()
    assert standing(bench, "a", "d") is None
    assert isinstance(error, errors.Unavailable)
    assert "nothing was changed" in str(error)
    assert error.leader == "b"


@in_virtual_time
async def test_of_a_change_that_the_log_no_longer_shows_nothing_is_claimed() -> None:
    # semantics: G6
    bench = named_directories("a", "b", "c")
    order = Ordered(bench)
    await order.appended()
    order.overwritten()
    bench["a"].log.drop_before(5)
    assert isinstance(await order.answer(), errors.OutcomeUnknown)


@in_virtual_time
async def test_a_leader_that_steps_down_within_its_term_does_not_know_of_its_change() -> None:
    # semantics: G6, G6.1
    bench = named_directories("a", "b", "c")
    order = Ordered(bench)
    await order.appended()
    bench.advance(bench.timers.election_max_s * 2)
    assert (bench["a"].raft.is_leader, bench["a"].raft.term) == (False, 1)
    error = await order.answer()
    assert isinstance(error, errors.OutcomeUnknown)
    bench.take()  # the others want to elect one of them
    # It happens after all, for the one that leads next has it.
    bench.heal()
    bench.elect("a")
    assert standing(bench, "b", "d") is Standing.JOINING


@in_virtual_time
async def test_a_change_behind_which_the_log_begins_was_made_if_its_leader_still_leads() -> None:
    bench = named_directories("a", "b", "c")
    order = Ordered(bench)
    await order.appended()
    bench.heal()
    bench.settle()
    bench.propose("a", b"x")
    bench.settle()
    bench["a"].log.drop_before(5)
    assert bench["a"].raft.log.term_at(4) is None
    assert await order.answer() is None
    assert standing(bench, "b", "d") is Standing.JOINING


def test_one_change_at_a_time(bench: RaftBench) -> None:
    """F11."""
    bench.cut("a")
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.with_member(newcomer("d")))
    with pytest.raises(ValueError, match="not committed yet"):
        leader.propose_membership(leader.membership.with_member(newcomer("e")))


def test_no_change_before_the_leader_committed_in_its_term(bench: RaftBench) -> None:
    bench.cut("a")
    bench.campaign("b")
    for letter in bench.take():
        if letter.kind in ("pre_vote", "vote", "pre_vote_reply", "vote_reply"):
            bench.deliver(letter)
    while not bench["b"].raft.is_leader:
        for letter in bench.take():
            bench.deliver(letter)
    with pytest.raises(ValueError, match="has not committed anything"):
        bench["b"].raft.propose_membership(Membership(()))


def test_a_change_that_is_overwritten_is_taken_back(bench: RaftBench) -> None:
    bench.cut("a")
    before = bench["b"].raft.membership
    leader = bench["a"].raft
    leader.propose_membership(before.without("c"))
    assert leader.membership.voters() == ("a", "b")
    bench.live(2)
    assert not bench["a"].raft.is_leader
    bench.elect("b")
    bench.heal()
    bench.live(1)
    assert agreed(bench) == before
    assert bench["a"].raft.quorum == 2


def test_a_change_counts_from_where_it_stands_in_the_log(bench: RaftBench) -> None:
    """4.1: the new majority decides about the change itself."""
    add(bench, "d", Standing.NON_VOTER)
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(0.5)
    leader = bench["a"].raft
    bench.cut("c")
    bench.cut("d")
    member = replace(newcomer("d", Standing.VOTER), incarnation=44)
    index = leader.propose_membership(leader.membership.with_member(member))
    bench.settle()
    assert leader.commit_index < index, "a and b are two of four"
    bench.heal_between("a", "d")
    bench.settle()
    assert leader.commit_index == index


def test_one_that_is_removed_neither_votes_nor_disturbs(bench: RaftBench) -> None:
    bench.propose("a", b"x")
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("c"))
    bench.settle()
    term = leader.term
    bench.live(5)
    assert bench["a"].raft.is_leader
    assert bench["a"].raft.term == term
    assert bench["a"].raft.membership.voters() == ("a", "b")


def test_one_that_is_removed_while_away_is_told(bench: RaftBench) -> None:
    bench.cut("c")
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("c"))
    bench.live(1)
    bench.heal()
    bench.live(3)
    assert bench["c"].told_not_member
    assert bench["a"].raft.is_leader


def test_one_that_nobody_added_is_told(bench: RaftBench) -> None:
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(3)
    assert bench["d"].told_not_member
    assert agreed_among(bench, "a", "b", "c").voters() == ("a", "b", "c")


def test_one_that_was_removed_can_be_added_again_with_its_files(bench: RaftBench) -> None:
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("c"))
    bench.live(1)
    bench.propose("a", b"x")
    bench.settle()
    assert bench["c"].applied == []
    add(bench, "c")
    bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c")
    assert bench["c"].applied == [b"x"]


def test_one_that_cannot_be_heard_counts_with_the_oldest_version_of_commands(
    bench: RaftBench,
) -> None:
    """It may come back as an older program, which would halt on newer commands."""
    leader = bench["a"].raft
    assert leader.command_version() == COMMAND_VERSION
    leader.peer_lost(Node("c"))
    assert leader.command_version() == 1
    leader.greeted(Node("c"), bench["c"].raft.birth, COMMAND_VERSION)
    assert leader.command_version() == COMMAND_VERSION


def test_nothing_is_kept_of_strangers_that_are_gone(bench: RaftBench) -> None:
    leader = bench["a"].raft
    for number in range(50):
        leader.greeted(Node(f"g{number}"), Birth(number + 100, founding=False))
        leader.peer_lost(Node(f"g{number}"))
    leader.peer_lost(Node("b"))
    assert sorted(leader._greeted) == ["b", "c"]
    assert sorted(leader._command_versions) == ["c"]


def test_nothing_is_kept_of_members_that_are_gone(bench: RaftBench) -> None:
    add(bench, "d")
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(3)
    assert "d" in bench["a"].raft._greeted
    bench.cut("d")
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("d"))
    bench.settle()
    for name in ("a", "b", "c"):
        assert "d" not in bench[name].raft._greeted
        assert "d" not in bench[name].raft._command_versions
