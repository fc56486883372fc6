"""What clients were told, and whether what the nodes say afterwards agrees with it.

Ids are chosen by the load and used once, so that every write is recognisable. An operation on a
branch is *acknowledged*, has *failed* (definitely did not happen) or is *unknown*. A ledger finds:

- lost: acknowledged, and not there;
- doubled: one branch twice, one close counted twice, one revision for two writes;
- a lie: "definitely did not happen", and there it is;
- from nowhere: there, and nobody asked for it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

VIOLATIONS_KEPT = 50
"""Descriptions kept; all are counted."""


class Outcome(enum.Enum):
    """What a client was told of an operation."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class BranchWrites:
    """The operations on one branch."""

    request_id: str
    registration: Outcome
    closes: dict[str, Outcome] = field(default_factory=dict)
    """By region; only of regions whose close was tried."""


@dataclass(frozen=True, slots=True)
class SeenBranch:
    """A branch as a node shows it."""

    branch_id: str
    closed: Mapping[str, bool]
    """By region."""


@dataclass(slots=True)
class Violations:
    """What must not be, by kind."""

    counts: dict[str, int] = field(default_factory=dict)
    descriptions: list[str] = field(default_factory=list)

    def add(self, kind: str, description: str) -> None:
        """Counts one, and keeps its description if there is room."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(self.descriptions) < VIOLATIONS_KEPT:
            self.descriptions.append(f"{kind}: {description}")

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.counts)


class Ledger:
    """All operations of a run. See the module's docstring."""

    def __init__(self) -> None:
        self.branches: dict[str, BranchWrites] = {}
        self.by_request: dict[str, list[str]] = {}
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.repeated = 0
        """Acknowledged operations that were sent once more."""
        self.errors: dict[str, int] = {}
        """Failed and unknown operations by the code of their error."""
        self.violations = Violations()
        self.revision = 0
        """The highest one of an acknowledged write."""
        self._revisions: dict[int, str] = {}

    @property
    def acknowledged(self) -> int:
        """Operations that were acknowledged."""
        return self.outcomes[Outcome.ACKNOWLEDGED]

    # What clients were told

    def registration(self, branch_id: str, request_id: str, outcome: Outcome) -> None:
        """A branch was registered, or not."""
        self.outcomes[outcome] += 1
        self.branches[branch_id] = BranchWrites(request_id, outcome)
        self.by_request.setdefault(request_id, []).append(branch_id)

    def close(self, branch_id: str, region: str, outcome: Outcome) -> None:
        """A branch that had been acknowledged was closed in a region, or not."""
        self.outcomes[outcome] += 1
        self.branches[branch_id].closes[region] = outcome

    def error(self, code: str) -> None:
        """Why an operation was not acknowledged."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def answered(self, operation: str, revision: int) -> None:
        """An acknowledgement named this revision: each command has one of its own."""
        other = self._revisions.setdefault(revision, operation)
        if other != operation:
            self.violations.add("doubled", f"revision {revision} is of {other} and of {operation}")
        self.revision = max(self.revision, revision)

    def repetition(self, operation: str, *, known: bool) -> None:
        """An acknowledged operation was sent again; `known` is whether the answer said so."""
        self.repeated += 1
        if not known:
            self.violations.add("lost", f"{operation} was acknowledged, and is news to a node")

    # What the nodes say

    def judge(self, node: str, request_id: str, seen: list[SeenBranch]) -> int:
        """Compares a request on a node, read after everything; how many operations were checked."""
        checked = 0
        found: dict[str, SeenBranch] = {}
        for branch in seen:
            if branch.branch_id in found:
                self.violations.add("doubled", f"{branch.branch_id} is on {node} twice")
            found[branch.branch_id] = branch
            writes = self.branches.get(branch.branch_id)
            if writes is None or writes.request_id != request_id:
                self.violations.add("from nowhere", f"{branch.branch_id} on {node}")
        for branch_id in self.by_request.get(request_id, ()):
            writes = self.branches[branch_id]
            there = found.get(branch_id)
            self._compare(f"{branch_id} on {node}", writes.registration, there=there is not None)
            checked += 1
            for region, closed in {} if there is None else there.closed.items():
                outcome = writes.closes.get(region)
                if outcome is not None:
                    self._compare(
                        f"close of {branch_id} in {region} on {node}", outcome, there=closed
                    )
                    checked += 1
                elif closed:
                    self.violations.add("from nowhere", f"close of {branch_id} in {region}")
        return checked

    def acknowledged_now(self, request_id: str) -> dict[str, list[str]]:
        """Acknowledged branches of a request, with the regions whose close was acknowledged."""
        return {
            branch_id: [
                region
                for region, outcome in self.branches[branch_id].closes.items()
                if outcome is Outcome.ACKNOWLEDGED
            ]
            for branch_id in self.by_request.get(request_id, ())
            if self.branches[branch_id].registration is Outcome.ACKNOWLEDGED
        }

    def judge_while_running(
        self, node: str, acknowledged: Mapping[str, list[str]], seen: list[SeenBranch]
    ) -> int:
        """Looks for what had been acknowledged before the read; how many operations that were."""
        found = {branch.branch_id: branch for branch in seen}
        for branch_id, regions in acknowledged.items():
            there = found.get(branch_id)
            if there is None:
                self.violations.add("lost", f"{branch_id} on {node}, for a while at least")
                continue
            for region in regions:
                if not there.closed.get(region):
                    self.violations.add("lost", f"close of {branch_id} in {region} on {node}")
        return len(acknowledged) + sum(map(len, acknowledged.values()))

    def _compare(self, what: str, outcome: Outcome, *, there: bool) -> None:
        if outcome is Outcome.ACKNOWLEDGED and not there:
            self.violations.add("lost", what)
        elif outcome is Outcome.FAILED and there:
            self.violations.add("a lie", f"{what} definitely did not happen, and did")
