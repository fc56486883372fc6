"""Errors in what is replicated and in those who wait, on stock PySyncObj and on ours (F8, F15)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from stock_bench import StockBench, stock_group

from rendezvous_raft import errors
from rendezvous_raft.core.commands import RegisterRequest
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MemberConfig, RaftTimers
from rendezvous_raft.node.system import RandomIds, SystemClock
from rendezvous_raft.replication.batching import Batch, GroupCommit
from rendezvous_raft.replication.codec import encode_entry
from rendezvous_raft.replication.observer import SilentEngineObserver
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.testing.fake_clock import LoopClock
from rendezvous_raft.types import NodeName, Region, RequestId

CLOCK = SystemClock()
IDS = RandomIds()
TICKS = 20
OF_ANOTHER_VERSION = encode_entry(b"other", 1, [b"\x93\x09\xa7barrier\xc4\x01c"])
"""An entry with a command that this version does not know."""


def persevere(bench: StockBench) -> dict[str, int]:
    """Ticks as in the stock tick thread, which logs an error and goes on; how many failed."""
    failures = dict.fromkeys(bench.names, 0)
    for _ in range(TICKS):
        for name in bench.names:
            try:
                bench.turn(name)
            except ValueError:
                failures[name] += 1
        for letter in bench.take():
            bench[letter.receiver].wire.receive(letter)
    return failures


def test_f8_stock_retries_an_exception_for_ever() -> None:
    """Stock: a replicated method that raises is applied again in each tick, for ever.

    The leader does nothing else any more, not even its heartbeats; the next one meets the same
    entry. Nothing behind it is ever applied, and nobody is told.
    """
    with stock_group("a", "b", "c") as bench:
        bench.elect("a")
        bench["a"].fail("poison")
        bench["a"].add("behind", callback=lambda _result, _code: pytest.fail("answered"))
        stuck = {"a": persevere(bench)["a"]}
        for name in ("b", "c"):
            bench.campaign(name)
            stuck[name] = persevere(bench)[name]
        assert min(stuck.values()) >= TICKS - 5
        assert [bench.applied(name) for name in bench.names] == [[], [], []]


def test_f8_stock_applies_twice_where_a_callback_raises() -> None:
    """Stock: an entry counts as applied after its callback; on this node only it comes again."""

    def raises(_result: object, _code: int) -> None:
        raise ValueError("of the caller")

    with stock_group("a", "b", "c") as bench:
        bench.elect("a")
        bench["a"].add("once", callback=raises)
        assert persevere(bench) == {"a": 1, "b": 0, "c": 0}
        found = [bench.applied(name) for name in bench.names]
        assert found == [["once", "once"], ["once"], ["once"]]


@asynccontextmanager
async def engine_alone(directory: Path) -> AsyncIterator[RaftReplicator]:
    """Our engine as the only member of its cluster, on real files."""
    engine = RaftReplicator(
        self_name=NodeName("n1"),
        members=[MemberConfig(NodeName("n1"), Region("eu"), "127.0.0.1:0")],
        cluster_id="stock",
        data_dir=directory,
        timers=RaftTimers.lan(),
        limits=NodeLimits(),
        clock=CLOCK,
        observer=SilentEngineObserver(),
        segment_bytes=1 << 20,
        rng=random.Random(1),
    )
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


def deadline_s() -> float:
    """So that nothing hangs."""
    return CLOCK.monotonic_s() + 20


def request(name: str) -> RegisterRequest:
    return RegisterRequest(IDS.command_id(), RequestId(name), 1)


async def test_f8_ours_halts_visibly_at_what_it_cannot_apply(tmp_path: Path) -> None:
    """Ours: `apply` is total; an unknown version halts the node, and proposers are told."""
    async with engine_alone(tmp_path) as engine:
        await engine.propose(request("before"), deadline_s=deadline_s())
        engine._raft.propose(OF_ANOTHER_VERSION)
        with pytest.raises((errors.NotReady, errors.OutcomeUnknown), match="halted"):
            await engine.propose(request("behind"), deadline_s=deadline_s())
        assert "unknown command v9" in str(engine.status().halted)
        assert list(engine.state.state.requests) == [RequestId("before")]


async def test_f8_ours_applies_once_whatever_a_caller_does(tmp_path: Path) -> None:
    """Ours: an answer is a future; what its owner does with it happens in another turn."""
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context["message"]))

    def raises(_task: asyncio.Future[Applied]) -> None:
        raise ValueError("of the caller")

    async with engine_alone(tmp_path) as engine:
        applied: list[Applied] = []
        engine.set_listener(applied.extend, lambda: None)
        task = asyncio.ensure_future(engine.propose(request("once"), deadline_s=deadline_s()))
        task.add_done_callback(raises)
        answer = await task
        await engine.propose(request("behind"), deadline_s=deadline_s())
        assert [one.revision for one in applied] == [answer.revision, answer.revision + 1]
        assert engine.status().halted is None
    assert len(complaints) == 1


def test_f15_stock_never_answers_a_forwarded_command_that_was_lost() -> None:
    """Stock: the connection drops, and the proposer waits for ever: there is no time-out."""
    with stock_group("a", "b", "c") as bench:
        bench.elect("a")
        bench.propose("b", "x")
        assert len(bench.take("apply_command", sender="b", receiver="a")) == 1
        for _ in range(100):
            bench.settle()
        assert bench.answers == []
        assert [bench.applied(name) for name in bench.names] == [[], [], []]


async def test_f15_ours_ends_every_proposal_by_its_deadline() -> None:
    """Ours: what was sent and is lost ends as unknown, what was never sent as certainly not."""
    sent: list[Batch] = []
    for taken, expected in ((True, errors.ProposalTimeout), (False, errors.NoLeader)):

        def submit(batch: Batch, taken: bool = taken) -> bool:
            sent.append(batch)
            return taken

        clock = LoopClock()
        commits = GroupCommit(submit, limits=NodeLimits(), clock=clock)
        with pytest.raises(expected) as caught:
            await commits.propose(b"x", clock.monotonic_s() + 0.01)
        assert caught.value.definite is not taken
    assert len(sent) == 2
