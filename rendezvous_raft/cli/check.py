"""`rendezvous check`: verdicts with an exit status."""

from __future__ import annotations

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.members import ask_members
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import run, session_of, shared_options


@click.group()
def check() -> None:
    """Checks with an exit status."""


@check.command()
@click.option(
    "--local", is_flag=True, help="Check the first endpoint alone, as a container's check does."
)
@shared_options
@click.pass_context
def health(ctx: click.Context, /, *, local: bool) -> None:
    """Check that every member answers, knows a leader and keeps up.

    Exit status 0 when all are healthy, 1 when any is not, 3 when nobody answers.
    """
    session = session_of(ctx)
    answers = run(session, lambda: ask_members(session, only_first=local), writes=False)
    rows = tuple(
        (
            answer.name,
            answer.region,
            answer.address,
            "unhealthy" if answer.problem else "healthy",
            answer.problem,
        )
        for answer in answers
    )
    fields = [
        {
            "name": answer.name or None,
            "region": answer.region or None,
            "grpc_address": answer.address,
            "healthy": not answer.problem,
            "problem": answer.problem or None,
        }
        for answer in answers
    ]
    healthy = not any(answer.problem for answer in answers)
    print_answer(
        session.form,
        answer={"healthy": healthy, "members": fields},
        sheets=[Sheet(("name", "region", "gRPC", "verdict", "problem"), rows)],
        lines=fields,
        color=session.color,
    )
    if not any(answer.status for answer in answers):
        ctx.exit(ExitCode.UNREACHABLE)
    if not healthy:
        ctx.exit(ExitCode.FAILED)
