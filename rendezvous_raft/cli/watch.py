"""`rendezvous watch`: what happens to a service in a region, or to a request, as it happens."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import click

from rendezvous_raft.cli.descriptions import describe
from rendezvous_raft.cli.durations import DURATION
from rendezvous_raft.cli.everywhere import shown_by_one
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.output import OutputFormat, print_answer, print_json_line, print_text
from rendezvous_raft.cli.request_changes import RequestChange, change_text, changes
from rendezvous_raft.cli.request_tree import styled, tree_lines
from rendezvous_raft.cli.session import Session, run, session_of, shared_options
from rendezvous_raft.client import AsyncClient
from rendezvous_raft.client.results import (
    RequestDescription,
    SubscriptionEvent,
    SubscriptionEventKind,
)
from rendezvous_raft.errors import DeadlineExceeded, RendezvousError, SubscriptionOverflow
from rendezvous_raft.types import Status

AGAIN_S = 0.5
"""Pause before a stream that has ended is taken up again."""
OPEN_REMEMBERED_MAX = 1_000_000
"""Open branches of a service in a region that are remembered, to tell what closed meanwhile."""


@click.command()
@click.option("--service", default="", help="Service to watch, with --region.")
@click.option("--region", default="", help="Region to watch, with --service.")
@click.option("--tag", "tags", multiple=True, help="Only branches with this tag; repeatable.")
@click.option("--request", "request_id", default="", metavar="ID", help="Watch a request instead.")
@click.option(
    "--await-registration",
    type=DURATION,
    help="With --request: how long to wait for one that is not known yet.",
)
@click.option(
    "--until-synced", is_flag=True, help="End once everything that is open has been printed."
)
@click.option(
    "--until-settled", is_flag=True, help="With --request: end once nothing of it is open."
)
@click.option("--timeout", type=DURATION, help="End after this time.  [default: never]")
@shared_options
@click.pass_context
def watch(
    ctx: click.Context,
    /,
    *,
    service: str,
    region: str,
    tags: tuple[str, ...],
    request_id: str,
    await_registration: float | None,
    until_synced: bool,
    until_settled: bool,
    timeout: float | None,
) -> None:
    """Print what is open of a service in a region, or of a request, then every change.

    One line per event until Ctrl-C, JSON with -o json or -o jsonl. Watching closes nothing.

    Exit status 0 at the end that was asked for (--until-…), 1 when the request expires, 3 when
    the stream breaks, 5 when --timeout runs out first.
    """
    if bool(request_id) == bool(service or region or tags):
        raise click.UsageError("give either --service NAME and --region NAME, or --request ID")
    if not request_id and not (service and region):
        raise click.UsageError("--service and --region go together")
    if request_id and until_synced:
        raise click.UsageError("--until-synced goes with --service and --region")
    if not request_id and (until_settled or await_registration is not None):
        raise click.UsageError("--until-settled and --await-registration go with --request")
    session = session_of(ctx)

    async def work() -> bool:
        async with session.connect(session.endpoints) as client:
            if request_id:
                watched: Awaitable[None] = RequestView(session, client).watch(
                    request_id, await_registration_s=await_registration, until_settled=until_settled
                )
            else:
                view = ServiceView(session, client)
                watched = view.watch(service, region, tags, until_synced=until_synced)
            return await _within(watched, timeout)

    if not run(session, work, writes=False):
        ctx.exit(ExitCode.TIMED_OUT)


async def _within(watched: Awaitable[None], timeout_s: float | None) -> bool:
    """Whether it came to its end before the time ran out."""
    try:
        async with asyncio.timeout(timeout_s) as limit:
            await watched
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


class RequestView:
    """A request as it changes."""

    def __init__(self, session: Session, client: AsyncClient) -> None:
        self._session = session
        self._client = client
        self._form = session.form
        self._last: RequestDescription | None = None

    async def watch(
        self, request_id: str, *, await_registration_s: float | None, until_settled: bool
    ) -> None:
        """Prints the request, then its changes, until it is settled or for ever.

        Watches again when a stream ends or breaks that has told something, for the next
        description tells what has changed meanwhile.
        """
        while True:
            told = False
            try:
                async with aclosing(
                    self._client.watch_request(request_id, await_registration=await_registration_s)
                ) as descriptions:
                    async for found in descriptions:
                        told = True
                        self._show(found)
                        if until_settled and found.status is Status.CLOSED:
                            return
            except RendezvousError as error:
                if not (told and error.retryable):
                    raise
                self._session.note(f"watching again: {error}")
                await asyncio.sleep(AGAIN_S)

    def _show(self, found: RequestDescription) -> None:
        last, self._last = self._last, found
        if last is not None:
            for change in changes(last, found):
                self._show_change(change)
            return
        match self._form:
            case OutputFormat.JSON | OutputFormat.JSONL:
                print_json_line({"kind": "described", "request": found})
            case OutputFormat.PLAIN:
                print_answer(self._form, answer=found, sheets=describe(found))
            case _:
                print_text([*tree_lines(shown_by_one(found)), ""], color=self._session.color)

    def _show_change(self, change: RequestChange) -> None:
        match self._form:
            case OutputFormat.JSON | OutputFormat.JSONL:
                print_json_line(change)
            case OutputFormat.PLAIN:
                when = "" if change.at is None else change.at.isoformat()
                regions = ",".join(change.regions) or change.region
                cells = (change.kind.value, when, str(change.revision), change.node,
                         change.service, change.branch_id, regions)  # fmt: skip
                click.echo("\t".join(cell or "-" for cell in cells))
            case _:
                text = f"{_clock(change.at)}  {change_text(change)}"
                print_text([text], color=self._session.color)


class ServiceView:
    """What is open of a service in a region, as it changes."""

    def __init__(self, session: Session, client: AsyncClient) -> None:
        self._client = client
        self._print = _event_printer(session)
        self._note = session.note
        self._open: dict[str, SubscriptionEvent] = {}
        self._before: dict[str, SubscriptionEvent] = {}
        """What was open when the stream before this one ended, and was not listed again so far."""

    async def watch(
        self, service: str, region: str, tags: tuple[str, ...], *, until_synced: bool
    ) -> None:
        """Prints events until everything open has been printed, or for ever.

        A stream that ends with its hour, or because this reader was too slow, is taken up again:
        what was printed as open is not printed again, what is not listed any more has closed.
        """
        while True:
            told = False
            try:
                async with aclosing(self._client.subscribe(service, region, tags=tags)) as events:
                    async for event in events:
                        told = True
                        self._show(event)
                        if until_synced and event.kind is SubscriptionEventKind.SYNCED:
                            return
                return
            except (DeadlineExceeded, SubscriptionOverflow) as error:
                if not told:
                    raise
                self._note(f"watching again: {error}")
                await asyncio.sleep(AGAIN_S)
                self._before, self._open = self._open, {}

    def _show(self, event: SubscriptionEvent) -> None:
        match event.kind:
            case SubscriptionEventKind.OPEN:
                if len(self._open) < OPEN_REMEMBERED_MAX:
                    self._open[event.branch_id] = event
                if self._before.pop(event.branch_id, None) is not None:
                    return
            case SubscriptionEventKind.CLOSED:
                self._open.pop(event.branch_id, None)
            case SubscriptionEventKind.SYNCED:
                for gone in self._before.values():
                    self._print(
                        SubscriptionEvent(
                            kind=SubscriptionEventKind.CLOSED,
                            branch_id=gone.branch_id,
                            request_id=gone.request_id,
                            tag="",
                            locator=b"",
                            registered_at=None,
                            revision=event.revision,
                            is_global=gone.is_global,
                        )
                    )
                self._before = {}
        self._print(event)


def _event_printer(session: Session) -> Callable[[SubscriptionEvent], None]:
    match session.form:
        case OutputFormat.JSON | OutputFormat.JSONL:
            return print_json_line
        case OutputFormat.PLAIN:
            return lambda event: click.echo(_columns(event))
        case _:
            return lambda event: print_text([_words(event)], color=session.color)


def _columns(event: SubscriptionEvent) -> str:
    when = "" if event.registered_at is None else event.registered_at.isoformat()
    cells = (
        event.kind.value,
        str(event.revision),
        event.branch_id,
        event.request_id,
        event.tag,
        when,
        "global" if event.is_global else "",
    )
    return "\t".join(cell or "-" for cell in cells)


def _words(event: SubscriptionEvent) -> str:
    if event.kind is SubscriptionEventKind.SYNCED:
        return f"---  all that was open at revision {event.revision}"
    status = "OPEN" if event.kind is SubscriptionEventKind.OPEN else "closed"
    facts = [f"request {event.request_id}", f"revision {event.revision}"]
    facts += [f"tag {event.tag}"] if event.tag else []
    facts += ["global"] if event.is_global else []
    since = f"  since {_clock(event.registered_at)}" if event.registered_at else ""
    return f"{styled(status)}  {event.branch_id}{since}\n        {' · '.join(facts)}"


def _clock(moment: dt.datetime | None) -> str:
    """A time of day, in UTC."""
    return "--:--:--" if moment is None else f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
