"""The one place that turns errors into gRPC status, trailing metadata and `Failure` messages."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import grpc

from rendezvous_raft import errors
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from rendezvous_raft.node.status import ClusterStatus

_STATUS_BY_CLASS: dict[type[errors.RendezvousError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.RequestExpired: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.OutcomeUnknown: grpc.StatusCode.UNKNOWN,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}
DETAILS_MAX = 16
"""Facts that travel with one failure."""
TEXT_BYTES_MAX = 512
"""Of a message or a fact; in metadata each byte may take three."""
FACTS_BYTES_MAX = 4_096
"""Of all facts in metadata: clients drop trailers at random from 8 KiB on."""
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def status_of(error: errors.RendezvousError) -> grpc.StatusCode:
    """The status of an error, that of its nearest class in the table; INTERNAL for the root."""
    for cls in type(error).__mro__:
        status = _STATUS_BY_CLASS.get(cls)
        if status is not None:
            return status
    return grpc.StatusCode.INTERNAL


class _Hints(NamedTuple):
    """What the node knows that helps a caller whose call failed."""

    revision: int
    leader: str | None
    leader_address: str
    """For clients; empty when it is not known."""


class FailureReporter:
    """Says what went wrong, and who leads, to whoever called."""

    def __init__(
        self, *, status: Callable[[], ClusterStatus], logger: FilteringBoundLogger
    ) -> None:
        """Keeps what it needs.

        Args:
            status: the node's view of its cluster, for the hints.
            logger: where faults of the service itself are written.
        """
        self._status = status
        self._logger = logger

    def expected(self, error: Exception, *, method: str) -> errors.RendezvousError:
        """The error itself when it is one of ours; else an InternalError, logged once.

        Its traceback has served, and is dropped: a frame in it that knows the error makes a cycle,
        which would have to wait for the garbage collector (`collector.py`).
        """
        if isinstance(error, errors.RendezvousError):
            _drop_tracebacks(error)
            return error
        incident = secrets.token_hex(8)
        self._logger.error("call_failed", method=method, incident=incident, exc_info=error)
        _drop_tracebacks(error)
        return errors.InternalError(
            f"internal error, please report it with the incident id {incident}",
            details={"incident": incident},
        )

    def trailing_metadata(self, error: errors.RendezvousError) -> tuple[tuple[str, str], ...]:
        """What a caller needs to decide what to do next."""
        hints = self._hints(error)
        metadata = [
            ("rendezvous-code", error.code),
            ("rendezvous-definite", _flag(error.definite)),
            ("rendezvous-retryable", _flag(error.retryable)),
            ("rendezvous-revision", str(hints.revision)),
        ]
        if hints.leader:
            metadata.append(("rendezvous-leader", _encode(hints.leader)))
        if hints.leader_address:
            metadata.append(("rendezvous-leader-address", _encode(hints.leader_address)))
        return (*metadata, *_facts(error))

    def failure(self, error: errors.RendezvousError) -> pb.Failure:
        """The same inside a stream, which has no trailing metadata for one of its items."""
        hints = self._hints(error)
        failure = to_failure(error)
        failure.details["revision"] = str(hints.revision)
        leader = hints.leader_address or hints.leader
        if leader:
            failure.details["leader"] = _shorten(leader)
        return failure

    def _hints(self, error: errors.RendezvousError) -> _Hints:
        status = self._status()
        leader = error.leader or status.leader
        addresses = (
            member.grpc_address
            for member in status.members
            if leader and leader in (member.name, member.grpc_address)
        )
        revision = status.revision if error.revision is None else error.revision
        return _Hints(revision, leader, next(addresses, ""))


def message_of(error: errors.RendezvousError) -> str:
    """The sentence for people, bounded."""
    return _shorten(error.message)


def to_failure(error: errors.RendezvousError) -> pb.Failure:
    """The form inside an answer, which has its own revision."""
    facts = list(error.details.items())[:DETAILS_MAX]
    return pb.Failure(
        code=error.code,
        message=message_of(error),
        definite=error.definite,
        retryable=error.retryable,
        details={name: _shorten(text) for name, text in facts},
    )


def _drop_tracebacks(error: BaseException | None) -> None:
    """Of an error and of those that led to it."""
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _facts(error: errors.RendezvousError) -> Iterator[tuple[str, str]]:
    room = FACTS_BYTES_MAX
    for name, text in list(error.details.items())[:DETAILS_MAX]:
        fact = (f"rendezvous-detail-{name}", _encode(text))
        room -= len(fact[0]) + len(fact[1])
        if room >= 0:
            yield fact


def _shorten(text: str) -> str:
    return text.encode("utf-8", "replace")[:TEXT_BYTES_MAX].decode("utf-8", "ignore")


def _flag(value: bool) -> str:  # noqa: FBT001
    return "true" if value else "false"


def _encode(text: str) -> str:
    """Percent-encoded ASCII: header values can hold nothing else."""
    return quote(_shorten(text), safe=_PLAIN)
