"""Requests as tables."""

from __future__ import annotations

import datetime as dt

from rendezvous_raft.cli.durations import duration_text
from rendezvous_raft.cli.output import Sheet
from rendezvous_raft.client.results import (
    BranchDescription,
    RequestDescription,
    RequestSummary,
    WaiterDescription,
)
from rendezvous_raft.types import BranchKind, Status


def describe(found: RequestDescription) -> list[Sheet]:
    """The request, its branches, and who waits for it."""
    sheets = [
        Sheet(
            ("request", "status", "branches", "registered", "revision"),
            (
                (
                    found.request_id,
                    found.status.value,
                    str(found.branches_total),
                    _moment(found.registered_at),
                    str(found.revision),
                ),
            ),
        )
    ]
    if found.branches:
        rows = tuple(_branch_row(branch) for branch in found.branches)
        headings = ("service", "branch", "status", "open in", "closed in", "tag", "zone", "parent",
                    "registered", "kind", "monitored", "subscriptions")  # fmt: skip
        sheets.append(Sheet(headings, rows, title="branches"))
    if found.waiters:
        waiters = tuple(_waiter_row(waiter) for waiter in found.waiters)
        of_waiters = ("node", "services", "region", "tag", "zone", "blocked for", "waiter service",
                      "leased", "held by", "missing")  # fmt: skip
        sheets.append(Sheet(of_waiters, waiters, title="blocked waits"))
    return sheets


def summary_row(summary: RequestSummary) -> tuple[str, ...]:
    """A request of a listing."""
    return (
        summary.request_id,
        summary.status.value,
        str(summary.branches),
        str(summary.branches_open),
        ", ".join(summary.services),
        _moment(summary.registered_at),
    )


def _branch_row(branch: BranchDescription) -> tuple[str, ...]:
    regions: dict[Status, list[str]] = {}
    for entry in branch.regions:
        regions.setdefault(entry.status, []).append(entry.region or _nowhere(branch.kind))
    return (
        branch.service,
        branch.branch_id,
        branch.status.value,
        ", ".join(regions.get(Status.OPEN, ())),
        ", ".join(regions.get(Status.CLOSED, ())),
        branch.tag,
        branch.zone,
        branch.parent_branch_id,
        _moment(branch.registered_at),
        branch.kind.value,
        "yes" if branch.monitored else "no",
        ", ".join(
            f"{part.region or _nowhere(branch.kind)}={part.subscribers}"
            for part in branch.regions
            if part.status is Status.OPEN
        ),
    )


def _waiter_row(waiter: WaiterDescription) -> tuple[str, ...]:
    return (
        waiter.node,
        ", ".join(waiter.scope.services) or "all",
        waiter.scope.region or "any",
        waiter.scope.tag,
        "" if waiter.scope.zone is None else waiter.scope.zone or "(root)",
        "" if waiter.blocked_for is None else duration_text(waiter.blocked_for),
        waiter.scope.waiter_service,
        "yes" if waiter.leased else "no",
        ", ".join((*waiter.held_by, *(("…",) if waiter.held_by_more else ()))),
        ", ".join(waiter.missing_branches),
    )


def _nowhere(kind: BranchKind) -> str:
    return "everywhere" if kind is BranchKind.GLOBAL else "no region"


def _moment(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
