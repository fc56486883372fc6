"""`rendezvous branch`: register and close branches by hand."""

from __future__ import annotations

import click

from rendezvous_raft.cli.durations import DURATION
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import run, session_of, shared_options
from rendezvous_raft.client.results import CloseBranchResult, RegisterBranchResult

TIMEOUT_S = 10.0


@click.group()
def branch() -> None:
    """Register and close branches."""


@branch.command()
@click.option("--service", required=True, help="Service of the branch.")
@click.option(
    "--region", "regions", multiple=True, metavar="NAME", help="Where it is open; repeatable."
)
@click.option("--global", "is_global", is_flag=True, help="Open everywhere, without regions.")
@click.option("--request", "request_id", help="Request of the branch; none: a new one.")
@click.option("--branch", "branch_id", help="Id of the branch; none: a new one.")
@click.option("--tag", default="", help="Name of the operation inside the service.")
@click.option("--zone", help="Zone in which it is registered; none: the root zone.")
@click.option("--parent", default="", metavar="BRANCH", help="Branch that it is registered under.")
@click.option("--locator", default="", help="Where the data is; monitors get it.")
@click.option("--unmonitored", is_flag=True, help="Tell no monitor of it; close it by hand.")
@click.option("--timeout", type=DURATION, default=TIMEOUT_S, help="As in 10s.  [default: 10s]")
@shared_options
@click.pass_context
def register(
    ctx: click.Context,
    /,
    *,
    service: str,
    regions: tuple[str, ...],
    is_global: bool,
    request_id: str | None,
    branch_id: str | None,
    tag: str,
    zone: str | None,
    parent: str,
    locator: str,
    unmonitored: bool,
    timeout: float,
) -> None:
    """Register a branch, and its request if that is unknown.

    Safe to repeat with the same --request and --branch.
    """
    if is_global == bool(regions):
        raise click.UsageError("give --region NAME (repeatable), or --global for a branch of none")
    session = session_of(ctx)

    async def work() -> RegisterBranchResult:
        async with session.connect(session.endpoints) as client:
            return await client.register_branch(
                service,
                regions=regions,
                request_id=request_id,
                branch_id=branch_id,
                tag=tag,
                zone=zone,
                parent_branch_id=parent,
                locator=locator.encode(),
                monitored=not unmonitored,
                timeout=timeout,
            )

    result = run(session, work, writes=True)
    sheet = Sheet(
        ("request", "branch", "revision", "existed"),
        (
            (
                result.request_id,
                result.branch_id,
                str(result.revision),
                "yes" if result.already_existed else "no",
            ),
        ),
    )
    print_answer(session.form, answer=result, sheets=[sheet], color=session.color)


@branch.command()
@click.argument("branch_id", metavar="BRANCH")
@click.option("--region", help="Close it in this region.")
@click.option("--all-regions", is_flag=True, help="Close it in every region.")
@click.option("--global", "is_global", is_flag=True, help="Close a global branch.")
@click.option("--timeout", type=DURATION, default=TIMEOUT_S, help="As in 10s.  [default: 10s]")
@shared_options
@click.pass_context
def close(
    ctx: click.Context,
    /,
    *,
    branch_id: str,
    region: str | None,
    all_regions: bool,
    is_global: bool,
    timeout: float,
) -> None:
    """Close BRANCH: readers stop waiting for it.

    A monitor does this once the data is visible. By hand it says so without looking.
    """
    if [bool(region), all_regions, is_global].count(True) != 1:
        raise click.UsageError("give one of --region NAME, --all-regions and --global")
    session = session_of(ctx)

    async def work() -> CloseBranchResult:
        async with session.connect(session.endpoints) as client:
            return await client.close_branch(
                branch_id, region=region or "", all_regions=all_regions, timeout=timeout
            )

    result = run(session, work, writes=True)
    sheet = Sheet(
        ("branch", "closed", "revision"),
        (
            (
                branch_id,
                "now" if result.closed else "before",
                str(result.revision),
            ),
        ),
    )
    answer = {"branch_id": branch_id, "closed": result.closed,
              "already_closed": result.already_closed, "revision": result.revision}  # fmt: skip
    print_answer(session.form, answer=answer, sheets=[sheet], color=session.color)
