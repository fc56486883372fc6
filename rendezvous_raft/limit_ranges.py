"""What the limits of a node may be configured to, alone and beside each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from rendezvous_raft.limits import COMMAND_BYTES_MAX, NodeLimits

_DAY_MS = 86_400_000
LIMIT_RANGES: dict[str, tuple[int, int]] = {
    "proposals_in_flight_max": (1, 1_000_000),
    "waiters_max": (1, 1_000_000),
    "wait_timeout_ms_max": (1, 3_600_000),
    "call_timeout_ms_max": (1, 600_000),
    "execute_items_in_flight_max": (1, 100_000),
    "subscribers_per_key_max": (1, 10_000),
    "subscription_queue_len_max": (1, 1_000_000),
    "request_watches_max": (1, 1_000),
    "apply_slice_ms_max": (1, 1_000),
    "entry_commands_max": (1, 10_000),
    "entry_pace_ms_max": (0, 1_000),
    "entry_bytes_max": (1_024, COMMAND_BYTES_MAX),
    "entries_in_flight_max": (1, 1_024),
    "entries_unpaced_max": (1, 64),
    "settled_ttl_ms": (1, 30 * _DAY_MS),
    "open_ttl_ms": (1, 30 * _DAY_MS),
    "tombstone_ttl_ms": (1, 30 * _DAY_MS),
    "lease_ttl_ms": (2, _DAY_MS),
    "group_join_ms_max": (1, 60_000),
    "pulse_interval_ms": (1, 60_000),
    "pulse_elapsed_ms_max": (1, _DAY_MS),
    "expire_requests_max": (1, 100_000),
}
"""Lowest and highest value that each field of `NodeLimits` may be configured to."""


def check_limits(limits: Mapping[str, int]) -> None:
    """Checks what differs from the defaults.

    Raises:
        ValueError: there is no such limit, or it is out of its range; the message names it.
    """
    for name, value in limits.items():
        if name not in LIMIT_RANGES:
            raise ValueError(f"limits.{name}: no such limit")
        low, high = LIMIT_RANGES[name]
        if not low <= value <= high:
            raise ValueError(f"limits.{name}: must be from {low} to {high}, not {value}")
    together = dataclasses.replace(NodeLimits(), **limits)
    if 2 * together.pulse_interval_ms > together.lease_ttl_ms:
        # Cluster time moves in steps of one pulse: a lease would end between its renewals.
        raise ValueError(
            f"limits.pulse_interval_ms: {together.pulse_interval_ms} is more than half of"
            f" lease_ttl_ms ({together.lease_ttl_ms})"
        )
