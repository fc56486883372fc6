"""Snapshots: exact at every point of a history, and refused when damaged."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import msgpack
import pytest
from history_strategies import histories, replay
from hypothesis import assume, given
from hypothesis import strategies as st

from rendezvous_raft.core import snapshot
from rendezvous_raft.core.commands import Command
from rendezvous_raft.core.invariants import check_basic
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.snapshot import Row, SnapshotError, digest


def through_bytes(machine: StateMachine) -> list[Row]:
    """The rows as they come back from a file."""
    unpacker = msgpack.Unpacker()
    for row in snapshot.rows(machine.state):
        unpacker.feed(msgpack.packb(row))
    return list(unpacker)


def queues_of(machine: StateMachine) -> dict[tuple[str, str], list[str]]:
    """What subscribers are listed, in order."""
    return {key: list(queue) for key, queue in machine.state.queues.items()}


@given(histories(max_size=14))
def test_a_snapshot_and_the_rest_of_the_log_are_the_whole_log(history: list[Command]) -> None:
    whole = StateMachine()
    answers = [whole.apply(command) for command in history]
    for taken in range(len(history) + 1):
        source = replay(history[:taken])
        machine = snapshot.load(through_bytes(source))
        assert machine.revision == source.revision == taken
        assert machine.state.time_ms == source.state.time_ms
        assert digest(machine.state) == digest(source.state)
        assert check_basic(machine.state) == []
        assert queues_of(machine) == queues_of(source)
        assert [machine.apply(command) for command in history[taken:]] == answers[taken:]
        assert machine.revision == whole.revision
        assert machine.state.time_ms == whole.state.time_ms
        assert digest(machine.state) == digest(whole.state)


@given(histories(), histories(max_size=8))
def test_a_snapshot_shares_nothing_with_its_source(
    history: list[Command], rest: list[Command]
) -> None:
    # Rows are values: written to a file later, or loaded without one, while the source goes on.
    source = replay(history)
    taken = list(snapshot.rows(source.state))
    kept = copy.deepcopy(taken)
    machine = snapshot.load(taken)
    for command in rest:
        machine.apply(command)
    assert list(snapshot.rows(source.state)) == kept
    for command in rest:
        source.apply(command)
    assert taken == kept
    assert digest(source.state) == digest(machine.state)


@given(histories(), histories(), st.data())
def test_a_capture_is_the_state_at_its_moment_while_the_machine_goes_on(
    history: list[Command], rest: list[Command], choices: st.DataObject
) -> None:
    machine = replay(history)
    expected = list(snapshot.rows(machine.state))
    capture = snapshot.Capture(machine)
    taking, taken = capture.rows(), []
    for command in rest:
        machine.apply(command)
        taken += list(itertools.islice(taking, choices.draw(st.integers(0, 2))))
    taken += list(taking)
    capture.close()
    assert taken == expected
    assert digest(machine.state) == digest(replay(history + rest).state)


leaves: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4)
)
plain_values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=6)


def places_in(value: object, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Paths to everything inside nested lists."""
    places = [path] if path else []
    if isinstance(value, list):
        for i, inner in enumerate(value):
            places += places_in(inner, (*path, i))
    return places


@st.composite
def damages(draw: st.DrawFn, rows: list[Any]) -> list[Any]:
    """The rows with one thing wrong."""
    rows = copy.deepcopy(rows)
    i = draw(st.integers(0, len(rows) - 1))
    j = draw(st.integers(0, len(rows) - 1))
    match draw(st.sampled_from(["drop", "cut", "repeat", "swap", "replace", "change", "resize"])):
        case "drop":
            del rows[i]
        case "cut":
            del rows[i:]
        case "repeat":
            rows.insert(j, rows[i])
        case "swap":
            rows[i], rows[j] = rows[j], rows[i]
        case "replace":
            rows[i] = draw(plain_values)
        case "change":
            *path, last = draw(st.sampled_from(places_in(rows)))
            inner: Any = rows
            for step in path:
                inner = inner[step]
            inner[last] = draw(plain_values)
        case "resize":
            rows[i] = draw(st.sampled_from([rows[i][:-1], rows[i][:1], [*rows[i], None], []]))
    return rows


@given(histories(), st.data())
def test_a_damaged_snapshot_is_refused_and_nothing_else_happens(
    history: list[Command], choices: st.DataObject
) -> None:
    rows = through_bytes(replay(history))
    damaged = choices.draw(damages(rows))
    assume(repr(damaged) != repr(rows))
    with pytest.raises(SnapshotError):
        snapshot.load(damaged)


@given(st.lists(plain_values, max_size=4))
def test_what_was_never_a_snapshot_is_refused(rows: list[Any]) -> None:
    with pytest.raises(SnapshotError):
        snapshot.load(rows)


@given(histories())
def test_two_replicas_have_one_digest(history: list[Command]) -> None:
    one, other = replay(history), replay(history)
    assert list(snapshot.rows(one.state)) == list(snapshot.rows(other.state))
    assert digest(one.state) == digest(other.state)
