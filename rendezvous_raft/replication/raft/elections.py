"""Elections: pre-vote, votes that are on disk before they are given, and stickiness (F7, F9)."""

from __future__ import annotations

from pysyncobj.node import Node

from rendezvous_raft.replication.raft.guard import CANDIDATE, FOLLOWER
from rendezvous_raft.replication.raft.member import Member, Message
from rendezvous_raft.replication.raft.progress import Progress
from rendezvous_raft.replication.raft.storage import DiskFull


class Elections(Member):
    """How a member becomes a leader, and when it ceases to be one."""

    def tick(self) -> float:
        """Does what time demands; returns when, in monotonic seconds, it is due again."""
        now_s = self.clock()
        is_stuck = self._is_disk_stuck(now_s)
        if self.is_leader:
            if is_stuck or not self._has_quorum(now_s):
                self._step_down(self.term, None)
            elif now_s >= self._heartbeat_due_s:
                self._start_round()
                if not self.log.takes_entries and not self.handing_over:
                    self._offer_leadership(now_s)
        if not self.is_leader and now_s >= self.election_deadline:
            if self.installing or is_stuck:
                # Its log is about to be replaced, or does not get to the disk: it could not lead.
                self._postpone_election()
            elif not self.is_voter:
                self._postpone_election()
                self._forget_leader()
            else:
                self._campaign()
        return float(self._heartbeat_due_s if self.is_leader else self.election_deadline)

    def _is_disk_stuck(self, now_s: float) -> bool:
        """Whether, for two election time-outs, nothing of what waits for the disk got there.

        Heartbeats do not wait for it, so a leader whose disk hangs would keep its followers, commit
        nothing, and never be replaced.
        """
        durable = self.log.durable_index()
        if durable != self._durable or durable >= self.last_index():
            self._durable, self._durable_s = durable, now_s
        return now_s - self._durable_s > 2 * self.timers.election_max_s

    def _offer_leadership(self, now_s: float) -> None:
        """3.10: a leader whose disk is full lets one stand that has all of its log.

        Only if those who have it are a majority without this node: who leads must be able to
        commit, or nobody would answer reads any more. One at a time, in no order.
        """
        last, since_s = self.last_index(), now_s - self.timers.election_max_s
        able = [
            voter
            for voter in self.voters
            if self.match_index[voter] == last and self._progress[voter.id].heard_s >= since_s
        ]
        if now_s >= self._offer_due_s and len(able) >= self.quorum:
            self._offer_due_s = now_s + 2 * self.timers.election_max_s
            self.tell_to_stand(self.rng.choice(able))

    def tell_to_stand(self, node: Node) -> None:
        """3.10: lets a follower that is caught up stand for election at once."""
        self.links.send(node, {"type": "timeout_now", "term": self.term})

    def _has_quorum(self, now_s: float) -> bool:
        """6.2: a leader that hears no majority for an election time-out steps down (F9)."""
        since_s = now_s - self.timers.election_max_s
        heard = [str(peer.id) for peer in self.voters if self._progress[peer.id].heard_s >= since_s]
        return self._is_majority(heard)

    def _campaign(self) -> None:
        """9.6: asks first whether an election could be won, which disturbs nobody (F9)."""
        self._postpone_election()
        self._forget_leader()
        self._pre_votes = {}
        self._ask_for_votes("pre_vote", self.term + 1)
        self._count_pre_votes()

    def _forget_leader(self) -> None:
        if self.leader_node is not None:
            self._lost_leader, self.leader_node = self.leader_node, None
            self.host.leader_known()

    def _ask_for_votes(self, kind: str, term: int, *, transfer: bool = False) -> None:
        """Each is told which directory would be counted, see `_may_vote_for`."""
        for peer in self.voters:
            voter = self.membership.find(str(peer.id))
            self.links.send(
                peer,
                {
                    "type": kind,
                    "term": term,
                    "last_index": self.last_index(),
                    "last_term": self.last_term(),
                    "transfer": transfer,
                    "incarnation": 0 if voter is None else voter.incarnation,
                },
            )

    def _count_pre_votes(self) -> None:
        if self._pre_votes is not None and self._is_majority(self._pre_votes):
            lost = self._lost_leader
            if lost is not None and not self._leader_gone and self.links.is_open(lost):
                self.host.elected_without_need()
            self._stand(transfer=False)

    def _stand(self, *, transfer: bool) -> None:
        """5.2: a new term, a vote for itself on disk, and requests for the votes of the others."""
        self._pre_votes = self._lost_leader = None
        self._postpone_election()
        self.set_role(CANDIDATE)
        self.set_term(self.term + 1, self.name)
        self.votes = {self.name: True}
        self._ask_for_votes("vote", self.term, transfer=transfer)
        self._count_votes()

    def _count_votes(self) -> None:
        if self._is_majority(self.votes):
            now_s = self.clock()
            # It may have begun to ask about the next term; answers to that must not depose it.
            self._pre_votes = None
            self._progress = {peer.id: Progress(heard_s=now_s) for peer in self.peers}
            self._reads = []
            # What was asked of an earlier leadership may long have been granted by another.
            self._asked_in = {}
            try:
                self.become_leader()
            except DiskFull:
                self._step_down(self.term, None)
                return
            self.host.leader_known()
            self._start_round()

    def _is_up_to_date(self, message: Message) -> bool:
        """5.4.1: whether the candidate's log is at least as complete as ours."""
        theirs = (message["last_term"], message["last_index"])
        return bool(theirs >= (self.last_term(), self.last_index()))

    def _may_vote_for(self, message: Message) -> bool:
        """Whether this node may vote, as far as it knows or the candidate does.

        A candidate whose log names this directory a voter has the proof that it was let in
        (`_may_vote`); this node's own log may end before that.
        """
        if not self.birth.founding and message["incarnation"] == self.birth.incarnation:
            self._admitted = True
        return self._may_vote()

    def _hears_leader(self) -> bool:
        """4.2.3: while a leader is heard of, others are not helped to depose it (F9)."""
        return self.is_leader or (self.clock() - self._heard_leader_s < self.timers.election_min_s)

    def _on_pre_vote(self, node: Node, message: Message) -> None:
        if message["term"] == self.term:
            # It asks about a term that has begun; without knowing it, it would ask for ever.
            self.links.send(node, {"type": "stale", "term": self.term})
        elif (
            not self._hears_leader()
            and self._may_vote_for(message)
            and self._is_up_to_date(message)
        ):
            self.links.send(node, {"type": "pre_vote_reply", "term": message["term"]})

    def _on_pre_vote_reply(self, node: Node, message: Message) -> None:
        if self._pre_votes is not None and message["term"] == self.term + 1:
            self._pre_votes[str(node.id)] = True
            self._count_pre_votes()

    def _on_vote(self, node: Node, message: Message) -> None:
        if not message["transfer"] and self._hears_leader():
            return
        if message["term"] > self.term:
            self._step_down(message["term"], None)
        granted = (
            message["term"] == self.term
            and self.role_code == FOLLOWER
            and self._may_vote_for(message)
            and self.voted_for in (None, str(node.id))
            and self._is_up_to_date(message)
        )
        if granted:
            # The answer leaves once the vote is on disk: nobody votes twice in a term (F7).
            if self.voted_for is None:
                self.set_term(self.term, str(node.id))
            self._postpone_election()
            self.links.send(node, {"type": "vote_reply", "term": self.term})

    def _on_vote_reply(self, node: Node, message: Message) -> None:
        if self.role_code == CANDIDATE and message["term"] == self.term:
            self.votes[str(node.id)] = True
            self._count_votes()

    def _on_timeout_now(self, node: Node, message: Message) -> None:
        """3.10: the leader hands over to this node.

        It stands if there is room on its disk: an election takes some of each voter, and where all
        disks are full nobody could lead after it.
        """
        is_from_leader = message["term"] == self.term and node == self.leader_node
        if is_from_leader and self.is_voter and self.log.has_room():
            self._stand(transfer=True)

    def peer_lost(self, node: Node) -> None:
        """A peer's connection to this node broke: it may be dead.

        The leader's silence is not awaited: this node, if it votes, soon asks whether an election
        could be won. If the others hear the leader they say no, and nothing is disturbed.
        """
        self._forget_greeting(str(node.id))
        if node != self.leader_node or self.is_leader:
            return
        self._leader_gone = True
        self._heard_leader_s = float("-inf")
        patience_s = self.timers.election_min_s / 2 * self.rng.random()
        self.election_deadline = min(self.election_deadline, self.clock() + patience_s)
        self.host.wake()

    def _start_round(self) -> None:
        """Provided by `leading.py`."""
        raise NotImplementedError
