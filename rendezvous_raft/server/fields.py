"""Checks of single fields: sizes, alphabets, ranges (semantics G1). Each names field and limit.

The hot path goes through here for every string of a call, so the good case is one cheap test, and
the path of a field is put together only to complain: `parent` is what stands before `field`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rendezvous_raft.config import NODE_NAME_PATTERN, check_dialable
from rendezvous_raft.errors import InvalidArgument
from rendezvous_raft.limits import ID_ALPHABET, ID_BYTES_MAX, NAME_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.duration_pb2 import Duration

_ID = re.compile(f"{ID_ALPHABET}{{1,{ID_BYTES_MAX}}}").fullmatch
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]").search  # exactly the category Cc
_DURATION_SECONDS_MAX = 315_576_000_000  # what a protobuf Duration may hold: 10,000 years
_NANOS = 1_000_000_000


def check_id(text: str, field: str, parent: str = "") -> str:
    """An id that has to be there.

    Raises:
        InvalidArgument: it is empty, too long, or has a character outside the alphabet.
    """
    if _ID(text):
        return text
    field = _path(parent, field)
    if not text:
        raise InvalidArgument.for_field(field, "must not be empty")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > ID_BYTES_MAX:
        raise _too_long(field, size=size, bytes_max=ID_BYTES_MAX)
    raise InvalidArgument.for_field(field, f"only {ID_ALPHABET} are allowed")


def check_optional_id(text: str, field: str, parent: str = "") -> str:
    """An id that may be empty.

    Raises:
        InvalidArgument: as `check_id`.
    """
    return check_id(text, field, parent) if text else text


def check_name(text: str, field: str, parent: str = "") -> str:
    """A service, region, tag, zone or group; it may be empty.

    Raises:
        InvalidArgument: it is too long, has control characters, or is not valid text.
    """
    if len(text) <= NAME_BYTES_MAX and text.isascii() and text.isprintable():
        return text
    field = _path(parent, field)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgument.for_field(field, "must be valid UTF-8") from None
    if size > NAME_BYTES_MAX:
        raise _too_long(field, size=size, bytes_max=NAME_BYTES_MAX)
    if _CONTROL(text):
        raise InvalidArgument.for_field(field, "must not have control characters")
    return text


def check_given_name(text: str, field: str, parent: str = "") -> str:
    """A name that has to be there.

    Raises:
        InvalidArgument: it is empty, or as `check_name`.
    """
    if not text:
        raise InvalidArgument.for_field(_path(parent, field), "must not be empty")
    return check_name(text, field, parent)


def check_node_name(text: str, field: str) -> str:
    """The name of a member.

    Raises:
        InvalidArgument: it is empty or too long, or has other characters than letters, digits and
            `_.-`.
    """
    if not re.fullmatch(NODE_NAME_PATTERN, text):
        raise InvalidArgument.for_field(
            field, f"must be 1 to 64 letters, digits, '_', '.' or '-', not {text!r}"
        )
    return text


def check_address(text: str, field: str) -> str:
    """An address that others can dial, host:port.

    Raises:
        InvalidArgument: it is something else, or stands for every interface or any port.
    """
    try:
        return check_dialable(text)
    except ValueError as error:
        raise InvalidArgument.for_field(field, str(error)) from None


def check_names(texts: Iterable[str], field: str, *, count_max: int) -> tuple[str, ...]:
    """Names that have to be there, in the order of the call, duplicates collapsed.

    Raises:
        InvalidArgument: there are too many, or one is wrong; the path has its index.
    """
    names = dict.fromkeys(
        check_given_name(text, f"{field}[{index}]") for index, text in enumerate(texts)
    )
    check_count(len(names), field, count_max=count_max)
    return tuple(names)


def check_ids(texts: Iterable[str], field: str, *, count_max: int) -> tuple[str, ...]:
    """Ids in the order of the call, duplicates collapsed.

    Raises:
        InvalidArgument: there are too many, or one is wrong; the path has its index.
    """
    ids = dict.fromkeys(check_id(text, f"{field}[{index}]") for index, text in enumerate(texts))
    check_count(len(ids), field, count_max=count_max)
    return tuple(ids)


def check_count(count: int, field: str, *, count_max: int, count_min: int = 0) -> None:
    """How many there are.

    Raises:
        InvalidArgument: fewer than `count_min` or more than `count_max`.
    """
    if count < count_min:
        raise InvalidArgument.for_field(field, f"at least {count_min} is needed")
    if count > count_max:
        error = InvalidArgument.for_field(field, f"at most {count_max} are allowed, not {count}")
        error.details["limit"] = str(count_max)
        raise error


def check_bytes(value: bytes, field: str, parent: str, *, bytes_max: int) -> bytes:
    """Opaque bytes.

    Raises:
        InvalidArgument: there are too many.
    """
    if len(value) > bytes_max:
        raise _too_long(_path(parent, field), size=len(value), bytes_max=bytes_max)
    return value


def duration_s(duration: Duration, field: str) -> float:
    """Seconds of a Duration; an absent one is 0.

    Raises:
        InvalidArgument: it is negative or malformed.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if not (seconds or nanos):
        return 0.0
    if seconds < 0 or nanos < 0:
        raise InvalidArgument.for_field(field, "must not be negative")
    if seconds > _DURATION_SECONDS_MAX or nanos >= _NANOS:
        raise InvalidArgument.for_field(field, "is not a valid duration")
    return seconds + nanos / _NANOS


def _path(parent: str, field: str) -> str:
    return f"{parent}.{field}" if parent else field


def _too_long(field: str, *, size: int, bytes_max: int) -> InvalidArgument:
    error = InvalidArgument.for_field(field, f"at most {bytes_max} bytes are allowed, not {size}")
    error.details["limit"] = str(bytes_max)
    return error
