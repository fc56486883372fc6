"""Bugs that consensus engines have had, as patches to plant in ours: the simulator must find each.

F-rows are those of replication/DESIGN.md. A patch is applied to classes, and undone by pytest.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

from rendezvous_raft import errors
from rendezvous_raft.core.model import Branch
from rendezvous_raft.node import wait
from rendezvous_raft.node.close import EarlyReleases
from rendezvous_raft.node.groups import GroupKeeper
from rendezvous_raft.node.subscriptions import Subscriptions
from rendezvous_raft.replication import batching
from rendezvous_raft.replication.applying import Replica
from rendezvous_raft.replication.batching import GroupCommit
from rendezvous_raft.replication.codec import decode_entry
from rendezvous_raft.replication.raft import leading, opening
from rendezvous_raft.replication.raft.elections import Elections
from rendezvous_raft.replication.raft.following import Following
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.leading import Leading
from rendezvous_raft.replication.raft.metadata import MetadataFile
from rendezvous_raft.replication.raft.outbox import Outbox
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy, Snapshots
from rendezvous_raft.replication.raft.storage import DurableLog
from rendezvous_raft.replication.raft.wal import Wal
from rendezvous_raft.testing.simulation.profile import Profile, draw_profile
from rendezvous_raft.testing.simulation.run import SIZES
from rendezvous_raft.testing.simulation.world import World

Plant = Callable[[pytest.MonkeyPatch], None]


def acks_rewind_and_followers_truncate(patch: pytest.MonkeyPatch) -> None:
    """F1: an ack rewinds what is sent next; a follower deletes all behind the previous entry."""

    def store(self: Any, prev_index: int, entries: list[tuple[bytes, int]]) -> int:
        if self.last_index() > prev_index and entries:
            self.log.truncate_from(prev_index + 1)
        for offset, (payload, term) in enumerate(entries, start=1):
            if prev_index + offset > self.last_index():
                self.log.add(payload, prev_index + offset, term)
        return prev_index + len(entries)

    def matched(self: Any, node: Any, progress: Any, match: int) -> None:
        original(self, node, progress, match)
        self.next_index[node] = match + 1

    original = Leading._matched
    patch.setattr(Following, "_store", store)
    patch.setattr(Leading, "_matched", matched)


def unverified_tail_is_committed(patch: pytest.MonkeyPatch) -> None:
    """F2: the follower commits up to its own last entry, whatever the leader has verified."""
    original = Following._on_append

    def on_append(self: Any, node: Any, message: dict[str, Any]) -> None:
        original(self, node, message)
        self.commit_index = max(self.commit_index, min(message["commit"], self.last_index()))

    patch.setattr(Following, "_on_append", on_append)
    patch.setitem(_handlers(), "append", on_append)


def acks_of_earlier_terms_count(patch: pytest.MonkeyPatch) -> None:
    """F3: an ack does not say for which leadership it is."""
    original = Raft.receive

    def receive(self: Any, node: Any, message: dict[str, Any]) -> None:
        if message["type"] == "append_reply" and message["term"] < self.term:
            message = {**message, "term": self.term}
        original(self, node, message)

    patch.setattr(Raft, "receive", receive)


def log_cleared_behind_snapshot(patch: pytest.MonkeyPatch) -> None:
    """F5: at a restart the log behind a snapshot is thrown away."""
    original = opening.entries_after

    def entries_after(directory: Any, contents: Any, base_index: int, base_term: int) -> Any:
        entries = original(directory, contents, base_index, base_term)
        return None if base_index > 1 else entries

    patch.setattr(opening, "entries_after", entries_after)


def nothing_is_synced(patch: pytest.MonkeyPatch) -> None:
    """F6: what is written is taken for durable."""
    patch.setattr(DurableLog, "_sync", lambda self, work: 0.0)


def names_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The metadata's new file has its name, but not durably."""

    def replace_file(self: Any, block: bytes) -> None:
        temporary = self._path.with_suffix(".tmp")
        file = self._files.create(temporary)
        file.write_at(0, block)
        file.fdatasync()
        file.close()
        self._files.rename(temporary, self._path)

    patch.setattr(MetadataFile, "_replace", replace_file)


def vote_is_not_stored(patch: pytest.MonkeyPatch) -> None:
    """F7: after a restart a node does not know for whom it has voted."""
    original = MetadataFile.write
    patch.setattr(MetadataFile, "write", lambda self, m: original(self, replace(m, voted_for=None)))


def vote_leaves_before_it_is_stored(patch: pytest.MonkeyPatch) -> None:
    """F7: term and vote are written with the next sync, and told at once."""

    def set_term(self: Any, term: int, voted_for: str | None) -> None:
        self._metadata = replace(self._metadata, term=term, voted_for=voted_for)

    patch.setattr(DurableLog, "set_term", set_term)


def entries_applied_twice(patch: pytest.MonkeyPatch) -> None:
    """F8: on the node that proposed it, an entry is now and then applied a second time."""
    original = Replica.apply_entry

    def apply_entry(self: Any, encoded: bytes, commits: GroupCommit | None) -> int:
        count = original(self, encoded, commits)
        entry = decode_entry(encoded)
        if entry.origin == self._origin and entry.sequence % 8 == 0:
            for command in entry.commands:
                self.machine.apply(command)
        return count

    patch.setattr(Replica, "apply_entry", apply_entry)


def reads_are_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    """F10: whoever believes to lead answers reads."""

    def add_read(self: Any, read_id: int, node: Any) -> bool:
        if node is None:
            self.host.read_confirmed(read_id, self.commit_index)
        else:
            reply = {"type": "read_reply", "term": self.term, "index": self.commit_index}
            self.links.send(node, {**reply, "read_id": read_id})
        return True

    patch.setattr(Leading, "_add_read", add_read)


def timed_out_proposals_are_definite(patch: pytest.MonkeyPatch) -> None:
    """F15: a proposal whose deadline passes on its way is said to have failed for certain."""

    def expire(self: Any, proposal: batching.Proposal) -> None:
        if not proposal.answer.done():
            proposal.answer.set_exception(errors.Unavailable("too late"))

    patch.setattr(GroupCommit, "_expire", expire)


def outbox_ignores_the_sync(patch: pytest.MonkeyPatch) -> None:
    """Messages leave before what they say is on disk."""
    patch.setattr(Outbox, "send", lambda self, node, message: self._deliver(node, message))


def leader_counts_what_it_has_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The leader counts itself for entries that it is still syncing."""
    patch.setattr(DurableJournal, "durable_index", lambda self: self._entries[-1][1])


def older_terms_are_committed_by_counting(patch: pytest.MonkeyPatch) -> None:
    """Figure 8: an entry of an older term is committed because a majority has it."""
    patch.setattr(leading, "APPEND_ENTRIES_MAX", 1)
    patch.setattr(Leading, "advance_commit", partialmethod(_commit, short_of_a_majority=0))


def a_minority_commits(patch: pytest.MonkeyPatch) -> None:
    """One too few make a majority."""
    patch.setattr(Leading, "advance_commit", partialmethod(_commit, short_of_a_majority=1))


def _commit(self: Any, *, short_of_a_majority: int) -> bool:
    if not self.is_leader:
        return False
    matches = sorted([self.log.durable_index(), *(self.match_index[peer] for peer in self.peers)])
    index = matches[len(matches) - self.quorum + short_of_a_majority]
    right_term = self.log.term_at(index) == self.term
    if index <= self.commit_index or (short_of_a_majority and not right_term):
        return False
    self.commit_index = index
    return True


def truncation_is_not_logged(patch: pytest.MonkeyPatch) -> None:
    """What a new leader voids is void in memory only."""

    def truncate_from(self: Any, index: int) -> None:
        self._next_index = index

    patch.setattr(Wal, "truncate_from", truncate_from)


def snapshot_voids_what_the_log_holds(patch: pytest.MonkeyPatch) -> None:
    """A snapshot replaces a log that holds its last entry, and with it committed entries."""
    original = Snapshots.receive

    def receive(self: Any, node: Any, message: dict[str, Any]) -> None:
        journal = self._journal
        self._journal = _Blind()
        try:
            original(self, node, message)
        finally:
            self._journal = journal

    patch.setattr(Snapshots, "receive", receive)


class _Blind:
    def term_at(self, index: int) -> None:
        return None


def snapshot_drops_the_log_too_early(patch: pytest.MonkeyPatch) -> None:
    """The log before a snapshot is removed although the snapshot has no durable name."""
    from rendezvous_raft.replication.raft.snapshots import SnapshotFile, SnapshotStore

    def publish(self: Any, temporary: Path, index: int, term: int, size: int) -> SnapshotFile:
        path = self.directory / f"{index:020d}-{term:020d}.snapshot"
        self.files.rename(temporary, path)
        return SnapshotFile(index, term, size, path)

    patch.setattr(SnapshotStore, "publish", publish)


def anybody_wins_an_election(patch: pytest.MonkeyPatch) -> None:
    """5.4.1 is forgotten: a candidate's log is not looked at."""
    patch.setattr(Elections, "_is_up_to_date", lambda self, message: True)


def early_release_covers_every_region(patch: pytest.MonkeyPatch) -> None:
    """R6: a close on its way releases the waits of other regions too."""

    def covers(self: EarlyReleases, branch: Branch, region: str) -> bool:
        return any(branch.branch_id == closing for closing, _ in self._counts)

    patch.setattr(EarlyReleases, "covers", covers)


def waits_are_not_fresh(patch: pytest.MonkeyPatch) -> None:
    """R1: a wait looks at once, at whatever the node has."""

    async def reach(*_args: object) -> None:
        """Goes on."""

    patch.setattr(wait, "reach", reach)


def a_group_is_not_divided_anew(patch: pytest.MonkeyPatch) -> None:
    """U5.1: a member keeps what it was listed, and is given only what is new."""
    patch.setattr(Subscriptions, "_give_share", lambda self, subscriber: None)


def members_are_not_renewed(patch: pytest.MonkeyPatch) -> None:
    """U5: the others take a node that lives for dead, and it does not take up its part again."""
    original = GroupKeeper.keep

    def keep(self: GroupKeeper) -> None:
        memberships = self._memberships
        self._memberships = {k: v for k, v in memberships.items() if not v.proposed}
        original(self)
        self._memberships = memberships

    patch.setattr(GroupKeeper, "keep", keep)


def leaving_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """U5.1: a stream has ended, its membership goes on."""
    patch.setattr(GroupKeeper, "leave", lambda self, membership: None)


def _handlers() -> dict[str, Any]:
    from rendezvous_raft.replication.raft import rules

    return rules._HANDLERS


Kind = Callable[[int], World]


def drawn(seed: int) -> World:
    """The kind of world that the ordinary seeds make."""
    return World(seed, nodes=SIZES[seed % len(SIZES)])


def hostile(seed: int) -> World:
    """A world in which leaders change all the time, and much is on its way when they do."""
    rng = random.Random(seed)
    profile = Profile(
        nodes=rng.choice((3, 5)),
        duration_s=12.0,
        quiet_s=2.0,
        delay_s=0.001,
        jitter_s=0.02,
        snapshots=SnapshotPolicy(rng.choice((6, 20, 40)), entries_kept=0, chunk_bytes=700),
        faults=("kill", "stop_leader", "isolate_leader", "break_all", "slow_link", "transfer"),
        fault_interval_s=0.3,
        replays=1.0,
        clients=6,
        think_s=0.05,
        deadline_s=0.5,
    )
    return World(seed, profile=profile)


def waiting(seed: int) -> World:
    """A world whose clients wait through the use-cases of the nodes."""
    rng = random.Random(seed)
    profile = draw_profile(rng, nodes=3, duration_s=20.0)
    return World(seed, profile=replace(profile, use_cases=True, think_s=0.2))


PLANTS: tuple[tuple[Plant, Kind, range], ...] = (
    (acks_rewind_and_followers_truncate, drawn, range(5)),
    (unverified_tail_is_committed, drawn, range(60)),
    (log_cleared_behind_snapshot, drawn, range(20)),
    (nothing_is_synced, drawn, range(5)),
    (names_are_not_synced, drawn, range(5)),
    (vote_is_not_stored, drawn, range(5)),
    (vote_leaves_before_it_is_stored, drawn, range(5)),
    (entries_applied_twice, drawn, range(20)),
    (reads_are_not_confirmed, hostile, range(20, 80)),
    (timed_out_proposals_are_definite, drawn, range(30)),
    (outbox_ignores_the_sync, drawn, range(5)),
    (leader_counts_what_it_has_not_synced, drawn, range(30)),
    (older_terms_are_committed_by_counting, hostile, range(60)),
    (a_minority_commits, drawn, range(5)),
    (truncation_is_not_logged, hostile, range(30)),
    (snapshot_drops_the_log_too_early, drawn, range(48, 108)),
    (early_release_covers_every_region, waiting, range(30)),
    (waits_are_not_fresh, waiting, range(10)),
    (anybody_wins_an_election, drawn, range(20)),
    (a_group_is_not_divided_anew, waiting, range(10)),
    (members_are_not_renewed, waiting, range(10)),
    (leaving_is_not_told, waiting, range(10)),
)
"""With the kind of world that shows it, and the seeds of which one must find it.

Two others take hundreds of seeds, and histories by hand show them (`test_simulation_scenarios.py`):
`acks_of_earlier_terms_count` and `snapshot_voids_what_the_log_holds`.
"""
