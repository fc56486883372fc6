"""What becomes of the members of a group whose node dies, or is cut off (semantics U5)."""

from __future__ import annotations

from group_bench import Cluster, joined, names, read_all
from node_bench import branch

from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.testing.virtual_time import advance
from rendezvous_raft.types import Role

LEASE_S = NodeLimits().lease_ttl_ms / 1000


async def test_what_the_members_of_a_dead_node_had_goes_to_the_others(cluster: Cluster) -> None:
    """When its lease has ended: until then nobody can tell a dead node from a slow one."""
    # semantics: U4, U5, U5.1, U5.2
    survivor, victim = [(await joined(bench))[0] for bench in cluster.benches[:2]]
    cluster.opened(*(branch(name, "eu") for name in names(40)))
    await read_all([survivor, victim])
    cluster.kill(cluster.benches[1])
    await advance(LEASE_S - 4)
    await survivor.read()
    assert survivor.watched == set(names(40)) - victim.watched
    assert len(cluster.members()) == 2
    await advance(6)
    await survivor.read()
    assert survivor.watched == set(names(40))
    assert len(survivor.told) == 40
    assert len(cluster.members()) == 1
    cluster.opened(*(branch(name, "eu") for name in names(20, first=40)))
    await survivor.read()
    assert survivor.watched == set(names(60))
    cluster.check()


async def test_members_of_a_dead_node_end_though_nothing_is_registered(cluster: Cluster) -> None:
    # semantics: U5.1, U5.2
    await joined(cluster.benches[1])
    cluster.kill(cluster.benches[1])
    await advance(LEASE_S + 3)
    assert cluster.members() == []


async def test_the_leader_ends_the_members_of_a_node_that_it_misses(cluster: Cluster) -> None:
    """Long before their leases end: meanwhile what is theirs would have no watcher."""
    # semantics: U4, U5, U5.1, U5.2
    survivor, victim = [(await joined(bench))[0] for bench in cluster.benches[:2]]
    cluster.opened(*(branch(name, "eu") for name in names(40)))
    await read_all([survivor, victim])
    cluster.kill(cluster.benches[1])
    cluster.leader_misses("n2")
    await advance(1.5)
    assert len(cluster.members()) == 2, "missed at one pulse: it may be back at the next"
    await advance(1)
    await survivor.read()
    assert survivor.watched == set(names(40))
    assert len(survivor.told) == 40
    assert len(cluster.members()) == 1


async def test_a_node_that_is_only_cut_off_takes_its_memberships_up_again(
    cluster: Cluster,
) -> None:
    # semantics: U5, U5.1
    one, other = [(await joined(bench))[0] for bench in cluster.benches[:2]]
    cluster.opened(*(branch(name, "eu") for name in names(40)))
    await read_all([one, other])
    cut_off = cluster.benches[1]
    cut_off.engine.lagging = True
    cluster.leader_misses("n2")
    await advance(3)
    assert len(cluster.members()) == 1
    await one.read()
    assert one.watched == set(names(40)), "both watch what was the other one's"
    cluster.leader_misses()
    cut_off.engine.lagging = False
    cut_off.engine.catch_up()
    await advance(2)
    assert len(cluster.members()) == 2
    cluster.opened(*(branch(name, "eu") for name in names(20, first=40)))
    await read_all([one, other])
    assert not one.watched & other.watched & set(names(20, first=40))
    assert one.watched | other.watched == set(names(60))
    cluster.check()


async def test_a_new_leader_misses_nobody_at_its_first_pulse(cluster: Cluster) -> None:
    # semantics: U5.1
    await joined(cluster.benches[1])
    cluster.kill(cluster.benches[1])
    cluster.leader_misses("n2")
    await advance(1.5)
    cluster.benches[0].engine.role = Role.FOLLOWER
    await advance(1)
    cluster.benches[0].engine.role = Role.LEADER
    await advance(1)
    assert len(cluster.members()) == 1
    await advance(1)
    assert cluster.members() == []


async def test_the_death_of_the_leader_ends_its_members_too(cluster: Cluster) -> None:
    # semantics: U4, U5, U5.1, U5.2
    victim, survivor = [(await joined(bench))[0] for bench in cluster.benches[:2]]
    cluster.opened(*(branch(name, "eu") for name in names(40)))
    await read_all([survivor, victim])
    cluster.kill(cluster.benches[0])
    await advance(LEASE_S + 3)
    await survivor.read()
    assert survivor.watched == set(names(40))
    cluster.check()
