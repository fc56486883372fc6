"""Group commit: the commands of a loop turn become one entry.

A batch leaves at the end of the turn in which its commands came, if fewer than
`entries_unpaced_max` are on their way and most of those who got the last answers are back in that
turn, or there is only one of them. When they trickle in, it leaves a pause after the last one: many
small entries cost more than they are worth. Across regions entries are out for a round trip each,
and the next batch would stand still for as long; so up to `entries_in_flight_max` may follow, at a
slower pace. A batch ends when this node applies it, recognised by origin and sequence, or when
its commands' deadlines pass.

Outcomes. While a batch waits to be sent, a passing deadline is definite. Once the engine took it
for sending it may be in somebody's log, until the engine says that it certainly is not; then it
goes back to the front of the queue. After a change of leader, or a broken connection to it, a
batch on its way is sent again: its commands carry their ids, so it has one effect (semantics G2,
5.3), and the first of the two to be applied answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rendezvous_raft import errors
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import COMMAND_BYTES_MAX, NodeLimits
from rendezvous_raft.node.ports import Clock

ENTRY_PACE_S = 0.002
ENTRY_PACE_PER_COMMAND_S = 0.0005
"""Pause after an entry by its size, for a batch that trickles in; twice as much by its size while
another is on its way. An entry costs every node about a millisecond of work, whatever is in it:
under load few large ones are better, with a few callers a short pause is. The limit
`entry_pace_ms_max` bounds it."""


@dataclass(slots=True, eq=False)
class Proposal:
    """A command on its way: its bytes, when its caller gives up, and who waits for the answer."""

    encoded: bytes
    deadline_s: float
    answer: asyncio.Future[Applied]
    sendings: int = 0
    """How often it was sent, in this batch or another, and not certainly returned."""

    @property
    def submitted(self) -> bool:
        """Whether it may be in somebody's log."""
        return self.sendings > 0


@dataclass(slots=True, eq=False)
class Batch:
    """Proposals that travel as one entry."""

    sequence: int
    proposals: list[Proposal] = field(default_factory=list)

    def mark_sent(self) -> None:
        """The engine took it: from now on it may be in somebody's log."""
        for proposal in self.proposals:
            proposal.sendings += 1

    def mark_returned(self) -> None:
        """Its last sending certainly was not appended; with no other one, nothing happened."""
        for proposal in self.proposals:
            proposal.sendings -= 1


Submit = Callable[[Batch], bool]
"""Hands a batch to the engine. False: it was not taken, and certainly is in no log."""


class GroupCommit:
    """Collects proposals into batches and hands each to the engine.

    The engine calls `wake` when it may take batches again, `returned` when one certainly was not
    appended, `resend` when some may have been lost, and `applied` when one was applied here.
    """

    def __init__(self, submit: Submit, *, limits: NodeLimits, clock: Clock) -> None:
        self._submit = submit
        self._limits = limits
        self._clock = clock
        self._waiting: list[Proposal] = []
        self._in_flight: dict[int, Batch] = {}
        self._again: dict[int, None] = {}
        """Sequences of those on their way that have to be sent once more."""
        self._sequence = 0
        self._scheduled = False
        self._last_sent_s = float("-inf")
        self._last_size = 1
        """Of the newest batch."""
        self._was_full = False
        """Whether it left proposals behind that came with its own."""
        self._looked_at = 0
        """Proposals that waited when it was looked last whether a batch may leave."""
        self._pace: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._why_waiting: Callable[[], errors.RendezvousError] = lambda: errors.NoLeader(
            "no leader is known; nothing was proposed"
        )

    def __len__(self) -> int:
        """Proposals that wait or are on their way."""
        return len(self._waiting) + sum(len(b.proposals) for b in self._in_flight.values())

    async def propose(self, encoded: bytes, deadline_s: float) -> Applied:
        """Blocks until the command is applied here; see `Replicator.propose` for the errors."""
        if len(encoded) > COMMAND_BYTES_MAX:
            raise errors.LimitExceeded(
                f"the command has {len(encoded)} bytes, at most {COMMAND_BYTES_MAX} are allowed",
                details={"limit": "command_bytes_max", "value": str(len(encoded))},
            )
        if len(self) >= self._limits.proposals_in_flight_max:
            raise errors.Overloaded(
                "too many proposals are on their way; try again later",
                details={"limit": "proposals_in_flight_max"},
            )
        loop = asyncio.get_running_loop()
        proposal = Proposal(encoded, deadline_s, loop.create_future())
        self._waiting.append(proposal)
        self.wake()
        self._watch_deadlines()
        return await proposal.answer

    def wake(self) -> None:
        """Sends what waits at the end of this turn of the loop."""
        if not self._scheduled and (self._waiting or self._again):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self._send_again()
        while self._waiting and not self._again and self._may_send():
            batch = self._next_batch()
            if not batch.proposals:
                return
            if not self._submit(batch):
                self._put_back(batch)
                return
            self._in_flight[batch.sequence] = batch
            self._last_size = len(batch.proposals)
            self._last_sent_s = self._clock.monotonic_s()
            batch.mark_sent()

    def _may_send(self) -> bool:
        """Whether another entry may leave now; if it is only too soon, comes back for it."""
        in_flight = len(self._in_flight)
        came, self._looked_at = len(self._waiting) - self._looked_at, len(self._waiting)
        per_command_s = ENTRY_PACE_PER_COMMAND_S
        if in_flight >= self._limits.entries_in_flight_max:
            return False
        if in_flight >= self._limits.entries_unpaced_max:
            per_command_s *= 2
        elif self._was_full or 2 * came >= self._last_size:
            return True
        pace_max_s = self._limits.entry_pace_ms_max / 1000
        pace_s = min(ENTRY_PACE_S + per_command_s * self._last_size, pace_max_s)
        wait_s = self._last_sent_s + pace_s - self._clock.monotonic_s()
        if wait_s <= 0:
            return True
        if self._pace is None:
            self._pace = asyncio.get_running_loop().call_later(wait_s, self._paced)
        return False

    def _paced(self) -> None:
        self._pace = None
        self._flush()

    def _next_batch(self) -> Batch:
        """Takes the oldest proposals that somebody still waits for, within the entry's bounds."""
        self._sequence += 1
        batch = Batch(self._sequence)
        size = taken = 0
        for proposal in self._waiting:
            if batch.proposals and (
                len(batch.proposals) >= self._limits.entry_commands_max
                or size + len(proposal.encoded) > self._limits.entry_bytes_max
            ):
                break
            taken += 1
            # A caller that cancelled before anything was sent leaves nothing behind (G7).
            if not proposal.answer.done():
                size += len(proposal.encoded)
                batch.proposals.append(proposal)
        del self._waiting[:taken]
        self._looked_at, self._was_full = len(self._waiting), bool(self._waiting)
        return batch

    def _put_back(self, batch: Batch) -> None:
        self._waiting[:0] = batch.proposals

    def applied(self, sequence: int, answers: Sequence[Applied]) -> None:
        """A batch of this node was applied here; its proposals get their answers in order."""
        batch = self._in_flight.pop(sequence, None)
        if batch is None:
            return
        for proposal, answer in zip(batch.proposals, answers, strict=True):
            if not proposal.answer.done():
                proposal.answer.set_result(answer)
        self.wake()

    def returned(self, sequence: int) -> None:
        """The last sending of a batch certainly was not appended anywhere; it waits again.

        The engine calls `wake` when there is a point in sending it anew.
        """
        batch = self._in_flight.pop(sequence, None)
        if batch is not None:
            batch.mark_returned()
            self._put_back(batch)

    def resend(self) -> None:
        """Sends every batch on its way once more, e.g. after a change of leader.

        What the engine does not take now it is offered again at each `wake`, and ten times a
        second, before anything new.
        """
        self._again = dict.fromkeys(self._in_flight)
        self._send_again()

    def _send_again(self) -> None:
        for sequence in list(self._again):
            batch = self._in_flight.get(sequence)
            if batch is not None:
                if not self._submit(batch):
                    return
                batch.mark_sent()
            del self._again[sequence]

    def fail_all(self, error: errors.RendezvousError, unknown: errors.RendezvousError) -> None:
        """Ends all: with `error` what was never sent, with `unknown` what may be in a log."""
        proposals = [*self._waiting]
        for batch in self._in_flight.values():
            proposals.extend(batch.proposals)
        self._waiting.clear()
        self._in_flight.clear()
        self._again.clear()
        for proposal in proposals:
            if not proposal.answer.done():
                proposal.answer.set_exception(unknown if proposal.submitted else error)
        for timer in (self._timer, self._pace):
            if timer is not None:
                timer.cancel()
        self._timer = self._pace = None

    def explain_waiting(self, why: Callable[[], errors.RendezvousError]) -> None:
        """Sets who says why nothing can be sent, for proposals whose deadline passes unsent."""
        self._why_waiting = why

    def _watch_deadlines(self) -> None:
        """One timer for all deadlines: a look ten times a second while anything waits."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(0.1, self._check_deadlines)

    def _check_deadlines(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic_s()
        for proposal in self._waiting:
            if now_s >= proposal.deadline_s:
                self._expire(proposal)
        self._waiting = [p for p in self._waiting if not p.answer.done()]
        for batch in self._in_flight.values():
            for proposal in batch.proposals:
                if now_s >= proposal.deadline_s:
                    self._expire(proposal)
        # A batch that nobody waits for any more gives its place in flight away.
        for sequence in [
            s for s, b in self._in_flight.items() if all(p.answer.done() for p in b.proposals)
        ]:
            del self._in_flight[sequence]
        self.wake()
        if self._waiting or self._in_flight:
            self._watch_deadlines()

    def _expire(self, proposal: Proposal) -> None:
        if proposal.answer.done():
            return
        if proposal.submitted:
            proposal.answer.set_exception(
                errors.ProposalTimeout(
                    "the deadline passed while the command was on its way; it may be applied "
                    "still, retry with the same ids"
                )
            )
        else:
            proposal.answer.set_exception(self._why_waiting())
