"""Values as a type checker sees them. Never run: `tests/test_public_api.py` checks it.

Each `ignore` stands for an assignment that has to be refused: one too many is an error.
"""

from __future__ import annotations

from rendezvous_raft.core.commands import Close
from rendezvous_raft.core.events import RequestOpened
from rendezvous_raft.core.results import LeaseChanged
from rendezvous_raft.node.calls import Freshness
from rendezvous_raft.types import BranchId, Region, RequestId, Revision


def nobody_changes_a_value(
    close: Close, event: RequestOpened, result: LeaseChanged, freshness: Freshness
) -> None:
    close.region = Region("eu")  # type: ignore[misc]
    event.request_id = RequestId("r2")  # type: ignore[misc]
    result.known = True  # type: ignore[misc]
    freshness.min_revision = Revision(7)  # type: ignore[misc]
    Close(BranchId("b"), "eu")  # type: ignore[arg-type]
