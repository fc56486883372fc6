"""Links to the other members over TCP and TLS, on the node's own loop.

Each member opens one connection to each other member and sends on it; what it receives comes on
the connections that others opened to it. Members of two clusters, or a node that took over another
one's address, never mix: see `connections.py`.

A sender that is no peer is a *guest*: heard all the same, and answered where its greeting says, for
it may be a leader of whom this node does not know yet (thesis 4.1). The rules decide what it may
say.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pysyncobj.node import Node

from rendezvous_raft.replication.observer import LinkObserver, SilentLinkObserver
from rendezvous_raft.replication.raft import connections
from rendezvous_raft.replication.raft.connections import Inbound, Message, Outbound
from rendezvous_raft.replication.raft.frames import FrameError
from rendezvous_raft.replication.raft.greetings import (
    Caller,
    greeting_of,
    read_greeting,
    split_address,
)
from rendezvous_raft.replication.raft.links import EngineLinks
from rendezvous_raft.replication.raft.messages import check_message
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.replication.raft.outbox import Outbox, Positions

if TYPE_CHECKING:
    from rendezvous_raft.replication.raft.tls import LinkTls  # plain links need no certificates

WINDOW_BYTES = 1024 * 1024
"""Bytes that may wait for a slow peer before entries are held back."""
BUFFER_BYTES_MAX = 8 * 1024 * 1024
"""Bytes that may wait for a slow peer at all; beyond them messages are dropped."""
GUESTS_MAX = 16
"""Senders that are no members and are heard all the same; a cluster has no more members itself."""
RECONNECT_S = 0.2
RECONNECT_MAX_S = 2.0
SILENCE_S = 0.3
"""The shortest election time-out of the profile `lan`."""


class TcpLinks(EngineLinks):
    """PySyncObj's transport over asyncio connections.

    Args:
        name: of this member.
        cluster_id: members of other clusters are refused.
        listen: where to listen, host:port.
        address: where others dial it; told to those who do not know this member.
        birth: of its data directory; told to everybody.
        peers: addresses of the others, by name.
        positions: how far the log is synced; what is sent waits for it.
        on_connected: is told that a link to a peer stands.
        on_greeted: is told which directory speaks for a peer that can be heard now, and which
            version of commands it knows.
        on_lost: is told that a peer cannot be heard any more.
        rng: chance, for pauses.
        tls: certificates, ours and of those we trust; None for plain text.
        silence_s: how long a peer may be silent to TCP before its connection is given up; at most
            the shortest election time-out, so that links are tried anew when elections begin.
        observer: is told who was refused.
        window_bytes: bytes that may wait for a slow peer before entries are held back.
    """

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
        on_greeted: Callable[[Node, Birth, int], None],
        on_lost: Callable[[Node], None],
        rng: random.Random,
        tls: LinkTls | None = None,
        silence_s: float = SILENCE_S,
        observer: LinkObserver | None = None,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        super().__init__()
        self.name = name
        self._window_bytes = window_bytes
        self.cluster_id = cluster_id
        self.tls = tls
        self.silence_s = silence_s
        self.observer = observer or SilentLinkObserver()
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
        self._dropped_links: dict[_Link, None] = {}
        self._server: asyncio.Server | None = None
        self._inbound: dict[Inbound, None] = {}
        self._is_open = False
        self.refused_greetings = 0

    async def open(self) -> None:
        """Listens, and begins to connect to the peers."""
        host, port = split_address(self._listen)
        loop = asyncio.get_running_loop()
        if self.tls is None:
            self._server = await loop.create_server(lambda: Inbound(self), host, port)
        else:
            self._server = await loop.create_server(
                lambda: Inbound(self),
                host,
                port,
                ssl=self.tls.accepting(),
                ssl_handshake_timeout=connections.GREETING_TIMEOUT_S,
            )
        self._is_open = True
        for link in self._links.values():
            link.start()

    async def close(self) -> None:
        """Closes every connection; nothing is received afterwards."""
        self.silence()
        for link in [*self._links.values(), *self._guests.values(), *self._dropped_links]:
            await link.wait_ended()

    def silence(self) -> None:
        """Cuts every connection for good: a node that has halted neither speaks nor listens."""
        self._is_open = False
        if self._server is not None:
            self._server.close()
        for link in [*self._links.values(), *self._guests.values()]:
            link.abort()
        for inbound in list(self._inbound):
            inbound.abort()

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """See `EngineLinks.set_peers`."""
        for name in [name for name in self._links if name not in peers]:
            self._drop_link(name)
        for name, address in peers.items():
            self._part_with(name)
            link = self._links.get(name)
            if link is not None and link.address == address:
                continue
            if link is not None:
                self._drop_link(name, listening_too=False)
            self._links[name] = link = _Link(self, Node(name), address)
            if self._is_open:
                link.start()

    def _drop_link(self, name: str, *, listening_too: bool = True) -> None:
        self._end(self._links.pop(name))
        if listening_too:
            # If it speaks again, it does so as a guest, who is answered.
            self._cut_inbound_of(name)

    def _part_with(self, name: str) -> None:
        """Ends the link to a guest, if there is one of that name."""
        link = self._guests.pop(name, None)
        if link is not None:
            self._end(link)

    def _end(self, link: _Link) -> None:
        link.abort()
        if not link.has_ended:
            self._dropped_links[link] = None

    def _cut_inbound_of(self, name: str) -> None:
        for inbound in [inbound for inbound in self._inbound if inbound.sender == name]:
            del self._inbound[inbound]
            inbound.abort()

    def link_ended(self, link: _Link) -> None:
        """A link that was dropped has nothing left to do."""
        self._dropped_links.pop(link, None)

    def send(self, node: Node, message: Message) -> bool:
        """Sends once what it says is on disk; it may get lost. PySyncObj's interface."""
        self._outbox.send(node, message)
        return True

    def release(self) -> None:
        """The log was synced: sends what waited for that."""
        self._outbox.release()

    def is_open(self, node: Node) -> bool:
        """See `Links.is_open`; false for one that is not known (any more)."""
        link = self._find(node)
        return link is not None and link.is_open

    def has_room(self, node: Node) -> bool:
        """See `Links.has_room`; false for one that is not known (any more)."""
        link = self._find(node)
        return link is not None and link.waiting_bytes() < self._window_bytes

    def _find(self, node: Node) -> _Link | None:
        name = str(node.id)
        return self._links.get(name) or self._guests.get(name)

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Links.soon`."""
        asyncio.get_running_loop().call_soon(callback)

    def reconnect_delay_s(self, tries: int) -> float:
        """Seconds before the next try to connect, with jitter."""
        cap_s = min(RECONNECT_MAX_S, RECONNECT_S * 2**tries)
        return cap_s * (0.5 + self._rng.random() / 2)

    def _deliver(self, node: Node, message: Message) -> None:
        link = self._find(node)
        if link is not None:  # the peer may have been removed while the message waited
            link.write(message)

    def link_opened(self, node: Node) -> None:
        """A connection to a peer stands."""
        self._onNodeConnected(node)
        self._on_connected(node)

    def link_closed(self, node: Node) -> None:
        """A connection to a peer broke."""
        self._onNodeDisconnected(node)

    # What comes in (connections.Hall)

    def admit(self, inbound: Inbound, greeting: Message, certified: str | None) -> str:
        """Checks a greeting. Raises `FrameError` with the reason."""
        if not self._is_open:
            raise FrameError("this node has halted")
        caller = read_greeting(greeting, cluster_id=self.cluster_id, receiver=self.name)
        sender = caller.name
        if certified not in (None, sender):
            raise FrameError(f"it calls itself {sender!r} and has the certificate of {certified!r}")
        if sender not in self._links:
            self._check_guest(caller)
        # A newer connection of a peer replaces the older one, which may hang half-open.
        self._cut_inbound_of(sender)
        self._inbound[inbound] = None
        self._answer_at(caller)
        self._on_greeted(Node(sender), caller.birth, caller.command_version)
        return sender

    def _check_guest(self, caller: Caller) -> None:
        """Raises `FrameError` if we have nothing to say to one that is no peer."""
        if caller.answering:
            # It only answers us, and we have not asked: two strangers would never part.
            raise FrameError(f"{caller.name!r} is no member, and does not count us as one")
        if caller.name not in self._guests and len(self._guests) >= GUESTS_MAX:
            raise FrameError(f"{caller.name!r} is no member, and too many others are here")

    def _answer_at(self, caller: Caller) -> None:
        """Lets the link back to who called stand soon."""
        link = self._links.get(caller.name)
        if link is None:
            known = self._guests.get(caller.name)
            if known is not None and known.address != caller.address:
                self._part_with(caller.name)
                known = None
            if known is None:
                known = _Link(self, Node(caller.name), caller.address, answering=True)
                self._guests[caller.name] = known
                known.start()
            link = known
        link.hurry()

    def refused(self, inbound: Inbound, reason: str) -> None:
        """See `Hall.refused`."""
        self.refused_greetings += 1
        self.observer.peer_refused(inbound.peer_address, reason)

    def received(self, sender: str, message: Message) -> None:
        """Hands a message to the rules. Raises `FrameError` if it is none of theirs."""
        check_message(message)
        self._onMessageReceived(Node(sender), message)

    def inbound_closed(self, inbound: Inbound) -> None:
        """An inbound connection ended; nothing to say if another one has taken its place."""
        if inbound in self._inbound and inbound.sender is not None:
            del self._inbound[inbound]
            self._part_with(inbound.sender)
            self._on_lost(Node(inbound.sender))


class _Link:
    """What leads to one peer: a connection, opened again whenever it breaks."""

    def __init__(
        self, links: TcpLinks, node: Node, address: str, *, answering: bool = False
    ) -> None:
        self.node = node
        self.address = address
        self.is_open = False
        self.tries = 0
        """Tries in vain since it was open last."""
        self.dropped = 0
        self._answering = answering
        self._links = links
        self._connection: Outbound | None = None
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def start(self) -> None:
        """Begins to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(lambda _task: self._links.link_ended(self))

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left (or was never begun)."""
        return self._task is None or self._task.done()

    def abort(self) -> None:
        """Ends the connection and the tries, at once."""
        if self._task is not None:
            self._task.cancel()
        self._break_off()

    async def wait_ended(self) -> None:
        """Returns when nothing of it is left, after `abort`."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def hurry(self) -> None:
        """The peer is there: no reason to pause any longer."""
        self._hurry.set()

    async def _run(self) -> None:
        while True:
            self._hurry.clear()
            if await self._connect():
                self.tries = 0
                await self._until_closed()
            delay_s = self._links.reconnect_delay_s(self.tries)
            self.tries += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._hurry.wait()

    async def _connect(self) -> bool:
        links = self._links
        caller = Caller(links.name, links.address, links.birth, answering=self._answering)
        greeting = greeting_of(caller, cluster_id=links.cluster_id, receiver=str(self.node.id))
        self._connection = connection = Outbound()
        try:
            await connection.dial(self.address, links.tls, greeting, silence_s=links.silence_s)
        except (OSError, ValueError) as error:  # ValueError: FrameError, or no name of a host
            self._break_off()
            # Nobody there, or nobody answers: that is no refusal, and the status shows it.
            if connection.reached and not isinstance(error, TimeoutError):
                links.observer.peer_refused(str(self.node.id), str(error))
            return False
        self.is_open = True
        links.link_opened(self.node)
        return True

    async def _until_closed(self) -> None:
        if self._connection is not None:
            await asyncio.shield(self._connection.closed)
        self._break_off()

    def _break_off(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        if self.is_open:
            self.is_open = False
            self._links.link_closed(self.node)

    def waiting_bytes(self) -> int:
        """Bytes that the operating system has not taken yet."""
        return 0 if self._connection is None else self._connection.waiting_bytes()

    def write(self, message: Message) -> None:
        """Sends, or drops when there is no connection or far too much waits."""
        if not self.is_open or self._connection is None:
            return
        if self.waiting_bytes() > BUFFER_BYTES_MAX:
            self.dropped += 1
            return
        self._connection.write(message)
