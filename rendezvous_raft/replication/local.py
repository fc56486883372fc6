"""The engine of a single node in memory: nothing is replicated, nothing survives the process.

For development and tests. A single node that keeps its data is a Raft cluster of one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Command
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MemberConfig, MembershipChange
from rendezvous_raft.node.ports import AppliedListener, Clock
from rendezvous_raft.node.status import ClusterStatus, MemberStatus, SnapshotInfo
from rendezvous_raft.replication.applying import Replica
from rendezvous_raft.replication.batching import Batch, GroupCommit
from rendezvous_raft.replication.codec import (
    COMMAND_VERSION,
    CodecError,
    encode_command,
    encode_entry,
)
from rendezvous_raft.types import NodeName, RequestId, Revision, Role


class LocalReplicator:
    """Implements `Replicator` for one node; applies what is proposed at the end of the turn."""

    def __init__(self, member: MemberConfig, *, limits: NodeLimits, clock: Clock) -> None:
        self._member = member
        self._origin = secrets.token_bytes(8)
        self._replica = Replica(origin=self._origin, clock=clock)
        self._commits = GroupCommit(self._submit, limits=limits, clock=clock)
        self._commits.explain_waiting(lambda: errors.NotReady("the node has not started"))
        self._open = False
        self._halted: str | None = None
        self._entries = 0

    @property
    def state(self) -> StateMachine:
        """See `Replicator.state`."""
        return self._replica.machine

    def set_listener(self, listener: AppliedListener, state_replaced: Callable[[], None]) -> None:
        """See `Replicator.set_listener`."""
        self._replica.set_listener(listener, state_replaced)

    async def open(self) -> None:
        """See `Replicator.open`."""
        self._open = True
        self._commits.wake()

    async def close(self) -> None:
        """See `Replicator.close`."""
        self._open = False
        self._commits.fail_all(
            errors.Draining("the node has stopped; nothing was proposed"),
            errors.OutcomeUnknown("the node has stopped while the command was on its way"),
        )

    async def propose(self, command: Command, *, deadline_s: float) -> Applied:
        """See `Replicator.propose`."""
        if self._halted:
            raise errors.NotReady(f"the node has halted: {self._halted}")
        return await self._commits.propose(encode_command(command), deadline_s)

    async def read_barrier(self, *, deadline_s: float) -> None:
        """Returns at once: what is acknowledged is applied here."""
        if not self._open or self._halted:
            raise errors.NotReady(self._halted or "the node is not running")

    async def wait_applied(self, revision: Revision, *, deadline_s: float) -> None:
        """See `Replicator.wait_applied`."""
        await self._replica.wait_applied(revision, deadline_s)

    def status(self) -> ClusterStatus:
        """See `Replicator.status`."""
        member = self._member
        return ClusterStatus(
            name=member.name,
            region=member.region,
            role=Role.LEADER,
            term=1,
            leader=member.name if self._open else None,
            revision=self.state.revision,
            commit_index=self._entries,
            applied_index=self._entries,
            log_entries=0,
            durability="memory",
            members=(
                MemberStatus(
                    name=member.name,
                    region=member.region,
                    grpc_address=member.grpc_address,
                    http_address=member.http_address,
                    role=Role.LEADER,
                    connected=True,
                    match_index=self._entries,
                ),
            ),
            halted=self._halted,
            command_version=COMMAND_VERSION,
        )

    async def take_snapshot(self) -> SnapshotInfo:
        """Refuses: there is no log to shorten."""
        raise errors.Unavailable("this node keeps its data in memory only; nothing to write")

    async def transfer_leadership(self, target: NodeName | None, *, deadline_s: float) -> NodeName:
        """Refuses: there is nobody else."""
        raise errors.Unavailable("this node is the only member")

    async def change_membership(self, change: MembershipChange, *, deadline_s: float) -> None:
        """Refuses: what is in memory cannot be shared."""
        raise errors.Unavailable("this node keeps its data in memory only; it stays alone")

    def report_parked(self, request_ids: Sequence[RequestId]) -> None:
        """See `Replicator.report_parked`: nobody else has to know."""

    def parked_elsewhere(self) -> tuple[RequestId, ...]:
        """See `Replicator.parked_elsewhere`."""
        return ()

    def _submit(self, batch: Batch) -> bool:
        if not self._open or self._halted:
            return False
        commands = [proposal.encoded for proposal in batch.proposals]
        entry = encode_entry(self._origin, batch.sequence, commands)
        asyncio.get_running_loop().call_soon(self._apply, entry)
        return True

    def _apply(self, entry: bytes) -> None:
        if not self._open:
            return
        self._entries += 1
        try:
            self._replica.apply_entry(entry, self._commits)
        except CodecError as error:
            self._halted = str(error)
            self._commits.fail_all(
                errors.NotReady(f"the node has halted: {error}"),
                errors.InternalError(f"the node has halted: {error}"),
            )
