"""Engines on loopback for the contract: ports, starting, stopping, and waiting for a condition."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from keyring import Keyring

from rendezvous_raft.core import snapshot
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MemberConfig, RaftTimers
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.node.system import SystemClock
from rendezvous_raft.replication.observer import SilentEngineObserver
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.replication.raft.links import MakeLinks
from rendezvous_raft.replication.raft.snapshotting import DEFAULT_POLICY, SnapshotPolicy
from rendezvous_raft.replication.raft.transport import TcpLinks
from rendezvous_raft.types import NodeName, Region, Role

POLL_S = 0.005
PATIENCE_S = 20.0
CLUSTER_ID = "contract"
CLOCK = SystemClock()


async def until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Polls until something holds, not for ever; for what real sockets and disks bring about."""
    end_s = CLOCK.monotonic_s() + PATIENCE_S
    while not condition():
        assert CLOCK.monotonic_s() < end_s, f"{what} does not hold after {PATIENCE_S} s"
        await asyncio.sleep(POLL_S)  # tidy: allow sleeping-tests: bounded poll of real engines


def soon_s() -> float:
    """A deadline that is only there so that nothing hangs."""
    return CLOCK.monotonic_s() + PATIENCE_S


def digest(engine: Replicator) -> str:
    return snapshot.digest(engine.state.state)


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Ports of loopback that nobody else gets while this holds, listened to or not.

    A socket that is bound and does not listen keeps the port from being given away, and lets one
    that reuses addresses, as those of the event loop do, bind it as well.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for reserving in sockets:
            reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserving.bind(("127.0.0.1", 0))
        yield [reserving.getsockname()[1] for reserving in sockets]
    finally:
        for reserving in sockets:
            reserving.close()


class RaftCluster:
    """Members in this process, each with its own directory and its own port of loopback."""

    def __init__(
        self,
        directory: Path,
        ports: list[int],
        limits: NodeLimits,
        snapshots: SnapshotPolicy,
        *,
        tls: bool = False,
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._snapshots = snapshots
        self._keyring = Keyring(directory / "certs", CLUSTER_ID) if tls else None
        self.members = [
            MemberConfig(NodeName(f"n{number}"), Region("eu"), f"127.0.0.1:{port}")
            for number, port in enumerate(ports, start=1)
        ]
        self.engines: dict[str, RaftReplicator] = {}
        self.spare_ports: list[int] = []
        self._newcomers: dict[str, MemberConfig] = {}
        self._listening: dict[str, Callable[[RaftReplicator], None]] = {}

    def directory_of(self, name: str) -> Path:
        return self._directory / name

    def make(
        self, name: str, *, members: list[MemberConfig] | None = None, joining: bool = False
    ) -> RaftReplicator:
        """A new life of a member, not opened yet."""
        make_links: MakeLinks = TcpLinks
        if self._keyring is not None:
            tls = self._keyring.link_tls(name, cluster_id=CLUSTER_ID)
            make_links = partial(TcpLinks, tls=tls)
        engine = RaftReplicator(
            self_name=NodeName(name),
            members=members or self.members,
            joining=joining,
            cluster_id=CLUSTER_ID,
            data_dir=self._directory / name,
            timers=RaftTimers.lan(),
            limits=self._limits,
            clock=CLOCK,
            observer=SilentEngineObserver(),
            segment_bytes=1 << 20,
            make_links=make_links,
            snapshot_policy=self._snapshots,
        )
        self.engines[name] = engine
        return engine

    async def start(self, name: str) -> RaftReplicator:
        engine = self.make(name)
        await engine.open()
        return engine

    async def start_newcomer(self, member: MemberConfig) -> RaftReplicator:
        """Starts a node that is no founder; the founders' files do not name it."""
        engine = self.make(member.name, members=[*self.members, member], joining=True)
        self._newcomers[member.name] = member
        await engine.open()
        return engine

    async def restart(self, name: str) -> RaftReplicator:
        """Starts a member as it was started before."""
        if name in self._newcomers:
            return await self.start_newcomer(self._newcomers[name])
        return await self.start(name)

    async def stop(self, name: str) -> None:
        await self.engines.pop(name).close()

    async def elect_first(self) -> None:
        """Lets the last member stand as soon as all are linked, before any patience ends."""
        linked = [
            lambda status=engine.status: all(member.connected for member in status().members)
            for engine in self.engines.values()
        ]
        await until(lambda: all(holds() for holds in linked), "links between all")
        candidate = self.engines[self.members[-1].name]
        if candidate.status().leader is None:
            candidate._raft.election_deadline = CLOCK.monotonic_s()
            candidate.wake()
        await self.leader()

    async def leader(self) -> RaftReplicator:
        """Waits until one leads whom all that run follow, and can be linearized upon."""

        def known() -> bool:
            statuses = [engine.status() for engine in self.engines.values()]
            leading = [status for status in statuses if status.role is Role.LEADER]
            return (
                len(leading) == 1
                and {status.leader for status in statuses} == {leading[0].name}
                and all(self._linked(engine, leading[0].name) for engine in self.engines.values())
            )

        await until(known, "one leader that everybody knows")
        (leading,) = [e for e in self.engines.values() if e.status().role is Role.LEADER]
        await leading.read_barrier(deadline_s=soon_s())
        return leading

    @staticmethod
    def _linked(engine: RaftReplicator, leader: str) -> bool:
        status = engine.status()
        return all(member.connected for member in status.members if member.name == leader)

    async def followers(self) -> list[RaftReplicator]:
        leader = await self.leader()
        return [engine for engine in self.engines.values() if engine is not leader]

    def isolate(self, engine: RaftReplicator) -> None:
        """Breaks all links of a member, both ways, and keeps new ones from being made."""
        links = engine._links
        assert links._server is not None
        links._server.close()
        for other in [engine, *self.engines.values()]:
            for name, link in other._links._links.items():
                if other is engine or name == engine.status().name:
                    link.address = "127.0.0.1:1"
                    link._break_off()
        for inbound in list(links._inbound):
            inbound.abort()

    async def converged(self) -> None:
        """Waits until all that run have applied the same."""
        await until(
            lambda: len({engine.state.revision for engine in self.engines.values()}) == 1,
            "equal revisions",
        )
        assert len({digest(engine) for engine in self.engines.values()}) == 1

    async def close(self) -> None:
        for name in list(self.engines):
            await self.stop(name)


@asynccontextmanager
async def raft_cluster(
    directory: Path,
    *,
    size: int = 3,
    limits: NodeLimits | None = None,
    snapshots: SnapshotPolicy = DEFAULT_POLICY,
    tls: bool = False,
    spare_ports: int = 0,
) -> AsyncIterator[RaftCluster]:
    """A cluster that has a leader. Its files are removed at the end: they are not small."""
    with reserved_ports(size + spare_ports) as ports:
        cluster = RaftCluster(directory, ports[:size], limits or NodeLimits(), snapshots, tls=tls)
        cluster.spare_ports = ports[size:]
        try:
            for member in cluster.members:
                await cluster.start(member.name)
            await cluster.elect_first()
            yield cluster
        finally:
            await cluster.close()
            shutil.rmtree(directory, ignore_errors=True)


async def failure_of(call: Awaitable[object]) -> BaseException | None:
    """What a call ended with, if it failed."""
    try:
        await call
    except Exception as error:  # noqa: BLE001 (the test looks at it)
        return error
    return None
