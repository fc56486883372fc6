"""Moves the leader to where the writers are, as an operator would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from rendezvous_raft.client import AsyncClient
from rendezvous_raft.client.results import ClusterDescription
from rendezvous_raft.devcluster.layout import NodeLayout
from rendezvous_raft.errors import NoLeader, RendezvousError

MOVE_TIMEOUT_S = 20.0
ASK_TIMEOUT_S = 3.0
POLL_INTERVAL_S = 0.1


async def lead_from(nodes: Sequence[NodeLayout], region: str) -> str:
    """Sees to it that a node of `region` leads; the region that leads in the end.

    Another region in the result means that the move did not succeed in time.

    Raises:
        NoLeader: Nobody leads.
    """
    deadline_s = time.monotonic() + MOVE_TIMEOUT_S
    target = next(node for node in nodes if node.region == region)
    leader: NodeLayout | None = None
    while time.monotonic() < deadline_s:
        leader = await _leader(nodes)
        if leader is not None and leader.region == region:
            return region
        if leader is not None:
            await _hand_over(leader, target.name)
        await asyncio.sleep(POLL_INTERVAL_S)
    if leader is None:
        raise NoLeader(f"no leader within {MOVE_TIMEOUT_S:g} s")
    return leader.region


async def _leader(nodes: Sequence[NodeLayout]) -> NodeLayout | None:
    """The node that leads by its own account, in the highest term if there are two."""
    answers = await asyncio.gather(*(_status(node) for node in nodes))
    leading = [
        (answer.term, node)
        for node, answer in zip(nodes, answers, strict=True)
        if answer is not None and answer.leader == node.name
    ]
    return max(leading, key=lambda pair: pair[0])[1] if leading else None


async def _status(node: NodeLayout) -> ClusterDescription | None:
    async with AsyncClient(node.grpc_address) as client:
        try:
            return await client.cluster_status(timeout=ASK_TIMEOUT_S)
        except RendezvousError:
            return None  # asked again in a moment


async def _hand_over(leader: NodeLayout, target: str) -> None:
    async with AsyncClient(leader.grpc_address) as client:
        try:
            await client.transfer_leadership(target, timeout=ASK_TIMEOUT_S)
        except RendezvousError:
            return  # the leader is asked again, or there is a new one by then
