"""`rendezvous request wait --explain`: why a wait is blocked, told while it is.

On standard error, so that the answer of the wait stays alone on standard output: text for people,
one JSON value per line with `-o json` or `-o jsonl` (docs/explain.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass

import click

from rendezvous_raft.cli.durations import duration_text
from rendezvous_raft.cli.everywhere import ShownRequest, ask_everywhere, shown_by_one
from rendezvous_raft.cli.output import OutputFormat, print_json_line, print_text
from rendezvous_raft.cli.request_changes import VERDICT_TEXTS, RequestChange, change_text, changes
from rendezvous_raft.cli.request_tree import (
    branch_facts,
    joined,
    named,
    node_text,
    region_lines,
    scope_notes,
    waiter_lines,
    wrapped,
)
from rendezvous_raft.cli.scope import scope_text
from rendezvous_raft.cli.session import Session
from rendezvous_raft.client import AsyncClient
from rendezvous_raft.client.results import (
    BranchDescription,
    RequestDescription,
    ScopeDescription,
    WaitResult,
)
from rendezvous_raft.errors import RendezvousError, RequestNotFound
from rendezvous_raft.types import Consistency, Verdict, WaitOutcome

EXPLAIN_AFTER_S = 0.3
"""How long a wait may be blocked before it is explained."""
LAST_LOOK_S = 1.0
"""Time for one more look when the wait has ended: what released it may not have been told yet."""
LEFT_OUT_MAX = 20
"""Branches that are left out and listed one by one."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the wait is about."""

    request_id: str
    scope: ScopeDescription
    required_branches: tuple[str, ...]
    timeout_s: float
    all_nodes: bool


class Explainer:
    """Explains one wait that is under way."""

    def __init__(self, session: Session, client: AsyncClient, question: Question) -> None:
        self._session = session
        self._client = client
        self._question = question
        self._begun_s = time.monotonic()
        self._last: RequestDescription | None = None
        self._json = session.form in {OutputFormat.JSON, OutputFormat.JSONL}

    async def explain(self, waiting: asyncio.Task[WaitResult]) -> None:
        """Tells why the wait is blocked, what changes, and how it ended; returns when it has.

        Never fails because of what it cannot learn: the wait goes on all the same.
        """
        await asyncio.wait((waiting,), timeout=EXPLAIN_AFTER_S)
        if not waiting.done():
            telling = asyncio.create_task(self._tell())
            try:
                await asyncio.wait((waiting, telling), return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait((waiting,))
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
            await self._look_once_more()
        if not waiting.cancelled() and waiting.exception() is None:
            self._tell_end(waiting.result())

    async def _tell(self) -> None:
        try:
            try:
                await self._watch(patience_s=0.0)
            except RequestNotFound:
                request_id = self._question.request_id
                self._say(
                    f"request {request_id} is not registered at the node that serves the wait",
                    {"unexplained": "request_not_found"},
                )
                await self._watch(patience_s=self._question.timeout_s)
        except RendezvousError as error:
            self._say(f"no more is known: {error}", {"unexplained": error.code})

    async def _watch(self, *, patience_s: float) -> None:
        question = self._question
        async with aclosing(
            self._client.watch_request(
                question.request_id,
                scope=question.scope,
                required_branches=question.required_branches,
                open_only=True,
                await_registration=patience_s,
                # What is shown is what holds the wait at this node, not what it should be.
                consistency=Consistency.LOCAL,
            )
        ) as descriptions:
            async for found in descriptions:
                await self._show(found)

    async def _look_once_more(self) -> None:
        question = self._question
        if self._last is None:
            return
        try:
            found = await self._client.describe_request(
                question.request_id,
                scope=question.scope,
                required_branches=question.required_branches,
                open_only=True,
                consistency=Consistency.LOCAL,
                timeout=LAST_LOOK_S,
            )
        except RendezvousError:
            return  # the wait has its answer; there is only less to tell of how it came about
        if found.node == self._last.node:
            self._show_changes(self._last, found)

    async def _show(self, found: RequestDescription) -> None:
        last, self._last = self._last, found
        # Two nodes know of different waits and subscriptions: that would not be a change.
        if last is not None and last.node == found.node:
            self._show_changes(last, found)
            return
        shown = shown_by_one(found)
        if self._question.all_nodes:
            shown = await ask_everywhere(self._session, found)
        if self._json:
            value = {"blocked_for": self._elapsed_s(), "request": shown.found, "nodes": shown.nodes}
            print_json_line({"blocked": value}, err=True)
        else:
            lines = explanation_lines(shown, self._question.scope, self._elapsed_s())
            print_text(lines, color=self._session.color, err=True)

    def _show_changes(self, before: RequestDescription, after: RequestDescription) -> None:
        for change in changes(before, after):
            self._show_change(change)
        for branch_id in before.missing_branches:
            if branch_id not in after.missing_branches:
                self._say(f"{self._moment()}  registered  {branch_id}", {"registered": branch_id})

    def _show_change(self, change: RequestChange) -> None:
        if self._json:
            print_json_line({"change": change}, err=True)
            return
        parts = joined(f"{self._moment()}  {change_text(change)}", "")
        print_text(parts, color=self._session.color, err=True)

    def _tell_end(self, result: WaitResult) -> None:
        blocked = duration_text(result.blocked_for)
        sentence = {
            WaitOutcome.IMMEDIATE: "nothing that is waited for is open",
            WaitOutcome.BLOCKED: f"released after {blocked}: an inconsistency was prevented",
            WaitOutcome.TIMED_OUT: f"timed out after {blocked}: what is read now may be"
            " inconsistent",
        }[result.outcome]
        self._say(f"{self._moment()}  {sentence}", {"ended": result})

    def _say(self, text: str, value: object) -> None:
        if self._json:
            print_json_line(value, err=True)
        else:
            print_text([text], color=self._session.color, err=True)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._begun_s

    def _moment(self) -> str:
        return f"+{self._elapsed_s():.1f} s"


def explanation_lines(
    shown: ShownRequest, scope: ScopeDescription, blocked_for_s: float
) -> Iterator[str]:
    """Which branches hold the wait, which are left out and why, and who else waits."""
    found = shown.found
    blocked = click.style("BLOCKED", fg="yellow", bold=True)
    yield f"request {click.style(found.request_id, bold=True)}"
    yield (
        f"{blocked} {duration_text(blocked_for_s)} at {node_text(found)}, revision {found.revision}"
    )
    yield from wrapped(f"waits for {scope_text(scope)}", "")
    holding = [branch for branch in found.branches if branch.verdict is Verdict.HOLDS]
    if holding or found.missing_branches:
        yield ""
        yield "held by"
    for branch_id in found.missing_branches:
        yield f"   {branch_id}"
        yield "      required, and not registered yet: counts as open everywhere"
    for branch in holding:
        yield from _holding(shown, branch, scope)
    if not holding and not found.missing_branches:
        yield ""
        yield "held by no branch that is listed: it waits for something to be registered"
    yield from _left_out([b for b in found.branches if b.verdict is not Verdict.HOLDS])
    hidden = found.branches_open - len(found.branches)
    if hidden > 0:
        yield f"{hidden} more open branches are not listed"
    yield from waiter_lines(shown)
    yield ""
    yield from scope_notes(shown)


def _holding(
    shown: ShownRequest, branch: BranchDescription, scope: ScopeDescription
) -> Iterator[str]:
    yield from named(branch.service, branch.branch_id, "   ")
    yield from wrapped(" · ".join(branch_facts(branch)), "      ")
    for part in branch.regions:
        if (part.closed_at is None and scope.region in {"", part.region}) or not part.region:
            yield from region_lines(shown, branch, part, "      ")


def _left_out(branches: list[BranchDescription]) -> Iterator[str]:
    if not branches:
        return
    yield ""
    yield "left out, although open"
    for branch in branches[:LEFT_OUT_MAX]:
        yield from named(branch.service, branch.branch_id, "   ")
        zone = f", zone {branch.zone}" if branch.zone else ""
        yield f"      {VERDICT_TEXTS[branch.verdict]}{zone}"
    if len(branches) > LEFT_OUT_MAX:
        yield f"   and {len(branches) - LEFT_OUT_MAX} more"
