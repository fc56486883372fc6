"""The digest of the state of this node, made between other turns of the loop."""

from __future__ import annotations

import asyncio

from rendezvous_raft import errors
from rendezvous_raft.core import snapshot
from rendezvous_raft.node.ports import Clock, Replicator
from rendezvous_raft.node.slices import ROWS_AT_ONCE, rest
from rendezvous_raft.types import Revision


class Digests:
    """Makes one digest at a time, of the state as it was when that one began.

    It takes one to two seconds per 100,000 requests. In one turn that would depose a leader.
    """

    def __init__(self, replicator: Replicator, clock: Clock) -> None:
        self._replicator = replicator
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    async def make(self, min_revision: Revision, deadline_s: float) -> tuple[Revision, str]:
        """The revision, at least the one that is asked for, and the digest of the state there.

        Raises:
            DeadlineExceeded: the node does not have the revision, or the digest is not made, in
                time.
        """
        await self._replicator.wait_applied(min_revision, deadline_s=deadline_s)
        async with self._one_at_a_time:
            self._check_time(deadline_s)
            capture = snapshot.Capture(self._replicator.state)
            try:
                return capture.revision, await self._digest_of(capture, deadline_s)
            finally:
                capture.close()

    async def _digest_of(self, capture: snapshot.Capture, deadline_s: float) -> str:
        made = snapshot.Digest()
        for count, row in enumerate(capture.content(), start=1):
            made.add(row)
            if not count % ROWS_AT_ONCE:
                await rest()
                self._check_time(deadline_s)
        return made.in_hexadecimal()

    def _check_time(self, deadline_s: float) -> None:
        if self._clock.monotonic_s() >= deadline_s:
            raise errors.DeadlineExceeded(
                "the digest, or one that was asked for before, takes longer than the call may",
                definite=True,
                revision=self._replicator.state.revision,
            )
