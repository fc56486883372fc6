"""Every state of a request times every command: the answer, and the state that follows."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest
from core_builders import FOREVER_MS, R1, Log, branch, scope

from rendezvous_raft.core import machine
from rendezvous_raft.core.model import BRANCH_REGION_TRANSITIONS, REQUEST_TRANSITIONS
from rendezvous_raft.core.results import (
    Applied,
    BranchesClosed,
    BranchesRegistered,
    LeaseChanged,
    MembersChanged,
    Nothing,
    Rejected,
    RequestRegistered,
    RequestsExpired,
    Result,
    TimeAdvanced,
    VersionActivated,
)
from rendezvous_raft.types import BranchId

STATES = ["absent", "empty", "open", "half", "settled", "expired", "forgotten"]
STATE_BY_LETTER = {"-": "", "S": "SETTLED", "O": "OPEN", "X": "EXPIRED"}


def log_in(state: str) -> Log:
    """r1 in one of its states; its branch b1 was registered in eu and us."""
    log = Log()
    if state == "absent":
        return log
    if state == "empty":
        log.register()
        return log
    log.add(branch("b1", "eu", "us"))
    if state in ("half", "settled"):
        log.close("b1", "eu")
    if state == "settled":
        log.close("b1", "us")
    if state in ("expired", "forgotten"):
        log.expire()
    if state == "forgotten":
        log.expire(tombstone_ttl_ms=0)
    return log


COMMANDS: dict[str, tuple[str, Callable[[Log], Applied]]] = {
    "register": ("RegisterRequest", lambda log: log.register()),
    "same": ("RegisterBranches", lambda log: log.add(branch("b1", "eu", "us"))),
    "other": ("RegisterBranches", lambda log: log.add(branch("b1", "eu"))),
    "new": ("RegisterBranches", lambda log: log.add(branch("b2", "eu"))),
    "child": ("RegisterBranches", lambda log: log.add(branch("b2", "eu", parent="b1"))),
    "none": ("RegisterBranches", lambda log: log.add()),
    "close_eu": ("CloseBranches", lambda log: log.close("b1", "eu")),
    "close_us": ("CloseBranches", lambda log: log.close("b1", "us")),
    "close_all": ("CloseBranches", lambda log: log.close("b1", all_regions=True)),
    "close_ap": ("CloseBranches", lambda log: log.close("b1", "ap")),
    "close_global": ("CloseBranches", lambda log: log.close("b1")),
    "begin_wait": ("BeginWait", lambda log: log.begin_wait("w1", scope(zone="z"))),
    "end_wait": ("EndWait", lambda log: log.end_wait("w1")),
    "join": ("JoinGroup", lambda log: log.join("m1")),
    "renew": ("RenewMembers", lambda log: log.renew("m1")),
    "leave": ("LeaveGroups", lambda log: log.leave("m1")),
    "pulse": ("Pulse", lambda log: log.pulse(1)),
    "expire_all": ("ExpireRequests", lambda log: log.expire()),
    "expire_old": ("ExpireRequests", lambda log: log.expire(settled_ttl_ms=9, open_ttl_ms=9)),
    "expire_kept": ("ExpireRequests", lambda log: log.expire("r1")),
    "forget": (
        "ExpireRequests",
        lambda log: log.expire(
            settled_ttl_ms=FOREVER_MS, open_ttl_ms=FOREVER_MS, tombstone_ttl_ms=0
        ),
    ),
    "activate": ("ActivateVersion", lambda log: log.activate(2)),
    "barrier": ("Barrier", lambda log: log.barrier()),
}

TABLE = """
              absent     empty      open         half         settled      expired    forgotten
register      created/S  known/S    known/O      known/O      known/S      gone/X     created/S
same          added/O    added/O    known/O      known/O      known/S      gone/X     added/O
other         added/O    added/O    conflict/O   conflict/O   conflict/S   gone/X     added/O
new           added/O    added/O    added/O      added/O      added/O      gone/X     added/O
child         orphan/-   orphan/S   added/O      added/O      added/O      gone/X     orphan/-
none          known/S    known/S    known/O      known/O      known/S      gone/X     known/S
close_eu      unknown/-  unknown/S  closed/O     again/O      again/S      gone/X     unknown/-
close_us      unknown/-  unknown/S  closed/O     closed/S     again/S      gone/X     unknown/-
close_all     unknown/-  unknown/S  closed/S     closed/S     again/S      gone/X     unknown/-
close_ap      unknown/-  unknown/S  elsewhere/O  elsewhere/O  elsewhere/S  gone/X     unknown/-
close_global  unknown/-  unknown/S  elsewhere/O  elsewhere/O  elsewhere/S  gone/X     unknown/-
begin_wait    lease/-    lease/S    lease/O      lease/O      lease/S      gone/X     lease/-
end_wait      lease/-    lease/S    lease/O      lease/O      lease/S      lease/X    lease/-
join          0m/-       0m/S       0m/O         0m/O         0m/S         0m/X       0m/-
renew         0m/-       0m/S       0m/O         0m/O         0m/S         0m/X       0m/-
leave         0m/-       0m/S       0m/O         0m/O         0m/S         0m/X       0m/-
pulse         1ms/-      1ms/S      1ms/O        1ms/O        1ms/S        1ms/X      1ms/-
expire_all    0+0/-      1+0/X      0+1/X        0+1/X        1+0/X        0+0/X      0+0/-
expire_old    0+0/-      0+0/S      0+0/O        0+0/O        0+0/S        0+0/X      0+0/-
expire_kept   0+0/-      0+0/S      0+0/O        0+0/O        0+0/S        0+0/X      0+0/-
forget        0+0/-      0+0/S      0+0/O        0+0/O        0+0/S        0+0/-      0+0/-
activate      v2/-       v2/S       v2/O         v2/O         v2/S         v2/X       v2/-
barrier       nothing/-  nothing/S  nothing/O    nothing/O    nothing/S    nothing/X  nothing/-
"""

CELLS = [
    (state, line.split()[0], cell)
    for line in TABLE.strip().splitlines()[1:]
    for state, cell in zip(STATES, line.split()[1:], strict=True)
]


SHORT = {
    "already_closed": "again",
    "branch_conflict": "conflict",
    "branch_unknown": "unknown",
    "parent_unknown": "orphan",
    "region_not_of_branch": "elsewhere",
    "request_expired": "gone",
}


def word_for(result: Result) -> str:
    match result:
        case Rejected():
            return SHORT[result.reason.value]
        case RequestRegistered():
            return "created" if result.created else "known"
        case BranchesRegistered():
            return "known" if result.already_existed else "added"
        case BranchesClosed():
            (outcome,) = result.outcomes
            return SHORT.get(outcome.value, outcome.value)
        case LeaseChanged():
            return "lease_known" if result.known else "lease"
        case MembersChanged():
            return f"{result.known}m"
        case TimeAdvanced():
            return f"{result.time_ms}ms"
        case RequestsExpired():
            return f"{result.settled}+{result.open}"
        case VersionActivated():
            return f"v{result.version}"
        case Nothing():
            return "nothing"


def request_state(log: Log) -> str:
    state = log.machine.state
    if R1 in state.tombstones:
        return "EXPIRED"
    if R1 not in state.requests:
        return ""
    return "OPEN" if state.requests[R1].open_branches else "SETTLED"


@pytest.mark.parametrize(("state", "command", "cell"), CELLS)
def test_cell(state: str, command: str, cell: str) -> None:
    # semantics: W1, W2, W2.3, W4, W4.1, W4.2, W4.4, W6, W6.1, L2, L2.3, G2, G2.1, G5.1
    answer, letter = cell.split("/")
    log = log_in(state)
    before = log.digest
    applied = COMMANDS[command][1](log)
    assert word_for(applied.result) == answer
    assert request_state(log) == STATE_BY_LETTER[letter]
    if isinstance(applied.result, Rejected):
        assert log.digest == before
        assert applied.events == ()


def test_the_example_in_the_documentation_is_true() -> None:
    outcome = doctest.testmod(machine)
    assert (outcome.attempted, outcome.failed) == (4, 0)


def test_the_table_is_complete() -> None:
    assert {command for _, command, _ in CELLS} == set(COMMANDS)
    assert len(CELLS) == len(STATES) * len(COMMANDS)


def test_the_drawn_transitions_of_a_request_are_those_that_happen() -> None:
    # semantics: W6, L2
    seen = set()
    for state, command, _ in CELLS:
        log = log_in(state)
        before = request_state(log)
        COMMANDS[command][1](log)
        if request_state(log) != before:
            seen.add((before, COMMANDS[command][0], request_state(log)))
    # A batch of nothing is let through by no gate; it registers its request.
    seen.discard(("", "RegisterBranches", "SETTLED"))
    assert seen == {(a, name.partition(" ")[0], b) for a, name, b in REQUEST_TRANSITIONS}


def test_the_drawn_transitions_of_a_region_are_those_that_happen() -> None:
    # semantics: W4
    def eu_state(log: Log) -> str:
        known = log.machine.state.branches.get(BranchId("b1"))
        if known is None:
            return ""
        return "OPEN" if known.open_mask & 1 else "CLOSED"

    seen = set()
    for state, command, _ in CELLS:
        log = log_in(state)
        before = eu_state(log)
        COMMANDS[command][1](log)
        # Expiry ends the whole branch; it is drawn with the request.
        if eu_state(log) != before and COMMANDS[command][0] != "ExpireRequests":
            seen.add((before, COMMANDS[command][0], eu_state(log)))
    assert seen == set(BRANCH_REGION_TRANSITIONS)
