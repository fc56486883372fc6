"""What all of Raft's rules share: a member's state, its roles, and what it asks of its host.

The rules are those of Ongaro, "Consensus: Bridging Theory and Practice" (2014); sections are quoted
from there, or from Ongaro and Ousterhout (2014) where marked "paper". F-rows are those of
DESIGN.md. They stand in `elections.py`, `leading.py`, `following.py`, `changing.py` and `rules.py`,
each class on top of the other, only because one file would be too long; together they are one
member.

They act within single turns of the loop and touch no socket, file or clock of their own: `links`
sends, `log` stores, `clock` and `rng` are injected, and `host` is told what came of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from pysyncobj.node import Node

from rendezvous_raft.membership import Membership, RaftTimers
from rendezvous_raft.replication.codec import COMMAND_VERSION
from rendezvous_raft.replication.raft.guard import FOLLOWER, LEADER, GuardedSyncObj
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.links import Links
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.replication.raft.progress import Progress
from rendezvous_raft.replication.raft.snapshots import SnapshotFile
from rendezvous_raft.types import Standing

Message = dict[str, Any]
"""A Raft message: its `type`, its sender's `term`, and fields by type; see the handlers."""


class Host(Protocol):
    """What the rules ask of the engine around them."""

    def wake(self) -> None:
        """Something happened: commit, apply and replicate at the end of this turn."""
        ...

    def leader_known(self) -> None:
        """Another leader, or another term of the same one, is known; or none is any more."""
        ...

    def read_confirmed(self, read_id: int, index: int) -> None:
        """A read index that this node asked for: apply up to it, then read."""
        ...

    def read_refused(self, read_id: int) -> None:
        """The node that was asked for a read index does not lead."""
        ...

    def membership_changed(self) -> None:
        """Other members are in force, or what is known of them changed."""
        ...

    def not_member(self) -> None:
        """The leader does not count this node among the members."""
        ...

    def elected_without_need(self) -> None:
        """This node stands for election although its leader can still be reached."""
        ...

    def batch_refused(self, origin: bytes, sequence: int) -> None:
        """A batch that was forwarded under this origin certainly was not appended."""
        ...

    def newest_snapshot(self) -> SnapshotFile | None:
        """The newest snapshot, if there is one."""
        ...

    def snapshot_chunk(self, snapshot: SnapshotFile, offset: int) -> Message | None:
        """The chunk of a snapshot at `offset`; None: it is not kept any more."""
        ...

    def snapshot_received(self, node: Node, message: Message) -> None:
        """A chunk of a snapshot came from the leader."""
        ...

    def parked_reported(self, name: str, request_ids: Sequence[str]) -> None:
        """A node told which requests have waiters parked there."""
        ...

    def halt(self, reason: str) -> None:
        """Something that must not be went wrong: stop for good."""
        ...


class Member(GuardedSyncObj):
    """State and roles of one member. See the module's docstring."""

    def __init__(
        self,
        *,
        name: str,
        birth: Birth,
        log: DurableJournal,
        links: Links,
        timers: RaftTimers,
        clock: Callable[[], float],
        rng: random.Random,
        host: Host,
    ) -> None:
        self.timers = timers
        self.links = links
        self.host = host
        self.installing = False
        """Whether a snapshot is about to take the log's place; nothing is appended meanwhile."""
        self.successor: Node | None = None
        """Whom this node is handing leadership to."""
        self._verified = (0, 0)
        """Term, and the highest index of ours that its leader has verified."""
        self._round = 0
        self._heartbeat_due_s = 0.0
        self._durable = 0
        """What was on this disk when that was looked at last."""
        self._durable_s = clock()
        """When the disk was seen to keep up, or to get on, last."""
        self._offer_due_s = 0.0
        """When a leader whose disk is full tells the next one to stand."""
        self._heard_leader_s = float("-inf")
        self._pre_votes: dict[str, bool] | None = None
        self._reads: list[tuple[int, int, Node | None, int]] = []
        self._progress: dict[str, Progress] = {}
        self._greeted: dict[str, Birth] = {}
        self._command_versions: dict[str, int] = {}
        self._asked_in: dict[str, tuple[int, float]] = {}
        """Of this leadership: which directory wants to speak for a member, and since when."""
        self._admitted = False
        self._leader_gone = False
        self._lost_leader: Node | None = None
        self.name = name
        self.birth = birth
        self.membership = Membership(())
        self.peers: tuple[Node, ...] = ()
        """All other members, in order of their names."""
        self.voters: tuple[Node, ...] = ()
        """Those of them who vote."""
        super().__init__(
            name=name,
            others=(),
            log=log,
            transport=links,
            clock=clock,
            rng=rng,
            election_s=(timers.election_min_s, timers.election_max_s),
        )
        self.commit_index = self.last_applied = log.base_index
        self.use_membership()

    @property
    def is_leader(self) -> bool:
        """Whether this node believes to lead; a read index tells for sure."""
        return bool(self.role_code == LEADER)

    @property
    def handing_over(self) -> bool:
        """Whether this leader takes no proposals, so that its successor's log can be complete."""
        return self.successor is not None

    @property
    def is_voter(self) -> bool:
        """Whether this node, with the directory that it has, is a voter of the membership."""
        own = self.membership.find(self.name)
        return own is not None and own.standing is Standing.VOTER and self._may_vote()

    def _may_vote(self) -> bool:
        """Whether a vote of this node breaks no promise that it may have forgotten (F7, F11).

        A directory that was there from the beginning remembers them all. Another one is free of
        them once a membership that names it is committed: from then on no majority that its
        forerunner was part of can elect or commit anything (DESIGN.md, Rejoining). One that names
        it a voter says so too, committed or not: it was made after the one that let it in was.
        After a restart nothing else may tell, before there is a leader.
        """
        own = self.membership.find(self.name)
        if self.birth.founding:
            return own is None or own.incarnation in (0, self.birth.incarnation)
        if not self._admitted:
            committed = self.log.membership_at(max(self.commit_index, self.log.base_index))
            known = committed.find(self.name)
            if own is not None and own.standing is Standing.VOTER:
                known = own
            self._admitted = known is not None and known.incarnation == self.birth.incarnation
        return self._admitted

    @property
    def quorum(self) -> int:
        """Voters that make a majority; a leader or candidate is one itself."""
        return (len(self.voters) + 1) // 2 + 1

    def _is_majority(self, names: Iterable[str]) -> bool:
        """Whether this node and those of `names` who vote are a majority."""
        voting = [str(voter.id) for voter in self.voters]
        return 1 + sum(1 for name in names if name in voting) >= self.quorum

    def use_membership(self) -> None:
        """Takes over the log's last membership, in force whether committed or not (4.1)."""
        if self.log.membership is self.membership:
            return
        before, self.membership = self.membership, self.log.membership
        others = [member for member in self.membership.members if member.name != self.name]
        self.peers = tuple(Node(member.name) for member in others)
        self.voters = tuple(Node(m.name) for m in others if m.standing is Standing.VOTER)
        self.others = set(self.peers)
        for member in others:
            known = before.find(member.name)
            if known is None or known.incarnation != member.incarnation:
                # A node, or a directory, of whose log nothing is known.
                self._progress[member.name] = Progress(heard_s=self.clock())
                peer = Node(member.name)
                self.next_index[peer], self.match_index[peer] = self.last_index() + 1, 0
        for member in before.members:
            if self.membership.find(member.name) is None:
                self._forget_greeting(member.name)
        self.host.membership_changed()

    def greeted(self, node: Node, birth: Birth, command_version: int = COMMAND_VERSION) -> None:
        """A connection of the peer told which directory speaks for it, and what it can apply."""
        self._greeted[str(node.id)] = birth
        self._command_versions[str(node.id)] = command_version

    def _forget_greeting(self, name: str) -> None:
        """A peer cannot be heard any more: what it can apply it has to say again.

        Whose directory spoke for a member is kept, or any would be taken for it (`_speaks_for`);
        of those that are no members nothing is.
        """
        self._command_versions.pop(name, None)
        if self.membership.find(name) is None:
            self._greeted.pop(name, None)

    def command_version(self) -> int:
        """Highest version of commands that every member says it can apply.

        1 of those that cannot be heard now: whoever is down may come back as an older program.
        """
        others = [self._command_versions.get(str(peer.id), 1) for peer in self.peers]
        return min([COMMAND_VERSION, *others])

    def leader_name(self) -> str | None:
        """The leader that this node knows."""
        return None if self.leader_node is None else str(self.leader_node.id)

    def _step_down(self, term: int, leader: Node | None) -> None:
        """5.1: becomes a follower, of a newer term or of another leader."""
        was = (self.term, self.leader_node)
        if term > self.term:
            self.set_term(term, None)
        if self.role_code != FOLLOWER:
            self.set_role(FOLLOWER)
            self.refuse_reads()
        self._pre_votes = None
        self.leader_node = leader
        self._postpone_election()
        if (self.term, self.leader_node) != was:
            self.host.leader_known()

    def _postpone_election(self) -> None:
        self.election_deadline = self.clock() + self.new_election_timeout()

    def refuse_reads(self) -> None:
        """Ends the reads that wait for a round of this leadership."""
        raise NotImplementedError
