"""The calls of the asyncio client. Each has a twin of the same name in `_sync_methods`."""
# ruff: noqa: ASYNC109 - a time-out here spans every attempt and travels to the node

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence

from rendezvous_raft.client import _descriptions, _reads, _writes, results
from rendezvous_raft.client._async_transport import AsyncTransport
from rendezvous_raft.client._base import BaseClient
from rendezvous_raft.client._calls import AnswerT, Call, ResultT
from rendezvous_raft.client.arguments import BranchSpec, CloseSpec, MemberSpec, Seconds
from rendezvous_raft.types import Consistency, Status


class AsyncMethods(BaseClient[AsyncTransport]):
    """Every call builds a message, gives it to the policy, and converts the answer.

    Arguments left None come from the current context: the request, its zone, the least revision
    and the branches on their way. If another request is named, only the revision is taken.
    Each call raises a `RendezvousError`; `timeout` is the time for all its attempts together.
    """

    @abstractmethod
    async def _call(self, call: Call[AnswerT, ResultT]) -> ResultT:
        """Makes the call with all its attempts."""

    async def register_request(
        self, request_id: str | None = None, *, timeout: Seconds | None = None
    ) -> results.RegisterRequestResult:
        """Registers a request; None takes the one of the context, or else a new id."""
        return await self._call(
            _writes.register_request(self._defaults, request_id, timeout=timeout)
        )

    async def register_branch(
        self,
        service: str,
        *,
        regions: Sequence[str] = (),
        branch_id: str | None = None,
        request_id: str | None = None,
        tag: str = "",
        zone: str | None = None,
        parent_branch_id: str = "",
        monitored: bool = True,
        locator: bytes = b"",
        await_registration: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> results.RegisterBranchResult:
        """Registers a branch, and its request if that is unknown.

        Ids left None are chosen here, so a retry has one effect. Until the answer comes, the
        branch is among those that a wait in the same request requires.

        Args:
            service: Logical user of the datastore.
            regions: Where the write becomes visible; empty: a global branch.
            branch_id: None: `<service>-<ulid>`.
            request_id: None: the request of the context, or else a new one.
            tag: Name of the operation inside the service.
            zone: None: the zone of the context, or else the root zone.
            parent_branch_id: Branch under which it is registered.
            monitored: Whether monitors are told of it.
            locator: Where the data is, at most 512 bytes.
            await_registration: How long to wait for an unknown parent.
            timeout: None: the client's, and `await_registration` on top.
        """
        spec = BranchSpec(
            service, regions, branch_id, tag, zone, parent_branch_id, monitored, locator
        )
        return await self._call(
            _writes.register_branch(
                self._defaults,
                spec,
                request_id=request_id,
                await_registration=await_registration,
                timeout=timeout,
            )
        )

    async def register_branches(
        self,
        branches: Sequence[BranchSpec],
        *,
        request_id: str | None = None,
        await_registration: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> results.RegisterBranchesResult:
        """Registers 1 to 1,000 branches of one request, all or none."""
        return await self._call(
            _writes.register_branches(
                self._defaults,
                branches,
                request_id=request_id,
                await_registration=await_registration,
                timeout=timeout,
            )
        )

    async def close_branch(
        self,
        branch_id: str,
        region: str = "",
        *,
        all_regions: bool = False,
        await_registration: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> results.CloseBranchResult:
        """Closes a branch in a region, a global one (empty region), or everywhere at once."""
        return await self._call(
            _writes.close_branch(
                self._defaults,
                CloseSpec(branch_id, region, all_regions),
                await_registration=await_registration,
                timeout=timeout,
            )
        )

    async def close_branches(
        self,
        closes: Sequence[CloseSpec],
        *,
        await_registration: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> results.CloseBranchesResult:
        """Closes 1 to 1,000 branches; a failure of one is in its result and not raised."""
        return await self._call(
            _writes.close_branches(
                self._defaults, closes, await_registration=await_registration, timeout=timeout
            )
        )

    async def wait_request(
        self,
        request_id: str | None = None,
        *,
        service: str = "",
        services: Sequence[str] = (),
        region: str | None = None,
        tag: str = "",
        zone: str | None = None,
        waiter_service: str = "",
        wait_dependencies: bool = False,
        timeout: Seconds | None = None,
        required_branches: Sequence[str] | None = None,
        await_registration: Seconds | None = None,
        min_revision: int | None = None,
        consistency: Consistency | None = None,
    ) -> results.WaitResult:
        """Blocks until nothing of the scope is open; a time-out is a result and not an error.

        Args:
            request_id: None: the request of the context.
            service: Look at this service only.
            services: Look at these services only; with neither, at all.
            region: None: the region of the client; empty: any region.
            tag: Look at this tag of the one service.
            zone: Leave out the branches of this zone; None: the one of the context, if any.
            waiter_service: The service of the caller, for waits that wait for each other.
            wait_dependencies: Look at the transitive dependants of the services too.
            timeout: Time for the whole wait; None or 0: the most that a node allows (300 s). With
                nodes that do not answer it ends a tenth of it later, at least 1 s and at most 5 s.
            required_branches: Branches that must be known first, at most 64; None: those of the
                context that are on their way.
            await_registration: How long to wait for a request, service, region or tag not used yet.
            min_revision: None: the revision of the context.
            consistency: None: SESSION with a least revision, else LINEARIZABLE.

        Raises:
            LimitExceeded: More than 64 registrations of the request are on their way or ended with
                an unknown outcome. Await some, or repeat those with the same branch ids.
        """
        scope = _reads.scope(
            self._defaults,
            request_id,
            service=service,
            services=services,
            region=region,
            tag=tag,
            zone=zone,
            waiter_service=waiter_service,
            wait_dependencies=wait_dependencies,
        )
        return await self._call(
            _reads.wait_request(
                request_id,
                scope=scope,
                timeout=timeout,
                required_branches=required_branches,
                await_registration=await_registration,
                min_revision=min_revision,
                consistency=consistency,
            )
        )

    async def check_request(
        self,
        request_id: str | None = None,
        *,
        service: str = "",
        services: Sequence[str] = (),
        region: str | None = None,
        tag: str = "",
        zone: str | None = None,
        wait_dependencies: bool = False,
        detailed: bool = False,
        timeout: Seconds | None = None,
        min_revision: int | None = None,
        consistency: Consistency | None = None,
    ) -> results.CheckResult:
        """Says whether anything of the scope is open; the arguments are those of a wait."""
        scope = _reads.scope(
            self._defaults,
            request_id,
            service=service,
            services=services,
            region=region,
            tag=tag,
            zone=zone,
            waiter_service="",
            wait_dependencies=wait_dependencies,
        )
        return await self._call(
            _reads.check_request(
                self._defaults,
                request_id,
                scope=scope,
                detailed=detailed,
                timeout=timeout,
                min_revision=min_revision,
                consistency=consistency,
            )
        )

    async def check_request_by_regions(
        self,
        request_id: str | None = None,
        *,
        services: Sequence[str] = (),
        timeout: Seconds | None = None,
        min_revision: int | None = None,
        consistency: Consistency | None = None,
    ) -> results.RegionStatuses:
        """Says for each region that the request ever used whether anything is open there."""
        return await self._call(
            _reads.check_by_regions(
                self._defaults,
                request_id,
                services=services,
                timeout=timeout,
                min_revision=min_revision,
                consistency=consistency,
            )
        )

    async def fetch_dependencies(
        self,
        request_id: str | None = None,
        *,
        service: str = "",
        zone: str | None = None,
        timeout: Seconds | None = None,
        min_revision: int | None = None,
        consistency: Consistency | None = None,
    ) -> results.Dependencies:
        """Names the services with open branches that depend on a service; empty: all of them.

        Branches of `zone` are left out; None leaves out none, whatever the context says.
        """
        return await self._call(
            _reads.fetch_dependencies(
                self._defaults,
                request_id,
                service=service,
                zone=zone,
                timeout=timeout,
                min_revision=min_revision,
                consistency=consistency,
            )
        )

    async def describe_request(
        self,
        request_id: str | None = None,
        *,
        scope: results.ScopeDescription | None = None,
        required_branches: Sequence[str] = (),
        open_only: bool = False,
        timeout: Seconds | None = None,
        min_revision: int | None = None,
        consistency: Consistency | None = None,
    ) -> results.RequestDescription:
        """Shows a request with its branches and waiters, for people.

        Args:
            request_id: None: the request of the context.
            scope: Of a wait: each branch then tells what such a wait makes of it.
            required_branches: What such a wait requires; those not registered are named.
            open_only: Leaves out the branches that are closed.
            timeout: None: the client's.
            min_revision: None: the revision of the context.
            consistency: None: SESSION with a least revision, else LINEARIZABLE.
        """
        return await self._call(
            _descriptions.describe_request(
                self._defaults,
                request_id,
                scope=scope,
                required_branches=required_branches,
                open_only=open_only,
                timeout=timeout,
                min_revision=min_revision,
                consistency=consistency,
            )
        )

    async def list_requests(
        self,
        *,
        status: Status | None = None,
        service: str = "",
        page_size: int = 0,
        page_token: str = "",
        timeout: Seconds | None = None,
        min_revision: int | None = None,
        consistency: Consistency | None = None,
    ) -> results.RequestPage:
        """One page of the requests, oldest first; `page_size` 0 means 100.

        Args:
            status: OPEN or CLOSED; None: both.
            service: Only requests that used it.
            page_size: At most 1,000.
            page_token: From the page before.
            timeout: None: the client's.
            min_revision: None: the revision of the context.
            consistency: None: SESSION with a least revision, else LINEARIZABLE.
        """
        return await self._call(
            _reads.list_requests(
                self._defaults,
                status=status,
                service=service,
                page_size=page_size,
                page_token=page_token,
                timeout=timeout,
                min_revision=min_revision,
                consistency=consistency,
            )
        )

    async def iter_requests(
        self,
        *,
        status: Status | None = None,
        service: str = "",
        page_size: int = 0,
        timeout: Seconds | None = None,
        consistency: Consistency | None = None,
    ) -> AsyncGenerator[results.RequestSummary]:
        """Every request, page by page; `timeout` is the time for each page."""
        token = ""
        while True:
            page = await self.list_requests(
                status=status,
                service=service,
                page_size=page_size,
                page_token=token,
                timeout=timeout,
                consistency=consistency,
            )
            for summary in page.requests:
                yield summary
            token = page.next_page_token
            if not token:
                return

    async def cluster_status(self, *, timeout: Seconds | None = None) -> results.ClusterDescription:
        """Shows what a node knows of itself and its cluster."""
        return await self._call(_reads.cluster_status(self._defaults, timeout=timeout))

    async def digest(
        self, *, min_revision: int = 0, timeout: Seconds | None = None
    ) -> results.DigestResult:
        """Gives the digest of a node's state: equal revisions have equal digests."""
        return await self._call(
            _reads.digest(self._defaults, min_revision=min_revision, timeout=timeout)
        )

    async def take_snapshot(self, *, timeout: Seconds | None = None) -> results.SnapshotResult:
        """Makes a node write a snapshot and drop the log before it."""
        return await self._call(_reads.take_snapshot(self._defaults, timeout=timeout))

    async def transfer_leadership(self, target: str = "", *, timeout: Seconds | None = None) -> str:
        """Asks the leader to hand over; returns the name of the member that was told to stand.

        Empty `target`: the follower that is furthest. Never repeated when it may have happened.
        """
        return await self._call(
            _reads.transfer_leadership(self._defaults, target=target, timeout=timeout)
        )

    async def add_member(self, member: MemberSpec, *, timeout: Seconds | None = None) -> None:
        """Adds a member; the leader has to be asked. Blocks until that is committed.

        The node itself is started with `join = true`. It catches up, and then votes by itself.

        Raises:
            AlreadyExists: another member has the name; adding the same again changes nothing.
        """
        await self._call(_reads.add_member(self._defaults, member, timeout=timeout))

    async def remove_member(self, name: str, *, timeout: Seconds | None = None) -> None:
        """Removes a member; the leader has to be asked. Blocks until that is committed.

        A leader that shall remove itself hands over first, and raises `Unavailable` with a hint.

        Raises:
            NotFound: there is no such member.
        """
        await self._call(_reads.remove_member(self._defaults, name=name, timeout=timeout))
