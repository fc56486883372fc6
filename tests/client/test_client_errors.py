"""From the wire back to the tree of exceptions, for every class of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
import pytest
from fake_node import failure_of, metadata_of, one_of_each_error, status_of

from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2 import Failure
from rendezvous_raft.client._errors import error_from_call, error_from_failure
from rendezvous_raft.errors import (
    DeadlineExceeded,
    Disconnected,
    InternalError,
    NotFound,
    PermissionDenied,
    RendezvousError,
    Unauthenticated,
    Unavailable,
    all_error_classes,
)


@dataclass
class Ended:
    """A failed call of either gRPC stack."""

    status: grpc.StatusCode
    message: str | None = "a sentence"
    metadata: tuple[tuple[str, str | bytes], ...] | None = field(default=())

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str | None:
        return self.message

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        return self.metadata


def same(left: RendezvousError, right: RendezvousError) -> bool:
    def facts(error: RendezvousError) -> tuple[object, ...]:
        return (
            type(error),
            error.message,
            error.code,
            error.definite,
            error.retryable,
            error.leader,
            error.revision,
            error.details,
        )

    return facts(left) == facts(right)


def test_there_is_an_example_of_every_class() -> None:
    assert {type(error) for error in one_of_each_error()} == set(all_error_classes().values())


@pytest.mark.parametrize("error", one_of_each_error(), ids=lambda error: error.code)
@pytest.mark.parametrize("is_read", [True, False])
def test_a_status_with_our_metadata_round_trips(error: RendezvousError, is_read: bool) -> None:
    call = Ended(status_of(error), error.message, metadata_of(error))
    assert same(error_from_call(call, is_read=is_read), error)


@pytest.mark.parametrize("error", one_of_each_error(), ids=lambda error: error.code)
def test_a_failure_of_a_batch_round_trips(error: RendezvousError) -> None:
    error.leader = None  # a failure inside a batch has no field for it
    assert same(error_from_failure(failure_of(error), revision=41), error)


def test_a_failure_of_a_batch_says_who_leads_and_what_was_applied() -> None:
    said = {"leader": "127.0.0.1:7600", "revision": "812", "field": "x"}
    error = error_from_failure(Failure(code="no_leader", message="x", details=said))
    assert (error.leader, error.revision, error.details) == ("127.0.0.1:7600", 812, {"field": "x"})
    odd = error_from_failure(Failure(code="no_leader", details={"leader": "", "revision": "-7"}))
    assert (odd.leader, odd.revision, odd.details) == (None, None, {})
    assert error_from_failure(Failure(details={"revision": "7"}), revision=41).revision == 41


@pytest.mark.parametrize("status", [s for s in grpc.StatusCode if s is not grpc.StatusCode.OK])
def test_a_status_without_our_metadata_came_from_the_channel(status: grpc.StatusCode) -> None:
    read = error_from_call(Ended(status), is_read=True)
    write = error_from_call(Ended(status), is_read=False)
    special = {
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
        grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
        grpc.StatusCode.UNIMPLEMENTED: InternalError,
    }
    assert type(read) is special.get(status, Unavailable)
    assert type(write) is special.get(status, Disconnected)
    assert read.definite
    refused = status in special and status is not grpc.StatusCode.DEADLINE_EXCEEDED
    assert write.definite is refused


def test_what_the_node_says_of_an_error_counts() -> None:
    error = all_error_classes()["internal"]("boom")
    metadata = (
        ("rendezvous-code", error.code),
        ("rendezvous-definite", "true"),
        ("rendezvous-retryable", "true"),
    )
    received = error_from_call(Ended(grpc.StatusCode.INTERNAL, metadata=metadata), is_read=False)
    assert received.definite
    assert received.retryable
    assert not InternalError.definite


def test_a_code_of_a_newer_node_falls_back_to_its_status() -> None:
    metadata = (("rendezvous-code", "zone_not_found"), ("rendezvous-definite", "true"))
    call = Ended(grpc.StatusCode.NOT_FOUND, metadata=metadata)
    received = error_from_call(call, is_read=True)
    assert type(received) is NotFound
    assert received.definite
    unknown = error_from_failure(Failure(code="zone_not_found", message="x"))
    assert type(unknown) is InternalError


def test_malformed_metadata_does_no_harm() -> None:
    metadata = (
        ("rendezvous-code", "no_leader"),
        ("rendezvous-definite", "perhaps"),
        ("rendezvous-revision", "-7"),
        ("rendezvous-leader", ""),
        ("rendezvous-detail-field", "%FF"),
        ("rendezvous-blob-bin", b"\xff"),
    )
    received = error_from_call(Ended(grpc.StatusCode.UNAVAILABLE, metadata=metadata), is_read=True)
    assert (received.definite, received.revision, received.leader) == (False, None, None)
    assert error_from_call(Ended(grpc.StatusCode.UNKNOWN, None, None), is_read=True).message


def test_the_address_of_the_leader_is_worth_more_than_its_name() -> None:
    metadata = (
        ("rendezvous-code", "no_leader"),
        ("rendezvous-leader", "n%2F2"),
        ("rendezvous-leader-address", "[::1]:7600"),
    )
    both = Ended(grpc.StatusCode.UNAVAILABLE, metadata=metadata)
    name_only = Ended(grpc.StatusCode.UNAVAILABLE, metadata=metadata[:2])
    assert error_from_call(both, is_read=False).leader == "[::1]:7600"
    assert error_from_call(name_only, is_read=False).leader == "n/2"
