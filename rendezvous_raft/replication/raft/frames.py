"""Raft frames: a length and a msgpack value, nothing that could run (F14, F17)."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

FRAME_VERSION = 1
FRAME_BYTES_MAX = 4 * 1024 * 1024
"""Larger than the largest entry with its envelope; a longer frame is a fault, or an attack."""
GREETING_BYTES_MAX = 1024
"""Of the first frame of a connection, which comes from nobody knows whom."""
_LENGTH_BYTES = 4


class FrameError(ValueError):
    """The bytes are not a frame that this version understands."""


def encode_frame(message: dict[str, object]) -> bytes:
    """The frame of a message."""
    body: bytes = msgpack.packb(message)
    if len(body) > FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {len(body)} bytes, at most {FRAME_BYTES_MAX} are allowed")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameReader:
    """Cuts a stream of bytes into messages.

    Args:
        frame_bytes_max: of one frame; a longer one is refused before its bytes come.
    """

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        """May be changed between two messages."""
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[dict[str, object]]:
        """The messages that are complete now.

        Raises:
            FrameError: the stream is not one of frames; the connection must end.
        """
        self._buffer += received
        start = 0
        while len(self._buffer) - start >= _LENGTH_BYTES:
            body_at = start + _LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:body_at], "big")
            if length > self.frame_bytes_max:
                cap = self.frame_bytes_max
                raise FrameError(f"a frame of {length} bytes, at most {cap} are allowed")
            if len(self._buffer) < body_at + length:
                break
            body = bytes(self._buffer[body_at : body_at + length])
            start = body_at + length
            yield _decode(body)
        del self._buffer[:start]


def _decode(body: bytes) -> dict[str, object]:
    try:
        message = msgpack.unpackb(body, use_list=True, strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise FrameError(f"not a message: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise FrameError("a message is a map with a type")
    return message
