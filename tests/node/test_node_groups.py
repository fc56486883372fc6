"""Groups: members share what is open; together they always have all of it (semantics U5)."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from group_bench import Monitor, joined, names, read_all
from node_bench import NodeBench, branch, close, failure_of, key

from rendezvous_raft import errors
from rendezvous_raft.limits import NodeLimits


async def test_new_branches_go_to_one_member_each(bench: NodeBench) -> None:
    # semantics: U5
    monitors = await joined(bench, 3)
    bench.opened(*(branch(name, "eu") for name in names(90)))
    assert await read_all(monitors) == set(names(90))
    told = Counter(itertools.chain.from_iterable(monitor.told for monitor in monitors))
    assert set(told.values()) == {1}
    assert all(15 <= len(monitor.told) <= 45 for monitor in monitors)


async def test_who_joins_is_listed_a_share_of_what_is_open(bench: NodeBench) -> None:
    # semantics: U5, U5.1
    (first,) = await joined(bench, 1)
    bench.opened(*(branch(name, "eu") for name in names(90)))
    await first.read()
    assert len(first.watched) == 90
    (second,) = await joined(bench, 1)
    assert 30 <= len(second.watched) <= 60
    bench.opened(*(branch(f"c{name}", "eu") for name in names(90)))
    await read_all([first, second])
    assert len(first.told) + len(second.told) == 180 + len(second.watched & set(names(90)))


async def test_what_a_member_leaves_behind_goes_to_the_others(bench: NodeBench) -> None:
    # semantics: U5, U5.1
    monitors = await joined(bench, 3)
    bench.opened(*(branch(name, "eu") for name in names(60)))
    await read_all(monitors)
    while monitors:
        await monitors.pop(0).reader.close()
        if monitors:
            assert await read_all(monitors) == set(names(60))
    assert bench.node.statistics().subscribers == {}


async def test_closes_reach_every_member(bench: NodeBench) -> None:
    # semantics: U1, U5, U1.1
    monitors = await joined(bench, 2)
    bench.opened(*(branch(name, "eu") for name in names(20)))
    await read_all(monitors)
    bench.elsewhere(bench.closing(*(close(name, "eu") for name in names(20))))
    assert await read_all(monitors) == set()


async def test_groups_and_single_readers_do_not_share(bench: NodeBench) -> None:
    # semantics: U5
    a, b, alone = [
        (await joined(bench, 1, subscribed))[0]
        for subscribed in (key(group="a"), key(group="b"), key())
    ]
    bench.opened(*(branch(name, "eu") for name in names(20)))
    await read_all([a, b, alone])
    assert a.watched == b.watched == alone.watched == set(names(20))


async def test_members_of_one_group_with_other_tags_get_all_of_theirs(bench: NodeBench) -> None:
    """A branch never falls to a member whose filter drops it."""
    # semantics: U1, U5, U1.2
    (posts,) = await joined(bench, 1, key(group="g", tags=("x",)))
    (all_tags,) = await joined(bench, 1)
    tagged = [branch(name, "eu", tag="x" if i % 2 else "y") for i, name in enumerate(names(60))]
    bench.opened(*tagged)
    assert await read_all([posts, all_tags]) == set(names(60))
    assert set(names(60)[::2]) <= all_tags.watched
    await all_tags.reader.close()
    await posts.read()
    assert posts.watched == set(names(60)[1::2])


async def test_who_resumes_in_a_group_is_listed_all_of_its_share(bench: NodeBench) -> None:
    """Its share is not what it was before, so what it has seen before does not count."""
    # semantics: U2, U5
    monitors = await joined(bench, 2)
    bench.opened(*(branch(name, "eu") for name in names(60)))
    await read_all(monitors)
    staying, leaving = monitors
    await leaving.reader.close()
    resumed = Monitor(bench, key(group="g", resume=bench.engine.state.revision))
    resumed.watched = leaving.watched
    assert await read_all([staying, resumed]) == set(names(60))
    await staying.reader.close()
    await resumed.read()
    assert resumed.watched == set(names(60))


async def test_an_overflow_in_a_group_ends_only_who_is_too_slow() -> None:
    """Even when what it leaves behind is too much for the others."""
    # semantics: U3, U5
    bench = NodeBench(limits=NodeLimits(subscription_queue_len_max=10))
    monitors = await joined(bench, 3)
    bench.opened(*(branch(name, "eu") for name in names(90)))
    failures = [await failure_of(monitor.reader.read()) for monitor in monitors]
    assert all(isinstance(error, errors.SubscriptionOverflow) for error in failures)
    assert bench.node.statistics().subscribers == {}
    assert len(bench.engine.state.state.branches) == 90
    (again,) = await joined(bench, 1)
    assert again.watched == set(names(90))
    await bench.close()


@pytest.mark.parametrize("_round", range(5))
async def test_together_they_have_all_of_it_at_all_times(
    bench: NodeBench, seed: int, _round: int
) -> None:
    """Joins, leaves, registrations and closes in any order: nothing open is without a monitor."""
    # semantics: U2, U5, U5.1
    chance = random.Random(f"{seed} {_round}")
    monitors: list[Monitor] = []
    still_open: set[str] = set()
    checked = 0
    for step in range(80):
        match chance.choice(("join", "leave", "open", "open", "close")):
            case "join" if len(monitors) < 5:
                revision = chance.choice((0, bench.engine.state.revision))
                monitors += await joined(bench, 1, key(group="g", resume=revision))
            case "leave" if len(monitors) > 1:
                await monitors.pop(chance.randrange(len(monitors))).reader.close()
            case "open":
                name = f"b{step}"
                bench.opened(branch(name, "eu") if chance.random() < 0.7 else branch(name))
                still_open.add(name)
            case "close" if still_open:
                name = chance.choice(sorted(still_open))
                where = "eu" if bench.engine.state.state.branches[name].regions else ""
                bench.elsewhere(bench.closing(close(name, where)))
                still_open.discard(name)
        if monitors:
            assert await read_all(monitors) == still_open
            checked += 1
    assert checked > 20
