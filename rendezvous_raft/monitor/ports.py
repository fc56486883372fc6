"""What a monitor needs from the world: a metadata service, a datastore probe, someone who counts.

The ports belong to the monitor, not to the SDK or a driver: `metadata.py` adapts the SDK, and
`probes/` holds one adapter per datastore. Tests pass fakes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.types import BranchId, Region, RequestId, Revision, Service, Tag


class ProbeError(Exception):
    """The datastore could not say whether a branch is visible. Look again after a pause (V15)."""


class ProbeMisconfigured(ProbeError):
    """The datastore cannot be probed as configured. Correct the configuration; retrying is vain."""


@dataclass(frozen=True, slots=True)
class PendingBranch:
    """A branch to look for, with where its writer said the data is."""

    branch_id: BranchId
    locator: bytes = b""


@dataclass(frozen=True, slots=True)
class EndpointLook:
    """What one endpoint contributed to a look; for metrics and for back-off."""

    endpoint: str
    """Host and port or path, never a password."""
    seconds: float
    visible: int
    absent: int
    failed: int
    error: ProbeError | None = None
    """Why the endpoint as a whole did not answer; None when it did."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One answer per branch: visible, absent (= not yet) or failed (V3).

    `visible` may hold ids that were not asked for (superseded ones, V6).
    """

    visible: frozenset[BranchId]
    absent: frozenset[BranchId]
    failed: Mapping[BranchId, ProbeError] = field(default_factory=dict)
    looks: tuple[EndpointLook, ...] = ()
    """Each endpoint's part. Failures beside an endpoint's error are the endpoint's, all others are
    those of single branches."""


class Probe(Protocol):
    """Finds out which branches are visible in one region. Reads only, safe to run twice (V5)."""

    @property
    def datastore(self) -> str:
        """Name of the kind of datastore, a label of the metrics."""
        ...

    @property
    def batch_max(self) -> int:
        """Branches of one `find_many` at most."""
        ...

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every replica that serves reads of the region (V2), without passwords."""
        ...

    async def check(self) -> tuple[str, ...]:
        """Looks at the datastore's settings once and returns warnings for the operator.

        Raises:
            ProbeMisconfigured: it must not be probed as configured.
            ProbeError: it does not answer; try again later.
        """
        ...

    async def find_many(self, pending: Sequence[PendingBranch]) -> ProbeResult:
        """Looks for at most `batch_max` branches; the caller bounds the time by cancelling.

        Raises:
            ProbeError: nothing could be found out about any of them.
        """
        ...

    async def close(self) -> None:
        """Gives its connections back. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Which branches a monitor watches."""

    service: Service
    region: Region
    tags: tuple[Tag, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True)
class BranchOpened:
    """Delivery: a monitored branch is open in the region."""

    branch_id: BranchId
    request_id: RequestId
    tag: Tag
    locator: bytes
    registered_at_s: float | None
    """Wall clock of the node that took the registration, in seconds since the epoch, if known."""
    is_global: bool
    revision: Revision


@dataclass(frozen=True, slots=True)
class BranchClosed:
    """Delivery: a branch was closed in the region, by whomever, or expired."""

    branch_id: BranchId
    revision: Revision


@dataclass(frozen=True, slots=True)
class ListEnded:
    """Delivery: everything that was open at `revision` has been delivered."""

    revision: Revision


Delivery = BranchOpened | BranchClosed | ListEnded


@dataclass(frozen=True, slots=True)
class BranchClose:
    """A close to send; region "" closes a global branch."""

    branch_id: BranchId
    region: Region


@dataclass(frozen=True, slots=True)
class CloseAnswer:
    """What became of one close of a batch."""

    closed: bool
    already_closed: bool
    failure: RendezvousError | None = None


class Metadata(Protocol):
    """The metadata service, as far as a monitor uses it."""

    def subscribe(self, selection: Selection) -> AsyncGenerator[Delivery, None]:
        """Lists the open branches, then a `ListEnded`, then changes as they happen (U1).

        Raises:
            RendezvousError: the stream broke; subscribe again.
        """
        ...

    async def close_branches(
        self, closes: Sequence[BranchClose], *, timeout_s: float
    ) -> Sequence[CloseAnswer]:
        """Closes a batch; one answer per close, in order (W5).

        Raises:
            RendezvousError: the call as a whole failed.
        """
        ...


class MonitorObserver(Protocol):
    """Receives facts of one monitor synchronously; must be cheap and must not raise."""

    def looked(self, look: EndpointLook) -> None:
        """An endpoint was asked."""
        ...

    def became_visible(self, lag_s: float) -> None:
        """A branch was found visible, so long after its registration."""
        ...

    def superseded(self, count: int) -> None:
        """A look reported pending branches that it was not asked for."""
        ...

    def batch_sent(self, size: int) -> None:
        """A batch of closes was sent."""
        ...

    def close_answered(self, result: str) -> None:
        """A close was answered: the value of a `closer.CloseVerdict`."""
        ...

    def close_acknowledged(self, lag_s: float) -> None:
        """A close is settled, so long after the branch was found visible."""
        ...

    def resubscribed(self, reason: str) -> None:
        """The stream broke and is taken up again; `reason` is the code of an error or `ended`."""
        ...


class SilentObserver:
    """Counts nothing; for tests and embedded use."""

    def looked(self, look: EndpointLook) -> None:
        """Ignores it."""

    def became_visible(self, lag_s: float) -> None:
        """Ignores it."""

    def superseded(self, count: int) -> None:
        """Ignores it."""

    def batch_sent(self, size: int) -> None:
        """Ignores it."""

    def close_answered(self, result: str) -> None:
        """Ignores it."""

    def close_acknowledged(self, lag_s: float) -> None:
        """Ignores it."""

    def resubscribed(self, reason: str) -> None:
        """Ignores it."""
