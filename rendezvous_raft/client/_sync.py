"""The synchronous client: drives the policy over the synchronous gRPC stack."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self, cast

import grpc
from google.protobuf.message import Message

from rendezvous_raft.client import _answers, _descriptions, _reads
from rendezvous_raft.client._calls import (
    SUBSCRIBE,
    WATCH_REQUEST,
    AnswerT,
    Call,
    Method,
    ResultT,
    check_size,
)
from rendezvous_raft.client._errors import FailedCall, error_from_call
from rendezvous_raft.client._policy import Attempt, CallKind, finish
from rendezvous_raft.client._sync_methods import SyncMethods
from rendezvous_raft.client._sync_transport import SyncTransport
from rendezvous_raft.client.arguments import Seconds
from rendezvous_raft.client.hooks import AttemptEnded, AttemptStarted
from rendezvous_raft.client.results import (
    RequestDescription,
    ScopeDescription,
    SubscriptionEvent,
    SubscriptionEventKind,
)
from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.types import Consistency


class Client(SyncMethods):
    """A client of Rendezvous for threads; the twin of `AsyncClient`.

    Any number of threads may use it. It connects when it is first used, and opens new channels
    after a fork. Every call blocks its thread. Writes travel one by one, whatever `pipeline` says:
    an application with many concurrent writes is better served by `AsyncClient`.

    Example:
        ```python
        with Client("127.0.0.1:7600", region="eu") as client, client.request():
            branch = client.register_branch("post-storage", regions=["eu", "us"])
            result = client.wait_request(service="post-storage", timeout=5.0)
        ```
    """

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections; calls in progress fail. The client cannot be used again."""
        self._closed = True
        transport = self._transports.pop(os.getpid(), None)
        if transport is not None:
            transport.close()

    def subscribe(
        self,
        service: str,
        region: str | None = None,
        *,
        tags: Sequence[str] = (),
        group: str = "",
        resume_revision: int = 0,
    ) -> Generator[SubscriptionEvent]:
        """Streams the open monitored branches of a service in a region, then what happens there.

        First every open branch, oldest first, then a SYNCED event, then new branches and closes.
        It is one stream and does not resume: when it breaks it raises, the failed endpoint is left
        alone for a moment, and the caller subscribes again. With `resume_revision`, the revision of
        the last event handled, branches registered up to it are not listed again. A stream lasts
        an hour at most and then ends with a `DeadlineExceeded` that is `retryable`. Closing the
        generator ends it, and so does closing the client, from any thread.

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
        request = _reads.subscribe(
            self._defaults,
            service,
            region,
            tags=tags,
            group=group,
            resume_revision=resume_revision,
        )
        messages = self._stream(SUBSCRIBE, request)
        with closing(messages):
            for endpoint, message in messages:
                event = _answers.subscription_event(message)
                if event.kind is SubscriptionEventKind.SYNCED:
                    self._retries.endpoints.succeeded(endpoint)
                yield event

    def watch_request(
        self,
        request_id: str | None = None,
        *,
        scope: ScopeDescription | None = None,
        required_branches: Sequence[str] = (),
        open_only: bool = False,
        await_registration: Seconds | None = None,
        min_revision: int | None = None,
        consistency: Consistency | None = None,
    ) -> Generator[RequestDescription]:
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
        with closing(messages):
            for endpoint, message in messages:
                self._retries.endpoints.succeeded(endpoint)
                yield _descriptions.watched(message)

    def _stream(self, method: Method[AnswerT], request: Message) -> Generator[tuple[str, AnswerT]]:
        """The messages of one stream, each with the endpoint that sent it."""
        self._check_open()
        transport = self._transport_here()
        check_size(request)
        endpoint = self._retries.endpoints.choose(time.monotonic())
        with transport.lines.line(endpoint, is_long=True) as line:
            stream = transport.stream(endpoint, line, method, request)
            try:
                for message in stream:
                    yield endpoint, message
            except grpc.RpcError as error:
                failure = error_from_call(_failed_call(error), is_read=True)
                self._note_end_of_stream(endpoint, failure)
                raise failure from error
            finally:
                stream.cancel()

    def _call(self, call: Call[AnswerT, ResultT]) -> ResultT:
        self._check_open()
        transport = self._transport_here()
        now = time.monotonic()
        plan = self._retries.attempts(
            call.method.kind,
            now=now,
            deadline=now + call.timeout_s,
            blocked_until=call.begin(now),
        )
        attempt = next(plan)
        try:
            while True:
                if attempt.pause_s:
                    transport.closed.wait(attempt.pause_s)
                try:
                    answer = self._observed_attempt(call, attempt)
                except RendezvousError as error:
                    attempt = plan.send(self._outcome(error))
                else:
                    finish(plan, time.monotonic())
                    return call.succeed(answer)
        except RendezvousError as error:
            call.fail(error)
            raise

    def _observed_attempt(self, call: Call[AnswerT, ResultT], attempt: Attempt) -> AnswerT:
        hooks = self._hooks
        if hooks is None:
            return self._attempt(call, attempt)
        name, endpoint, number = call.method.name, attempt.endpoint, attempt.number
        hooks.attempt_started(AttemptStarted(name, endpoint, number))
        started, failure = time.monotonic(), None
        try:
            return self._attempt(call, attempt)
        except RendezvousError as error:
            failure = error
            raise
        finally:
            seconds = time.monotonic() - started
            hooks.attempt_ended(AttemptEnded(name, endpoint, number, seconds, failure))

    def _attempt(self, call: Call[AnswerT, ResultT], attempt: Attempt) -> AnswerT:
        self._check_may_attempt()
        transport = self._transport_here()
        timeout_s = call.prepare(attempt, time.monotonic())
        try:
            with transport.lines.line(attempt.endpoint, is_long=call.blocking) as line:
                unary = transport.unary(attempt.endpoint, line, call.method)
                return unary(call.request, timeout=timeout_s)
        except grpc.RpcError as error:
            is_read = call.method.kind is CallKind.READ
            raise error_from_call(_failed_call(error), is_read=is_read) from error
        except ValueError:
            self._check_may_attempt()  # the channel refuses when another thread has just closed it
            raise

    def _transport_here(self) -> SyncTransport:
        pid = os.getpid()
        transport = self._transports.get(pid)
        if transport is None:
            # Without a lock: one held by another thread during a fork stays locked in the child.
            transport = self._transports.setdefault(pid, SyncTransport(self._credentials))
            if self._closed:
                transport.close()
        return transport


def _failed_call(error: grpc.RpcError) -> FailedCall:
    # What the synchronous stack raises is the call itself; its declared type does not say so.
    return cast("FailedCall", error)
