"""The membership as the log and snapshots carry it: versioned msgpack, checked when it is read."""

from __future__ import annotations

import msgpack

from rendezvous_raft.core.snapshot import Row
from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.types import NodeName, Region, Standing

FORMAT_VERSION = 1
MEMBERSHIP = b"\x02"
"""First byte of a log payload that is a membership, as PySyncObj numbers its kinds of entries."""


_ROW_KIND = "membership"
"""Of the first row of a snapshot; the others are the state."""


class MembershipError(ValueError):
    """The bytes are no membership that this version understands."""


def encode_membership(membership: Membership) -> bytes:
    """The bytes of a membership."""
    rows = [
        (
            member.name,
            member.region,
            member.raft_address,
            member.grpc_address,
            member.http_address,
            member.standing.value,
            member.incarnation,
        )
        for member in membership.members
    ]
    encoded: bytes = msgpack.packb((FORMAT_VERSION, rows))
    return encoded


def decode_membership(encoded: bytes) -> Membership:
    """The membership of `encode_membership`. Raises `MembershipError`."""
    try:
        version, rows = msgpack.unpackb(encoded)
        if version != FORMAT_VERSION:
            raise MembershipError(f"membership of the unknown version {version!r}")
        return Membership(tuple(_member(*row) for row in rows))
    except MembershipError:
        raise
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise MembershipError(f"not a membership: {error}") from error


def membership_row(membership: Membership) -> Row:
    """The first row of a snapshot."""
    return [_ROW_KIND, encode_membership(membership)]


def membership_of(row: Row | None) -> Membership:
    """The membership in the first row of a snapshot. Raises `MembershipError`."""
    match row:
        case [str(kind), bytes(encoded)] if kind == _ROW_KIND:
            return decode_membership(encoded)
        case _:
            raise MembershipError(f"a snapshot begins with {row!r} instead of the membership")


def addresses_of_others(
    membership: Membership, founders: Membership, own_name: str
) -> dict[str, str]:
    """Where to dial the others, by name: what the configuration says, else what they say."""
    configured = {member.name: member.raft_address for member in founders.members}
    return {
        member.name: configured.get(member.name, member.raft_address)
        for member in membership.members
        if member.name != own_name
    }


def _member(
    name: str,
    region: str,
    raft_address: str,
    grpc_address: str,
    http_address: str,
    standing: str,
    incarnation: int,
) -> MemberConfig:
    return MemberConfig(
        name=NodeName(name),
        region=Region(region),
        raft_address=raft_address,
        grpc_address=grpc_address,
        http_address=http_address,
        standing=Standing(standing),
        incarnation=incarnation,
    )
