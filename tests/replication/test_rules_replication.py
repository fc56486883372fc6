"""Replication, message by message: what is acknowledged stays (F1, F2, F3, F18)."""

from __future__ import annotations

import pytest
from pysyncobj.node import Node

from rendezvous_raft.replication.raft.guard import NO_OP, REGULAR
from rendezvous_raft.replication.raft.progress import Mode
from rendezvous_raft.testing.raft_bench import Letter, RaftBench

A, B, C = Node("a"), Node("b"), Node("c")


@pytest.fixture
def bench() -> RaftBench:
    """Three members; `a` leads in term 1 and has committed `x0`, `x1`, `x2`."""
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    for payload in (b"x0", b"x1", b"x2"):
        bench.propose("a", payload)
    bench.settle()
    return bench


LOG = [(NO_OP, 1), (REGULAR + b"x0", 1), (REGULAR + b"x1", 1), (REGULAR + b"x2", 1)]


def append(
    sender: str, receiver: str, term: int, prev: tuple[int, int], *payloads: bytes, commit: int = 0
) -> Letter:
    entries = [[REGULAR + payload, term] for payload in payloads]
    message = {
        "type": "append",
        "term": term,
        "round": 0,
        "prev_index": prev[0],
        "prev_term": prev[1],
        "entries": entries,
        "commit": commit,
    }
    return Letter(sender, receiver, message)


def last_reply(bench: RaftBench, sender: str) -> dict[str, object]:
    return bench.on_the_way("append_reply", sender=sender)[-1].message


def test_everybody_has_and_applies_the_same(bench: RaftBench) -> None:
    for member in bench:
        assert member.entries() == LOG
        assert member.applied == [b"x0", b"x1", b"x2"]


def test_f1_a_duplicate_drops_nothing_behind_it(bench: RaftBench) -> None:
    for prev in ((1, 0), (2, 1), (3, 1)):
        bench.deliver(append("a", "b", 1, prev, *([b"x0"] if prev == (2, 1) else [])))
        assert bench["b"].entries() == LOG
        assert last_reply(bench, "b")["ok"]
    bench.settle()
    assert bench["b"].raft.commit_index == 5


def test_f1_appends_in_any_order_lose_nothing_that_was_acknowledged(bench: RaftBench) -> None:
    for payload in (b"y0", b"y1", b"y2"):
        bench.propose("a", payload)
    sent = bench.take("append", receiver="b")
    assert len(sent) == 3
    acked = 5
    for letter in (sent[2], sent[0], sent[2], sent[1], sent[0], sent[2], *sent):
        bench.deliver(letter)
        acked = max(acked, int(str(last_reply(bench, "b")["match"])))
        assert bench["b"].raft.last_index() >= acked
    assert acked == 8
    bench.settle()
    assert bench["b"].entries() == bench["a"].entries()


def test_f1_acknowledgements_never_rewind_what_is_sent(bench: RaftBench) -> None:
    raft = bench["a"].raft
    for payload in (b"y0", b"y1", b"y2"):
        bench.propose("a", payload)
    assert raft.next_index[B] == 9
    sent = bench.take("append", receiver="b")
    for letter in sent:
        bench.deliver(letter)
    for reply in reversed(bench.take("append_reply", sender="b")):
        bench.deliver(reply)
        assert raft.next_index[B] == 9
    assert raft.match_index[B] == 8
    # Nothing is sent twice on a link that loses nothing.
    assert all(not letter.message["entries"] for letter in bench.take("append", receiver="b"))


def test_f1_only_a_real_conflict_truncates(bench: RaftBench) -> None:
    bench.cut("a")
    bench.propose("a", b"ghost")
    bench.elect("b")
    bench.propose("b", b"real")
    bench.settle()
    bench.heal()
    bench.settle()
    assert [member.applied for member in bench] == [[b"x0", b"x1", b"x2", b"real"]] * 3
    assert bench["a"].entries() == [*LOG, (NO_OP, 2), (REGULAR + b"real", 2)]


def test_f1_a_leader_commits_what_a_majority_has_on_disk(bench: RaftBench) -> None:
    bench["a"].store.syncs_at_once = False
    bench.cut("c")
    bench.propose("a", b"y")
    # The entry leaves while the leader syncs it too (thesis 10.2.1).
    (letter,) = bench.take("append", receiver="b")
    bench.deliver(letter)
    bench.settle()
    assert bench["a"].raft.match_index[B] == 6
    assert bench["a"].raft.commit_index == 5
    bench["a"].store.sync()
    bench["a"].links.outbox.release()
    bench.settle()
    assert bench["a"].raft.commit_index == 6


def test_a_leader_commits_nothing_that_it_lacks_itself(bench: RaftBench) -> None:
    bench["a"].store.syncs_at_once = False
    bench.propose("a", b"y")
    bench.settle()
    raft = bench["a"].raft
    assert (raft.match_index[B], raft.match_index[C], raft.commit_index) == (6, 6, 5)
    bench["a"].store.sync()
    assert raft.advance_commit()
    assert raft.commit_index == 6


def test_a_leader_counts_itself_only_for_what_it_has_on_disk() -> None:
    bench = RaftBench("a", "b", "c", "d", "e")
    bench.elect("a")
    bench["a"].store.syncs_at_once = False
    raft = bench["a"].raft
    raft.propose(b"y")
    for peer in (B, C):
        raft.match_index[peer] = 3
    assert not raft.advance_commit()
    bench["a"].store.sync()
    assert raft.advance_commit()
    assert raft.commit_index == 3


def test_an_entry_of_an_earlier_term_is_committed_by_a_later_one_only() -> None:
    """Paper 5.4.2, figure 8."""
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    bench.propose("a", b"old")
    bench.take("append")
    bench.crash("a")
    bench.campaign("a")
    for kind in ("pre_vote", "pre_vote_reply", "vote", "vote_reply"):
        for letter in bench.on_the_way(kind):
            bench.deliver(letter)
    raft = bench["a"].raft
    assert raft.is_leader
    bench.take()
    for peer in (B, C):
        raft.match_index[peer] = 3
    assert raft.log.term_at(3) == 1
    assert not raft.advance_commit()
    for peer in (B, C):
        raft.match_index[peer] = 4
    assert raft.advance_commit()


@pytest.mark.parametrize("prev", [(0, 0), (1, 0), (4, 1)])
def test_f2_only_what_this_leader_has_verified_is_committed(
    bench: RaftBench, prev: tuple[int, int]
) -> None:
    """The tail of a deposed leader's log is not its successor's."""
    bench.cut("a")
    for payload in (b"ghost0", b"ghost1"):
        bench.propose("a", payload)
    before = bench["a"].raft.commit_index
    bench.deliver(append("b", "a", 2, prev, commit=99))
    assert bench["a"].raft.commit_index == before
    assert bench["a"].applied == [b"x0", b"x1", b"x2"]
    bench.deliver(append("b", "a", 2, (5, 1), b"real", commit=99))
    assert bench["a"].applied == [b"x0", b"x1", b"x2", b"real"]
    assert bench["a"].raft.last_index() == 6


def test_f2_an_append_that_verifies_nothing_asks_no_more_than_an_answer(bench: RaftBench) -> None:
    bench.deliver(append("a", "b", 1, (0, 0), commit=99))
    assert last_reply(bench, "b")["match"] == 0
    assert last_reply(bench, "b")["ok"]
    assert bench["b"].raft.commit_index == 5


def test_f3_an_acknowledgement_of_an_earlier_leadership_counts_for_nothing() -> None:
    bench = RaftBench("a", "b", "c", "d", "e")
    bench.elect("a")
    bench.settle()
    bench.propose("a", b"old")
    for letter in bench.take("append"):
        bench.deliver(letter)
    old_acks = bench.take("append_reply")
    assert len(old_acks) == 4
    bench.crash("a")
    bench.elect("b")
    bench.crash("b")
    bench.take()
    bench.campaign("a")
    for kind in ("pre_vote", "pre_vote_reply", "vote", "vote_reply"):
        for letter in bench.on_the_way(kind):
            bench.deliver(letter)
    raft = bench["a"].raft
    assert raft.is_leader
    bench.take()
    matches = dict(raft.match_index)
    heard = {peer: raft._progress[peer.id].heard_s for peer in raft.peers}
    bench.clock.advance(0.01)
    for ack in old_acks:
        bench.deliver(ack)
    assert raft.match_index == matches
    assert {peer: raft._progress[peer.id].heard_s for peer in raft.peers} == heard
    assert raft.commit_index < raft.noop_index


def test_f3_a_message_of_an_earlier_term_is_answered_with_the_newer_one(bench: RaftBench) -> None:
    bench.cut("a")
    bench.elect("b")
    bench.heal()
    bench.take()
    bench.deliver(append("a", "c", 1, (5, 1), b"ghost", commit=6))
    (answer,) = bench.on_the_way(sender="c", receiver="a")
    assert (answer.kind, answer.message["term"]) == ("stale", 2)
    assert bench["c"].raft.last_index() == 6
    bench.deliver(answer)
    assert not bench["a"].raft.is_leader
    assert bench["a"].raft.term == 2


def test_f8_a_leader_that_contradicts_what_is_committed_halts_its_follower(
    bench: RaftBench,
) -> None:
    bench.deliver(append("c", "b", 2, (4, 1), b"other", commit=5))
    assert bench["b"].halted == "the leader's log contradicts the committed entry 5"
    assert bench["b"].entries() == LOG


def test_f8_a_fault_while_a_message_is_handled_halts_the_member(
    bench: RaftBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it may have happened; the others go on without it."""

    def fail(payload: bytes, index: int, term: int) -> None:
        raise OSError(5, "the disk is on fire")

    monkeypatch.setattr(bench["b"].store, "append", fail)
    bench.propose("a", b"y")
    bench.settle()
    assert bench["b"].halted == "OSError: [Errno 5] the disk is on fire"
    assert bench["a"].applied == bench["c"].applied == [b"x0", b"x1", b"x2", b"y"]


def test_f18_a_tail_of_another_term_is_skipped_at_once(bench: RaftBench) -> None:
    bench.cut("a")
    for number in range(50):
        bench.propose("a", b"ghost%d" % number)
    bench.elect("b")
    for number in range(5):
        bench.propose("b", b"real%d" % number)
    bench.settle()
    bench.heal()
    refusals = 0
    while bench["a"].entries() != bench["b"].entries():
        bench["b"].turn()
        for letter in bench.take():
            refusals += letter.kind == "append_reply" and not letter.message["ok"]
            bench.deliver(letter)
    assert refusals == 1


def test_f18_a_log_that_is_too_short_says_how_short(bench: RaftBench) -> None:
    bench.cut("c")
    for number in range(50):
        bench.propose("a", b"y%d" % number)
    bench.settle()
    bench.heal()
    bench.take()
    bench.deliver(append("a", "c", 1, (55, 1), commit=55))
    reply = last_reply(bench, "c")
    assert (reply["ok"], reply["hint"]) == (False, 6)


def test_lost_appends_are_found_by_the_next_message(bench: RaftBench) -> None:
    for payload in (b"y0", b"y1"):
        bench.propose("a", payload)
    assert len(bench.take("append", receiver="b")) == 2
    assert bench["b"].raft.last_index() == 5
    bench.live(bench.timers.heartbeat_s * 2)
    assert bench["b"].entries() == bench["a"].entries()
    assert bench["b"].applied == bench["a"].applied


def test_a_refusal_that_is_an_echo_changes_nothing(bench: RaftBench) -> None:
    bench.propose("a", b"y")
    bench.settle()
    raft = bench["a"].raft
    echo = {"type": "append_reply", "term": 1, "round": 0, "prev_index": 3, "ok": False}
    bench.deliver(Letter("b", "a", {**echo, "match": 0, "hint": 2}))
    assert raft._progress["b"].mode is Mode.STREAM
    assert raft.next_index[B] == 7


def test_a_window_without_room_holds_entries_back_but_no_heartbeats(bench: RaftBench) -> None:
    bench["a"].links.full = True
    bench.propose("a", b"y")
    bench.advance(bench.timers.heartbeat_s)
    assert [letter.message["entries"] for letter in bench.on_the_way("append")] == [[], []]
    bench["a"].links.full = False
    bench.settle()
    assert bench["b"].applied[-1] == b"y"


def test_a_follower_with_a_full_disk_learns_what_is_committed(
    bench: RaftBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the entries that it cannot store: their sender takes it for told."""
    monkeypatch.setattr(bench["a"].raft, "tell_commit", lambda: None)
    bench.propose("a", b"y0")
    bench.settle()
    known = bench["b"].raft.commit_index
    bench["b"].store.read_only = "full"
    bench.propose("a", b"y1")
    bench.settle()
    assert bench["b"].raft.commit_index == known + 1
    assert bench["b"].applied[-1] == b"y0"


def test_a_follower_with_a_full_disk_acknowledges_what_it_has(bench: RaftBench) -> None:
    bench["b"].store.read_only = "full"
    for payload in (b"y0", b"y1"):
        bench.propose("a", payload)
    bench.settle()
    assert bench["b"].raft.last_index() == 5
    assert bench["a"].raft.match_index[B] == 5
    assert bench["a"].applied[-1] == b"y1"
    bench["b"].store.read_only = None
    bench.live(0.5)
    assert bench["b"].applied == bench["a"].applied
    assert bench.leaders() == ["a"]
