"""`rendezvous request`: show, list and wait for requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from rendezvous_raft.cli.descriptions import describe, summary_row
from rendezvous_raft.cli.durations import DURATION, duration_text
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.freshness import freshness_options
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import run, session_of, shared_options
from rendezvous_raft.client import AsyncClient
from rendezvous_raft.client.results import RequestDescription, RequestSummary, WaitResult
from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.types import Consistency, Status

CALL_TIMEOUT_S = 10.0
WAIT_TIMEOUT_S = 30.0
EXPLAIN_AFTER_S = 0.3
"""How long a wait may be blocked before `--explain` says why."""
LIST_MAX = 10_000


@click.group()
def request() -> None:
    """Show, list and wait for requests."""


@request.command()
@click.argument("request_id", metavar="ID")
@click.option("--timeout", type=DURATION, default=CALL_TIMEOUT_S, help="As in 10s.  [default: 10s]")
@freshness_options
@shared_options
@click.pass_context
def show(
    ctx: click.Context,
    /,
    *,
    request_id: str,
    timeout: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """Show the request ID with its branches, and the waits that are blocked on it."""
    session = session_of(ctx)

    async def work() -> RequestDescription:
        async with session.connect(session.endpoints) as client:
            return await client.describe_request(
                request_id, timeout=timeout, consistency=consistency, min_revision=min_revision
            )

    found = run(session, work, writes=False)
    print_answer(session.form, answer=found, sheets=describe(found), color=session.color)


@request.command("list")
@click.option("--status", type=click.Choice(["open", "closed"]), help="Only these.")
@click.option("--service", default="", help="Only requests that used this service.")
@click.option(
    "--limit", type=click.IntRange(1, LIST_MAX), default=100, show_default=True, help="How many."
)
@click.option("--timeout", type=DURATION, default=CALL_TIMEOUT_S, help="As in 10s.  [default: 10s]")
@freshness_options
@shared_options
@click.pass_context
def list_(
    ctx: click.Context,
    /,
    *,
    status: str | None,
    service: str,
    limit: int,
    timeout: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """List requests, oldest first."""
    session = session_of(ctx)

    async def work() -> tuple[Sequence[RequestSummary], bool]:
        async with session.connect(session.endpoints) as client:
            return await _pages(
                client,
                status,
                service,
                limit=limit,
                timeout_s=timeout,
                consistency=consistency,
                min_revision=min_revision,
            )

    found, complete = run(session, work, writes=False)
    headings = ("request", "status", "branches", "open", "services", "registered")
    print_answer(
        session.form,
        answer={"requests": found, "complete": complete},
        sheets=[Sheet(headings, tuple(summary_row(summary) for summary in found))],
        lines=found,
        color=session.color,
    )
    if not complete:
        session.note(f"there are more than these {len(found)}; see --limit and --status")


@request.command()
@click.argument("request_id", metavar="ID")
@click.option(
    "--service", "services", multiple=True, help="Only this service; repeatable.  [default: all]"
)
@click.option("--region", default="", help="Region of the reader.  [default: any region]")
@click.option("--tag", default="", help="Only branches with this tag; needs one --service.")
@click.option("--zone", help="Zone of the reader; its own branches are left out.")
@click.option("--wait-dependencies", is_flag=True, help="Also what depends on the services.")
@click.option(
    "--require",
    "required",
    multiple=True,
    metavar="BRANCH",
    help="Branch that must be known first.",
)
@click.option(
    "--await-registration",
    type=DURATION,
    help="How long to wait for a request, service or tag that is not known yet.",
)
@click.option(
    "--timeout", type=DURATION, default=WAIT_TIMEOUT_S, help="As in 500ms, 5s.  [default: 30s]"
)
@click.option("--explain", is_flag=True, help="Say on standard error why it blocks.")
@freshness_options
@shared_options
@click.pass_context
def wait(
    ctx: click.Context,
    /,
    *,
    request_id: str,
    services: tuple[str, ...],
    region: str,
    tag: str,
    zone: str | None,
    wait_dependencies: bool,
    required: tuple[str, ...],
    await_registration: float | None,
    timeout: float,
    explain: bool,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """Block until nothing of the request ID is open.

    Exit status 0 when nothing is open, 5 when the time runs out first.
    """
    session = session_of(ctx)

    async def work() -> WaitResult:
        async with session.connect(session.endpoints) as client:
            waiting = asyncio.create_task(
                client.wait_request(
                    request_id,
                    services=services,
                    region=region,
                    tag=tag,
                    zone=zone,
                    wait_dependencies=wait_dependencies,
                    required_branches=required,
                    await_registration=await_registration,
                    timeout=timeout,
                    consistency=consistency,
                    min_revision=min_revision,
                )
            )
            try:
                if explain:
                    await _explain(client, request_id, waiting, consistency)
                return await waiting
            finally:
                waiting.cancel()

    result = run(session, work, writes=False)
    print_answer(
        session.form, answer=result, sheets=_wait_sheets(request_id, result), color=session.color
    )
    if result.timed_out:
        ctx.exit(ExitCode.TIMED_OUT)


async def _explain(
    client: AsyncClient,
    request_id: str,
    waiting: asyncio.Task[WaitResult],
    consistency: Consistency | None,
) -> None:
    """Once the wait has been blocked for a moment, shows what the node knows of the request."""
    await asyncio.wait((waiting,), timeout=EXPLAIN_AFTER_S)
    if waiting.done():
        return
    try:
        found = await client.describe_request(
            request_id, timeout=CALL_TIMEOUT_S, consistency=consistency
        )
    except RendezvousError as error:
        click.echo(f"request {request_id} blocked; no more is known: {error}", err=True)
        return
    click.echo(f"request {request_id} blocked at revision {found.revision}:", err=True)
    for branch in found.branches:
        if branch.status is Status.OPEN:
            open_in = ", ".join(
                region.region or "everywhere"
                for region in branch.regions
                if region.status is Status.OPEN
            )
            since = branch.registered_at.isoformat(timespec="milliseconds")
            click.echo(
                f"  {branch.service}  {branch.branch_id}  open in {open_in}  since {since}",
                err=True,
            )


async def _pages(
    client: AsyncClient,
    status: str | None,
    service: str,
    *,
    limit: int,
    timeout_s: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> tuple[list[RequestSummary], bool]:
    """At most `limit` requests, and whether these are all."""
    found: list[RequestSummary] = []
    token = ""
    while len(found) < limit:
        page = await client.list_requests(
            status=Status(status) if status else None,
            service=service,
            page_size=min(limit - len(found), 1_000),
            page_token=token,
            timeout=timeout_s,
            consistency=consistency,
            min_revision=min_revision,
        )
        found += page.requests
        token = page.next_page_token
        if not token or not page.requests:
            break
    return found, not token


def _wait_sheets(request_id: str, result: WaitResult) -> list[Sheet]:
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
