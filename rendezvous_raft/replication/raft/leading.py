"""Leading: bringing the followers' logs up to date, committing, and confirming reads.

Heartbeats are numbered in *rounds*. An answer names the round and the term of the message that it
answers, so that a read index and the check for a quorum count only what came after a given moment,
and an answer to an earlier leadership counts for nothing (F3).
"""

from __future__ import annotations

from collections.abc import Iterator

from pysyncobj.node import Node

from rendezvous_raft.replication.raft.elections import Elections
from rendezvous_raft.replication.raft.faults import any_fault_halts
from rendezvous_raft.replication.raft.guard import REGULAR
from rendezvous_raft.replication.raft.member import Message
from rendezvous_raft.replication.raft.progress import NEVER_S, Mode, Progress
from rendezvous_raft.replication.raft.snapshots import SnapshotFile

APPEND_ENTRIES_MAX = 64
APPEND_BYTES_MAX = 256 * 1024
PROBE_PATIENCE_HEARTBEATS = 4
"""Heartbeats after which a probe or chunk that was not answered is sent again."""
ADVANCE_PATIENCE_S = 120.0
"""For so long what a follower lacks is kept for it although it gets no further. The end of an
install has to fit in, with all of the state read back: 2 to 4 s per 100,000 requests."""


class Leading(Elections):
    """The leader's side of replication, and read indexes."""

    def propose(self, payload: bytes) -> None:
        """Appends a command to the leader's log. Raises `DiskFull` with nothing changed."""
        self.log.add(REGULAR + payload, self.last_index() + 1, self.term)

    def replicate_all(self) -> None:
        """Sends every peer what it lacks, as far as its window allows."""
        for peer in self.peers:
            self._replicate(peer)

    def tell_commit(self) -> None:
        """Tells those who do not know it of the commit index, which no entry has carried yet.

        Proposals of a follower are answered, and its waits wake, when it has applied them.
        """
        for peer in self.peers:
            progress = self._progress[peer.id]
            if progress.commit_told < self.commit_index:
                progress.commit_told = self.commit_index
                message = {"type": "commit", "term": self.term, "commit": self.commit_index}
                self.links.send(peer, message)

    def _start_round(self) -> None:
        """A numbered heartbeat to everybody."""
        now_s = self.clock()
        self._round += 1
        self._heartbeat_due_s = now_s + self.timers.heartbeat_s
        for peer in self.peers:
            sent = self._replicate(peer)
            # Chunks of a snapshot have no rounds.
            if not sent or self._progress[peer.id].mode is Mode.SNAPSHOT:
                self._send_heartbeat(peer)
        self._confirm_reads()

    def _send_heartbeat(self, peer: Node) -> None:
        """Verifies the end of a log that is known; of another it asks no more than an answer."""
        first = self.next_index[peer]
        streams = self._progress[peer.id].mode is Mode.STREAM
        known = streams and self.log.term_at(first - 1) is not None
        self._send_append(peer, first if known else 1, [])

    def _replicate(self, peer: Node) -> bool:
        """Sends entries or a chunk to one peer; whether anything was sent."""
        progress = self._progress[peer.id]
        if not self.links.is_open(peer):
            return False
        if progress.mode is Mode.STREAM:
            sent = False
            while self.next_index[peer] <= self.last_index() and self.links.has_room(peer):
                if not self._send_next(peer):
                    break
                sent = True
                if progress.mode is not Mode.STREAM:
                    break  # a snapshot begins: its chunks go one at a time
            return sent
        patience_s = PROBE_PATIENCE_HEARTBEATS * self.timers.heartbeat_s
        if progress.probe_sent_s >= 0 and self.clock() - progress.probe_sent_s < patience_s:
            return False
        progress.probe_sent_s = self.clock()
        if progress.mode is Mode.SNAPSHOT:
            return self._send_chunk(peer, progress)
        return self._send_next(peer)

    def _send_next(self, peer: Node) -> bool:
        """The next entries for a peer, or the begin of a snapshot if the log lacks them."""
        first = self.next_index[peer]
        if self.log.term_at(first - 1) is None:
            progress = self._progress[peer.id]
            progress.mode, progress.probe_sent_s = Mode.SNAPSHOT, self.clock()
            return self._send_chunk(peer, progress)
        entries = self.entries_from(first, APPEND_ENTRIES_MAX, APPEND_BYTES_MAX)
        self._send_append(peer, first, entries)
        if self._progress[peer.id].mode is Mode.STREAM:
            self.next_index[peer] = first + len(entries)
        return True

    def _send_append(self, peer: Node, first: int, entries: list[tuple[bytes, int, int]]) -> None:
        self._progress[peer.id].commit_told = self.commit_index
        self.links.send(
            peer,
            {
                "type": "append",
                "term": self.term,
                "round": self._round,
                "prev_index": first - 1,
                "prev_term": self.log.term_at(first - 1) or 0,
                "entries": [(payload, term) for payload, _, term in entries],
                "commit": self.commit_index,
            },
        )

    def _send_chunk(self, peer: Node, progress: Progress) -> bool:
        """The next chunk of what it is being sent, or the first of the newest snapshot.

        A transfer that would follow the newest one never ended where a snapshot is taken more
        often than one arrives.
        """
        chunk = None
        if progress.snapshot is not None:
            chunk = self.host.snapshot_chunk(progress.snapshot, progress.snapshot_offset)
        if chunk is None:
            progress.snapshot, progress.snapshot_offset = self.host.newest_snapshot(), 0
            if progress.snapshot is None:
                return False
            progress.advanced_s = self.clock()
            chunk = self.host.snapshot_chunk(progress.snapshot, 0)
        if chunk is None:
            return False
        self.links.send(peer, {"type": "snapshot", "term": self.term, **chunk})
        return True

    def snapshots_being_sent(self) -> list[SnapshotFile]:
        """Those that must not be removed yet."""
        return [one.snapshot for _, one in self._advancing() if one.snapshot is not None]

    def lacking_after(self) -> int:
        """Lowest index after which those who are brought up to date by a snapshot need the log."""
        needed = [self.last_index()]
        for peer, progress in self._advancing():
            covered = 0 if progress.snapshot is None else progress.snapshot.index
            needed.append(max(self.match_index[peer], covered))
        return min(needed)

    def _advancing(self) -> Iterator[tuple[Node, Progress]]:
        """The followers that a snapshot, or the log after it, brings up to date, and that go on."""
        since_s = self.clock() - ADVANCE_PATIENCE_S
        for peer in self.peers if self.is_leader else ():
            progress = self._progress[peer.id]
            if progress.advanced_s >= since_s:
                yield peer, progress

    def _on_append_reply(self, node: Node, message: Message) -> None:
        if not self.is_leader:
            return
        progress = self._heard(node, message)
        if message["ok"]:
            match = message["match"]
            if match:
                self._matched(node, progress, match)
        elif self._is_news(node, progress, message):
            # Paper 5.3, last paragraph (F18); never below what it has acknowledged (F1).
            progress.mode, progress.probe_sent_s = Mode.PROBE, -1.0
            self.next_index[node] = max(self.match_index[node] + 1, message["hint"])
        self._replicate(node)

    def _is_news(self, node: Node, progress: Progress, message: Message) -> bool:
        """Whether a refusal is about what was sent last, not an echo of earlier messages."""
        if progress.mode is Mode.PROBE:
            return bool(message["prev_index"] + 1 == self.next_index[node])
        return progress.mode is Mode.STREAM and message["prev_index"] > self.match_index[node]

    def _heard(self, node: Node, message: Message) -> Progress:
        progress = self._progress[node.id]
        progress.heard_s = self.clock()
        if message["round"] > progress.acked_round:
            progress.acked_round = message["round"]
            self._confirm_reads()
        return progress

    def _matched(self, node: Node, progress: Progress, match: int) -> None:
        """The follower has everything up to `match` on disk."""
        progress.mode, progress.probe_sent_s = Mode.STREAM, -1.0
        if progress.snapshot is not None and progress.snapshot.index <= match:
            progress.snapshot = None
        if progress.snapshot is None and match >= self.commit_index:
            progress.advanced_s = NEVER_S
        elif progress.advanced_s > NEVER_S and match > self.match_index[node]:
            progress.advanced_s = self.clock()
        self.match_index[node] = max(self.match_index[node], match)
        self.next_index[node] = max(self.next_index[node], match + 1)

    def _on_snapshot_reply(self, node: Node, message: Message) -> None:
        if not self.is_leader:
            return
        progress = self._heard(node, message)
        is_out = progress.mode is Mode.SNAPSHOT and progress.probe_sent_s >= 0
        if is_out and not message["installed"] and message["offset"] == progress.snapshot_offset:
            return  # an answer once more: that chunk is on its way
        progress.probe_sent_s = -1.0
        if message["installed"]:
            self.next_index[node] = message["installed"] + 1
            self._matched(node, progress, message["installed"])
        elif progress.mode is Mode.SNAPSHOT:
            self._arrived(progress, message["offset"])
        self._replicate(node)

    def _arrived(self, progress: Progress, offset: int) -> None:
        """The follower has so many bytes of the snapshot that it is being sent."""
        if not offset:
            progress.snapshot = None  # it has nothing, so it may as well get the newest
        elif offset > progress.snapshot_offset:
            progress.advanced_s = self.clock()
        progress.snapshot_offset = offset

    def advance_commit(self) -> bool:
        """5.4.2: commits what a majority has on disk, if an entry of this term is among it (F1).

        This leader is always one of them: who reads the disk of the node that answered finds all
        that it answered for.
        """
        if not self.is_leader:
            return False
        own = self.log.durable_index()
        matches = sorted([own, *(self.match_index[voter] for voter in self.voters)])
        index = min(own, matches[len(matches) - self.quorum])
        if index <= self.commit_index or self.log.term_at(index) != self.term:
            return False
        self.commit_index = index
        return True

    def peer_connected(self, node: Node) -> None:
        """A link opened: what was in flight on the old one may be lost."""
        # The peer may live anew: nobody waits for what its earlier life asked.
        self._reads = [read for read in self._reads if read[2] != node]
        self._restart_probe(node)

    def _restart_probe(self, node: Node) -> None:
        progress = self._progress.get(str(node.id))
        if self.is_leader and progress is not None:
            progress.mode, progress.probe_sent_s = Mode.PROBE, -1.0
            self.next_index[node] = max(self.match_index[node] + 1, 2)
            if not self.match_index[node]:
                self.next_index[node] = self.last_index() + 1
            self._replicate(node)

    # Reads (6.4, F10)

    def request_read(self, read_id: int) -> bool:
        """Asks for a read index; false if nobody can be asked."""
        if self.is_leader:
            return self._add_read(read_id, None)
        if self.leader_node is None or not self.links.is_open(self.leader_node):
            return False
        self.links.send(self.leader_node, {"type": "read", "term": self.term, "read_id": read_id})
        return True

    def _add_read(self, read_id: int, node: Node | None) -> bool:
        """6.4: the commit index counts once an entry of this term is committed.

        A majority has to answer a round that began after the call.
        """
        if self.commit_index < (self.noop_index or 0):
            return False
        self._reads.append((self._round + 1, read_id, node, self.commit_index))
        if len(self._reads) == 1 or self._reads[-2][0] <= self._round:
            # One round for all the reads of this turn: it starts at the end of it.
            self.links.soon(self._start_read_round)
        return True

    def _start_read_round(self) -> None:
        if self.is_leader and self._reads:
            with any_fault_halts(self.host.halt):
                self._start_round()

    def _confirm_reads(self) -> None:
        if not self._reads:
            return
        rounds = sorted([self._round, *(self._progress[v.id].acked_round for v in self.voters)])
        confirmed = rounds[len(rounds) - self.quorum]
        ready = [read for read in self._reads if read[0] <= confirmed]
        self._reads = [read for read in self._reads if read[0] > confirmed]
        for _, read_id, node, index in ready:
            if node is None:
                self.host.read_confirmed(read_id, index)
            else:
                reply = {"type": "read_reply", "term": self.term, "index": index}
                self.links.send(node, {**reply, "read_id": read_id})

    def refuse_reads(self) -> None:
        """See `Member.refuse_reads`."""
        reads, self._reads = self._reads, []
        for _, read_id, node, _ in reads:
            if node is None:
                self.host.read_refused(read_id)

    def _on_read(self, node: Node, message: Message) -> None:
        if not (self.is_leader and self._add_read(message["read_id"], node)):
            reply = {"type": "read_reply", "term": self.term, "index": 0}
            self.links.send(node, {**reply, "read_id": message["read_id"]})

    def _on_read_reply(self, _node: Node, message: Message) -> None:
        if message["index"]:
            self.host.read_confirmed(message["read_id"], message["index"])
        else:
            self.host.read_refused(message["read_id"])
