"""`rendezvous request close`: the way out when writes of a request will never become visible."""

from __future__ import annotations

from dataclasses import dataclass, field

import click

from rendezvous_raft.cli.durations import DURATION
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import Session, run, session_of, shared_options
from rendezvous_raft.client import CloseSpec
from rendezvous_raft.client.results import BranchDescription, RequestDescription
from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.types import Consistency, Status

CALL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which open branches of a request to close, and where."""

    request_id: str
    services: tuple[str, ...]
    """Empty: all."""
    region: str
    """Empty: every region, also global branches."""

    def closes(self, found: RequestDescription) -> list[CloseSpec]:
        """Those of the listed branches, in the order of their registration."""
        return [
            CloseSpec(branch.branch_id, self.region, all_regions=not self.region)
            for branch in found.branches
            if self._holds(branch)
        ]

    def _holds(self, branch: BranchDescription) -> bool:
        if branch.status is not Status.OPEN:
            return False
        if self.services and branch.service not in self.services:
            return False
        here = (part.region for part in branch.regions if part.status is Status.OPEN)
        return not self.region or self.region in here


@dataclass(slots=True)
class Done:
    """What came of it."""

    closed: list[str] = field(default_factory=list)
    failures: list[tuple[str, RendezvousError]] = field(default_factory=list)
    revision: int = 0
    unseen: int = 0
    """Open branches behind the longest list that a node gives."""


@click.command()
@click.argument("request_id", metavar="ID")
@click.option(
    "--service", "services", multiple=True, help="Only of this service; repeatable.  [default: all]"
)
@click.option("--region", default="", help="Close them in this region.")
@click.option("--all-regions", is_flag=True, help="Close them in every region, and global ones.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout",
    type=DURATION,
    default=CALL_TIMEOUT_S,
    help="Of each call, as in 10s.  [default: 10s]",
)
@shared_options
@click.pass_context
def close(
    ctx: click.Context,
    /,
    *,
    request_id: str,
    services: tuple[str, ...],
    region: str,
    all_regions: bool,
    yes: bool,
    timeout: float,
) -> None:
    """Close what is open of the request ID: no reader waits for it any more.

    Monitors do this once the data is visible. By hand it says so without looking: readers go on,
    and may find nothing. Meant for data that will never come. Safe to repeat. Branches that are
    registered later are open again. Exit status 1 when one of them cannot be closed.
    """
    if bool(region) == all_regions:
        raise click.UsageError("give --region NAME or --all-regions")
    session = session_of(ctx)
    chosen = Chosen(request_id, services, region)

    async def look() -> RequestDescription:
        async with session.connect(session.endpoints) as client:
            return await client.describe_request(
                request_id, open_only=True, timeout=timeout, consistency=Consistency.LINEARIZABLE
            )

    found = run(session, look, writes=False)
    if (closes := chosen.closes(found)) and not yes:
        listed_all = len(found.branches) == found.branches_open
        count = f"{'' if listed_all else 'at least '}{len(closes)} of the {found.branches_open}"
        where = f"in {region}" if region else "everywhere"
        click.confirm(f"Close {count} open branches of {request_id} {where}?", abort=True, err=True)
    done = _close_all(session, chosen, found, timeout_s=timeout)
    _print(session, chosen, done)
    if done.failures or done.unseen:
        ctx.exit(ExitCode.FAILED)


def _close_all(
    session: Session, chosen: Chosen, found: RequestDescription, *, timeout_s: float
) -> Done:
    """Closes list after list: a node names at most 1,000 branches at once."""

    async def work() -> Done:
        done, listed = Done(revision=found.revision), found
        async with session.connect(session.endpoints) as client:
            while closes := chosen.closes(listed):
                answer = await client.close_branches(closes, timeout=timeout_s)
                done.revision = answer.revision
                failed = False
                for spec, one in zip(closes, answer.results, strict=True):
                    if one.failure is None:
                        done.closed.append(spec.branch_id)
                    else:
                        failed = True
                        done.failures.append((spec.branch_id, one.failure))
                if failed or len(listed.branches) == listed.branches_open:
                    break
                session.note(f"{len(done.closed)} closed")
                listed = await client.describe_request(
                    chosen.request_id,
                    open_only=True,
                    timeout=timeout_s,
                    consistency=Consistency.LINEARIZABLE,
                )
        done.unseen = listed.branches_open - len(listed.branches)
        return done

    return run(session, work, writes=True)


def _print(session: Session, chosen: Chosen, done: Done) -> None:
    answer = {
        "request_id": chosen.request_id,
        "closed": done.closed,
        "failures": [
            {"branch_id": name, "code": failure.code, "message": failure.message}
            for name, failure in done.failures
        ],
        "revision": done.revision,
    }
    row = (chosen.request_id, str(len(done.closed)), str(len(done.failures)), str(done.revision))
    sheets = [Sheet(("request", "closed", "failed", "revision"), (row,))]
    if done.failures:
        failed = tuple((name, str(failure)) for name, failure in done.failures)
        sheets.append(Sheet(("branch", "failure"), failed))
    print_answer(session.form, answer=answer, sheets=sheets, color=session.color)
    if done.unseen:
        session.note(
            f"{done.unseen} more branches are open that a node does not list; run it again, or"
            " without --service and --region"
        )
