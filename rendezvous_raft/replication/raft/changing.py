"""Changing the members: one change at a time, and nobody votes who forgot a promise (F11).

A membership is an entry of the log, and in force as soon as it stands there (thesis 4.1). Only the
leader makes one, and only when the one before is committed, together with an entry of the leader's
term (Ongaro, "bug in single-server membership changes", 2015). Each differs by one voter at most,
so any majority of the old one and any of the new one share a member.

Who comes new receives the log without a vote and becomes a voter when it has caught up (4.2.1). A
node that has lost its files comes back the same way, under its old name with a new *incarnation*:
first the others go on without its vote, then it catches up, then it votes again.
"""

from __future__ import annotations

from dataclasses import replace

from pysyncobj.node import Node

from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.replication.raft.following import Following
from rendezvous_raft.replication.raft.member import Message
from rendezvous_raft.replication.raft.memberships import MEMBERSHIP, encode_membership
from rendezvous_raft.replication.raft.progress import Mode
from rendezvous_raft.replication.raft.storage import DiskFull
from rendezvous_raft.types import Standing

ANNOUNCE_S = 1.0
"""Pause between two requests of a node that wants to be let in."""

_OF_STRANGERS = ("append", "commit", "snapshot", "vote", "pre_vote", "stale", "join", "not_member")
"""From a node that is no member as far as this one knows, which may be the one behind (4.1); and
from another directory than the one that is known to speak for a member. Answers are not among
them: whom one does not know does not count."""
_OF_IMPOSTORS_TO_A_LEADER = ("join", "not_member", "stale")


class Changing(Following):
    """Membership changes, on the leader and on those who come."""

    _announce_due_s = float("-inf")
    _is_unknown = False
    """Whether the leader said that it does not know this directory; asked about once each time."""

    def tick(self) -> float:
        """See `Elections.tick`."""
        due_s = super().tick()
        if self.is_leader:
            self._look_after_members()
        elif not self.birth.founding:
            due_s = min(due_s, self._announce())
        return due_s

    def why_no_change(self) -> str | None:
        """Why the membership cannot be changed now; None: it can."""
        if not self.is_leader:
            return "this node does not lead"
        if self.handing_over:
            return "leadership is being handed over"
        if self.commit_index < (self.noop_index or 0):
            return "the leader has not committed anything yet"
        if self.log.membership_index > self.commit_index:
            return "the change before is not committed yet"
        return None

    def propose_membership(self, membership: Membership) -> int:
        """Appends a membership, and is bound by it from now on; the index of its entry.

        Raises:
            DiskFull: nothing was changed.
        """
        reason = self.why_no_change()
        if reason is not None:
            raise ValueError(reason)
        index = self.last_index() + 1
        self.log.add(MEMBERSHIP + encode_membership(membership), index, self.term)
        self.use_membership()
        self.host.wake()
        return index

    def may_say(self, node: Node, kind: str) -> bool:
        """Whether a message of this kind is heard from this peer; if not, it is told."""
        member = self.membership.find(str(node.id))
        known = 0 if member is None else member.incarnation
        if member is not None and self._speaks_for(member):
            return True
        if not self.is_leader:
            heard = kind in _OF_STRANGERS
        else:
            heard = kind == "join" or (member is not None and kind in _OF_IMPOSTORS_TO_A_LEADER)
        if not heard and self.is_leader:
            self.links.send(node, {"type": "not_member", "term": self.term, "known": known})
        return heard

    def _speaks_for(self, member: MemberConfig) -> bool:
        """Whether the directory that was heard of last under this name is the member's.

        As long as the membership names none, it is one that has been there from the beginning: any
        other has to be let in first, for it may have promised things that it does not know of.
        """
        birth = self._greeted.get(member.name)
        if birth is None:
            return True
        if not member.incarnation:
            return birth.founding
        return birth.incarnation == member.incarnation

    def can_be_reached(self, node: Node) -> bool:
        """Whether a member is connected, with the directory that the membership names."""
        member = self.membership.find(str(node.id))
        return member is not None and self._speaks_for(member) and self.links.is_open(node)

    def _on_not_member(self, _node: Node, message: Message) -> None:
        if message["known"] and self.birth.founding:
            # Its promises were given by another directory, which this one does not know.
            if message["known"] != self.birth.incarnation:
                self.host.halt(
                    "this data directory is not the one that the cluster knows this member by;"
                    " see `rendezvous server rejoin`"
                )
        else:
            # The log may name it all the same: by an entry that the leader has not, or from before
            # it was removed. It cannot get the leader's log either before it is let in.
            self._is_unknown = not self.birth.founding
            self.host.not_member()

    # Those who come

    def _announce(self) -> float:
        """Asks to be let in, until the membership names this directory; when to ask again."""
        own = self.membership.find(self.name)
        is_named = own is not None and own.incarnation == self.birth.incarnation
        if is_named and not self._is_unknown:
            return float("inf")
        now_s = self.clock()
        if now_s >= self._announce_due_s:
            self._announce_due_s = now_s + ANNOUNCE_S
            self._is_unknown = False
            request = {"type": "join", "name": self.name, "incarnation": self.birth.incarnation}
            for peer in self.peers:
                self.links.send(peer, {**request, "term": self.term})
            if self.leader_node not in (None, *self.peers):
                # A directory that begins anew knows the members of its configuration only.
                self.links.send(self.leader_node, {**request, "term": self.term})
        return self._announce_due_s

    def _on_join(self, node: Node, message: Message) -> None:
        """A directory asks to speak for a member that was added, or that has lost its own."""
        name, incarnation = message["name"], message["incarnation"]
        if not self.is_leader:
            if self.leader_node not in (None, node):
                self.links.send(self.leader_node, {**message, "term": self.term})
            return
        member = self.membership.find(name)
        if member is None:
            self.links.send(Node(name), {"type": "not_member", "term": self.term, "known": 0})
        elif member.incarnation != incarnation:
            asked, asked_s = self._asked_in.get(name, (0, 0.0))
            # A request that is repeated keeps its first time, or it would never be old enough.
            self._asked_in[name] = (incarnation, asked_s if asked == incarnation else self.clock())

    # The leader

    def _look_after_members(self) -> None:
        """Makes the changes that nobody has to order, one at a time."""
        if not self._has_wishes() or self.why_no_change() is not None:
            return
        membership = self._let_in() or self._named_directories() or self._promoted()
        if membership is not None:
            try:
                self.propose_membership(membership)
            except DiskFull:
                """It is tried again when there is room."""

    def _has_wishes(self) -> bool:
        """Whether anything might have to be changed; cheap, for it is asked in every turn."""
        return bool(self._asked_in) or not self.membership.is_settled()

    def _let_in(self) -> Membership | None:
        """Takes a member's vote away and names the directory that will speak for it."""
        for name, (incarnation, asked_s) in list(self._asked_in.items()):
            member = self.membership.find(name)
            if member is None or member.incarnation == incarnation or name == self.name:
                del self._asked_in[name]
                continue
            if member.standing is Standing.VOTER and member.incarnation:
                if self._progress[name].heard_s > asked_s:
                    # The directory that is named lives; this is a late word of one before it.
                    del self._asked_in[name]
                    continue
                if self.clock() - asked_s < self.timers.election_min_s:
                    continue
            del self._asked_in[name]
            standing = member.standing
            if standing is Standing.VOTER:
                standing = Standing.JOINING
            return self.membership.with_member(
                replace(member, incarnation=incarnation, standing=standing)
            )
        return None

    def _named_directories(self) -> Membership | None:
        """Names the directories that remember all their promises, once they are known.

        Those are the founders' own, also of one that was removed and is back. Others ask.
        """
        births = {**self._greeted, self.name: self.birth}
        known = {
            member.name: births[member.name].incarnation
            for member in self.membership.members
            if member.standing is not Standing.NON_VOTER
            and member.name in births
            and births[member.name].founding
        }
        named = self.membership.with_incarnations(known)
        return None if named == self.membership else named

    def _promoted(self) -> Membership | None:
        """Gives a vote to who has caught up (4.2.1)."""
        for member in self.membership.members:
            if member.standing is Standing.JOINING and self._has_caught_up(member):
                return self.membership.with_member(replace(member, standing=Standing.VOTER))
        return None

    def _has_caught_up(self, member: MemberConfig) -> bool:
        """4.2.1: it took less than an election time-out to replicate what there was."""
        birth, node = self._greeted.get(member.name), Node(member.name)
        if birth is None or birth.incarnation != member.incarnation or not member.incarnation:
            return False
        progress, now_s = self._progress[member.name], self.clock()
        if progress.mode is not Mode.STREAM or self.match_index[node] < progress.round_target:
            return False
        in_time = now_s - progress.round_began_s <= self.timers.election_min_s
        caught_up = bool(progress.round_target) and in_time
        progress.round_target, progress.round_began_s = self.last_index(), now_s
        return caught_up
