"""Handing leadership to a follower that is caught up (3.10)."""

from __future__ import annotations

import asyncio

from pysyncobj.node import Node

from rendezvous_raft import errors
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.types import NodeName


def choose_successor(raft: Raft, target: NodeName | None) -> Node:
    """The follower asked for, or the voter whose log is furthest.

    Raises:
        InvalidArgument: no such member, or it does not vote.
        Unavailable: this node does not lead, or the follower is not connected.
    """
    if target is not None and target not in [str(peer.id) for peer in raft.peers]:
        raise errors.InvalidArgument.for_field("target", f"{target!r} is no other member")
    if not raft.is_leader:
        raise errors.Unavailable(
            "this node does not lead; ask the leader", leader=raft.leader_name()
        )
    if target is not None and target not in [str(voter.id) for voter in raft.voters]:
        raise errors.InvalidArgument.for_field("target", f"{target!r} does not vote")
    connected = [voter for voter in raft.voters if raft.can_be_reached(voter)]
    wanted = [peer for peer in connected if target in (None, str(peer.id))]
    if not wanted:
        raise errors.Unavailable("no such follower is connected")
    return max(wanted, key=lambda peer: (raft.match_index[peer], str(peer.id)))


async def hand_over(raft: Raft, successor: Node, deadline_s: float) -> None:
    """Takes no more proposals, lets the successor catch up and stand; blocks until it leads.

    Raises:
        Unavailable: it was not told to stand in time, or leadership is being handed over already.
        OutcomeUnknown: it was told, and does not lead yet, or somebody else does; it may still.
    """
    if raft.successor is not None:
        raise errors.Unavailable(
            f"leadership is being handed over to {raft.successor.id} already",
            leader=raft.leader_name(),
        )
    raft.successor = successor
    is_told = False
    try:
        while raft.leader_node != successor:
            somebody_else = not raft.is_leader and raft.leader_node is not None
            if somebody_else or raft.clock() >= deadline_s:
                raise _not_taken_over(raft, successor, is_told=is_told)
            if raft.is_leader and raft.match_index[successor] == raft.last_index():
                raft.tell_to_stand(successor)
                is_told = True
            await asyncio.sleep(raft.timers.heartbeat_s)
    finally:
        raft.successor = None


def _not_taken_over(raft: Raft, successor: Node, *, is_told: bool) -> errors.RendezvousError:
    if is_told:
        # The word is on its way, or its election is; neither can be taken back.
        return errors.OutcomeUnknown(
            f"{successor.id} was told to take over and does not lead yet; see `cluster status`",
            leader=raft.leader_name(),
        )
    return errors.Unavailable(
        f"{successor.id} did not catch up in time and was not told to take over",
        leader=raft.leader_name(),
    )
