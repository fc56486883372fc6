"""Following: taking what the leader sends, and saying exactly what is stored (F1, F2, F18)."""

from __future__ import annotations

from pysyncobj.node import Node

from rendezvous_raft.replication.raft.guard import FOLLOWER
from rendezvous_raft.replication.raft.leading import Leading
from rendezvous_raft.replication.raft.member import Message
from rendezvous_raft.replication.raft.storage import DiskFull


class Following(Leading):
    """The follower's side of replication."""

    def _follow(self, node: Node) -> None:
        """A message of the current term's leader came."""
        self._heard_leader_s = self.clock()
        self._leader_gone = False
        if self.leader_node != node or self.role_code != FOLLOWER:
            self._step_down(self.term, node)
        else:
            self._postpone_election()

    def _on_append(self, node: Node, message: Message) -> None:
        self._follow(node)
        prev_index, entries = message["prev_index"], message["entries"]
        if not prev_index or self.installing:
            self._answer_append(node, message, ok=True, match=0)
            return
        base = self.log.base_index
        if prev_index < base:
            # What lies before the base is in our snapshot, so it is committed and equal.
            skipped = min(base - prev_index, len(entries))
            prev_index, entries = prev_index + skipped, entries[skipped:]
            if prev_index < base:
                self._answer_append(node, message, ok=True, match=prev_index)
                return
        elif self.log.term_at(prev_index) != message["prev_term"]:
            self._answer_append(node, message, ok=False, hint=self._conflict_hint(prev_index))
            return
        match = self._store(prev_index, entries)
        self._verified = (self.term, max(match, self._verified_index()))
        # F2: commit only what this leader's message has verified.
        self.commit_index = max(self.commit_index, min(message["commit"], match))
        if entries and match == prev_index:
            # Nothing could be stored: the node is alive, and the leader need not hurry.
            self._answer_append(node, message, ok=True, match=0)
            return
        self._answer_append(node, message, ok=True, match=match)

    def _verified_index(self) -> int:
        """Up to where the leader of this term has verified our log."""
        term, index = self._verified
        return index if term == self.term else 0

    def _on_commit(self, node: Node, message: Message) -> None:
        """The commit index alone, ahead of the next entries; asks for no answer (F2)."""
        self._follow(node)
        self.commit_index = max(self.commit_index, min(message["commit"], self._verified_index()))

    def _conflict_hint(self, prev_index: int) -> int:
        """Where the leader should try next (paper 5.3, last paragraph; F18)."""
        if prev_index > self.last_index():
            return self.last_index() + 1
        return max(self.log.first_index_of_term(prev_index), self.log.base_index + 1)

    def _store(self, prev_index: int, entries: list[tuple[bytes, int]]) -> int:
        """5.3: truncates at a real conflict only, appends what is new (F1); the verified index."""
        index = prev_index
        try:
            for payload, term in entries:
                if index + 1 <= self.last_index():
                    if self.log.term_at(index + 1) == term:
                        index += 1
                        continue
                    if index + 1 <= self.commit_index:
                        self.host.halt(
                            f"the leader's log contradicts the committed entry {index + 1}"
                        )
                        return index
                    self.log.truncate_from(index + 1)
                self.log.add(payload, index + 1, term)
                index += 1
        except DiskFull:
            # What is stored is acknowledged; the leader sends the rest again.
            return index
        finally:
            self.use_membership()
        return index

    def _answer_append(
        self, node: Node, message: Message, *, ok: bool, match: int = 0, hint: int = 0
    ) -> None:
        self.links.send(
            node,
            {
                "type": "append_reply",
                "term": self.term,
                "round": message["round"],
                "prev_index": message["prev_index"],
                "ok": ok,
                "match": match,
                "hint": hint,
            },
        )

    def _on_snapshot(self, node: Node, message: Message) -> None:
        self._follow(node)
        self.host.snapshot_received(node, message)

    def answer_snapshot(self, node: Node, *, offset: int, installed: int) -> None:
        """Tells the leader how much of its snapshot is here, or that all of it is in force."""
        self.links.send(
            node,
            {
                "type": "snapshot_reply",
                "term": self.term,
                "round": 0,
                "offset": offset,
                "installed": installed,
            },
        )
