"""Who the nodes of a cluster on one machine are: names, regions, ports, configuration files.

Ports of node number i (from 0), when a base port is given:

    base + 10*i        gRPC, for clients
    base + 10*i + 1    HTTP: /livez /readyz /metrics /statusz
    base + 10*i + 2    Raft, for the other nodes
    base + 10*i + 3    the original's format `main`, when asked for
    base + 10*i + 4    the original's format `words23`, when asked for
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
PORTS_PER_NODE = 10
"""Distance between the gRPC ports of two nodes: the third node of base 7600 is at 7620."""
DRAIN_TIMEOUT_S = 1.0
"""Time that calls in progress get when such a node is stopped: somebody waits for the prompt."""
WAN_RTT_MS_MIN = 10.0
"""Round trip from which the nodes get the patient election timers."""


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """One node of a cluster on this machine. Addresses are host:port on loopback."""

    name: str
    region: str
    grpc_address: str
    http_address: str
    raft_address: str
    compat_main_address: str | None = None
    compat_words23_address: str | None = None


def plan_nodes(
    *, count: int, regions: Sequence[str], base_port: int, compat: bool = False
) -> tuple[NodeLayout, ...]:
    """Names nodes n1, n2, …, deals the regions out in turn, and gives each its ports.

    Args:
        count: Nodes, at least one.
        regions: At least one name.
        base_port: First port; 0 takes ports that are free now. Another process may take one
            before the node binds it, so the caller has to be ready to plan again.
        compat: Whether the nodes serve the formats of the originals.

    Raises:
        ValueError: No region is given, or the ports would pass 65535.
    """
    if count < 1 or not regions:
        raise ValueError("a cluster needs at least one node and one region")
    used = _ports_used(compat=compat)
    if base_port:
        check_ports(count=count, base_port=base_port, compat=compat)
        starts = [base_port + PORTS_PER_NODE * number for number in range(count)]
        ports = [list(range(start, start + used)) for start in starts]
    else:
        free = free_ports(used * count)
        ports = [free[start : start + used] for start in range(0, used * count, used)]
    return tuple(
        NodeLayout(
            name=f"n{number + 1}",
            region=regions[number % len(regions)],
            grpc_address=f"{LOOPBACK}:{own[0]}",
            http_address=f"{LOOPBACK}:{own[1]}",
            raft_address=f"{LOOPBACK}:{own[2]}",
            compat_main_address=f"{LOOPBACK}:{own[3]}" if compat else None,
            compat_words23_address=f"{LOOPBACK}:{own[4]}" if compat else None,
        )
        for number, own in enumerate(ports)
    )


def _ports_used(*, compat: bool) -> int:
    """Of one node."""
    return 5 if compat else 3


def check_ports(*, count: int, base_port: int, compat: bool = False) -> None:
    """Refuses a base port whose last node would have no port.

    Raises:
        ValueError: The ports would pass 65535.
    """
    last_port = base_port + PORTS_PER_NODE * (count - 1) + _ports_used(compat=compat) - 1
    if not 0 <= base_port <= last_port <= 65_535:
        raise ValueError(f"base port {base_port}: {count} nodes need ports up to {last_port}")


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free now, all different."""
    with contextlib.ExitStack() as stack:
        # All sockets stay open until the last port is known, or the kernel repeats itself.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind((LOOPBACK, 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def node_toml(
    node: NodeLayout,
    *,
    nodes: Sequence[NodeLayout],
    cluster_id: str,
    data_dir: str,
    raft_address_by_peer: Mapping[str, str],
    rtt_ms_max: float,
    reflection: bool,
    tls: Mapping[str, str] | None = None,
) -> str:
    """The configuration file of `node`.

    Args:
        node: The node whose file this is.
        nodes: Every node of the cluster, this one too.
        cluster_id: The same for all of them.
        data_dir: Where the node keeps its log and snapshots.
        raft_address_by_peer: Where *this* node reaches a peer, when that is not the peer's own
            address: the near end of a link that delays.
        rtt_ms_max: The longest round trip of the cluster, which decides the election timers.
        reflection: Whether gRPC reflection is on.
        tls: Its settings of TLS, by name; None for plain text.
    """
    lines = [
        f"name = {_quoted(node.name)}",
        f"region = {_quoted(node.region)}",
        f"cluster_id = {_quoted(cluster_id)}",
        f"data_dir = {_quoted(data_dir)}",
        f"grpc_address = {_quoted(node.grpc_address)}",
        f"http_address = {_quoted(node.http_address)}",
        f"reflection = {'true' if reflection else 'false'}",
        f"drain_timeout_s = {DRAIN_TIMEOUT_S}",
    ]
    compat = {
        "compat_main_address": node.compat_main_address,
        "compat_words23_address": node.compat_words23_address,
    }
    lines += [f"{name} = {_quoted(address)}" for name, address in compat.items() if address]
    lines += [f"{name} = {_quoted(value)}" for name, value in (tls or {}).items()]
    lines += [f"raft_address = {_quoted(node.raft_address)}", "", "[timers]"]
    if rtt_ms_max < WAN_RTT_MS_MIN:
        lines.append('profile = "lan"')
    else:
        lines += ['profile = "wan"', f"rtt_max_ms = {rtt_ms_max}"]
    for member in nodes:
        raft_address = raft_address_by_peer.get(member.name, member.raft_address)
        lines += [
            "",
            "[[members]]",
            f"name = {_quoted(member.name)}",
            f"region = {_quoted(member.region)}",
            f"raft_address = {_quoted(raft_address)}",
            f"grpc_address = {_quoted(member.grpc_address)}",
            f"http_address = {_quoted(member.http_address)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
