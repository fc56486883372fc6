"""What `/statusz` and `/requests/<id>` show, as plain values for JSON."""

from __future__ import annotations

import dataclasses
import enum
import os
import platform
from typing import TYPE_CHECKING

from rendezvous_raft.limits import as_table

if TYPE_CHECKING:
    from rendezvous_raft.config import NodeConfig
    from rendezvous_raft.node.calls import RequestDescription
    from rendezvous_raft.node.node import Node


class StatusPage:
    """Introspection of one node."""

    def __init__(self, *, node: Node, config: NodeConfig, version: str) -> None:
        self._node = node
        self._config = config
        self._version = version
        self._started_s = node.clock.monotonic_s()

    def render(self) -> dict[str, object]:
        """Everything about the node, its engine, its cluster and its settings."""
        status, statistics = self._node.status(), self._node.statistics()
        return {
            "name": status.name,
            "region": status.region,
            "cluster_id": self._config.cluster_id,
            "pid": os.getpid(),
            "version": self._version,
            "python": platform.python_version(),
            "uptime_s": round(self._node.clock.monotonic_s() - self._started_s, 3),
            "role": status.role.value,
            "term": status.term,
            "leader": status.leader,
            "revision": status.revision,
            "commit_index": status.commit_index,
            "applied_index": status.applied_index,
            "log_entries": status.log_entries,
            "durability": status.durability,
            "draining": statistics.draining,
            "halted": status.halted,
            "read_only": status.read_only,
            "not_member": status.not_member,
            "unneeded_elections": status.unneeded_elections,
            "commands": {
                "version": statistics.command_version,
                "known_to_all": status.command_version,
            },
            "members": [plain(dataclasses.asdict(member)) for member in status.members],
            "counts": {
                "requests": statistics.requests,
                "branches_open": statistics.branches_open,
                "branches_open_by_region": dict(statistics.branches_open_by_region),
                "waits_in_progress": statistics.waits_in_progress,
                "subscribers": sum(statistics.subscribers.values()),
                "subscription_queue_len_longest": statistics.subscription_queue_len_longest,
                "proposals_in_flight": statistics.proposals_in_flight,
            },
            "subscribers": [
                {"service": service, "region": region, "count": count}
                for (service, region), count in sorted(statistics.subscribers.items())
            ],
            "groups": [
                {"service": service, "region": region, "group": group, "members": count}
                for (service, region, group), count in sorted(statistics.group_members.items())
            ],
            "limits": {**as_table(), **dataclasses.asdict(self._node.limits)},
            "config": self._config.masked(),
        }


def describe_request(description: RequestDescription) -> dict[str, object]:
    """A request with its branches and waiters."""
    return {name: plain(value) for name, value in dataclasses.asdict(description).items()}


def plain(value: object) -> object:
    """Turns enums, bytes and tuples into what JSON has."""
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    return value
