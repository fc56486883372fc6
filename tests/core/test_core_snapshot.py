"""Snapshots: what they hold, and each way in which one is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from core_builders import Log, branch, scope

from rendezvous_raft.core import snapshot
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Nothing, RequestRegistered
from rendezvous_raft.core.snapshot import Capture, Digest, Row, SnapshotError, digest, load, rows
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import BranchId, CommandId, LeaseId, Region, RequestId, Service


@pytest.fixture
def log() -> Log:
    """A log that leaves something of every kind behind."""
    log = Log()
    log.add(branch("gone", "eu"), request_id="r0")
    log.pulse(3)
    log.expire()
    log.register("r1")
    log.add(
        branch("p", "eu", "us", service="a", locator=b"\x00k"),
        branch("c", service="b", parent="p", zone="z", tag="t", monitored=False),
        branch("n", regionless=True),
        branch("closed", "eu"),
    )
    log.close("p", "us")
    log.close("closed", "eu")
    log.register("r2")
    log.begin_wait("w1", scope(zone=""))
    log.begin_wait("w2", scope("a", "b", region="eu", waiter="c", dependencies=True))
    log.join("m1", tags=("a", "b"), ttl_ms=50)
    log.join("m2", region="us", node="n2")
    log.activate(2)
    log.pulse(4)
    return log


def test_everything_comes_back(log: Log) -> None:
    # semantics: 5.3
    machine = load(rows(log.machine.state))
    before, after = log.machine.state, machine.state
    for name in ("revision", "time_ms", "version", "request_sequence", "branch_sequence"):
        assert getattr(after, name) == getattr(before, name)
    assert after.results == before.results
    assert after.expired_branches == before.expired_branches
    assert after.open_by_region == before.open_by_region
    assert {key: list(queue) for key, queue in after.queues.items()} == {
        key: list(queue) for key, queue in before.queues.items()
    }
    assert after.leases[LeaseId("w1")].scope == scope(zone="")
    assert after.leases[LeaseId("w2")].scope == before.leases[LeaseId("w2")].scope
    assert after.leases[LeaseId("w2")].expires_ms == 103
    assert [(m.key, m.tags, m.node, m.expires_ms) for m in after.members.values()] == [
        (("post", "eu", "g"), ("a", "b"), "n1", 53),
        (("post", "us", "g"), (), "n2", 103),
    ]
    assert {key: list(group) for key, group in after.groups.items()} == {
        ("post", "eu", "g"): ["m1"],
        ("post", "us", "g"): ["m2"],
    }
    assert after.branches[BranchId("p")].closed_at_ms == [None, 1_000]
    assert after.requests[RequestId("r1")].dependants == {"a": {"b": None}}
    assert list(after.requests[RequestId("r1")].open_branches) == ["p", "c", "n"]
    assert digest(after) == digest(before)


def test_every_kind_of_row_is_there_and_plain(log: Log) -> None:
    taken = list(rows(log.machine.state))
    kinds = [str(row[0]) for row in taken]
    assert kinds[0] == "head"
    assert kinds[-1] == "end"
    wanted = {"counters", "request", "settled", "open", "lease", "member", "tombstone", "result"}
    assert {*kinds} == wanted | {"head", "end"}
    assert [msgpack.unpackb(msgpack.packb(row)) for row in taken] == taken


def test_long_orders_are_cut_into_short_rows() -> None:
    log = Log()
    for number in range(snapshot.ORDER_ROW_LENGTH + 1):
        log.machine.state.settled_order[RequestId(f"x{number}")] = None
    cut: list[Any] = [row[1] for row in rows(log.machine.state) if row[0] == "settled"]
    assert [len(ids) for ids in cut] == [snapshot.ORDER_ROW_LENGTH, 1]


def test_queues_are_in_registration_order_across_requests_again() -> None:
    # semantics: U1
    log = Log()
    log.add(branch("b1", "eu"), branch("g1"), request_id="r1")
    log.add(branch("b2", "eu"), branch("g2"), request_id="r2")
    log.add(branch("b3", "eu"), branch("g3"), request_id="r1")
    expected = ["b1", "g1", "b2", "g2", "b3", "g3"]
    assert log.listed("post", "eu") == expected
    log.machine = load(rows(log.machine.state))
    assert log.listed("post", "eu") == expected
    assert list(log.machine.state.queues[Service("post"), Region("eu")]) == ["b1", "b2", "b3"]


def test_a_snapshot_of_nothing() -> None:
    machine = load(rows(StateMachine().state))
    assert machine.revision == 0
    assert digest(machine.state) == digest(StateMachine().state)


def test_the_limits_are_the_loader_s(log: Log) -> None:
    limits = StateLimits(leases_max=7)
    assert load(rows(log.machine.state), limits).limits is limits
    assert load(rows(log.machine.state)).limits == StateLimits()


def test_the_digest_sees_every_fact(log: Log) -> None:
    seen = {log.digest}
    for step in (
        lambda: log.register("r3"),
        lambda: log.add(branch("x", "eu"), request_id="r3"),
        lambda: log.close("x", "eu"),
        lambda: log.begin_wait("w3", scope(zone="z")),
        lambda: log.end_wait("w3"),
        lambda: log.join("m3"),
        lambda: log.renew("m3", ttl_ms=200),
        lambda: log.leave("m3"),
        lambda: log.activate(9),
        lambda: log.expire("r1", "r2"),
    ):
        step()
        seen.add(log.digest)
    # The ends of the wait and of the membership lead back to where they began.
    assert len(seen) == 9


def test_the_digest_leaves_revision_and_time_out(log: Log) -> None:
    before = log.digest
    log.barrier()
    log.pulse(1)
    assert log.digest == before


def test_text_of_every_language_has_one_digest_on_every_python() -> None:
    # Pinned: what `repr` shows of young characters differs between versions of Python.
    log = Log()
    log.add(branch("b1", "\U0002ebf0", service="ü"))
    assert log.digest == "2ca47ad33345a16701a51782ff0ca7efd5d2f85521f00b876e289e125e02e0ae"


def reframed(taken: list[Row]) -> list[Row]:
    """The rows with an end that fits them, as a faulty writer would write."""
    hasher = hashlib.sha256()
    for row in taken[:-1]:
        hasher.update(ascii(row).encode())
    return [*taken[:-1], ["end", len(taken), hasher.hexdigest()]]


def changed(index: int, row: object) -> Callable[[list[Row]], list[Row]]:
    return lambda taken: [*taken[:index], row, *taken[index + 1 :]]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda taken: [], "the end is missing"),
        (lambda taken: taken[:-1], "the end is missing"),
        (lambda taken: taken[1:], "row 1 is 'counters'"),
        (lambda taken: [taken[0], *taken], "row 2 is 'head'"),
        (lambda taken: [*taken, taken[-1]], "rows after the end"),
        (lambda taken: [taken[-1]], "row 1 is 'end'"),
        (lambda taken: [*taken[:2], *taken[3:]], "the digest does not match"),
        (changed(0, ["head", 2, 0, 0]), "format version 2 is not known"),
        (changed(0, ["head", 1, 0]), "cannot be read"),
        (changed(0, ["head"]), "cannot be read"),
        (changed(0, ["head", 1, 999, 7]), "the digest does not match"),
        (changed(1, []), "is not a row"),
        (changed(1, None), "is not a row"),
        (changed(1, 5), "is not a row"),
        (changed(1, "counters"), "is not a row"),
        (changed(1, {0: "counters"}), "is not a row"),
        (changed(1, ["counters", 1]), "cannot be read"),
        (changed(1, ["settled"]), "cannot be read"),
        (changed(1, ["settled", 5]), "cannot be read"),
        (changed(1, ["settled", [[]]]), "cannot be read"),
        (changed(1, ["request", 1, 2]), "cannot be read"),
        (changed(1, ["tombstone", "r", 1, None]), "cannot be read"),
        (changed(1, ["lease", "w", "r", "n", [5], 1]), "cannot be read"),
        (changed(1, ["member", "m", [], "eu", "g", [], "n", 1]), "cannot be read"),
        (changed(1, ["member", "m", "s", "eu", "g"]), "cannot be read"),
        (changed(1, ["result", b"c", ["unheard of"]]), "result .* is not known"),
        (changed(1, ["result", b"c", ["closes", ["unheard of"]]]), "cannot be read"),
        (changed(1, ["unheard of"]), "is not known"),
    ],
)
def test_damage_is_refused(
    log: Log, damage: Callable[[list[Row]], list[Row]], message: str
) -> None:
    with pytest.raises(SnapshotError, match=message):
        load(damage(list(rows(log.machine.state))))


def test_an_unknown_version_is_refused_though_its_digest_fits(log: Log) -> None:
    taken = list(rows(log.machine.state))
    assert load(reframed(taken)).revision == log.machine.revision
    taken[0] = ["head", 2, *taken[0][2:]]
    with pytest.raises(SnapshotError, match="format version 2 is not known"):
        load(reframed(taken))


def test_a_capture_is_not_changed_by_what_comes_after(log: Log) -> None:
    expected = list(rows(log.machine.state))
    capture = Capture(log.machine)
    log.add(branch("late", "eu", parent="p"))
    log.close("p", "eu")
    log.close("c")
    log.expire()
    log.add(branch("new"), request_id="r9")
    log.close("new")
    log.end_wait("w1")
    log.leave("m1")
    log.join("m3")
    log.pulse(1_000)
    assert list(capture.rows()) == expected
    capture.close()
    assert list(rows(log.machine.state)) != expected


def test_a_capture_knows_a_request_from_a_later_one_of_its_id(log: Log) -> None:
    expected = list(rows(log.machine.state))
    capture = Capture(log.machine)
    log.expire(tombstone_ttl_ms=0)
    log.add(branch("p", "ap"))
    log.close("p", "ap")
    assert list(capture.rows()) == expected


def test_captures_know_nothing_of_each_other(log: Log) -> None:
    expected = list(rows(log.machine.state))
    first = Capture(log.machine)
    log.close("p", "eu")
    second_expected = list(rows(log.machine.state))
    second = Capture(log.machine)
    log.close("c")
    assert list(first.rows()) == expected
    first.close()
    first.close()
    log.expire()
    assert list(second.rows()) == second_expected
    second.close()
    assert log.machine.watchers == []


def test_the_digest_of_a_capture_is_that_of_its_state(log: Log) -> None:
    expected, revision = digest(log.machine.state), log.machine.revision
    capture, made = Capture(log.machine), Digest()
    log.close("p", "eu")
    for row in capture.content():
        made.add(row)
    assert (capture.revision, made.in_hexadecimal()) == (revision, expected)
    assert digest(log.machine.state) != expected


def test_a_closed_capture_is_shown_nothing_more(log: Log) -> None:
    capture = Capture(log.machine)
    capture.close()
    log.close("p", "eu")
    assert list(capture.rows()) != list(rows(replayed(log, len(log.commands) - 1).state))


def replayed(log: Log, count: int) -> StateMachine:
    """A machine that has applied the first commands of a log."""
    machine = StateMachine()
    for command in log.commands[:count]:
        machine.apply(command)
    return machine


def test_an_answer_that_is_never_remembered_cannot_be_written(log: Log) -> None:
    log.machine.state.results[CommandId(b"c")] = Nothing()
    with pytest.raises(TypeError, match="Nothing is never remembered"):
        digest(log.machine.state)
    log.machine.state.results[CommandId(b"c")] = RequestRegistered(RequestId("r"), created=True)
    digest(log.machine.state)
