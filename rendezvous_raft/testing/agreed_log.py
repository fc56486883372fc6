"""Nodes over one simulated log: what Raft agrees on, without Raft.

A `AgreedLog` is the log that the members of a cluster share. Who leads, who is cut off, which
entries are committed when, and how far each member has applied them is decided by whoever holds
the log: a test, or a user who wants to see what his program does when a proposal ends unknown.
A `LogReplicator` is a member. Everything but the agreement is the product's own: batches, their
re-sending and ends (`GroupCommit`), applying (`Replica`), reading (`ReadBarriers`), codec and
snapshots. Nothing takes time and nothing is random, so a history is the same each time.

What it promises is what Raft promises: a committed entry stays; of entries that were not committed
when a leader fell, a prefix is kept by its successor and the rest is lost; a leader that is cut
off commits nothing and confirms no read, though it believes to lead until it is told otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rendezvous_raft import errors
from rendezvous_raft.core import snapshot
from rendezvous_raft.core.commands import Command
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MembershipChange
from rendezvous_raft.node.ports import AppliedListener, Clock
from rendezvous_raft.node.status import ClusterStatus, MemberStatus, SnapshotInfo
from rendezvous_raft.replication.applying import Replica
from rendezvous_raft.replication.batching import Batch, GroupCommit
from rendezvous_raft.replication.codec import (
    COMMAND_VERSION,
    CodecError,
    decode_entry,
    encode_command,
    encode_entry,
)
from rendezvous_raft.replication.observer import SilentEngineObserver
from rendezvous_raft.replication.raft.parked import ParkedReports
from rendezvous_raft.replication.raft.reads import ReadBarriers
from rendezvous_raft.types import NodeName, Region, RequestId, Revision, Role

Post = Callable[[Callable[[], object]], object]
"""Lets something happen soon, within a process or in the world between them."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The last snapshot of a member."""

    index: int
    rows: tuple[snapshot.Row, ...]


class AgreedLog:
    """The log of a cluster. See the module's docstring.

    Args:
        members: their names.
        soon: lets something happen soon in the world between the processes.
    """

    def __init__(self, members: Sequence[str], soon: Post) -> None:
        self.members = tuple(NodeName(name) for name in members)
        self.entries: list[bytes] = []
        """What is committed, for ever."""
        self.waiting: list[bytes] = []
        """What the leader has and is not committed, oldest first."""
        self.holding = False
        """Whether what is proposed waits for `commit`."""
        self.command_version = COMMAND_VERSION
        """The newest version of commands that every member is to understand."""
        self.leader: NodeName | None = self.members[0]
        self.term = 1
        self.machine = StateMachine()
        """The state after everything committed: what each member comes to."""
        self.committed: Callable[[Sequence[Command], Sequence[Applied]], None] = lambda _c, _a: None
        """Is told of each entry."""
        self._soon = soon
        self._lives = 0
        self._running: dict[NodeName, LogReplicator] = {}
        self._disks: dict[NodeName, Disk] = {}
        self._cut: dict[NodeName, None] = {}
        self._deposed: dict[NodeName, None] = {}
        """Who was cut off as the leader and has not noticed."""

    # Who reaches whom

    def is_connected(self, name: str) -> bool:
        """Whether a member runs and is not cut off."""
        return NodeName(name) in self._running and NodeName(name) not in self._cut

    @property
    def has_majority(self) -> bool:
        """Whether enough members are connected to commit anything."""
        return 2 * sum(map(self.is_connected, self.members)) > len(self.members)

    def can_confirm(self, name: str) -> bool:
        """Whether a member's reads are confirmed and its proposals committed, but for `holding`."""
        return self.leader is not None and self.has_majority and self.is_connected(name)

    def believes_to_lead(self, name: str) -> bool:
        """Whether a member takes itself for the leader, rightly or not."""
        return name == self.leader or name in self._deposed

    # What whoever holds the log decides

    def commit(self, count: int | None = None) -> None:
        """The oldest `count` of what waits is committed, or all; nothing without a majority."""
        if self.leader is None or not self.has_majority:
            return
        self._append(len(self.waiting) if count is None else count)

    def _append(self, count: int) -> None:
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        for encoded in taken:
            self.entries.append(encoded)
            try:
                commands = decode_entry(encoded).commands
            except CodecError:
                continue  # each member halts when it comes to it
            self.committed(commands, [self.machine.apply(command) for command in commands])
        if taken:
            for member in self._running.values():
                member.post(member.advance)

    def cut(self, name: str) -> None:
        """A member is cut off from the others. A leader goes on believing that it leads."""
        member = NodeName(name)
        self._cut[member] = None
        if self.leader == member:
            self._deposed[member] = None
            self.leader = None

    def heal(self, name: str) -> None:
        """A member is connected again, and learns who leads and what is committed."""
        member = NodeName(name)
        self._cut.pop(member, None)
        self.notice(name)
        running = self._running.get(member)
        if running is not None:
            running.post(running.advance)
            running.post(running.leader_known)
        self._go_on()

    def _go_on(self) -> None:
        """A majority may be there again for what waits."""
        if not self.holding:
            self._soon(self.commit)

    def notice(self, name: str) -> None:
        """A member that was cut off as the leader steps down."""
        self._deposed.pop(NodeName(name), None)

    def fall(self) -> None:
        """The leader falls, and nobody leads."""
        self.leader = None

    def elect(self, name: str, *, kept: int = 0) -> None:
        """A connected member comes to lead, with the oldest `kept` of what was not committed.

        The rest is lost. The members send again what they have no answer to.
        Raises `ValueError` if it cannot be elected.
        """
        if not (self.is_connected(name) and self.has_majority):
            raise ValueError(f"{name} has no majority")
        self._append(kept)
        self.waiting.clear()
        self.leader = NodeName(name)
        self._deposed.clear()
        self.term += 1
        for member in self._running.values():
            if self.is_connected(member.name):
                member.post(member.leader_known)

    def crash(self, name: str) -> None:
        """A member's process has died. What it had proposed may be committed still."""
        member = self._running.pop(NodeName(name), None)
        if member is not None:
            member.stop()
        self._deposed.pop(NodeName(name), None)
        if self.leader == name:
            self.leader = None

    # What members do

    def begin_life(self) -> int:
        """A number that no other life of a member has."""
        self._lives += 1
        return self._lives

    def join(self, member: LogReplicator) -> Disk | None:
        """A member runs; the snapshot that it begins with."""
        self._running[member.name] = member
        if self.leader is not None and self.is_connected(member.name):
            member.post(member.leader_known)
        self._go_on()
        return self._disks.get(member.name)

    def leave(self, member: LogReplicator) -> None:
        """A member has stopped in order."""
        if self._running.get(member.name) is member:
            self.crash(member.name)

    def keep(self, name: NodeName, disk: Disk) -> None:
        """A member has written a snapshot."""
        self._disks[name] = disk

    def send(self, member: LogReplicator, encoded: bytes) -> bool:
        """A member proposes; false if nobody can have it, true if anybody may."""
        if member.name in self._deposed:
            return True  # in its own log, and void when it learns of the next leader
        if self.leader is None or not self.is_connected(member.name):
            return False
        self.waiting.append(encoded)
        self._go_on()
        return True

    def ask(self, member: LogReplicator, read_id: int) -> bool:
        """A member asks for a read index; false if nobody answers."""
        if not self.can_confirm(member.name):
            return False
        index = len(self.entries)
        self._soon(lambda: member.post(lambda: member.read_confirmed(read_id, index)))
        return True

    def report(self, member: LogReplicator, request_ids: Sequence[RequestId]) -> None:
        """A member tells the leader what is waited for; whether or not it arrives."""
        if self.leader is not None and self.is_connected(member.name):
            leader = self._running[self.leader]
            name, ids = member.name, tuple(request_ids)
            self._soon(lambda: leader.post(lambda: leader.parked.heard(name, ids)))


class LogReplicator:
    """A member of a cluster over a `AgreedLog`; implements `node.ports.Replicator`.

    Args:
        log: the cluster's.
        name: of the member, one of the log's.
        clock: the process's.
        limits: the node's.
        post: lets something happen soon within the process, on its loop.
    """

    def __init__(
        self, log: AgreedLog, name: str, *, clock: Clock, limits: NodeLimits, post: Post
    ) -> None:
        self.log = log
        self.name = NodeName(name)
        self.post = post
        self.lagging = False
        """Whether what is committed waits for `advance` with a count, or `install`."""
        self.applied = 0
        """Entries applied here."""
        self.parked = ParkedReports(clock)
        self._origin = f"{name} {log.begin_life()}".encode()
        self._replica = Replica(origin=self._origin, clock=clock)
        self._commits = GroupCommit(self._submit, limits=limits, clock=clock)
        self._commits.explain_waiting(self._why_nothing_is_sent)
        self._reads = ReadBarriers(
            ask=lambda read_id: log.ask(self, read_id),
            applied_index=lambda: self.applied,
            clock=clock,
            observer=SilentEngineObserver(),
        )
        self._is_running = False
        self._halted: str | None = None

    # Driving

    def advance(self, count: int | None = None) -> None:
        """Applies what is committed; with a count, so many entries although it lags."""
        end = len(self.log.entries) if count is None else self.applied + count
        if not self._is_running or (count is None and self.lagging):
            return
        if self.name in self.log._cut:  # noqa: SLF001 (two halves of one thing)
            return
        for encoded in self.log.entries[self.applied : end]:
            try:
                self._replica.apply_entry(encoded, self._commits)
            except CodecError as error:
                self._halt(str(error))
                return
            self.applied += 1
        self._reads.applied()

    def install(self) -> None:
        """Takes over a snapshot of everything committed, instead of applying it."""
        rows = list(snapshot.rows(self.log.machine.state))
        self.applied = len(self.log.entries)
        self._replica.replace(snapshot.load(rows))
        self._reads.applied()

    def leader_known(self) -> None:
        """What is on its way may be lost; what waits has somewhere to go."""
        if self._is_running:
            self._commits.resend()
            self._commits.wake()

    def read_confirmed(self, read_id: int, index: int) -> None:
        """The leader answers a read."""
        if self._is_running:
            self._reads.confirmed(read_id, index)

    def stop(self) -> None:
        """Nothing is applied or sent any more, and nobody is told."""
        self._is_running = False

    def _submit(self, batch: Batch) -> bool:
        if not self._is_running or self._halted is not None:
            return False
        commands = [proposal.encoded for proposal in batch.proposals]
        return self.log.send(self, encode_entry(self._origin, batch.sequence, commands))

    def _why_nothing_is_sent(self) -> errors.RendezvousError:
        if not self._is_running:
            return errors.NotReady("the node has not started")
        return errors.NoLeader("no leader can be reached; nothing was proposed")

    def _halt(self, reason: str) -> None:
        self._halted = reason
        self._commits.fail_all(
            errors.NotReady(f"the node has halted: {reason}"),
            errors.OutcomeUnknown(f"the node has halted: {reason}"),
        )

    def _refuse_unless_running(self) -> None:
        if self._halted is not None or not self._is_running:
            raise errors.NotReady(f"the node has halted: {self._halted}")

    # The port

    @property
    def state(self) -> StateMachine:
        """See `Replicator.state`."""
        return self._replica.machine

    def set_listener(self, listener: AppliedListener, state_replaced: Callable[[], None]) -> None:
        """See `Replicator.set_listener`."""
        self._replica.set_listener(listener, state_replaced)

    async def open(self) -> None:
        """See `Replicator.open`: begins with the last snapshot, and applies the log behind it."""
        self._is_running = True
        disk = self.log.join(self)
        if disk is not None:
            self.applied = disk.index
            self._replica.replace(snapshot.load(disk.rows))
        self._commits.wake()
        self.post(self.advance)

    async def close(self) -> None:
        """See `Replicator.close`."""
        if not self._is_running:
            return
        self.log.leave(self)
        self._commits.fail_all(
            errors.Draining("the node has stopped; nothing was proposed"),
            errors.OutcomeUnknown("the node has stopped while the command was on its way"),
        )

    async def propose(self, command: Command, *, deadline_s: float) -> Applied:
        """See `Replicator.propose`."""
        if self._halted is not None:
            raise errors.NotReady(f"the node has halted: {self._halted}")
        return await self._commits.propose(encode_command(command), deadline_s)

    async def read_barrier(self, *, deadline_s: float) -> None:
        """See `Replicator.read_barrier`."""
        self._refuse_unless_running()
        await self._reads.wait(deadline_s, lambda: self.log.leader)

    async def wait_applied(self, revision: Revision, *, deadline_s: float) -> None:
        """See `Replicator.wait_applied`."""
        await self._replica.wait_applied(revision, deadline_s)

    def status(self) -> ClusterStatus:
        """See `Replicator.status`."""
        leads = self._is_running and self.log.believes_to_lead(self.name)
        leader = self.log.leader if self.log.is_connected(self.name) else None
        return ClusterStatus(
            name=self.name,
            region=Region(""),
            role=Role.LEADER if leads else Role.FOLLOWER,
            term=self.log.term,
            leader=self.name if leads else leader,
            revision=self.state.revision,
            commit_index=max(len(self.log.entries), self.applied),
            applied_index=self.applied,
            log_entries=len(self.log.entries),
            durability="memory",
            members=tuple(self._member(name) for name in self.log.members),
            halted=self._halted,
            command_version=self.log.command_version,
        )

    def _member(self, name: NodeName) -> MemberStatus:
        return MemberStatus(
            name=name,
            region=Region(""),
            grpc_address="",
            http_address="",
            role=Role.LEADER if name == self.log.leader else Role.FOLLOWER,
            connected=self.log.is_connected(name),
            match_index=0,
        )

    async def take_snapshot(self) -> SnapshotInfo:
        """See `Replicator.take_snapshot`."""
        self._refuse_unless_running()
        rows = tuple(snapshot.rows(self.state.state))
        self.log.keep(self.name, Disk(self.applied, rows))
        return SnapshotInfo(self.state.revision, self.applied, 0)

    async def transfer_leadership(self, target: NodeName | None, *, deadline_s: float) -> NodeName:
        """See `Replicator.transfer_leadership`: at once, with everything that waits."""
        others = [n for n in self.log.members if n != self.name and self.log.is_connected(n)]
        if self.log.leader != self.name or not others or (target or others[0]) not in others:
            raise errors.Unavailable("this node does not lead, or nobody can follow it")
        successor = target or others[0]
        self.log.elect(successor, kept=len(self.log.waiting))
        return successor

    async def change_membership(self, change: MembershipChange, *, deadline_s: float) -> None:
        """Refuses: the members of an agreed log stay the same."""
        raise errors.Unavailable("the members of this log cannot be changed")

    def report_parked(self, request_ids: Sequence[RequestId]) -> None:
        """See `Replicator.report_parked`."""
        if request_ids and self._is_running:
            self.log.report(self, request_ids)

    def parked_elsewhere(self) -> tuple[RequestId, ...]:
        """See `Replicator.parked_elsewhere`."""
        return self.parked.recent()


def soon_on_the_running_loop(callback: Callable[[], object]) -> asyncio.Handle:
    """A `Post` for worlds that have one loop."""
    return asyncio.get_running_loop().call_soon(callback)
