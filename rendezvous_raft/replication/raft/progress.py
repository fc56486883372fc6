"""What a leader knows of one follower's log, and how it sends to it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rendezvous_raft.replication.raft.snapshots import SnapshotFile

NEVER_S = float("-inf")


class Mode(enum.Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    """The end of its log is not known: one message at a time."""
    STREAM = "stream"
    """Its log is known: messages follow each other without waiting."""
    SNAPSHOT = "snapshot"
    """It lacks what the leader's log no longer has: chunks of a snapshot, one at a time."""


@dataclass(slots=True)
class Progress:
    """One follower. PySyncObj's `matchIndex` and `nextIndex` stay the truth for the indexes."""

    mode: Mode = Mode.PROBE
    probe_sent_s: float = -1.0
    """When the outstanding message of a probe or snapshot left; below 0: none is out."""
    acked_round: int = 0
    """Highest heartbeat round of this term that it has answered."""
    heard_s: float = 0.0
    """When its last answer of this term came."""
    snapshot: SnapshotFile | None = None
    """What it is being sent, to its end the same, however many newer ones are taken meanwhile."""
    snapshot_offset: int = 0
    """Bytes of the snapshot that it has."""
    advanced_s: float = NEVER_S
    """While a snapshot, and the log after it, bring it up to date: when it last got more."""
    commit_told: int = 0
    """Highest commit index that was sent to it."""
    round_target: int = 0
    """Of one that joins: where the log ended when this round of catching up began; 0: none did."""
    round_began_s: float = 0.0
