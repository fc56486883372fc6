"""Votes, leaders and what they answer, on stock PySyncObj and on ours (F7, F9, F10, F11)."""

from __future__ import annotations

from groups import OURS, STOCK, Group, MakeGroup
from stock_bench import stock_group

EXCHANGES_MAX = 20
LONG_S = 60.0


def converse(group: Group, one: str, other: str) -> None:
    """Delivers what two members say to each other, until they are silent; the rest waits."""
    for _ in range(EXCHANGES_MAX):
        letters = group.take(sender=one, receiver=other) + group.take(sender=other, receiver=one)
        for letter in letters:
            group.deliver(letter)
        if not letters:
            return


def voter_is_restarted(make: MakeGroup) -> dict[int, list[str]]:
    """The voter c votes for a, is killed, and is asked by b in the same term. Leaders by term."""
    with make("a", "b", "c") as group:
        group.campaign("b")
        for kind, sender, receiver in (("pre_vote", "b", "c"), ("pre_vote_reply", "c", "b")):
            for letter in group.take(kind, sender=sender, receiver=receiver):
                group.deliver(letter)
        late = group.take(sender="b", receiver="c")  # its request for the vote is slow
        group.campaign("a")
        for _ in range(EXCHANGES_MAX):
            for letter in group.take(receiver="c") + group.take(sender="c", receiver="a"):
                group.deliver(letter)
            if group.leaders() == ["a"]:
                break
        group.take()  # nothing else of a's has reached anybody
        group.crash("c")
        for letter in late:
            group.deliver(letter)
        converse(group, "b", "c")
        leaders: dict[int, list[str]] = {}
        for name in group.leaders():
            leaders.setdefault(group.term(name), []).append(name)
        return leaders


def test_f7_stock_has_two_leaders_in_a_term() -> None:
    """Stock: without a journal, which is the default, a restarted node has forgotten its vote."""
    assert voter_is_restarted(STOCK) == {1: ["a", "b"]}


def test_f7_ours_votes_once() -> None:
    """Ours: a voter always has a disk, and the vote is on it before the answer leaves."""
    assert voter_is_restarted(OURS) == {1: ["a"]}


def straggler_returns(make: MakeGroup) -> list[str]:
    """c, behind and alone for a while, comes back to a leader that lacks nothing."""
    with make("a", "b", "c") as group:
        group.elect("a")
        group.propose("a", "x")
        converse(group, "a", "b")
        group.take()
        for _ in range(3):  # nobody hears it
            group.campaign("c")
            group.take()
        group.campaign("c")
        converse(group, "a", "c")
        return group.leaders()


def test_f9_stock_lets_a_straggler_depose_a_healthy_leader() -> None:
    """Stock: whoever asks with a higher term deposes the leader, even if it cannot win."""
    assert straggler_returns(STOCK) == []


def test_f9_ours_asks_before_it_disturbs() -> None:
    """Ours: pre-vote and stickiness."""
    assert straggler_returns(OURS) == ["a"]


def seconds_until_an_isolated_leader_gives_up(make: MakeGroup) -> float:
    """A leader is cut off; the clock of the bench tells how long it goes on believing."""
    with make("a", "b", "c") as group:
        group.elect("a")
        group.cut("a")
        since_s = group.now_s()
        while group.leaders() == ["a"] and group.now_s() - since_s < LONG_S:
            group.turn("a")
        return group.now_s() - since_s


def test_f9_stock_believes_to_lead_for_half_a_minute() -> None:
    """Stock: `leaderFallbackTimeout` is 30 s, and elections of the others take 1.4 s at most."""
    assert seconds_until_an_isolated_leader_gives_up(STOCK) >= 29


def test_f9_ours_steps_down_within_an_election_timeout() -> None:
    """Ours: check-quorum; 600 ms are the longest election time-out of the profile `lan`."""
    assert seconds_until_an_isolated_leader_gives_up(OURS) <= 0.7


def old_leader_is_read(make: MakeGroup) -> tuple[list[str] | None, list[str]]:
    """What a leader answers that was cut off, after its successor acknowledged a write."""
    with make("a", "b", "c") as group:
        group.elect("a")
        group.propose("a", "old")
        group.settle()
        group.cut("a")
        group.elect("b")
        group.propose("b", "new")
        group.settle()
        assert group.acknowledged == ["old", "new"]
        return group.read("a"), group.read("b") or []


def test_f10_stock_answers_a_read_without_an_acknowledged_write() -> None:
    """Stock: the state of the process is all there is to be read."""
    assert old_leader_is_read(STOCK) == (["old"], ["old", "new"])


def test_f10_ours_does_not_answer() -> None:
    """Ours: a read index has to be confirmed by a majority."""
    assert old_leader_is_read(OURS) == (None, ["old", "new"])


def test_f11_stock_takes_four_changes_of_members_at_once() -> None:
    """Stock: that one change waits for the one before is written down and never looked at.

    The leader is alone, nothing of this is committed, and it counts seven members already.
    """
    with stock_group("a", "b", "c", dynamicMembershipChange=True) as group:
        group.elect("a")
        group.cut("a")
        committed = group["a"].raftCommitIndex
        for name in ("d", "e", "f", "g"):
            group["a"].addNodeToCluster(name)
            group.turn("a")
        assert {str(node.id) for node in group["a"].otherNodes} == set("bcdefg")
        assert group["a"].raftCommitIndex == committed
        assert {str(node.id) for node in group["b"].otherNodes} == set("ac")
