"""A TCP link with a one-way delay, for regions that are processes on one machine.

Theory of operation. A link listens on loopback and connects every connection that it accepts to its
target. Each direction is a *flow*: chunks read on one side wait in a queue with the time at which
they are due and are written to the other side then, in order. The delay costs no throughput, for
any number of chunks may be under way; a flow that holds more than its bound stops reading until
some have left, as a full window does. Ends of a stream travel in the same queue, so that half of a
connection may be closed and the rest still arrives.

A cut link is silent: nothing is delivered, new connections are accepted and stay without an answer,
and what was under way arrives after the link heals, as retransmissions would. Connecting itself is
not delayed: the handshake with the target is local.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Self, cast

from rendezvous_raft.devcluster.link_connection import LinkConnection, reset

LOOPBACK = "127.0.0.1"
HELD_BYTES_MAX = 16 * 1024 * 1024
"""Bytes that one direction of a connection may hold: 1 Gbit/s for 128 ms."""
CONNECTIONS_MAX = 1_024
"""Connections of one link; further ones are refused."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """A snapshot of what went through a link."""

    connections_open: int
    connections_total: int
    connections_refused: int
    """Because the link held too many, was cut with `reset`, or its target did not answer."""
    bytes_to_target: int
    """Delivered to the target."""
    bytes_from_target: int
    """Delivered to the side that connected."""
    bytes_held: int
    """Under way now."""
    cut: bool


class DelayLink:
    """Forwards every connection to `target_host:target_port`, each chunk `one_way_s` later.

    Belongs to one event loop. `address` is known after `start`.

    Args:
        target_host: where connections lead to.
        target_port: its port.
        one_way_s: delay of each direction, in seconds.
        jitter_s: more delay, drawn per chunk from 0 to this; the order stays.
        seed: of the jitter.
        held_bytes_max: bound of the bytes under way in one direction of one connection.

    Example:
        async with DelayLink(target_host="127.0.0.1", target_port=6379, one_way_s=0.045) as link:
            host, _, port = link.address.rpartition(":")
    """

    def __init__(
        self,
        *,
        target_host: str,
        target_port: int,
        one_way_s: float,
        jitter_s: float = 0.0,
        seed: int = 0,
        held_bytes_max: int = HELD_BYTES_MAX,
    ) -> None:
        if one_way_s < 0 or jitter_s < 0 or held_bytes_max < 1:
            raise ValueError("a link needs delays of at least 0 and a bound of at least 1 byte")
        self.one_way_s = one_way_s
        """Delay of chunks read from now on; may be changed while the link runs."""
        self.jitter_s = jitter_s
        self._target = (target_host, target_port)
        self._random = Random(seed)  # noqa: S311 - reproducible delays, nothing secret
        self._held_bytes_max = held_bytes_max
        self._server: asyncio.Server | None = None
        self._connections: dict[LinkConnection, None] = {}
        self._cut = False
        self._refusing = False
        self._total = 0
        self._refused = 0
        self._delivered = {True: 0, False: 0}

    @property
    def address(self) -> str:
        """`host:port` of the near end.

        Raises:
            RuntimeError: the link does not run.
        """
        return f"{LOOPBACK}:{self.port}"

    @property
    def port(self) -> int:
        """Port of the near end.

        Raises:
            RuntimeError: the link does not run.
        """
        if self._server is None:
            raise RuntimeError("the link does not run")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens on a free loopback port. The target need not listen yet."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, LOOPBACK, 0)

    async def stop(self) -> None:
        """Stops listening and breaks every connection. Twice is harmless."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._connections):
            await connection.abort()
        if server is not None:
            await server.wait_closed()

    def cut(self, *, reset: bool = False) -> None:
        """Lets nothing through until `heal`.

        Args:
            reset: break the connections and refuse new ones, instead of silence.
        """
        self._cut = True
        self._refusing = reset
        for connection in list(self._connections):
            if reset:
                connection.break_off()
            else:
                connection.hold()

    def heal(self) -> None:
        """Lets everything through again; what was under way arrives one delay from now."""
        self._cut = self._refusing = False
        for connection in list(self._connections):
            connection.release()

    def statistics(self) -> LinkStatistics:
        """An immutable snapshot."""
        return LinkStatistics(
            connections_open=len(self._connections),
            connections_total=self._total,
            connections_refused=self._refused,
            bytes_to_target=self._delivered[True],
            bytes_from_target=self._delivered[False],
            bytes_held=sum(connection.bytes_held for connection in self._connections),
            cut=self._cut,
        )

    def _accept(self) -> asyncio.Protocol:
        self._total += 1
        if self._refusing or len(self._connections) >= CONNECTIONS_MAX:
            self._refused += 1
            return _Refusal()
        connection = LinkConnection(self, self._target)
        self._connections[connection] = None
        return connection.near

    # What a connection needs of its link.

    @property
    def is_cut(self) -> bool:
        """Whether nothing goes through."""
        return self._cut

    @property
    def held_bytes_max(self) -> int:
        """Bound of the bytes that one flow holds."""
        return self._held_bytes_max

    def draw_delay_s(self) -> float:
        """Delay of the next chunk."""
        if not self.jitter_s:
            return self.one_way_s
        return self.one_way_s + self._random.uniform(0, self.jitter_s)

    def count_delivered(self, count: int, *, to_target: bool) -> None:
        """Adds bytes that left the link."""
        self._delivered[to_target] += count

    def forget(self, connection: LinkConnection, *, refused: bool) -> None:
        """A connection is over."""
        self._connections.pop(connection, None)
        self._refused += refused


class _Refusal(asyncio.Protocol):
    """Breaks a connection that the link does not take."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        reset(cast("asyncio.Transport", transport))
