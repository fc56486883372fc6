"""Replication as stock PySyncObj does it, and as we do (F1, F2, F3, F18 of replication/DESIGN.md).

Each scenario runs on both. On stock the loss itself is asserted: values whose proposers were told
SUCCESS and that the surviving majority does not have.
"""

from __future__ import annotations

from groups import OURS, STOCK, Group, MakeGroup

WRITES = [f"w{number}-" + "x" * 40_000 for number in range(12)]
"""Two fill a message of stock size (64 KiB), seven one of ours (256 KiB)."""
TRIPS_MAX = 100


def lost(group: Group, name: str) -> list[str]:
    """What was acknowledged and is not in the state of a member, in short."""
    found = group.applied(name)
    return [value.partition("-")[0] for value in group.acknowledged if value not in found]


def leader_dies_behind_a_row_of_acknowledgements(make: MakeGroup) -> list[str]:
    """Two of three have everything and one lags; the leader is killed as the acks come in."""
    with make("a", "b", "c") as group:
        group.elect("a")
        for write in WRITES:
            group.propose("a", write)
            group.turn("a")
        # The link to c is slow: what goes there stays on its way, and is lost with a.
        for letter in group.take("entries", sender="a", receiver="b"):
            group.deliver(letter)
        first, *others = group.take("answers", sender="b", receiver="a")
        group.deliver(first)
        group.turn("a")
        again = group.take("entries", sender="a", receiver="b")
        for answer in others:
            group.deliver(answer)
        group.turn("a")
        assert group.acknowledged == WRITES
        group.take(sender="a")
        group.deliver(again[0])
        group.cut("a")
        group.elect("b")
        assert group.applied("b") == group.applied("c")
        return lost(group, "b")


def test_f1_stock_loses_what_a_majority_acknowledged() -> None:
    """Stock: an ack rewinds nextIndex to acked + 1; the follower deletes what it has behind it."""
    assert leader_dies_behind_a_row_of_acknowledgements(STOCK) == [
        f"w{number}" for number in range(3, len(WRITES))
    ]


def test_f1_ours_loses_nothing() -> None:
    """Ours: a present prefix is stripped, and nextIndex never goes back."""
    assert leader_dies_behind_a_row_of_acknowledgements(OURS) == []


def deposed_leader_meets_a_snapshot(make: MakeGroup) -> tuple[list[str], list[str]]:
    """An isolated leader has entries of its own; its successor can send it a snapshot only."""
    with make("a", "b", "c") as group:
        group.elect("a")
        group.propose("a", "before")
        group.settle()
        group.cut("a")
        for ghost in ("ghost-1", "ghost-2"):
            group.propose("a", ghost)
        group.elect("b")
        for value in ("real-1", "real-2", "real-3"):
            group.propose("b", value)
            group.settle()
        group.compact("b")
        group.heal()
        group.turn("b")  # a heartbeat comes in between
        group.settle()
        assert group.leaders() == ["b"]
        return lost(group, "b"), lost(group, "c")


def test_f2_stock_acknowledges_entries_that_the_snapshot_erases() -> None:
    """Stock: a snapshot's messages name no previous entry, yet their commit index is taken."""
    ghosts = ["ghost", "ghost"]
    assert deposed_leader_meets_a_snapshot(STOCK) == (ghosts, ghosts)


def test_f2_ours_acknowledges_no_ghost() -> None:
    """Ours: only what a message of this leader has verified is committed."""
    assert deposed_leader_meets_a_snapshot(OURS) == ([], [])


def leader_twice_with_a_late_acknowledgement(make: MakeGroup) -> tuple[bool, list[str]]:
    """The ack of b to a's first leadership arrives in its second one.

    Returns:
        Whether `y`, which two of five have, was acknowledged; what the others then lack.
    """
    with make("a", "b", "c", "d", "e") as group:
        group.elect("a")
        for value in ("x1", "x2", "x3", "x4"):
            group.propose("a", value)
            group.turn("a")
        # Only b gets them, and its answers are slow.
        for letter in group.take("entries", sender="a", receiver="b"):
            group.deliver(letter)
        late = group.take("answers", sender="b", receiver="a")
        group.cut("a")
        group.elect("d")
        group.heal()
        group.settle()
        group.elect("a")
        group.propose("a", "y")
        group.turn("a")
        for letter in group.take("entries", sender="a", receiver="c"):
            group.deliver(letter)
        for letter in [*late, *group.take("answers", sender="c", receiver="a")]:
            group.deliver(letter)
        group.turn("a")
        acknowledged = "y" in group.acknowledged
        group.cut("a")
        group.cut("c")
        group.elect("e")
        return acknowledged, lost(group, "e")


def test_f3_stock_commits_on_two_of_five() -> None:
    """Stock: acks carry no term, so that one of an earlier leadership counts."""
    assert leader_twice_with_a_late_acknowledgement(STOCK) == (True, ["y"])


def test_f3_ours_counts_this_leadership_only() -> None:
    """Ours: an answer names its term and round; a stale one is dropped."""
    assert leader_twice_with_a_late_acknowledgement(OURS) == (False, [])


def round_trips_until_a_long_conflict_is_repaired(make: MakeGroup, entries: int) -> int:
    """An isolated leader has many entries of its own; how long its successor asks for the end."""
    with make("a", "b", "c") as group:
        group.elect("a")
        group.settle()
        group.cut("a")
        for number in range(entries):
            group.propose("a", f"ghost-{number}")
        group.elect("b")
        for number in range(entries):
            group.propose("b", f"real-{number}")
            group.settle()
        # A leader begins at the end of its log; so the next one knows nothing of a's.
        group.crash("b")
        group.elect("c")
        real = group.applied("c")
        group.heal()
        trips = 0
        while group.applied("a") != real and trips < TRIPS_MAX:
            group.turn("c")
            trips += 1
            for sender, receiver in (("c", "a"), ("a", "c")):
                for letter in group.take(sender=sender, receiver=receiver):
                    group.deliver(letter)
        return trips


def test_f18_stock_backs_off_by_one_entry_per_round_trip() -> None:
    """Stock: a refusal names the entry before; the way back is as long as the conflict."""
    few, many = (round_trips_until_a_long_conflict_is_repaired(STOCK, n) for n in (10, 40))
    assert many - few == 30


def test_f18_ours_jumps_over_the_term() -> None:
    """Ours: a refusal names the first index of the conflicting term."""
    few, many = (round_trips_until_a_long_conflict_is_repaired(OURS, n) for n in (10, 40))
    assert few == many <= 6
