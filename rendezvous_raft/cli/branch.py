"""`rendezvous branch`: register and close branches by hand."""

from __future__ import annotations

import dataclasses
from typing import Any, TextIO

import click

from rendezvous_raft.cli.branch_file import BranchFileError, read_branches
from rendezvous_raft.cli.durations import DURATION
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import Session, run, session_of, shared_options
from rendezvous_raft.client import BranchSpec, CloseSpec
from rendezvous_raft.client.results import (
    CloseBranchesResult,
    CloseBranchResult,
    RegisterBranchesResult,
    RegisterBranchResult,
)

TIMEOUT_S = 10.0


@click.group()
def branch() -> None:
    """Register and close branches."""


@branch.command()
@click.option("--service", default="", help="Service of the branch.")
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
@click.option(
    "--file",
    "source",
    type=click.File("r", encoding="utf-8"),
    help="Several branches, all or none, instead of one by options: JSON lines or a JSON list"
    ' with fields as in {"service": "a", "regions": ["eu"]}; - is standard input.',
)
@click.option(
    "--await-registration", type=DURATION, help="How long to wait for a parent that is not known."
)
@click.option("--timeout", type=DURATION, default=TIMEOUT_S, help="As in 10s.  [default: 10s]")
@shared_options
@click.pass_context
def register(
    ctx: click.Context,
    /,
    *,
    source: TextIO | None,
    request_id: str | None,
    await_registration: float | None,
    timeout: float,
    is_global: bool,
    **fields: Any,
) -> None:
    """Register a branch, or those of a file, and their request if that is unknown.

    Safe to repeat with the same --request and ids of branches.
    """
    if source is not None:
        given = [name for name, value in {**fields, "global": is_global}.items() if value]
        if given:
            raise click.UsageError(f"--file says all of the branches; leave out {given[0]}")
        branches = _branches_of(source)
    else:
        branches = [_branch_of(is_global=is_global, **fields)]
    session = session_of(ctx)

    async def work() -> RegisterBranchResult | RegisterBranchesResult:
        async with session.connect(session.endpoints) as client:
            if source is None:
                spec = dataclasses.asdict(branches[0])
                return await client.register_branch(
                    spec.pop("service"),
                    **spec,
                    request_id=request_id,
                    await_registration=await_registration,
                    timeout=timeout,
                )
            return await client.register_branches(
                branches,
                request_id=request_id,
                await_registration=await_registration,
                timeout=timeout,
            )

    result = run(session, work, writes=True)
    ids = (result.branch_id,) if isinstance(result, RegisterBranchResult) else result.branch_ids
    existed = "yes" if result.already_existed else "no"
    rows = tuple((result.request_id, name, str(result.revision), existed) for name in ids)
    sheet = Sheet(("request", "branch", "revision", "existed"), rows)
    print_answer(session.form, answer=result, sheets=[sheet], color=session.color)


def _branches_of(source: TextIO) -> list[BranchSpec]:
    try:
        return read_branches(source.read())
    except (BranchFileError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--file: {error}") from None


def _branch_of(
    *,
    service: str,
    regions: tuple[str, ...],
    is_global: bool,
    branch_id: str | None,
    tag: str,
    zone: str | None,
    parent: str,
    locator: str,
    unmonitored: bool,
) -> BranchSpec:
    if not service:
        raise click.UsageError("give --service NAME, or --file")
    if is_global == bool(regions):
        raise click.UsageError("give --region NAME (repeatable), or --global for a branch of none")
    return BranchSpec(
        service, regions, branch_id, tag, zone, parent, not unmonitored, locator.encode()
    )


@branch.command()
@click.argument("branch_ids", metavar="BRANCH…", nargs=-1, required=True)
@click.option("--region", help="Close them in this region.")
@click.option("--all-regions", is_flag=True, help="Close them in every region.")
@click.option("--global", "is_global", is_flag=True, help="Close global branches.")
@click.option(
    "--await-registration", type=DURATION, help="How long to wait for branches that are not known."
)
@click.option("--timeout", type=DURATION, default=TIMEOUT_S, help="As in 10s.  [default: 10s]")
@shared_options
@click.pass_context
def close(
    ctx: click.Context,
    /,
    *,
    branch_ids: tuple[str, ...],
    region: str | None,
    all_regions: bool,
    is_global: bool,
    await_registration: float | None,
    timeout: float,
) -> None:
    """Close BRANCH: readers stop waiting for it.

    A monitor does this once the data is visible. By hand it says so without looking. Of several
    branches each has an answer of its own; exit status 1 when one of them cannot be closed.
    """
    if [bool(region), all_regions, is_global].count(True) != 1:
        raise click.UsageError("give one of --region NAME, --all-regions and --global")
    session = session_of(ctx)
    if len(branch_ids) == 1:
        _close_one(
            session,
            CloseSpec(branch_ids[0], region or "", all_regions),
            await_registration=await_registration,
            timeout_s=timeout,
        )
        return
    closes = [CloseSpec(branch_id, region or "", all_regions) for branch_id in branch_ids]
    if _close_several(session, closes, await_registration=await_registration, timeout_s=timeout):
        ctx.exit(ExitCode.FAILED)


def _close_one(
    session: Session, spec: CloseSpec, *, await_registration: float | None, timeout_s: float
) -> None:
    async def work() -> CloseBranchResult:
        async with session.connect(session.endpoints) as client:
            return await client.close_branch(
                spec.branch_id,
                region=spec.region,
                all_regions=spec.all_regions,
                await_registration=await_registration,
                timeout=timeout_s,
            )

    result = run(session, work, writes=True)
    closed = "now" if result.closed else "before"
    sheet = Sheet(
        ("branch", "closed", "revision"), ((spec.branch_id, closed, str(result.revision)),)
    )
    answer = {"branch_id": spec.branch_id, "closed": result.closed,
              "already_closed": result.already_closed, "revision": result.revision}  # fmt: skip
    print_answer(session.form, answer=answer, sheets=[sheet], color=session.color)


def _close_several(
    session: Session,
    closes: list[CloseSpec],
    *,
    await_registration: float | None,
    timeout_s: float,
) -> bool:
    """Prints an answer for each; whether any of them failed."""

    async def work() -> CloseBranchesResult:
        async with session.connect(session.endpoints) as client:
            return await client.close_branches(
                closes, await_registration=await_registration, timeout=timeout_s
            )

    result = run(session, work, writes=True)
    each = [
        {
            "branch_id": spec.branch_id,
            "closed": one.closed,
            "already_closed": one.already_closed,
            "failure": one.failure and {"code": one.failure.code, "message": one.failure.message},
        }
        for spec, one in zip(closes, result.results, strict=True)
    ]
    rows = tuple(
        (
            spec.branch_id,
            str(one.failure) if one.failure else "now" if one.closed else "before",
            str(result.revision),
        )
        for spec, one in zip(closes, result.results, strict=True)
    )
    print_answer(
        session.form,
        answer={"results": each, "revision": result.revision},
        sheets=[Sheet(("branch", "closed", "revision"), rows)],
        lines=each,
        color=session.color,
    )
    return any(one.failure for one in result.results)
