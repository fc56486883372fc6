"""Faults of the rules that the simulator has found, each as the shortest history that shows it."""

from __future__ import annotations

import pytest

from rendezvous_raft.replication.raft.guard import LEADER
from rendezvous_raft.testing.raft_bench import RaftBench


def test_a_snapshot_that_a_stream_falls_back_to_is_sent_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The leader sent its first chunk without end, and never came out of the turn."""
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    leader = bench["a"]
    with monkeypatch.context() as narrow:  # the window to one follower is full
        narrow.setattr(leader.links, "has_room", lambda node: node.id != "b")
        for number in range(5):
            bench.propose("a", b"%d" % number)
        bench.settle()
    last = leader.raft.last_index()
    leader.snapshot = (last, leader.raft.term, b"the state")
    leader.log.drop_before(last)
    leader.turn()
    (chunk,) = bench.on_the_way("snapshot", receiver="b")
    assert chunk.message["offset"] == 0
    bench.settle()
    assert bench["b"].raft.commit_index == last


def test_an_answer_to_a_later_question_deposes_no_new_leader() -> None:
    """It stood again in the next term, and took itself for the leader that it would forward to."""
    bench = RaftBench("a", "b", "c")
    bench.campaign("a")
    for letter in bench.on_the_way("pre_vote", receiver="b"):
        bench.deliver(letter)
    (answer,) = bench.take("pre_vote_reply")
    bench.deliver(answer)
    (vote,) = bench.take("vote", receiver="b")
    bench.campaign("a")  # the votes take long: it asks about the next term
    (question,) = bench.take("pre_vote", receiver="b")
    bench["b"].receive(question)
    (late,) = bench.take("pre_vote_reply", sender="b")
    bench["b"].receive(vote)
    bench.deliver(*bench.take("vote_reply", sender="b"))
    leader = bench["a"].raft
    assert (leader.role_code, leader.term) == (LEADER, 1)
    bench.deliver(late)
    assert (leader.role_code, leader.term) == (LEADER, 1)
    bench.settle()
    assert bench.leaders() == ["a"]


def test_an_answer_to_a_chunk_that_comes_twice_sends_one_chunk() -> None:
    """Each repeated answer brought another chunk, whose answer was repeated too."""
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    bench.cut("b")
    for number in range(5):
        bench.propose("a", b"%d" % number)
        bench.settle()
    last = bench["a"].raft.last_index()
    bench["a"].snapshot = (last, bench["a"].raft.term, b"the whole state")
    bench["a"].log.drop_before(last)
    bench.heal()
    while not (chunks := bench.take("snapshot", receiver="b")):
        for letter in list(bench.letters):
            bench.deliver(letter)
    bench["b"].receive(chunks[0])
    (answer,) = bench.take("snapshot_reply")
    bench["a"].receive(answer)
    bench["a"].receive(answer)
    (second,) = bench.on_the_way("snapshot", receiver="b")
    assert second.message["offset"] == 4
    bench.settle()
    assert bench["b"].raft.commit_index == last
