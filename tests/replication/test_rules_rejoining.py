"""Directories that were lost, and nodes that come back, on the bench (DESIGN.md, Rejoining).

No promise that was forgotten may count (F11), and nobody may be left outside.
"""

from __future__ import annotations

import pytest
from bench_members import add, agreed, agreed_among, named_directories, standing

from rendezvous_raft import errors
from rendezvous_raft.membership import RemoveMember
from rendezvous_raft.replication.raft.handover import choose_successor
from rendezvous_raft.replication.raft.links import Node
from rendezvous_raft.replication.raft.membership_change import changed
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.testing.raft_bench import Letter, RaftBench
from rendezvous_raft.types import NodeName, Standing


@pytest.fixture
def bench() -> RaftBench:
    """Three voters whose directories are known; `a` leads."""
    return named_directories("a", "b", "c")


def test_who_lost_its_files_comes_back_without_a_vote_and_gets_it_again(bench: RaftBench) -> None:
    bench.propose("a", b"x")
    bench.settle()
    bench.begin_anew("c", Birth(33, founding=False))
    assert not bench["c"].raft.is_voter
    bench["c"].raft.tick()
    seen: list[Standing | None] = []
    for _ in range(60):
        bench.advance(bench.timers.heartbeat_s)
        for letter in list(bench.letters):
            bench.deliver(letter)
            seen.append(standing(bench, "a", "c"))
    assert Standing.JOINING in seen
    bench.live(1)
    member = agreed(bench).find("c")
    assert member is not None
    assert (member.standing, member.incarnation) == (Standing.VOTER, 33)
    assert bench["c"].applied == [b"x"]
    assert bench["c"].raft.is_voter


def test_a_forgotten_acknowledgement_is_not_lost(bench: RaftBench) -> None:
    """An entry is committed on a and c only; c forgets it; b and c must not elect b without it."""
    bench.cut("b")
    bench.propose("a", b"acknowledged")
    bench.settle()
    assert bench["a"].applied == [b"acknowledged"]
    bench.cut("a")
    bench.heal_between("b", "c")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.live(10)
    assert bench.leaders() == []
    bench.heal()
    bench.live(3)
    assert bench.leaders() == ["a"]
    for member in bench:
        assert member.applied == [b"acknowledged"]


def test_a_forgotten_vote_is_not_given_twice(bench: RaftBench) -> None:
    """C votes for b and forgets it; the same term comes to ask again for another."""
    request = {"type": "vote", "last_index": 99, "last_term": 99, "transfer": True}
    request["incarnation"] = 3
    term = bench["c"].raft.term + 1
    bench.deliver(Letter("b", "c", {**request, "term": term}))
    assert bench.take("vote_reply", sender="c")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.deliver(Letter("a", "c", {**request, "term": term}))
    assert bench.take("vote_reply", sender="c") == []


def test_it_votes_again_once_its_return_is_committed(bench: RaftBench) -> None:
    """It may have caught up, and know of no vote yet, when the leader that promoted it dies."""
    bench.begin_anew("c", Birth(33, founding=False))
    bench.live(3)
    bench.cut("a")
    bench.live(3)
    assert len(bench.leaders()) == 1
    assert bench.leaders() != ["a"]


def test_one_whose_admission_was_overwritten_asks_again() -> None:
    """Its log names it, the leader's does not, and that log cannot reach it before it is let in."""
    bench = named_directories("a", "b", "c", "d", "e")
    bench.cut("a")
    bench.begin_anew("c", Birth(33, founding=False))
    for other in ("b", "d", "e"):
        bench.cut_between("c", other)
    bench.heal_between("a", "c")
    bench.settle()
    bench.clock.advance(bench.timers.election_min_s + 0.01)
    bench.settle()
    own = bench["c"].raft.membership.find("c")
    assert own is not None
    assert own.incarnation == 33
    bench.cut("a")
    bench.elect("b")
    bench.propose("b", b"x")
    bench.settle()
    bench.heal()
    bench.live(3)
    assert bench.leaders() == ["b"]
    assert agreed(bench).voters() == ("a", "b", "c", "d", "e")
    assert bench["c"].applied == [b"x"]


def test_one_that_was_removed_can_be_added_again_though_its_log_names_it(bench: RaftBench) -> None:
    add(bench, "d")
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(3)
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("d"))
    bench.settle()
    named = bench["d"].raft.membership.find("d")
    assert named is not None
    assert named.incarnation == 44
    add(bench, "d")
    bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c", "d")


def test_one_that_knows_none_of_the_members_asks_who_leads(bench: RaftBench) -> None:
    """Since it was founded, its cluster has got other members, and they reach it."""
    for number, name in enumerate(("d", "e", "f"), start=41):
        add(bench, name)
        bench.begin_anew(name, Birth(number, founding=False))
        bench.live(3)
    bench.elect("d")
    for name in ("a", "b"):
        leader = bench["d"].raft
        leader.propose_membership(leader.membership.without(name))
        bench.live(1)
        bench.cut(name)
    bench.begin_anew("c", Birth(33, founding=False))
    assert [str(peer.id) for peer in bench["c"].raft.peers] == ["a", "b"]
    bench.live(3)
    assert agreed_among(bench, "c", "d", "e", "f").voters() == ("c", "d", "e", "f")


def test_those_who_came_back_vote_after_a_restart_of_all(bench: RaftBench) -> None:
    """Nobody leads, so nobody can tell them what is committed."""
    for number, name in enumerate(("b", "c"), start=1):
        bench.begin_anew(name, Birth(30 + number, founding=False))
        bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c")
    for name in bench.names:
        bench.crash(name)
    bench.cut("a")
    bench.live(3)
    assert len(bench.leaders()) == 1


def test_one_that_was_let_in_votes_though_its_log_does_not_tell_yet(bench: RaftBench) -> None:
    """It votes, as the others know; of three, another directory is lost, and all restart."""
    bench.begin_anew("c", Birth(33, founding=False))
    bench.propose("a", b"x")
    while standing(bench, "a", "c") is Standing.VOTER:
        bench.advance(0.01)
        bench.deliver(bench.letters[0])
    while standing(bench, "a", "c") is Standing.JOINING:
        bench.advance(0.01)
        bench.deliver(bench.letters[0])
    bench.cut("c")
    bench.settle()
    assert bench["a"].raft.commit_index == bench["a"].log.membership_index
    assert standing(bench, "c", "c") is Standing.JOINING
    bench.begin_anew("b", Birth(32, founding=False))
    for name in ("a", "c"):
        bench.crash(name)
    bench.heal()
    bench.live(5)
    assert agreed(bench).voters() == ("a", "b", "c")


def test_a_directory_that_was_emptied_by_hand_stops(bench: RaftBench) -> None:
    """Its configuration says that it is a voter, and it has forgotten what it promised."""
    bench.begin_anew("c", Birth(33, founding=True))
    bench.live(1)
    assert "rejoin" in (bench["c"].halted or "")
    assert bench["a"].raft.is_leader
    member = bench["a"].raft.membership.find("c")
    assert member is not None
    assert member.incarnation == 3


def test_votes_of_an_emptied_directory_do_not_count(bench: RaftBench) -> None:
    bench.begin_anew("c", Birth(33, founding=True))
    bench.cut("a")
    bench.campaign("b")
    bench.settle()
    assert bench.leaders() != ["b"]


def test_one_that_rejoins_starts_with_nothing_known_of_its_log(bench: RaftBench) -> None:
    """What its earlier directory had acknowledged must not be taken for what this one has."""
    for number in range(10):
        bench.propose("a", b"%d" % number)
    bench.settle()
    bench.begin_anew("c", Birth(33, founding=False))
    bench["a"].raft._asked_in["c"] = (33, float("-inf"))
    bench["a"].raft._progress["c"].heard_s = float("-inf")
    bench["a"].turn()
    assert bench["a"].raft.match_index[Node("c")] == 0
    bench.live(3)
    assert bench["c"].applied == bench["a"].applied


def test_one_that_was_away_meanwhile_follows_who_came_back() -> None:
    """Its membership still names the lost directory of the one that leads now."""
    bench = named_directories("a", "b", "c", "d", "e")
    bench.cut("e")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.live(3)
    bench.elect("c")
    bench.propose("c", b"x")
    bench.settle()
    bench.heal()
    bench.live(3)
    assert bench.leaders() == ["c"]
    assert bench["e"].applied == [b"x"]


def test_one_that_was_away_meanwhile_votes_for_who_came_back() -> None:
    """Of five, two are down, and only one has everything: the one that came back."""
    bench = named_directories("a", "b", "c", "d", "e")
    bench.cut("e")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.live(3)
    bench.cut("b")
    bench.propose("a", b"x")
    bench.settle()
    bench.cut("a")
    bench.cut("d")
    for name in ("b", "e"):
        bench.heal_between("c", name)
        bench["c"].raft.peer_connected(Node(name))
    bench.heal_between("b", "e")
    bench.live(5)
    assert bench.leaders() == ["c"]


def test_one_that_came_back_counts_for_nothing_before_it_is_let_in() -> None:
    """Nor where no directory was ever named for it: it may have voted in a later term."""
    bench = RaftBench("a", "b", "c")
    for number, name in enumerate(("a", "b"), start=1):
        bench.begin_anew(name, Birth(number, founding=True))
    bench.cut("c")
    bench.elect("a")
    bench.live(0.2)
    known = bench["a"].raft.membership.find("c")
    assert known is not None
    assert known.incarnation == 0
    bench.cut("b")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.heal_between("a", "c")
    bench.propose("a", b"x")
    for _ in range(10):
        bench.take("join")
        for letter in list(bench.letters):
            bench.deliver(letter)
    assert bench["a"].applied == []
    bench.heal()
    bench.live(3)
    assert bench["c"].applied == bench["a"].applied == [b"x"]
    assert agreed(bench).voters() == ("a", "b", "c")


def test_none_is_removed_while_another_is_coming_back(bench: RaftBench) -> None:
    """The one that is coming back can be reached, and cannot agree to anything yet."""
    bench.cut("b")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.heal_between("a", "c")
    with pytest.raises(errors.Unavailable, match="only 1 of 2 voters"):
        changed(bench["a"].raft, RemoveMember(NodeName("b")))


def test_leadership_is_handed_to_a_voter(bench: RaftBench) -> None:
    """Of those whose logs are complete the last by name would be the non-voter."""
    add(bench, "d", Standing.NON_VOTER)
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(1)
    assert str(choose_successor(bench["a"].raft, None).id) == "c"
    with pytest.raises(errors.InvalidArgument, match="does not vote"):
        choose_successor(bench["a"].raft, NodeName("d"))


def test_a_request_to_join_finds_the_leader(bench: RaftBench) -> None:
    add(bench, "d")
    bench.begin_anew("d", Birth(44, founding=False))
    bench.cut_between("a", "d")
    bench.live(3)
    member = bench["a"].raft.membership.find("d")
    assert member is not None
    assert member.incarnation == 44
