"""A whole member: messages to handlers, forwarding of proposals, hints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pysyncobj.node import Node

from rendezvous_raft.replication.raft.changing import Changing
from rendezvous_raft.replication.raft.member import Message
from rendezvous_raft.replication.raft.storage import DiskFull


class Raft(Changing):
    """One member of a Raft group. See `member.py` for the theory."""

    def receive(self, node: Node, message: Message) -> None:
        """Handles one message of a peer (overrides PySyncObj's whole, F1 to F3, F9, F15)."""
        kind, term = message["type"], message["term"]
        if not self.may_say(node, kind):
            return
        if term < self.term and kind not in _OF_ANY_TERM:
            # 5.1: the newer term lets an old leader or candidate catch up; no other answer is due.
            if kind in _TOLD_OF_NEWER_TERMS:
                self.links.send(node, {"type": "stale", "term": self.term})
            return
        if term > self.term and kind not in (*_OF_FUTURE_TERMS, *_OF_ANY_TERM):
            self._step_down(term, None)
        try:
            _HANDLERS[kind](self, node, message)
        except Exception as error:  # noqa: BLE001 (F8: whatever it is, going on would be a guess)
            self.host.halt(f"{type(error).__name__}: {error}")
            return
        self.host.wake()

    def _on_stale(self, _node: Node, _message: Message) -> None:
        """Its term was the message; `receive` has acted on it."""

    # Forwarding (F15)

    def forward(self, origin: bytes, sequence: int, payload: bytes) -> bool:
        """Sends a batch to the leader; false if that cannot be reached, and nothing was sent.

        `origin` tells this life of the node from earlier ones, whose refusals may still come.
        """
        leader = self.leader_node
        if leader is None or not self.links.is_open(leader) or not self.links.has_room(leader):
            return False
        message = {"type": "forward", "term": self.term, "origin": origin}
        self.links.send(leader, {**message, "sequence": sequence, "payload": payload})
        return True

    def _on_forward(self, node: Node, message: Message) -> None:
        if self.is_leader and not self.handing_over:
            try:
                self.propose(message["payload"])
            except DiskFull:
                pass
            else:
                return
        refusal = {"type": "forward_refused", "term": self.term, "origin": message["origin"]}
        self.links.send(node, {**refusal, "sequence": message["sequence"]})

    def _on_forward_refused(self, _node: Node, message: Message) -> None:
        self.host.batch_refused(message["origin"], message["sequence"])

    # Hints

    def report_parked(self, request_ids: Sequence[str]) -> bool:
        """Tells the leader which requests have waiters parked here; may get lost, or not be sent.

        False if it was not.
        """
        leader = self.leader_node
        if leader is None or not self.links.is_open(leader) or not self.links.has_room(leader):
            return False
        message = {"type": "parked", "term": self.term}
        self.links.send(leader, {**message, "request_ids": list(request_ids)})
        return True

    def _on_parked(self, node: Node, message: Message) -> None:
        self.host.parked_reported(str(node.id), message["request_ids"])


_OF_FUTURE_TERMS = ("pre_vote", "pre_vote_reply", "vote")
"""Messages whose term is not a fact yet, or must first pass the rule of stickiness."""

_OF_ANY_TERM = ("join", "not_member")
"""Messages about who is a member; a node that comes new knows no term yet."""

_TOLD_OF_NEWER_TERMS = ("append", "commit", "snapshot", "vote", "pre_vote")

_HANDLERS: dict[str, Callable[[Raft, Node, Message], None]] = {
    "pre_vote": Raft._on_pre_vote,
    "pre_vote_reply": Raft._on_pre_vote_reply,
    "vote": Raft._on_vote,
    "vote_reply": Raft._on_vote_reply,
    "timeout_now": Raft._on_timeout_now,
    "append": Raft._on_append,
    "commit": Raft._on_commit,
    "append_reply": Raft._on_append_reply,
    "snapshot": Raft._on_snapshot,
    "snapshot_reply": Raft._on_snapshot_reply,
    "stale": Raft._on_stale,
    "read": Raft._on_read,
    "read_reply": Raft._on_read_reply,
    "forward": Raft._on_forward,
    "forward_refused": Raft._on_forward_refused,
    "parked": Raft._on_parked,
    "join": Raft._on_join,
    "not_member": Raft._on_not_member,
}
