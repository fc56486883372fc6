"""Registering requests and branches (semantics W1 to W3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from rendezvous_raft import errors
from rendezvous_raft.core.commands import RegisterBranches, RegisterNumbered, RegisterRequest
from rendezvous_raft.core.results import BranchesRegistered, RequestRegistered
from rendezvous_raft.node.admission import Admission
from rendezvous_raft.node.calls import BranchRegistration, NumberedRegistration
from rendezvous_raft.node.ports import Clock, IdSource, Replicator
from rendezvous_raft.node.proposals import Proposer
from rendezvous_raft.node.watches import RegistrationWatch
from rendezvous_raft.types import BranchId, RequestId, Revision


class Registering:
    """The ids are chosen before this; here they are stamped with time and proposed."""

    def __init__(
        self,
        replicator: Replicator,
        proposer: Proposer,
        admission: Admission,
        watch: RegistrationWatch,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._replicator = replicator
        self._proposer = proposer
        self._admission = admission
        self._watch = watch
        self._clock = clock
        self._ids = ids

    async def register_request(
        self, request_id: RequestId, deadline_s: float
    ) -> tuple[RequestRegistered, Revision]:
        """W1."""
        with self._admission.proposal():
            command = RegisterRequest(self._ids.command_id(), request_id, self._clock.wall_ms())
            result, revision = await self._proposer.propose(command, deadline_s)
            return cast("RequestRegistered", result), revision

    async def register_branches(
        self, registration: BranchRegistration, deadline_s: float
    ) -> tuple[BranchesRegistered, Revision]:
        """W2, W3. With `await_registration_s`, waits that long for an unknown parent."""
        patience_s = registration.await_registration_s
        patience_end_s = min(self._clock.monotonic_s() + patience_s, deadline_s)
        while True:
            try:
                return await self._register_branches(registration, deadline_s)
            except errors.BranchNotFound:
                if not patience_s or not await self._parents_appear(registration, patience_end_s):
                    raise

    async def _register_branches(
        self, registration: BranchRegistration, deadline_s: float
    ) -> tuple[BranchesRegistered, Revision]:
        with self._admission.proposal():
            command = RegisterBranches(
                self._ids.command_id(),
                registration.request_id,
                registration.branches,
                self._clock.wall_ms(),
            )
            result, revision = await self._proposer.propose(command, deadline_s)
            return cast("BranchesRegistered", result), revision

    async def register_numbered(
        self, registration: NumberedRegistration, deadline_s: float
    ) -> tuple[RequestRegistered | BranchesRegistered, Revision]:
        """5.4. The answer has the ids; a retry with the same command id gets the first answer."""
        with self._admission.proposal():
            command = RegisterNumbered(
                registration.command_id or self._ids.command_id(),
                registration.request_id,
                registration.prefix,
                registration.branches,
                self._clock.wall_ms(),
            )
            result, revision = await self._proposer.propose(command, deadline_s)
            return cast("RequestRegistered | BranchesRegistered", result), revision

    async def await_registered(self, branch_ids: Iterable[BranchId], deadline_s: float) -> bool:
        """Blocks until all of them are registered here; false at the deadline."""
        with self._admission.wait():
            for branch_id in branch_ids:
                left_s = deadline_s - self._clock.monotonic_s()
                if not self._is_registered(branch_id) and not await self._watch.wait_registered(
                    branch_id, left_s
                ):
                    return False
        return True

    async def _parents_appear(self, registration: BranchRegistration, end_s: float) -> bool:
        """Blocks until every parent is registered here or earlier in the batch; false at the end.

        One that is itself, or later in the batch, is waited for like any other (W3.1).
        """
        earlier: dict[BranchId, None] = {}
        with self._admission.wait():
            for new in registration.branches:
                parent_id = new.parent_branch_id
                if parent_id and parent_id not in earlier and not self._is_registered(parent_id):
                    left_s = end_s - self._clock.monotonic_s()
                    if not await self._watch.wait_registered(parent_id, left_s):
                        return False
                earlier[new.branch_id] = None
        return self._clock.monotonic_s() < end_s

    def _is_registered(self, branch_id: BranchId) -> bool:
        return branch_id in self._replicator.state.state.branches
