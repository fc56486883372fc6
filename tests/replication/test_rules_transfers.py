"""A follower is sent one snapshot to its end, and what follows it (paper, section 7)."""

from __future__ import annotations

import pytest
from pysyncobj.node import Node

from rendezvous_raft.replication.raft.leading import ADVANCE_PATIENCE_S
from rendezvous_raft.replication.raft.progress import Mode
from rendezvous_raft.testing.raft_bench import Letter, RaftBench

B = Node("b")


@pytest.fixture
def bench() -> RaftBench:
    """`a` leads; `b` lacks what the log of `a` no longer has, and begins to get a snapshot."""
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    bench.cut("b")
    goes_on(bench)
    bench.heal()
    bench.advance(bench.timers.heartbeat_s)
    until_chunk(bench)
    return bench


def goes_on(bench: RaftBench) -> None:
    """The leader commits, with `c`, takes a snapshot, and drops what nobody needs before it."""
    for number in range(3):
        bench.propose("a", b"%d" % number)
        for letter in bench.take("append", receiver="c"):
            bench.deliver(letter)
        for letter in bench.take("append_reply", sender="c"):
            bench.deliver(letter)
    leader = bench["a"]
    index = leader.raft.last_applied
    leader.snapshot = (index, 1, bytes(4 * 20))
    leader.log.drop_before(min(index, leader.raft.lacking_after()))


def until_chunk(bench: RaftBench) -> None:
    """Until the next chunk is on its way."""
    while not bench.on_the_way("snapshot"):
        for letter in bench.take():
            bench.deliver(letter)


def test_newer_snapshots_do_not_restart_a_transfer(bench: RaftBench) -> None:
    (first,) = bench.on_the_way("snapshot")
    offsets = []
    while bench["b"].log.base_index == 1:
        until_chunk(bench)
        (chunk,) = bench.take("snapshot")
        assert chunk.message["index"] == first.message["index"]
        offsets.append(chunk.message["offset"])
        bench.deliver(chunk)
        goes_on(bench)
    assert offsets == [4 * number for number in range(20)]
    sent = bench["a"].raft
    bench.settle()
    bench.live(1)
    # The log after it was still there: no second snapshot was needed.
    assert bench["b"].log.base_index == first.message["index"]
    assert sent.match_index[B] == sent.last_index()
    assert (sent.snapshots_being_sent(), sent.lacking_after()) == ([], sent.last_index())


def test_a_transfer_goes_on_behind_a_broken_connection(bench: RaftBench) -> None:
    for _ in range(3):
        until_chunk(bench)
        (chunk,) = bench.take("snapshot")
        bench.deliver(chunk)
    goes_on(bench)
    bench.cut("b")
    bench.heal()
    until_chunk(bench)
    (again,) = bench.on_the_way("snapshot")
    assert (again.message["index"], again.message["offset"]) == (chunk.message["index"], 8)


def test_what_is_sent_is_kept_until_it_is_installed_or_gets_no_further(bench: RaftBench) -> None:
    leader = bench["a"].raft
    (snapshot,) = leader.snapshots_being_sent()
    assert leader.lacking_after() == snapshot.index
    goes_on(bench)
    assert bench["a"].log.base_index == snapshot.index
    bench.cut("b")
    bench.live(ADVANCE_PATIENCE_S - 1)
    assert leader.snapshots_being_sent() == [snapshot]
    bench.live(2)
    assert leader.snapshots_being_sent() == []
    assert leader.lacking_after() == leader.last_index()


def test_who_leads_no_more_keeps_nothing_for_followers(bench: RaftBench) -> None:
    assert bench["a"].raft.snapshots_being_sent()
    bench.take()
    bench.elect("c")
    assert bench["a"].raft.snapshots_being_sent() == []


def test_a_follower_that_has_nothing_of_it_gets_the_newest(bench: RaftBench) -> None:
    (chunk,) = bench.take("snapshot")
    bench.deliver(chunk)
    until_chunk(bench)
    bench.take()
    goes_on(bench)
    newest = bench["a"].raft.last_applied
    reply = {"type": "snapshot_reply", "term": 1, "round": 0, "offset": 0, "installed": 0}
    bench.deliver(Letter("b", "a", reply))
    (chunk,) = bench.on_the_way("snapshot")
    assert (chunk.message["index"], chunk.message["offset"]) == (newest, 0)


def test_one_that_is_not_kept_any_more_gives_way_to_the_newest(
    bench: RaftBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on(bench)
    leader, newest = bench["a"], bench["a"].raft.last_applied
    send = leader.snapshot_chunk
    monkeypatch.setattr(
        leader, "snapshot_chunk", lambda file, at: send(file, at) if file.index == newest else None
    )
    (chunk,) = bench.take("snapshot")
    bench.deliver(chunk)
    until_chunk(bench)
    (chunk,) = bench.on_the_way("snapshot")
    assert (chunk.message["index"], chunk.message["offset"]) == (newest, 0)
    assert leader.raft._progress["b"].mode is Mode.SNAPSHOT
