"""`Execute`, the pipelined form of the writes (semantics W7).

Each write of a batch runs on its own; results go out as soon as they are there, all those of one
turn of the loop in one message. When the stream ends with an error of ours, every write that did
begin has its result, so that one without a result definitely did not happen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.errors import Draining, InvalidArgument
from rendezvous_raft.limits import BRANCHES_PER_CALL_MAX, GRPC_MESSAGE_BYTES_MAX
from rendezvous_raft.server.convert import item_timeout_s
from rendezvous_raft.server.fields import check_count
from rendezvous_raft.server.interceptors import MALFORMED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from rendezvous_raft.limits import NodeLimits
    from rendezvous_raft.node.ports import Clock
    from rendezvous_raft.server.drain import DrainSignal
    from rendezvous_raft.server.failures import FailureReporter
    from rendezvous_raft.server.ids import CallIds
    from rendezvous_raft.server.interceptors import Call, Write

_Finished: TypeAlias = tuple[pb.ExecuteResult, int]
"""A result, and how many writes it is of."""
RESPONSE_BYTES_MAX = GRPC_MESSAGE_BYTES_MAX // 2
"""A response is cut before this; only a single result may be larger, and it fits a message."""


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
            InvalidArgument: a batch cannot be parsed or has too many items; likewise.
        """
        await ExecuteStream(self, call).run(batches)


class ExecuteStream:
    """One stream: a reader that starts writes, and a writer that sends what has finished."""

    def __init__(self, method: ExecuteMethod, call: Call) -> None:
        self._method = method
        self._call = call
        self._running: set[asyncio.Task[None]] = set()
        self._finished: list[_Finished] = []
        self._unanswered = 0
        """Writes of the items begun whose result has not been handed to the transport."""
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
            # Ends the stream: a failure for each item would cost far more than the item did.
            check_count(len(batch.items), "items", count_max=BRANCHES_PER_CALL_MAX)
            timeout_s, refusal = 0.0, None
            try:
                timeout_s = item_timeout_s(batch, self._method.limits)
            except InvalidArgument as fault:
                refusal = self._method.reporter.failure(fault)
            deadline_s = min(self._call.deadline_s, now_s() + timeout_s)
            for item in batch.items:
                while self._unanswered >= in_flight_max:
                    self._room.clear()
                    await self._room.wait()
                writes = _writes_of(item)
                self._unanswered += writes
                if refusal is None:
                    self._begin(item, writes, deadline_s)
                else:
                    result = pb.ExecuteResult(sequence=item.sequence, failure=refusal)
                    self._finish(result, writes)

    def _begin(self, item: pb.ExecuteItem, writes: int, deadline_s: float) -> None:
        task = asyncio.create_task(self._perform(item, writes, deadline_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _perform(self, item: pb.ExecuteItem, writes: int, deadline_s: float) -> None:
        kind = item.WhichOneof("operation")
        outcome: dict[str, Any]
        try:
            if kind is None:
                raise InvalidArgument.for_field("items.operation", "must be given")
            call = ItemCall(self._call, sequence=item.sequence, deadline_s=deadline_s)
            outcome = {kind: await self._method.operations[kind](getattr(item, kind), call)}
        except Exception as fault:  # noqa: BLE001  one item's fault never fails the others
            error = self._method.reporter.expected(fault, method=f"Execute/{kind}")
            outcome = {"failure": self._method.reporter.failure(error)}
        self._finish(pb.ExecuteResult(sequence=item.sequence, **outcome), writes)

    def _finish(self, result: pb.ExecuteResult, writes: int) -> None:
        self._finished.append((result, writes))
        self._wake.set()

    async def _send_finished(self) -> None:
        finished, self._finished = self._finished, []
        for results, writes in _cut(finished):
            await self._call.write(pb.ExecuteResponse(results=results))
            self._unanswered -= writes
            self._room.set()


def _writes_of(item: pb.ExecuteItem) -> int:
    """The branches or closes of an item: its result grows with them, and so does its work."""
    match item.WhichOneof("operation"):
        case "register_branches":
            return len(item.register_branches.branches) or 1
        case "close_branches":
            return len(item.close_branches.closes) or 1
        case _:
            return 1


def _cut(finished: list[_Finished]) -> Iterator[tuple[list[pb.ExecuteResult], int]]:
    """The results of each response, and how many writes they are of."""
    results: list[pb.ExecuteResult] = []
    writes_sum = size = 0
    for result, writes in finished:
        result_size = result.ByteSize()
        if results and size + result_size > RESPONSE_BYTES_MAX:
            yield results, writes_sum
            results, writes_sum, size = [], 0, 0
        results.append(result)
        writes_sum += writes
        size += result_size
    if results:
        yield results, writes_sum


async def _cancel_all(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
