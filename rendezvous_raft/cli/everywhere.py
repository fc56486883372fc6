"""`--all-nodes`: what only the single nodes know of a request, put together.

Parked waits and subscriptions are known to the node that serves them. One node's description has
its own, and the waits that others have told to all by a lease (semantics R7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rendezvous_raft.cli.members import ASK_TIMEOUT_S, MemberAnswer, ask_members
from rendezvous_raft.cli.session import Session
from rendezvous_raft.client.results import BranchDescription, RequestDescription
from rendezvous_raft.errors import RendezvousError


@dataclass(frozen=True, slots=True)
class NodeAsked:
    """A node whose own waits and subscriptions are, or are not, part of what is shown."""

    name: str
    region: str
    grpc_address: str
    """Empty for the node that the client chose by itself."""
    problem: str | None
    """Why they are not; None when they are."""


@dataclass(frozen=True, slots=True)
class ShownRequest:
    """A description, and the nodes whose waits and subscriptions it has."""

    found: RequestDescription
    nodes: tuple[NodeAsked, ...]
    all_nodes: bool
    """Whether every member that is known was asked, answering or not."""

    @property
    def answered(self) -> tuple[str, ...]:
        """Names of the nodes that told what only they know."""
        return tuple(node.name for node in self.nodes if node.problem is None)

    @property
    def silent(self) -> tuple[str, ...]:
        """Names of the nodes that did not."""
        return tuple(node.name or node.grpc_address for node in self.nodes if node.problem)


def shown_by_one(found: RequestDescription) -> ShownRequest:
    """What the node that was asked knows."""
    return ShownRequest(found, (NodeAsked(found.node, found.node_region, "", None),), False)


async def ask_everywhere(session: Session, found: RequestDescription) -> ShownRequest:
    """Asks every other endpoint, and every member that these name, for what only it knows.

    Never raises for a node that does not answer: it is among those that are silent. Each has
    `ASK_TIMEOUT_S` to be as new as `found`.
    """
    members = await ask_members(session)
    others = [member for member in members if not member.name or member.name != found.node]
    asked = await asyncio.gather(*(_ask(session, member, found) for member in others))
    own = next((member.address for member in members if member.name == found.node), "")
    nodes = (
        NodeAsked(found.node, found.node_region, own, None),
        *(node for node, _ in asked),
    )
    answers = [answer for _, answer in asked if answer is not None]
    ordered = sorted(nodes, key=lambda node: (node.name or "~", node.grpc_address))
    return ShownRequest(_put_together(found, answers), tuple(ordered), True)


async def _ask(
    session: Session, member: MemberAnswer, found: RequestDescription
) -> tuple[NodeAsked, RequestDescription | None]:
    node = NodeAsked(member.name, member.region, member.address, None)
    if member.status is None:
        return replace(node, problem=member.problem), None
    try:
        async with session.connect(member.address) as client:
            answer = await client.describe_request(
                found.request_id, min_revision=found.revision, timeout=ASK_TIMEOUT_S
            )
    except RendezvousError as error:
        return replace(node, problem=f"{error.code}: {error.message}"), None
    return node, answer


def _put_together(
    found: RequestDescription, others: Sequence[RequestDescription]
) -> RequestDescription:
    """The branches of `found`; waits and subscriptions of all."""
    heard = {found.node, *(other.node for other in others)}
    parked = [w for answer in (found, *others) for w in answer.waiters if w.node == answer.node]
    leases = [waiter for waiter in found.waiters if waiter.node not in heard]
    told: dict[tuple[str, str], int] = {}
    for answer in others:
        for branch in answer.branches:
            for part in branch.regions:
                place = (branch.branch_id, part.region)
                told[place] = told.get(place, 0) + part.subscribers
    return replace(
        found,
        waiters=(*parked, *leases),
        branches=tuple(_with_subscribers(branch, told) for branch in found.branches),
    )


def _with_subscribers(
    branch: BranchDescription, told: dict[tuple[str, str], int]
) -> BranchDescription:
    parts = (
        replace(part, subscribers=part.subscribers + told.get((branch.branch_id, part.region), 0))
        for part in branch.regions
    )
    return replace(branch, regions=tuple(parts))
