"""The durable outbox: nothing leaves before what it says is on disk."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysyncobj.node import Node

from rendezvous_raft.replication.raft.outbox import MESSAGES_HELD_MAX, Outbox

PEER, OTHER = Node("b"), Node("c")


class Log:
    """How far a log is written and synced; the rest of it does not matter here."""

    def __init__(self) -> None:
        self.position = self.term_position = self.synced = self.term = 0


class Bench:
    def __init__(self) -> None:
        self.log = Log()
        self.delivered: list[tuple[str, Any, int]] = []
        self.outbox = Outbox(self.log, self.deliver)

    def deliver(self, node: Node, message: dict[str, Any]) -> None:
        self.delivered.append((str(node.id), message["type"], self.log.synced))

    def send(self, kind: object, node: Node = PEER) -> None:
        self.outbox.send(node, {"type": kind, "term": self.log.term})

    def sync(self, position: int) -> None:
        self.log.synced = position
        self.outbox.release()


def test_what_is_on_disk_leaves_at_once() -> None:
    bench = Bench()
    bench.send("a")
    assert bench.delivered == [("b", "a", 0)]


def test_what_is_not_on_disk_waits_for_its_sync() -> None:
    bench = Bench()
    bench.log.position = 2
    bench.send("a")
    bench.sync(1)
    assert bench.delivered == []
    bench.sync(2)
    assert bench.delivered == [("b", "a", 2)]


def test_order_is_kept_also_behind_what_waits() -> None:
    bench = Bench()
    for position, (kind, node) in enumerate([("a", PEER), ("b", OTHER), ("c", PEER)], start=1):
        bench.log.position = position
        bench.send(kind, node)
    bench.sync(2)
    assert bench.delivered == [("b", "a", 2), ("c", "b", 2)]
    bench.send("d")
    bench.sync(3)
    assert [kind for _, kind, _ in bench.delivered] == ["a", "b", "c", "d"]


def test_what_waits_is_bounded_and_the_rest_is_lost_as_in_a_network() -> None:
    bench = Bench()
    bench.log.position = 1
    for number in range(MESSAGES_HELD_MAX + 3):
        bench.send(number)
    assert bench.outbox.dropped == 3
    bench.sync(1)
    assert [kind for _, kind, _ in bench.delivered] == list(range(MESSAGES_HELD_MAX))


def test_entries_leave_while_they_are_synced_but_not_before_their_term() -> None:
    bench = Bench()
    bench.log.position = bench.log.term_position = 1
    bench.send("append")
    bench.log.position = 2
    bench.send("append_reply")
    assert bench.delivered == []
    bench.sync(1)
    bench.send("append", OTHER)
    assert bench.delivered == [("b", "append", 1), ("c", "append", 1)]
    bench.sync(2)
    assert bench.delivered[2:] == [("b", "append_reply", 2)]


def test_what_is_held_when_a_later_term_begins_never_leaves() -> None:
    """What it acknowledges may have been replaced before the sync ended."""
    bench = Bench()
    bench.log.position = 1
    bench.send("append_reply")
    bench.log.position = bench.log.term_position = 2
    bench.log.term = 1
    bench.send("append_reply", OTHER)
    bench.send("append", OTHER)
    bench.sync(2)
    assert bench.delivered == [("c", "append", 2), ("c", "append_reply", 2)]


@pytest.mark.parametrize(
    "kind", ["append_reply", "snapshot_reply", "vote", "vote_reply", "pre_vote", "whatever comes"]
)
def test_what_speaks_of_the_log_waits_for_all_of_it(kind: str) -> None:
    bench = Bench()
    bench.log.position, bench.log.term_position, bench.log.synced = 2, 1, 1
    bench.send(kind)
    assert bench.delivered == []
    bench.sync(2)
    assert bench.delivered == [("b", kind, 2)]


@given(st.lists(st.sampled_from(["write", "send", "sync some", "sync all"]), max_size=60))
def test_nothing_leaves_early_and_everything_leaves_in_order(steps: list[str]) -> None:
    bench = Bench()
    made_at: list[int] = []
    for step in steps:
        if step == "write":
            bench.log.position += 1
        elif step == "send":
            bench.send(len(made_at))
            made_at.append(bench.log.position)
        else:
            some = (bench.log.synced + bench.log.position + 1) // 2
            bench.sync(some if step == "sync some" else bench.log.position)
    bench.sync(bench.log.position)
    assert [kind for _, kind, _ in bench.delivered] == list(range(len(made_at)))
    assert all(synced >= made_at[kind] for _, kind, synced in bench.delivered)
