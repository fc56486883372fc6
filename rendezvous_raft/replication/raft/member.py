"""What all of Raft's rules share: a member's state, its roles, and what it asks of its host.

The rules are those of Ongaro, "Consensus: Bridging Theory and Practice" (2014); sections are quoted
from there, or from Ongaro and Ousterhout (2014) where marked "paper". F-rows are those of
DESIGN.md. They stand in `elections.py`, `leading.py`, `following.py` and `rules.py`, each class on
top of the other, only because one file would be too long; together they are one member.

They act within single turns of the loop and touch no socket, file or clock of their own: `links`
sends, `log` stores, `clock` and `rng` are injected, and `host` is told what came of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pysyncobj.node import Node

from rendezvous_raft.membership import RaftTimers
from rendezvous_raft.replication.raft.guard import FOLLOWER, LEADER, GuardedSyncObj
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.links import Links
from rendezvous_raft.replication.raft.progress import Progress

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

    def batch_refused(self, origin: bytes, sequence: int) -> None:
        """A batch that was forwarded under this origin certainly was not appended."""
        ...

    def snapshot_chunk(self, offset: int) -> Message | None:
        """The chunk of the newest snapshot at `offset`; None: there is no snapshot."""
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
        others: Sequence[str],
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
        self.handing_over = False
        """Whether this leader takes no proposals, so that its successor's log can be complete."""
        self._verified = (0, 0)
        """Term, and the highest index of ours that its leader has verified."""
        self._round = 0
        self._heartbeat_due_s = 0.0
        self._heard_leader_s = float("-inf")
        self._pre_votes: dict[str, bool] | None = None
        self._reads: list[tuple[int, int, Node | None, int]] = []
        self._progress: dict[str, Progress] = {}
        self.name = name
        self.peers: tuple[Node, ...] = ()
        super().__init__(
            name=name,
            others=others,
            log=log,
            transport=links,
            clock=clock,
            rng=rng,
            election_s=(timers.election_min_s, timers.election_max_s),
        )
        self.peers = tuple(sorted(self.others, key=lambda node: str(node.id)))
        self.commit_index = self.last_applied = log.base_index

    @property
    def is_leader(self) -> bool:
        """Whether this node believes to lead; a read index tells for sure."""
        return bool(self.role_code == LEADER)

    @property
    def quorum(self) -> int:
        """Members that make a majority."""
        return (len(self.peers) + 1) // 2 + 1

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
