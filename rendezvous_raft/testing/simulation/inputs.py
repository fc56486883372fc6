"""What a simulated process takes from outside beside its files and its network: ids and time."""

from __future__ import annotations

import random
from collections.abc import Callable

from rendezvous_raft.testing.fake_clock import WALL_BEGIN_MS
from rendezvous_raft.testing.simulation.loop import ProcessLoop
from rendezvous_raft.types import BranchId, CommandId, LeaseId, MemberId, RequestId


class SeededIds:
    """Implements `node.ports.IdSource` with ids that a seed decides."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def request_id(self) -> RequestId:
        """See `IdSource`."""
        return RequestId(f"r{self._rng.getrandbits(64):016x}")

    def branch_id(self, service: str) -> BranchId:
        """See `IdSource`."""
        return BranchId(f"{service}{self._rng.getrandbits(64):016x}")

    def command_id(self) -> CommandId:
        """See `IdSource`."""
        return CommandId(self._rng.randbytes(12))

    def lease_id(self) -> LeaseId:
        """See `IdSource`."""
        return LeaseId(f"l{self._rng.getrandbits(64):016x}")

    def member_id(self) -> MemberId:
        """See `IdSource`."""
        return MemberId(f"m{self._rng.getrandbits(64):016x}")


class ProcessClock:
    """Implements `node.ports.Clock` by the clock of a process."""

    def __init__(self, loop: ProcessLoop, wall_jump_ms: Callable[[], int]) -> None:
        self._wall_jump_ms = wall_jump_ms
        self.monotonic_s = loop.time

    def wall_ms(self) -> int:
        """See `Clock`."""
        return WALL_BEGIN_MS + round(self.monotonic_s() * 1000) + self._wall_jump_ms()
