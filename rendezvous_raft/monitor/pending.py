"""The branches that a monitor still has to see closed, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rendezvous_raft.monitor.ports import BranchOpened, PendingBranch
from rendezvous_raft.types import BranchId


@dataclass(slots=True)
class OpenBranch:
    """A branch that is open in the region as far as the monitor knows."""

    opened: BranchOpened
    branch: PendingBranch
    since: float
    """Estimated time of the registration, on the loop's clock; ages count from it."""
    visible_at: float | None = None
    """When it was found visible, on the loop's clock; its close is on its way since then."""


class PendingSet:
    """Open branches by id, and the mark-and-sweep of a listing (M1)."""

    def __init__(self) -> None:
        self._open: dict[BranchId, OpenBranch] = {}
        self._listed: set[BranchId] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, branch_id: object) -> bool:
        return branch_id in self._open

    def __iter__(self) -> Iterator[OpenBranch]:
        """In the order in which they came; the oldest is usually first."""
        return iter(self._open.values())

    def get(self, branch_id: BranchId) -> OpenBranch | None:
        """The branch, or None when it is not pending."""
        return self._open.get(branch_id)

    def begin_list(self) -> None:
        """From now on every delivery belongs to a new listing; an unfinished one is forgotten."""
        self._listed = set()

    def add(self, opened: BranchOpened, *, since: float) -> bool:
        """Adds a branch; False when it was pending already."""
        if self._listed is not None:
            self._listed.add(opened.branch_id)
        if opened.branch_id in self._open:
            return False
        branch = PendingBranch(opened.branch_id, opened.locator)
        self._open[opened.branch_id] = OpenBranch(opened, branch, since)
        return True

    def discard(self, branch_id: BranchId) -> OpenBranch | None:
        """Removes a branch that is closed; returns it, or None when it was not pending."""
        if self._listed is not None:
            self._listed.discard(branch_id)
        return self._open.pop(branch_id, None)

    def end_list(self) -> list[BranchId]:
        """Makes the pending set exactly what was listed; returns the ids removed."""
        listed, self._listed = self._listed, None
        if listed is None:
            return []
        gone = [branch_id for branch_id in self._open if branch_id not in listed]
        for branch_id in gone:
            del self._open[branch_id]
        return gone

    def oldest(self) -> OpenBranch | None:
        """The branch registered first, or None when nothing is pending. Linear in their number."""
        return min(self._open.values(), key=lambda known: known.since, default=None)
