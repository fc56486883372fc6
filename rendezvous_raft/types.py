"""The words of the domain as types: identifiers, names and the enums that cross layers.

Nothing here has behaviour. Sizes and alphabets of the identifiers are in `limits.py`; what each
word means is in the glossary of STYLE.md.
"""

from __future__ import annotations

import enum
from typing import NewType

RequestId = NewType("RequestId", str)
BranchId = NewType("BranchId", str)
Service = NewType("Service", str)
Region = NewType("Region", str)
Zone = NewType("Zone", str)
Tag = NewType("Tag", str)
NodeName = NewType("NodeName", str)
LeaseId = NewType("LeaseId", str)
MemberId = NewType("MemberId", str)
"""Of one subscription as a member of its group; every stream has a new one."""
CommandId = NewType("CommandId", bytes)
"""Chosen once, before a command is proposed; every retry of the proposal carries the same one."""

Revision = NewType("Revision", int)
"""Count of applied commands: equal on every replica at the same point of the history."""

ROOT_ZONE = Zone("")
ALL_REGIONS = Region("")
"""In a scope: any region. In a close: the region of a global branch."""


class Consistency(enum.Enum):
    """How fresh a read has to be (semantics G3)."""

    SESSION = "session"
    """The local node answers once it has applied the caller's `min_revision`."""
    LINEARIZABLE = "linearizable"
    """Every write acknowledged before the call is seen; costs a round trip to a majority."""
    LOCAL = "local"
    """Whatever this node has. For dashboards."""


class BranchKind(enum.Enum):
    """Where a branch is open."""

    REGIONAL = "regional"
    """Open in each region that it lists."""
    GLOBAL = "global"
    """Open everywhere, until closed with an empty region."""
    REGIONLESS = "regionless"
    """Counts for its request and service, for no region; closed by `all_regions` only."""


class Status(enum.Enum):
    """What a check says of a scope (semantics C1)."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    """The scope names a service, region or tag that the request never used."""


class Verdict(enum.Enum):
    """What a wait with a certain scope makes of a branch (semantics S1 to S5)."""

    HOLDS = "holds"
    """It keeps the wait blocked."""
    CLOSED = "closed"
    """It is closed wherever it was open."""
    OTHER_SERVICE = "other_service"
    """S1: its service is not among those that are waited for."""
    OTHER_TAG = "other_tag"
    """S2: it has another tag, or none."""
    OTHER_REGION = "other_region"
    """S3: it is not open in the region: closed there, or never open there."""
    OWN_ZONE = "own_zone"
    """S4: it belongs to the waiter's own zone."""
    ZONE_WAITS = "zone_waits"
    """S5: its zone is greater than the waiter's and is itself blocked in such a wait."""
    SERVICE_WAITS = "service_waits"
    """S5: its service is itself blocked, waiting for the waiter's service."""
    RELEASED_EARLY = "released_early"
    """R6: the node asked has received its close, which is not committed yet."""


class WaitOutcome(enum.Enum):
    """How a wait ended (semantics R1, R2)."""

    IMMEDIATE = "immediate"
    """Nothing was open, or patience for a registration ended with nothing to wait for."""
    BLOCKED = "blocked"
    """It was blocked at least once and then released: an inconsistency was prevented."""
    TIMED_OUT = "timed_out"


class Standing(enum.Enum):
    """What a member's word counts for (thesis 4.2.1)."""

    VOTER = "voter"
    """It votes, and counts for the majority."""
    JOINING = "joining"
    """It receives the log and counts for nothing; becomes a voter as soon as it has caught up."""
    NON_VOTER = "non-voter"
    """It receives the log and counts for nothing."""


class Role(enum.Enum):
    """What a node is in its Raft group."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
