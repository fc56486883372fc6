"""Closing branches (semantics W4, W5), with the early release of this node's waiters (R6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Close, CloseBranches
from rendezvous_raft.core.model import Branch
from rendezvous_raft.core.results import BranchesClosed, CloseOutcome
from rendezvous_raft.node.admission import Admission
from rendezvous_raft.node.calls import BranchClosing
from rendezvous_raft.node.ports import Clock, IdSource, Replicator
from rendezvous_raft.node.proposals import Proposer
from rendezvous_raft.node.watches import RegistrationWatch, WaitIndex, Wakes
from rendezvous_raft.types import BranchId, CommandId, Region, Revision


class EarlyReleases:
    """Closes that this node has received and that are not committed yet (semantics R6).

    A write that is visible in a region stays visible, so the waits of that region on this node
    need not wait for the commit. The overlay contains only closes that were really received, each
    only while its proposal is on its way; checks and other nodes never see it.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[BranchId, Region], int] = {}

    def add(self, closes: list[Close]) -> None:
        """These closes were received."""
        for close in closes:
            key = (close.branch_id, close.region)
            self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, closes: list[Close]) -> None:
        """The proposal of these closes ended, however it ended."""
        for close in closes:
            key = (close.branch_id, close.region)
            left = self._counts[key] - 1
            if left:
                self._counts[key] = left
            else:
                del self._counts[key]

    def covers(self, branch: Branch, region: Region) -> bool:
        """Whether a close of the branch in the region is on its way through this node.

        One of a region that the branch does not have will be refused: it covers nothing.
        """
        counts = self._counts
        return bool(counts) and region in branch.regions and (branch.branch_id, region) in counts


class Closing:
    """Sends closes through the leader and releases this node's waiters at once."""

    def __init__(
        self,
        replicator: Replicator,
        proposer: Proposer,
        admission: Admission,
        watch: RegistrationWatch,
        waits: WaitIndex,
        early: EarlyReleases | None,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._replicator = replicator
        self._proposer = proposer
        self._admission = admission
        self._watch = watch
        self._waits = waits
        self._early = early
        self._clock = clock
        self._ids = ids

    async def close_branches(
        self, closing: BranchClosing, deadline_s: float
    ) -> tuple[BranchesClosed, Revision]:
        """One outcome per item; with `await_registration_s`, waits for unknown branches.

        Raises:
            Draining: the node shuts down, and none of them is closed.
            OutcomeUnknown: it cannot go on, and some of them are or may be closed.
        """
        patience_s = closing.await_registration_s
        end_s = min(self._clock.monotonic_s() + patience_s, deadline_s)
        outcomes, revision = await self._close(closing.closes, deadline_s, closing.command_id)
        while patience_s:
            unknown = [i for i, o in enumerate(outcomes) if o is CloseOutcome.BRANCH_UNKNOWN]
            # One that never appears holds up none of the others (W5).
            try:
                again = await self._first_to_appear(closing.closes, unknown, end_s)
                if not again:
                    break
                late, revision = await self._close(
                    tuple(closing.closes[i] for i in again), deadline_s
                )
            except errors.RendezvousError as error:
                if CloseOutcome.CLOSED not in outcomes:
                    raise
                # Some are closed, so it may not be said that nothing happened (G6).
                raise errors.OutcomeUnknown(error.message, revision=revision) from error
            for i, outcome in zip(again, late, strict=True):
                outcomes[i] = outcome
        return BranchesClosed(tuple(outcomes)), revision

    async def _close(
        self,
        closes: tuple[Close, ...],
        deadline_s: float,
        command_id: CommandId | None = None,
    ) -> tuple[list[CloseOutcome], Revision]:
        command = CloseBranches(command_id or self._ids.command_id(), closes, self._clock.wall_ms())
        with self._admission.proposal(), self._released_early(closes):
            result, revision = await self._proposer.propose(command, deadline_s)
            return list(cast("BranchesClosed", result).outcomes), revision

    @contextmanager
    def _released_early(self, closes: tuple[Close, ...]) -> Iterator[None]:
        """While their proposal is on its way, this node's waits do not wait for them (R6)."""
        if self._early is None:
            yield
            return
        regional = [close for close in closes if close.region]
        self._early.add(regional)
        try:
            self._release_waiters(regional)
            yield
        finally:
            self._early.remove(regional)

    def _release_waiters(self, closes: list[Close]) -> None:
        branches = self._replicator.state.state.branches
        wakes = Wakes()
        for close in closes:
            branch = branches.get(close.branch_id)
            if branch is not None:
                wakes.add(branch.request_id, close.region)
        self._waits.wake(wakes)

    async def _first_to_appear(
        self, closes: tuple[Close, ...], unknown: list[int], end_s: float
    ) -> list[int]:
        """Blocks until some of the unknown branches are registered here; none at the end."""
        while True:
            branches = self._replicator.state.state.branches
            appeared = [i for i in unknown if closes[i].branch_id in branches]
            if appeared or not unknown:
                return appeared
            branch_ids = [closes[i].branch_id for i in unknown]
            with self._admission.wait():
                left_s = end_s - self._clock.monotonic_s()
                if not await self._watch.wait_any(branch_ids, left_s):
                    return []
