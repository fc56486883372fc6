"""A state to and from rows of plain builtins, and its digest.

A snapshot is a sequence of rows, each a list of `None`, `bool`, `int`, `str`, `bytes` and lists of
those. The first row is the head, with the format version and the counters; the last is the end,
with the digest. Whoever stores or sends a snapshot encodes row by row, so that no step is long.
Everything whose order matters is written in that order; what can be derived is derived again.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator

from rendezvous_raft.core import results as answers
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.model import (
    Branch,
    GroupMember,
    Request,
    State,
    Tombstone,
    WaitLease,
)
from rendezvous_raft.core.results import CloseOutcome, Result
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import (
    BranchKind,
    CommandId,
    Region,
    RequestId,
    Revision,
    Service,
    Tag,
    Zone,
)

FORMAT_VERSION = 1
ORDER_ROW_LENGTH = 1_000

Row = list[object]
"""A row of a snapshot: its kind, then its fields."""


class SnapshotError(ValueError):
    """The rows are not a snapshot that this version can read, or their digest does not match."""


class Capture:
    """A state as it is now, to be turned into rows bit by bit while the machine goes on.

    What can change is a request: the machine shows each to the capture before it changes it for
    the first time, and its row is made then. All else is copied at once, which costs a fraction of
    a microsecond per request. Call `close` when the rows are taken, or not wanted any more. Several
    may be open at a time.
    """

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._parts = _Parts(machine.state)
        # By position: an id may come back once its tombstone is gone.
        self._early: dict[int, Row] = {}
        machine.watchers.append(self._preserve)

    def _preserve(self, request: Request) -> None:
        if request.sequence not in self._early:
            self._early[request.sequence] = _request_row(request)

    def rows(self) -> Iterator[Row]:
        """The rows of the captured state; take as many per turn as suits."""
        return _framed(self._parts, self._early)

    @property
    def revision(self) -> Revision:
        """Of the captured state."""
        return self._parts.revision

    def content(self) -> Iterator[Row]:
        """The rows between head and end, for a `Digest`."""
        return _content(self._parts, self._early)

    def close(self) -> None:
        """Lets the machine change requests freely again; does nothing the second time."""
        if self._preserve in self._machine.watchers:
            self._machine.watchers.remove(self._preserve)


class _Parts:
    """The parts of a state, in the order of their rows, safe from changes but for requests."""

    def __init__(self, state: State) -> None:
        self.revision = state.revision
        self.time_ms = state.time_ms
        self.counters: Row = [
            "counters",
            state.version,
            state.request_sequence,
            state.branch_sequence,
        ]
        self.numbers: Row = [[prefix, number] for prefix, number in state.numbers.items()]
        self.requests = list(state.requests.values())
        self.orders = (("settled", list(state.settled_order)), ("open", list(state.open_order)))
        self.leases = [_lease_row(lease) for lease in state.leases.values()]
        self.members = [_member_row(member) for member in state.members.values()]
        self.tombstones = list(state.tombstones.values())
        self.results = list(state.results.items())


def rows(state: State) -> Iterator[Row]:
    """The snapshot of a state, row by row. The state must not change meanwhile."""
    return _framed(_Parts(state), {})


class Digest:
    """SHA-256 of what is replicated, made of the content of a state row by row.

    Two replicas at the same revision have the same digest. The revision, cluster time and the
    memory of answers are left out, so that a command that changes nothing leaves the digest as it
    was; the end of a snapshot covers those as well.
    """

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()

    def add(self, row: Row) -> None:
        """The next row of `Capture.content`."""
        if row[0] != "result":
            self._hasher.update(_bytes_of(row))

    def in_hexadecimal(self) -> str:
        """Of all that was added."""
        return self._hasher.hexdigest()


def digest(state: State) -> str:
    """The `Digest` of a state, at once. Takes time in proportion to the state."""
    made = Digest()
    for row in _content(_Parts(state), {}):
        made.add(row)
    return made.in_hexadecimal()


def _framed(parts: _Parts, early: dict[int, Row]) -> Iterator[Row]:
    """Head, content, and an end with the digest of both."""
    hasher = hashlib.sha256()
    count = 0
    head: Row = ["head", FORMAT_VERSION, parts.revision, parts.time_ms]
    for row in itertools.chain((head,), _content(parts, early)):
        hasher.update(_bytes_of(row))
        count += 1
        yield row
    yield ["end", count + 1, hasher.hexdigest()]


class Loading:
    """Makes a state machine of the rows of a snapshot; give it as many per turn as suits."""

    def __init__(self, limits: StateLimits | None = None) -> None:
        self._limits = limits
        self._state = State()
        self._hasher = hashlib.sha256()
        self._kind: object = None
        self._count = 0

    def add(self, row: Row) -> None:
        """The next row. Raises `SnapshotError`: it is damaged, or not one that may follow."""
        if self._kind == "end":
            raise SnapshotError("rows after the end")
        self._kind = kind = _kind_of(row)
        self._count += 1
        if (kind == "head") != (self._count == 1):
            raise SnapshotError(f"row {self._count} is {kind!r}")
        if kind == "end":
            if row[1:] != [self._count, self._hasher.hexdigest()]:
                raise SnapshotError("the digest does not match the rows")
        else:
            self._hasher.update(_bytes_of(row))
            _load_row(self._state, row)

    def finish(self) -> StateMachine:
        """What the rows made; takes about a microsecond per open branch.

        Raises:
            SnapshotError: rows are missing.
        """
        if self._kind != "end":
            raise SnapshotError("the end is missing")
        _derive(self._state)
        return StateMachine(self._limits, self._state)


def load(source: Iterable[Row], limits: StateLimits | None = None) -> StateMachine:
    """A state machine from the rows of a snapshot, at once.

    Raises:
        SnapshotError: the rows are damaged, incomplete, or of a version that is not known.
    """
    loading = Loading(limits)
    for row in source:
        loading.add(row)
    return loading.finish()


def _kind_of(row: object) -> object:
    if not isinstance(row, list) or not row:
        raise SnapshotError(f"{row!r} is not a row")
    return row[0]


def _bytes_of(row: Row) -> bytes:
    # Not repr: which characters it escapes depends on the Unicode tables of the Python version.
    return ascii(row).encode()


def _content(parts: _Parts, early: dict[int, Row]) -> Iterator[Row]:
    yield parts.counters
    if parts.numbers:  # who never numbers keeps the digests of those who never could
        yield ["numbers", parts.numbers]
    for request in parts.requests:
        yield early.get(request.sequence) or _request_row(request)
    for name, ids in parts.orders:
        for start in range(0, len(ids), ORDER_ROW_LENGTH):
            yield [name, ids[start : start + ORDER_ROW_LENGTH]]
    yield from parts.leases
    yield from parts.members
    for stone in parts.tombstones:
        yield ["tombstone", stone.request_id, stone.expired_ms, list(stone.branch_ids)]
    for command_id, result in parts.results:
        yield ["result", command_id, _result_fields(result)]


def _lease_row(lease: WaitLease) -> Row:
    scope = _scope_fields(lease.scope)
    return ["lease", lease.lease_id, lease.request_id, lease.node, scope, lease.expires_ms]


def _member_row(member: GroupMember) -> Row:
    tags = list(member.tags)
    return ["member", member.member_id, *member.key, tags, member.node, member.expires_ms]


def _request_row(request: Request) -> Row:
    return [
        "request",
        request.request_id,
        request.at_ms,
        request.sequence,
        request.last_activity_ms,
        [[parent, list(children)] for parent, children in request.dependants.items()],
        [_branch_fields(branch) for branch in request.branches],
    ]


def _branch_fields(branch: Branch) -> Row:
    return [
        branch.branch_id,
        branch.service,
        branch.tag,
        branch.kind.value,
        list(branch.regions),
        branch.zone,
        branch.parent_branch_id,
        branch.monitored,
        branch.locator,
        branch.at_ms,
        branch.revision,
        branch.sequence,
        # Masks may have 128 bits; integers of encodings end at 64.
        branch.open_mask.to_bytes((branch.slots + 7) // 8, "big"),
        branch.closed_at_ms and list(branch.closed_at_ms),
    ]


def _scope_fields(scope: Scope) -> Row:
    return [
        list(scope.services),
        scope.region,
        scope.tag,
        scope.zone,
        scope.waiter_service,
        scope.wait_dependencies,
    ]


def _result_fields(result: Result) -> Row:
    """The answers that are remembered (`machine._REMEMBERED`)."""
    match result:
        case answers.TimeAdvanced():
            return ["time", result.time_ms]
        case answers.Rejected():
            return ["rejected", result.reason.value, result.detail]
        case answers.RequestRegistered():
            return ["request", result.request_id, result.created]
        case answers.BranchesRegistered():
            ids = list(result.branch_ids)
            return ["branches", result.request_id, ids, result.already_existed]
        case answers.BranchesClosed():
            return ["closes", [outcome.value for outcome in result.outcomes]]
    raise TypeError(f"{type(result).__name__} is never remembered")


def _load_head(state: State, row: Row) -> None:
    _, version, *rest = row
    if version != FORMAT_VERSION:
        raise SnapshotError(f"format version {version!r} is not known")
    state.revision, state.time_ms = rest  # type: ignore[assignment]


def _load_row(state: State, row: Row) -> None:
    try:
        _load_row_unchecked(state, row)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise SnapshotError(f"row {row[:2]!r} cannot be read: {error}") from error


def _load_row_unchecked(state: State, row: Row) -> None:
    # The digest has the last word on the content; here the rows are taken at their word.
    fields: list = row[1:]  # type: ignore[type-arg]
    match row[0]:
        case "head":
            _load_head(state, row)
        case "counters":
            state.version, state.request_sequence, state.branch_sequence = fields
        case "numbers":
            state.numbers.update((str(prefix), int(number)) for prefix, number in fields[0])
        case "request":
            _load_request(state, fields)
        case "settled":
            state.settled_order.update(dict.fromkeys(fields[0]))
        case "open":
            state.open_order.update(dict.fromkeys(fields[0]))
        case "lease":
            lease_id, request_id, node, (services, *scope), expires_ms = fields
            lease_scope = Scope(tuple(services), *scope)
            state.add_lease(WaitLease(lease_id, request_id, node, lease_scope, expires_ms))
        case "member":
            member_id, service, region, group, tags, node, expires_ms = fields
            key = (service, region, group)
            state.add_member(GroupMember(member_id, key, tuple(tags), node, expires_ms))
        case "tombstone":
            request_id, expired_ms, branch_ids = fields
            state.add_tombstone(Tombstone(request_id, expired_ms, tuple(branch_ids)))
        case "result":
            state.results[CommandId(fields[0])] = _load_result(fields[1])
        case kind:
            raise ValueError(f"kind {kind!r} is not known")


def _load_request(state: State, fields: list) -> None:  # type: ignore[type-arg]
    request_id, at_ms, sequence, last_activity_ms, edges, branches = fields
    request = Request(request_id, at_ms, sequence, last_activity_ms)
    request.dependants = {parent: dict.fromkeys(children) for parent, children in edges}
    state.requests[request_id] = request
    for plain in branches:
        branch = _load_branch(request_id, plain)
        request.branches.append(branch)
        state.branches[branch.branch_id] = branch
        if branch.open_mask:
            request.open_branches[branch.branch_id] = branch


def _load_branch(request_id: RequestId, fields: list) -> Branch:  # type: ignore[type-arg]
    branch_id, service, tag, kind, regions, *middle, open_mask, closed_at_ms = fields
    zone, parent, monitored, locator, at_ms, revision, sequence = middle
    # Interned, as the machine does: names repeat in every branch.
    return Branch(
        branch_id=branch_id,
        request_id=request_id,
        service=Service(sys.intern(service)),
        tag=Tag(sys.intern(tag)),
        kind=BranchKind(kind),
        regions=tuple(Region(sys.intern(region)) for region in regions),
        zone=Zone(sys.intern(zone)),
        parent_branch_id=parent,
        monitored=monitored,
        locator=locator,
        at_ms=at_ms,
        revision=revision,
        sequence=sequence,
        open_mask=int.from_bytes(open_mask, "big"),
        closed_at_ms=closed_at_ms and list(closed_at_ms),
    )


def _load_result(fields: list) -> Result:  # type: ignore[type-arg]
    match fields:
        case ["time", time_ms]:
            return answers.TimeAdvanced(time_ms)
        case ["rejected", reason, detail]:
            return answers.Rejected(answers.Reason(reason), detail)
        case ["request", request_id, created]:
            return answers.RequestRegistered(request_id, created)
        case ["branches", request_id, branch_ids, existed]:
            return answers.BranchesRegistered(request_id, tuple(branch_ids), existed)
        case ["closes", outcomes]:
            return answers.BranchesClosed(tuple(CloseOutcome(value) for value in outcomes))
    raise ValueError(f"result {fields[:1]!r} is not known")


def _derive(state: State) -> None:
    """Builds the queues and counts again, in registration order."""
    still_open = [b for request in state.requests.values() for b in request.open_branches.values()]
    for branch in sorted(still_open, key=lambda branch: branch.sequence):
        state.count_open(branch)
