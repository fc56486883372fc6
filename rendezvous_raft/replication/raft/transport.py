"""Links to the other members over TCP, on the node's own loop.

Each member opens one connection to each other member and sends on it; what it receives comes on
the connections that others opened to it. A connection begins with a greeting that names the
cluster, the sender and whom it takes the receiver for, so that members of two clusters, or a node
that took over another one's address, never mix (replication 4).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, cast

from pysyncobj.node import Node

from rendezvous_raft.replication.raft.frames import (
    FRAME_VERSION,
    FrameError,
    FrameReader,
    encode_frame,
)
from rendezvous_raft.replication.raft.links import EngineLinks
from rendezvous_raft.replication.raft.messages import check_message
from rendezvous_raft.replication.raft.outbox import Outbox, Positions

WINDOW_BYTES = 1024 * 1024
"""Bytes that may wait for a slow peer before entries are held back."""
BUFFER_BYTES_MAX = 8 * 1024 * 1024
"""Bytes that may wait for a slow peer at all; beyond them messages are dropped."""
RECONNECT_S = 0.2
RECONNECT_MAX_S = 2.0
GREETING_TIMEOUT_S = 3.0

Message = dict[str, Any]


class TcpLinks(EngineLinks):
    """PySyncObj's transport over asyncio connections."""

    def __init__(
        self,
        *,
        name: str,
        cluster_id: str,
        listen: str,
        peers: Mapping[str, str],
        positions: Positions,
        on_connected: Callable[[Node], None],
        rng: random.Random,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        super().__init__()
        self.name = name
        self._window_bytes = window_bytes
        self.cluster_id = cluster_id
        self._listen = listen
        self._rng = rng
        self._on_connected = on_connected
        self._outbox = Outbox(positions, self._deliver)
        self._links = {peer: _Link(self, Node(peer), address) for peer, address in peers.items()}
        self._server: asyncio.Server | None = None
        self._inbound: dict[_Inbound, None] = {}
        self._silenced = False
        self.refused_greetings = 0

    async def open(self) -> None:
        """Listens, and begins to connect to the peers."""
        host, port = split_address(self._listen)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Inbound(self), host, port)
        for link in self._links.values():
            link.start()

    async def close(self) -> None:
        """Closes every connection; nothing is received afterwards."""
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            await link.close()
        for inbound in list(self._inbound):
            inbound.abort()

    def send(self, node: Node, message: Message) -> bool:
        """Sends once what it says is on disk; it may get lost. PySyncObj's interface."""
        self._outbox.send(node, message)
        return True

    def release(self) -> None:
        """The log was synced: sends what waited for that."""
        self._outbox.release()

    def is_open(self, node: Node) -> bool:
        """See `Links.is_open`."""
        return self._links[str(node.id)].is_open

    def has_room(self, node: Node) -> bool:
        """See `Links.has_room`."""
        return self._links[str(node.id)].waiting_bytes() < self._window_bytes

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Links.soon`."""
        asyncio.get_running_loop().call_soon(callback)

    def reconnect_delay_s(self, tries: int) -> float:
        """Seconds before the next try to connect, with jitter."""
        cap_s = min(RECONNECT_MAX_S, RECONNECT_S * 2**tries)
        return cap_s * (0.5 + self._rng.random() / 2)

    def _deliver(self, node: Node, message: Message) -> None:
        self._links[str(node.id)].write(message)

    def link_opened(self, node: Node) -> None:
        """A connection to a peer stands."""
        self._onNodeConnected(node)
        self._on_connected(node)

    def link_closed(self, node: Node) -> None:
        """A connection to a peer broke."""
        self._onNodeDisconnected(node)

    def greeted(self, inbound: _Inbound, greeting: Message) -> Node:
        """Checks the greeting of an inbound connection. Raises `FrameError` with the reason."""
        expected = ("hello", FRAME_VERSION, self.cluster_id, self.name)
        found = tuple(greeting.get(key) for key in ("type", "version", "cluster", "to"))
        sender = str(greeting.get("from"))
        if self._silenced or found != expected or sender not in self._links:
            self.refused_greetings += 1
            raise FrameError(f"greeting {found!r} from {sender!r}, expected {expected!r}")
        # A newer connection of a peer replaces the older one, which may hang half-open.
        for other in [i for i in self._inbound if i.sender is not None and i.sender.id == sender]:
            other.abort()
        self._inbound[inbound] = None
        return self._links[sender].node

    def inbound_closed(self, inbound: _Inbound) -> None:
        """An inbound connection ended."""
        self._inbound.pop(inbound, None)

    def received(self, node: Node, message: Message) -> None:
        """Hands a message to the rules. Raises `FrameError` if it is none of theirs."""
        check_message(message)
        self._onMessageReceived(node, message)

    def silence(self) -> None:
        """Cuts every connection for good: a node that has halted neither speaks nor listens."""
        self._silenced = True
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            link.abort()
        for inbound in list(self._inbound):
            inbound.abort()


class _Link(asyncio.Protocol):
    """The outbound connection to one peer; opened again whenever it breaks."""

    def __init__(self, links: TcpLinks, node: Node, address: str) -> None:
        self.node = node
        self.is_open = False
        self._links = links
        self._address = address
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] | None = None
        self._welcome: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def start(self) -> None:
        """Begins to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Ends the connection and the tries."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.abort()

    def abort(self) -> None:
        """Ends the connection and the tries, at once."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def _run(self) -> None:
        tries = 0
        while True:
            if await self._connect():
                tries = 0
                await cast("asyncio.Future[None]", self._closed)
            await asyncio.sleep(self._links.reconnect_delay_s(tries))
            tries += 1

    async def _connect(self) -> bool:
        loop = asyncio.get_running_loop()
        host, port = split_address(self._address)
        self._closed, self._welcome = loop.create_future(), loop.create_future()
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                await loop.create_connection(lambda: self, host, port)
                await self._welcome
        except (OSError, TimeoutError, FrameError):
            if self._transport is not None:
                self._transport.abort()
            return False
        self.is_open = True
        self._links.link_opened(self.node)
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the peer."""
        self._transport = cast("asyncio.Transport", transport)
        greeting = {
            "type": "hello",
            "version": FRAME_VERSION,
            "cluster": self._links.cluster_id,
            "from": self._links.name,
            "to": str(self.node.id),
        }
        self._transport.write(encode_frame(greeting))

    def data_received(self, data: bytes) -> None:
        """The peer sends one thing here: its welcome."""
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection broke; `_run` opens another."""
        self._transport = None
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(FrameError("the peer refused the greeting"))
        if self.is_open:
            self.is_open = False
            self._links.link_closed(self.node)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def waiting_bytes(self) -> int:
        """Bytes that the operating system has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, message: Message) -> None:
        """Sends, or drops when there is no connection or far too much waits."""
        if not self.is_open or self._transport is None:
            return
        if self.waiting_bytes() > BUFFER_BYTES_MAX:
            self.dropped += 1
            return
        self._transport.write(encode_frame(message))


class _Inbound(asyncio.Protocol):
    """A connection that a peer opened."""

    def __init__(self, links: TcpLinks) -> None:
        self.sender: Node | None = None
        self._links = links
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the greeting, not for ever."""
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(GREETING_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        if self.sender is None:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Greeting first, then messages."""
        try:
            for message in self._reader.feed(data):
                if self._transport is None:
                    return
                if self.sender is None:
                    self.sender = self._links.greeted(self, message)
                    self._transport.write(encode_frame({"type": "welcome"}))
                else:
                    self._links.received(self.sender, message)
        except FrameError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer opens another one."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._links.inbound_closed(self)

    def abort(self) -> None:
        """Ends the connection at once."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; the host may be a bracketed IPv6 address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
