"""What has changed between two descriptions of a request: events for people and for programs."""

from __future__ import annotations

import datetime as dt
import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import click

from rendezvous_raft.cli.request_tree import styled
from rendezvous_raft.cli.scope import scope_text
from rendezvous_raft.client.results import (
    BranchDescription,
    RegionStatus,
    RequestDescription,
    ScopeDescription,
)
from rendezvous_raft.types import BranchKind, Status, Verdict


class ChangeKind(enum.Enum):
    """What happened."""

    REGISTERED = "registered"
    """A branch."""
    CLOSED = "closed"
    """A branch in a region (empty: a global or regionless one)."""
    VERDICT = "verdict"
    """Another verdict on a branch, of the wait that is explained."""
    SUBSCRIBERS = "subscribers"
    """More or fewer subscriptions at the node are told of a branch in a region."""
    WAIT_BEGAN = "wait_began"
    WAIT_ENDED = "wait_ended"
    SETTLED = "settled"
    """Nothing of the request is open any more."""
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True)
class RequestChange:
    """One event of a request. What does not belong to its kind is empty, or None."""

    kind: ChangeKind
    request_id: str
    node: str
    """Who said so; of a wait, who serves it."""
    at: dt.datetime | None
    """When it was seen; of a branch's own events, when it happened. By clocks of nodes."""
    revision: int
    """Of the description that shows it."""
    branch_id: str = ""
    service: str = ""
    tag: str = ""
    region: str = ""
    regions: tuple[str, ...] = ()
    """Of a new branch; empty: a global or regionless one."""
    is_global: bool = False
    subscribers: int | None = None
    verdict: Verdict | None = None
    scope: ScopeDescription | None = None
    """Of a wait."""


_OF_ONE_NODE = (ChangeKind.SUBSCRIBERS, ChangeKind.WAIT_BEGAN, ChangeKind.WAIT_ENDED)


def changes(before: RequestDescription, after: RequestDescription) -> list[RequestChange]:
    """The events that lead from one description of a request to a later one, in order of kind.

    Both have to have been asked for in the same way. Between descriptions of two nodes, waits and
    subscriptions are left out: that one node does not know of them is no event.
    """
    found = [
        *_branch_changes(before, after),
        *_status_changes(before, after),
        *_wait_changes(before, after),
    ]
    if before.node == after.node:
        return found
    return [change for change in found if change.kind not in _OF_ONE_NODE]


def _branch_changes(
    before: RequestDescription, after: RequestDescription
) -> Iterator[RequestChange]:
    known = {branch.branch_id: branch for branch in before.branches}
    for branch in after.branches:
        old = known.pop(branch.branch_id, None)
        if old is None:
            yield _of_branch(ChangeKind.REGISTERED, after, branch, at=branch.registered_at)
            parts: tuple[RegionStatus | None, ...] = (None,) * len(branch.regions)
        else:
            parts = old.regions
        for was, part in zip(parts, branch.regions, strict=True):
            yield from _region_changes(after, branch, was, part)
        if old is not None and old.verdict is not branch.verdict:
            yield _of_branch(ChangeKind.VERDICT, after, branch, verdict=branch.verdict)
    listed_all = len(after.branches) == after.branches_open
    for branch in known.values():
        # Only in a list of open branches: what is missing there, although all are listed, closed.
        if listed_all:
            for part in branch.regions:
                if part.status is Status.OPEN:
                    yield _of_branch(ChangeKind.CLOSED, after, branch, region=part.region)


def _region_changes(
    after: RequestDescription,
    branch: BranchDescription,
    was: RegionStatus | None,
    part: RegionStatus,
) -> Iterator[RequestChange]:
    if part.status is Status.CLOSED:
        if was is None or was.status is Status.OPEN:
            yield _of_branch(
                ChangeKind.CLOSED, after, branch, region=part.region, at=part.closed_at
            )
    elif was is not None and was.subscribers != part.subscribers:
        yield _of_branch(
            ChangeKind.SUBSCRIBERS,
            after,
            branch,
            region=part.region,
            subscribers=part.subscribers,
        )


def _of_branch(
    kind: ChangeKind,
    after: RequestDescription,
    branch: BranchDescription,
    *,
    at: dt.datetime | None = None,
    region: str = "",
    subscribers: int | None = None,
    verdict: Verdict | None = None,
) -> RequestChange:
    regional = branch.kind is BranchKind.REGIONAL
    named = kind is ChangeKind.REGISTERED and regional
    return RequestChange(
        kind=kind,
        request_id=after.request_id,
        node=after.node,
        at=at or after.answered_at,
        revision=after.revision,
        branch_id=branch.branch_id,
        service=branch.service,
        tag=branch.tag,
        region=region,
        regions=tuple(part.region for part in branch.regions) if named else (),
        is_global=branch.kind is BranchKind.GLOBAL,
        subscribers=subscribers,
        verdict=verdict,
    )


def _status_changes(
    before: RequestDescription, after: RequestDescription
) -> Iterator[RequestChange]:
    if before.status is not after.status:
        settled = after.status is Status.CLOSED
        kind = ChangeKind.SETTLED if settled else ChangeKind.REOPENED
        yield RequestChange(kind, after.request_id, after.node, after.answered_at, after.revision)


def _wait_changes(before: RequestDescription, after: RequestDescription) -> Iterator[RequestChange]:
    # Waits have no names: of equal ones only the number counts.
    was = Counter((waiter.node, waiter.scope) for waiter in before.waiters)
    now = Counter((waiter.node, waiter.scope) for waiter in after.waiters)
    for kind, more in ((ChangeKind.WAIT_BEGAN, now - was), (ChangeKind.WAIT_ENDED, was - now)):
        for node, scope in more.elements():
            yield RequestChange(
                kind, after.request_id, node, after.answered_at, after.revision, scope=scope
            )


VERDICT_TEXTS = {
    None: "no more is known of it",
    Verdict.HOLDS: "holds the wait",
    Verdict.CLOSED: "closed",
    Verdict.OTHER_SERVICE: "another service (S1)",
    Verdict.OTHER_TAG: "another tag (S2)",
    Verdict.OTHER_REGION: "not open in this region (S3)",
    Verdict.OWN_ZONE: "the waiter's own zone (S4)",
    Verdict.ZONE_WAITS: "its zone is greater and waits itself (S5)",
    Verdict.SERVICE_WAITS: "its service waits for the waiter's (S5)",
    Verdict.RELEASED_EARLY: "its close has come, not committed yet (R6)",
}


def change_text(change: RequestChange) -> str:
    """One event in words, styled."""
    branch = f"{change.service}  {change.branch_id}"
    everywhere = "everywhere" if change.is_global else "in no region"
    place = f"in {change.region}" if change.region else everywhere
    match change.kind:
        case ChangeKind.REGISTERED:
            places = f"in {', '.join(change.regions)}" if change.regions else everywhere
            return f"{styled('OPEN')}  {branch}  {places}"
        case ChangeKind.CLOSED:
            return f"{styled('closed')}  {branch}  {place}"
        case ChangeKind.VERDICT:
            return f"now  {branch}  {VERDICT_TEXTS[change.verdict]}"
        case ChangeKind.SUBSCRIBERS:
            many = "subscription" if change.subscribers == 1 else "subscriptions"
            count = f"{change.subscribers} {many} at {change.node}"
            if not change.subscribers:
                count = click.style(f"NO SUBSCRIPTION at {change.node}", fg="red")
            return f"now  {branch}  {place}: {count}"
        case ChangeKind.WAIT_BEGAN | ChangeKind.WAIT_ENDED if change.scope is not None:
            verb = "wait began" if change.kind is ChangeKind.WAIT_BEGAN else "wait ended"
            return f"{verb}  at {change.node}  {scope_text(change.scope)}"
        case ChangeKind.SETTLED:
            return f"{styled('settled')}  nothing of the request is open"
        case _:
            return f"{styled('OPEN')}  the request is open again"
