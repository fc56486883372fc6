"""What Hypothesis draws commands from: few names, so that they meet each other all the time."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

from hypothesis import strategies as st

from rendezvous_raft.core.commands import (
    ActivateVersion,
    Barrier,
    BeginWait,
    Close,
    CloseBranches,
    Command,
    EndWait,
    ExpireRequests,
    JoinGroup,
    LeaveGroups,
    NewBranch,
    Pulse,
    RegisterBranches,
    RegisterRequest,
    RenewMembers,
    Scope,
)
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import (
    BranchesClosed,
    BranchesRegistered,
    RequestRegistered,
    Result,
)
from rendezvous_raft.core.snapshot import Row, rows
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    CommandId,
    LeaseId,
    MemberId,
    Region,
    RequestId,
    Service,
    Tag,
    Zone,
)

REQUEST_IDS = [RequestId(name) for name in ("r1", "r2", "r3")]
BRANCH_IDS = [BranchId(f"b{number}") for number in range(1, 9)]
HOME = {branch_id: REQUEST_IDS[i % 5 % 3] for i, branch_id in enumerate(BRANCH_IDS)}
"""The request that a branch is normally registered in."""
SERVICES = [Service(name) for name in ("a", "b", "c", "d")]
REGIONS = [Region(name) for name in ("ap", "eu", "us")]
TAGS = [Tag(name) for name in ("", "t", "u")]
ZONES = [Zone(name) for name in ("", "y", "z", "z/1")]
FIRST_DRAWN = 100
"""Number of the first command of a history that Hypothesis has drawn."""
LEASE_IDS = [LeaseId(name) for name in ("w1", "w2", "w3")]
MEMBER_IDS = [MemberId(name) for name in ("m1", "m2", "m3", "m4")]

Table = Mapping[BranchId, NewBranch]
"""The content that each branch id is normally registered with."""

# Strategies are made once: to make one costs more than to draw from it.
request_ids = st.sampled_from(REQUEST_IDS)
at_ms = st.integers(0, 5)
durations_ms = st.sampled_from([0, 1, 2, 5, 10])


# Products of few words: one choice is much cheaper to draw than four.
SHAPES = [
    (BranchKind.REGIONAL, regions)
    for count in (1, 2, 3)
    for regions in itertools.combinations(REGIONS, count)
]
SHAPES += [(BranchKind.GLOBAL, ())] * 2 + [(BranchKind.REGIONLESS, ())]
LABELS = list(itertools.product(SERVICES, TAGS, ZONES))
shapes = st.sampled_from(SHAPES)
labels = st.sampled_from(LABELS)
extras = st.sampled_from([(True, b""), (True, b"key"), (False, b"")])
FAMILIES = {r: [b for b in BRANCH_IDS if HOME[b] == r] for r in REQUEST_IDS}
parents = {r: st.sampled_from([BranchId("")] * 8 + FAMILIES[r]) for r in REQUEST_IDS}
family_lists = {r: st.lists(st.sampled_from(FAMILIES[r]), max_size=4) for r in REQUEST_IDS}
stray_lists = st.lists(st.sampled_from(BRANCH_IDS), max_size=4)
dice = st.integers(0, 5)


@st.composite
def new_branches(draw: st.DrawFn, branch_id: BranchId) -> NewBranch:
    """A well-formed branch; its parent is another branch of the same request."""
    kind, regions = draw(shapes)
    service, tag, zone = draw(labels)
    parent = draw(parents[HOME[branch_id]])
    monitored, locator = draw(extras)
    return NewBranch(
        branch_id,
        service,
        tag,
        kind,
        regions,
        zone,
        parent,
        monitored=monitored,
        locator=locator,
    )


strange_branches = {branch_id: new_branches(branch_id) for branch_id in BRANCH_IDS}
tables = st.fixed_dictionaries(strange_branches)
scopes = st.builds(
    Scope,
    services=st.lists(st.sampled_from(SERVICES), max_size=2, unique=True).map(tuple),
    region=st.sampled_from([Region(""), *REGIONS, Region("nowhere")]),
    tag=st.sampled_from([*TAGS, Tag("unused")]),
    zone=st.sampled_from([None, *ZONES]),
    waiter_service=st.sampled_from([Service(""), *SERVICES]),
    wait_dependencies=st.booleans(),
)


@st.composite
def registrations(draw: st.DrawFn, table: Table) -> RegisterBranches:
    """Mostly branches of the request in question, with their usual content."""
    request_id = draw(request_ids)
    stray = draw(dice) == 0
    chosen = draw(stray_lists if stray else family_lists[request_id])
    branches = [
        draw(strange_branches[branch_id]) if stray and draw(dice) < 3 else table[branch_id]
        for branch_id in chosen
    ]
    return RegisterBranches(CommandId(b""), request_id, tuple(branches), draw(at_ms))


close_lists = st.lists(
    st.tuples(
        st.sampled_from(BRANCH_IDS),
        st.sampled_from([Region("own"), Region("own"), Region(""), *REGIONS]),
        st.sampled_from([True, False, False]),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def closings(draw: st.DrawFn, table: Table) -> CloseBranches:
    """Closes of any branch, in a region that it mostly has."""
    closes = []
    for branch_id, region, all_regions in draw(close_lists):
        own = (table[branch_id].regions or (Region(""),))[0]
        closes.append(Close(branch_id, own if region == "own" else region, all_regions=all_regions))
    return CloseBranches(CommandId(b""), tuple(closes), draw(at_ms))


def settling(request_id: RequestId) -> CloseBranches:
    """Closes whatever a request normally has."""
    closes = tuple(Close(branch_id, all_regions=True) for branch_id in FAMILIES[request_id])
    return CloseBranches(CommandId(b""), closes, at_ms=9)


settlings = request_ids.map(settling)
begin_waits = st.builds(
    BeginWait,
    command_id=st.just(CommandId(b"")),
    lease_id=st.sampled_from(LEASE_IDS),
    request_id=request_ids,
    node=st.just("n1"),
    scope=scopes,
    ttl_ms=durations_ms,
)
member_lists = st.lists(st.sampled_from(MEMBER_IDS), max_size=4).map(tuple)
joins = st.builds(
    JoinGroup,
    command_id=st.just(CommandId(b"")),
    member_id=st.sampled_from(MEMBER_IDS),
    service=st.sampled_from(SERVICES[:2]),
    region=st.sampled_from(REGIONS[:2]),
    group=st.sampled_from(["g", "h"]),
    tags=st.sampled_from([(), (), (TAGS[1],), (TAGS[1], TAGS[2])]),
    node=st.sampled_from(["n1", "n2"]),
    ttl_ms=durations_ms,
)
renewals = st.builds(RenewMembers, st.just(CommandId(b"")), member_lists, durations_ms)
leaves = st.builds(LeaveGroups, st.just(CommandId(b"")), member_lists)
expirations = st.builds(
    ExpireRequests,
    command_id=st.just(CommandId(b"")),
    settled_ttl_ms=durations_ms,
    open_ttl_ms=durations_ms,
    tombstone_ttl_ms=durations_ms,
    keep=st.lists(request_ids, max_size=1).map(tuple),
    requests_max=st.integers(0, 3),
)


blank = st.just(CommandId(b""))
plain_commands = (
    st.builds(RegisterRequest, blank, request_ids, at_ms),
    settlings,
    begin_waits,
    st.builds(EndWait, blank, st.sampled_from(LEASE_IDS)),
    joins,
    renewals | leaves,
    st.builds(Pulse, blank, durations_ms),
    expirations,
    st.builds(ActivateVersion, blank, st.integers(0, 3)),
    st.builds(Barrier, blank),
)


def commands(table: Table) -> st.SearchStrategy[Command]:
    """Any well-formed command, its id still empty."""
    registering, closing = registrations(table), closings(table)
    return st.one_of(registering, registering, registering, closing, closing, *plain_commands)


retried = st.integers(0, 59)
"""How far back a retry reaches; mostly beyond the beginning, which is no retry."""


@st.composite
def histories(draw: st.DrawFn, *, max_size: int = 20) -> list[Command]:
    """A history: each command has an id of its own, but some are retries of earlier ones."""
    table = draw(tables)
    history: list[Command] = []
    any_command = commands(table)
    for request_id in REQUEST_IDS:
        if draw(dice) > 0:
            history.append(with_command_id(registration_of(table, request_id), len(history)))
    # Not a list of commands: Hypothesis makes lists short, and short histories reach little.
    for number in range(draw(st.integers(0, max_size))):
        earlier = draw(retried)
        if earlier < len(history):
            history.append(history[-1 - earlier])
        else:
            history.append(with_command_id(draw(any_command), FIRST_DRAWN + number))
    return history


def registration_of(table: Table, request_id: RequestId) -> RegisterBranches:
    """Every branch of a request whose parent, if any, stands before it."""
    batch: dict[BranchId, NewBranch] = {}
    for branch_id in BRANCH_IDS:
        parent = table[branch_id].parent_branch_id
        if HOME[branch_id] == request_id and (not parent or parent in batch):
            batch[branch_id] = table[branch_id]
    return RegisterBranches(CommandId(b""), request_id, tuple(batch.values()), at_ms=0)


def with_command_id(command: Command, number: int) -> Command:
    """The same command under an id of its own."""
    return dataclasses.replace(command, command_id=CommandId(b"c%d" % number))


def is_remembered(result: Result) -> bool:
    """Whether an answer tells of an effect, so that a retry of its command gets it again."""
    if isinstance(result, BranchesClosed):
        return any(outcome.value == "closed" for outcome in result.outcomes)
    return isinstance(result, RequestRegistered | BranchesRegistered)


def essence(machine: StateMachine) -> list[Row]:
    """Everything replicated but revision, time and the memory of answers."""
    return [row for row in rows(machine.state) if row[0] not in ("head", "result", "end")]


def replay(history: list[Command]) -> StateMachine:
    """A machine that has applied a history."""
    machine = StateMachine()
    for command in history:
        machine.apply(command)
    return machine
