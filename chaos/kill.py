"""SIGKILL under load: one node at a time, half of them the leader, then all of them at once.

A run: three real nodes, writers on all of them, a kill, a restart after a moment, all level again,
the next kill. From time to time what was acknowledged is looked for on every node; at the end all
of it is, and the digests of the nodes are compared. A kill of the leader is also a measurement:
from the signal to the first acknowledgement of a write that was begun after it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from chaos.ledger import Ledger
from chaos.load import CALL_TIMEOUT_S, REGIONS, Prober, Writer
from chaos.nodes import Nodes, NotHealed, choose_victim
from rendezvous_raft.client import AsyncClient
from rendezvous_raft.devcluster.cluster import ClusterSettings, DevCluster
from rendezvous_raft.devcluster.processes import NodeFailed

WRITERS_PER_NODE = 8
"""Half of them know their node alone, half all nodes."""
DOWN_S_MAX = 1.0
"""A killed node is started again after at most that."""
BETWEEN_KILLS_S_MAX = 0.5
FAILOVER_PATIENCE_S = 30.0
SPOT_CHECK_EVERY = 10
SPOT_CHECK_REQUESTS = 30
READERS = 8
"""Requests that are read at once at the end."""
OPERATIONS_PER_KILL_MIN = 20
"""Acknowledged operations per kill, below which a run has tested nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillPlan:
    """What to do."""

    seed: int
    data_dir: Path
    nodes: int = 3
    kills: int = 200
    all_kills: int = 20
    rate: float = 300.0
    """Operations per second of all writers together, at most; 0: as many as they can."""


@dataclass(slots=True)
class KillResult:
    """What came of it."""

    plan: KillPlan
    ledger: Ledger = field(default_factory=Ledger)
    leader_kills: int = 0
    follower_kills: int = 0
    all_kills: int = 0
    proved_kills: int = 0
    """Processes whose exit status said SIGKILL."""
    failovers_s: list[float] = field(default_factory=list)
    """Of the kills of a leader, in order."""
    recoveries_s: list[float] = field(default_factory=list)
    """After the kills of all, from the start of the processes to the first acknowledgement."""
    seconds: float = 0.0
    checked_while_running: int = 0
    checked_at_the_end: int = 0
    digests: int = 0
    """Nodes whose digests were equal at one revision."""
    broken: str = ""
    """Why the run could not go on."""

    def invalid(self) -> str:
        """Why the run proves nothing, if so."""
        kills = self.leader_kills + self.follower_kills + self.plan.nodes * self.all_kills
        if self.proved_kills < kills:
            return f"{kills - self.proved_kills} of {kills} kills have no proof"
        if self.ledger.acknowledged < OPERATIONS_PER_KILL_MIN * kills:
            return f"only {self.ledger.acknowledged} acknowledged operations for {kills} kills"
        return ""

    def verdict(self) -> str:
        """`pass`, `fail` or `invalid`."""
        if self.broken or self.ledger.violations:
            return "fail"
        return "invalid" if self.invalid() else "pass"


async def run(plan: KillPlan, progress: Callable[[str], None]) -> KillResult:
    """Does it. `progress` is told of every kill and every further step, in a few words."""
    result = KillResult(plan)
    settings = ClusterSettings(
        node_count=plan.nodes, regions=("eu", "us", "ap"), data_dir=plan.data_dir
    )
    started_s = time.monotonic()
    async with DevCluster(settings, report=lambda _event: None) as cluster:
        nodes = Nodes(cluster)
        try:
            await _Attack(nodes, result, progress).run()
        except (NotHealed, NodeFailed) as error:
            result.broken = str(error)
        finally:
            result.proved_kills = nodes.proved_kills
            result.seconds = time.monotonic() - started_s
            await nodes.close()
    return result


class _Attack:
    """One run over a cluster that is up."""

    def __init__(self, nodes: Nodes, result: KillResult, progress: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._result = result
        self._ledger = result.ledger
        self._plan = result.plan
        self._progress = progress
        self._chance = random.Random(result.plan.seed)  # noqa: S311 (to be repeated)
        self._kills = 0

    async def run(self) -> None:
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            writers = await self._start_writers(stop, stack)
            try:
                await self._nodes.caught_up()
                for number in range(self._plan.kills):
                    await self._between()
                    await self._kill_one(number)
                for _ in range(self._plan.all_kills):
                    await self._between()
                    await self._kill_all()
            finally:
                stop.set()
                await asyncio.gather(*writers)
        await self._check_everything()

    async def _start_writers(
        self, stop: asyncio.Event, stack: AsyncExitStack
    ) -> list[asyncio.Task[None]]:
        names = self._nodes.names
        count = WRITERS_PER_NODE * len(names)
        pause_s = count / self._plan.rate if self._plan.rate else 0.0
        writers = []
        for number in range(count):
            own = number % len(names)
            roams = number // len(names) % 2
            order = [*names[own:], *names[:own]] if roams else [names[own]]
            client = await stack.enter_async_context(self._client(order))
            chance = random.Random(self._chance.getrandbits(64))  # noqa: S311 (to be repeated)
            writer = Writer(f"w{number}", client, self._ledger, pause_s, chance)
            writers.append(asyncio.create_task(writer.run(stop)))
        return writers

    def _client(self, names: list[str]) -> AsyncClient:
        endpoints = [self._nodes.addresses[name] for name in names]
        return AsyncClient(endpoints, region=REGIONS[0], timeout=CALL_TIMEOUT_S)

    async def _between(self) -> None:
        if self._kills and self._kills % SPOT_CHECK_EVERY == 0:
            await self._spot_check()
        await asyncio.sleep(self._chance.uniform(0, BETWEEN_KILLS_S_MAX))
        self._kills += 1

    async def _kill_one(self, number: int) -> None:
        leader, term = await self._nodes.leader()
        victim = choose_victim(self._nodes.names, leader, number, self._chance)
        down_s = self._chance.uniform(0, DOWN_S_MAX)
        survivors = [name for name in self._nodes.names if name != victim]
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._client([name])) for name in survivors]
            for client in clients:  # connected before, so that only the fail-over is measured
                await client.cluster_status()
            prober = Prober(f"probe{self._kills}", clients, self._ledger)
            killed_s = await self._nodes.kill([victim])
            took_s = await prober.first_acknowledgement(killed_s, FAILOVER_PATIENCE_S)
        if took_s is None:
            raise NotHealed(f"two of three take no write {FAILOVER_PATIENCE_S:g} s after a kill")
        # A new term is the proof that it was the leader who died.
        led = victim == leader and (await self._nodes.leader())[1] > term
        if led:
            self._result.leader_kills += 1
            self._result.failovers_s.append(took_s)
        else:
            self._result.follower_kills += 1
        kind = "leader" if led else "follower"
        self._progress(f"{victim} ({kind}) killed, a write after {1000 * took_s:.0f} ms")
        await asyncio.sleep(max(0.0, killed_s + down_s - time.monotonic()))
        await self._nodes.start([victim])
        await self._nodes.caught_up()

    async def _kill_all(self) -> None:
        names = list(self._nodes.names)
        await self._nodes.kill(names)
        await asyncio.sleep(self._chance.uniform(0, DOWN_S_MAX))
        started_s = time.monotonic()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._client([name])) for name in names]
            prober = Prober(f"probe{self._kills}", clients, self._ledger)
            starting = asyncio.create_task(self._nodes.start(names))
            try:
                took_s = await prober.first_acknowledgement(started_s, 2 * FAILOVER_PATIENCE_S)
            finally:
                await starting
        if took_s is None:
            raise NotHealed("no write after all nodes were killed and started again")
        self._result.all_kills += 1
        self._result.recoveries_s.append(took_s)
        self._progress(f"all killed, a write {1000 * took_s:.0f} ms after their start")
        await self._nodes.caught_up()

    # Looking

    async def _spot_check(self) -> None:
        requests = list(self._ledger.by_request)
        for request_id in self._chance.sample(requests, min(SPOT_CHECK_REQUESTS, len(requests))):
            acknowledged = self._ledger.acknowledged_now(request_id)
            revision = self._ledger.revision
            for node in self._nodes.names:
                if acknowledged:
                    seen = await self._nodes.branches(node, request_id, revision)
                    self._result.checked_while_running += self._ledger.judge_while_running(
                        node, acknowledged, seen
                    )

    async def _check_everything(self) -> None:
        await self._nodes.caught_up()
        revision = self._ledger.revision
        for node in self._nodes.names:
            self._progress(f"reading {len(self._ledger.by_request)} requests on {node}")
            requests = iter(list(self._ledger.by_request))
            readers = (self._read(node, requests, revision) for _ in range(READERS))
            await asyncio.gather(*readers)
        digests = await self._nodes.digests(revision)
        self._result.digests = len(digests)
        if len({digest for _, digest in digests}) != 1:
            self._ledger.violations.add("diverged", f"digests {digests}")

    async def _read(self, node: str, requests: Iterator[str], revision: int) -> None:
        for request_id in requests:
            seen = await self._nodes.branches(node, request_id, revision)
            self._result.checked_at_the_end += self._ledger.judge(node, request_id, seen)
