"""`rendezvous request wait`."""

from __future__ import annotations

import asyncio

import click

from rendezvous_raft.cli.durations import DURATION, duration_text
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.explaining import Explainer, Question
from rendezvous_raft.cli.freshness import freshness_options
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.scope import scope_options
from rendezvous_raft.cli.session import run, session_of, shared_options
from rendezvous_raft.client.results import ScopeDescription, WaitResult
from rendezvous_raft.types import Consistency

WAIT_TIMEOUT_S = 30.0


@click.command()
@click.argument("request_id", metavar="ID")
@scope_options(mutual_waits=True)
@click.option(
    "--require",
    "required",
    multiple=True,
    metavar="BRANCH",
    help="Branch that must be known first; repeatable.",
)
@click.option(
    "--await-registration",
    type=DURATION,
    help="How long to wait for a request, service, region or tag that is not known yet.",
)
@click.option(
    "--timeout", type=DURATION, default=WAIT_TIMEOUT_S, help="As in 500ms, 5s.  [default: 30s]"
)
@click.option(
    "--explain", is_flag=True, help="Say on standard error why it blocks, and what changes."
)
@click.option(
    "--all-nodes",
    is_flag=True,
    help="With --explain: ask every node for the waits and subscriptions that only it knows of.",
)
@freshness_options
@shared_options
@click.pass_context
def wait(
    ctx: click.Context,
    /,
    *,
    request_id: str,
    scope: ScopeDescription,
    required: tuple[str, ...],
    await_registration: float | None,
    timeout: float,
    explain: bool,
    all_nodes: bool,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """Block until nothing of the request ID is open.

    Exit status 0 when nothing is open, 5 when the time runs out first.
    """
    if all_nodes and not explain:
        raise click.UsageError("--all-nodes goes with --explain")
    session = session_of(ctx)
    question = Question(request_id, scope, required, timeout, all_nodes)

    async def work() -> WaitResult:
        async with session.connect(session.endpoints) as client:
            waiting = asyncio.create_task(
                client.wait_request(
                    request_id,
                    services=scope.services,
                    region=scope.region,
                    tag=scope.tag,
                    zone=scope.zone,
                    waiter_service=scope.waiter_service,
                    wait_dependencies=scope.wait_dependencies,
                    required_branches=required,
                    await_registration=await_registration,
                    timeout=timeout,
                    consistency=consistency,
                    min_revision=min_revision,
                )
            )
            try:
                if explain:
                    await Explainer(session, client, question).explain(waiting)
                return await waiting
            finally:
                waiting.cancel()

    result = run(session, work, writes=False)
    print_answer(
        session.form, answer=result, sheets=_sheets(request_id, result), color=session.color
    )
    if result.timed_out:
        ctx.exit(ExitCode.TIMED_OUT)


def _sheets(request_id: str, result: WaitResult) -> list[Sheet]:
    verdict = Sheet(
        ("request", "outcome", "prevented", "blocked for", "revision", "known"),
        (
            (
                request_id,
                result.outcome.value,
                "yes" if result.prevented_inconsistency else "no",
                duration_text(result.blocked_for),
                str(result.revision),
                "yes" if result.known else "no",
            ),
        ),
    )
    if not result.open_branches:
        return [verdict]
    still_open = Sheet(
        ("service", "branch", "tag", "open in", "age"),
        tuple(
            (
                branch.service or ("" if branch.registered else "(not registered yet)"),
                branch.branch_id,
                branch.tag,
                ", ".join(branch.regions) or "everywhere",
                duration_text(branch.age),
            )
            for branch in result.open_branches
        ),
        title="still open",
    )
    return [verdict, still_open]
