"""The exception tree of Rendezvous.

    RendezvousError                   code             definite  retryable  gRPC status
    ├─ InvalidArgument                invalid          yes       no         INVALID_ARGUMENT
    ├─ AlreadyExists                  conflict         yes       no         ALREADY_EXISTS
    ├─ NotFound                       not_found        yes       no         NOT_FOUND
    │  ├─ RequestNotFound             request_not_found
    │  ├─ BranchNotFound              branch_not_found
    │  └─ ServiceNotFound             service_not_found
    ├─ RequestExpired                 expired          yes       no         FAILED_PRECONDITION
    ├─ LimitExceeded                  limit            yes       no         RESOURCE_EXHAUSTED
    ├─ Overloaded                     overloaded       yes       yes        RESOURCE_EXHAUSTED
    │  └─ SubscriptionOverflow        subscription_overflow
    ├─ Unavailable                    unavailable      yes       yes        UNAVAILABLE
    │  ├─ NoLeader                    no_leader
    │  ├─ NotReady                    not_ready
    │  ├─ Draining                    draining
    │  └─ ReadOnly                    read_only
    ├─ OutcomeUnknown                 unknown          NO        yes        UNKNOWN
    │  ├─ ProposalTimeout             proposal_timeout
    │  ├─ LeaderChanged               leader_changed
    │  └─ Disconnected                disconnected
    ├─ DeadlineExceeded               deadline         see below no         DEADLINE_EXCEEDED
    ├─ Unauthenticated                unauthenticated  yes       no         UNAUTHENTICATED
    ├─ PermissionDenied               permission       yes       no         PERMISSION_DENIED
    └─ InternalError                  internal         NO        no         INTERNAL

`definite` says that the operation did not happen and never will; without it, it may have.
`retryable` says that the same call with the *same ids* may succeed later. A DeadlineExceeded is
definite for reads only, so it carries the flag itself. A wait that times out is a result, not an
error.
"""

from __future__ import annotations

from typing import ClassVar, Self


class RendezvousError(Exception):
    """Root of everything that Rendezvous raises on purpose. `str()` is a sentence for people."""

    code: ClassVar[str] = "internal"
    definite: bool = False
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        leader: str | None = None,
        revision: int | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.leader = leader
        """Name or address of the node that leads, as far as the failing node knew."""
        self.revision = revision
        """Revision that the failing node had applied."""
        self.details = details or {}
        """Facts by name, e.g. `field` and `limit`."""


class InvalidArgument(RendezvousError):
    """A field is outside its limits. Correct the call; nothing was changed."""

    code = "invalid"
    definite = True

    @classmethod
    def for_field(cls, field: str, problem: str) -> Self:
        """The usual form: names the field and says what is allowed."""
        return cls(f"{field}: {problem}", details={"field": field})


class AlreadyExists(RendezvousError):
    """The id is taken by something with different content. Nothing was changed."""

    code = "conflict"
    definite = True


class NotFound(RendezvousError):
    """Nothing is known under this id. It is never read as "consistent"."""

    code = "not_found"
    definite = True


class RequestNotFound(NotFound):
    """No request has this id on a node that is as fresh as was asked for."""

    code = "request_not_found"


class BranchNotFound(NotFound):
    """No branch has this id."""

    code = "branch_not_found"


class ServiceNotFound(NotFound):
    """The request never used this service."""

    code = "service_not_found"


class RequestExpired(RendezvousError):
    """The request was dropped after its time to live. Nothing can be said about it any more."""

    code = "expired"
    definite = True


class LimitExceeded(RendezvousError):
    """A bound of `limits.py` would be exceeded. `details` has `limit` and `value`."""

    code = "limit"
    definite = True


class Overloaded(RendezvousError):
    """The node sheds load. Nothing was changed; try again after a pause."""

    code = "overloaded"
    definite = True
    retryable = True


class SubscriptionOverflow(Overloaded):
    """This subscriber was too slow for its queue. Subscribe again: open branches are listed."""

    code = "subscription_overflow"


class Unavailable(RendezvousError):
    """The node cannot serve this now. Nothing was changed; another node may do it."""

    code = "unavailable"
    definite = True
    retryable = True


class NoLeader(Unavailable):
    """No leader is known: an election runs, or this node is cut off from the majority."""

    code = "no_leader"


class NotReady(Unavailable):
    """The node is still starting or has halted."""

    code = "not_ready"


class Draining(Unavailable):
    """The node is shutting down in order."""

    code = "draining"


class ReadOnly(Unavailable):
    """The node's disk is full; it takes no proposals until there is room."""

    code = "read_only"


class OutcomeUnknown(RendezvousError):
    """The write may have happened or may still happen. Retry with the same ids to find out."""

    code = "unknown"
    retryable = True


class ProposalTimeout(OutcomeUnknown):
    """The deadline passed while the command was on its way through the log."""

    code = "proposal_timeout"


class LeaderChanged(OutcomeUnknown):
    """The leader changed while the command was on its way through the log."""

    code = "leader_changed"


class Disconnected(OutcomeUnknown):
    """The connection broke between call and answer."""

    code = "disconnected"


class DeadlineExceeded(RendezvousError):
    """The deadline passed. Definite for reads; a write may have happened."""

    code = "deadline"

    def __init__(
        self,
        message: str,
        *,
        definite: bool,
        leader: str | None = None,
        revision: int | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, leader=leader, revision=revision, details=details)
        self.definite = definite


class Unauthenticated(RendezvousError):
    """The caller did not prove who it is."""

    code = "unauthenticated"
    definite = True


class PermissionDenied(RendezvousError):
    """The caller may not do this."""

    code = "permission"
    definite = True


class InternalError(RendezvousError):
    """A fault of Rendezvous itself. Please report it with the incident id in `details`."""

    code = "internal"


def all_error_classes() -> dict[str, type[RendezvousError]]:
    """Every concrete class by its `code`; what turns a wire status back into an exception."""
    classes: dict[str, type[RendezvousError]] = {}
    pending: list[type[RendezvousError]] = [RendezvousError]
    while pending:
        cls = pending.pop()
        for child in cls.__subclasses__():
            classes[child.code] = child
            pending.append(child)
    return classes
