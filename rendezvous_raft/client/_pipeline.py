"""Concurrent writes on one `Execute` stream.

A write is sent at once while few batches are out. Nearby that is all it takes: batches return
quickly, and grow with the load. To a node that is a region away from its leader they would be out
for a round trip each; so more may follow, a short pause after each, in which writes gather. Results
come back one by one, in any order.

When the stream breaks, nobody knows which of the writes on it were done: each fails with
`Disconnected`, and the policy sends it again with the same ids. Writes that had not left fail with
`Unavailable`, which is definite.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client._calls import duration
from rendezvous_raft.client._errors import deadline_passed, error_from_call, error_from_failure
from rendezvous_raft.errors import (
    DeadlineExceeded,
    Disconnected,
    Overloaded,
    RendezvousError,
    Unavailable,
)
from rendezvous_raft.limits import BRANCHES_PER_CALL_MAX, GRPC_MESSAGE_BYTES_MAX

BATCHES_UNPACED_MAX = 4
"""Batches without all their results before there is a pause after each."""
BATCHES_OUT_MAX = 64
"""Batches without all their results; as many as a node has Raft entries on their way."""
BATCH_PACE_S = 0.002
BATCH_WRITES_MAX = BRANCHES_PER_CALL_MAX
BATCH_BYTES_MAX = GRPC_MESSAGE_BYTES_MAX // 2
"""A larger single write travels alone."""
WRITES_MAX = 10_000
"""Writes of one pipeline, waiting and on their way."""
STREAM_AGE_S_MAX = 300.0
"""Age at which a stream takes no more writes; a new one follows while it runs dry."""
STREAM_TIMEOUT_S = STREAM_AGE_S_MAX + 60.0

ExecuteCall: TypeAlias = "grpc.aio.StreamStreamCall[pb.ExecuteRequest, pb.ExecuteResponse]"
OpenStream: TypeAlias = Callable[[float], ExecuteCall]
"""Opens an `Execute` stream with a time-out in seconds."""


@dataclass(slots=True)
class _Batch:
    writes_open: int = 0


@dataclass(slots=True, eq=False)
class _Write:
    sequence: int
    execute_field: str
    request: Message
    size_bytes: int
    deadline: float
    result: asyncio.Future[pb.ExecuteResult]
    batch: _Batch | None = None


@dataclass(eq=False)
class _Stream:
    """One `Execute` call: what is out on it, and who reads it."""

    call: ExecuteCall
    retire_at: float
    out: dict[int, _Write] = field(default_factory=dict)
    batches_out: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def forget(self, write: _Write) -> bool:
        """The write needs no result any more; True when that ends a batch."""
        self.out.pop(write.sequence, None)
        batch = write.batch
        if batch is None:
            return False
        write.batch = None
        batch.writes_open -= 1
        if batch.writes_open:
            return False
        self.batches_out -= 1
        return True


async def _pause() -> None:
    """Lets writes gather."""
    await asyncio.sleep(BATCH_PACE_S)


class Pipeline:
    """The writes of one client to one endpoint. Bound to one loop."""

    def __init__(self, open_stream: OpenStream) -> None:
        self._open_stream = open_stream
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[int, _Write] = OrderedDict()
        self._wakeup = asyncio.Event()
        self._stream: _Stream | None = None
        self._streams: set[_Stream] = set()
        self._sequence = 0
        self._writes = 0

    async def execute(
        self, execute_field: str, request: Message, *, timeout_s: float
    ) -> pb.ExecuteResult:
        """Sends one write and waits for its result.

        Raises:
            Overloaded: Too many writes are waiting already.
            DeadlineExceeded: The result did not come within `timeout_s`.
            Disconnected: The stream broke; the write may have been done.
            RendezvousError: What the node answered for this write.
        """
        if self._writes >= WRITES_MAX:
            raise Overloaded(f"{self._writes} writes of this client are on their way already")
        self._sequence += 1
        write = _Write(
            self._sequence,
            execute_field,
            request,
            request.ByteSize(),
            self._loop.time() + timeout_s,
            self._loop.create_future(),
        )
        self._writes += 1
        self._waiting[self._sequence] = write
        self._wake()
        try:
            # It leaves the future alone: a result that comes as the time ends is still the result.
            await asyncio.wait((write.result,), timeout=timeout_s)
            if not write.result.done():
                raise deadline_passed(is_read=write.sequence in self._waiting)
            result = write.result.result()
        finally:
            self._writes -= 1
            self._leave(write)
        if result.HasField("failure"):
            raise error_from_failure(result.failure)
        return result

    async def close(self) -> None:
        """Ends every stream; what is on them fails with `Disconnected`."""
        streams = list(self._streams)
        tasks = [task for stream in streams for task in stream.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in streams:  # a task that had not started yet has not ended its stream
            self._end(stream, Disconnected("the client was closed"))

    def _leave(self, write: _Write) -> None:
        """Cancelled, timed out or answered: nothing of the write stays behind."""
        self._waiting.pop(write.sequence, None)
        write.result.cancel()  # else a failure that a cancelled caller never sees is logged
        for stream in self._streams:
            if write.sequence in stream.out and stream.forget(write):
                self._wakeup.set()

    def _wake(self) -> None:
        if self._stream is None:
            self._start_stream()
        self._wakeup.set()

    def _start_stream(self) -> None:
        stream = _Stream(self._open_stream(STREAM_TIMEOUT_S), self._loop.time() + STREAM_AGE_S_MAX)
        self._stream = stream
        self._streams.add(stream)
        self._wakeup.set()
        sender = self._loop.create_task(self._send(stream))
        stream.tasks = [sender, self._loop.create_task(self._serve(stream, sender))]

    async def _send(self, stream: _Stream) -> None:
        """Sends batches until the stream is replaced or broken."""
        # A stream that broke tells the reading side why, and that side tells the writes.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await self._wakeup.wait()
                self._wakeup.clear()
                while self._waiting and stream.batches_out < BATCHES_OUT_MAX:
                    if self._loop.time() >= stream.retire_at:
                        self._start_stream()
                        await stream.call.done_writing()
                        return
                    await stream.call.write(self._take_batch(stream))
                    if stream.batches_out >= BATCHES_UNPACED_MAX:
                        await _pause()

    def _take_batch(self, stream: _Stream) -> pb.ExecuteRequest:
        batch, size_bytes, deadline = _Batch(), 0, 0.0
        request = pb.ExecuteRequest()
        while self._waiting and batch.writes_open < BATCH_WRITES_MAX:
            write = next(iter(self._waiting.values()))
            size_bytes += write.size_bytes
            if batch.writes_open and size_bytes > BATCH_BYTES_MAX:
                break
            self._waiting.popitem(last=False)
            item = request.items.add(sequence=write.sequence)
            getattr(item, write.execute_field).CopyFrom(write.request)
            stream.out[write.sequence] = write
            write.batch = batch
            batch.writes_open += 1
            deadline = max(deadline, write.deadline)
        stream.batches_out += 1
        request.timeout.CopyFrom(duration(max(0.001, deadline - self._loop.time())))
        return request

    async def _serve(self, stream: _Stream, sender: asyncio.Task[None]) -> None:
        """Hands out results until the stream ends, then tells every write that is left."""
        reason: RendezvousError = Disconnected("the client was closed")
        try:
            async for response in stream.call:
                self._hand_out(stream, response)
            reason = Disconnected("the node ended the stream")
        except grpc.aio.AioRpcError as error:
            reason = error_from_call(error, is_read=False)
        finally:
            sender.cancel()
            self._end(stream, reason)

    def _hand_out(self, stream: _Stream, response: pb.ExecuteResponse) -> None:
        for result in response.results:
            write = stream.out.get(result.sequence)
            if write is None:
                continue  # its caller has left
            if stream.forget(write):
                self._wakeup.set()
            if not write.result.done():
                write.result.set_result(result)

    def _end(self, stream: _Stream, reason: RendezvousError) -> None:
        stream.call.cancel()
        self._streams.discard(stream)
        for write in stream.out.values():
            if not write.result.done():
                write.result.set_exception(_unknown_outcome(reason))
        stream.out.clear()
        if self._stream is not stream:
            return
        self._stream = None
        waiting, self._waiting = self._waiting, OrderedDict()
        for write in waiting.values():
            if not write.result.done():
                write.result.set_exception(
                    Unavailable(f"not sent: {reason.message}", leader=reason.leader)
                )


def _unknown_outcome(reason: RendezvousError) -> RendezvousError:
    """What the end of a stream means for a write that was sent on it.

    A node that refuses the caller stays what it is; anything else is worth another try.
    """
    refused = reason.definite and not reason.retryable
    if isinstance(reason, DeadlineExceeded) or not refused:
        return Disconnected(reason.message, leader=reason.leader, revision=reason.revision)
    error = type(reason)(reason.message, leader=reason.leader, details=reason.details)
    error.definite = False
    return error
