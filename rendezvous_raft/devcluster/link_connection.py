"""One connection of a delayed link: two sides and a flow of chunks each way."""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast


class _End(enum.Enum):
    """How a stream ended."""

    HALF = "half"
    """The sender writes no more; the other direction goes on."""
    CLOSED = "closed"
    BROKEN = "broken"


class Link(Protocol):
    """What a connection needs of the link that it belongs to."""

    @property
    def is_cut(self) -> bool:
        """Whether nothing goes through."""
        ...

    @property
    def held_bytes_max(self) -> int:
        """Bound of the bytes that one flow holds."""
        ...

    def draw_delay_s(self) -> float:
        """Delay of the next chunk."""
        ...

    def count_delivered(self, count: int, *, to_target: bool) -> None:
        """Adds bytes that left the link."""
        ...

    def forget(self, connection: LinkConnection, *, refused: bool) -> None:
        """A connection is over."""
        ...


def reset(transport: asyncio.Transport) -> None:
    """Breaks a connection so that the other end sees it broken, not ended."""
    connected = transport.get_extra_info("socket")
    if connected is not None and not transport.is_closing():
        # Without lingering, closing sends a reset instead of an end.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Flow:
    """One direction of a connection: a queue of chunks with the times at which they are due."""

    def __init__(self, link: Link, *, to_target: bool, on_end: Callable[[_End], None]) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._to_target = to_target
        self._on_end = on_end
        self._queue: deque[tuple[float, bytes | _End]] = deque()
        self._last_due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._source: asyncio.Transport | None = None
        self._sink: asyncio.Transport | None = None
        self._sink_full = False
        self._source_paused = False
        self._dropped = False
        self.bytes_held = 0
        self.ended = False
        """Whether the end of the stream was delivered."""

    def read_from(self, source: asyncio.Transport) -> None:
        """Names the side that is slowed down when too much is held."""
        self._source = source

    def write_to(self, sink: asyncio.Transport) -> None:
        """Names the side that chunks are delivered to; delivery may begin."""
        self._sink = sink
        self._deliver()

    def push(self, chunk: bytes | _End) -> None:
        """Takes a chunk or the end of the stream, due one delay from now."""
        if self._dropped:
            return
        due_at = max(self._loop.time() + self._link.draw_delay_s(), self._last_due_at)
        self._last_due_at = due_at
        self._queue.append((due_at, chunk))
        if isinstance(chunk, bytes):
            self.bytes_held += len(chunk)
        self._steer_source()
        if self._timer is None:
            self._arm()

    def set_sink_full(self, *, full: bool) -> None:
        """The receiving side cannot take more, or can again."""
        self._sink_full = full
        if not full:
            self._deliver()

    def restart(self) -> None:
        """After a cut: everything held is due one delay from now, or later if it was."""
        earliest = self._loop.time() + self._link.draw_delay_s()
        self._queue = deque((max(due_at, earliest), chunk) for due_at, chunk in self._queue)
        self._last_due_at = max(self._last_due_at, earliest)
        self._arm()

    def stop_timer(self) -> None:
        """Delivers nothing until something re-arms it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drop(self) -> None:
        """Gives up everything held and everything that still comes."""
        self._dropped = True
        self.stop_timer()
        self._queue.clear()
        self.bytes_held = 0
        self._source = self._sink = None

    def _arm(self) -> None:
        self.stop_timer()
        if self._queue and self._sink is not None and not self._link.is_cut:
            self._timer = self._loop.call_at(self._queue[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._queue and self._sink is not None and not self._sink_full:
            if self._link.is_cut or self._queue[0][0] > now:
                break
            _, chunk = self._queue.popleft()
            if isinstance(chunk, _End):
                self._end(self._sink, chunk)
            else:
                self.bytes_held -= len(chunk)
                self._link.count_delivered(len(chunk), to_target=self._to_target)
                self._sink.write(chunk)
        self._steer_source()
        if not self._sink_full:
            self._arm()

    def _end(self, sink: asyncio.Transport, end: _End) -> None:
        if end is _End.HALF:
            if sink.can_write_eof() and not sink.is_closing():
                sink.write_eof()
        elif end is _End.BROKEN:
            reset(sink)
        else:
            sink.close()
        self.ended = True
        self._on_end(end)

    def _steer_source(self) -> None:
        """Stops reading above the bound, and reads again below half of it."""
        source = self._source
        if source is None or source.is_closing():
            return
        if not self._source_paused and self.bytes_held >= self._link.held_bytes_max:
            source.pause_reading()
            self._source_paused = True
        elif self._source_paused and self.bytes_held <= self._link.held_bytes_max // 2:
            source.resume_reading()
            self._source_paused = False


class _Side(asyncio.Protocol):
    """One end of a connection: feeds one flow and is fed by the other."""

    def __init__(self, connection: LinkConnection, *, outgoing: _Flow, incoming: _Flow) -> None:
        self._connection = connection
        self._outgoing = outgoing
        self._incoming = incoming
        self.transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of a stream server it always is one, though not every loop's class says so.
        stream = self.transport = cast("asyncio.Transport", transport)
        self._outgoing.read_from(stream)
        self._incoming.write_to(stream)
        self._connection.side_made(self)

    def data_received(self, chunk: bytes) -> None:
        self._outgoing.push(chunk)

    def eof_received(self) -> bool:
        self._outgoing.push(_End.HALF)
        return True  # keep the other direction open

    def pause_writing(self) -> None:
        self._incoming.set_sink_full(full=True)

    def resume_writing(self) -> None:
        self._incoming.set_sink_full(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._incoming.drop()
        self._outgoing.push(_End.CLOSED if exc is None else _End.BROKEN)
        self._connection.side_lost()


class LinkConnection:
    """The two sides of one accepted connection and the flows between them."""

    def __init__(self, link: Link, target: tuple[str, int]) -> None:
        self._link = link
        self._target = target
        self._out = _Flow(link, to_target=True, on_end=self._stream_ended)
        self._back = _Flow(link, to_target=False, on_end=self._stream_ended)
        self.near = _Side(self, outgoing=self._out, incoming=self._back)
        self._far = _Side(self, outgoing=self._back, incoming=self._out)
        self._dialling: asyncio.Task[None] | None = None
        self._over = False

    @property
    def bytes_held(self) -> int:
        """Bytes under way in both directions."""
        return self._out.bytes_held + self._back.bytes_held

    def side_made(self, side: _Side) -> None:
        """A side is connected; the near one makes the link dial its target."""
        if side is self.near and not self._link.is_cut:
            self._dial()

    def side_lost(self) -> None:
        """A side is gone; with both gone, or nobody to tell, the connection is over."""
        dialled = self._far.transport is not None or self._dialling is not None
        if self.near.lost and (self._far.lost or not dialled):
            self._finish()

    def hold(self) -> None:
        """The link was cut."""
        self._out.stop_timer()
        self._back.stop_timer()

    def release(self) -> None:
        """The link healed."""
        if self._far.transport is None:
            self._dial()
        self._out.restart()
        self._back.restart()

    def break_off(self) -> None:
        """Breaks both sides at once."""
        for side in (self.near, self._far):
            if side.transport is not None:
                reset(side.transport)
        self._finish()

    async def abort(self) -> None:
        """Breaks both sides and waits for an unfinished dial."""
        self.break_off()
        if self._dialling is not None:
            await asyncio.gather(self._dialling, return_exceptions=True)

    def _stream_ended(self, end: _End) -> None:
        # After both halves ended nothing more can come, and nobody would tell.
        if end is not _End.HALF or (self._out.ended and self._back.ended):
            self._finish()

    def _dial(self) -> None:
        if self._dialling is None and not self._over:
            self._dialling = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        host, port = self._target
        try:
            await asyncio.get_running_loop().create_connection(lambda: self._far, host, port)
        except OSError:
            if self.near.transport is not None:
                reset(self.near.transport)
            self._finish(refused=True)

    def _finish(self, *, refused: bool = False) -> None:
        if self._over:
            return
        self._over = True
        self._out.drop()
        self._back.drop()
        for side in (self.near, self._far):
            if side.transport is not None and not side.transport.is_closing():
                side.transport.close()
        if self._dialling is not None and self._far.transport is None and not refused:
            self._dialling.cancel()
        self._link.forget(self, refused=refused)
