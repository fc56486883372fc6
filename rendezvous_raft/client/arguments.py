"""What callers hand to the batch methods."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Seconds: TypeAlias = float | dt.timedelta
"""A duration: seconds, or a timedelta."""


@dataclass(frozen=True, slots=True)
class BranchSpec:
    """A branch to register.

    Example:
        >>> BranchSpec("post-storage", regions=("eu", "us"), tag="write-post").service
        'post-storage'
    """

    service: str
    regions: Sequence[str] = ()
    """Where it is open; empty: a global branch."""
    branch_id: str | None = None
    """None: the SDK chooses one."""
    tag: str = ""
    zone: str | None = None
    """None: the zone of the current context, if the request is its request; else the root zone."""
    parent_branch_id: str = ""
    monitored: bool = True
    """Whether monitors are told of it."""
    locator: bytes = b""
    """Where the data is, opaque to Rendezvous, at most 512 bytes."""


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """A node that shall belong to the cluster. Addresses are host:port, as others dial them."""

    name: str
    region: str
    raft_address: str
    grpc_address: str
    http_address: str
    non_voter: bool = False
    """Whether it shall only receive the log; a voter becomes one when it has caught up."""


@dataclass(frozen=True, slots=True)
class CloseSpec:
    """A close: in one region, of a global branch (empty region), or in all regions at once."""

    branch_id: str
    region: str = ""
    all_regions: bool = False
