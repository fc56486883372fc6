"""What the use-cases need from the world. Adapters elsewhere implement these.

Deadlines are absolute, in seconds of `Clock.monotonic_s()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rendezvous_raft.core.commands import Command
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.membership import MembershipChange
from rendezvous_raft.node.status import ClusterStatus, SnapshotInfo
from rendezvous_raft.types import (
    BranchId,
    CommandId,
    LeaseId,
    MemberId,
    NodeName,
    RequestId,
    Revision,
)

AppliedListener = Callable[[Sequence[Applied]], None]


class Clock(Protocol):
    """Time as an input: tests bring their own."""

    def monotonic_s(self) -> float:
        """Seconds that never jump; for deadlines."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the epoch; shown to people, decides nothing."""
        ...


class IdSource(Protocol):
    """Ids that are never issued twice, also not after a restart of every node (semantics G2)."""

    def request_id(self) -> RequestId:
        """A new request id."""
        ...

    def branch_id(self, service: str) -> BranchId:
        """A new branch id; it starts with the service for people's sake."""
        ...

    def command_id(self) -> CommandId:
        """A new command id."""
        ...

    def lease_id(self) -> LeaseId:
        """A new lease id."""
        ...

    def member_id(self) -> MemberId:
        """A new id of a subscription as a member of its group."""
        ...


class Replicator(Protocol):
    """The engine: takes commands, applies committed ones to the local state in order.

    Everything runs on the loop that called `open`. `state` changes only inside the engine's own
    turns, and every change is followed, in the same turn, by one call of the listener with the
    batch that was applied; so a reader that looks and parks within one turn misses nothing.
    """

    @property
    def state(self) -> StateMachine:
        """The local replica. Read it within one turn of the loop; never change it.

        The object may be replaced when a snapshot is installed: do not keep it.
        """
        ...

    def set_listener(self, listener: AppliedListener, state_replaced: Callable[[], None]) -> None:
        """Registers the one listener; `state_replaced` is called after a snapshot's install."""
        ...

    async def open(self) -> None:
        """Starts the engine: recovers the local state, begins to talk to the peers."""
        ...

    async def close(self) -> None:
        """Stops the engine. Proposals on their way end as indefinite."""
        ...

    async def propose(self, command: Command, *, deadline_s: float) -> Applied:
        """Replicates a command and returns what applying it answered, on this node.

        Blocks until it is applied here. Works on any node that has room on its disk; a follower
        forwards. A proposal that fails definitely on its way is tried again until the deadline.

        Raises:
            NoLeader, NotReady, ReadOnly, Overloaded: definitely not proposed.
            Unavailable: nor then: the leader cannot be reached from here, or is too slow.
            Draining: nor then: this node has stopped.
            ProposalTimeout: it may be applied still; retry with the same ids.
            OutcomeUnknown: so it may; this node has halted or stopped meanwhile.
            LimitExceeded: the encoded command is too large.
        """
        ...

    async def read_barrier(self, *, deadline_s: float) -> None:
        """Returns once the local state contains every write acknowledged before the call.

        Confirms the current commit index with the leader (Raft 6.4, ReadIndex) and waits until
        it is applied here.

        Raises:
            NoLeader: nobody leads, or this node cannot reach who does.
            DeadlineExceeded: definite, it is a read.
        """
        ...

    async def wait_applied(self, revision: Revision, *, deadline_s: float) -> None:
        """Returns once the local state has `revision`. Sends nothing to anybody.

        Raises:
            DeadlineExceeded: definite, it is a read.
        """
        ...

    def status(self) -> ClusterStatus:
        """What the engine knows; cheap."""
        ...

    async def take_snapshot(self) -> SnapshotInfo:
        """Writes a snapshot now and drops the log before it.

        Raises:
            NotReady, Unavailable: the node has halted, or nothing has been applied yet.
            ReadOnly: this node's disk has no room for it; nothing changed.
        """
        ...

    async def transfer_leadership(self, target: NodeName | None, *, deadline_s: float) -> NodeName:
        """Hands leadership to `target`, or to the follower that is furthest; names the successor.

        Blocks until the successor leads. Meanwhile proposals wait.

        Raises:
            Unavailable: this node does not lead, is handing over already, or no follower is
                connected and caught up; leadership stays where it is, as far as this call goes.
            OutcomeUnknown: the successor was told to take over and does not lead yet; it may still.
            InvalidArgument: no such member, or it does not vote.
        """
        ...

    async def change_membership(self, change: MembershipChange, *, deadline_s: float) -> None:
        """Adds or removes a member; blocks until that is committed.

        The leader alone can do it. One that shall remove itself hands over first, and the new
        leader has to be asked again. A member that was added as joining becomes a voter by itself
        when it has caught up.

        Raises:
            InvalidArgument, AlreadyExists, NotFound: the change makes no sense; nothing changed.
            Unavailable, ReadOnly: it cannot be made now, or not here; nothing changed.
            OutcomeUnknown: it may take effect still.
        """
        ...

    def report_parked(self, request_ids: Sequence[RequestId]) -> None:
        """Tells the leader which requests have waiters parked on this node (semantics 5.2).

        A hint, sent at most once a second, that may get lost; the leader forgets it after a while.
        """
        ...

    def parked_elsewhere(self) -> tuple[RequestId, ...]:
        """On the leader: what other nodes reported lately."""
        ...
