"""Who belongs to a cluster and how patient its members are: values shared by config and engine."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous_raft.types import NodeName, Region


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


@dataclass(frozen=True, slots=True)
class RaftTimers:
    """How patient the engine is (replication 4). All in seconds."""

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
