"""What every engine behind the port `Replicator` promises. A subclass brings engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from contract_cluster import failure_of, soon_s, until

from rendezvous_raft import errors
from rendezvous_raft.core.commands import (
    Barrier,
    Close,
    CloseBranches,
    NewBranch,
    RegisterBranches,
    RegisterRequest,
)
from rendezvous_raft.core.results import (
    Applied,
    BranchesClosed,
    BranchesRegistered,
    CloseOutcome,
    RequestRegistered,
)
from rendezvous_raft.limits import COMMAND_BYTES_MAX
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.node.system import RandomIds
from rendezvous_raft.replication.codec import encode_entry
from rendezvous_raft.types import BranchId, RequestId, Revision, Role, Service

IDS = RandomIds()
UNKNOWN_ENTRY = encode_entry(b"other", 1, [b"\x93\x09\xa7barrier\xc4\x01c"])
"""An entry with a barrier of command version 9."""


def request(name: str = "r1") -> RegisterRequest:
    return RegisterRequest(IDS.command_id(), RequestId(name), 1)


def branch(name: str, *, at_ms: int = 1, locator: bytes = b"") -> RegisterBranches:
    new = NewBranch(BranchId(name), Service("post"), locator=locator)
    return RegisterBranches(IDS.command_id(), RequestId("r1"), (new,), at_ms)


class Engines:
    """Engines of one cluster, opened; a single one is a cluster too."""

    def __init__(self, engines: Sequence[Replicator]) -> None:
        self.all = list(engines)

    @property
    def any(self) -> Replicator:
        return self.all[0]

    def inject(self, entry: bytes) -> None:
        """Gets bytes committed that no engine of this version writes."""
        raise NotImplementedError

    async def make_closed(self) -> Replicator:
        """An engine that was never opened."""
        raise NotImplementedError


class ReplicatorContract:
    """The promises; run against every implementation."""

    async def test_a_proposal_is_answered_with_its_result_and_revision(
        self, engines: Engines
    ) -> None:
        revision = 0
        for number, engine in enumerate(engines.all):
            applied = await engine.propose(request(f"r{number}"), deadline_s=soon_s())
            assert applied.result == RequestRegistered(RequestId(f"r{number}"), created=True)
            assert applied.revision > revision
            assert engine.state.revision >= applied.revision
            revision = applied.revision

    async def test_proposals_of_a_node_are_applied_in_order(self, engines: Engines) -> None:
        for engine in engines.all:
            engine.set_listener(lambda _batch: None, lambda: None)
        names = [f"b{number:04}" for number in range(600)]
        calls = [engines.any.propose(branch(name), deadline_s=soon_s()) for name in names]
        applied = await asyncio.gather(*calls)
        revisions = [answer.revision for answer in applied]
        assert revisions == sorted(revisions)
        assert list(engines.any.state.state.branches) == names

    async def test_the_listener_is_told_before_the_proposer(self, engines: Engines) -> None:
        told: list[tuple[Revision, ...]] = []
        answered: list[int] = []
        engine = engines.any

        def listen(batch: Sequence[Applied]) -> None:
            told.append(tuple(applied.revision for applied in batch))
            # In the turn of the change: the state is that after the batch.
            assert engine.state.revision == batch[-1].revision

        engine.set_listener(listen, lambda: None)

        async def propose(name: str) -> None:
            applied = await engine.propose(request(name), deadline_s=soon_s())
            assert any(applied.revision in batch for batch in told)
            answered.append(applied.revision)

        await asyncio.gather(*(propose(f"r{number}") for number in range(50)))
        assert len(answered) == 50
        flat = [revision for batch in told for revision in batch]
        assert flat == sorted(set(flat))

    async def test_a_read_barrier_sees_every_acknowledged_write_on_every_node(
        self, engines: Engines
    ) -> None:
        # semantics: G3.3
        for number, writer in enumerate([*engines.all, *engines.all]):
            applied = await writer.propose(request(f"r{number}"), deadline_s=soon_s())
            for reader in engines.all:
                await reader.read_barrier(deadline_s=soon_s())
                assert reader.state.revision >= applied.revision
                assert f"r{number}" in reader.state.state.requests

    async def test_many_read_barriers_at_once(self, engines: Engines) -> None:
        for engine in engines.all:
            await asyncio.gather(*(engine.read_barrier(deadline_s=soon_s()) for _ in range(100)))

    async def test_wait_applied_waits_for_the_revision(self, engines: Engines) -> None:
        # semantics: G3.2
        for engine in engines.all:
            await engines.any.read_barrier(deadline_s=soon_s())
            revision = Revision(engines.any.state.revision + 1)
            waiting = asyncio.gather(engine.wait_applied(revision, deadline_s=soon_s()))
            await asyncio.sleep(0)
            assert not waiting.done()
            await engines.any.propose(Barrier(IDS.command_id()), deadline_s=soon_s())
            await waiting
            assert engine.state.revision >= revision
            await engine.wait_applied(revision, deadline_s=0.0)

    async def test_wait_applied_ends_definitely_at_its_deadline(self, engines: Engines) -> None:
        for engine in engines.all:
            error = await failure_of(engine.wait_applied(Revision(10**9), deadline_s=0.0))
            assert isinstance(error, errors.DeadlineExceeded)
            assert error.definite
            assert error.revision == engine.state.revision

    async def test_a_cancelled_wait_for_a_revision_is_forgotten(self, engines: Engines) -> None:
        waiting = asyncio.gather(engines.any.wait_applied(Revision(10**9), deadline_s=soon_s()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert engines.any._replica._revision_waiters == []  # type: ignore[attr-defined]

    async def test_a_command_that_is_too_large_is_refused_definitely(
        self, engines: Engines
    ) -> None:
        # semantics: L3
        for engine in engines.all:
            too_large = branch("big", locator=bytes(COMMAND_BYTES_MAX))
            error = await failure_of(engine.propose(too_large, deadline_s=soon_s()))
            assert isinstance(error, errors.LimitExceeded)
            assert error.definite
            largest = branch("big", locator=bytes(COMMAND_BYTES_MAX - 200))
            await engine.propose(largest, deadline_s=soon_s())

    async def test_the_same_command_gets_its_first_answer(self, engines: Engines) -> None:
        # semantics: G2, 5.3
        first_of: list[Applied] = []
        command = branch("b1")
        for engine in [*engines.all, *engines.all]:
            first_of.append(await engine.propose(command, deadline_s=soon_s()))
        results = {applied.result for applied in first_of}
        expected = BranchesRegistered(RequestId("r1"), (BranchId("b1"),), already_existed=False)
        assert results == {expected}
        revisions = [applied.revision for applied in first_of]
        assert revisions == sorted(set(revisions))

    async def test_a_command_id_is_what_makes_it_the_same(self, engines: Engines) -> None:
        # semantics: G2, W4
        await engines.any.propose(branch("b1"), deadline_s=soon_s())
        again = await engines.any.propose(branch("b1"), deadline_s=soon_s())
        assert isinstance(again.result, BranchesRegistered)
        assert again.result.already_existed
        closes = (Close(BranchId("b1")),)
        outcomes = []
        for command_id in (IDS.command_id(), IDS.command_id()):
            command = CloseBranches(command_id, closes, 1)
            applied = await engines.any.propose(command, deadline_s=soon_s())
            assert isinstance(applied.result, BranchesClosed)
            outcomes += applied.result.outcomes
        assert outcomes == [CloseOutcome.CLOSED, CloseOutcome.ALREADY_CLOSED]

    async def test_the_status_tells_what_was_applied(self, engines: Engines) -> None:
        for engine in engines.all:
            await engine.propose(Barrier(IDS.command_id()), deadline_s=soon_s())
            status = engine.status()
            assert status.revision == engine.state.revision
            assert status.applied_index <= status.commit_index
            assert (status.halted, status.read_only) == (None, None)
            assert status.leader is not None
            assert status.name in {member.name for member in status.members}

    async def test_closing_ends_what_is_on_its_way_as_unknown(self, engines: Engines) -> None:
        engine = engines.any
        calls = [
            asyncio.ensure_future(engine.propose(request(f"r{n}"), deadline_s=soon_s()))
            for n in range(5)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await engine.close()
        failures = [await failure_of(call) for call in calls]
        assert all(isinstance(error, errors.OutcomeUnknown) for error in failures)
        error = await failure_of(engine.read_barrier(deadline_s=soon_s()))
        assert isinstance(error, errors.NotReady)

    async def test_an_engine_that_is_not_open_says_so(self, engines: Engines) -> None:
        engine = await engines.make_closed()
        error = await failure_of(engine.read_barrier(deadline_s=soon_s()))
        assert isinstance(error, errors.NotReady)
        error = await failure_of(engine.propose(request(), deadline_s=0.0))
        assert isinstance(error, errors.Unavailable)
        assert error.definite
        await engine.close()

    async def test_an_entry_of_an_unknown_version_halts(self, engines: Engines) -> None:
        """Going on would be a silent divergence.

        Each member halts when it applies the entry. The last follower may never learn that it is
        committed, for the others are silent; then it has no leader, and answers nothing either.
        """
        await engines.any.propose(request("before"), deadline_s=soon_s())
        led = engines.any.status().role is Role.LEADER
        engines.inject(UNKNOWN_ENTRY)
        error = await failure_of(engines.any.propose(request("after"), deadline_s=soon_s()))
        assert isinstance(error, errors.InternalError | errors.OutcomeUnknown | errors.NotReady)
        status = engines.any.status
        await until(lambda: status().halted is not None or status().leader is None, "the end")
        assert status().halted == "unknown command v9" or not led
        assert list(engines.any.state.state.requests) == ["before"]
        for call in (
            engines.any.propose(request("later"), deadline_s=soon_s()),
            engines.any.read_barrier(deadline_s=soon_s()),
        ):
            error = await failure_of(call)
            assert isinstance(error, errors.NotReady if led else errors.Unavailable)
            assert not led or "unknown command v9" in error.message

    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    async def test_a_cancelled_proposal_disturbs_nobody(self, engines: Engines, turns: int) -> None:
        # semantics: G7
        gone = asyncio.ensure_future(engines.any.propose(request("gone"), deadline_s=soon_s()))
        stays = asyncio.ensure_future(engines.any.propose(request("stays"), deadline_s=soon_s()))
        for _ in range(turns):
            await asyncio.sleep(0)
        gone.cancel()
        await stays
        assert "stays" in engines.any.state.state.requests
