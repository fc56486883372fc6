"""The PySyncObj engine behind the `Replicator` port.

It owns the durable log, the links and the Raft member, and answers those who wait for what is
applied. Everything is driven from the loop's events, see `turns.py`; there is no thread but the
log's sync worker, and no polling.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from pysyncobj.node import Node

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Command
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import (
    MemberConfig,
    Membership,
    MembershipChange,
    RaftTimers,
    RemoveMember,
)
from rendezvous_raft.node.ports import AppliedListener, Clock
from rendezvous_raft.node.status import ClusterStatus, SnapshotInfo
from rendezvous_raft.replication.applying import Replica
from rendezvous_raft.replication.batching import Batch, GroupCommit
from rendezvous_raft.replication.codec import encode_command
from rendezvous_raft.replication.observer import EngineObserver
from rendezvous_raft.replication.raft.faults import any_fault_halts
from rendezvous_raft.replication.raft.files import FileLayer, RealFiles
from rendezvous_raft.replication.raft.handover import choose_successor, hand_over
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.links import EngineLinks, MakeLinks
from rendezvous_raft.replication.raft.member import Message
from rendezvous_raft.replication.raft.membership_change import (
    change_members,
    nothing_changed_yet,
)
from rendezvous_raft.replication.raft.memberships import addresses_of_others
from rendezvous_raft.replication.raft.parked import ParkedReports
from rendezvous_raft.replication.raft.reads import ReadBarriers
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.snapshotting import DEFAULT_POLICY, SnapshotPolicy, Snapshots
from rendezvous_raft.replication.raft.status import cluster_status, why_nothing_is_sent
from rendezvous_raft.replication.raft.storage import (
    SEGMENT_BYTES,
    Birth,
    DurableLog,
    Identity,
    SnapshotFile,
)
from rendezvous_raft.replication.raft.submitting import Submitting
from rendezvous_raft.replication.raft.to_leader import ToLeader
from rendezvous_raft.replication.raft.transport import TcpLinks
from rendezvous_raft.replication.raft.turns import Turns
from rendezvous_raft.types import NodeName, RequestId, Revision

REFUSED_PAUSE_S = 0.05
"""Before a batch that a deposed leader refused is sent again."""


class RaftReplicator:
    """Implements `Replicator` for a member of a cluster, alone or with others.

    Args:
        self_name: the member that this process is.
        members: those that the cluster was founded with, this one included. Once the log names a
            membership that one counts; the addresses here still do, as local knowledge.
        cluster_id: what keeps members of two clusters from mixing.
        data_dir: where the log, the vote and the snapshots are; a voter always has one (F7).
        timers: how patient it is.
        limits: bounds of this node.
        clock: time as an input.
        observer: is told facts for metrics.
        joining: whether a new data directory is that of a member that comes to a cluster which
            exists, or comes back to it; it then does not vote before it is let in (F11).
        listen: where to listen for peers; by default the address that they dial.
        segment_bytes: size of the log's files, which are pre-allocated, two at a time.
        files: the file system; the real one by default.
        rng: chance, for time-outs and for the name of this life; unpredictable by default.
        executor: where the log's syncs run; a thread of its own by default.
        make_links: makes the links to the peers; `TcpLinks` by default.
        snapshot_policy: when snapshots are taken.
    """

    def __init__(
        self,
        *,
        self_name: NodeName,
        members: Sequence[MemberConfig],
        cluster_id: str,
        data_dir: Path,
        timers: RaftTimers,
        limits: NodeLimits,
        clock: Clock,
        observer: EngineObserver,
        joining: bool = False,
        listen: str | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        files: FileLayer | None = None,
        rng: random.Random | None = None,
        executor: Executor | None = None,
        make_links: MakeLinks = TcpLinks,
        snapshot_policy: SnapshotPolicy = DEFAULT_POLICY,
    ) -> None:
        self._founders = Membership(()).with_members(members)
        self._self = next(member for member in members if member.name == self_name)
        self._joining = joining
        self._listen = listen or self._self.raft_address
        self._cluster_id = cluster_id
        self._limits = limits
        self._clock = clock
        self._observer = observer
        self._rng = rng or random.Random(secrets.randbits(64))  # noqa: S311 (not for secrets)
        self._timers = timers
        self._data_dir = data_dir
        self._segment_bytes = segment_bytes
        self._files = files or RealFiles()
        self._origin = self._rng.randbytes(8)
        self._executor = executor
        self._make_links = make_links
        self._snapshot_policy = snapshot_policy
        self._replica = Replica(origin=self._origin, clock=clock)
        self._commits = GroupCommit(self._submit, limits=limits, clock=clock)
        self._commits.explain_waiting(self._why_nothing_is_sent)
        self._reads = ReadBarriers(
            ask=self._ask_read,
            applied_index=lambda: self._raft.last_applied,
            clock=clock,
            observer=observer,
            life=self._origin,
        )
        self._store: DurableLog
        self._links: EngineLinks
        self._raft: Raft
        self._to_leader: ToLeader
        self._submitting: Submitting
        self._snapshots: Snapshots
        self._running = False
        self._halted: str | None = None
        self._turns: Turns
        self._known_leader: str | None = None
        self._disk_failed = False
        self._not_member = False
        self._unneeded_elections = 0
        self._parked = ParkedReports(clock)

    # The port

    @property
    def state(self) -> StateMachine:
        """See `Replicator.state`."""
        return self._replica.machine

    @property
    def last_turn_s(self) -> float:
        """When the engine was driven last, in monotonic seconds; for liveness checks."""
        return self._turns.last_s if self._running else 0.0

    def set_listener(self, listener: AppliedListener, state_replaced: Callable[[], None]) -> None:
        """See `Replicator.set_listener`."""
        self._replica.set_listener(listener, state_replaced)

    async def open(self) -> None:
        """Recovers the log and the state, listens, and begins to take part.

        Raises:
            StorageError: the files are damaged, or belong to another node; nothing was changed.
        """
        identity = Identity(self._cluster_id, self._self.name)
        self._store, recovered = DurableLog.open(
            self._data_dir,
            identity,
            files=self._files,
            segment_bytes=self._segment_bytes,
            executor=self._executor,
            birth=Birth(self._rng.getrandbits(48) + 1, founding=not self._joining),
        )
        self._snapshots = Snapshots(
            self._store, self._replica, self._clock, self._observer, self._snapshot_policy
        )
        try:
            membership = self._founders
            if recovered.snapshot is not None:
                membership = self._snapshots.restore(recovered.snapshot)
            journal = DurableJournal(self._store, recovered, membership)
        except BaseException:
            await self._store.close()
            raise
        self._links = self._make_links(
            name=self._self.name,
            cluster_id=self._cluster_id,
            listen=self._listen,
            address=self._self.raft_address,
            birth=recovered.birth,
            peers=addresses_of_others(journal.membership, self._founders, self._self.name),
            positions=self._store,
            on_connected=self._on_connected,
            on_greeted=lambda node, birth, knows: self._raft.greeted(node, birth, knows),
            on_lost=lambda node: self._raft.peer_lost(node),
            rng=self._rng,
        )
        self._raft = Raft(
            name=self._self.name,
            birth=recovered.birth,
            log=journal,
            links=self._links,
            timers=self._timers,
            clock=self._clock.monotonic_s,
            rng=self._rng,
            host=self,
        )
        self._to_leader = ToLeader(self._raft, self._observer)
        self._submitting = Submitting(self._raft, self._to_leader, self._observer, self._origin)
        self._snapshots.attach(journal, self._raft, self._reads.applied)
        self._turns = Turns(
            raft=self._raft,
            store=self._store,
            apply=lambda payload: self._replica.apply_entry(payload, self._commits),
            applied=self._reads.applied,
            rest=self._snapshots.take_if_due,
            slice_s=self._limits.apply_slice_ms_max / 1000,
            clock=self._clock,
            observer=self._observer,
        )
        self._store.start(self._on_synced, self._on_disk_failed)
        await self._links.open()
        self._running = True
        self._turns.take()

    async def close(self) -> None:
        """See `Replicator.close`."""
        if not self._running:
            return
        self._running = False
        self._turns.stop()
        await self._links.close()
        self._commits.fail_all(
            errors.Draining("the node has stopped; nothing was proposed"),
            errors.OutcomeUnknown("the node has stopped while the command was on its way"),
        )
        await self._snapshots.close()
        await self._store.close()

    async def propose(self, command: Command, *, deadline_s: float) -> Applied:
        """See `Replicator.propose`."""
        if self._halted is not None:
            raise errors.NotReady(f"the node has halted: {self._halted}")
        if self._running and self._store.read_only is not None:
            raise self._why_nothing_is_sent()
        return await self._commits.propose(encode_command(command), deadline_s)

    async def read_barrier(self, *, deadline_s: float) -> None:
        """See `Replicator.read_barrier`."""
        self._refuse_unless_running()
        await self._reads.wait(deadline_s, self._raft.leader_name)

    async def wait_applied(self, revision: Revision, *, deadline_s: float) -> None:
        """See `Replicator.wait_applied`."""
        await self._replica.wait_applied(revision, deadline_s)

    def status(self) -> ClusterStatus:
        """See `Replicator.status`."""
        return cluster_status(
            self.state.revision,
            self._self,
            self._founders,
            self._raft if self._running else None,
            halted=self._halted,
            disk_failed=self._disk_failed,
            not_member=self._not_member,
            unneeded_elections=self._unneeded_elections,
            read_only=self._store.read_only if self._running else None,
        )

    async def take_snapshot(self) -> SnapshotInfo:
        """See `Replicator.take_snapshot`."""
        self._refuse_unless_running()
        return await self._snapshots.take_as_ordered()

    async def transfer_leadership(self, target: NodeName | None, *, deadline_s: float) -> NodeName:
        """See `Replicator.transfer_leadership`. Blocks until the successor leads."""
        self._refuse_unless_running()
        successor = choose_successor(self._raft, target)
        try:
            await hand_over(self._raft, successor, deadline_s)
        finally:
            self._commits.wake()
        return NodeName(str(successor.id))

    async def change_membership(self, change: MembershipChange, *, deadline_s: float) -> None:
        """See `Replicator.change_membership`."""
        self._refuse_unless_running()
        if isinstance(change, RemoveMember) and change.name == self._self.name:
            with nothing_changed_yet():
                await self.transfer_leadership(None, deadline_s=deadline_s)
        await change_members(self._raft, change, deadline_s)

    def report_parked(self, request_ids: Sequence[RequestId]) -> None:
        """See `Replicator.report_parked`."""
        if request_ids and self._running and not self._halted:
            self._to_leader.report_parked(request_ids)

    def parked_elsewhere(self) -> tuple[RequestId, ...]:
        """See `Replicator.parked_elsewhere`."""
        return self._parked.recent()

    def _refuse_unless_running(self) -> None:
        if self._halted is not None or not self._running:
            raise errors.NotReady(self._halted or "the node is not running")

    # Driving

    def wake(self) -> None:
        """Schedules a turn at the end of this round of the loop."""
        if self._running:
            self._turns.wake()

    def _on_synced(self) -> None:
        with any_fault_halts(self.halt):
            self._observer.synced(self._store.sync_seconds)
            self._links.release()
        self.wake()

    def _on_disk_failed(self, error: BaseException) -> None:
        """After a failed sync nobody knows what is on disk: the node must not go on."""
        self._disk_failed = True
        self.halt(f"the log could not be synced: {error}")

    def membership_changed(self) -> None:
        """See `member.Host`."""
        self._not_member = False
        if self._running:
            others = addresses_of_others(self._raft.membership, self._founders, self._self.name)
            self._links.set_peers(others)

    def not_member(self) -> None:
        """See `member.Host`."""
        self._not_member = True

    def elected_without_need(self) -> None:
        """See `member.Host`."""
        self._unneeded_elections += 1
        self._observer.elected_without_need()

    def _on_connected(self, node: Node) -> None:
        with any_fault_halts(self.halt):
            self._raft.peer_connected(node)
            if node == self._raft.leader_node:
                self._send_again()
        self.wake()

    # Proposals

    def _submit(self, batch: Batch) -> bool:
        return self._running and self._halted is None and self._submitting.submit(batch)

    def _why_nothing_is_sent(self) -> errors.RendezvousError:
        return why_nothing_is_sent(
            self._self.name,
            self._raft.leader_name() if self._running else None,
            halted=self._halted,
            read_only=self._store.read_only if self._running else None,
        )

    def _ask_read(self, read_id: int) -> bool:
        asked = self._running and self._halted is None
        with any_fault_halts(self.halt):
            asked = asked and self._to_leader.request_read(read_id)
        self.wake()
        return asked

    # What the rules tell (member.Host)

    def leader_known(self) -> None:
        """Sends what was on its way to the new leader; tells whoever counts."""
        leader = self._raft.leader_name()
        if leader != self._known_leader:
            self._known_leader = leader
            self._observer.leader_changed()
        if leader is not None and self._running:
            asyncio.get_running_loop().call_soon(self._send_again)
        self.wake()

    def _send_again(self) -> None:
        """What is on its way may be lost; what waits may have somewhere to go."""
        self._commits.resend()
        self._commits.wake()

    def read_confirmed(self, read_id: int, index: int) -> None:
        """See `member.Host`."""
        self._reads.confirmed(read_id, index)

    def read_refused(self, read_id: int) -> None:
        """See `member.Host`."""
        self._reads.refused(read_id)

    def batch_refused(self, origin: bytes, sequence: int) -> None:
        """See `member.Host`."""
        if origin != self._origin:
            return
        self._commits.returned(sequence)
        asyncio.get_running_loop().call_later(REFUSED_PAUSE_S, self._commits.wake)

    def newest_snapshot(self) -> SnapshotFile | None:
        """See `member.Host`."""
        return self._snapshots.newest

    def snapshot_chunk(self, snapshot: SnapshotFile, offset: int) -> Message | None:
        """See `member.Host`."""
        return self._snapshots.chunk(snapshot, offset)

    def snapshot_received(self, node: Node, message: Message) -> None:
        """See `member.Host`."""
        self._snapshots.receive(node, message)

    def parked_reported(self, name: str, request_ids: Sequence[str]) -> None:
        """See `member.Host`."""
        self._parked.heard(name, request_ids)

    def halt(self, reason: str) -> None:
        """Stops for good, visibly: no votes, no answers, no proposals."""
        if self._halted is not None:
            return
        self._halted = reason
        self._turns.stop()
        self._links.silence()
        self._commits.fail_all(
            errors.NotReady(f"the node has halted: {reason}"),
            errors.OutcomeUnknown(f"the node has halted: {reason}"),
        )
