"""What both clients are: the same constructor, the same state, and the scope of a request."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc

from rendezvous_raft.client._calls import CallDefaults, positive_seconds
from rendezvous_raft.client._channel import parse_endpoints
from rendezvous_raft.client._ids import IdFactory
from rendezvous_raft.client._policy import Outcome, Retries, RetryPolicy
from rendezvous_raft.client.arguments import Seconds
from rendezvous_raft.client.hooks import Hooks
from rendezvous_raft.context import RendezvousContext, Session, current_session, use_session
from rendezvous_raft.errors import DeadlineExceeded, InvalidArgument, RendezvousError, Unavailable

TransportT = TypeVar("TransportT")


class RequestScope:
    """A block in which one request is the current one; for `with` and `async with` alike.

    It does no I/O: the first registration registers the request. A request inside another one
    begins with the revision seen so far, and the outer one learns at the end how far the inner one
    saw. If it is the same request, it is the same living context: whatever one block sees or has on
    its way, the other knows at once; only the zone may differ. Tasks that are started in the block
    belong to the request; for threads see `rendezvous_raft.context`.
    """

    def __init__(self, request_id: str, *, zone: str | None) -> None:
        self.request_id = request_id
        """The id of the request."""
        self._zone = zone
        self._outer: Session | None = None
        self._block: AbstractContextManager[Session | None] | None = None
        self._session: Session | None = None

    @property
    def context(self) -> RendezvousContext:
        """The context as it is now; within the block the same as `current_context()`."""
        if self._session is None:
            raise RuntimeError("the request has not been entered")
        return self._session.context

    def __enter__(self) -> Self:
        if self._block is not None:
            raise RuntimeError("a request is entered once")
        self._outer = outer = current_session()
        if outer is not None and outer.request_id == self.request_id:
            self._session = outer.in_zone(outer.zone if self._zone is None else self._zone)
        else:
            revision = 0 if outer is None else outer.min_revision
            self._session = Session(RendezvousContext(self.request_id, self._zone, revision))
        self._block = use_session(self._session)
        self._block.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._block is None:
            raise RuntimeError("the request has not been entered")
        self._block.__exit__(exc_type, exc_value, traceback)
        if self._outer is not None and self._session is not None:
            self._outer.fold(self._session.min_revision)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc_value, traceback)


class BaseClient(Generic[TransportT]):
    """The part of a client that does no I/O.

    Args:
        endpoints: Nodes in order of preference, nearest first: a sequence of `host:port`, or one
            string with commas.
        region: The region of the caller, the default of waits, checks and subscriptions.
        timeout: Default time for a call with all its retries.
        credentials: TLS; None means plain text, for loopback.
        hooks: Callbacks for metrics.
        pipeline: Whether concurrent writes share a stream. The synchronous client always sends
            them one by one.
        retry: How persistent the client is.

    Raises:
        InvalidArgument: An endpoint or the time-out is malformed.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        region: str = "",
        timeout: Seconds = 10.0,
        credentials: grpc.ChannelCredentials | None = None,
        hooks: Hooks | None = None,
        pipeline: bool = True,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.endpoints = parse_endpoints(endpoints)
        """The endpoints, in order of preference."""
        self.region = region
        """The region of the caller; empty: none."""
        self._ids = IdFactory()
        self._defaults = CallDefaults(
            region=region, timeout_s=positive_seconds("timeout", timeout), ids=self._ids
        )
        self._credentials = credentials
        self._hooks = hooks
        self._pipeline = pipeline
        self._retries = Retries(
            self.endpoints, retry or RetryPolicy(), chance=secrets.SystemRandom().random
        )
        self._closed = False
        self._transports: dict[int, TransportT] = {}
        """Connections by process id. Those of a parent process are kept and never touched: tearing
        them down after a fork would act on threads and locks that are not there."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """A client from `RENDEZVOUS_ENDPOINTS`, `RENDEZVOUS_REGION` and `RENDEZVOUS_TIMEOUT`.

        Endpoints are `host:port,host:port`; the time-out is in seconds. Both others are optional.

        Raises:
            InvalidArgument: A variable is missing or malformed.
        """
        values = os.environ if environ is None else environ
        endpoints = values.get("RENDEZVOUS_ENDPOINTS", "")
        if not endpoints.strip():
            raise InvalidArgument.for_field("RENDEZVOUS_ENDPOINTS", "must be set to host:port,…")
        timeout = values.get("RENDEZVOUS_TIMEOUT", "").strip() or "10"
        try:
            timeout_s = float(timeout)
        except ValueError:
            raise InvalidArgument.for_field(
                "RENDEZVOUS_TIMEOUT", f"a number of seconds, not {timeout!r}"
            ) from None
        return cls(endpoints, region=values.get("RENDEZVOUS_REGION", ""), timeout=timeout_s)

    def request(self, request_id: str | None = None, *, zone: str | None = None) -> RequestScope:
        """Makes a request the current one inside a block; None chooses a new id.

        Nothing is sent: the first registration registers the request as well. Calls inside the
        block that name no request belong to this one, see what it has seen, and carry its zone.

        Example:
            >>> from rendezvous_raft import Client
            >>> client = Client("127.0.0.1:7600")
            >>> with client.request("r1", zone="mail") as request:
            ...     request.context.encode()
            '1;r=r1;z=mail'
        """
        return RequestScope(request_id or self._ids.request_id(), zone=zone)

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return (
            f"<{type(self).__name__}{state} endpoints={','.join(self.endpoints)!r}"
            f" region={self.region!r}>"
        )

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the client is closed")

    def _outcome(self, error: RendezvousError) -> Outcome:
        """What the policy is told of a failed attempt; of a closed client there is no other."""
        return Outcome(error, math.inf if self._closed else time.monotonic())

    def _note_end_of_stream(self, endpoint: str, error: RendezvousError) -> None:
        """A stream that lasted its hour is nobody's fault, and there may be another one."""
        if isinstance(error, DeadlineExceeded):
            error.retryable = True
        else:
            self._retries.note(endpoint, error, time.monotonic())

    def _check_may_attempt(self) -> None:
        """Ends a call whose client was closed since it began."""
        if self._closed:
            raise Unavailable("not sent: the client was closed")
