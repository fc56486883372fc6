"""`rendezvous request show`."""

from __future__ import annotations

import click

from rendezvous_raft.cli.descriptions import describe
from rendezvous_raft.cli.durations import DURATION
from rendezvous_raft.cli.everywhere import ShownRequest, ask_everywhere, shown_by_one
from rendezvous_raft.cli.freshness import freshness_options
from rendezvous_raft.cli.output import Json, print_answer, to_json
from rendezvous_raft.cli.request_tree import tree_lines
from rendezvous_raft.cli.session import run, session_of, shared_options
from rendezvous_raft.types import Consistency

CALL_TIMEOUT_S = 10.0


@click.command()
@click.argument("request_id", metavar="ID")
@click.option("--open", "open_only", is_flag=True, help="Only the branches that are open.")
@click.option(
    "--all-nodes",
    is_flag=True,
    help="Ask every node for the waits and subscriptions that only it knows of.",
)
@click.option("--timeout", type=DURATION, default=CALL_TIMEOUT_S, help="As in 10s.  [default: 10s]")
@freshness_options
@shared_options
@click.pass_context
def show(
    ctx: click.Context,
    /,
    *,
    request_id: str,
    open_only: bool,
    all_nodes: bool,
    timeout: float,
    consistency: Consistency | None,
    min_revision: int | None,
) -> None:
    """Show the request ID: a tree of its branches, and the waits that are blocked on it.

    Each open region says since when, and how many subscriptions are told of it: a branch that
    nobody subscribes to is closed by nobody.
    """
    session = session_of(ctx)

    async def work() -> ShownRequest:
        async with session.connect(session.endpoints) as client:
            found = await client.describe_request(
                request_id,
                open_only=open_only,
                timeout=timeout,
                consistency=consistency,
                min_revision=min_revision,
            )
        return await ask_everywhere(session, found) if all_nodes else shown_by_one(found)

    shown = run(session, work, writes=False)
    print_answer(
        session.form,
        answer=shown_json(shown),
        sheets=describe(shown.found),
        text=tree_lines(shown),
        color=session.color,
    )


def shown_json(shown: ShownRequest) -> dict[str, Json]:
    """The fields of the description, and the nodes whose waits and subscriptions are in it."""
    found = to_json(shown.found)
    if not isinstance(found, dict):
        raise TypeError("a description has fields")
    return {**found, "nodes": to_json(shown.nodes)}
