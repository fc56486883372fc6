"""One connection between two members: TCP, TLS, greeting, frames.

A connection carries messages one way: who dialed sends, and hears a welcome and nothing else. It
is encrypted first, then the dialer greets, naming the cluster, itself, and whom it takes the other
for; names are believed when the certificates say the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Protocol, cast

from rendezvous_raft.replication.raft.frames import (
    FRAME_BYTES_MAX,
    GREETING_BYTES_MAX,
    FrameError,
    FrameReader,
    encode_frame,
)
from rendezvous_raft.replication.raft.greetings import split_address

if TYPE_CHECKING:
    from rendezvous_raft.replication.raft.tls import LinkTls  # plain links need no certificates

GREETING_TIMEOUT_S = 3.0
"""From the first packet of a connection to its welcome, TLS included."""
KEEPALIVE_S = 1
"""Idle time before a probe, and between two: the least that TCP knows. Links in use notice a
silent peer earlier, by the time-out of what is not acknowledged."""

Message = dict[str, Any]


class Outbound(asyncio.Protocol):
    """A connection to a peer, made by `dial`."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._raw: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        self.reached = False
        """Whether somebody is there, whoever it is."""
        self.welcome: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done once it has ended."""

    async def dial(
        self, address: str, tls: LinkTls | None, greeting: Message, *, silence_s: float
    ) -> None:
        """Connects, finds out who answers, greets, and waits for the welcome.

        Raises:
            OSError: it cannot be reached, or refuses our certificate, or shows none of ours.
            TimeoutError: it did not answer in time.
            FrameError: somebody else answers, or the peer refuses the greeting.
        """
        async with asyncio.timeout(GREETING_TIMEOUT_S):
            await self._connect(address, tls, silence_s)
            if self._transport is None:
                raise ConnectionError("the connection ended at once")
            if tls is not None and (name := tls.peer_of(self._transport)) != greeting["to"]:
                raise FrameError(f"{name!r} answers at {address}, not {greeting['to']!r}")
            self._transport.write(encode_frame(greeting))
            await self.welcome

    async def _connect(self, address: str, tls: LinkTls | None, silence_s: float) -> None:
        loop = asyncio.get_running_loop()
        host, port = split_address(address)
        if tls is None:
            transport, _ = await loop.create_connection(lambda: self, host, port)
            self._raw = self._transport = transport
            self.reached = True
            tune(transport, silence_s)
            return
        raw, _ = await loop.create_connection(asyncio.Protocol, host, port)
        self._raw = raw
        self.reached = True
        tune(raw, silence_s)
        # Not in one step: `waiting_bytes` needs the transport below TLS.
        self._transport = await loop.start_tls(
            raw, self, tls.dialing(), ssl_handshake_timeout=GREETING_TIMEOUT_S
        )

    def data_received(self, data: bytes) -> None:
        """The peer sends one thing here: its welcome."""
        if not self.welcome.done():
            self.welcome.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, from whichever side."""
        self._raw = self._transport = None
        if not self.welcome.done():
            # With TLS 1.3 a peer refuses our certificate only after we are through.
            refused = FrameError("the peer refused the greeting")
            self.welcome.set_exception(exc or refused)
            self.welcome.exception()  # nobody may be waiting any more
        if not self.closed.done():
            self.closed.set_result(None)

    def abort(self) -> None:
        """Ends it at once; `closed` is done a moment later."""
        if self._raw is not None:
            self._raw.abort()

    def waiting_bytes(self) -> int:
        """Bytes that the operating system has not taken yet.

        TLS counts only what it has not handed on, and hands on in one go whatever had gathered
        while the socket was full: what the connection below holds must be added.
        """
        if self._raw is None or self._transport is None:
            return 0
        below = self._raw.get_write_buffer_size()
        if self._transport is self._raw:
            return below
        return below + self._transport.get_write_buffer_size()

    def write(self, message: Message) -> None:
        """Sends; dropped when the connection has ended."""
        if self._transport is not None:
            self._transport.write(encode_frame(message))


class Hall(Protocol):
    """Where connections come in: decides who may speak, and takes what they say."""

    tls: LinkTls | None
    silence_s: float

    def admit(self, inbound: Inbound, greeting: Message, certified: str | None) -> str:
        """The name of who greets so. Raises `FrameError` if it may not speak.

        Args:
            inbound: the connection.
            greeting: what it said.
            certified: the member that its certificate names; None without TLS.
        """
        ...

    def received(self, sender: str, message: Message) -> None:
        """A message of somebody admitted. Raises `FrameError` if it is none."""
        ...

    def refused(self, inbound: Inbound, reason: str) -> None:
        """A connection that was never admitted is cut off."""
        ...

    def inbound_closed(self, inbound: Inbound) -> None:
        """A connection ended."""
        ...


class Inbound(asyncio.Protocol):
    """A connection that somebody opened to us."""

    def __init__(self, hall: Hall) -> None:
        self.sender: str | None = None
        self.peer_address = "?"
        self._hall = hall
        # Until it is known who speaks there is nothing to gain from sending much.
        self._reader = FrameReader(GREETING_BYTES_MAX)
        self._certified: str | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake of TLS is done. Waits for the greeting, not for ever."""
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername") or ("?", 0)
        self.peer_address = f"{address[0]}:{address[1]}"
        tune(self._transport, self._hall.silence_s)
        self._timer = asyncio.get_running_loop().call_later(GREETING_TIMEOUT_S, self._give_up)
        if self._hall.tls is not None:
            try:
                self._certified = self._hall.tls.peer_of(transport)
            except FrameError as error:
                self._refuse(str(error))

    def _give_up(self) -> None:
        if self.sender is None:
            self._refuse(f"no greeting within {GREETING_TIMEOUT_S:g} s")

    def data_received(self, data: bytes) -> None:
        """Greeting first, then messages."""
        try:
            for message in self._reader.feed(data):
                if self._transport is None:
                    return
                if self.sender is None:
                    self.sender = self._hall.admit(self, message, self._certified)
                    self._reader.frame_bytes_max = FRAME_BYTES_MAX
                    self._transport.write(encode_frame({"type": "welcome"}))
                else:
                    self._hall.received(self.sender, message)
        except FrameError as error:
            if self.sender is None:
                self._refuse(str(error))
            else:
                self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer opens another one."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._hall.inbound_closed(self)

    def _refuse(self, reason: str) -> None:
        if self._transport is not None:
            self._hall.refused(self, reason)
            self.abort()

    def abort(self) -> None:
        """Ends the connection at once."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()


def tune(transport: asyncio.BaseTransport, silence_s: float) -> None:
    """Lets TCP send small messages at once, and give up on a peer that is gone.

    Otherwise a connection whose other end has vanished (power, partition) lives for minutes; and
    after a partition has healed, TCP would wait about as long as the partition lasted before it
    tried again. A new connection is quicker than that.

    Args:
        transport: of the connection; TLS may be on it.
        silence_s: how long sent bytes may stay unacknowledged, or unread by a peer whose buffers
            are full, before the connection counts as broken.
    """
    connection = transport.get_extra_info("socket")
    if connection is None:
        return  # a network without sockets, in a simulation
    options: list[tuple[int, str, int]] = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEPALIVE_S),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_S),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 2),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", round(silence_s * 1000)),
    ]
    for level, name, value in options:
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            with contextlib.suppress(OSError):  # one that has ended already takes none
                connection.setsockopt(level, option, value)
