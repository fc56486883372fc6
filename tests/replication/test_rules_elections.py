"""Elections, message by message: votes are on disk, healthy leaders stay (F7, F9)."""

from __future__ import annotations

import itertools

import pytest
from pysyncobj.node import Node

from rendezvous_raft.replication.raft.guard import CANDIDATE, FOLLOWER
from rendezvous_raft.testing.raft_bench import Letter, RaftBench


@pytest.fixture
def bench() -> RaftBench:
    """Three members; `a` leads in term 1."""
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    return bench


def ask(
    sender: str, receiver: str, kind: str, term: int, *, last: tuple[int, int], transfer: bool
) -> Letter:
    message = {"type": kind, "term": term, "transfer": transfer, "incarnation": 0}
    return Letter(sender, receiver, {**message, "last_index": last[0], "last_term": last[1]})


def vote(
    sender: str,
    receiver: str,
    term: int,
    *,
    last: tuple[int, int] = (9, 9),
    transfer: bool = False,
) -> Letter:
    return ask(sender, receiver, "vote", term, last=last, transfer=transfer)


def pre_vote(sender: str, receiver: str, term: int, last: tuple[int, int] = (9, 9)) -> Letter:
    return ask(sender, receiver, "pre_vote", term, last=last, transfer=False)


def forget_the_leader(bench: RaftBench) -> None:
    """So much time passes for everybody but `a`, which is cut off."""
    bench.cut("a")
    bench.clock.advance(bench.timers.election_min_s + 0.01)
    bench.heal()
    bench.take()


def test_a_member_alone_leads_at_once_and_commits() -> None:
    bench = RaftBench("a")
    bench.live(1)
    assert bench.leaders() == ["a"]
    bench.propose("a", b"x")
    bench["a"].turn()
    assert bench["a"].applied == [b"x"]


def test_somebody_is_elected_when_nobody_leads() -> None:
    bench = RaftBench("a", "b", "c", seed=3)
    bench.live(5)
    assert len(bench.leaders()) == 1
    assert {member.raft.leader_name() for member in bench} == set(bench.leaders())


def test_a_healthy_leader_stays(bench: RaftBench) -> None:
    bench.live(30)
    assert bench.leaders() == ["a"]
    assert [member.raft.term for member in bench] == [1, 1, 1]


def test_f9_a_leader_whose_disk_hangs_gives_way(bench: RaftBench) -> None:
    """Its heartbeats wait for no disk, so nobody would ever ask for an election."""
    bench["a"].store.syncs_at_once = False
    bench.propose("a", b"x")
    bench.live(10)
    (leader,) = bench.leaders()
    assert leader != "a"
    bench.propose(leader, b"y")
    bench.live(1)
    assert bench[leader].applied == [b"x", b"y"]
    bench["a"].sync()
    bench["a"].store.syncs_at_once = True
    bench.live(1)
    assert bench["a"].applied == [b"x", b"y"]
    assert bench.leaders() == [leader]


def test_f9_a_leader_whose_disk_is_slow_stays(bench: RaftBench) -> None:
    bench["a"].store.syncs_at_once = False
    for number in range(40):
        bench.propose("a", bytes([number]))
        bench.live(bench.timers.election_max_s)
        bench["a"].sync()
    bench.live(5)
    assert bench.leaders() == ["a"]
    assert len(bench["a"].applied) == 40


@pytest.mark.parametrize("term_known", [True, False])
def test_f7_a_vote_leaves_when_it_is_on_disk(*, term_known: bool) -> None:
    bench = RaftBench("a", "b", "c")
    if term_known:  # and on disk: nothing but the vote has to be written
        bench.deliver(Letter("c", "b", {"type": "stale", "term": 1}))
    bench["b"].store.syncs_at_once = False
    bench.deliver(vote("a", "b", 1))
    assert bench["b"].raft.voted_for == "a"
    assert bench.on_the_way("vote_reply") == []
    bench["b"].sync()
    (reply,) = bench.on_the_way("vote_reply", sender="b")
    assert reply.message["term"] == 1


def test_f7_nobody_votes_twice_in_a_term_whenever_it_crashes() -> None:
    """Each vote that anybody ever received is remembered by every later life."""
    for synced in (True, False):
        bench = RaftBench("a", "b", "c")
        bench["b"].store.syncs_at_once = False
        bench.deliver(vote("a", "b", 1))
        if synced:
            bench["b"].sync()
        given = bench.take("vote_reply", receiver="a")
        assert len(given) == synced
        bench.crash("b")
        bench.deliver(vote("c", "b", 1))
        assert len(bench.take("vote_reply", receiver="c")) + len(given) == 1


def test_f7_the_same_candidate_may_ask_again(bench: RaftBench) -> None:
    forget_the_leader(bench)
    for _ in range(2):
        bench.deliver(vote("b", "c", 2))
    assert len(bench.take("vote_reply", receiver="b")) == 2
    bench.deliver(vote("a", "c", 2))
    assert bench.take("vote_reply", receiver="a") == []


def test_f7_a_candidate_asks_when_its_own_vote_is_on_disk() -> None:
    bench = RaftBench("a", "b", "c")
    bench["a"].store.syncs_at_once = False
    bench.campaign("a")
    bench.deliver(bench.on_the_way("pre_vote", receiver="b")[0])
    bench.deliver(bench.on_the_way("pre_vote_reply")[0])
    assert bench["a"].raft.role_code == CANDIDATE
    assert bench.on_the_way("vote") == []
    bench["a"].sync()
    assert len(bench.on_the_way("vote")) == 2


def test_f7_an_acknowledgement_leaves_when_its_entries_are_on_disk(bench: RaftBench) -> None:
    bench["b"].store.syncs_at_once = False
    bench.propose("a", b"x")
    (letter,) = bench.take("append", receiver="b")
    bench.deliver(letter)
    assert bench["b"].raft.last_index() == 3
    assert bench.on_the_way("append_reply", sender="b") == []
    bench["b"].sync()
    assert len(bench.on_the_way("append_reply", sender="b")) == 1


def test_a_candidate_with_a_shorter_log_gets_no_vote(bench: RaftBench) -> None:
    """5.4.1."""
    bench.propose("a", b"x")
    bench.settle()
    forget_the_leader(bench)
    for last in ((2, 1), (9, 0), (0, 0)):
        bench.deliver(vote("c", "b", 2, last=last))
        bench.deliver(pre_vote("c", "b", 3, last=last))
    assert bench.on_the_way(sender="b") == []
    for last in ((3, 1), (2, 2)):
        bench.deliver(pre_vote("c", "b", 3, last=last))
    bench.deliver(vote("c", "b", 2, last=(3, 1)))
    kinds = [letter.kind for letter in bench.take(sender="b")]
    assert kinds == ["pre_vote_reply", "pre_vote_reply", "vote_reply"]


def test_f9_who_is_cut_off_does_not_count_up_terms(bench: RaftBench) -> None:
    bench.cut("c")
    bench.live(10)
    assert bench["c"].raft.term == 1
    assert bench["c"].raft.leader_name() is None
    bench.heal()
    bench.live(2)
    assert bench.leaders() == ["a"]
    assert [member.raft.term for member in bench] == [1, 1, 1]


def test_f9_nobody_helps_to_depose_a_leader_that_is_heard_of(bench: RaftBench) -> None:
    bench.live(1)
    for receiver in ("a", "b"):
        bench.deliver(pre_vote("c", receiver, 2))
        bench.deliver(vote("c", receiver, 9))
    assert bench.take(sender="b") == []
    assert bench.on_the_way("vote_reply") == bench.on_the_way("pre_vote_reply") == []
    assert [member.raft.term for member in bench] == [1, 1, 1]
    assert bench.leaders() == ["a"]


def test_f9_a_pre_vote_changes_nothing_of_who_is_asked(bench: RaftBench) -> None:
    forget_the_leader(bench)
    bench.deliver(pre_vote("c", "b", 2))
    assert bench["b"].raft.term == 1
    assert bench["b"].raft.voted_for == "a"
    (reply,) = bench.take("pre_vote_reply", sender="b")
    assert reply.message["term"] == 2


def test_f9_a_pre_vote_of_an_old_question_counts_for_nothing(bench: RaftBench) -> None:
    bench.cut("a")
    bench.campaign("b")
    bench.take()
    bench.deliver(Letter("c", "b", {"type": "pre_vote_reply", "term": 3}))
    assert bench["b"].raft.role_code == FOLLOWER
    bench.deliver(Letter("c", "b", {"type": "pre_vote_reply", "term": 2}))
    assert bench["b"].raft.role_code == CANDIDATE


def test_f9_who_asks_about_a_term_that_has_begun_is_told(bench: RaftBench) -> None:
    bench.cut("c")
    bench["a"].raft._step_down(1, None)
    bench.elect("b")
    assert [member.raft.term for member in bench] == [2, 2, 1]
    bench.heal()
    bench.take()
    bench.deliver(pre_vote("c", "a", 2))
    (answer,) = bench.on_the_way(sender="a", receiver="c")
    assert answer.kind == "stale"
    bench.deliver(answer)
    assert bench["c"].raft.term == 2


def test_f9_a_leader_without_a_majority_steps_down(bench: RaftBench) -> None:
    bench.live(1)
    bench.cut("a")
    end_s = bench.clock.now_s + bench.timers.election_max_s
    while bench.clock.now_s < end_s - bench.timers.heartbeat_s:
        bench.advance(bench.timers.heartbeat_s)
        assert bench["a"].raft.is_leader
    bench.advance(3 * bench.timers.heartbeat_s)
    assert not bench["a"].raft.is_leader
    assert bench["a"].raft.leader_name() is None
    assert bench["a"].leaders[-1] is None


def test_f9_a_leader_with_a_majority_does_not_need_the_rest(bench: RaftBench) -> None:
    bench.cut("c")
    bench.live(10)
    assert bench.leaders() == ["a"]
    assert bench["a"].raft.term == 1


def test_f9_the_majority_goes_on_without_a_leader_that_is_cut_off(bench: RaftBench) -> None:
    bench.live(1)
    bench.cut("a")
    bench.live(3)
    (leader,) = bench.leaders()
    assert leader != "a"
    bench.propose(leader, b"x")
    bench.settle()
    bench.heal()
    bench.live(1)
    assert [member.applied for member in bench] == [[b"x"]] * 3
    assert bench.leaders() == [leader]


def test_a_leader_is_followed_at_once_by_a_candidate_of_its_term(bench: RaftBench) -> None:
    bench.cut("a")
    bench.campaign("b")
    bench.campaign("c")
    bench["b"].raft._stand(transfer=False)
    bench["c"].raft._stand(transfer=False)
    assert bench["b"].raft.term == bench["c"].raft.term
    bench.take()
    bench.deliver(Letter("a", "b", {"type": "vote_reply", "term": bench["b"].raft.term}))
    assert bench["b"].raft.is_leader
    bench.settle()
    assert bench["c"].raft.role_code == FOLLOWER
    assert bench["c"].raft.leader_name() == "b"


def test_a_vote_that_comes_twice_counts_once() -> None:
    bench = RaftBench("a", "b", "c", "d", "e")
    bench["a"].raft._stand(transfer=False)
    bench.take()
    reply = Letter("b", "a", {"type": "vote_reply", "term": 1})
    for _ in range(3):
        bench.deliver(reply)
    assert not bench["a"].raft.is_leader
    bench.deliver(Letter("c", "a", {"type": "vote_reply", "term": 1}))
    assert bench["a"].raft.is_leader


def test_a_new_leader_whose_disk_is_full_leads_nobody() -> None:
    bench = RaftBench("a", "b", "c")
    bench["a"].store.read_only = "full"
    bench.campaign("a")
    bench.settle()
    assert bench.leaders() == []
    bench["a"].store.read_only = None
    bench.live(5)
    assert len(bench.leaders()) == 1


def test_a_leader_hands_over_to_who_is_told_to_stand(bench: RaftBench) -> None:
    """3.10: no election time-out has to pass, although all hear of a leader."""
    bench.live(1)
    bench["a"].raft.tell_to_stand(Node("b"))
    bench.settle()
    assert bench.leaders() == ["b"]
    assert [member.raft.leader_name() for member in bench] == ["b"] * 3
    assert bench["b"].raft.term == 2


def test_a_leader_whose_disk_is_full_gives_way(bench: RaftBench) -> None:
    bench["a"].store.read_only = "full"
    bench.live(bench.timers.election_max_s)
    (successor,) = bench.leaders()
    assert (successor == "a", bench[successor].raft.term) == (False, 2)
    bench.propose(successor, b"z")
    bench.settle()
    assert [bench[name].applied[-1:] == [b"z"] for name in "abc"] == [False, True, True]


def test_it_tells_one_at_a_time_that_has_all_of_its_log_and_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = RaftBench("a", "b", "c", "d", "e")
    bench.elect("a")
    bench.cut("e")
    told = tell(monkeypatch, bench)
    bench["a"].store.read_only = "full"
    bench.live(20 * bench.timers.election_max_s)
    assert 9 <= len(told) <= 11
    assert set(told) == {"b", "c", "d"}


@pytest.mark.parametrize("fault", ["is behind", "is silent", "does not vote"])
def test_it_leads_on_where_the_others_could_commit_nothing(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would answer linearizable reads any more."""
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    if fault == "is behind":
        bench["c"].store.read_only = "full"
    bench.propose("a", b"y")
    bench.settle()
    if fault == "is silent":
        bench.cut("c")
        bench.live(2 * bench.timers.election_max_s)
    elif fault == "does not vote":
        bench["a"].raft.voters = (Node("b"),)
    told = tell(monkeypatch, bench)
    bench["a"].store.read_only = "full"
    bench.live(10 * bench.timers.election_max_s)
    assert (told, bench.leaders()) == ([], ["a"])


def test_it_leads_on_while_it_is_told_whom_to_hand_over_to(
    bench: RaftBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tell(monkeypatch, bench)
    bench["a"].raft.successor = Node("b")
    bench["a"].store.read_only = "full"
    bench.live(10 * bench.timers.election_max_s)
    assert told == []


def tell(monkeypatch: pytest.MonkeyPatch, bench: RaftBench) -> list[str]:
    """Whom the first would tell to stand; nobody is."""
    told: list[str] = []
    monkeypatch.setattr(bench["a"].raft, "tell_to_stand", lambda node: told.append(str(node.id)))
    return told


@pytest.mark.parametrize("fault", ["knows it", "has no other segment"])
def test_who_has_no_room_does_not_stand(bench: RaftBench, fault: str) -> None:
    if fault == "knows it":
        bench["b"].store.read_only = "full"
    else:
        bench["b"].store.room = False
    bench["a"].raft.tell_to_stand(Node("b"))
    bench.settle()
    assert (bench.leaders(), bench["b"].raft.term) == (["a"], 1)


def test_only_the_leader_can_tell_to_stand(bench: RaftBench) -> None:
    for sender, term in (("c", 1), ("a", 0)):
        bench.deliver(Letter(sender, "b", {"type": "timeout_now", "term": term}))
    assert bench["b"].raft.role_code == FOLLOWER
    assert bench["b"].raft.term == 1


@pytest.mark.parametrize("seed", range(4))
def test_there_is_never_more_than_one_leader_of_a_term(seed: int) -> None:
    bench = RaftBench("a", "b", "c", "d", "e", seed=seed)
    leaders: dict[int, str] = {}
    for name in itertools.islice(itertools.cycle(bench.names), 12):
        bench.cut(name)
        bench.live(1)
        bench.heal()
        bench.live(1)
        for member in bench:
            if member.raft.is_leader:
                assert leaders.setdefault(member.raft.term, member.name) == member.name
    assert len(leaders) > 2
