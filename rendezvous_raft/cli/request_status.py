"""`rendezvous request check`, `check-regions` and `dependencies`: status, without blocking."""

from __future__ import annotations

from collections.abc import Mapping

import click

from rendezvous_raft.cli.durations import DURATION
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.freshness import freshness_options
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.scope import scope_options
from rendezvous_raft.cli.session import run, session_of, shared_options
from rendezvous_raft.client.results import (
    CheckResult,
    Dependencies,
    RegionStatuses,
    ScopeDescription,
)
from rendezvous_raft.types import Consistency, Status

CALL_TIMEOUT_S = 10.0


@click.command()
@click.argument("request_id", metavar="ID")
@scope_options(mutual_waits=False)
@click.option("--detailed", is_flag=True, help="Also the status of each tag and each region.")
@click.option("--timeout", type=DURATION, default=CALL_TIMEOUT_S, help="As in 10s.  [default: 10s]")
@freshness_options
@shared_options
@click.pass_context
def check(
    ctx: click.Context,
    /,
    *,
    request_id: str,
    scope: ScopeDescription,
    detailed: bool,
    timeout: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """Say whether anything of the request ID is open; never blocks.

    Exit status 0 when all is closed; 1 when something is open, and when the request never used
    what was asked about (unknown): not knowing is no consistency.
    """
    session = session_of(ctx)

    async def work() -> CheckResult:
        async with session.connect(session.endpoints) as client:
            return await client.check_request(
                request_id,
                services=scope.services,
                region=scope.region,
                tag=scope.tag,
                zone=scope.zone,
                wait_dependencies=scope.wait_dependencies,
                detailed=detailed,
                timeout=timeout,
                consistency=consistency,
                min_revision=min_revision,
            )

    result = run(session, work, writes=False)
    verdict = ((request_id, result.status.value, str(result.revision)),)
    sheets = [Sheet(("request", "status", "revision"), verdict)]
    if result.tagged:
        sheets.append(_statuses("tag", result.tagged))
    if result.regions:
        sheets.append(_statuses("region", result.regions))
    print_answer(session.form, answer=result, sheets=sheets, color=session.color)
    if result.status is not Status.CLOSED:
        ctx.exit(ExitCode.FAILED)


@click.command("check-regions")
@click.argument("request_id", metavar="ID")
@click.option(
    "--service", "services", multiple=True, help="Only this service; repeatable.  [default: all]"
)
@click.option("--timeout", type=DURATION, default=CALL_TIMEOUT_S, help="As in 10s.  [default: 10s]")
@freshness_options
@shared_options
@click.pass_context
def check_regions(
    ctx: click.Context,
    /,
    *,
    request_id: str,
    services: tuple[str, ...],
    timeout: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """Say for each region that the request ID ever used whether anything is open there."""
    session = session_of(ctx)

    async def work() -> RegionStatuses:
        async with session.connect(session.endpoints) as client:
            return await client.check_request_by_regions(
                request_id,
                services=services,
                timeout=timeout,
                consistency=consistency,
                min_revision=min_revision,
            )

    result = run(session, work, writes=False)
    sheets = [_statuses("region", result.statuses)]
    print_answer(session.form, answer=result, sheets=sheets, color=session.color)


@click.command()
@click.argument("request_id", metavar="ID")
@click.option(
    "--service",
    default="",
    help="Whose dependants to name.  [default: every service with an open branch]",
)
@click.option("--zone", help="Leave out the branches of this zone, '' for the root zone.")
@click.option("--timeout", type=DURATION, default=CALL_TIMEOUT_S, help="As in 10s.  [default: 10s]")
@freshness_options
@shared_options
@click.pass_context
def dependencies(
    ctx: click.Context,
    /,
    *,
    request_id: str,
    service: str,
    zone: str | None,
    timeout: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """Name the services with open branches that depend on a service of the request ID.

    A service depends on the one under whose branch it registered one of its own.
    """
    session = session_of(ctx)

    async def work() -> Dependencies:
        async with session.connect(session.endpoints) as client:
            return await client.fetch_dependencies(
                request_id,
                service=service,
                zone=zone,
                timeout=timeout,
                consistency=consistency,
                min_revision=min_revision,
            )

    result = run(session, work, writes=False)
    rows = [(name, "direct") for name in result.direct]
    rows += [(name, "indirect") for name in result.indirect]
    sheets = [Sheet(("service", "dependence"), tuple(rows))]
    print_answer(session.form, answer=result, sheets=sheets, color=session.color)


def _statuses(what: str, statuses: Mapping[str, Status]) -> Sheet:
    rows = tuple((name, status.value) for name, status in sorted(statuses.items()))
    return Sheet((what, "status"), rows)
