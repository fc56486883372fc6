"""`Execute`, the pipelined form of the writes (semantics W7).

Each write of a batch runs on its own; results go out as soon as they are there, all those of one
turn of the loop in one message. When the stream ends with an error of ours, every write that did
begin has its result, so that one without a result definitely did not happen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.errors import Draining, InvalidArgument, RendezvousError
from rendezvous_raft.limits import BRANCHES_PER_CALL_MAX, GRPC_MESSAGE_BYTES_MAX
from rendezvous_raft.server.convert import item_timeout_s
from rendezvous_raft.server.failures import to_failure
from rendezvous_raft.server.fields import check_count
from rendezvous_raft.server.interceptors import MALFORMED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rendezvous_raft.limits import NodeLimits
    from rendezvous_raft.node.ports import Clock
    from rendezvous_raft.server.drain import DrainSignal
    from rendezvous_raft.server.failures import FailureReporter
    from rendezvous_raft.server.ids import CallIds
    from rendezvous_raft.server.interceptors import Call, Write

RESPONSE_BYTES_MAX = GRPC_MESSAGE_BYTES_MAX // 2
"""A response is cut here; one result may still be added, and the largest is far below the rest."""


class ItemCall:
    """One write of a stream, as the methods see it."""

    __slots__ = ("_call", "_sequence", "deadline_s")

    def __init__(self, call: Call, *, sequence: int, deadline_s: float) -> None:
        self._call = call
        self._sequence = sequence
        self.deadline_s = deadline_s
        """Absolute, in seconds of the node's monotonic clock."""

    def ids(self, place: str) -> CallIds:
        """Ids by the place in the stream: its sequence is part of the idempotency key."""
        return self._call.ids(f"{place} {self._sequence}")


class ExecuteMethod:
    """What every Execute stream shares."""

    def __init__(
        self,
        *,
        operations: dict[str, Write],
        reporter: FailureReporter,
        limits: NodeLimits,
        clock: Clock,
        drain: DrainSignal,
    ) -> None:
        """Keeps what the streams need.

        Args:
            operations: the unary method behind each kind of item, by its name in the message.
            reporter: explains faults.
            limits: for the writes on their way and the default time-out.
            clock: for deadlines.
            drain: ends the streams.
        """
        self.operations = operations
        self.reporter = reporter
        self.limits = limits
        self.clock = clock
        self.drain = drain

    async def execute(self, batches: AsyncIterator[pb.ExecuteRequest], call: Call) -> None:
        """Serves one stream until its client has finished or gone, or the node drains.

        Raises:
            Draining: the node shuts down; what has no result did not happen.
            InvalidArgument: a batch cannot be parsed; likewise.
        """
        await ExecuteStream(self, call).run(batches)


class ExecuteStream:
    """One stream: a reader that starts writes, and a writer that sends what has finished."""

    def __init__(self, method: ExecuteMethod, call: Call) -> None:
        self._method = method
        self._call = call
        self._running: set[asyncio.Task[None]] = set()
        self._finished: list[pb.ExecuteResult] = []
        self._unanswered = 0
        """Items begun whose result has not been handed to the transport."""
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self, batches: AsyncIterator[pb.ExecuteRequest]) -> None:
        """As `ExecuteMethod.execute`."""
        drain = self._method.drain
        reader = asyncio.create_task(self._read(batches))
        reader.add_done_callback(lambda _: self._wake.set())
        drain.add_listener(self._wake.set)
        try:
            while self._unanswered or not reader.done():
                if drain.given:
                    reader.cancel()  # what it has not begun is answered by the end of the stream
                await self._wake.wait()
                self._wake.clear()
                await self._send_finished()
            if reader.cancelled():
                raise Draining("the node is shutting down; what has no result did not happen")
            reader.result()
        finally:
            drain.remove_listener(self._wake.set)
            await _cancel_all({reader, *self._running})

    async def _read(self, batches: AsyncIterator[pb.ExecuteRequest]) -> None:
        in_flight_max = self._method.limits.execute_items_in_flight_max
        now_s = self._method.clock.monotonic_s
        async for batch in batches:
            if batch is MALFORMED:
                raise InvalidArgument("a batch cannot be parsed")
            try:
                check_count(len(batch.items), "items", count_max=BRANCHES_PER_CALL_MAX)
                timeout_s = item_timeout_s(batch, self._method.limits)
            except InvalidArgument as fault:
                self._refuse(batch, fault)
                continue
            deadline_s = min(self._call.deadline_s, now_s() + timeout_s)
            for item in batch.items:
                while self._unanswered >= in_flight_max:
                    self._room.clear()
                    await self._room.wait()
                self._begin(item, deadline_s)

    def _refuse(self, batch: pb.ExecuteRequest, fault: RendezvousError) -> None:
        failure = to_failure(fault)
        self._unanswered += len(batch.items)
        for item in batch.items:
            self._finish(pb.ExecuteResult(sequence=item.sequence, failure=failure))

    def _begin(self, item: pb.ExecuteItem, deadline_s: float) -> None:
        self._unanswered += 1
        task = asyncio.create_task(self._perform(item, deadline_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _perform(self, item: pb.ExecuteItem, deadline_s: float) -> None:
        kind = item.WhichOneof("operation")
        outcome: dict[str, Any]
        try:
            if kind is None:
                raise InvalidArgument.for_field("items.operation", "must be given")
            call = ItemCall(self._call, sequence=item.sequence, deadline_s=deadline_s)
            outcome = {kind: await self._method.operations[kind](getattr(item, kind), call)}
        except Exception as fault:  # noqa: BLE001  one item's fault never fails the others
            error = self._method.reporter.expected(fault, method=f"Execute/{kind}")
            outcome = {"failure": to_failure(error)}
        self._finish(pb.ExecuteResult(sequence=item.sequence, **outcome))

    def _finish(self, result: pb.ExecuteResult) -> None:
        self._finished.append(result)
        self._wake.set()

    async def _send_finished(self) -> None:
        finished, self._finished = self._finished, []
        begin = size = 0
        for end, result in enumerate(finished, start=1):
            size += result.ByteSize()
            if size >= RESPONSE_BYTES_MAX or end == len(finished):
                await self._call.write(pb.ExecuteResponse(results=finished[begin:end]))
                self._unanswered -= end - begin
                self._room.set()
                begin, size = end, 0


async def _cancel_all(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
