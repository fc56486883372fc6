"""Who belongs to a cluster and how patient its members are: values shared by config and engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rendezvous_raft.types import NodeName, Region, Standing

MEMBERS_MAX = 15
"""More voters make every commit slower and nothing safer."""


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """One configured member. Addresses are host:port."""

    name: NodeName
    region: Region
    raft_address: str
    """Where its peers reach it."""
    grpc_address: str = ""
    """Where clients reach it; shown to people and given as a leader hint."""
    http_address: str = ""
    """Where its HTTP surface is; shown to people."""
    standing: Standing = Standing.VOTER
    incarnation: int = 0
    """Number of the data directory that speaks for the member; 0: not known yet. Another directory
    under the same name has forgotten what the member promised."""


@dataclass(frozen=True, slots=True)
class Membership:
    """The members of a cluster, in order of their names. Immutable; a change makes another."""

    members: tuple[MemberConfig, ...]

    def find(self, name: str) -> MemberConfig | None:
        """The member of that name."""
        return next((member for member in self.members if member.name == name), None)

    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(member.name for member in self.members)

    def voters(self) -> tuple[str, ...]:
        """The names of those who vote."""
        return tuple(m.name for m in self.members if m.standing is Standing.VOTER)

    def is_settled(self) -> bool:
        """Whether every voter's directory is known and nobody waits for a vote."""
        return all(
            member.standing is Standing.NON_VOTER
            or (member.standing is Standing.VOTER and member.incarnation)
            for member in self.members
        )

    def with_member(self, member: MemberConfig) -> Membership:
        """With this member, in place of the one that had its name."""
        others = self.without(member.name).members
        return Membership(tuple(sorted((*others, member), key=lambda each: each.name)))

    def with_members(self, members: Iterable[MemberConfig]) -> Membership:
        """With all of these."""
        membership = self
        for member in members:
            membership = membership.with_member(member)
        return membership

    def without(self, name: str) -> Membership:
        """Without the member of that name."""
        return Membership(tuple(member for member in self.members if member.name != name))

    def with_incarnations(self, known: Mapping[NodeName, int]) -> Membership:
        """With the incarnations that are known now and were not before."""
        return Membership(
            tuple(
                member
                if member.incarnation or member.name not in known
                else replace(member, incarnation=known[member.name])
                for member in self.members
            )
        )


@dataclass(frozen=True, slots=True)
class AddMember:
    """A node shall belong to the cluster: as joining, to become a voter, or as a non-voter."""

    member: MemberConfig


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """A member shall not belong to the cluster any more."""

    name: NodeName


MembershipChange = AddMember | RemoveMember


@dataclass(frozen=True, slots=True)
class RaftTimers:
    """How patient the engine is. All in seconds."""

    heartbeat_s: float
    election_min_s: float
    election_max_s: float

    def __post_init__(self) -> None:
        """Refuses timers with which a healthy cluster would hold elections."""
        if not 0 < self.heartbeat_s * 3 <= self.election_min_s < self.election_max_s:
            raise ValueError("need 0 < 3 x heartbeat_s <= election_min_s < election_max_s")

    @classmethod
    def lan(cls) -> RaftTimers:
        """Members within a few milliseconds of each other."""
        return cls(heartbeat_s=0.05, election_min_s=0.3, election_max_s=0.6)

    @classmethod
    def wan(cls, rtt_max_s: float) -> RaftTimers:
        """Members whose largest round trip is `rtt_max_s`."""
        rtt_s = max(rtt_max_s, 0.02)
        lan = cls.lan()
        return cls(
            heartbeat_s=max(lan.heartbeat_s, rtt_s / 2),
            election_min_s=max(lan.election_min_s, 5 * rtt_s),
            election_max_s=max(lan.election_max_s, 10 * rtt_s),
        )
