"""The network of a simulated world: links that fail, and who listens where.

A *link* is a direction between two hosts; it delays, is cut for a while, or is narrow. What is sent
on a link that is cut waits, as TCP would send it again, and arrives late unless its connection
breaks first.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.connection import Connection, NetworkCounts
from rendezvous_raft.testing.simulation.loop import ProcessLoop

Told = Callable[[str, str, bytes], None]
"""Is told of bytes that arrive: sender, receiver, bytes."""


@dataclass(slots=True)
class Link:
    """One direction between two hosts. Times in seconds, the width in bytes a second."""

    delay_s: float
    jitter_s: float
    cut: bool = False
    width: float = 0.0
    """0: as wide as needed."""
    slow_by_s: float = 0.0


class Network:
    """Hosts, links, connections.

    Args:
        agenda: the world's.
        rng: chance.
        hosts: names of the machines.
        make_link: the link of a direction, at its best.
        grid_s: arrivals are rounded up to a multiple, so that some come together; 0: not at all.
        told: is told of what arrives.
    """

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        hosts: list[str],
        make_link: Callable[[str, str], Link],
        grid_s: float,
        told: Told,
    ) -> None:
        self.agenda = agenda
        self.rng = rng
        self.told = told
        self.counts = NetworkCounts()
        self.replays = 0.0
        """Chance that bytes of a connection that broke arrive once more on the next one."""
        self._grid_s = grid_s
        self._links = {(a, b): make_link(a, b) for a in hosts for b in hosts if a != b}
        self._listeners: dict[str, Listener] = {}
        self._connections: dict[Connection, None] = {}
        self._powerless: dict[str, None] = {}

    def link(self, sender: str, receiver: str) -> Link:
        """The link of a direction."""
        return self._links[sender, receiver]

    def is_held(self, sender: str, receiver: str) -> bool:
        """Whether nothing passes in this direction."""
        return self._links[sender, receiver].cut

    def is_cut(self, a: str, b: str) -> bool:
        """Whether nothing passes in one direction at least."""
        return self._links[a, b].cut or self._links[b, a].cut

    def arrival_s(self, sender: str, receiver: str, size: int = 0) -> float:
        """When something that is sent now arrives."""
        link = self._links[sender, receiver]
        when_s = self.agenda.now_s + link.delay_s + link.slow_by_s
        if link.jitter_s:
            when_s += self.rng.random() * link.jitter_s
        if link.width:
            when_s += size / link.width
        if self._grid_s:
            when_s = (when_s // self._grid_s + 1) * self._grid_s
        return when_s

    # Faults

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing passes in this direction."""
        self._links[sender, receiver].cut = True

    def restore(self, sender: str, receiver: str) -> None:
        """Things pass again; those that were held arrive, unless their connection breaks."""
        link = self._links[sender, receiver]
        if link.cut:
            link.cut = False
            for connection in list(self._connections):
                connection.flush(sender, receiver)

    def restore_all(self) -> None:
        """Every link is at its best."""
        for (sender, receiver), link in self._links.items():
            link.width = link.slow_by_s = 0.0
            self.restore(sender, receiver)
        self.replays = 0.0

    def break_between(self, a: str, b: str) -> int:
        """Breaks the connections between two hosts; how many."""
        broken = [c for c in self._connections if {c.client, c.server} == {a, b}]
        for connection in broken:
            connection.break_now()
        return len(broken)

    def host_ends(self, host: str, *, power: bool) -> None:
        """A process is killed, or its machine loses its power: all its connections end."""
        self._listeners.pop(host, None)
        if power:
            self._powerless[host] = None
        for connection in list(self._connections):
            if host in (connection.client, connection.server):
                connection.host_ended(host, power=power)

    def has_power(self, host: str) -> bool:
        """Whether the machine runs, with or without a process."""
        return host not in self._powerless

    # What processes do

    def listen(
        self, host: str, loop: ProcessLoop, factory: Callable[[], asyncio.Protocol]
    ) -> Listener:
        """Accepts connections to a host."""
        self._powerless.pop(host, None)
        listener = Listener(self, host, loop, factory)
        self._listeners[host] = listener
        return listener

    async def connect(
        self, source: str, loop: ProcessLoop, factory: Callable[[], asyncio.Protocol], target: str
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Opens a connection; blocks for ever if a link is cut. Raises `OSError` if refused."""
        opened: asyncio.Future[tuple[asyncio.Transport, asyncio.Protocol]] = loop.create_future()
        if self.is_cut(source, target):
            return await opened
        connection = Connection(self, source, target)
        args = (connection, loop, factory, opened)
        self.agenda.at(self.arrival_s(source, target), self._arrived, *args)
        return await opened

    def _arrived(
        self,
        connection: Connection,
        loop: ProcessLoop,
        factory: Callable[[], asyncio.Protocol],
        opened: asyncio.Future[tuple[asyncio.Transport, asyncio.Protocol]],
    ) -> None:
        """The wish to connect has reached the other host."""
        source, target = connection.client, connection.server
        listener = self._listeners.get(target)
        back_s = self.arrival_s(target, source)
        if self.is_cut(source, target):
            return
        if listener is None:
            self.agenda.at(back_s, _refuse, opened, owner=loop)
            return
        self.counts.connections += 1
        self._connections[connection] = None
        connection.accept(listener.loop, listener.factory)

        def answered() -> None:
            if opened.done() or self.is_cut(source, target):
                connection.break_now()
            else:
                opened.set_result(connection.open(loop, factory))

        self.agenda.at(back_s, answered, owner=loop)

    def forget(self, connection: Connection) -> None:
        """Both ends of a connection know that it is over."""
        self._connections.pop(connection, None)

    def stopped_listening(self, listener: Listener) -> None:
        """New connections are refused."""
        if self._listeners.get(listener.host) is listener:
            del self._listeners[listener.host]

    def inbound(self, source: str, target: str) -> Connection | None:
        """The newest connection that one host has opened to another."""
        for connection in reversed(self._connections):
            if (connection.client, connection.server) == (source, target):
                return connection
        return None


def _refuse(opened: asyncio.Future[object]) -> None:
    if not opened.done():
        opened.set_exception(ConnectionRefusedError("nobody listens there"))


class Listener:
    """What accepts connections at a host; has what is used of `asyncio.Server`."""

    def __init__(
        self,
        network: Network,
        host: str,
        loop: ProcessLoop,
        factory: Callable[[], asyncio.Protocol],
    ) -> None:
        self.host = host
        self.loop = loop
        self.factory = factory
        self._network = network

    def close(self) -> None:
        """Accepts no more."""
        self._network.stopped_listening(self)
