"""The asyncio client: drives the policy over `grpc.aio`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, cast

import grpc.aio
from google.protobuf.message import Message

from rendezvous_raft.client import _answers, _descriptions, _reads
from rendezvous_raft.client._async_methods import AsyncMethods
from rendezvous_raft.client._async_transport import AsyncTransport
from rendezvous_raft.client._calls import (
    SUBSCRIBE,
    WATCH_REQUEST,
    AnswerT,
    Call,
    Method,
    ResultT,
    check_size,
)
from rendezvous_raft.client._errors import error_from_call
from rendezvous_raft.client._policy import Attempt, CallKind, finish
from rendezvous_raft.client.arguments import Seconds
from rendezvous_raft.client.hooks import AttemptEnded, AttemptStarted
from rendezvous_raft.client.results import (
    RequestDescription,
    ScopeDescription,
    SubscriptionEvent,
    SubscriptionEventKind,
)
from rendezvous_raft.errors import Disconnected, RendezvousError, Unavailable
from rendezvous_raft.types import Consistency


class AsyncClient(AsyncMethods):
    """A client of Rendezvous for asyncio, used by any number of tasks of one loop.

    It connects when it is first used. After a fork, or in another loop, it opens new channels.
    Concurrent writes share one stream for each node (see `pipeline`); a single one travels alone.

    Example:
        ```python
        async with AsyncClient("127.0.0.1:7600", region="eu") as client:
            with client.request() as request:
                branch = await client.register_branch("post-storage", regions=["eu", "us"])
                result = await client.wait_request(service="post-storage", timeout=5.0)
        ```
    """

    _writes_out = 0
    """Writes in progress."""

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections; calls in progress fail. The client cannot be used again."""
        self._closed = True
        transport = self._transports.pop(os.getpid(), None)
        if transport is not None and transport.is_of_running_loop():
            await transport.close()

    async def subscribe(
        self,
        service: str,
        region: str | None = None,
        *,
        tags: Sequence[str] = (),
        group: str = "",
        resume_revision: int = 0,
    ) -> AsyncGenerator[SubscriptionEvent]:
        """Streams the open monitored branches of a service in a region, then what happens there.

        First every open branch, oldest first, then a SYNCED event, then new branches and closes.
        It is one stream and does not resume: when it breaks it raises, the failed endpoint is left
        alone for a moment, and the caller subscribes again. With `resume_revision`, the revision of
        the last event handled, branches registered up to it are not listed again. A stream lasts
        an hour at most and then ends with a `DeadlineExceeded` that is `retryable`.

        Args:
            service: Must not be empty.
            region: None: the region of the client.
            tags: Only branches with one of these tags; empty: all.
            group: Members of one group share the branches, on whichever nodes they subscribe; when
                one leaves or dies, the others are given what it had.
            resume_revision: 0 lists everything that is open.

        Raises:
            RendezvousError: The stream broke; `retryable` says whether to subscribe again.
        """
        self._check_open()
        request = _reads.subscribe(
            self._defaults,
            service,
            region,
            tags=tags,
            group=group,
            resume_revision=resume_revision,
        )
        messages = self._stream(SUBSCRIBE, request)
        async with aclosing(messages):
            async for endpoint, message in messages:
                event = _answers.subscription_event(message)
                if event.kind is SubscriptionEventKind.SYNCED:
                    self._retries.endpoints.succeeded(endpoint)
                yield event

    async def watch_request(
        self,
        request_id: str | None = None,
        *,
        scope: ScopeDescription | None = None,
        required_branches: Sequence[str] = (),
        open_only: bool = False,
        await_registration: Seconds | None = None,
        min_revision: int | None = None,
        consistency: Consistency | None = None,
    ) -> AsyncGenerator[RequestDescription]:
        """Describes a request, and again whenever something of it has changed, for people.

        Changes in quick succession come as one. The arguments are those of `describe_request`. It
        is one stream of one node and does not resume: when it breaks it raises, and the caller
        watches again. It lasts an hour at most and then ends with a `DeadlineExceeded` that is
        `retryable`.

        Args:
            request_id: None: the request of the context.
            scope: Of a wait: each branch then tells what such a wait makes of it.
            required_branches: What such a wait requires; those not registered are named.
            open_only: Leaves out the branches that are closed.
            await_registration: How long to wait for an unknown request.
            min_revision: None: the revision of the context.
            consistency: Of the first description; None: SESSION with a least revision, else
                LINEARIZABLE.

        Raises:
            RequestNotFound: It is unknown, and stays so.
            RequestExpired: It has expired, before or meanwhile.
            RendezvousError: The stream broke; `retryable` says whether to watch again.
        """
        self._check_open()
        request = _descriptions.watch_request(
            request_id,
            scope=scope,
            required_branches=required_branches,
            open_only=open_only,
            await_registration=await_registration,
            min_revision=min_revision,
            consistency=consistency,
        )
        messages = self._stream(WATCH_REQUEST, request)
        async with aclosing(messages):
            async for endpoint, message in messages:
                self._retries.endpoints.succeeded(endpoint)
                yield _descriptions.watched(message)

    async def _stream(
        self, method: Method[AnswerT], request: Message
    ) -> AsyncGenerator[tuple[str, AnswerT]]:
        """The messages of one stream, each with the endpoint that sent it."""
        transport = self._transport_here()
        check_size(request)
        endpoint = self._retries.endpoints.choose(time.monotonic())
        with transport.lines.line(endpoint, is_long=True) as line:
            stream = transport.stream(endpoint, line, method, request)
            try:
                async for message in stream:
                    yield endpoint, message
            except asyncio.CancelledError:
                self._explain_cancellation(is_read=True)
                raise
            except grpc.aio.AioRpcError as error:
                failure = error_from_call(error, is_read=True)
                self._note_end_of_stream(endpoint, failure)
                raise failure from error
            finally:
                stream.cancel()

    async def _call(self, call: Call[AnswerT, ResultT]) -> ResultT:
        self._check_open()
        now = time.monotonic()
        plan = self._retries.attempts(
            call.method.kind,
            now=now,
            deadline=now + call.timeout_s,
            blocked_until=call.begin(now),
        )
        attempt = next(plan)
        is_write = bool(call.method.execute_field)
        self._writes_out += is_write
        try:
            while True:
                if attempt.pause_s:
                    await asyncio.sleep(attempt.pause_s)
                try:
                    answer = await self._observed_attempt(call, attempt)
                except RendezvousError as error:
                    attempt = plan.send(self._outcome(error))
                else:
                    finish(plan, time.monotonic())
                    return call.succeed(answer)
        except RendezvousError as error:
            call.fail(error)
            raise
        finally:
            self._writes_out -= is_write

    async def _observed_attempt(self, call: Call[AnswerT, ResultT], attempt: Attempt) -> AnswerT:
        hooks = self._hooks
        if hooks is None:
            return await self._attempt(call, attempt)
        name, endpoint, number = call.method.name, attempt.endpoint, attempt.number
        hooks.attempt_started(AttemptStarted(name, endpoint, number))
        started, failure = time.monotonic(), None
        try:
            return await self._attempt(call, attempt)
        except RendezvousError as error:
            failure = error
            raise
        finally:
            seconds = time.monotonic() - started
            hooks.attempt_ended(AttemptEnded(name, endpoint, number, seconds, failure))

    async def _attempt(self, call: Call[AnswerT, ResultT], attempt: Attempt) -> AnswerT:
        self._check_may_attempt()
        transport = self._transport_here()
        method = call.method
        timeout_s = call.prepare(attempt, time.monotonic())
        if method.execute_field and self._pipeline and self._writes_out > 1 and not call.blocking:
            result = await transport.pipeline(attempt.endpoint).execute(
                method.execute_field, call.request, timeout_s=timeout_s
            )
            return cast("AnswerT", getattr(result, method.execute_field))
        is_read = method.kind is CallKind.READ
        try:
            with transport.lines.line(attempt.endpoint, is_long=call.blocking) as line:
                unary = transport.unary(attempt.endpoint, line, method)
                return await unary(call.request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, is_read=is_read) from error
        except asyncio.CancelledError:
            self._explain_cancellation(is_read=is_read)
            raise

    def _explain_cancellation(self, *, is_read: bool) -> None:
        """Closing the channel looks like a cancellation of the task, but only of the call."""
        task = asyncio.current_task()
        if self._closed and task is not None and not task.cancelling():
            raise (Unavailable if is_read else Disconnected)("the client was closed") from None

    def _transport_here(self) -> AsyncTransport:
        pid = os.getpid()
        transport = self._transports.get(pid)
        if transport is None or not transport.is_of_running_loop():
            transport = self._transports[pid] = AsyncTransport(self._credentials)
        return transport
