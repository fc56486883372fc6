"""What clients of the originals are told, word for word; everything else is as in the native API.

Each function makes a new error: an exception carries where it was raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rendezvous_raft import errors

UNKNOWN_REQUEST = "Invalid request identifier"
EMPTY_SERVICE = "Service cannot be empty"
EMPTY_REGION = "Region cannot be empty"
NOT_REGISTERED = "Error registering branch"
UNKNOWN_BID = "No branch was found with the provided bid"
NOT_IN_REGION = "Branch does not exist in the given region"
UNKNOWN_PLACE = "Invalid service or region provided"
UNKNOWN_TAG = "Invalid service tag"
UNKNOWN_SERVICE = "Invalid service"
UNKNOWN_WAITER = "Current service branch needs to be registered before any wait call"
SERVICE_TWICE = "Cannot provide either 'service' or 'services' simultaneously"
TAG_ALONE = "Tag can only be specified when service is specified"
BIDS_NOT_VISIBLE = "Timedout while waiting for bids to be visible"


def invalid(message: str) -> errors.InvalidArgument:
    """INVALID_ARGUMENT."""
    return errors.InvalidArgument(message)


def not_found(message: str) -> errors.NotFound:
    """NOT_FOUND."""
    return errors.NotFound(message)


def unreadable_bid(message: str) -> errors.InternalError:
    """INTERNAL, as the originals have it, though the fault is the caller's: nothing was changed."""
    error = errors.InternalError(message)
    error.definite = True
    return error


@contextmanager
def request_has_to_be_known() -> Iterator[None]:
    """An unknown request is INVALID_ARGUMENT here, and an expired one is an unknown one."""
    try:
        yield
    except (errors.RequestNotFound, errors.RequestExpired) as error:
        raise errors.InvalidArgument(UNKNOWN_REQUEST, revision=error.revision) from None
