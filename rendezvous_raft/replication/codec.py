"""Commands to and from bytes, and the entries that carry them through the log.

A command is a msgpack array `[version, kind, command id, fields…]`; an entry is a msgpack array
`[version, origin, sequence]` followed by its commands, back to back. Versions are part of the
format: what this version does not know is a `CodecError`, and a node that meets one
in its log halts instead of guessing, for every guess would be a silent divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgpack

from rendezvous_raft.core.commands import (
    GROUPS_VERSION,
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
    RegisterNumbered,
    RegisterRequest,
    RenewMembers,
    Scope,
)
from rendezvous_raft.types import BranchKind
from rendezvous_raft.values import value

COMMAND_VERSION = GROUPS_VERSION
"""Highest command version that this software can apply. Each kind of command is written as of the
version that brought it: whatever an older version knows, it can read."""
ENTRY_VERSION = 1

_KIND_CODES = {BranchKind.REGIONAL: 0, BranchKind.GLOBAL: 1, BranchKind.REGIONLESS: 2}
_KINDS = {code: kind for kind, code in _KIND_CODES.items()}


class CodecError(ValueError):
    """The bytes are not a command or entry that this version understands."""


@value
class Entry:
    """What one Raft entry carries: the commands of a node's batch, and which batch it is."""

    origin: bytes
    """Chosen anew by each start of a node, so that it recognises its own batches."""
    sequence: int
    """Number of the batch at its origin."""
    commands: tuple[Command, ...]


def encode_entry(origin: bytes, sequence: int, commands: Iterable[bytes]) -> bytes:
    """An entry from commands that are encoded already."""
    header: bytes = msgpack.packb([ENTRY_VERSION, origin, sequence])
    return b"".join((header, *commands))


def decode_entry(encoded: bytes) -> Entry:
    """The entry in these bytes.

    Raises:
        CodecError: they are not an entry that this version understands.
    """
    try:
        unpacker = msgpack.Unpacker(use_list=True, max_buffer_size=max(len(encoded), 1))
        unpacker.feed(encoded)
        # Not by iteration, which ends without a word when the last value is cut off.
        version, origin, sequence = unpacker.unpack()
        plain: list[object] = []
        while unpacker.tell() < len(encoded):
            plain.append(unpacker.unpack())
    except msgpack.exceptions.OutOfData as error:
        raise CodecError("the entry is cut off") from error
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise CodecError(f"not an entry: {error}") from error
    if version != ENTRY_VERSION:
        raise CodecError(f"unknown entry v{version!r}")
    if not isinstance(origin, bytes) or not isinstance(sequence, int):
        raise CodecError("the header of the entry has fields of other types")
    return Entry(origin, sequence, tuple([_from_plain(fields) for fields in plain]))


def encode_command(command: Command) -> bytes:
    """The command as one msgpack value."""
    kind, fields = _ENCODERS[type(command)](command)
    encoded: bytes = msgpack.packb([_VERSIONS[kind], kind, command.command_id, *fields])
    return encoded


def decode_command(encoded: bytes) -> Command:
    """The command in these bytes.

    Raises:
        CodecError: they are not a command that this version understands.
    """
    try:
        fields = msgpack.unpackb(encoded, use_list=True)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise CodecError(f"not a command: {error}") from error
    return _from_plain(fields)


def _from_plain(plain: object) -> Command:
    if not isinstance(plain, list) or len(plain) < 3:
        raise CodecError("a command is an array of at least three")
    version, kind, command_id, *fields = plain
    decoders = _DECODERS.get(version) if isinstance(version, int) else None
    if decoders is None:
        raise CodecError(f"unknown command v{version!r}")
    decoder = decoders.get(kind) if isinstance(kind, str) else None
    if decoder is None or not isinstance(command_id, bytes):
        raise CodecError(f"unknown kind of command {kind!r} in v{version}")
    try:
        return decoder(command_id, *fields)
    except (TypeError, ValueError, KeyError) as error:
        raise CodecError(f"fields of {kind!r} cannot be read: {error}") from error


def _text(value: object) -> Any:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not a flag")
    return value


def _texts(values: object) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is not a list")
    for text in values:
        if type(text) is not str:
            _text(text)
    return tuple(values)


def _encode_scope(scope: Scope) -> list[object]:
    return [
        scope.services,
        scope.region,
        scope.tag,
        scope.zone,
        scope.waiter_service,
        scope.wait_dependencies,
    ]


def _decode_scope(fields: list[Any]) -> Scope:
    services, region, tag, zone, waiter_service, wait_dependencies = fields
    return Scope(
        _texts(services),
        _text(region),
        _text(tag),
        None if zone is None else _text(zone),
        _text(waiter_service),
        _flag(wait_dependencies),
    )


def _encode_branch(branch: NewBranch) -> list[object]:
    return [
        branch.branch_id,
        branch.service,
        branch.tag,
        _KIND_CODES[branch.kind],
        branch.regions,
        branch.zone,
        branch.parent_branch_id,
        branch.monitored,
        branch.locator,
    ]


_BRANCH_TYPES = (str, str, str, str, str, bool, bytes)


def _decode_branch(fields: list[Any]) -> NewBranch:
    branch_id, service, tag, kind, regions, zone, parent, monitored, locator = fields
    # One look at all of them: the hottest of all decoders, on every node.
    texts = branch_id, service, tag, zone, parent
    if (*map(type, texts), type(monitored), type(locator)) != _BRANCH_TYPES:
        for value in texts:
            _text(value)
        _flag(monitored)
        raise TypeError("a locator is bytes")
    # By position, which is a good deal faster than by name.
    return NewBranch(
        branch_id,
        service,
        tag,
        _KINDS[kind],
        _texts(regions),
        zone,
        parent,
        monitored,
        locator,
    )


def _decode_close(fields: list[Any]) -> Close:
    branch_id, region, all_regions = fields
    return Close(_text(branch_id), _text(region), _flag(all_regions))


def _decode_activate(command_id: Any, version: object) -> ActivateVersion:
    if _whole(version) > COMMAND_VERSION:
        raise ValueError(f"version {version} is not supported here")
    return ActivateVersion(command_id, _whole(version))


_ENCODERS: dict[type, Callable[[Any], tuple[str, list[object]]]] = {
    RegisterRequest: lambda c: ("request", [c.request_id, c.at_ms]),
    RegisterBranches: lambda c: (
        "branches",
        [c.request_id, [_encode_branch(b) for b in c.branches], c.at_ms],
    ),
    RegisterNumbered: lambda c: (
        "numbered",
        [c.request_id, c.prefix, [_encode_branch(b) for b in c.branches], c.at_ms],
    ),
    CloseBranches: lambda c: (
        "closes",
        [[[x.branch_id, x.region, x.all_regions] for x in c.closes], c.at_ms],
    ),
    BeginWait: lambda c: (
        "begin-wait",
        [c.lease_id, c.request_id, c.node, _encode_scope(c.scope), c.ttl_ms],
    ),
    EndWait: lambda c: ("end-wait", [c.lease_id]),
    JoinGroup: lambda c: (
        "join-group",
        [c.member_id, c.service, c.region, c.group, c.tags, c.node, c.ttl_ms],
    ),
    RenewMembers: lambda c: ("renew-members", [c.member_ids, c.ttl_ms]),
    LeaveGroups: lambda c: ("leave-groups", [c.member_ids]),
    Pulse: lambda c: ("pulse", [c.elapsed_ms]),
    ExpireRequests: lambda c: (
        "expire",
        [c.settled_ttl_ms, c.open_ttl_ms, c.tombstone_ttl_ms, c.keep, c.requests_max],
    ),
    ActivateVersion: lambda c: ("activate", [c.version]),
    Barrier: lambda _: ("barrier", []),
}

_DECODERS_V1: dict[str, Callable[..., Command]] = {
    "request": lambda i, rid, at: RegisterRequest(i, _text(rid), _whole(at)),
    "branches": lambda i, rid, branches, at: RegisterBranches(
        i, _text(rid), tuple([_decode_branch(b) for b in branches]), _whole(at)
    ),
    "numbered": lambda i, rid, prefix, branches, at: RegisterNumbered(
        i, _text(rid), _text(prefix), tuple([_decode_branch(b) for b in branches]), _whole(at)
    ),
    "closes": lambda i, closes, at: CloseBranches(
        i, tuple([_decode_close(c) for c in closes]), _whole(at)
    ),
    "begin-wait": lambda i, lease, rid, node, scope, ttl: BeginWait(
        i, _text(lease), _text(rid), _text(node), _decode_scope(scope), _whole(ttl)
    ),
    "end-wait": lambda i, lease: EndWait(i, _text(lease)),
    "pulse": lambda i, elapsed: Pulse(i, _whole(elapsed)),
    "expire": lambda i, settled, open_, stone, keep, bound: ExpireRequests(
        i, _whole(settled), _whole(open_), _whole(stone), _texts(keep), _whole(bound)
    ),
    "activate": _decode_activate,
    "barrier": lambda i: Barrier(i),
}
_DECODERS_V2: dict[str, Callable[..., Command]] = {
    "join-group": lambda i, member, service, region, group, tags, node, ttl: JoinGroup(
        i,
        _text(member),
        _text(service),
        _text(region),
        _text(group),
        _texts(tags),
        _text(node),
        _whole(ttl),
    ),
    "renew-members": lambda i, members, ttl: RenewMembers(i, _texts(members), _whole(ttl)),
    "leave-groups": lambda i, members: LeaveGroups(i, _texts(members)),
}
_DECODERS = {1: _DECODERS_V1, GROUPS_VERSION: _DECODERS_V2}
"""By the version that brought the kind."""
_VERSIONS = {kind: version for version, kinds in _DECODERS.items() for kind in kinds}
