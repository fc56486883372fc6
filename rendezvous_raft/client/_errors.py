"""From a gRPC status, or a failure inside a batch, back to one tree of exceptions.

A status with our trailing metadata says what happened. One without it was made by the channel or by
something in between: for a write nobody knows whether it was done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol
from urllib.parse import unquote

import grpc

from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2 import Failure
from rendezvous_raft.errors import (
    AlreadyExists,
    DeadlineExceeded,
    Disconnected,
    InternalError,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RendezvousError,
    RequestExpired,
    Unauthenticated,
    Unavailable,
    all_error_classes,
)

_CODE = "rendezvous-code"
_DEFINITE = "rendezvous-definite"
_RETRYABLE = "rendezvous-retryable"
_LEADER = "rendezvous-leader"
_LEADER_ADDRESS = "rendezvous-leader-address"
_REVISION = "rendezvous-revision"
_DETAIL_PREFIX = "rendezvous-detail-"

_CLASSES = all_error_classes()
_CLASS_BY_STATUS: dict[grpc.StatusCode, type[RendezvousError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: RequestExpired,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNKNOWN: OutcomeUnknown,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}
# Whoever sends these refused the call before it reached a node.
_REFUSALS = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


class FailedCall(Protocol):
    """What the failures of both gRPC stacks have in common."""

    def code(self) -> grpc.StatusCode:
        """The status code."""

    def details(self) -> str | None:
        """The message of the status."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The trailing metadata, if any came."""


def error_from_call(call: FailedCall, *, is_read: bool) -> RendezvousError:
    """The exception for a failed call; `is_read` says whether trying it could change anything."""
    metadata = _text_metadata(call.trailing_metadata())
    status = call.code()
    message = call.details() or status.name
    if _CODE not in metadata:
        return _error_of_channel(status, message, is_read=is_read)
    return _error(
        metadata[_CODE],
        message,
        fallback=_CLASS_BY_STATUS.get(status, InternalError),
        definite=metadata.get(_DEFINITE) == "true",
        retryable=metadata.get(_RETRYABLE) == "true",
        # The address is of use to whoever tries again, the name to people.
        leader=unquote(metadata.get(_LEADER_ADDRESS) or metadata.get(_LEADER, "")) or None,
        revision=_revision(metadata.get(_REVISION, "")),
        details={
            name.removeprefix(_DETAIL_PREFIX): unquote(value)
            for name, value in metadata.items()
            if name.startswith(_DETAIL_PREFIX)
        },
    )


def error_from_failure(failure: Failure, *, revision: int | None = None) -> RendezvousError:
    """The exception for a failure inside a batch; what it says of leader and revision is used."""
    details = dict(failure.details)
    leader, own_revision = details.pop("leader", ""), _revision(details.pop("revision", ""))
    return _error(
        failure.code,
        failure.message,
        fallback=InternalError,
        definite=failure.definite,
        retryable=failure.retryable,
        leader=leader or None,
        revision=own_revision if revision is None else revision,
        details=details,
    )


def deadline_passed(*, is_read: bool) -> DeadlineExceeded:
    """The exception for a deadline that this side noticed."""
    return DeadlineExceeded("the deadline passed before the answer came", definite=is_read)


def _error_of_channel(status: grpc.StatusCode, message: str, *, is_read: bool) -> RendezvousError:
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return deadline_passed(is_read=is_read)
    if status in _REFUSALS:
        return _CLASS_BY_STATUS[status](message)
    if status is grpc.StatusCode.UNIMPLEMENTED:
        error = InternalError(f"the endpoint does not offer this call: {message}")
        error.definite = True
        return error
    text = f"{status.name}: {message}"
    return Unavailable(text) if is_read else Disconnected(text)


def _error(
    code: str,
    message: str,
    *,
    fallback: type[RendezvousError],
    definite: bool,
    retryable: bool,
    leader: str | None,
    revision: int | None,
    details: dict[str, str],
) -> RendezvousError:
    """What the node says of `definite` and `retryable` counts, also for a code from the future."""
    cls = _CLASSES.get(code, fallback)
    error: RendezvousError
    if issubclass(cls, DeadlineExceeded):
        error = cls(message, definite=definite, leader=leader, revision=revision, details=details)
    else:
        error = cls(message, leader=leader, revision=revision, details=details)
    if error.definite != definite:
        error.definite = definite
    if error.retryable != retryable:
        error.retryable = retryable
    return error


def _text_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Mapping[str, str]:
    return {name: value for name, value in metadata or () if isinstance(value, str)}


def _revision(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
