"""What happened in a simulated world: a hash of all of it, and the last part to be read."""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterator

from rendezvous_raft.replication.raft.frames import FrameError, FrameReader

SHOWN_MAX = 20_000
"""Events kept to be read."""
_TIME = struct.Struct("<d")
_LONG = 24


class Trace:
    """Every event: its time, where it was, what kind, and its bytes.

    Args:
        keep: how many of the last events are kept for people; the hash covers all.
    """

    def __init__(self, keep: int = 0) -> None:
        self.events = 0
        self._hash = hashlib.sha256()
        self._kept: deque[tuple[float, str, str, bytes]] = deque(maxlen=keep)
        self._keep = keep

    def note(self, now_s: float, where: str, kind: str, content: bytes = b"") -> None:
        """Something happened."""
        self.events += 1
        self._hash.update(b"%b%b %b " % (_TIME.pack(now_s), where.encode(), kind.encode()))
        self._hash.update(content)
        if self._keep:
            self._kept.append((now_s, where, kind, content))

    def digest(self) -> str:
        """Hash of everything so far, in hexadecimal."""
        return self._hash.hexdigest()

    def lines(self, last: int) -> Iterator[str]:
        """The last events, for people."""
        for now_s, where, kind, content in list(self._kept)[-last:]:
            yield f"{now_s:10.4f}  {where:<8} {kind:<10} {_readable(kind, content)}"


def _readable(kind: str, content: bytes) -> str:
    if kind != "arrives":
        return content.decode(errors="replace")
    try:
        return "; ".join(_message(message) for message in FrameReader().feed(content))
    except FrameError as error:
        return f"{len(content)} bytes: {error}"


def _message(message: dict[str, object]) -> str:
    fields = " ".join(
        f"{name}={_short(value)}" for name, value in message.items() if name != "type"
    )
    return f"{message['type']} {fields}"


def _short(value: object) -> str:
    if isinstance(value, list):
        return f"[{len(value)}]" if len(value) > 2 else f"[{', '.join(map(_short, value))}]"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>" if len(value) > _LONG else value.hex()
    return str(value)
