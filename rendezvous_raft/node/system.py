"""The real clock and the real source of ids."""

from __future__ import annotations

import secrets
import time

from rendezvous_raft.limits import ID_BYTES_MAX
from rendezvous_raft.types import BranchId, CommandId, LeaseId, MemberId, RequestId

_ID_BYTES = 10


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

    They need no memory, so no restart can make one come back.
    """

    def request_id(self) -> RequestId:
        """`req-` and a unique part."""
        return RequestId(f"req-{_unique()}")

    def branch_id(self, service: str) -> BranchId:
        """The service, as far as its characters are allowed in ids, and a unique part."""
        unique = _unique()
        room = ID_BYTES_MAX - len(unique) - 1
        name = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in service)
        return BranchId(f"{name[:room]}-{unique}")

    def command_id(self) -> CommandId:
        """Twelve random bytes."""
        return CommandId(secrets.token_bytes(12))

    def lease_id(self) -> LeaseId:
        """`lease-` and a unique part."""
        return LeaseId(f"lease-{_unique()}")

    def member_id(self) -> MemberId:
        """`member-` and a unique part."""
        return MemberId(f"member-{_unique()}")


def _unique() -> str:
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(_ID_BYTES)}"
