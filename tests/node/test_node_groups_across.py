"""Groups whose members are served by several nodes (semantics U5)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
from group_bench import GROUP, Cluster, Monitor, joined, names, read_all
from node_bench import branch, close, failure_of, ids_of, key

from rendezvous_raft import errors
from rendezvous_raft.core import groups
from rendezvous_raft.core.commands import JoinGroup, LeaveGroups, RenewMembers
from rendezvous_raft.core.model import GroupMember
from rendezvous_raft.limits import NodeLimits, StateLimits
from rendezvous_raft.node.calls import BranchIsClosed, BranchIsOpen
from rendezvous_raft.node.subscriptions import SHARE_HASHES_MAX
from rendezvous_raft.testing.virtual_time import advance, settle
from rendezvous_raft.types import BranchId, MemberId, Tag

LEASE_S = NodeLimits().lease_ttl_ms / 1000


async def test_members_on_two_nodes_divide_new_branches_without_overlap(cluster: Cluster) -> None:
    # semantics: U5
    monitors = [(await joined(bench))[0] for bench in cluster.benches[:2]]
    cluster.opened(*(branch(name, "eu") for name in names(60)), branch("global"))
    assert await read_all(monitors) == {*names(60), "global"}
    one, other = monitors
    assert not one.watched & other.watched
    assert min(len(one.watched), len(other.watched)) >= 15
    assert {*cluster.shares()} == {*cluster.members()}
    assert sorted(map(sorted, cluster.shares().values())) == sorted(
        [sorted(one.watched), sorted(other.watched)]
    )
    cluster.check()


async def test_who_joins_on_another_node_is_listed_its_share(cluster: Cluster) -> None:
    # semantics: U5, U5.1
    (first,) = await joined(cluster.benches[0])
    cluster.opened(*(branch(name, "eu") for name in names(60)))
    await first.read()
    (second,) = await joined(cluster.benches[1])
    assert second.synced
    assert second.watched == cluster.shares()[cluster.members()[1]]
    assert 15 <= len(second.watched) <= 45
    await first.read()
    assert first.told == names(60)


async def test_what_a_member_on_another_node_leaves_goes_to_its_heirs(cluster: Cluster) -> None:
    # semantics: U5, U5.1
    monitors = [(await joined(bench))[0] for bench in cluster.benches]
    cluster.opened(*(branch(name, "eu") for name in names(90)))
    await read_all(monitors)
    assert all(10 <= len(monitor.watched) <= 50 for monitor in monitors)
    leaver = monitors.pop()
    before = [set(monitor.watched) for monitor in monitors]
    await leaver.reader.close()
    assert await read_all(monitors) == set(names(90))
    gained = [monitor.watched - had for monitor, had in zip(monitors, before, strict=True)]
    # Exactly what the leaver had moved, each branch to one heir, and nothing was told twice.
    assert set.union(*gained) == leaver.watched
    assert not set.intersection(*gained)
    assert all(max(Counter(monitor.told).values()) == 1 for monitor in monitors)
    assert len(cluster.members()) == 2
    cluster.check()


async def test_members_are_renewed_for_as_long_as_they_read_or_not(cluster: Cluster) -> None:
    """One command renews all of a node, three times per lease."""
    # semantics: U5
    monitors = await joined(cluster.benches[0], 3) + await joined(cluster.benches[1], 1)
    before = cluster.members()
    await advance(3 * LEASE_S)
    assert cluster.members() == before
    for bench, count in zip(cluster.benches, (3, 1, 0), strict=True):
        renewals = bench.engine.proposed_of(RenewMembers)
        assert {len(c.member_ids) for c in renewals if isinstance(c, RenewMembers)} <= {count}
        assert (6 <= len(renewals) <= 10) if count else not renewals
        assert len(bench.engine.proposed_of(JoinGroup)) == count
    assert await read_all(monitors) == set()


async def test_who_has_no_group_costs_nothing(cluster: Cluster) -> None:
    # semantics: U1
    readers = [(await joined(bench, 1, key()))[0] for bench in cluster.benches]
    cluster.opened(*(branch(name, "eu") for name in names(20)))
    await read_all(readers)
    await advance(LEASE_S)
    assert all(reader.told == names(20) for reader in readers)
    assert [reader.reader for reader in readers]
    proposed = [c for bench in cluster.benches for c in bench.engine.proposed]
    assert not [c for c in proposed if isinstance(c, JoinGroup | RenewMembers | LeaveGroups)]


async def test_a_cancelled_stream_leaves_at_once(cluster: Cluster) -> None:
    # semantics: U5.1, G7
    first, second = [(await joined(bench))[0] for bench in cluster.benches[:2]]
    cluster.opened(*(branch(name, "eu") for name in names(20)))
    await read_all([first, second])
    await second.reader.close()
    await settle()
    assert len(cluster.members()) == 1
    await first.read()
    assert first.watched == set(names(20))
    await advance(2 * LEASE_S)
    assert len(cluster.benches[1].engine.proposed_of(LeaveGroups)) == 1
    assert not cluster.benches[1].engine.proposed_of(RenewMembers)
    assert cluster.benches[1].node._groups._memberships == {}


async def test_a_stream_that_ends_before_it_is_a_member_leaves_nothing(cluster: Cluster) -> None:
    # semantics: U5, G7
    bench = cluster.benches[1]
    bench.engine.holding = True
    monitor = Monitor(bench)
    await monitor.read()
    assert not monitor.synced
    await monitor.reader.close()
    bench.engine.holding = False
    bench.engine.commit()
    await settle()
    assert cluster.members() == []
    assert cluster.benches[1].node._groups._memberships == {}
    assert cluster.benches[1].node.statistics().subscribers == {}


async def test_a_leave_that_got_lost_is_said_again(cluster: Cluster) -> None:
    # semantics: U5.1, G7
    bench = cluster.benches[1]
    (monitor,) = await joined(bench)
    bench.engine.fail_next(errors.LeaderChanged("lost"))
    await monitor.reader.close()
    await settle()
    assert len(cluster.members()) == 1
    await advance(1.5)
    assert cluster.members() == []


async def test_a_leave_whose_answer_a_snapshot_swallows_holds_no_other_up(cluster: Cluster) -> None:
    # semantics: U4, U5.1
    bench = cluster.benches[1]
    first, second = await joined(bench, 2)
    bench.engine.lagging = True
    await first.reader.close()
    await settle()
    bench.engine.catch_up_by_snapshot()
    bench.engine.lagging = False
    assert isinstance(await failure_of(second.reader.read()), errors.SubscriptionOverflow)
    await settle()
    assert cluster.members() == []


async def test_whose_a_branch_is_is_computed_once_for_all_members_here(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # semantics: U5
    monitors = await joined(cluster.benches[0], 5)
    asked: list[BranchId] = []
    owner_of = groups.owner_of

    def counted(members: Iterable[GroupMember], branch_id: BranchId, tag: Tag) -> MemberId | None:
        asked.append(branch_id)
        return owner_of(members, branch_id, tag)

    monkeypatch.setattr(groups, "owner_of", counted)
    cluster.opened(*(branch(name, "eu") for name in names(20)))
    assert asked == names(20)
    assert await read_all(monitors) == set(names(20))


async def test_a_share_comes_also_while_there_is_always_something_new(cluster: Cluster) -> None:
    """To one that reads as fast as it is told: its queue never runs dry."""
    # semantics: U5
    one, other = [(await joined(bench))[0] for bench in cluster.benches[:2]]
    cluster.opened(*(branch(name, "eu") for name in names(100)))
    await read_all([one, other])
    await other.reader.close()
    await settle()
    heir = cluster.benches[0].node.subscribe(GROUP)
    await heir.aclose()
    for number in range(3):
        cluster.opened(branch(f"new-{number}", "eu"))
        await one.read()
    assert set(names(100)) <= one.watched


async def test_a_node_that_starts_anew_ends_the_memberships_of_its_earlier_life(
    cluster: Cluster,
) -> None:
    # semantics: U4, U5.1
    bench = cluster.benches[1]
    for name in ("n2", "n9"):
        member_id = bench.ids.member_id()
        before = JoinGroup(
            bench.ids.command_id(), member_id, GROUP.service, GROUP.region, "g", (), name, 99_000
        )
        cluster.everywhere(before)
    (monitor,) = await joined(bench)
    cluster.opened(*(branch(name, "eu") for name in names(30)))
    await monitor.read()
    await advance(2)
    state = bench.engine.state.state
    assert [member.node for member in state.members.values()] == ["n9", "n2"]
    assert len(bench.engine.proposed_of(LeaveGroups)) == 1
    left = {member.member_id for member in state.members.values() if member.node == "n9"}
    await monitor.read()
    (others,) = [share for name, share in cluster.shares().items() if name in left]
    assert monitor.watched == set(names(30)) - others


async def test_who_cannot_become_a_member_is_given_everything(cluster: Cluster) -> None:
    """Without a leader it is better that two watch a branch than nobody."""
    # semantics: U4, U5, U5.3
    (other,) = await joined(cluster.benches[0])
    cluster.opened(*(branch(name, "eu") for name in names(20)))
    bench = cluster.benches[1]
    bench.engine.holding = True
    (monitor,) = await joined(bench)
    assert monitor.told == []
    await advance(NodeLimits().group_join_ms_max / 1000)
    await monitor.read()
    assert (monitor.told, monitor.synced) == (names(20), True)
    cluster.opened(*(branch(name, "eu") for name in names(10, first=20)))
    await monitor.read()
    assert monitor.told == names(30)
    # Once it is one, it has had all that is its, and is given no more than its share of the new.
    bench.engine.holding = False
    bench.engine.commit()
    await monitor.read()
    assert monitor.told == names(30)
    cluster.opened(*(branch(name, "eu") for name in names(60, first=30)))
    assert await read_all([other, monitor]) == set(names(90))
    new = set(names(60, first=30))
    assert not monitor.watched & other.watched & new
    assert 10 <= len(monitor.watched & new) <= 50


async def test_a_membership_that_ended_too_early_is_taken_up_again(cluster: Cluster) -> None:
    """A node that was cut off: the others took over, it goes on, and then takes its share back."""
    # semantics: U4, U5, U5.1, U5.3
    one, other = [(await joined(bench))[0] for bench in cluster.benches[:2]]
    cluster.opened(*(branch(name, "eu") for name in names(30)))
    await read_all([one, other])
    share = set(other.watched)
    bench = cluster.benches[1]
    bench.engine.lagging = bench.engine.holding = True
    await advance(LEASE_S + 3)
    await one.read()
    assert one.watched == set(names(30))
    cluster.opened(*(branch(name, "eu") for name in names(10, first=30)))
    # It catches up: it learns in one go that it is no member, and of what was opened since.
    bench.engine.lagging = False
    bench.engine.catch_up()
    await other.read()
    assert other.watched == share | set(names(10, first=30))
    bench.engine.holding = False
    bench.engine.commit()
    await settle()
    assert len(cluster.members()) == 2
    cluster.opened(*(branch(name, "eu") for name in names(60, first=40)))
    assert await read_all([one, other]) == set(names(100))
    new = set(names(60, first=40))
    assert not one.watched & other.watched & new
    assert other.watched >= cluster.shares()[cluster.members()[1]]
    cluster.check()


async def test_a_share_that_is_large_is_not_taken_for_slowness() -> None:
    # semantics: U3, U5.1
    cluster = await Cluster(2, NodeLimits(subscription_queue_len_max=10)).open()
    cluster.opened(*(branch(name, "eu") for name in names(900)))
    one, other = [(await joined(bench))[0] for bench in cluster.benches]
    assert len(one.told) == 900
    assert 200 < len(other.told) < 700
    await one.reader.close()
    await other.read()
    assert other.watched == set(names(900))
    assert len(other.told) == 900
    await cluster.close()


async def test_what_is_closed_before_its_heir_asks_is_not_given(cluster: Cluster) -> None:
    # semantics: U1, U5.1
    (one,) = await joined(cluster.benches[0])
    cluster.opened(*(branch(name, "eu") for name in names(30)))
    await one.read()
    heir = cluster.benches[1].node.subscribe(GROUP)
    listed = set(ids_of(await anext(heir))) - {"SYNCED"}
    closed = sorted(set(names(30)) - listed)[:5]
    await one.reader.close()
    await settle()
    cluster.everywhere(cluster.benches[0].closing(*(close(name, "eu") for name in closed)))
    told = await anext(heir)
    opened = [event.branch_id for event in told if isinstance(event, BranchIsOpen)]
    assert sorted(opened) == sorted(set(names(30)) - listed - set(closed))
    assert {event.branch_id for event in told if isinstance(event, BranchIsClosed)} == set(closed)
    await heir.aclose()


async def test_a_large_share_is_looked_through_in_parts(cluster: Cluster) -> None:
    """However much there is open, no turn of the loop looks at more than a part of it."""
    # semantics: U5.1
    opened = names(3 * SHARE_HASHES_MAX)
    (one,) = await joined(cluster.benches[0])
    cluster.opened(*(branch(name, "eu") for name in opened))
    heir = cluster.benches[1].node.subscribe(GROUP)
    told: list[str] = []
    while "SYNCED" not in told:
        told += ids_of(await anext(heir))
    assert told.pop() == "SYNCED"
    assert told == sorted(told)
    await one.reader.close()
    await settle()
    parts = []
    while len(told) < len(opened):
        parts.append(ids_of(await anext(heir)))
        told += parts[-1]
    assert sorted(told) == sorted(opened)
    assert len(parts) > 1
    assert all(part == sorted(part) for part in parts)
    assert [*itertools.chain.from_iterable(parts)] == sorted(itertools.chain.from_iterable(parts))
    await heir.aclose()


async def test_what_is_opened_while_the_list_is_read_comes_after_it(cluster: Cluster) -> None:
    # semantics: U1, U2, U5
    listed, later = names(2 * SHARE_HASHES_MAX), names(20, first=2 * SHARE_HASHES_MAX)
    cluster.opened(*(branch(name, "eu") for name in listed))
    stream = cluster.benches[0].node.subscribe(GROUP)
    told = ids_of(await anext(stream))
    assert told == listed[:SHARE_HASHES_MAX]
    cluster.opened(*(branch(name, "eu") for name in later))
    closed = [listed[-1], later[0]]
    cluster.everywhere(cluster.benches[0].closing(*(close(name, "eu") for name in closed)))
    while later[-1] not in told or told[-2:] != closed:
        told += ids_of(await anext(stream))
    # A listed branch that is closed before its turn is not told of but by its close.
    assert told == [*listed[:-1], "SYNCED", *later, *closed]
    await stream.aclose()


async def test_a_group_that_is_full_says_which_limit(cluster: Cluster) -> None:
    # semantics: U5, L3, L3.1
    for bench in cluster.benches:
        bench.engine.state.limits = StateLimits(members_per_group_max=1)
    (one,) = await joined(cluster.benches[0])
    refused = Monitor(cluster.benches[1])
    error = await failure_of(refused.reader.read())
    assert isinstance(error, errors.LimitExceeded)
    assert error.details["limit"] == "members_per_group_max"
    assert cluster.benches[1].book.limits == ["members_per_group_max"]
    assert cluster.benches[1].node.statistics().subscribers == {}
    assert len(cluster.members()) == 1
    assert not cluster.benches[1].engine.proposed_of(LeaveGroups)
    await one.reader.close()
    (again,) = await joined(cluster.benches[1])
    assert again.synced


async def test_a_drain_leaves_all_groups_with_one_command(cluster: Cluster) -> None:
    # semantics: U4, U5.1
    bench = cluster.benches[1]
    leaving = await joined(bench, 3)
    (staying,) = await joined(cluster.benches[0])
    cluster.opened(*(branch(name, "eu") for name in names(30)))
    await read_all([*leaving, staying])
    await bench.node.close()
    (left,) = bench.engine.proposed_of(LeaveGroups)
    assert len(left.member_ids) == 3  # type: ignore[attr-defined]
    await staying.read()
    assert staying.watched == set(names(30))
    errors_seen = [await failure_of(monitor.reader.read()) for monitor in leaving]
    assert all(isinstance(error, errors.Draining) for error in errors_seen)


async def test_a_new_state_ends_the_streams_and_their_memberships(cluster: Cluster) -> None:
    # semantics: U3, U4, U5
    bench = cluster.benches[1]
    (monitor,) = await joined(bench)
    bench.engine.lagging = True
    cluster.opened(branch("b1", "eu"))
    bench.engine.catch_up_by_snapshot()
    bench.engine.lagging = False
    assert isinstance(await failure_of(monitor.reader.read()), errors.SubscriptionOverflow)
    await settle()
    assert cluster.members() == []


async def test_before_all_can_divide_every_member_gets_everything() -> None:
    # semantics: U5, U5.3
    cluster = Cluster(2)
    for bench in cluster.benches:
        bench.engine.state.state.version = bench.engine.command_version = 1
    await cluster.open()
    monitors = [(await joined(bench))[0] for bench in cluster.benches]
    assert all(monitor.synced for monitor in monitors)
    cluster.opened(*(branch(name, "eu") for name in names(30)))
    await advance(5)
    await read_all(monitors)
    assert [monitor.told for monitor in monitors] == [names(30), names(30)]
    assert cluster.members() == []
    # The last node is of the new version now: the leader knows, and all is divided from then on.
    cluster.benches[0].engine.command_version = 2
    await advance(3)
    assert [bench.engine.state.state.version for bench in cluster.benches] == [2, 2]
    assert len(cluster.members()) == 2
    cluster.opened(*(branch(name, "eu") for name in names(60, first=30)))
    assert await read_all(monitors) == set(names(90))
    told = Counter(name for monitor in monitors for name in monitor.told)
    assert {told[name] for name in names(30)} == {2}
    assert {told[name] for name in names(60, first=30)} == {1}
    await cluster.close()
