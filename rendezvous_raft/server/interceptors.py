"""What surrounds every RPC method: deadline, size, metrics, errors to status; one class for each.

They wrap a method once, when it is registered. `grpc.aio` interceptors would look a method up and
wrap it anew for each call, which costs more than the calls themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import grpc

from rendezvous_raft.errors import InvalidArgument, LimitExceeded, RendezvousError
from rendezvous_raft.limits import GRPC_MESSAGE_BYTES_MAX
from rendezvous_raft.server.failures import message_of, status_of
from rendezvous_raft.server.ids import IDEMPOTENCY_KEY, CallIds, ChosenIds

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from rendezvous_raft.node.ports import Clock, IdSource
    from rendezvous_raft.observability.metrics import CallCounters
    from rendezvous_raft.server.failures import FailureReporter

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""What gRPC calls: the request (or its stream) and the context."""
Body: TypeAlias = Callable[[Any, "Call"], Awaitable[Any]]
"""What a service implements: the request (or its stream) and the call."""
Write: TypeAlias = Callable[[Any, "WriteCall"], Awaitable[Any]]
"""A method that may also be an item of Execute, which has no call of its own."""

MALFORMED = object()
"""Stands for a request that could not be parsed."""


class WriteCall(Protocol):
    """What a write needs to know of its call."""

    @property
    def deadline_s(self) -> float:
        """Absolute, in seconds of the node's monotonic clock."""
        ...

    def ids(self, place: str) -> CallIds:
        """Chooses ids that the caller left empty."""
        ...


class Call:
    """One call as the services see it."""

    __slots__ = ("_context", "_ids", "deadline_s")

    def __init__(self, context: Context, *, deadline_s: float, ids: IdSource) -> None:
        self._context = context
        self._ids = ids
        self.deadline_s = deadline_s
        """Absolute, in seconds of the node's monotonic clock."""

    def ids(self, place: str) -> CallIds:
        """Chooses ids that the caller left empty.

        Args:
            place: the method, and what else tells apart two writes of one call.
        """
        return ChosenIds(self._ids, key=self.idempotency_key, place=place)

    def idempotency_key(self) -> str | None:
        """The caller's key, not checked yet."""
        for name, value in self._context.invocation_metadata() or ():
            if name == IDEMPOTENCY_KEY:
                return value if isinstance(value, str) else value.decode("ascii", "replace")
        return None

    async def write(self, message: Message) -> None:
        """Sends one message of a response stream; blocks while the client does not read.

        Raises:
            LimitExceeded: it is larger than a message may be.
        """
        _check_size(message)
        await self._context.write(message)


class DeadlinePolicy:
    """Gives every call an absolute deadline: the caller's, but no later than the cap."""

    def __init__(self, *, clock: Clock, ids: IdSource) -> None:
        self._clock = clock
        self._ids = ids

    def wrap(self, body: Body, *, cap_s: float) -> Behaviour:
        """Makes a behaviour of a body."""
        monotonic_s, ids = self._clock.monotonic_s, self._ids

        async def with_deadline(request: object, context: Context) -> object:
            # None when the caller set no deadline, whatever the stubs say.
            remaining_s: float | None = context.time_remaining()
            patience_s = cap_s if remaining_s is None else min(remaining_s, cap_s)
            call = Call(context, deadline_s=monotonic_s() + patience_s, ids=ids)
            return await body(request, call)

        return with_deadline


class AnswerSize:
    """Refuses an answer that is larger than a message may be.

    The transport would do so with a bare RESOURCE_EXHAUSTED, which clients take for a node that is
    overloaded. Only reads have such answers, so that it is definite: what a write answers is
    bounded by what one call may write.
    """

    def wrap(self, inner: Behaviour) -> Behaviour:
        """Adds the check; a response stream has it at each write."""

        async def measured(request: object, context: Context) -> object:
            answer = await inner(request, context)
            if answer is not None:
                _check_size(answer)
            return answer

        return measured


def _check_size(message: Message) -> None:
    size = message.ByteSize()
    if size > GRPC_MESSAGE_BYTES_MAX:
        raise LimitExceeded(
            f"the answer has {size} bytes, and at most {GRPC_MESSAGE_BYTES_MAX} are allowed "
            "(grpc_message_bytes_max); ask for less",
            details={"limit": "grpc_message_bytes_max", "value": str(size)},
        )


class CallMetrics:
    """Counts calls begun and ended, and how long they took."""

    def wrap(self, inner: Behaviour, counters: CallCounters) -> Behaviour:
        """Adds the counting."""
        started, seconds, handled = counters.started, counters.seconds, counters.handled

        async def counted(request: object, context: Context) -> object:
            started.inc()
            begin = time.perf_counter()
            code = "OK"
            try:
                return await inner(request, context)
            except RendezvousError as error:
                code = status_of(error).name
                raise
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception:
                code = "INTERNAL"
                raise
            finally:
                handled(code)
                seconds.observe(time.perf_counter() - begin)

        return counted


class ErrorsToStatus:
    """Ends a failed call with its status and the trailing metadata that explains it."""

    def __init__(self, reporter: FailureReporter) -> None:
        self._reporter = reporter

    def wrap(self, inner: Behaviour, *, method: str) -> Behaviour:
        """Adds the translation; a cancelled call stays cancelled."""
        reporter = self._reporter

        async def explained(request: object, context: Context) -> object:
            try:
                if request is MALFORMED:
                    raise InvalidArgument("the message cannot be parsed")
                return await inner(request, context)
            except Exception as fault:  # noqa: BLE001  gRPC would not explain it
                error = reporter.expected(fault, method=method)
            metadata = reporter.trailing_metadata(error)
            ending = context.abort(status_of(error), message_of(error), metadata)
            # The context keeps the exception that ends the call, whose traceback keeps this frame:
            # a cycle, which would have to wait for the garbage collector (`collector.py`).
            del context
            return await ending

        return explained


def lenient(
    parse: Callable[[bytes], Message], *, malformed: type[Exception]
) -> Callable[[bytes], Any]:
    """A deserializer that lets the method answer for bytes that are no message."""

    def parse_or_mark(raw: bytes) -> object:
        try:
            return parse(raw)
        except malformed:
            return MALFORMED

    return parse_or_mark
