"""Asks every member of the cluster, not just the nearest: the base of `cluster` and `check`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rendezvous_raft.cli.session import Session
from rendezvous_raft.client.results import ClusterDescription, MemberDescription
from rendezvous_raft.errors import InvalidArgument, RendezvousError

ASK_TIMEOUT_S = 3.0
"""Time that one member has to answer."""
APPLY_LAG_MAX = 10_000
"""Committed entries that a healthy member may still have to apply."""


@dataclass(frozen=True, slots=True)
class MemberAnswer:
    """What a member said of itself, or why it did not."""

    address: str
    """Its gRPC address."""
    name: str
    """Empty when nobody knows it."""
    region: str
    status: ClusterDescription | None
    error: RendezvousError | None

    @property
    def problem(self) -> str:
        """Why it is not healthy; empty when it is."""
        if self.status is None:
            return f"not reachable: {self.error}" if self.error else "not reachable"
        if not self.status.leader:
            return "knows no leader"
        lag = self.status.commit_index - self.status.applied_index
        if lag > APPLY_LAG_MAX:
            return f"{lag} committed entries behind"
        return ""


async def ask_members(session: Session, *, only_first: bool = False) -> tuple[MemberAnswer, ...]:
    """The status of every endpoint, and of every member that these name.

    Never raises for a member that does not answer: that is an answer, too. Takes at most twice
    `ASK_TIMEOUT_S`.

    Args:
        session: Where to begin.
        only_first: Ask the first endpoint alone, not the members that it names.
    """
    endpoints = session.endpoint_list[:1] if only_first else session.endpoint_list
    answers = list(await asyncio.gather(*(_ask(session, address) for address in endpoints)))
    if not only_first:
        seen = {answer.name for answer in answers if answer.status} | set(endpoints)
        missing: dict[str, MemberDescription] = {}
        for answer in answers:
            for member in answer.status.members if answer.status else ():
                if member.name not in seen and member.grpc_address not in seen:
                    missing[member.name] = member
        further = (_ask(session, member.grpc_address, member) for member in missing.values())
        answers += await asyncio.gather(*further)
    return tuple(sorted(answers, key=lambda answer: (answer.name or "~", answer.address)))


def leader_of(answers: tuple[MemberAnswer, ...]) -> MemberAnswer | None:
    """The member that leads in the highest term that anybody knows."""
    leaders = [
        answer for answer in answers if answer.status and answer.status.leader == answer.name
    ]
    return max(leaders, key=lambda answer: answer.status.term if answer.status else 0, default=None)


async def _ask(
    session: Session, address: str, member: MemberDescription | None = None
) -> MemberAnswer:
    name, region = (member.name, member.region) if member else ("", "")
    try:
        async with session.connect(address) as client:
            status = await client.cluster_status(timeout=ASK_TIMEOUT_S)
    except InvalidArgument:
        raise  # a malformed address is the caller's mistake, not a node that is down
    except RendezvousError as error:
        return MemberAnswer(address, name, region, None, error)
    return MemberAnswer(address, status.name, status.region, status, None)
