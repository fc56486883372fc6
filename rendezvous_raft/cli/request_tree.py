"""A request as a tree for people: branches under their parents, their regions, who waits.

Every line fits into 80 columns unless a single name is longer.
"""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Iterator

import click

from rendezvous_raft.cli.durations import duration_text
from rendezvous_raft.cli.everywhere import ShownRequest
from rendezvous_raft.cli.scope import scope_text
from rendezvous_raft.client.results import (
    BranchDescription,
    RegionStatus,
    RequestDescription,
    WaiterDescription,
)
from rendezvous_raft.types import BranchKind, Status

COLUMNS = 80
DEPTH_MAX = 8
"""Deeper branches are not indented further."""
NAMES_MAX = 3
"""Ids named in one line of a wait."""


def tree_lines(shown: ShownRequest) -> list[str]:
    """The request, its branches as a tree, and who waits; with styles for a terminal."""
    return [*_head(shown.found), *branch_lines(shown), *waiter_lines(shown), *_notes(shown)]


def _head(found: RequestDescription) -> Iterator[str]:
    status = "OPEN" if found.status is Status.OPEN else "settled"
    age = duration_text(seconds_since(found.registered_at, found))
    yield f"request {click.style(found.request_id, bold=True)}"
    yield (
        f"{styled(status)}, {found.branches_open} of {found.branches_total} branches open;"
        f" registered {age} ago"
    )
    yield f"as {node_text(found)} has it at revision {found.revision}"
    left = duration_text(found.expires_in)
    yield f"may be dropped in {left} unless something changes or somebody waits"


def branch_lines(shown: ShownRequest) -> Iterator[str]:
    """The branches that are listed, each under its parent."""
    found = shown.found
    known = {branch.branch_id for branch in found.branches}
    children: dict[str, list[BranchDescription]] = {}
    for branch in found.branches:
        parent = branch.parent_branch_id
        children.setdefault(parent if parent in known else "", []).append(branch)
    # Not by recursion: a chain of branches may be longer than Python's stack is deep.
    pending = [(branch, 0) for branch in reversed(children.get("", []))]
    while pending:
        branch, depth = pending.pop()
        # Where the place in the tree does not tell the parent, words do.
        tells = depth > DEPTH_MAX or not depth
        yield ""
        yield from _branch(
            shown,
            branch,
            indent="   " * min(depth, DEPTH_MAX),
            under=branch.parent_branch_id if tells else "",
        )
        below = children.get(branch.branch_id, [])
        pending += [(child, depth + 1) for child in reversed(below)]
    hidden = found.branches_total - len(found.branches)
    if hidden > 0:
        yield ""
        yield f"{hidden} more branches are not listed"


def _branch(
    shown: ShownRequest, branch: BranchDescription, *, indent: str, under: str
) -> Iterator[str]:
    yield from named(branch.service, branch.branch_id, indent + ("└─ " if indent else ""))
    inside = indent + ("      " if indent else "   ")
    facts = branch_facts(branch) + ([f"under {under}"] if under else [])
    yield from wrapped(" · ".join(facts), inside)
    for part in branch.regions:
        yield from region_lines(shown, branch, part, inside)


def branch_facts(branch: BranchDescription) -> list[str]:
    """What sets a branch apart: tag, zone, kind, whether anybody is told of it, where it is."""
    facts = [f"tag {branch.tag}"] if branch.tag else []
    if branch.zone:
        facts.append(f"zone {branch.zone}")
    if branch.kind is not BranchKind.REGIONAL:
        facts.append(branch.kind.value)
    if not branch.monitored:
        facts.append("unmonitored")
    if branch.locator:
        facts.append(f"locator {branch.locator.decode('utf-8', 'backslashreplace')!r}")
    return facts


def region_lines(
    shown: ShownRequest, branch: BranchDescription, part: RegionStatus, indent: str
) -> Iterator[str]:
    """One region of a branch: open since when and watched by whom, or closed after how long."""
    place = part.region or ("everywhere" if branch.kind is BranchKind.GLOBAL else "no region")
    if part.status is Status.CLOSED:
        after = (
            ""
            if part.closed_at is None
            else (
                f" after {duration_text((part.closed_at - branch.registered_at).total_seconds())}"
            )
        )
        yield f"{indent}{place}  {styled('closed')}{after}"
        return
    age = duration_text(seconds_since(branch.registered_at, shown.found))
    yield from joined(f"{indent}{place}  {styled('OPEN')} for {age}", watched(shown, branch, part))


def watched(shown: ShownRequest, branch: BranchDescription, part: RegionStatus) -> str:
    """Who is told of an open branch in a region, as far as those asked know."""
    if branch.kind is BranchKind.REGIONLESS:
        return "no monitor is told of it; close it in all regions"
    if not branch.monitored:
        return "no monitor is told of it; close it by hand"
    nodes = ", ".join(shown.answered)
    if part.subscribers:
        many = "subscription" if part.subscribers == 1 else "subscriptions"
        return f"{part.subscribers} {many} {'at' if len(shown.answered) == 1 else 'among'} {nodes}"
    if not shown.all_nodes:
        return click.style(f"NO SUBSCRIPTION at {nodes}", fg="red")
    if shown.silent:
        return click.style(f"NO SUBSCRIPTION at {nodes}", fg="red") + (
            f"; {', '.join(shown.silent)} did not answer"
        )
    return click.style("NOBODY SUBSCRIBES: no monitor will close it", fg="red", bold=True)


def waiter_lines(shown: ShownRequest) -> Iterator[str]:
    """Who waits, for what, since when, and what holds them."""
    if shown.found.waiters:
        yield ""
        yield "blocked waits"
    for waiter in shown.found.waiters:
        yield from _waiter(waiter)


def _waiter(waiter: WaiterDescription) -> Iterator[str]:
    since = (
        f"for {duration_text(waiter.blocked_for)}"
        if waiter.blocked_for is not None
        else f"told by a lease, {duration_text(waiter.lease_ends_in or 0.0)} left unless renewed"
    )
    yield from joined(f"   at {waiter.node}  {styled('BLOCKED')} {since}", scope_text(waiter.scope))
    held = [f"held by {name}" for name in waiter.held_by[:NAMES_MAX]]
    if waiter.held_by_more or len(waiter.held_by) > NAMES_MAX:
        held.append("held by more" if held else "held by many")
    held += [f"needs {name}, not registered yet" for name in waiter.missing_branches[:NAMES_MAX]]
    if waiter.awaits_registration:
        held.append("waits for something that was never used to be registered")
    yield from (f"      {line}" for line in held)


def _notes(shown: ShownRequest) -> Iterator[str]:
    yield ""
    yield from scope_notes(shown)


def scope_notes(shown: ShownRequest) -> Iterator[str]:
    """How far what is shown of waits and subscriptions goes."""
    for node in shown.nodes:
        if node.problem:
            name = node.name or node.grpc_address
            yield from joined(f"{name} did not tell of its own waits and subscriptions:",
                              node.problem, indent="   ")  # fmt: skip
    if not shown.all_nodes:
        yield from wrapped(
            f"waits and subscriptions are those at {shown.found.node}, and waits that a lease"
            " tells of; --all-nodes asks every node",
            "",
        )


def seconds_since(moment: dt.datetime, found: RequestDescription) -> float:
    """How long ago something was, by the clocks of two nodes: an estimate, and never negative."""
    now = found.answered_at or dt.datetime.now(dt.UTC)
    return max(0.0, (now - moment).total_seconds())


def node_text(found: RequestDescription) -> str:
    """The node that answered: `n2 (us)`."""
    return f"{found.node} ({found.node_region})" if found.node_region else found.node or "the node"


def named(service: str, branch_id: str, indent: str) -> Iterator[str]:
    """A branch by service and id, in one line if that fits."""
    name = click.style(service, bold=True)
    if len(indent) + len(service) + 2 + len(branch_id) <= COLUMNS:
        yield f"{indent}{name}  {branch_id}"
    else:
        yield f"{indent}{name}"
        yield f"{' ' * len(indent)}{branch_id}"


def joined(first: str, second: str, *, indent: str = "") -> Iterator[str]:
    """Two parts in one line if that fits, else the second one below, wrapped."""
    bare = click.unstyle(first)
    if len(bare) + 3 + len(click.unstyle(second)) <= COLUMNS:
        yield f"{first}   {second}"
        return
    yield first
    below = indent or " " * (len(bare) - len(bare.lstrip()) + 3)
    if click.unstyle(second) == second:
        yield from wrapped(second, below)
    else:
        yield f"{below}{second}"


def wrapped(text: str, indent: str) -> list[str]:
    """Lines of at most 80 columns; none of nothing. A name is never broken."""
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def styled(word: str) -> str:
    """A status word in its color."""
    colors = {"OPEN": "yellow", "BLOCKED": "yellow", "closed": "green", "settled": "green"}
    return click.style(word, fg=colors.get(word))
