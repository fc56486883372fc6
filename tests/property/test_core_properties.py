"""Laws of the state machine that hold for every history."""

from __future__ import annotations

import dataclasses

from history_strategies import (
    BRANCH_IDS,
    REQUEST_IDS,
    Table,
    begin_waits,
    closings,
    commands,
    essence,
    histories,
    is_remembered,
    replay,
    scopes,
    tables,
    with_command_id,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import (
    Command,
    Pulse,
    RegisterBranches,
    RegisterRequest,
    Scope,
)
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import (
    BranchesRegistered,
    LeaseChanged,
    Rejected,
    RequestRegistered,
    RequestsExpired,
)
from rendezvous_raft.core.snapshot import digest
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.testing.naive_model import EVERYWHERE, NaiveModel
from rendezvous_raft.types import BranchId, CommandId, Region, Revision, Status

BLANK = CommandId(b"")
LATE = 1_000
"""Number of a command that is proposed after a whole history."""


@given(histories())
def test_a_closed_region_never_opens_again(history: list[Command]) -> None:
    # semantics: W4, U2. A branch is told from a later one of its id by its registration.
    machine = StateMachine()
    closed: set[tuple[BranchId, Revision, Region]] = set()
    for command in history:
        machine.apply(command)
        listed = {
            (branch.branch_id, branch.revision, region)
            for (_, region), queue in machine.state.queues.items()
            for branch in queue.values()
        }
        for branch in machine.state.branches.values():
            for region in branch.regions or (EVERYWHERE,):
                place = (branch.branch_id, branch.revision, region)
                if branch.is_open_in(region) or (region == EVERYWHERE and branch.open_mask):
                    assert place not in closed
                else:
                    closed.add(place)
        assert not listed & closed


@given(histories(), st.data())
def test_a_command_applied_twice_changes_nothing_the_second_time(
    history: list[Command], choices: st.DataObject
) -> None:
    # semantics: G2
    table = choices.draw(tables)
    machine = replay(history)
    command = with_command_id(choices.draw(commands(table)), LATE)
    first = machine.apply(command)
    assume(not isinstance(command, Pulse) or command.elapsed_ms == 0)
    assume(not (isinstance(first.result, RequestsExpired) and first.result.more))
    before = digest(machine.state)
    second = machine.apply(command)
    assert digest(machine.state) == before
    assert second.events == ()
    assert second.revision == first.revision + 1
    if is_remembered(first.result):
        assert second.result == first.result
    if isinstance(first.result, Rejected):
        assert second.result == first.result
    if isinstance(first.result, LeaseChanged):
        assert isinstance(second.result, LeaseChanged)


@given(histories(), st.data())
def test_a_late_retry_of_a_write_gets_the_first_answer_and_changes_nothing(
    history: list[Command], choices: st.DataObject
) -> None:
    # semantics: G2. However much has happened since, expiry included.
    machine = StateMachine()
    answers = [(command, machine.apply(command).result) for command in history]
    writes = [(command, result) for command, result in answers if is_remembered(result)]
    assume(writes)
    command, result = choices.draw(st.sampled_from(writes))
    before = digest(machine.state)
    retried = machine.apply(command)
    assert retried.result == result
    assert retried.events == ()
    assert digest(machine.state) == before


@given(histories())
def test_a_write_is_idempotent_by_its_ids_when_its_answer_is_forgotten(
    history: list[Command],
) -> None:
    # semantics: G2. Every write is proposed once more at once, as by another node.
    machine = StateMachine(StateLimits(command_results_max=1))
    for number, command in enumerate(history):
        first = machine.apply(command)
        if not is_remembered(first.result):
            continue
        before = essence(machine)
        again = machine.apply(with_command_id(command, LATE + number))
        if isinstance(command, RegisterRequest):
            assert again.result == RequestRegistered(command.request_id, created=False)
        if isinstance(command, RegisterBranches):
            assert isinstance(again.result, BranchesRegistered)
            assert again.result.already_existed
        if request_still_there(machine, first.result):
            assert again.events == ()
            assert essence(machine) == before


def request_still_there(machine: StateMachine, result: object) -> bool:
    """A retry is answered from memory; its request may have gone since."""
    request_id = getattr(result, "request_id", None)
    return request_id is None or request_id in machine.state.requests


@given(histories(), st.data())
def test_a_batch_is_registered_as_a_whole_or_not_at_all(
    history: list[Command], choices: st.DataObject
) -> None:
    # semantics: W3
    machine = replay(history)
    table = choices.draw(tables)
    chosen = choices.draw(st.lists(st.sampled_from(BRANCH_IDS), min_size=1, max_size=6))
    request_id = choices.draw(st.sampled_from(list(machine.state.requests) or REQUEST_IDS))
    command = with_command_id(
        RegisterBranches(BLANK, request_id, tuple(table[b] for b in chosen), 0),
        LATE,
    )
    before, known = digest(machine.state), set(machine.state.branches)
    applied = machine.apply(command)
    if isinstance(applied.result, Rejected):
        assert digest(machine.state) == before
        assert applied.events == ()
    else:
        assert set(machine.state.branches) == known | set(chosen)
        for branch_id in chosen:
            branch = machine.state.branches[branch_id]
            assert branch.request_id == request_id
            assert branch.has_content_of(table[branch_id])


@given(tables, st.sets(st.sampled_from(BRANCH_IDS), min_size=4), st.data())
def test_the_predicate_is_the_definition(
    table: Table, chosen: set[BranchId], choices: st.DataObject
) -> None:
    # semantics: S1, S2, S3, S4, S5. One request with many branches and blocked waits.
    machine, model = StateMachine(), NaiveModel()
    family = [dataclasses.replace(table[b], parent_branch_id=BranchId("")) for b in sorted(chosen)]
    for i, branch in enumerate(family[1:], start=1):
        parent = choices.draw(st.sampled_from(["", *(b.branch_id for b in family[:i])]))
        family[i] = dataclasses.replace(branch, parent_branch_id=BranchId(parent))
    history: list[Command] = [RegisterBranches(BLANK, REQUEST_IDS[0], tuple(family), 0)]
    history += choices.draw(st.lists(closings(table) | begin_waits, max_size=8))
    for number, command in enumerate(history):
        machine.apply(with_command_id(command, number))
        model.apply(with_command_id(command, number))
    request = machine.state.requests[REQUEST_IDS[0]]
    for scope in choices.draw(st.lists(scopes, min_size=3, max_size=6)):
        for mutual_waits in (True, False):
            found = queries.open_in_scope(machine.state, request, scope, mutual_waits=mutual_waits)
            expected = model.blocking(request.request_id, scope, mutual_waits=mutual_waits)
            assert {branch.branch_id for branch in found} == expected
        for tag, status in queries.status_by_tag(request, scope).items():
            of_tag = Scope(scope.services, scope.region, tag)
            of_tag = dataclasses.replace(of_tag, wait_dependencies=scope.wait_dependencies)
            assert (status is Status.OPEN) == bool(model.blocking(request.request_id, of_tag))


@given(histories())
def test_every_event_is_a_fact(history: list[Command]) -> None:
    # semantics: W6, U1. Opened and closed places, told by events alone, are those of the state.
    machine = StateMachine()
    told: set[tuple[BranchId, Region]] = set()
    settled: set[str] = set()
    for command in history:
        for event in machine.apply(command).events:
            match type(event).__name__:
                case "RequestOpened":
                    settled.add(event.request_id)
                case "BranchOpened":
                    told |= {(event.branch_id, region) for region in event.regions or ("",)}
                    settled.discard(event.request_id)
                case "RegionClosed":
                    told.remove((event.branch_id, event.region))
                case "RequestSettled":
                    settled.add(event.request_id)
                case "RequestExpired":
                    assert event.settled == (event.request_id in settled)
                    settled.discard(event.request_id)
                    assert {b.branch_id for b in event.branches} <= {b for b, _ in told}
        told = {(b, region) for b, region in told if b in machine.state.branches}
        assert settled == set(machine.state.settled_order)
        assert told == {
            (branch.branch_id, region)
            for branch in machine.state.branches.values()
            if branch.open_mask
            for region in branch.open_regions() or (EVERYWHERE,)
        }
