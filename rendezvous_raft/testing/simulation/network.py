"""The network of a simulated world: connections that keep order, over links that fail.

A *link* is a direction between two hosts; it delays, is cut for a while, or is narrow. What is sent
on a link that is cut waits, as TCP would send it again, and arrives late unless its connection
breaks first. A *connection* breaks with a part of what is on its way, and each end learns of it in
its own time: one whose machine lost its power leaves the other half-open until that writes to it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from rendezvous_raft.testing.simulation.agenda import Agenda
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


@dataclass(slots=True)
class NetworkCounts:
    """What came about in a network."""

    messages: int = 0
    connections: int = 0
    broken: int = 0
    lost: int = 0
    held: int = 0
    """Sent on a link that was cut."""
    replayed: int = 0


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
        connection.accept(listener)

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


class End(asyncio.Transport):
    """One end of a connection, as its process sees it: a transport of asyncio."""

    def __init__(self, connection: Connection, host: str, peer: str, loop: ProcessLoop) -> None:
        super().__init__()
        self.host = host
        self.peer = peer
        self.loop = loop
        self.protocol: asyncio.Protocol
        self.is_over = False
        """Whether this process knows that the connection is over."""
        self.deaf = False
        """Whether the other end is gone without a word: what is written is answered by a reset."""
        self._connection = connection
        self._network = connection.network
        self._held: list[bytes] = []
        self._chunk: list[bytes] = []
        self._chunk_sent_s = -1.0
        self._last_arrival_s = 0.0
        self._in_flight = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends; what is written in one instant travels together."""
        if self.is_over:
            return
        content = bytes(data)
        network = self._network
        network.counts.messages += 1
        self._in_flight += len(content)
        if self.deaf:
            self._connection.reset_by_peer(self)
        elif network.link(self.host, self.peer).cut:
            network.counts.held += 1
            self._held.append(content)
        elif self._chunk and self._chunk_sent_s == network.agenda.now_s:
            self._chunk.append(content)
        else:
            self._send(content)

    def _send(self, content: bytes) -> None:
        network = self._network
        self._chunk = [content]
        self._chunk_sent_s = network.agenda.now_s
        when_s = network.arrival_s(self.host, self.peer, len(content))
        self._last_arrival_s = max(self._last_arrival_s, when_s)
        other = self._connection.other(self)
        network.agenda.at(self._last_arrival_s, self._arrive, self._chunk, owner=other.loop)

    def _arrive(self, chunk: list[bytes]) -> None:
        """At the other end."""
        other = self._connection.other(self)
        content = b"".join(chunk)
        if chunk is self._chunk:
            self._chunk = []
        chunk.clear()
        self._in_flight -= len(content)
        if other.is_over or not content:
            return
        self._network.told(self.host, self.peer, content)
        other.protocol.data_received(content)

    def flush(self) -> None:
        """The link passes things again."""
        held, self._held = self._held, []
        if held and not self._connection.broken:
            self._send(b"".join(held))

    def lose(self, keep: float) -> list[bytes]:
        """What is on its way is lost but for a part; returns what was lost."""
        lost = self._held
        self._held = []
        if self._chunk and self._network.rng.random() >= keep:
            lost = [*self._chunk, *lost]
            self._chunk.clear()
        self._network.counts.lost += len(lost)
        return lost

    def learns(self, delay_s: float) -> None:
        """The process will learn that the connection is over, after what still arrives."""
        agenda = self._network.agenda
        when_s = max(agenda.now_s + delay_s, self._connection.last_arrival_s(at=self))
        agenda.at(when_s, self._over, owner=self.loop)

    def _over(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.protocol.connection_lost(None)
            self._connection.end_is_over()

    def abort(self) -> None:
        """Ends the connection at once; the process is told in a turn of its own."""
        if not self.is_over:
            self.is_over = True
            self.loop.call_soon(self.protocol.connection_lost, None)
            self._connection.closed_by(self)

    close = abort

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self.is_over

    def get_write_buffer_size(self) -> int:
        """Bytes that have not arrived yet."""
        return self._in_flight


class Connection:
    """Two ends."""

    def __init__(self, network: Network, client: str, server: str) -> None:
        self.network = network
        self.client = client
        self.server = server
        self.broken = False
        self._ends: dict[str, End] = {}

    def accept(self, listener: Listener) -> None:
        """At the listening host."""
        end = End(self, self.server, self.client, listener.loop)
        end.protocol = listener.factory()
        self._ends[self.server] = end
        listener.loop.post(end.protocol.connection_made, end)

    def open(
        self, loop: ProcessLoop, factory: Callable[[], asyncio.Protocol]
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """At the host that wanted it."""
        end = End(self, self.client, self.server, loop)
        end.protocol = factory()
        self._ends[self.client] = end
        end.protocol.connection_made(end)
        if self.broken:
            end.learns(0.0)
        return end, end.protocol

    def other(self, end: End) -> End:
        """The end at the other host."""
        return self._ends[end.peer]

    def last_arrival_s(self, *, at: End) -> float:
        """When the last thing that is on its way to an end arrives."""
        other = self._ends.get(at.peer)
        return 0.0 if other is None else other._last_arrival_s  # noqa: SLF001 (one thing)

    def flush(self, sender: str, receiver: str) -> None:
        """A link passes things again."""
        end = self._ends.get(sender)
        if end is not None and end.peer == receiver:
            end.flush()

    def break_now(self) -> None:
        """The connection breaks: a part of what is on its way is lost, both ends learn of it."""
        if self.broken:
            return
        self.broken = True
        self.network.counts.broken += 1
        for end in list(self._ends.values()):
            self._drop(end)
        for end in list(self._ends.values()):
            end.learns(self.network.rng.random() * 0.2)
        if not self._ends:
            self.network.forget(self)

    def _drop(self, end: End) -> None:
        lost = end.lose(keep=0.5)
        network = self.network
        for content in lost:
            if network.replays and network.rng.random() < network.replays:
                other = self._ends.get(end.peer)
                if other is not None:
                    delay_s = network.rng.random() * 3.0
                    network.agenda.at(
                        network.agenda.now_s + delay_s,
                        _replay,
                        network,
                        end,
                        content,
                        owner=other.loop,
                    )

    def closed_by(self, end: End) -> None:
        """One process closed it: what it sent still arrives, then the other learns of it."""
        self.broken = True
        other = self._ends.get(end.peer)
        if other is None or other.is_over:
            self.network.forget(self)
        elif not self.network.link(end.host, end.peer).cut:
            delay_s = self.network.arrival_s(end.host, end.peer) - self.network.agenda.now_s
            other.learns(delay_s)
        else:
            other.deaf = True

    def reset_by_peer(self, end: End) -> None:
        """One end wrote to nobody, and is told so if there is a machine to tell it."""
        if not self.network.is_cut(end.host, end.peer) and self.network.has_power(end.peer):
            delay_s = self.network.arrival_s(end.peer, end.host) - self.network.agenda.now_s
            self.network.agenda.after(delay_s, self._reset, end)

    def _reset(self, end: End) -> None:
        end.loop.post(end._over)  # noqa: SLF001 (ends and connections are one thing)

    def host_ended(self, host: str, *, power: bool) -> None:
        """The process at one end is dead."""
        self.broken = True
        end = self._ends.get(host)
        peer = self.server if host == self.client else self.client
        other = self._ends.get(peer)
        if end is not None:
            end.is_over = True
            end.lose(keep=0.5)
        if other is None or other.is_over:
            self.network.forget(self)
        elif power or self.network.link(host, peer).cut:
            other.deaf = True
        else:
            other.learns(self.network.arrival_s(host, peer) - self.network.agenda.now_s)

    def end_is_over(self) -> None:
        """One end has learned that it is over."""
        self.broken = True
        if all(end.is_over for end in self._ends.values()):
            self.network.forget(self)


def _replay(network: Network, end: End, content: bytes) -> None:
    """Bytes of an old connection arrive on the newest, if the same two lives have one."""
    connection = network.inbound(end.host, end.peer)
    if connection is None:
        return
    sender, receiver = (connection._ends.get(name) for name in (end.host, end.peer))  # noqa: SLF001
    if sender is None or receiver is None or sender.is_over or receiver.is_over:
        return
    if sender.loop is end.loop and end.loop.alive:
        network.counts.replayed += 1
        network.told(end.host, end.peer, content)
        receiver.protocol.data_received(content)
