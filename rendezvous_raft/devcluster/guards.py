"""How writer and reader of the demo keep in step: not at all, or through Rendezvous.

The workload is the same in both runs; only the guard differs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from rendezvous_raft.client import AsyncClient
from rendezvous_raft.context import RendezvousContext, use_context
from rendezvous_raft.errors import InvalidArgument
from rendezvous_raft.types import Consistency

SERVICE = "post-storage"
REGISTER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Release:
    """Why the reader is free to read."""

    prevented: bool = False
    timed_out: bool = False


class Guard(Protocol):
    """What the two runs of the demo do differently."""

    @property
    def waits(self) -> bool:
        """Whether readers wait before they read."""
        ...

    def register(self, post_id: str, branch_id: str) -> Registration | None:
        """Starts the registration of a post that is about to be written; does not block."""
        ...

    async def release(self, headers: Mapping[str, str]) -> Release:
        """Blocks until the reader may read."""
        ...


class NoGuard:
    """Nothing is registered, nobody waits: the race as it is."""

    waits = False

    def register(self, post_id: str, branch_id: str) -> None:
        """Does nothing."""

    async def release(self, headers: Mapping[str, str]) -> Release:
        """Returns at once."""
        del headers
        return Release()


class RendezvousGuard:
    """The writer registers on its region's node, the reader waits on its own region's node."""

    waits = True

    def __init__(
        self,
        *,
        writer: AsyncClient,
        reader: AsyncClient,
        writer_region: str,
        reader_region: str,
        wait_timeout_s: float,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._regions = (writer_region, reader_region)
        self._wait_timeout_s = wait_timeout_s

    def register(self, post_id: str, branch_id: str) -> Registration:
        """Starts the registration of the post's branch."""
        return Registration(
            self._writer, request_id=post_id, branch_id=branch_id, regions=self._regions
        )

    async def release(self, headers: Mapping[str, str]) -> Release:
        """Waits until the post is visible in the reader's region.

        Raises:
            RendezvousError: The wait could not be made; nothing is known.
        """
        context = RendezvousContext.from_headers(headers)
        if context is None:
            raise InvalidArgument.for_field("headers", "carry no context")
        with use_context(context):
            # Every branch that the notification depends on is named in its context or below its
            # revision, so the reader's own node can decide without asking the leader.
            result = await self._reader.wait_request(
                service=SERVICE,
                region=self._regions[1],
                consistency=Consistency.SESSION,
                timeout=self._wait_timeout_s,
            )
        return Release(prevented=result.prevented_inconsistency, timed_out=result.timed_out)


class Registration:
    """A registration that runs beside the write.

    The branch id is chosen beforehand, and until the node acknowledges the registration, the
    context names the branch as one that a reader must not do without.
    """

    def __init__(
        self, client: AsyncClient, *, request_id: str, branch_id: str, regions: tuple[str, ...]
    ) -> None:
        self._started_at_s = time.monotonic()
        # The branch is in the context from the first moment: the task below runs a turn later.
        context = RendezvousContext(request_id, unacknowledged=(branch_id,))
        with use_context(context) as session:
            if session is None:
                raise RuntimeError("a context makes a session")
            self._session = session
            # The task shares the session: what it learns is in the headers taken afterwards.
            self._task = asyncio.create_task(self._register(client, branch_id, regions))

    @property
    def headers(self) -> Mapping[str, str]:
        """What the notification carries; to be taken just before it is sent."""
        return self._session.context.to_headers()

    async def acknowledged_after_s(self) -> float:
        """Waits for the acknowledgement; the seconds from the start to it.

        Raises:
            RendezvousError: The registration failed, or its outcome is unknown.
        """
        return await self._task

    def abandon(self) -> None:
        """Stops trying, when the post has failed anyway. The branch may be registered."""
        self._task.cancel()

    async def _register(
        self, client: AsyncClient, branch_id: str, regions: tuple[str, ...]
    ) -> float:
        await client.register_branch(
            SERVICE, regions=regions, branch_id=branch_id, timeout=REGISTER_TIMEOUT_S
        )
        return time.monotonic() - self._started_at_s
