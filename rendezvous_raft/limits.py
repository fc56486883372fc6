"""Every bound of the system, with its unit and the reason for its size.

Exceeding one is a named error and a metric, never silent growth. The first group is part of the
replicated state machine: every node of a cluster must run with the same numbers, so they are
constants and not configuration. The second group protects one node and may be configured.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

ID_BYTES_MAX = 128
"""Bytes of a request or branch id: a UUID, a ULID with a prefix, or a path all fit."""
ID_ALPHABET = r"[A-Za-z0-9_.:/@-]"
"""Characters of ids: safe in URLs, metric exemplars, SQL text and Redis keys."""
NAME_BYTES_MAX = 128
"""UTF-8 bytes of a service, region, tag or zone."""
LOCATOR_BYTES_MAX = 512
"""Bytes of a branch's locator: a bucket and a key."""
BRANCHES_PER_CALL_MAX = 1_000
"""Branches of one RegisterBranches, closes of one CloseBranches, items of one Execute batch."""
REQUIRED_BRANCHES_MAX = 64
"""Ids in `required_branches` of one wait."""
SCOPE_SERVICES_MAX = 64
"""Services in the scope of one wait or check."""
SUBSCRIPTION_TAGS_MAX = 64
"""Tags in the filter of one subscription."""
OPEN_BRANCHES_SHOWN_MAX = 10
"""Branches still open that a timed-out wait lists."""
PAGE_SIZE_MAX = 1_000
"""Requests on one page of ListRequests."""
PAGE_SIZE_DEFAULT = 100
COMMAND_BYTES_MAX = 512 * 1024
"""Bytes of one encoded command."""
GRPC_MESSAGE_BYTES_MAX = 1024 * 1024
"""Bytes of one gRPC message, either way."""
PENDING_MAX = 1_000_000
"""Branches held; more wait in the service until some of these are closed."""
CONTEXT_BYTES_MAX = 2_048
"""Bytes of an encoded context: must fit an SQS attribute and a gRPC header comfortably."""
CONTEXT_BRANCHES_MAX = 16
"""Unacknowledged branch ids in a context."""


@dataclass(frozen=True, slots=True)
class StateLimits:
    """Bounds that `apply` enforces. The same on every node: they decide what a command does."""

    branches_per_request_max: int = 10_000
    regions_per_branch_max: int = 128
    requests_open_max: int = 2_000_000
    """Requests held (open or settled); about 1 KB each."""
    tombstones_max: int = 1_000_000
    """Ids of expired requests and branches remembered; the oldest go first."""
    command_results_max: int = 65_536
    """Results of recent commands kept for retries of a proposal."""
    leases_max: int = 100_000
    """Replicated wait leases."""
    group_members_max: int = 10_000
    """Members of all subscription groups; each is looked at by every pulse."""
    members_per_group_max: int = 64
    """Members of one group; each costs a hash for every branch that is divided."""


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Bounds that protect one node. Configurable, within what the machine bears."""

    proposals_in_flight_max: int = 10_000
    waiters_max: int = 100_000
    wait_timeout_ms_max: int = 300_000
    """Cap and default of a wait's time-out."""
    call_timeout_ms_max: int = 30_000
    """Deadline of any other call that comes without one."""
    execute_items_in_flight_max: int = 4_000
    """Writes of one Execute stream on their way; the stream is not read while there are more."""
    subscribers_per_key_max: int = 64
    """Subscribers of one (service, region) on one node."""
    request_watches_max: int = 64
    """Streams of WatchRequest on one node: for people, who look at a few requests at a time."""
    subscription_queue_len_max: int = 10_000
    """Events queued for one slow subscriber before its stream ends (it resumes)."""
    apply_slice_ms_max: int = 20
    """Time the loop applies committed commands before it turns to other work."""
    entry_commands_max: int = 512
    entry_bytes_max: int = 64 * 1024
    """A larger single command travels alone."""
    entries_unpaced_max: int = 1
    """Raft entries of this node on their way before the next ones are paced."""
    entry_pace_ms_max: int = 10
    """Longest pause between two Raft entries of this node, for commands to gather; 0: none."""
    entries_in_flight_max: int = 64
    """Raft entries of this node on their way; the next batch grows while they are."""
    settled_ttl_ms: int = 600_000
    open_ttl_ms: int = 3_600_000
    tombstone_ttl_ms: int = 86_400_000
    lease_ttl_ms: int = 10_000
    """Cluster time after which a wait lease, or the membership of a subscription in its group, ends
    when its node no longer renews it."""
    group_join_ms_max: int = 2_000
    """Time that a subscription waits to be a member of its group before it is given everything."""
    pulse_interval_ms: int = 1_000
    pulse_elapsed_ms_max: int = 10_000
    """Cap of the cluster time that one pulse may add (semantics L1)."""
    expire_requests_max: int = 1_000
    """Requests dropped by one ExpireRequests command, to keep apply short."""


def as_table() -> dict[str, int]:
    """Every bound by name, as `/statusz` shows them."""
    table = {
        name.lower(): value
        for name, value in sorted(globals().items())
        if name.isupper() and isinstance(value, int)
    }
    for group in (StateLimits(), NodeLimits()):
        table.update(dataclasses.asdict(group))
    return table
