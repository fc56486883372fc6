"""Proposing a command and reading the answer: counts, times, turns rejections into errors."""

from __future__ import annotations

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Command
from rendezvous_raft.core.results import Rejected, Result
from rendezvous_raft.node.observer import NodeObserver
from rendezvous_raft.node.ports import Clock, Replicator
from rendezvous_raft.node.rejections import rejection_error
from rendezvous_raft.types import Revision


class Proposer:
    """What the writing use-cases share."""

    def __init__(self, replicator: Replicator, clock: Clock, observer: NodeObserver) -> None:
        self._replicator = replicator
        self._clock = clock
        self._observer = observer

    async def propose(self, command: Command, deadline_s: float) -> tuple[Result, Revision]:
        """Blocks until the command is applied here. Raises what rejected or stopped it."""
        started_s = self._clock.monotonic_s()
        outcome = "cancelled"
        try:
            applied = await self._replicator.propose(command, deadline_s=deadline_s)
            rejected = isinstance(applied.result, Rejected)
            outcome = "rejected" if rejected else "applied"
        except errors.RendezvousError as error:
            outcome = error.code
            raise
        finally:
            self._observer.proposal_done(outcome, self._clock.monotonic_s() - started_s)
        if isinstance(applied.result, Rejected):
            refusal = rejection_error(applied.result, applied.revision)
            if isinstance(refusal, errors.LimitExceeded):
                self._observer.limit_exceeded(applied.result.detail)
            raise refusal
        return applied.result, applied.revision
