"""Histories by hand for the rows of replication/DESIGN.md: what stock PySyncObj does wrong.

Beside what a test asserts itself, the judge of the simulation looks at all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from by_hand import append, cluster, fill_disk, followers, isolate, reconnect, term, write
from planted_bugs import acks_of_earlier_terms_count, snapshot_voids_what_the_log_holds

from rendezvous_raft import errors
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy
from rendezvous_raft.testing.simulation.host import Host
from rendezvous_raft.testing.simulation.world import World

UNKNOWN_ENTRY = b"\x93\xcc\x63\xc4\x01o\x01"
"""An entry of version 99: msgpack of [99, b"o", 1]."""


class Call:
    """A call to a node; `result` is its result or its error once it is over."""

    def __init__(self, host: Host, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.result: object = None
        self.over = False
        host.run(call, self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.over = True
        self.result = task.exception() or task.result()


def read(host: Host, patience_s: float) -> Call:
    """A linearizable read."""
    deadline_s = host.living.loop.time() + patience_s
    return Call(host, lambda: host.living.engine.read_barrier(deadline_s=deadline_s))


@pytest.mark.parametrize("kill_after_s", [0.0, 0.001, 0.002, 0.004, 0.008, 0.02, 0.1])
def test_f1_a_dead_leader_with_one_laggard_loses_nothing(kill_after_s: float) -> None:
    with cluster(delay_s=0.002, jitter_s=0.004) as world:
        leader, (near, far) = world.leader(), followers(world)
        world.network.link(leader.name, far.name).slow_by_s = 0.05
        tried = []
        for _ in range(40):
            tried += write(world, leader, 3) + write(world, near, 2)
            world.advance(0.01)
        world.advance(kill_after_s)
        leader.kill(power=True)
        world.advance(3.0)
        assert world.leader() is not leader
        assert sum(one.acknowledged for one in tried) > 100
        leader.start()
        world.advance(2.0)


def test_f2_what_a_deposed_leader_has_alone_is_never_committed() -> None:
    with cluster(nodes=5, snapshots=SnapshotPolicy(entries_kept=0)) as world:
        old = world.leader()
        write(world, old, 5)
        world.advance(1.0)
        isolate(world, old)
        alone = write(world, old, 1)
        append(old, 20)
        world.advance(4.0)
        others = [host for host in world.hosts if host is not old]
        (new,) = [host for host in others if host.is_leader]
        append(new, 30)
        world.advance(1.0)
        Call(new, new.living.engine.take_snapshot)
        world.advance(0.5)
        had = old.living.raft.last_index()
        reconnect(world, old)
        world.advance(3.0)
        assert had > 20
        assert not alone[0].acknowledged
        assert old.living.raft.commit_index == new.living.raft.commit_index


def _acknowledge_late(world: World) -> tuple[Host, Host]:
    """A leader's acknowledgements come when it leads again, in a later term, and are not true."""
    first = world.leader()
    witness, *rest = followers(world)
    # Only the witness gets what the first leader appends; its answers do not arrive.
    world.network.cut(witness.name, first.name)
    for host in rest:
        world.network.cut(first.name, host.name)
    write(world, first, 12)
    world.advance(0.2)
    isolate(world, first)
    world.advance(3.0)
    (second,) = [host for host in rest if host.is_leader]
    isolate(world, witness)
    for host in rest:
        world.network.restore(first.name, host.name)
        world.network.restore(host.name, first.name)
    world.advance(1.0)
    deadline_s = second.living.loop.time() + 2.0
    engine = second.living.engine
    name = first.living.engine._self.name
    Call(second, lambda: engine.transfer_leadership(name, deadline_s=deadline_s))
    world.advance(2.0)
    assert first.is_leader
    assert term(first) > 2
    return first, witness


def test_f3_an_acknowledgement_of_an_earlier_term_counts_for_nothing() -> None:
    with cluster(nodes=5) as world:
        first, witness = _acknowledge_late(world)
        held = world.network.counts.held
        assert held > 0
        world.network.restore(witness.name, first.name)
        world.advance(0.02)
        write(world, first, 3)
        world.advance(1.0)


def test_f3_is_found_when_it_is_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    acks_of_earlier_terms_count(monkeypatch)
    with cluster(nodes=5, ends_well=False) as world:
        first, witness = _acknowledge_late(world)
        world.network.restore(witness.name, first.name)
        world.advance(0.02)
        (found,) = world.judge.violations
        assert found.invariant == "leaders believe what was acknowledged to them"
        world.judge.violations.clear()


@pytest.mark.parametrize("power", [False, True])
def test_f5_a_death_while_a_snapshot_is_written_keeps_the_log(power: bool) -> None:
    deaths = 0
    for step in range(1, 25):
        with cluster(snapshots=SnapshotPolicy(entries_kept=0), segment_bytes=16384) as world:
            host = followers(world)[step % 2]
            tried = write(world, host, 60)
            world.advance(1.0)
            assert all(one.acknowledged for one in tried)
            taking = Call(host, host.living.engine.take_snapshot)
            world.advance(0.0005 * step)
            deaths += not taking.over
            host.kill(power=power)
            host.start()
            world.advance(1.0)
            assert host.living.raft.last_applied >= 60 // 60
    assert deaths >= 5, "it never died while the snapshot was written"


def _send_a_snapshot_that_the_log_holds(world: World) -> None:
    """A node that restarted has a conflict so early that its leader answers with a snapshot."""
    old, witness, *others = world.leader(), *followers(world)
    append(old, 30)
    world.advance(1.0)
    for host in others:
        Call(host, host.living.engine.take_snapshot)
    world.advance(0.5)
    append(old, 10)
    world.advance(1.0)
    for host in others:
        for apart in (old, witness):
            world.network.cut(host.name, apart.name)
            world.network.cut(apart.name, host.name)
    append(old, 1)
    world.advance(4.0)
    (new,) = [host for host in others if host.is_leader]
    append(new, 5)
    old.kill(power=False)
    witness.kill(power=False)
    assert witness.disk.log.last > world.judge.last_committed - 7
    witness.start()
    reconnect(world, witness)
    world.advance(3.0)


def test_a_snapshot_that_the_log_holds_voids_nothing() -> None:
    with cluster(nodes=5, snapshots=SnapshotPolicy(entries_kept=0)) as world:
        _send_a_snapshot_that_the_log_holds(world)
        assert any("snapshot_reply" in line for line in world.trace.lines(10_000))


def test_a_snapshot_that_voids_the_log_is_found_when_it_is_planted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot_voids_what_the_log_holds(monkeypatch)
    with cluster(nodes=5, snapshots=SnapshotPolicy(entries_kept=0), ends_well=False) as world:
        _send_a_snapshot_that_the_log_holds(world)
        assert {found.invariant for found in world.judge.violations} == {"what is durable survives"}
        world.judge.violations.clear()


@pytest.mark.parametrize("power", [False, True])
def test_f7_who_has_voted_does_not_vote_again(power: bool) -> None:
    for step in range(1, 30):
        with cluster(seed=step, nodes=3) as world:
            world.leader().kill(power=True)
            world.advance(0.3 + 0.02 * step)
            for host in world.hosts:
                host.kill(power=power)
                host.start()
            world.advance(2.0)


def test_f8_an_entry_that_nobody_knows_halts_and_is_not_skipped() -> None:
    with cluster(ends_well=False) as world:
        leader = world.leader()
        write(world, leader, 3)
        world.advance(1.0)
        raft = leader.living.raft
        unknown = raft.last_index() + 1
        leader.living.loop.post(raft.propose, UNKNOWN_ENTRY)
        reasons = []
        for _ in range(200):
            world.advance(0.01)
            reasons += [host.life.halted for host in world.hosts if host.life and host.life.halted]
        assert reasons
        assert dict.fromkeys(reasons) == {"unknown entry v99": None}
        assert max(host.record.applied for host in world.hosts) == unknown - 1


def test_f9_a_node_that_returns_deposes_nobody() -> None:
    with cluster(nodes=5) as world:
        leader = world.leader()
        before = term(leader)
        away = followers(world)[0]
        isolate(world, away)
        for _ in range(20):
            write(world, leader, 1)
            world.advance(0.5)
        assert term(away) == before, "without a majority it must not begin terms"
        reconnect(world, away)
        world.advance(3.0)
        assert world.leader() is leader
        assert term(leader) == before


def test_f9_a_leader_alone_steps_down() -> None:
    with cluster() as world:
        leader = world.leader()
        isolate(world, leader)
        world.advance(world.profile.timers.election_max_s * 1.5)
        assert not leader.is_leader


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_leader_whose_disk_is_full_gives_way(seed: int) -> None:
    """One disk must not stop everybody's writes."""
    with cluster(seed) as world:
        first = world.leader()
        filled = fill_disk(world, first)
        refused = write(world, first, 5)
        tried = [one for host in world.hosts if host is not first for one in write(world, host, 5)]
        world.advance(2.0)
        assert world.leader() is not first
        assert all(one.acknowledged for one in tried)
        assert not first.living.raft.log.takes_entries
        assert all(one.over and not one.acknowledged and not one.unsure for one in refused)
        world.advance(10.0)
        assert not any(one.unsure for one in filled), "a waiting one went elsewhere, unanswered"


@pytest.mark.parametrize("others", ["full, unknowing", "full, and know it", "one is down"])
def test_a_full_leader_leads_on_where_nobody_could_do_more(others: str) -> None:
    """Linearizable reads go on, which a leader that commits nothing could not answer."""
    with cluster() as world:
        first, (near, far) = world.leader(), followers(world)
        led_in = term(first)
        if others == "one is down":
            far.kill(power=False)
            world.advance(1.0)
        elif others == "full, and know it":
            fill_disk(world, near)
            fill_disk(world, far)
        else:
            near.disk.fill(0)
            far.disk.fill(0)
        fill_disk(world, first)
        world.advance(5.0)
        assert (world.leader(), term(first)) == (first, led_in)
        answer = read(first, 1.0)
        world.advance(1.0)
        assert (answer.over, answer.result) == (True, None)
        if others == "one is down":
            far.start()
        near.disk.free()
        far.disk.free()
        world.advance(8.0)
        assert world.leader() is not first
        (tried,) = write(world, world.leader(), 1)
        world.advance(1.0)
        assert tried.acknowledged


@pytest.mark.parametrize("alone_s", [0.0, 0.1, 0.3, 0.6, 1.0, 3.0])
def test_f10_a_leader_alone_answers_no_linearizable_read(alone_s: float) -> None:
    with cluster() as world:
        old, (one, other) = world.leader(), followers(world)
        isolate(world, old)
        world.advance(alone_s)
        reading = read(old, 1.0)
        world.advance(4.0)
        assert isinstance(reading.result, errors.NoLeader)
        tried = write(world, one, 3)
        world.advance(1.0)
        assert all(t.acknowledged for t in tried)
        elsewhere = read(other, 1.0)
        world.advance(1.0)
        assert elsewhere.over
        assert elsewhere.result is None
        assert other.living.engine.state.revision >= 3
        assert old.living.engine.state.revision == 0


@pytest.mark.parametrize("fault", ["kill", "power", "isolate", "break", "disk"])
def test_f15_every_proposal_ends(fault: str) -> None:
    with cluster(deadline_s=1.0) as world:
        leader, (one, other) = world.leader(), followers(world)
        tried = write(world, one, 5) + write(world, other, 5)
        world.advance(0.0015)
        if fault in ("kill", "power"):
            leader.kill(power=fault == "power")
        elif fault == "isolate":
            isolate(world, leader)
        elif fault == "disk":
            leader.disk.fail_next("write")
            tried += write(world, leader, 5)
        else:
            world.network.break_between(leader.name, one.name)
        tried += write(world, one, 5)
        world.advance(1.5 + 0.2)  # the longest deadline, and the watch's own interval
        assert all(t.over for t in tried)


def test_f18_a_long_conflict_is_found_in_few_messages() -> None:
    with cluster() as world:
        old, (one, other) = world.leader(), followers(world)
        isolate(world, old)
        append(old, 300)
        world.advance(4.0)
        (new,) = [host for host in (one, other) if host.is_leader]
        append(new, 200)
        world.advance(1.0)
        refusals = _count_refusals(old)
        new.kill(power=True)
        reconnect(world, old)
        world.advance(4.0)
        assert 1 <= len(refusals) <= 4
        assert world.leader() is not old
        assert old.living.raft.commit_index == world.leader().living.raft.commit_index > 200


def _count_refusals(host: Host) -> list[dict[str, Any]]:
    refusals: list[dict[str, Any]] = []
    left = host._links.left  # type: ignore[union-attr]

    def count(receiver: str, message: dict[str, Any]) -> None:
        if message["type"] == "append_reply" and not message["ok"]:
            refusals.append(message)
        left(receiver, message)

    host._links.left = count  # type: ignore[union-attr]
    return refusals


@pytest.mark.parametrize("back_s", [0.0, 0.05, 1.0])
def test_who_comes_back_under_load_catches_up(back_s: float) -> None:
    """Many snapshots are taken while one is sent: no transfer may begin anew for them."""
    policy = SnapshotPolicy(20, entries_kept=0, chunk_bytes=100)
    with cluster(snapshots=policy, delay_s=0.005) as world:
        leader, (away, _) = world.leader(), followers(world)
        tried = write(world, leader, 120)
        world.advance(1.0)
        assert all(one.acknowledged for one in tried)
        away.kill(power=False)
        append(leader, 60)
        world.advance(1.0 + back_s)
        away.start()
        for _ in range(300):
            append(leader, 1)
            world.advance(0.01)
        assert away.living.raft.log.base_index > 60
        assert leader.living.raft.last_index() - away.living.raft.last_index() < 20
