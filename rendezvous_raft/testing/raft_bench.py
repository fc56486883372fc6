"""A group of Raft members on a bench: every message is delivered, dropped or doubled by hand.

The rules, the journal, the outbox and the frames are the real ones; the network is a list of
letters, the disk what was synced, time a number. Nothing happens unless it is told to.

    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    bench.propose("a", b"x")
    bench.settle()                     # delivers everything until nothing is on its way
    bench["b"].applied                 # [b"x"]
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rendezvous_raft.membership import MemberConfig, Membership, RaftTimers
from rendezvous_raft.replication.raft.frames import FrameReader, encode_frame
from rendezvous_raft.replication.raft.guard import REGULAR
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.links import Links, Node
from rendezvous_raft.replication.raft.member import Message
from rendezvous_raft.replication.raft.messages import check_message
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.replication.raft.outbox import Outbox
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.snapshots import SnapshotFile
from rendezvous_raft.replication.raft.storage import DurableLog
from rendezvous_raft.testing.bench_store import BenchStore
from rendezvous_raft.testing.fake_clock import FakeClock
from rendezvous_raft.types import NodeName, Region, Standing

ROUNDS_MAX = 1_000
"""Deliveries of everything on its way, after which a network that is never quiet is a fault."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way."""

    sender: str
    receiver: str
    message: Message

    @property
    def kind(self) -> str:
        """Type of the message."""
        return str(self.message["type"])


class BenchLinks(Links):
    """Puts messages, once their outbox lets them go, among the letters of the bench."""

    def __init__(self, bench: RaftBench, name: str, store: BenchStore) -> None:
        super().__init__()
        self._bench = bench
        self._name = name
        self._soon: list[Callable[[], None]] = []
        self.outbox = Outbox(store, self._deliver)
        self.full = False
        """Whether the windows to all peers have no room."""

    def send(self, node: Node, message: Message) -> bool:
        """PySyncObj's interface."""
        self.outbox.send(node, message)
        return True

    def _deliver(self, node: Node, message: Message) -> None:
        # As a receiver sees it: through a frame and the gate.
        (received,) = FrameReader().feed(encode_frame(message))
        check_message(received)
        self._bench.post(Letter(self._name, str(node.id), received))

    def is_open(self, node: Node) -> bool:
        """See `Links.is_open`."""
        return self._bench.is_linked(self._name, str(node.id))

    def has_room(self, node: Node) -> bool:
        """See `Links.has_room`."""
        return not self.full

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Links.soon`: at the end of the member's turn."""
        self._soon.append(callback)

    def run_soon(self) -> None:
        """The end of the turn."""
        waiting, self._soon = self._soon, []
        for callback in waiting:
            callback()


class BenchMember:
    """One member with its store; also the host of its rules, which it obeys like the engine."""

    def __init__(self, bench: RaftBench, name: str, store: BenchStore) -> None:
        self.name = name
        self.store = store
        self.applied: list[bytes] = []
        """Payloads applied by this life, in order."""
        self.reads: dict[int, int | None] = {}
        """Answers to read indexes by id; None: refused."""
        self.refused: list[int] = []
        """Sequences of forwarded batches that certainly were not appended."""
        self.leaders: list[str | None] = []
        """Leaders that became known, in order."""
        self.parked: dict[str, tuple[str, ...]] = {}
        self.halted: str | None = None
        self.told_not_member = 0
        """How often the leader said that it does not know this member."""
        self.needless_elections = 0
        self.snapshot: tuple[int, int, bytes] | None = None
        """Index, term and bytes of a snapshot that can be sent."""
        self._contents: dict[int, bytes] = {}
        self._bench = bench
        self.links = BenchLinks(bench, name, store)
        recovered = store.recovered()
        self.log = DurableJournal(cast("DurableLog", store), recovered, bench.founders)
        self.raft = Raft(
            name=name,
            birth=recovered.birth,
            log=self.log,
            links=self.links,
            timers=bench.timers,
            clock=bench.clock.monotonic_s,
            rng=random.Random(f"{bench.seed} {name}"),  # noqa: S311 (not for secrets)
            host=self,
        )

    # Driving

    def turn(self) -> None:
        """One turn of the engine: time, commit, apply, replicate."""
        if self.halted is not None:
            return
        self.raft.tick()
        committed = self.raft.advance_commit()
        while self.raft.last_applied < self.raft.commit_index:
            index = self.raft.last_applied + 1
            payload = self.log[index - self.log.base_index][0]
            if payload[:1] == REGULAR:
                self.applied.append(payload[1:])
            self.raft.last_applied = index
        if self.raft.is_leader:
            self.raft.replicate_all()
            if committed:
                self.raft.tell_commit()
        self.links.run_soon()

    def receive(self, letter: Letter) -> None:
        """One message comes in, and a turn follows."""
        if self.halted is None:
            self.raft.receive(Node(letter.sender), letter.message)
            self.turn()

    def sync(self) -> None:
        """The disk has everything; what waited for that leaves."""
        self.store.sync()
        self.links.outbox.release()
        self.turn()

    def entries(self) -> list[tuple[bytes, int]]:
        """Payload and term of everything behind the base."""
        return [(payload, term) for payload, _, term in self.log[1:]]

    # What the rules tell (member.Host)

    def wake(self) -> None:
        """See `member.Host`: every message is followed by a turn anyway."""

    def leader_known(self) -> None:
        """See `member.Host`."""
        self.leaders.append(self.raft.leader_name())

    def read_confirmed(self, read_id: int, index: int) -> None:
        """See `member.Host`."""
        self.reads[read_id] = index

    def read_refused(self, read_id: int) -> None:
        """See `member.Host`."""
        self.reads.setdefault(read_id, None)

    def batch_refused(self, origin: bytes, sequence: int) -> None:
        """See `member.Host`."""
        self.refused.append(sequence)

    def newest_snapshot(self) -> SnapshotFile | None:
        """See `member.Host`."""
        if self.snapshot is None:
            return None
        index, term, content = self.snapshot
        self._contents[index] = content
        return SnapshotFile(index, term, len(content), Path(str(index)))

    def snapshot_chunk(self, snapshot: SnapshotFile, offset: int) -> Message | None:
        """See `member.Host`: chunks of four bytes; all that were sent are kept."""
        content = self._contents[snapshot.index]
        where = {"index": snapshot.index, "snapshot_term": snapshot.term, "offset": offset}
        return {**where, "size": len(content), "data": content[offset : offset + 4]}

    def snapshot_received(self, node: Node, message: Message) -> None:
        """See `member.Host`: takes over where the last chunk ends, without the state."""
        if message["index"] <= self.raft.commit_index:
            self.raft.answer_snapshot(node, offset=0, installed=self.raft.commit_index)
            return
        received = message["offset"] + len(message["data"])
        if received < message["size"]:
            self.raft.answer_snapshot(node, offset=received, installed=0)
            return
        self.store.restart_at(message["index"], message["snapshot_term"])
        self.log.restart_at(message["index"], message["snapshot_term"], self.raft.membership)
        self.raft.commit_index = self.raft.last_applied = message["index"]
        self.raft.answer_snapshot(node, offset=0, installed=message["index"])

    def parked_reported(self, name: str, request_ids: Sequence[str]) -> None:
        """See `member.Host`."""
        self.parked[name] = tuple(request_ids)

    def membership_changed(self) -> None:
        """See `member.Host`: letters find everybody; who was removed greets anew, as a guest."""
        self._bench.guests_greet(self)

    def not_member(self) -> None:
        """See `member.Host`."""
        self.told_not_member += 1

    def elected_without_need(self) -> None:
        """See `member.Host`."""
        self.needless_elections += 1

    def halt(self, reason: str) -> None:
        """See `member.Host`."""
        self.halted = self.halted or reason


class RaftBench:
    """Members, the letters between them, and the clock."""

    def __init__(self, *names: str, seed: int = 0) -> None:
        self.names = names
        self.seed = seed
        self.timers = RaftTimers.lan()
        self.clock = FakeClock()
        self.letters: list[Letter] = []
        """Messages on their way, in the order in which they were sent."""
        self.founders = Membership(tuple(_founder(name) for name in names))
        """The membership that the configuration of each of them names."""
        self._cut: dict[tuple[str, str], None] = {}
        self._members: dict[str, BenchMember] = {}
        for name in names:
            self._members[name] = BenchMember(self, name, BenchStore())

    def __getitem__(self, name: str) -> BenchMember:
        return self._members[name]

    def __iter__(self) -> Iterator[BenchMember]:
        return iter(self._members.values())

    def leaders(self) -> list[str]:
        """Who believes to lead."""
        return [member.name for member in self if member.raft.is_leader]

    # The network

    def is_linked(self, sender: str, receiver: str) -> bool:
        """Whether messages get through in this direction."""
        return (sender, receiver) not in self._cut

    def post(self, letter: Letter) -> None:
        """Sends a letter; it is lost where the link is cut."""
        if letter.receiver in self._members and self.is_linked(letter.sender, letter.receiver):
            self.letters.append(letter)

    def on_the_way(self, kind: str = "", *, sender: str = "", receiver: str = "") -> list[Letter]:
        """The letters of a kind, from and to whom is named."""
        return [
            letter
            for letter in self.letters
            if (not kind or letter.kind == kind)
            and (not sender or letter.sender == sender)
            and (not receiver or letter.receiver == receiver)
        ]

    def take(self, kind: str = "", *, sender: str = "", receiver: str = "") -> list[Letter]:
        """Takes letters out of the network: lost, unless they are delivered by hand."""
        taken = self.on_the_way(kind, sender=sender, receiver=receiver)
        self.letters = [letter for letter in self.letters if letter not in taken]
        return taken

    def deliver(self, letter: Letter) -> None:
        """Delivers a letter, in whatever order and however often."""
        if letter in self.letters:
            self.letters.remove(letter)
        self[letter.receiver].receive(letter)

    def settle(self) -> None:
        """Delivers everything, and what comes of it, in order until nothing is on its way."""
        for member in self:
            member.turn()
        for _ in range(ROUNDS_MAX):
            if not self.letters:
                return
            for letter in list(self.letters):
                self.deliver(letter)
        raise AssertionError("the network is never quiet")

    def cut(self, name: str) -> None:
        """Cuts a member off: what is on its way to and from it is lost."""
        for other in self.names:
            if other != name:
                self.cut_between(name, other)

    def cut_between(self, one: str, other: str) -> None:
        """Cuts two members off from each other."""
        self._cut[one, other] = self._cut[other, one] = None
        self.letters = [x for x in self.letters if self.is_linked(x.sender, x.receiver)]

    def heal(self) -> None:
        """Every link is there again, and is reported as new where it was cut."""
        for one, other in list(self._cut):
            self.heal_between(one, other)

    def heal_between(self, one: str, other: str) -> None:
        """The link between two members is there again, if it was cut."""
        for sender, receiver in ((one, other), (other, one)):
            if (sender, receiver) in self._cut:
                del self._cut[sender, receiver]
                self[receiver].raft.greeted(Node(sender), self[sender].raft.birth)
                self[sender].raft.peer_connected(Node(receiver))

    # Time

    def advance(self, seconds: float) -> None:
        """Lets time pass, and every member see it."""
        self.clock.advance(seconds)
        for member in self:
            member.turn()

    def live(self, seconds: float) -> None:
        """Lets time pass in small steps; all messages arrive within a step."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.advance(self.timers.heartbeat_s / 2)
            self.settle()

    # Histories in few words

    def campaign(self, name: str) -> None:
        """The election time-out of one member passes; whoever else hears of a leader forgets it."""
        for member in self:
            member.raft._heard_leader_s = float("-inf")  # noqa: SLF001 (time, but for one only)
        self[name].raft.election_deadline = self.clock.now_s
        self[name].turn()

    def elect(self, name: str) -> None:
        """Makes a member the leader, and lets everybody know."""
        self.campaign(name)
        self.settle()
        if not self[name].raft.is_leader:
            raise AssertionError(f"{name} was not elected")

    def propose(self, name: str, payload: bytes) -> None:
        """The member appends a command as leader, and sends it on its way."""
        self[name].raft.propose(payload)
        self[name].turn()

    def crash(self, name: str) -> None:
        """Ends a member's life; what was not synced is gone, and a new life begins."""
        self._begin_life(name, self._members[name].store.after_crash())

    def begin_anew(self, name: str, birth: Birth) -> None:
        """A node with an empty directory, whether there was one of that name or not."""
        self._begin_life(name, BenchStore(birth=birth))

    def greet(self) -> None:
        """Everybody learns which directory speaks for whom."""
        for member in self:
            for other in self:
                if other is not member:
                    member.raft.greeted(Node(other.name), other.raft.birth)

    def guests_greet(self, member: BenchMember) -> None:
        """Those that are no members of its membership tell it once more who they are."""
        if self._members.get(member.name) is not member:
            return  # it is just being made, and is greeted when it is there
        for other in self:
            is_guest = member.raft.membership.find(other.name) is None
            if other is not member and is_guest and self.is_linked(other.name, member.name):
                member.raft.greeted(Node(other.name), other.raft.birth)

    def _begin_life(self, name: str, store: BenchStore) -> None:
        self.letters = [x for x in self.letters if name not in (x.sender, x.receiver)]
        self.names = tuple(sorted({*self.names, name}))
        self._members[name] = BenchMember(self, name, store)
        for other in self.names:
            if other != name and self.is_linked(other, name):
                self[other].raft.greeted(Node(name), self[name].raft.birth)
                self[name].raft.greeted(Node(other), self[other].raft.birth)
                self[other].raft.peer_connected(Node(name))


def _founder(name: str) -> MemberConfig:
    return MemberConfig(NodeName(name), Region("eu"), f"{name}:1", standing=Standing.VOTER)
