"""The metadata service as the monitor sees it, on the SDK. The one file here that knows the SDK."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Protocol

from rendezvous_raft.client.arguments import CloseSpec
from rendezvous_raft.client.results import (
    CloseBranchesResult,
    SubscriptionEvent,
    SubscriptionEventKind,
)
from rendezvous_raft.monitor.ports import (
    BranchClose,
    BranchClosed,
    BranchOpened,
    CloseAnswer,
    Delivery,
    ListEnded,
    Selection,
)
from rendezvous_raft.types import BranchId, RequestId, Revision, Tag


class SdkClient(Protocol):
    """The methods of `AsyncClient` that a monitor uses."""

    def subscribe(
        self, service: str, region: str | None = None, *, tags: Sequence[str] = (), group: str = ""
    ) -> AsyncGenerator[SubscriptionEvent, None]:
        """Streams open branches and closes."""
        ...

    def close_branches(
        self, closes: Sequence[CloseSpec], *, timeout: float | None = None
    ) -> Awaitable[CloseBranchesResult]:
        """Closes a batch."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...


class SdkMetadata:
    """Adapts a client of the SDK to the port of the monitor. The client is closed by its owner."""

    def __init__(self, client: SdkClient) -> None:
        self._client = client

    async def subscribe(self, selection: Selection) -> AsyncGenerator[Delivery, None]:
        """Lists the open branches, then follows; always with a full list."""
        events = self._client.subscribe(
            selection.service, selection.region, tags=selection.tags, group=selection.group
        )
        async with aclosing(events) as stream:
            async for event in stream:
                yield _delivery(event)

    async def close_branches(
        self, closes: Sequence[BranchClose], *, timeout_s: float
    ) -> Sequence[CloseAnswer]:
        """Closes a batch in one call, which the SDK retries within `timeout_s`."""
        specs = [CloseSpec(close.branch_id, close.region) for close in closes]
        answer = await self._client.close_branches(specs, timeout=timeout_s)
        return [
            CloseAnswer(result.closed, result.already_closed, result.failure)
            for result in answer.results
        ]


def _delivery(event: SubscriptionEvent) -> Delivery:
    revision = Revision(event.revision)
    match event.kind:
        case SubscriptionEventKind.SYNCED:
            return ListEnded(revision)
        case SubscriptionEventKind.CLOSED:
            return BranchClosed(BranchId(event.branch_id), revision)
        case SubscriptionEventKind.OPEN:
            registered_at = event.registered_at
            return BranchOpened(
                branch_id=BranchId(event.branch_id),
                request_id=RequestId(event.request_id),
                tag=Tag(event.tag),
                locator=event.locator,
                registered_at_s=None if registered_at is None else registered_at.timestamp(),
                is_global=event.is_global,
                revision=revision,
            )
