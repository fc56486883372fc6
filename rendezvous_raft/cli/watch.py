"""`rendezvous watch`."""

from __future__ import annotations

from contextlib import aclosing

import click

from rendezvous_raft.cli.output import OutputFormat, print_json_line
from rendezvous_raft.cli.session import run, session_of, shared_options
from rendezvous_raft.client.results import SubscriptionEvent, SubscriptionEventKind


@click.command()
@click.option("--service", required=True, help="Service to watch.")
@click.option("--region", required=True, help="Region to watch.")
@click.option("--tag", "tags", multiple=True, help="Only branches with this tag; repeatable.")
@click.option(
    "--until-synced", is_flag=True, help="End once everything that is open has been printed."
)
@shared_options
@click.pass_context
def watch(
    ctx: click.Context, /, *, service: str, region: str, tags: tuple[str, ...], until_synced: bool
) -> None:
    """Print the open branches of a service in a region, then every change, until Ctrl-C.

    One line per event, JSON with -o json or -o jsonl. Watching closes nothing.
    """
    session = session_of(ctx)
    as_json = session.form in {OutputFormat.JSON, OutputFormat.JSONL}

    async def work() -> None:
        async with session.connect(session.endpoints) as client:
            events = client.subscribe(service, region, tags=tags)
            async with aclosing(events):
                async for event in events:
                    if as_json:
                        print_json_line(event)
                    else:
                        click.echo(_line(event))
                    if until_synced and event.kind is SubscriptionEventKind.SYNCED:
                        return

    run(session, work, writes=False)


def _line(event: SubscriptionEvent) -> str:
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
