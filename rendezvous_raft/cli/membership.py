"""`rendezvous cluster members|add|remove`: who belongs to the cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.members import MemberAnswer, ask_members, leader_of
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import Session, fail, run, session_of, shared_options
from rendezvous_raft.client.results import MemberDescription
from rendezvous_raft.errors import Unavailable
from rendezvous_raft.types import Standing

ORDER_TIMEOUT_S = 30.0
LEADER_TRIES_MAX = 10
"""Attempts to find the leader, while leadership moves."""
LOOK_S = 0.5
"""Pause between two looks at how far a new member is."""


@click.command()
@shared_options
@click.pass_context
def members(ctx: click.Context) -> None:
    """List the members: who votes, who joins, how far each one's log is.

    The leader's view; exit status 3 when nobody leads.
    """
    session = session_of(ctx)
    found = run(session, lambda: _leader(session), writes=False)
    if found is None or found.status is None:
        raise _no_leader(session)
    status = found.status
    headings = ("name", "region", "standing", "role", "connected", "match", "behind", "Raft",
                "gRPC", "HTTP")  # fmt: skip
    rows = tuple(
        (
            member.name,
            member.region,
            member.standing.value if member.standing else "",
            member.role.value if member.role else "",
            "yes" if member.connected else "no",
            str(member.match_index),
            str(max(0, status.commit_index - member.match_index)),
            member.raft_address,
            member.grpc_address,
            member.http_address,
        )
        for member in status.members
    )
    print_answer(
        session.form,
        answer={"leader": status.leader, "term": status.term, "members": list(status.members)},
        sheets=[Sheet(headings, rows)],
        lines=[{"member": member} for member in status.members],
        color=session.color,
    )


ADD_EPILOG = """\b
Example:
  rendezvous cluster add ap-2 --region ap --raft-address 10.0.3.8:7602 \\
      --grpc-address 10.0.3.8:7600 --http-address 10.0.3.8:7601
"""


@click.command(epilog=ADD_EPILOG)
@click.argument("name")
@click.option("--region", required=True, help="Region that it serves.")
@click.option("--raft-address", required=True, metavar="HOST:PORT", help="Where members dial it.")
@click.option("--grpc-address", required=True, metavar="HOST:PORT", help="Where clients dial it.")
@click.option("--http-address", required=True, metavar="HOST:PORT", help="Where its HTTP is.")
@click.option("--non-voter", is_flag=True, help="It only receives the log and never votes.")
@click.option(
    "--wait/--no-wait", default=True, help="Wait until it has caught up and votes.  [default: wait]"
)
@shared_options
@click.pass_context
def add(ctx: click.Context, /, *, name: str, wait: bool, **member: str | bool) -> None:
    """Add the node NAME to the cluster. Start it with `join = true` before or after.

    It receives the log without a vote, and votes as soon as it has caught up. Adding a member that
    is there already changes nothing, but gives a vote to one that was added with --non-voter.
    """
    session = session_of(ctx)
    from rendezvous_raft.client.arguments import MemberSpec  # noqa: PLC0415 - loads grpc

    spec = MemberSpec(name=name, **member)  # type: ignore[arg-type]

    async def order(leader: MemberAnswer) -> None:
        async with session.connect(leader.address) as client:
            await client.add_member(spec, timeout=ORDER_TIMEOUT_S)

    _order(session, order)
    session.note(f"{name} is a member; start it with join = true if it does not run")
    wanted = Standing.NON_VOTER if spec.non_voter else Standing.VOTER
    if wait:
        run(session, lambda: _await_standing(session, name, wanted), writes=False)
    _print_done(session, name, "added")


@click.command()
@click.argument("name")
@shared_options
@click.pass_context
def remove(ctx: click.Context, /, *, name: str) -> None:
    """Remove the member NAME. A leader hands over first. Stop its process afterwards.

    Refused when too few of the voters that stay can be reached.
    """
    session = session_of(ctx)

    async def order(leader: MemberAnswer) -> None:
        async with session.connect(leader.address) as client:
            await client.remove_member(name, timeout=ORDER_TIMEOUT_S)

    _order(session, order)
    _print_done(session, name, "removed")


def _order(session: Session, order: Callable[[MemberAnswer], Awaitable[None]]) -> None:
    """Gives an order to the leader; to the next one if leadership moves meanwhile."""

    async def give() -> bool:
        for tried in range(1, LEADER_TRIES_MAX + 1):
            leader = await _leader(session)
            if leader is not None:
                try:
                    await order(leader)
                except Unavailable as error:
                    # Definite: nothing was changed. Another leader may do it.
                    if error.leader == leader.name or tried == LEADER_TRIES_MAX:
                        raise
                else:
                    return True
            await asyncio.sleep(LOOK_S)
        return False

    if not run(session, give, writes=True):
        raise _no_leader(session)


async def _leader(session: Session) -> MemberAnswer | None:
    return leader_of(await ask_members(session))


async def _await_standing(session: Session, name: str, wanted: Standing) -> None:
    """Tells how far the member is, until it stands as it shall."""
    told, began_s = "", time.monotonic()
    while True:
        leader = await _leader(session)
        member = _find(leader, name)
        if leader is not None and leader.status is not None and member is not None:
            if member.standing is wanted:
                session.note(f"{name} is a {wanted.value} after {time.monotonic() - began_s:.1f} s")
                return
            behind = max(0, leader.status.commit_index - member.match_index)
            state = f"{behind} entries behind" if member.connected else "not reachable yet"
            if state != told:
                session.note(f"{name}: {state}")
                told = state
        await asyncio.sleep(LOOK_S)


def _find(leader: MemberAnswer | None, name: str) -> MemberDescription | None:
    known = leader.status.members if leader is not None and leader.status is not None else ()
    return next((member for member in known if member.name == name), None)


def _print_done(session: Session, name: str, done: str) -> None:
    sheet = Sheet(("name", "done"), ((name, done),))
    print_answer(
        session.form, answer={"name": name, "done": done}, sheets=[sheet], color=session.color
    )


def _no_leader(session: Session) -> click.exceptions.Exit:
    return fail(
        session,
        "no member that answers leads the cluster",
        next_step="wait for the election; see `rendezvous cluster status`",
        exit_code=ExitCode.UNREACHABLE,
    )
