"""Who decides in a simulated cluster: memberships as the logs name them, directories by number.

A membership names, for each member, the data directory that speaks for it (its *incarnation*). A
directory that was lost has kept its promises until then, and what it acknowledged may still be
counted; the one that came in its place has made none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.replication.raft.memberships import MEMBERSHIP, decode_membership
from rendezvous_raft.replication.raft.metadata import UNNAMED, Birth
from rendezvous_raft.testing.simulation.stable_log import StableLog
from rendezvous_raft.types import Standing


@dataclass(slots=True)
class NodeRecord:
    """What the judge knows of a node with one data directory, across its lives."""

    name: str
    stable: StableLog
    birth: Birth = UNNAMED
    """Of the directory, once a life has opened it."""
    votes: dict[int, str] = field(default_factory=dict)
    """That have left it, by term."""
    term_out: int = 0
    """Highest term that has left it."""
    committed: int = 1
    """Of this life."""
    applied: int = 1
    led_out: int = 0
    """Last term in which it has spoken as leader."""
    led_term: int = 0
    """Last term in which it was seen to lead; its entries may leave before."""
    believed: dict[str, int] = field(default_factory=dict)
    """As leader: up to where it takes others to have its log."""

    def speaks_for(self, incarnation: int) -> bool:
        """Whether it is the directory that a membership names.

        Where none is named yet, only one counts that has been there from the beginning.
        """
        return self.birth.incarnation == incarnation or (not incarnation and self.birth.founding)


class Electorate:
    """Memberships and directories. The judge tells it what was written and committed.

    Args:
        founders: the membership that the cluster was founded with.
    """

    def __init__(self, founders: Membership) -> None:
        self.history = [founders]
        """Every membership that was committed, oldest first."""
        self.nodes: dict[str, NodeRecord] = {}
        """By name, with the directory that each has now."""
        self.lost: dict[str, list[NodeRecord]] = {}
        """Directories that are gone, by name."""
        self.named_at: dict[tuple[str, int], int] = {}
        """Index of the committed membership that first named a directory, by name and number."""
        self._decided: dict[tuple[str, ...], None] = {founders.voters(): None}
        """Voters of every membership that was committed."""
        self._written: dict[tuple[int, int], Membership] = {}
        self._voters: tuple[Membership, list[tuple[str, int]]] = (founders, _voters(founders))

    @property
    def committed(self) -> Membership:
        """The last membership that is committed."""
        return self.history[-1]

    def wrote(self, index: int, term: int, payload: bytes) -> bool:
        """A membership went to a log; whether it changes one voter at most of a committed one.

        Only then is there a node in common to any two majorities that may decide (thesis 4.1).
        """
        if (index, term) in self._written:
            return True
        membership = self._written[index, term] = decode_membership(payload[1:])
        voters = set(membership.voters())
        return any(len(voters.symmetric_difference(known)) <= 1 for known in self._decided)

    def commits(self, index: int, payload: bytes) -> None:
        """An entry was committed."""
        if payload[:1] == MEMBERSHIP:
            self.history.append(decode_membership(payload[1:]))
            self._decided[self.committed.voters()] = None
            for member in self.committed.members:
                if member.incarnation:
                    self.named_at.setdefault((member.name, member.incarnation), index)

    def possible(self, last_committed: int) -> Iterator[Membership]:
        """The membership that is committed, and those that may come to be."""
        yield self.committed
        for (index, _), membership in self._written.items():
            if index > last_committed:
                yield membership

    def replaces(self, node: NodeRecord) -> None:
        """A node has lost its directory, and has this one now."""
        before = self.nodes.get(node.name)
        if before is not None:
            self.lost.setdefault(node.name, []).append(before)
        self.nodes[node.name] = node

    def was_let_in(self, node: NodeRecord) -> bool:
        """Whether a vote of its directory breaks no promise that it may have forgotten."""
        return node.birth.founding or (node.name, node.birth.incarnation) in self.named_at

    def majority(self, membership: Membership) -> int:
        """Voters that decide."""
        return len(self.voters(membership)) // 2 + 1

    def voters(self, membership: Membership) -> list[tuple[str, int]]:
        """Name and incarnation of those who vote."""
        if self._voters[0] is not membership:
            self._voters = (membership, _voters(membership))
        return self._voters[1]

    def holders(self, membership: Membership, index: int, term: int) -> list[str]:
        """The voters whose directory has, or had when it was lost, an entry on disk."""
        return [
            name
            for name, incarnation in self.voters(membership)
            if any(
                record.stable.holds(index, term) and record.speaks_for(incarnation)
                for record in self._records(name)
            )
        ]

    def electors(self, membership: Membership, candidate: str, term: int) -> list[str]:
        """The voters who have voted for a candidate; it has voted for itself if it may."""
        return [
            name
            for name, incarnation in self.voters(membership)
            if name == candidate
            or any(
                record.votes.get(term) == candidate and record.speaks_for(incarnation)
                for record in self._records(name)
            )
        ]

    def was_held(self, name: str, index: int, of_term: int, *, term: int) -> bool:
        """Whether a directory that a node has lost had an entry, and in the term of its leader."""
        return any(
            record.stable.term > term
            or (record.stable.term == term and record.stable.holds(index, of_term))
            for record in self.lost.get(name, ())
        )

    def is_intact(self, member: MemberConfig) -> bool:
        """Whether the member has the directory that the membership names."""
        record = self.nodes.get(member.name)
        joins = member.standing is not Standing.VOTER and not member.incarnation
        return joins or (record is not None and record.speaks_for(member.incarnation))

    def is_settled(self) -> bool:
        """Whether all have the directories that are named, and nobody waits for a vote."""
        settled = self.committed.is_settled()
        return settled and all(map(self.is_intact, self.committed.members))

    def _records(self, name: str) -> Iterator[NodeRecord]:
        record = self.nodes.get(name)
        if record is not None:
            yield record
        yield from self.lost.get(name, ())


def _voters(membership: Membership) -> list[tuple[str, int]]:
    return [(m.name, m.incarnation) for m in membership.members if m.standing is Standing.VOTER]
