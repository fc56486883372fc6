"""The real clock and the real source of ids."""

from __future__ import annotations

import re
import secrets
import time

from rendezvous_raft.limits import ID_BYTES_MAX
from rendezvous_raft.types import BranchId, CommandId, LeaseId, MemberId, RequestId

_ID_BYTES = 10
_POOL_BYTES = 4096
_IN_NO_ID = re.compile(r"[^A-Za-z0-9_.-]")


class SystemClock:
    """The clocks of the operating system."""

    def monotonic_s(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


class RandomIds:
    """Ids of a millisecond and 80 random bits, as ULIDs are: sortable, never issued twice.

    They need no memory, so no restart can make one come back. Random bytes are fetched many at a
    time: asking the system for each id costs more than all the rest of making it.
    """

    def __init__(self) -> None:
        self._pool = b""
        self._taken = 0

    def request_id(self) -> RequestId:
        """`req-` and a unique part."""
        return RequestId(f"req-{self._unique()}")

    def branch_id(self, service: str) -> BranchId:
        """The service, as far as its characters are allowed in ids, and a unique part."""
        unique = self._unique()
        room = ID_BYTES_MAX - len(unique) - 1
        name = _IN_NO_ID.sub("_", service)
        return BranchId(f"{name[:room]}-{unique}")

    def command_id(self) -> CommandId:
        """Twelve random bytes."""
        return CommandId(self._random(12))

    def lease_id(self) -> LeaseId:
        """`lease-` and a unique part."""
        return LeaseId(f"lease-{self._unique()}")

    def member_id(self) -> MemberId:
        """`member-` and a unique part."""
        return MemberId(f"member-{self._unique()}")

    def _unique(self) -> str:
        return f"{time.time_ns() // 1_000_000:012x}{self._random(_ID_BYTES).hex()}"

    def _random(self, count: int) -> bytes:
        """So many bytes of the system's, each given away once."""
        start, end = self._taken, self._taken + count
        if end > len(self._pool):
            self._pool = secrets.token_bytes(_POOL_BYTES)
            start, end = 0, count
        self._taken = end
        return self._pool[start:end]
