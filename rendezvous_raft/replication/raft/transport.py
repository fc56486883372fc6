"""Links to the other members over TCP, on the node's own loop.

Each member opens one connection to each other member and sends on it; what it receives comes on
the connections that others opened to it. A connection begins with a greeting that names the
cluster, the sender and whom it takes the receiver for, so that members of two clusters, or a node
that took over another one's address, never mix (replication 4). A sender that is no peer is heard
all the same, and answered where its greeting says: it may be a leader of whom this node does not
know yet (thesis 4.1). What it may say is up to the rules.
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
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.replication.raft.outbox import Outbox, Positions

WINDOW_BYTES = 1024 * 1024
"""Bytes that may wait for a slow peer before entries are held back."""
BUFFER_BYTES_MAX = 8 * 1024 * 1024
"""Bytes that may wait for a slow peer at all; beyond them messages are dropped."""
RECONNECT_S = 0.2
RECONNECT_MAX_S = 2.0
GREETING_TIMEOUT_S = 3.0
GUESTS_MAX = 16
"""Senders that are no members and are heard all the same; a cluster has no more members itself."""

Message = dict[str, Any]


class TcpLinks(EngineLinks):
    """PySyncObj's transport over asyncio connections."""

    def __init__(
        self,
        *,
        name: str,
        cluster_id: str,
        listen: str,
        address: str,
        birth: Birth,
        peers: Mapping[str, str],
        positions: Positions,
        on_connected: Callable[[Node], None],
        on_greeted: Callable[[Node, Birth], None],
        on_lost: Callable[[Node], None],
        rng: random.Random,
    ) -> None:
        super().__init__()
        self.name = name
        self.cluster_id = cluster_id
        self.address = address
        self.birth = birth
        self._listen = listen
        self._rng = rng
        self._on_connected = on_connected
        self._on_greeted = on_greeted
        self._on_lost = on_lost
        self._outbox = Outbox(positions, self._deliver)
        self._links = {peer: _Link(self, Node(peer), where) for peer, where in peers.items()}
        self._guests: dict[str, _Link] = {}
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
        for link in self._all_links():
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

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """See `EngineLinks.set_peers`."""
        for name, link in list(self._links.items()):
            if peers.get(name) != link.address:
                del self._links[name]
                link.abort()
                # If it speaks again, it does so as a guest, who is answered.
                self._cut_off(name)
        for name, address in peers.items():
            guest = self._guests.pop(name, None)
            if guest is not None:
                guest.abort()
            if name not in self._links:
                self._links[name] = _Link(self, Node(name), address)
                self._links[name].start()

    def is_open(self, node: Node) -> bool:
        """See `Links.is_open`."""
        link = self._find(node)
        return link is not None and link.is_open

    def has_room(self, node: Node) -> bool:
        """See `Links.has_room`."""
        link = self._find(node)
        return link is not None and link.waiting_bytes() < WINDOW_BYTES

    def _find(self, node: Node) -> _Link | None:
        return self._links.get(str(node.id)) or self._guests.get(str(node.id))

    def _all_links(self) -> list[_Link]:
        return [*self._links.values(), *self._guests.values()]

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Links.soon`."""
        asyncio.get_running_loop().call_soon(callback)

    def reconnect_delay_s(self, tries: int) -> float:
        """Seconds before the next try to connect, with jitter."""
        cap_s = min(RECONNECT_MAX_S, RECONNECT_S * 2**tries)
        return cap_s * (0.5 + self._rng.random() / 2)

    def _deliver(self, node: Node, message: Message) -> None:
        link = self._find(node)
        if link is not None:
            link.write(message)

    def link_opened(self, node: Node) -> None:
        """A connection to a peer stands."""
        self._onNodeConnected(node)
        self._on_connected(node)

    def link_closed(self, node: Node) -> None:
        """A connection to a peer broke."""
        self._onNodeDisconnected(node)

    def greeted(self, inbound: _Inbound, greeting: Message) -> Node:
        """Checks the greeting of an inbound connection. Raises `FrameError` with the reason."""
        try:
            if self._silenced:
                raise FrameError("this node has halted")
            sender, address, birth = read_greeting(greeting, self.cluster_id, self.name)
            if sender not in (*self._links, *self._guests):
                self._check_room_for_guest(sender, greeting)
        except FrameError:
            self.refused_greetings += 1
            raise
        # A newer connection of a peer replaces the older one, which may hang half-open.
        self._cut_off(sender)
        self._inbound[inbound] = None
        if sender not in self._links and sender not in self._guests:
            self._guests[sender] = _Link(self, Node(sender), address, answering=True)
            self._guests[sender].start()
        self._on_greeted(Node(sender), birth)
        return Node(sender)

    def _check_room_for_guest(self, sender: str, greeting: Message) -> None:
        if greeting.get("answering") is not False:
            # It only answers us, and we have nothing to say: two strangers would never part.
            raise FrameError(f"{sender!r} is no member, and does not count us as one")
        if len(self._guests) >= GUESTS_MAX:
            raise FrameError(f"{sender!r} is no member, and too many others are here")

    def _cut_off(self, sender: str) -> None:
        """Ends the inbound connections of a sender, if there are any."""
        for inbound in list(self._inbound):
            if inbound.sender is not None and inbound.sender.id == sender:
                del self._inbound[inbound]
                inbound.abort()

    def inbound_closed(self, inbound: _Inbound) -> None:
        """An inbound connection ended."""
        if inbound in self._inbound and inbound.sender is not None:
            del self._inbound[inbound]
            guest = self._guests.pop(str(inbound.sender.id), None)
            if guest is not None:
                guest.abort()
            self._on_lost(inbound.sender)

    def received(self, node: Node, message: Message) -> None:
        """Hands a message to the rules. Raises `FrameError` if it is none of theirs."""
        check_message(message)
        self._onMessageReceived(node, message)

    def silence(self) -> None:
        """Cuts every connection for good: a node that has halted neither speaks nor listens."""
        self._silenced = True
        if self._server is not None:
            self._server.close()
        for link in self._all_links():
            link.abort()
        for inbound in list(self._inbound):
            inbound.abort()


class _Link(asyncio.Protocol):
    """The outbound connection to one peer; opened again whenever it breaks."""

    def __init__(
        self, links: TcpLinks, node: Node, address: str, *, answering: bool = False
    ) -> None:
        self.node = node
        self.is_open = False
        self._links = links
        self.address = address
        self._answering = answering
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
        host, port = split_address(self.address)
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
            "address": self._links.address,
            "incarnation": self._links.birth.incarnation,
            "founding": self._links.birth.founding,
            "answering": self._answering,
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


def read_greeting(greeting: Message, cluster_id: str, name: str) -> tuple[str, str, Birth]:
    """Sender, its address and its birth. Raises `FrameError` if it is not meant for `name`."""
    expected = ("hello", FRAME_VERSION, cluster_id, name)
    found = tuple(greeting.get(key) for key in ("type", "version", "cluster", "to"))
    fields = [greeting.get(key) for key in ("from", "address", "incarnation", "founding")]
    complete = [type(field) for field in fields] == [str, str, int, bool]
    if found != expected or not complete or fields[0] == name:
        raise FrameError(f"greeting {found!r} from {fields!r}, expected {expected!r}")
    sender, address, incarnation, founding = cast("tuple[str, str, int, bool]", tuple(fields))
    try:
        split_address(address)
    except ValueError as error:
        raise FrameError(f"{sender!r} says that it is at {address!r}") from error
    return sender, address, Birth(incarnation, founding=founding)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; the host may be a bracketed IPv6 address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
