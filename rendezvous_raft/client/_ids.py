"""Ids that the SDK chooses before it sends anything, so that every retry carries the same ones."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable

from rendezvous_raft.limits import ID_ALPHABET, ID_BYTES_MAX

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_FROM_RFC_4648 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _CROCKFORD.encode())
_ULID_LEN = 26
_TIME_LEN = 10
_CHANCE_BYTES = 10
_FOREIGN = re.compile(ID_ALPHABET.replace("[", "[^", 1))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class IdFactory:
    """Makes ULIDs: 48 bits of time that never goes back, then 80 bits of chance.

    Thread-safe: two threads may use the same millisecond, the chance keeps the ids apart.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] = _now_ms,
        chance: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._now_ms = now_ms
        self._chance = chance
        self._time: tuple[int, str] = (0, _time_text(0))

    def request_id(self) -> str:
        """A new request id."""
        return self._ulid()

    def branch_id(self, service: str) -> str:
        """A new branch id that begins with the service, as far as the alphabet of ids allows."""
        prefix = _FOREIGN.sub("_", service)[: ID_BYTES_MAX - _ULID_LEN - 1]
        return f"{prefix}-{self._ulid()}"

    def _ulid(self) -> str:
        last_ms, text = self._time
        now_ms = self._now_ms()
        if now_ms > last_ms:
            text = _time_text(now_ms)
            self._time = (now_ms, text)
        chance = base64.b32encode(self._chance(_CHANCE_BYTES)).translate(_FROM_RFC_4648)
        return text + chance.decode()


def _time_text(time_ms: int) -> str:
    digits = []
    for _ in range(_TIME_LEN):
        time_ms, digit = divmod(time_ms, 32)
        digits.append(_CROCKFORD[digit])
    return "".join(reversed(digits))
