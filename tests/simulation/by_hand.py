"""Simulated clusters in which only what a test does goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rendezvous_raft.core.commands import Barrier
from rendezvous_raft.replication.codec import encode_command, encode_entry
from rendezvous_raft.testing.simulation.host import Host
from rendezvous_raft.testing.simulation.profile import Profile
from rendezvous_raft.testing.simulation.workload import Tried
from rendezvous_raft.testing.simulation.world import World
from rendezvous_raft.types import CommandId

ELECTED_S = 2.0
"""Time in which a healthy cluster has a leader."""
QUIET = Profile(clients=1, quiet_s=4.0)


@contextmanager
def cluster(seed: int = 1, *, ends_well: bool = True, **changes: Any) -> Iterator[World]:
    """A cluster with a leader. At the end it heals, and everything that must hold is compared."""
    world = World(seed, profile=replace(QUIET, **changes), keep=10_000)
    with world.living():
        world.clients.end()
        world.begin()
        world.advance(ELECTED_S)
        yield world
        if ends_well:
            world.heal()
            world.settle()
    assert not world.judge.violations, "\n".join(
        [*world.trace.lines(60), *map(str, world.judge.violations)]
    )


def followers(world: World) -> list[Host]:
    """All but the leader."""
    leader = world.leader()
    return [host for host in world.hosts if host is not leader]


def write(world: World, host: Host, count: int) -> list[Tried]:
    """Begins writes at a node."""
    return [world.clients.write_once(host) for _ in range(count)]


def append(host: Host, count: int) -> None:
    """Appends entries to a leader's log, each alone."""
    entry = encode_entry(b"test", 1, [encode_command(Barrier(CommandId(b"b")))])
    for _ in range(count):
        host.living.loop.post(host.living.raft.propose, entry)
    host.living.loop.post(host.living.engine.wake)


def fill_disk(world: World, host: Host) -> list[Tried]:
    """Fills a node's disk, by writes at the leader, until the node knows."""
    host.disk.fill(0)
    tried: list[Tried] = []
    for _ in range(200):
        if not host.living.raft.log.takes_entries:
            return tried
        tried += write(world, world.leader(), 5)
        world.advance(0.01)
    raise AssertionError(f"{host.name} still finds room")


def isolate(world: World, host: Host) -> None:
    """Cuts a node off, in both directions; its clients stay."""
    for other in world.hosts:
        if other is not host:
            world.network.cut(host.name, other.name)
            world.network.cut(other.name, host.name)


def reconnect(world: World, host: Host) -> None:
    """Ends `isolate`; what was on its way arrives late."""
    for other in world.hosts:
        if other is not host:
            world.network.restore(host.name, other.name)
            world.network.restore(other.name, host.name)


def term(host: Host) -> int:
    """The term that a node is in."""
    return int(host.living.raft.term)
