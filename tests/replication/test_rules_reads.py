"""Read indexes, message by message (F10); forwarding (F15); hints; snapshots."""

from __future__ import annotations

import pytest
from pysyncobj.node import Node

from rendezvous_raft.replication.raft.leading import PROBE_PATIENCE_HEARTBEATS
from rendezvous_raft.replication.raft.progress import Mode
from rendezvous_raft.testing.raft_bench import Letter, RaftBench

B, C = Node("b"), Node("c")


@pytest.fixture
def bench() -> RaftBench:
    """Three members; `a` leads in term 1 and has committed `x`."""
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    bench.propose("a", b"x")
    bench.settle()
    return bench


def test_f10_a_majority_confirms_a_read_of_the_leader(bench: RaftBench) -> None:
    assert bench["a"].raft.request_read(7)
    bench["a"].turn()
    assert bench["a"].reads == {}
    (letter,) = bench.take("append", receiver="b")
    bench.take()
    bench.deliver(letter)
    (reply,) = bench.take("append_reply")
    bench.deliver(reply)
    assert bench["a"].reads == {7: 3}


def test_f10_a_follower_reads_through_the_leader(bench: RaftBench) -> None:
    assert bench["b"].raft.request_read(7)
    assert bench["b"].reads == {}
    bench.settle()
    assert bench["b"].reads == {7: 3}
    assert bench["a"].reads == {}


def test_f10_a_member_alone_confirms_itself() -> None:
    bench = RaftBench("a")
    bench.live(1)
    assert bench["a"].raft.request_read(1)
    bench["a"].turn()
    assert bench["a"].reads == {1: 2}


def test_f10_all_reads_of_a_turn_share_a_round(bench: RaftBench) -> None:
    for read_id in range(5):
        assert bench["a"].raft.request_read(read_id)
    bench["a"].turn()
    assert len(bench.on_the_way("append")) == 2
    bench.settle()
    assert bench["a"].reads == dict.fromkeys(range(5), 3)


def test_f10_an_isolated_leader_confirms_nothing(bench: RaftBench) -> None:
    bench.cut("a")
    assert bench["a"].raft.request_read(1)
    bench.elect("b")
    bench.propose("b", b"y")
    bench.settle()
    for _ in range(20):
        bench.advance(bench.timers.heartbeat_s)
        if bench["a"].raft.is_leader:
            bench["a"].raft.request_read(2)
    assert not bench["a"].raft.is_leader
    assert set(bench["a"].reads) == {1, 2}
    assert set(bench["a"].reads.values()) == {None}
    assert not bench["a"].raft.request_read(3)


def test_f10_an_answer_to_an_earlier_round_confirms_nothing(bench: RaftBench) -> None:
    """Who followed before the call may follow somebody else by now."""
    bench["a"].raft._start_round()
    before = bench.take("append")
    for letter in before:
        bench.deliver(letter)
    replies = bench.take("append_reply")
    assert len(replies) == 2
    assert bench["a"].raft.request_read(1)
    for reply in replies:
        bench["a"].raft.receive(Node(reply.sender), reply.message)
    assert bench["a"].reads == {}
    bench.settle()
    assert bench["a"].reads == {1: 3}


def test_f10_a_read_during_a_round_waits_for_the_next(bench: RaftBench) -> None:
    assert bench["a"].raft.request_read(1)
    bench["a"].turn()
    first = bench.take("append")
    assert bench["a"].raft.request_read(2)
    bench["a"].turn()
    for letter in first:
        bench.deliver(letter)
    for reply in bench.take("append_reply"):
        bench.deliver(reply)
    assert bench["a"].reads == {1: 3}
    bench.settle()
    assert bench["a"].reads == {1: 3, 2: 3}


def test_f10_a_new_leader_answers_once_an_entry_of_its_term_is_committed(
    bench: RaftBench,
) -> None:
    """Before that it does not know what its predecessor has committed."""
    bench.cut("a")
    bench.campaign("b")
    for kind in ("pre_vote", "pre_vote_reply", "vote", "vote_reply"):
        for letter in bench.on_the_way(kind):
            bench.deliver(letter)
    assert bench["b"].raft.is_leader
    assert not bench["b"].raft.request_read(1)
    bench.deliver(Letter("c", "b", {"type": "read", "term": 2, "read_id": 4}))
    (refusal,) = bench.take("read_reply")
    assert refusal.message["index"] == 0
    bench.settle()
    assert bench["b"].raft.request_read(2)
    bench.settle()
    assert bench["b"].reads == {2: 4}


def test_f10_who_does_not_lead_refuses(bench: RaftBench) -> None:
    bench.deliver(Letter("b", "c", {"type": "read", "term": 1, "read_id": 4}))
    (refusal,) = bench.on_the_way("read_reply")
    bench.deliver(refusal)
    assert bench["b"].reads == {4: None}


def test_f10_without_a_leader_nobody_can_be_asked(bench: RaftBench) -> None:
    bench.cut("b")
    assert not bench["b"].raft.request_read(1)
    bench.live(2)
    assert bench["b"].raft.leader_name() is None
    assert not bench["b"].raft.request_read(2)


def test_f10_a_read_of_an_earlier_life_answers_no_later_one(bench: RaftBench) -> None:
    """Read ids begin anew with each life of a node, so an old answer must not reach it."""
    bench["b"].raft.request_read(1)
    for letter in bench.take("read"):
        bench.deliver(letter)
    bench.crash("b")
    bench.propose("a", b"y")
    bench.settle()
    assert bench["b"].reads == {}


def test_f15_a_follower_forwards_to_the_leader(bench: RaftBench) -> None:
    assert bench["b"].raft.forward(b"o", 1, b"y")
    bench.settle()
    assert [member.applied for member in bench] == [[b"x", b"y"]] * 3
    assert bench["b"].refused == []


def test_f15_what_cannot_be_sent_is_not_taken(bench: RaftBench) -> None:
    bench["b"].links.full = True
    assert not bench["b"].raft.forward(b"o", 1, b"y")
    bench["b"].links.full = False
    bench.cut("b")
    assert not bench["b"].raft.forward(b"o", 1, b"y")
    bench.live(2)
    assert not bench["b"].raft.forward(b"o", 1, b"y")
    assert bench.letters == []


def test_f15_who_does_not_lead_refuses_definitely(bench: RaftBench) -> None:
    forward = {"type": "forward", "term": 1, "origin": b"o", "sequence": 5, "payload": b"y"}
    bench.deliver(Letter("b", "c", forward))
    bench.settle()
    assert bench["b"].refused == [5]
    assert all(member.raft.last_index() == 3 for member in bench)


def test_f15_a_leader_that_stepped_down_refuses(bench: RaftBench) -> None:
    assert bench["b"].raft.forward(b"o", 5, b"y")
    (letter,) = bench.take("forward")
    bench["a"].raft._step_down(1, None)
    bench.deliver(letter)
    bench.settle()
    assert bench["b"].refused == [5]


def test_f15_a_leader_whose_disk_is_full_refuses(bench: RaftBench) -> None:
    bench["a"].store.read_only = "full"
    assert bench["b"].raft.forward(b"o", 5, b"y")
    bench.settle()
    assert bench["b"].refused == [5]
    assert bench["a"].raft.last_index() == 3


def test_f15_a_leader_that_hands_over_refuses(bench: RaftBench) -> None:
    bench["a"].raft.successor = B
    assert bench["b"].raft.forward(b"o", 5, b"y")
    bench.settle()
    assert bench["b"].refused == [5]
    assert bench["a"].raft.last_index() == 3


def test_hints_of_parked_requests_reach_the_leader(bench: RaftBench) -> None:
    # semantics: 5.2
    bench["b"].raft.report_parked(["r1", "r2"])
    bench.settle()
    assert bench["a"].parked == {"b": ("r1", "r2")}
    bench.cut("b")
    bench["b"].raft.report_parked(["r4"])
    assert bench.letters == []


def with_a_snapshot(bench: RaftBench) -> None:
    """While `b` is away, the leader goes on and drops the log that `b` lacks."""
    bench.cut("b")
    for number in range(5):
        bench.propose("a", b"y%d" % number)
    bench.settle()
    leader = bench["a"]
    index = leader.raft.last_applied
    leader.snapshot = (index, 1, b"0123456789")
    leader.log.drop_before(index - 1)
    bench.propose("a", b"z")
    bench.settle()


def test_a_follower_far_behind_gets_a_snapshot_and_what_follows_it(bench: RaftBench) -> None:
    with_a_snapshot(bench)
    bench.heal()
    bench.live(1)
    assert bench["b"].log.base_index == 8
    assert bench["b"].applied == [b"x", b"z"]
    assert bench["a"].raft._progress["b"].mode is Mode.STREAM
    assert bench["a"].raft.match_index[B] == 9
    assert bench.leaders() == ["a"]


def test_a_chunk_that_got_lost_is_sent_again(bench: RaftBench) -> None:
    with_a_snapshot(bench)
    bench.heal()
    bench.advance(bench.timers.heartbeat_s)
    while not bench.on_the_way("snapshot"):
        for letter in bench.take():
            bench.deliver(letter)
    assert len(bench.take("snapshot")) == 1
    bench.settle()
    assert bench["b"].log.base_index == 1
    bench.live(PROBE_PATIENCE_HEARTBEATS * bench.timers.heartbeat_s * 2)
    assert bench["b"].applied == [b"x", b"z"]


def test_a_follower_that_gets_chunks_holds_no_election(bench: RaftBench) -> None:
    with_a_snapshot(bench)
    bench.heal()
    bench["a"].snapshot = (8, 1, bytes(4 * 100))
    bench.live(3)
    assert [member.raft.term for member in bench] == [1, 1, 1]
    assert bench["b"].applied == [b"x", b"z"]


def test_a_snapshot_of_what_is_committed_changes_nothing(bench: RaftBench) -> None:
    chunk = {"index": 3, "snapshot_term": 1, "offset": 0, "size": 3, "data": b"abc"}
    bench.deliver(Letter("a", "b", {"type": "snapshot", "term": 1, **chunk}))
    (reply,) = bench.on_the_way("snapshot_reply")
    assert reply.message["installed"] == 3
    assert bench["b"].log.base_index == 1
    bench.settle()
    assert bench["a"].raft.next_index[B] == 4


def test_while_a_snapshot_is_put_in_force_nothing_is_appended(bench: RaftBench) -> None:
    bench["b"].raft.installing = True
    bench.propose("a", b"y")
    bench.settle()
    assert bench["b"].raft.last_index() == 3
    assert bench["a"].applied == [b"x", b"y"]
    bench["b"].raft.installing = False
    bench.live(0.5)
    assert bench["b"].applied == [b"x", b"y"]


def test_while_a_snapshot_is_put_in_force_nobody_stands_with_the_old_log(
    bench: RaftBench,
) -> None:
    bench["b"].raft.installing = True
    bench.cut("b")
    bench.live(3)
    assert bench.on_the_way("pre_vote") == []
    assert bench["b"].raft.leader_name() == "a"
    bench["b"].raft.installing = False
    bench.live(1)
    assert bench["b"].raft.leader_name() is None


def test_an_overlap_with_the_base_of_the_log_is_skipped(bench: RaftBench) -> None:
    bench["b"].log.drop_before(3)
    message = {
        "type": "append",
        "term": 1,
        "round": 0,
        "prev_index": 1,
        "prev_term": 0,
        "entries": [[b"\x01", 1], [b"\x00x", 1], [b"\x00y", 1]],
        "commit": 4,
    }
    bench.deliver(Letter("a", "b", message))
    assert bench["b"].entries() == [(b"\x00y", 1)]
    assert bench["b"].applied == [b"x", b"y"]
    short = {**message, "entries": message["entries"][:1]}  # type: ignore[index]
    bench.deliver(Letter("a", "b", short))
    reply = bench.on_the_way("append_reply")[-1].message
    assert (reply["ok"], reply["match"]) == (True, 2)
    assert bench["b"].raft.last_index() == 4
