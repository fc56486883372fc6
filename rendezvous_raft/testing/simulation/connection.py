"""A connection between two hosts: two ends, and what is on its way between them.

A connection keeps order. It breaks with a part of what is on its way, and each end learns of it in
its own time: one whose machine lost its power leaves the other half-open until that writes to it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.loop import ProcessLoop


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


class Medium(Protocol):
    """What connections need of the network around them."""

    agenda: Agenda
    rng: random.Random
    counts: NetworkCounts
    replays: float
    told: Callable[[str, str, bytes], None]

    def is_held(self, sender: str, receiver: str) -> bool:
        """Whether nothing passes in this direction."""
        ...

    def is_cut(self, a: str, b: str) -> bool:
        """Whether nothing passes in one direction at least."""
        ...

    def has_power(self, host: str) -> bool:
        """Whether a machine runs, with or without a process."""
        ...

    def arrival_s(self, sender: str, receiver: str, size: int = 0) -> float:
        """When something that is sent now arrives."""
        ...

    def forget(self, connection: Connection) -> None:
        """Both ends of a connection know that it is over."""
        ...

    def inbound(self, source: str, target: str) -> Connection | None:
        """The newest connection that one host has opened to another."""
        ...


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
        elif network.is_held(self.host, self.peer):
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

    def __init__(self, network: Medium, client: str, server: str) -> None:
        self.network = network
        self.client = client
        self.server = server
        self.broken = False
        self._ends: dict[str, End] = {}

    def accept(self, loop: ProcessLoop, factory: Callable[[], asyncio.Protocol]) -> None:
        """At the listening host."""
        end = End(self, self.server, self.client, loop)
        end.protocol = factory()
        self._ends[self.server] = end
        loop.post(end.protocol.connection_made, end)

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
        elif not self.network.is_held(end.host, end.peer):
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
        elif power or self.network.is_held(host, peer):
            other.deaf = True
        else:
            other.learns(self.network.arrival_s(host, peer) - self.network.agenda.now_s)

    def end_is_over(self) -> None:
        """One end has learned that it is over."""
        self.broken = True
        if all(end.is_over for end in self._ends.values()):
            self.network.forget(self)


def _replay(network: Medium, end: End, content: bytes) -> None:
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
