"""What travels with a request: its id, its zone, how far it has seen, and what is on its way.

A `RendezvousContext` is an immutable value with one text form for every carrier (headers, message
attributes, fields of a row). The current one lives in a context variable. The variable holds a
`Session`, a small cell that the tasks and threads of one request share, so that what a child task
learns from a reply is seen by the parent that sends the notification; `current_context()` is an
immutable look at it. Tasks and `asyncio.to_thread` take the variable along. A plain thread, or one
of an executor, does not and would be outside of the request: start it with
`contextvars.copy_context().run`.

A context is a hint and no identity: a forged revision can only make its sender wait.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote, unquote

from rendezvous_raft.errors import InvalidArgument, LimitExceeded
from rendezvous_raft.limits import (
    CONTEXT_BRANCHES_MAX,
    CONTEXT_BYTES_MAX,
    ID_ALPHABET,
    ID_BYTES_MAX,
    NAME_BYTES_MAX,
    StateLimits,
)

CONTEXT_HEADER = "rendezvous-context"
"""Name of the header, metadata key or message attribute that carries the text form."""
CONTEXT_HEADER_JMS = "rendezvous_context"
"""The same where a hyphen is not allowed (STOMP, field names of rows)."""

REVISION_MAX = 2**63 - 1
"""Highest revision there can be."""

_FORMAT_VERSION = "1"
_UNACKNOWLEDGED_MAX = StateLimits().branches_per_request_max
_SAFE_CHARACTERS = "/:@"  # of the alphabet of ids, beside what `quote` always leaves
_ID = re.compile(rf"{ID_ALPHABET}{{1,{ID_BYTES_MAX}}}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

DropHook = Callable[[str], None]
"""Is told why a foreign value was dropped: `too_long`, `version` or `malformed`."""


@dataclass(frozen=True, slots=True)
class RendezvousContext:
    """What a request carries from process to process.

    Example:
        >>> context = RendezvousContext("r1", zone="", min_revision=7, unacknowledged=("post-1",))
        >>> context.encode()
        '1;r=r1;z=;v=7;q=post-1'
        >>> RendezvousContext.decode("1;r=r1;z=;v=7;q=post-1") == context
        True

    Raises:
        InvalidArgument: A field is outside its limits.
    """

    request_id: str
    zone: str | None = None
    """None: no zone was given. An empty string is the root zone, given."""
    min_revision: int = 0
    """Highest revision seen; reads of this request are at least as fresh."""
    unacknowledged: tuple[str, ...] = ()
    """Branches whose registration was sent but not acknowledged; a wait requires them."""

    def __post_init__(self) -> None:
        _check_id("request_id", self.request_id)
        for branch_id in self.unacknowledged:
            _check_id("unacknowledged", branch_id)
        if self.zone is not None:
            _check_zone(self.zone)
        if not 0 <= self.min_revision <= REVISION_MAX:
            raise InvalidArgument.for_field("min_revision", f"0 to {REVISION_MAX}")

    def encode(self) -> str:
        """The text form, ASCII, at most `CONTEXT_BYTES_MAX` bytes.

        Raises:
            LimitExceeded: More registrations are on their way than a context can name. Leaving one
                out could hide a write from its reader, so await some of them first.
        """
        if len(self.unacknowledged) > CONTEXT_BRANCHES_MAX:
            raise _too_much("context_branches_max", len(self.unacknowledged))
        fields = [_FORMAT_VERSION, f"r={_quoted(self.request_id)}"]
        if self.zone is not None:
            fields.append(f"z={_quoted(self.zone)}")
        if self.min_revision:
            fields.append(f"v={self.min_revision}")
        if self.unacknowledged:
            fields.append("q=" + ",".join(map(_quoted, self.unacknowledged)))
        text = ";".join(fields)
        if len(text) > CONTEXT_BYTES_MAX:
            raise _too_much("context_bytes_max", len(text))
        return text

    @classmethod
    def decode(
        cls, text: object, *, on_dropped: DropHook | None = None
    ) -> RendezvousContext | None:
        """Reads the text form; whatever is not one is no context.

        Never raises on foreign input. `on_dropped` is told why a value was dropped; None, the
        absence of a value, is not counted as one.
        """
        if text is None:
            return None
        context, fault = _parse(text)
        if fault and on_dropped is not None:
            on_dropped(fault)
        return context

    def to_headers(self) -> dict[str, str]:
        """The header that carries this context, for HTTP, gRPC metadata and message attributes.

        Raises:
            LimitExceeded: See `encode`.
        """
        return {CONTEXT_HEADER: self.encode()}

    @classmethod
    def from_headers(
        cls,
        headers: Mapping[str, object] | Iterable[tuple[str, object]],
        *,
        on_dropped: DropHook | None = None,
    ) -> RendezvousContext | None:
        """Finds and reads the context among headers of any case; None when there is none."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        for name, value in pairs:
            if str(name).lower() in {CONTEXT_HEADER, CONTEXT_HEADER_JMS}:
                return cls.decode(value, on_dropped=on_dropped)
        return None


class _Progress:
    """What is known of a request in this process; every access holds the lock."""

    __slots__ = ("lock", "min_revision", "registrations")

    def __init__(self, context: RendezvousContext) -> None:
        self.lock = threading.Lock()
        self.min_revision = context.min_revision
        self.registrations = dict.fromkeys(context.unacknowledged, 1)
        """Calls that registered each branch and are on their way or ended with an unknown outcome.
        Only the last one that certainly failed may say that the branch does not exist."""


class Session:
    """The living context of one request in this process, shared by its tasks and threads."""

    __slots__ = ("_progress", "request_id", "zone")

    def __init__(self, context: RendezvousContext) -> None:
        self.request_id = context.request_id
        self.zone = context.zone
        self._progress = _Progress(context)

    def in_zone(self, zone: str | None) -> Session:
        """The same request in another zone: what one of them learns, both know."""
        session = Session(RendezvousContext(self.request_id, zone))
        session._progress = self._progress
        return session

    @property
    def context(self) -> RendezvousContext:
        """The context as it is now."""
        progress = self._progress
        with progress.lock:
            return RendezvousContext(
                self.request_id, self.zone, progress.min_revision, tuple(progress.registrations)
            )

    @property
    def min_revision(self) -> int:
        """Highest revision seen."""
        return self._progress.min_revision

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """Branches on their way, oldest first."""
        with self._progress.lock:
            return tuple(self._progress.registrations)

    def fold(self, revision: int) -> None:
        """Keeps the higher of the known revision and this one."""
        with self._progress.lock:
            self._fold(revision)

    def begin(self, branch_ids: Iterable[str]) -> None:
        """A call that registers these branches is about to be sent.

        Raises:
            LimitExceeded: Too many are on their way; nothing was begun.
        """
        with self._progress.lock:
            begun = dict(self._progress.registrations)
            for branch_id in branch_ids:
                begun[branch_id] = begun.get(branch_id, 0) + 1
            # Registrations with an unknown outcome stay, so the number needs a bound.
            if len(begun) > _UNACKNOWLEDGED_MAX:
                raise _too_much("branches_per_request_max", len(begun))
            self._progress.registrations = begun

    def acknowledge(self, branch_ids: Iterable[str], *, revision: int) -> None:
        """These branches are registered at `revision`."""
        # One critical section: a context taken between the two steps would know of neither.
        with self._progress.lock:
            self._fold(revision)
            for branch_id in branch_ids:
                self._progress.registrations.pop(branch_id, None)

    def withdraw(self, branch_ids: Iterable[str]) -> None:
        """A call that was begun with these branches certainly did not register them.

        One of them is forgotten when no other call may have registered it.
        """
        with self._progress.lock:
            registrations = self._progress.registrations
            for branch_id in branch_ids:
                if registrations.get(branch_id, 0) > 1:
                    registrations[branch_id] -= 1
                else:
                    registrations.pop(branch_id, None)

    def _fold(self, revision: int) -> None:
        known = self._progress.min_revision
        self._progress.min_revision = max(known, min(revision, REVISION_MAX))


_current: ContextVar[Session | None] = ContextVar("rendezvous_session", default=None)


def current_session() -> Session | None:
    """The living context, for the client; applications use `current_context`."""
    return _current.get()


def current_context() -> RendezvousContext | None:
    """The context of the request that runs here, or None outside of a request."""
    session = _current.get()
    return None if session is None else session.context


def fold_revision(revision: int) -> None:
    """Raises the revision of the current context, if there is one; it never goes down."""
    session = _current.get()
    if session is not None:
        session.fold(revision)


@contextmanager
def use_context(context: RendezvousContext | None) -> Generator[Session | None]:
    """Makes a received context the current one inside the block; None means no request.

    Consumers of batches use it once for each message.

    Example:
        >>> with use_context(RendezvousContext.decode("1;r=r1;v=7")):
        ...     current_context().min_revision
        7
    """
    with use_session(None if context is None else Session(context)) as session:
        yield session


@contextmanager
def use_session(session: Session | None) -> Generator[Session | None]:
    """Makes a session the current one inside the block, for the client."""
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)


def _parse(text: object) -> tuple[RendezvousContext | None, str]:
    """The context, or None and the reason why it was dropped."""
    if isinstance(text, bytes | bytearray | str):
        if len(text) > CONTEXT_BYTES_MAX:
            return None, "too_long"
        try:
            ascii_text = text if isinstance(text, str) else bytes(text).decode("ascii")
            return _parse_text(ascii_text)
        except (ValueError, InvalidArgument):  # UnicodeDecodeError is a ValueError
            return None, "malformed"
    return None, "malformed"


def _parse_text(text: str) -> tuple[RendezvousContext | None, str]:
    version, *fields = text.split(";")
    if version != _FORMAT_VERSION:
        is_other_version = version.isascii() and version.isdigit()
        return None, "version" if is_other_version else "malformed"
    values: dict[str, str] = {}
    for field in fields:
        name, separator, value = field.partition("=")
        if not separator or name in values:
            return None, "malformed"
        values[name] = value
    revision = values.get("v", "0")
    quoted_ids = [part for part in values.get("q", "").split(",") if part]
    if not (revision.isascii() and revision.isdigit()) or len(quoted_ids) > CONTEXT_BRANCHES_MAX:
        return None, "malformed"
    context = RendezvousContext(
        request_id=_unquoted(values.get("r", "")),
        zone=_unquoted(values["z"]) if "z" in values else None,
        min_revision=int(revision),
        unacknowledged=tuple(map(_unquoted, quoted_ids)),
    )
    return context, ""


def _quoted(value: str) -> str:
    return quote(value, safe=_SAFE_CHARACTERS)


def _unquoted(value: str) -> str:
    if not value.isascii():
        raise ValueError("not percent-encoded")
    return unquote(value, errors="strict")


def _check_id(field: str, value: str) -> None:
    if not _ID.fullmatch(value):
        raise InvalidArgument.for_field(field, f"1 to {ID_BYTES_MAX} bytes of {ID_ALPHABET}")


def _check_zone(zone: str) -> None:
    # A lone surrogate is no text that could be sent.
    size_bytes = len(zone.encode("utf-8", "replace"))
    if size_bytes > NAME_BYTES_MAX or _CONTROL.search(zone) or not _is_utf8(zone):
        raise InvalidArgument.for_field(
            "zone", f"at most {NAME_BYTES_MAX} bytes of UTF-8, no control characters"
        )


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _too_much(limit: str, value: int) -> LimitExceeded:
    return LimitExceeded(
        f"{limit}: {value} is too much", details={"limit": limit, "value": str(value)}
    )
