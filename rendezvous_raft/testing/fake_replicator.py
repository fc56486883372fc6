"""A replicator that does what a script says: commits when told, loses, fails, lags behind.

It plays the part of a whole cluster for one node. The cluster's history is a list of committed
commands; the node's replica has applied some prefix of it. By default a proposal is committed and
applied in the next turn of the loop; each way to depart from that is an attribute or a method.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Command
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.membership import MembershipChange
from rendezvous_raft.node.ports import AppliedListener, Clock
from rendezvous_raft.node.status import ClusterStatus, MemberStatus, SnapshotInfo
from rendezvous_raft.replication.codec import COMMAND_VERSION
from rendezvous_raft.types import NodeName, Region, RequestId, Revision, Role


@dataclass(slots=True, eq=False)
class Proposal:
    """A command that this node proposed and that the cluster has not committed."""

    command: Command
    answer: asyncio.Future[Applied]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is to happen to a proposal: `error` is raised, whether or not it `takes_effect`."""

    error: errors.RendezvousError
    takes_effect: bool


class FakeReplicator:
    """Implements `node.ports.Replicator` by a script over a real state machine."""

    def __init__(self, clock: Clock, limits: StateLimits | None = None) -> None:
        self.holding = False
        """Whether proposals wait for `commit`."""
        self.lagging = False
        """Whether what is committed waits for `catch_up` before this node has it."""
        self.confirming = True
        """Whether a leader confirms read barriers; without it they end as `NoLeader`."""
        self.role = Role.LEADER
        self.proposed: list[Command] = []
        """Everything that this node has ever proposed."""
        self.proposals: list[Proposal] = []
        """What is on its way, oldest first."""
        self.faults: list[Fault] = []
        """What happens to the next proposals, one each."""
        self.barriers = 0
        """Read barriers asked for."""
        self.reported: list[tuple[RequestId, ...]] = []
        """Reports of parked requests that this node sent."""
        self.membership_changes: list[MembershipChange] = []
        self.removed = False
        """Whether the leader does not count this node as a member."""
        self.parked_by_others: tuple[RequestId, ...] = ()
        self.halted: str | None = None
        """Why this engine has stopped, as far as its status says."""
        self.members: tuple[MemberStatus, ...] = ()
        """Of the cluster, as this engine sees them."""
        self.command_version = COMMAND_VERSION
        """What every member can apply."""
        self.others: list[FakeReplicator] = []
        """Engines of other nodes of the cluster, where what is committed here is committed too."""
        self.opened = self.closed = False
        self._clock = clock
        self._limits = limits
        self._machine = self._begin()
        self._history: list[tuple[Command, asyncio.Future[Applied] | None]] = []
        self._applied = 0
        self._listener: AppliedListener = lambda _batch: None
        self._state_replaced: Callable[[], None] = lambda: None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    # The script

    def commit(self, count: int | None = None) -> None:
        """The cluster commits the oldest `count` proposals, or all."""
        taken = self.proposals[:count]
        del self.proposals[: len(taken)]
        self._history.extend((proposal.command, proposal.answer) for proposal in taken)
        self._advance()
        for other in self.others:
            other.commit_elsewhere(*[proposal.command for proposal in taken])

    def commit_elsewhere(self, *commands: Command) -> None:
        """The cluster commits commands that another node proposed; `others` are not told."""
        self._history.extend((command, None) for command in commands)
        self._advance()

    def lose(self) -> None:
        """Whatever is on its way gets lost: never committed, never answered."""
        self.proposals.clear()

    def fail_next(self, error: errors.RendezvousError, *, takes_effect: bool = False) -> None:
        """The next proposal that is not spoken for yet ends with an error."""
        self.faults.append(Fault(error, takes_effect))

    def catch_up(self, count: int | None = None) -> None:
        """This node applies the next `count` committed commands, or all, as one batch."""
        end = len(self._history) if count is None else self._applied + count
        taken = self._history[self._applied : end]
        self._applied += len(taken)
        batch = [self._machine.apply(command) for command, _ in taken]
        self._listener(batch)
        for applied, (_, answer) in zip(batch, taken, strict=True):
            if answer is not None and not answer.done():
                answer.set_result(applied)
        self._notify()

    def catch_up_by_snapshot(self) -> None:
        """This node takes over the state of everything committed; no event tells of the gap."""
        machine = self._begin()
        for command, _ in self._history:
            machine.apply(command)
        self._machine = machine
        self._applied = len(self._history)
        self._state_replaced()
        self._notify()

    def confirm(self) -> None:
        """A leader is there again and confirms what waits for it."""
        self.confirming = True
        self._notify()

    def proposed_of(self, kind: type[Command]) -> list[Command]:
        """The commands of one kind that this node has proposed."""
        return [command for command in self.proposed if isinstance(command, kind)]

    def _begin(self) -> StateMachine:
        """The state of a cluster whose members are all of this version, and know it."""
        machine = StateMachine(self._limits)
        machine.state.version = COMMAND_VERSION
        return machine

    def _advance(self) -> None:
        if not self.lagging:
            self.catch_up()

    def _notify(self) -> None:
        for holds, future in self._waiting:
            if holds() and not future.done():
                future.set_result(None)

    # The port

    @property
    def state(self) -> StateMachine:
        """See `Replicator.state`."""
        return self._machine

    def set_listener(self, listener: AppliedListener, state_replaced: Callable[[], None]) -> None:
        """See `Replicator.set_listener`."""
        self._listener = listener
        self._state_replaced = state_replaced

    async def open(self) -> None:
        """See `Replicator.open`."""
        self.opened = True

    async def close(self) -> None:
        """See `Replicator.close`."""
        self.closed = True
        for proposal in self.proposals:
            if not proposal.answer.done():
                proposal.answer.set_exception(errors.OutcomeUnknown("the node has stopped"))

    async def propose(self, command: Command, *, deadline_s: float) -> Applied:
        """See `Replicator.propose`. A proposal that its caller gives up stays on its way."""
        self.proposed.append(command)
        if self.faults:
            await asyncio.sleep(0)
            fault = self.faults.pop(0)
            if fault.takes_effect:
                self.commit_elsewhere(command)
            raise fault.error
        loop = asyncio.get_running_loop()
        proposal = Proposal(command, loop.create_future())
        self.proposals.append(proposal)
        if not self.holding:
            loop.call_soon(self.commit, 1)
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self._clock.monotonic_s())):
                return await proposal.answer
        except TimeoutError:
            raise errors.ProposalTimeout("the deadline passed; it may be applied still") from None

    async def read_barrier(self, *, deadline_s: float) -> None:
        """See `Replicator.read_barrier`."""
        self.barriers += 1
        if not await self._holds_in_time(lambda: self.confirming, deadline_s):
            raise errors.NoLeader("no leader confirmed in time that this node is current")
        committed = len(self._history)
        if not await self._holds_in_time(lambda: self._applied >= committed, deadline_s):
            raise errors.DeadlineExceeded("this node has not caught up in time", definite=True)

    async def wait_applied(self, revision: Revision, *, deadline_s: float) -> None:
        """See `Replicator.wait_applied`."""
        if not await self._holds_in_time(lambda: self._machine.revision >= revision, deadline_s):
            raise errors.DeadlineExceeded(
                f"revision {revision} has not reached this node in time", definite=True
            )

    async def _holds_in_time(self, holds: Callable[[], bool], deadline_s: float) -> bool:
        await asyncio.sleep(0)
        if holds():
            return True
        waiting = (holds, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self._clock.monotonic_s())):
                await waiting[1]
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(waiting)
        return True

    def status(self) -> ClusterStatus:
        """See `Replicator.status`: a cluster whose only visible member is this node."""
        return ClusterStatus(
            name=NodeName("n1"),
            region=Region("eu"),
            role=self.role,
            term=1,
            leader=NodeName("n1") if self.role is Role.LEADER else NodeName("n2"),
            revision=self._machine.revision,
            commit_index=len(self._history),
            applied_index=self._applied,
            log_entries=len(self._history),
            durability="memory",
            not_member=self.removed,
            members=self.members,
            halted=self.halted,
            command_version=self.command_version,
        )

    async def take_snapshot(self) -> SnapshotInfo:
        """See `Replicator.take_snapshot`: nothing is written."""
        return SnapshotInfo(self._machine.revision, self._applied, 0)

    async def transfer_leadership(self, target: NodeName | None, *, deadline_s: float) -> NodeName:
        """See `Replicator.transfer_leadership`: the target, or `n2`, takes over at once."""
        if self.role is not Role.LEADER:
            raise errors.Unavailable("this node does not lead")
        self.role = Role.FOLLOWER
        return target or NodeName("n2")

    async def change_membership(self, change: MembershipChange, *, deadline_s: float) -> None:
        """See `Replicator.change_membership`: remembered in `membership_changes`."""
        self.membership_changes.append(change)

    def report_parked(self, request_ids: Sequence[RequestId]) -> None:
        """See `Replicator.report_parked`."""
        self.reported.append(tuple(request_ids))

    def parked_elsewhere(self) -> tuple[RequestId, ...]:
        """See `Replicator.parked_elsewhere`."""
        return self.parked_by_others
