"""What must hold in a simulated cluster: Raft's invariants, the disk's, and the clients'.

It looks at what processes let others see (messages that leave, answers to clients), at what reached
the disks, and at which entries were applied; it does not believe what an engine says of itself.
Each invariant counts how often it was evaluated, and how often that could have failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rendezvous_raft.core import snapshot
from rendezvous_raft.core.commands import (
    CloseBranches,
    Command,
    RegisterBranches,
    RegisterRequest,
)
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.membership import Membership
from rendezvous_raft.replication.codec import CodecError, decode_entry
from rendezvous_raft.replication.raft.guard import REGULAR
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.memberships import MEMBERSHIP
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.testing.simulation.electorate import Electorate, NodeRecord
from rendezvous_raft.testing.simulation.stable_log import WrittenEntry
from rendezvous_raft.testing.simulation.verdict import Tally, Violation

DIGEST_INTERVAL = 64
"""Entries between digests of the whole state."""
_NOT_TERMS_OF_THEIR_OWN = ("pre_vote", "pre_vote_reply")


@dataclass(slots=True)
class _Committed:
    term: int
    in_term: int
    """Of whoever committed it first."""
    payload: bytes
    commands: tuple[Command, ...]
    answers: list[Applied] | None = None
    """Of whoever applied it first."""


@dataclass(slots=True)
class Judge:
    """One for each world. Times are those of the world."""

    electorate: Electorate
    now_s: float = 0.0
    violations: list[Violation] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)
    log: dict[int, _Committed] = field(default_factory=dict)
    """Committed entries by index."""
    last_committed: int = 1
    revisions: dict[int, tuple[bytes, Applied]] = field(default_factory=dict)
    """Command id and answer by revision."""
    floor: int = 0
    """Revision that every linearizable read from now on must have."""
    refused: dict[bytes, None] = field(default_factory=dict)
    """Commands that certainly were not and will not be applied."""
    _written: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _leaders: dict[int, NodeRecord] = field(default_factory=dict)
    _digests: dict[int, str] = field(default_factory=dict)
    _results: dict[bytes, Applied] = field(default_factory=dict)
    _commands: dict[bytes, None] = field(default_factory=dict)
    """That were committed."""

    def broke(self, invariant: str, what: str) -> None:
        """Something that must not happen has happened."""
        self.violations.append(Violation(self.now_s, invariant, what))

    def check(self, invariant: str, holds: object, what: str, *, meaningful: bool = True) -> None:
        """Counts, and remembers a violation."""
        tally = self.tallies.get(invariant)
        if tally is None:
            tally = self.tallies[invariant] = Tally()
        tally.evaluated += 1
        tally.meaningful += meaningful
        if not holds:
            self.broke(invariant, what)

    # Messages that leave

    def left(self, node: NodeRecord, receiver: str, message: dict[str, Any]) -> None:
        """A message leaves a node."""
        kind, term = message["type"], message["term"]
        if kind in _NOT_TERMS_OF_THEIR_OWN:
            return
        if term != node.stable.term:
            self.check(
                "terms are durable before they are told",
                term < node.stable.term,
                f"{node.name} sends {kind} of term {term}, on disk is {node.stable.term}",
            )
        node.term_out = max(node.term_out, term)
        if kind in ("append", "commit", "snapshot"):
            self._one_leader(node, term)
        elif kind == "vote_reply":
            self._one_vote(node, term, receiver)
        elif kind == "vote":
            self._one_vote(node, term, node.name)
        elif kind == "append_reply":
            if message["match"]:
                self._is_durable(node, message["match"])
        elif kind == "snapshot_reply" and message["installed"]:
            self._is_durable(node, message["installed"])

    def _one_leader(self, node: NodeRecord, term: int) -> None:
        leader = self._leaders.setdefault(term, node)
        if leader is not node or node.led_out != term:
            self.check(
                "one leader per term",
                leader is node,
                f"{leader.name} and {node.name} both lead in term {term}",
                meaningful=len(self._leaders) > 1,
            )
            node.led_out = term

    def _one_vote(self, node: NodeRecord, term: int, candidate: str) -> None:
        vote = node.votes.setdefault(term, candidate)
        self.check(
            "one vote per term",
            vote == candidate,
            f"{node.name} votes in term {term} for {vote} and for {candidate}",
        )
        durable = (node.stable.term, node.stable.voted_for)
        self.check(
            "votes are durable before they are given",
            durable == (term, candidate) or node.stable.term > term,
            f"{node.name} votes in term {term} for {candidate}, on disk is {durable}",
        )
        if not node.birth.founding:
            self.check(
                "who may have forgotten a promise does not vote before it is let in",
                self.electorate.was_let_in(node),
                f"{node.name} votes in term {term} for {candidate}, and no committed membership"
                " names its directory",
            )

    def _is_durable(self, node: NodeRecord, index: int) -> None:
        self.check(
            "entries are durable before they are acknowledged",
            node.stable.last >= index,
            f"{node.name} acknowledges entry {index}, on disk are {node.stable.last}",
        )

    # Disks

    def wrote(self, node: NodeRecord, entry: WrittenEntry) -> None:
        """An entry went to a log."""
        key = (entry.index, entry.term)
        if entry.payload[:1] == MEMBERSHIP:
            self.check(
                "one voter changes at a time",
                self.electorate.wrote(entry.index, entry.term, entry.payload),
                f"{node.name} changes more than one voter of any membership that is committed,"
                f" by entry {entry.index} of term {entry.term}",
            )
        first = self._written.setdefault(key, entry.payload)
        self.check(
            "log matching",
            first is entry.payload or first == entry.payload,
            f"{node.name} writes another entry {entry.index} of term {entry.term}",
            meaningful=first is not entry.payload,
        )

    def voided(self, node: NodeRecord, index: int, term: int) -> None:
        """A durable entry of a log is void from now on."""
        known = self.log.get(index)
        self.check(
            "what is durable survives",
            known is None or known.term != term,
            f"{node.name} drops the committed entry {index}",
        )

    def booted(
        self,
        node: NodeRecord,
        *,
        birth: Birth,
        term: int,
        voted_for: str | None,
        base: int,
        terms: Sequence[int],
        volatile: Sequence[str],
    ) -> None:
        """A new life has recovered this from its disk."""
        node.birth = birth
        self.check(
            "terms never go down",
            term >= max(node.stable.term, node.term_out),
            f"{node.name} is back in term {term}, was in {node.stable.term}",
            meaningful=node.term_out > 0,
        )
        vote = node.votes.get(term)
        self.check(
            "votes survive",
            vote is None or vote == voted_for,
            f"{node.name} has voted for {vote} in term {term}, now knows of {voted_for}",
            meaningful=vote is not None,
        )
        self._committed_survives(node, base, terms)
        self.check(
            "what was recovered is durable",
            not volatile,
            f"{node.name}: {', '.join(volatile)} could still change at a power loss",
        )

    def begins(self, node: NodeRecord) -> None:
        """A new life begins, knowing nothing yet."""
        self.electorate.nodes[node.name] = node
        node.committed = node.applied = 1
        node.led_out = node.led_term = 0

    def _committed_survives(self, node: NodeRecord, base: int, terms: Sequence[int]) -> None:
        stable = node.stable
        durable = min(stable.last, self.last_committed)
        kept = base
        while kept < durable and kept - base < len(terms):
            if kept + 1 in self.log and self.log[kept + 1].term != terms[kept - base]:
                break
            kept += 1
        for index in range(kept + 1, durable + 1):
            if stable.holds(index, self.log[index].term):
                self.broke(
                    "what is durable survives", f"{node.name} has lost the committed entry {index}"
                )
                return
        self.check("what is durable survives", holds=True, what="", meaningful=durable > 1)

    # Commits

    def committed(
        self,
        node: NodeRecord,
        upto: int,
        log: DurableJournal,
        *,
        term: int,
        leads: bool,
    ) -> None:
        """A node that is in a term, and may lead it, takes entries up to an index for committed."""
        if leads and upto > self.last_committed:
            self.check(
                "leaders commit by entries of their own term",
                log.term_at(upto) == term,
                f"{node.name} leads in {term} and commits {upto} of term {log.term_at(upto)}",
                meaningful=log.term_at(node.committed) != term,
            )
        for index in range(node.committed + 1, upto + 1):
            payload, _, of_term = log[index - log.base_index]
            known = self.log.get(index)
            if known is None:
                self.log[index] = _Committed(of_term, term, payload, _commands_in(payload))
                self._first_commit(node, index, self.log[index], log.membership)
            else:
                self.check(
                    "committed entries never change",
                    known.term == of_term and known.payload == payload,
                    f"{node.name} commits entry {index} of term {of_term}, was of {known.term}",
                )
        node.committed = max(node.committed, upto)

    def _first_commit(
        self, node: NodeRecord, index: int, entry: _Committed, membership: Membership
    ) -> None:
        durable = self.electorate.holders(membership, index, entry.term)
        self.check(
            "a majority has it on disk before it is committed",
            len(durable) >= self.electorate.majority(membership),
            f"{node.name} commits entry {index} of term {entry.term}; only on disk of {durable}",
        )
        self.electorate.commits(index, entry.payload)
        self.last_committed = max(self.last_committed, index)
        for command in entry.commands:
            self._commands[command.command_id] = None
            self.check(
                "what definitely failed has no effect",
                command.command_id not in self.refused,
                f"{command} was refused for certain, and is committed as entry {index}",
                meaningful=bool(self.refused),
            )

    def leads(self, node: NodeRecord, term: int, log: DurableJournal) -> None:
        """A node has become leader, perhaps after others of later terms."""
        index = self.last_committed
        while index in self.log and self.log[index].in_term >= term:
            index -= 1
        known = self.log.get(index)
        self.check(
            "leader completeness",
            known is None or log.base_index > index or log.term_at(index) == known.term,
            f"{node.name} leads in term {term} without the committed entry {index}",
            meaningful=known is not None,
        )
        electors = self.electorate.electors(log.membership, node.name, term)
        self.check(
            "a majority elects a leader",
            node.name in electors and len(electors) >= self.electorate.majority(log.membership),
            f"{node.name} leads in term {term}, elected by {electors} alone",
        )

    def believes(
        self, node: NodeRecord, term: int, matches: Mapping[Any, int], log: DurableJournal
    ) -> None:
        """A leader takes its followers to have its log up to some indexes."""
        for peer, index in matches.items():
            name = str(peer.id)
            if node.believed.get(name, 0) == index:
                continue
            node.believed[name] = index
            if log.membership.find(name) is None:
                continue  # what is left of one that was removed counts for nothing
            follower = self.electorate.nodes[name]
            of_term = log.term_at(index)
            # One that is in a later term may have been told to drop it since.
            if index and of_term is not None and follower.stable.term <= term:
                self.check(
                    "leaders believe what was acknowledged to them",
                    (follower.stable.term == term and follower.stable.holds(index, of_term))
                    or self.electorate.was_held(name, index, of_term, term=term),
                    f"{node.name} takes {name} to have entry {index} of term {of_term}",
                )

    # States

    def applied(
        self, node: NodeRecord, index: int, answers: list[Applied], machine: StateMachine
    ) -> None:
        """A node has applied an entry."""
        self.check(
            "entries are applied once, in order",
            index > node.applied and all(map(self._is_empty, range(node.applied + 1, index))),
            f"{node.name} applies entry {index} after {node.applied}",
        )
        node.applied = index
        entry = self.log.get(index)
        if entry is None:
            self.broke("only what is committed is applied", f"{node.name} applies entry {index}")
        elif entry.answers is None:
            entry.answers = answers
            for command, answer in zip(entry.commands, answers, strict=True):
                self.revisions[answer.revision] = (command.command_id, answer)
                self._one_effect(command, answer)
        else:
            self.check(
                "equal index, equal answers",
                entry.answers == answers,
                f"{node.name} answers entry {index} with {answers}, was {entry.answers}",
            )
        if index % DIGEST_INTERVAL == 0:
            self.state(node, index, machine)

    def _one_effect(self, command: Command, answer: Applied) -> None:
        """A command that is in the log twice has one effect, and one answer."""
        first = self._results.setdefault(command.command_id, answer)
        if isinstance(command, RegisterRequest | RegisterBranches | CloseBranches):
            self.check(
                "one effect per command",
                first.result == answer.result and (first is answer or not answer.events),
                f"{command} is answered {answer}, and was {first}",
                meaningful=first is not answer,
            )

    def _is_empty(self, index: int) -> bool:
        """Whether an entry holds no commands: the first of a leader's term."""
        return index in self.log and not self.log[index].commands

    def restored(self, node: NodeRecord, index: int, machine: StateMachine) -> None:
        """A snapshot has replaced the state of a node."""
        self.check(
            "the state never goes back",
            index >= node.applied,
            f"{node.name} goes back from {node.applied} to {index}",
        )
        node.applied = index
        node.committed = max(node.committed, index)
        self.state(node, index, machine)

    def state(self, node: NodeRecord, index: int, machine: StateMachine) -> None:
        """The state of a node after an entry."""
        found = snapshot.digest(machine.state)
        first = self._digests.setdefault(index, found)
        self.check(
            "equal index, equal digest",
            first == found,
            f"{node.name} has another state at entry {index}",
            meaningful=first is not found,
        )

    # Clients

    def refuse(self, command: Command) -> None:
        """A client was told, by everybody it asked, that its command certainly has no effect."""
        self.refused[command.command_id] = None
        self.check(
            "what definitely failed has no effect",
            command.command_id not in self._commands,
            f"{command} was refused for certain, and has been committed",
        )

    def acknowledged(self, command_id: bytes, applied: Applied) -> None:
        """A client was told that its command took effect."""
        known = self.revisions.get(applied.revision)
        self.check(
            "an acknowledgement tells the truth",
            known is not None and known[0] == command_id and known[1].result == applied.result,
            f"{command_id.hex()} was acknowledged at {applied.revision}: {applied.result}; "
            f"the log says {known}",
        )
        self.floor = max(self.floor, applied.revision)

    def read(self, what: str, *, floor: int, before: int, found: int) -> None:
        """A linearizable read was answered from a revision; the node was at `before` when asked."""
        self.check(
            "linearizable reads see what was acknowledged",
            found >= floor,
            f"{what} was answered at revision {found}, acknowledged before it was {floor}",
            meaningful=before < floor,
        )
        self.floor = max(self.floor, found)


def _commands_in(payload: bytes) -> tuple[Command, ...]:
    """None for the first entry of a term, and for one that no node can read either."""
    if payload[:1] != REGULAR:
        return ()
    try:
        return decode_entry(payload[1:]).commands
    except CodecError:
        return ()
