"""`rendezvous request`: register, show, list, check, wait for and close requests."""

from __future__ import annotations

from collections.abc import Sequence

import click

from rendezvous_raft.cli.descriptions import summary_row
from rendezvous_raft.cli.durations import DURATION
from rendezvous_raft.cli.freshness import freshness_options
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.request_close import close
from rendezvous_raft.cli.request_show import show
from rendezvous_raft.cli.request_status import check, check_regions, dependencies
from rendezvous_raft.cli.request_wait import wait
from rendezvous_raft.cli.session import run, session_of, shared_options
from rendezvous_raft.client import AsyncClient
from rendezvous_raft.client.results import RegisterRequestResult, RequestSummary
from rendezvous_raft.types import Consistency, Status

CALL_TIMEOUT_S = 10.0
LIST_MAX = 10_000


@click.group()
def request() -> None:
    """Register, show, list, check, wait for and close requests."""


for command in (show, wait, check, check_regions, dependencies, close):
    request.add_command(command)


@request.command()
@click.argument("request_id", metavar="[ID]", required=False)
@click.option("--timeout", type=DURATION, default=CALL_TIMEOUT_S, help="As in 10s.  [default: 10s]")
@shared_options
@click.pass_context
def register(ctx: click.Context, /, *, request_id: str | None, timeout: float) -> None:
    """Register a request, under the id ID or a new one.

    Registering a branch does this by itself. Safe to repeat with the same ID.
    """
    session = session_of(ctx)

    async def work() -> RegisterRequestResult:
        async with session.connect(session.endpoints) as client:
            return await client.register_request(request_id, timeout=timeout)

    result = run(session, work, writes=True)
    existed = "no" if result.created else "yes"
    sheet = Sheet(
        ("request", "revision", "existed"), ((result.request_id, str(result.revision), existed),)
    )
    print_answer(session.form, answer=result, sheets=[sheet], color=session.color)


@request.command("list")
@click.option("--status", type=click.Choice(["open", "closed"]), help="Only these.")
@click.option("--service", default="", help="Only requests that used this service.")
@click.option(
    "--limit", type=click.IntRange(1, LIST_MAX), default=100, show_default=True, help="How many."
)
@click.option(
    "--page-token",
    default="",
    metavar="TOKEN",
    help="Go on where a list ended; it says so on standard error, and in JSON.",
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
    page_token: str,
    timeout: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """List requests, oldest first."""
    session = session_of(ctx)

    async def work() -> tuple[Sequence[RequestSummary], str]:
        async with session.connect(session.endpoints) as client:
            return await _pages(
                client,
                Status(status) if status else None,
                service,
                limit=limit,
                page_token=page_token,
                timeout_s=timeout,
                consistency=consistency,
                min_revision=min_revision,
            )

    found, next_token = run(session, work, writes=False)
    headings = ("request", "status", "branches", "open", "services", "registered")
    print_answer(
        session.form,
        answer={"requests": found, "complete": not next_token, "next_page_token": next_token},
        sheets=[Sheet(headings, tuple(summary_row(summary) for summary in found))],
        lines=found,
        color=session.color,
    )
    if next_token:
        session.note(
            f"there are more than these {len(found)}: --page-token {next_token} goes on;"
            " see also --limit, --status, --service"
        )


async def _pages(
    client: AsyncClient,
    status: Status | None,
    service: str,
    *,
    limit: int,
    page_token: str,
    timeout_s: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> tuple[list[RequestSummary], str]:
    """At most `limit` requests, and the token to go on with; empty: these are all."""
    found: list[RequestSummary] = []
    token = page_token
    while len(found) < limit:
        page = await client.list_requests(
            status=status,
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
    return found, token
