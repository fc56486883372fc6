"""`rendezvous cluster`: status, members, digest, snapshot, leadership."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.members import ASK_TIMEOUT_S, MemberAnswer, ask_members, leader_of
from rendezvous_raft.cli.membership import add, members, remove
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import Session, fail, run, session_of, shared_options
from rendezvous_raft.client.results import ClusterDescription, DigestResult
from rendezvous_raft.errors import RendezvousError

DIGEST_ROUNDS_MAX = 5
"""Attempts to catch every member at the same revision while writes go on."""
ORDER_TIMEOUT_S = 30.0


@click.group()
def cluster() -> None:
    """Status, members, digest, snapshot, leadership."""


for _command in (members, add, remove):
    cluster.add_command(_command)


@cluster.command()
@shared_options
@click.pass_context
def status(ctx: click.Context) -> None:
    """Ask every member for its state.

    Starts at the endpoints given and goes on to the members that these name. Exit status 0 when
    anybody answers; see `check health` for a verdict.
    """
    session = session_of(ctx)
    answers = run(session, lambda: ask_members(session), writes=False)
    headings = ("name", "region", "gRPC", "role", "term", "leader", "revision", "commit", "applied",
                "log", "requests", "open", "waits", "state", "version", "problem")  # fmt: skip
    sheet = Sheet(headings, tuple(_status_row(answer) for answer in answers))
    members = [_status_fields(answer) for answer in answers]
    leader = leader_of(answers)
    print_answer(
        session.form,
        answer={"leader": leader.name if leader else None, "members": members},
        sheets=[sheet],
        lines=members,
        color=session.color,
    )
    if not any(answer.status for answer in answers):
        raise _nobody(session)


@cluster.command()
@shared_options
@click.pass_context
def digest(ctx: click.Context) -> None:
    """Compare the digests of every member's state.

    At equal revisions the digests must be equal. Exit status 1 when they differ.
    """
    session = session_of(ctx)
    found = run(session, lambda: _digests(session), writes=False)
    by_revision: dict[int, set[str]] = {}
    for entry in found:
        if entry.result:
            by_revision.setdefault(entry.result.revision, set()).add(entry.result.digest)
    if not by_revision:
        raise _nobody(session)
    diverged = any(len(digests) > 1 for digests in by_revision.values())
    rows = tuple(
        (
            entry.name,
            str(entry.result.revision) if entry.result else "",
            entry.result.digest if entry.result else "",
            entry.error,
        )
        for entry in found
    )
    fields = [
        {
            "name": entry.name,
            "revision": entry.result.revision if entry.result else None,
            "digest": entry.result.digest if entry.result else None,
            "error": entry.error or None,
        }
        for entry in found
    ]
    compared = len(by_revision) == 1 and all(entry.result for entry in found)
    print_answer(
        session.form,
        answer={"diverged": diverged, "all_compared": compared, "members": fields},
        sheets=[Sheet(("name", "revision", "digest", "problem"), rows)],
        lines=fields,
        color=session.color,
    )
    if diverged:
        raise fail(
            session,
            "members at the same revision have different states",
            next_step="stop the member that differs from the majority; keep its directory; report",
            exit_code=ExitCode.FAILED,
        )
    if not compared:
        session.note("not every member was at the same revision; run it again when writes pause")


@cluster.command()
@shared_options
@click.pass_context
def snapshot(ctx: click.Context) -> None:
    """Let the first endpoint write a snapshot now and drop its log before it."""
    session = session_of(ctx)

    async def take() -> tuple[str, dict[str, object]]:
        address = session.endpoint_list[0]
        async with session.connect(address) as client:
            taken = await client.take_snapshot(timeout=ORDER_TIMEOUT_S)
        fields: dict[str, object] = {
            "endpoint": address,
            "revision": taken.revision,
            "index": taken.index,
            "size_bytes": taken.size_bytes,
        }
        return address, fields

    _, fields = run(session, take, writes=True)
    sheet = Sheet(tuple(fields), (tuple(map(str, fields.values())),))
    print_answer(session.form, answer=fields, sheets=[sheet], color=session.color)


@cluster.command("transfer-leader")
@click.argument("target", default="")
@shared_options
@click.pass_context
def transfer_leader(ctx: click.Context, /, *, target: str) -> None:
    """Ask the leader to hand over to TARGET, by default to the member that is furthest."""
    session = session_of(ctx)

    async def transfer() -> str | None:
        leader = leader_of(await ask_members(session))
        if leader is None:
            return None
        if leader.name == target:
            return target
        async with session.connect(leader.address) as client:
            return await client.transfer_leadership(target, timeout=ORDER_TIMEOUT_S)

    told = run(session, transfer, writes=True)
    if told is None:
        raise fail(
            session,
            "no member that answers leads the cluster",
            next_step="wait for the election; see `rendezvous cluster status`",
            exit_code=ExitCode.UNREACHABLE,
        )
    sheet = Sheet(("target",), ((told,),))
    print_answer(session.form, answer={"target": told}, sheets=[sheet], color=session.color)


@dataclass(frozen=True, slots=True)
class _MemberDigest:
    name: str
    result: DigestResult | None
    error: str


async def _digests(session: Session) -> list[_MemberDigest]:
    """The digest of every member, if possible all at one revision."""
    found: list[_MemberDigest] = []
    for _ in range(DIGEST_ROUNDS_MAX):
        answers = await ask_members(session)
        revision = max((answer.status.revision for answer in answers if answer.status), default=0)
        found = await asyncio.gather(*(_digest(session, answer, revision) for answer in answers))
        revisions = {entry.result.revision for entry in found if entry.result}
        if len(revisions) <= 1:
            break
    return found


async def _digest(session: Session, answer: MemberAnswer, revision: int) -> _MemberDigest:
    name = answer.name or answer.address
    if answer.status is None:
        return _MemberDigest(name, None, answer.problem)
    try:
        async with session.connect(answer.address) as client:
            result = await client.digest(min_revision=revision, timeout=ASK_TIMEOUT_S)
    except RendezvousError as error:
        return _MemberDigest(name, None, error.message)
    return _MemberDigest(name, result, "")


def _nobody(session: Session) -> click.exceptions.Exit:
    return fail(
        session,
        f"no node answers at {session.endpoints}",
        next_step="check --endpoints, and that nodes run",
        exit_code=ExitCode.UNREACHABLE,
    )


def _status_row(answer: MemberAnswer) -> tuple[str, ...]:
    status = answer.status
    if status is None:
        return (answer.name, answer.region, answer.address, *[""] * 12, answer.problem)
    return (
        status.name,
        status.region,
        answer.address,
        status.role.value if status.role else "",
        str(status.term),
        status.leader,
        str(status.revision),
        str(status.commit_index),
        str(status.applied_index),
        str(status.log_entries),
        str(status.requests),
        str(status.branches_open),
        str(status.waits_in_progress),
        status.durability,
        status.version,
        answer.problem,
    )


def _status_fields(answer: MemberAnswer) -> dict[str, ClusterDescription | str | None]:
    return {
        "name": answer.name or None,
        "region": answer.region or None,
        "grpc_address": answer.address,
        "status": answer.status,
        "problem": answer.problem or None,
    }
