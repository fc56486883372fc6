"""A call as both twins see it: one message, one conversion, and what it means for the context."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client._ids import IdFactory
from rendezvous_raft.client._policy import Attempt, CallKind
from rendezvous_raft.client.arguments import Seconds
from rendezvous_raft.context import REVISION_MAX, Session, current_session
from rendezvous_raft.errors import InvalidArgument, LimitExceeded, RendezvousError
from rendezvous_raft.limits import GRPC_MESSAGE_BYTES_MAX

WAIT_MARGIN_S_MIN = 1.0
WAIT_MARGIN_S_MAX = 5.0

SECONDS_MAX = 1_000_000_000
"""Longest time that a caller may give, some thirty years: gRPC counts nanoseconds since 1970, and
takes what goes beyond its 64 bits for a time that has passed."""
REQUEST_BYTES_MAX = GRPC_MESSAGE_BYTES_MAX - 64
"""Bytes of a request. The rest is for its times, set later, and for the stream of writes, which
wraps it; one message too large would break that stream for all the writes on it."""

AnswerT = TypeVar("AnswerT", bound=Message)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Method(Generic[AnswerT]):
    """An RPC of the contract."""

    service: str
    name: str
    answer: type[AnswerT]
    kind: CallKind
    execute_field: str = ""
    """Field of ExecuteItem and ExecuteResult; empty: it does not travel on a stream."""

    @property
    def path(self) -> str:
        """The path of the RPC."""
        return f"/rendezvous.v1.{self.service}/{self.name}"


def _metadata(name: str, answer: type[AnswerT], execute_field: str = "") -> Method[AnswerT]:
    kind = CallKind.WRITE if execute_field else CallKind.READ
    return Method("MetadataService", name, answer, kind, execute_field)


REGISTER_REQUEST = _metadata("RegisterRequest", pb.RegisterRequestResponse, "register_request")
REGISTER_BRANCH = _metadata("RegisterBranch", pb.RegisterBranchResponse, "register_branch")
REGISTER_BRANCHES = _metadata("RegisterBranches", pb.RegisterBranchesResponse, "register_branches")
CLOSE_BRANCH = _metadata("CloseBranch", pb.CloseBranchResponse, "close_branch")
CLOSE_BRANCHES = _metadata("CloseBranches", pb.CloseBranchesResponse, "close_branches")
EXECUTE = _metadata("Execute", pb.ExecuteResponse)
WAIT_REQUEST = _metadata("WaitRequest", pb.WaitRequestResponse)
CHECK_REQUEST = _metadata("CheckRequest", pb.CheckRequestResponse)
CHECK_BY_REGIONS = _metadata("CheckRequestByRegions", pb.CheckRequestByRegionsResponse)
FETCH_DEPENDENCIES = _metadata("FetchDependencies", pb.FetchDependenciesResponse)
DESCRIBE_REQUEST = _metadata("DescribeRequest", pb.DescribeRequestResponse)
LIST_REQUESTS = _metadata("ListRequests", pb.ListRequestsResponse)
SUBSCRIBE = _metadata("Subscribe", pb.SubscribeResponse)
WATCH_REQUEST = _metadata("WatchRequest", pb.WatchRequestResponse)
CLUSTER_STATUS = Method(
    "AdminService", "GetClusterStatus", admin.GetClusterStatusResponse, CallKind.READ
)
DIGEST = Method("AdminService", "GetDigest", admin.GetDigestResponse, CallKind.READ)
TAKE_SNAPSHOT = Method("AdminService", "TakeSnapshot", admin.TakeSnapshotResponse, CallKind.ORDER)
TRANSFER_LEADERSHIP = Method(
    "AdminService", "TransferLeadership", admin.TransferLeadershipResponse, CallKind.ORDER
)
ADD_MEMBER = Method("AdminService", "AddMember", admin.AddMemberResponse, CallKind.ORDER)
REMOVE_MEMBER = Method("AdminService", "RemoveMember", admin.RemoveMemberResponse, CallKind.ORDER)


@dataclass(slots=True)
class Call(Generic[AnswerT, ResultT]):
    """One call of one client method, through all its attempts.

    Raises:
        LimitExceeded: The request is larger than a message may be.
    """

    method: Method[AnswerT]
    request: Message
    convert: Callable[[AnswerT], ResultT]
    timeout_s: float
    """How long it may take with all its attempts."""
    session: Session | None = field(default_factory=current_session)
    registering: tuple[str, ...] = ()
    """Branches that this call registers in the session's request."""
    required: tuple[str, ...] = ()
    """Branches that this wait requires."""
    blocking_s: float | None = None
    """How long the node may hold the call back, which then travels alone; None: it may not."""
    await_registration_s: float | None = None
    """How long the node shall wait for what is not registered yet; None: not at all."""
    _begun_at: float = 0.0

    def __post_init__(self) -> None:
        check_size(self.request)

    @property
    def blocking(self) -> bool:
        """Whether the node may hold the call back."""
        return self.blocking_s is not None

    def begin(self, now: float) -> float | None:
        """Before the first attempt; until when the node may hold the call back."""
        if self.registering and self.session is not None:
            self.session.begin(self.registering)
        self._begun_at = now
        return None if self.blocking_s is None else now + self.blocking_s

    def prepare(self, attempt: Attempt, now: float) -> float:
        """Tells the request what is left of its times; returns the time-out of the RPC."""
        rpc_timeout_s = max(attempt.deadline - now, 0.001)
        elapsed_s = 0.0 if attempt.number == 1 else now - self._begun_at
        if self.await_registration_s is not None:
            left_s = max(0.0, self.await_registration_s - elapsed_s)
            _set_duration(self.request, "await_registration", left_s)
        if isinstance(self.request, pb.WaitRequestRequest) and self.blocking_s is not None:
            left_s = self.blocking_s - elapsed_s
            # The time of the wait is over, and its node was silent: another one is asked how it is.
            _set_duration(self.request, "timeout", left_s if left_s > 0 else rpc_timeout_s / 2)
        return rpc_timeout_s

    def succeed(self, answer: AnswerT) -> ResultT:
        """Converts the answer and lets the context learn from it."""
        result = self.convert(answer)
        if self.session is not None:
            revision = int(getattr(answer, "revision", 0))
            # A wait that was not cut off knows its required branches at its revision.
            known = () if getattr(answer, "timed_out", False) else self.required
            if self.registering or known:
                self.session.acknowledge(self.registering + known, revision=revision)
            else:
                self.session.fold(revision)
        return result

    def fail(self, error: RendezvousError) -> None:
        """Lets the context learn from the failure: a branch may be on its way or is not."""
        if self.session is None:
            return
        if error.revision is not None:
            self.session.fold(error.revision)
        if error.definite and self.registering:
            self.session.withdraw(self.registering)


@dataclass(frozen=True, slots=True)
class CallDefaults:
    """What a client brings to every call."""

    region: str
    timeout_s: float
    ids: IdFactory

    def timeout(self, timeout: Seconds | None, *, blocking_s: float = 0.0) -> float:
        """The time a call gets: as asked, or the client's beside what the node may block."""
        if timeout is None:
            return self.timeout_s + blocking_s
        return positive_seconds("timeout", timeout)


def seconds(name: str, value: Seconds) -> float:
    """A duration in seconds, not negative and at most `SECONDS_MAX`.

    Raises:
        InvalidArgument: It is something else.
    """
    number = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if not 0 <= number <= SECONDS_MAX:
        raise InvalidArgument.for_field(name, f"0 to {SECONDS_MAX} seconds")
    return float(number)


def revision(name: str, value: int) -> int:
    """A revision that a message can carry.

    Raises:
        InvalidArgument: It is something else.
    """
    if not 0 <= value <= REVISION_MAX:
        raise InvalidArgument.for_field(name, f"0 to {REVISION_MAX}")
    return value


def positive_seconds(name: str, value: Seconds) -> float:
    """A duration in seconds, more than none.

    Raises:
        InvalidArgument: It is something else.
    """
    number = seconds(name, value)
    if number == 0:
        raise InvalidArgument.for_field(name, "more than 0 seconds")
    return number


def duration(value_s: float) -> Duration:
    """The message of a duration."""
    whole = int(value_s)
    return Duration(seconds=whole, nanos=int((value_s - whole) * 1e9))


def wait_margin_s(wait_s: float) -> float:
    """How much longer than a wait its call may last, so that a time-out arrives as a result."""
    return min(WAIT_MARGIN_S_MAX, max(WAIT_MARGIN_S_MIN, wait_s / 10))


def optional_seconds(name: str, value: Seconds | None) -> float | None:
    """A duration that may be absent, in seconds."""
    return None if value is None else seconds(name, value)


def optional_duration(name: str, value: Seconds | None) -> Duration | None:
    """The message of a duration that may be absent."""
    return None if value is None else duration(seconds(name, value))


def _set_duration(request: Message, name: str, value_s: float) -> None:
    field_value: Duration = getattr(request, name)
    field_value.CopyFrom(duration(value_s))


def names(field_name: str, values: Sequence[str]) -> Sequence[str]:
    """Several names; one string is refused, for it would be taken letter by letter.

    Raises:
        InvalidArgument: It is one string.
    """
    if isinstance(values, str):
        raise InvalidArgument.for_field(field_name, f"a sequence of strings, not {values!r}")
    return values


def check_size(request: Message) -> None:
    """Refuses what gRPC would not send: its own refusal looks like a broken connection.

    Raises:
        LimitExceeded: The message is too large; the largest field is named.
    """
    size_bytes = request.ByteSize()
    if size_bytes <= REQUEST_BYTES_MAX:
        return
    field_name = _largest_field(request)
    raise LimitExceeded(
        f"{field_name}: a call of {size_bytes} bytes is too large, of which this field is the most;"
        f" grpc_message_bytes_max allows {REQUEST_BYTES_MAX}",
        details={
            "field": field_name,
            "limit": "grpc_message_bytes_max",
            "value": str(size_bytes),
        },
    )


def _largest_field(request: Message) -> str:
    rests: dict[str, int] = {}
    for descriptor, _ in request.ListFields():
        rest = type(request)()
        rest.CopyFrom(request)
        rest.ClearField(descriptor.name)
        rests[descriptor.name] = rest.ByteSize()
    return min(rests, key=rests.__getitem__)
