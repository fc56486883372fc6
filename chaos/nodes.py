"""The nodes under attack: real processes, what they say of themselves, SIGKILL with proof."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Sequence

from chaos.ledger import SeenBranch
from rendezvous_raft.client import AsyncClient
from rendezvous_raft.client.results import ClusterDescription, RequestDescription
from rendezvous_raft.devcluster.cluster import DevCluster
from rendezvous_raft.errors import NotFound, RendezvousError
from rendezvous_raft.types import Consistency, Role, Status

READY_TIMEOUT_S = 60.0
ASK_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 60.0
POLL_S = 0.02


class NotHealed(Exception):
    """The cluster did not come back although a majority ran: a failure of the run."""


class Nodes:
    """The nodes of a running cluster, with a client to each."""

    def __init__(self, cluster: DevCluster) -> None:
        self._cluster = cluster
        self.names = tuple(node.name for node in cluster.nodes)
        self.addresses = {node.name: node.grpc_address for node in cluster.nodes}
        self._clients = {
            name: AsyncClient(address, timeout=READ_TIMEOUT_S)
            for name, address in self.addresses.items()
        }
        self.proved_kills = 0
        """Processes whose exit status says SIGKILL."""

    async def close(self) -> None:
        """Closes the clients."""
        for client in self._clients.values():
            await client.close()

    # Faults

    async def kill(self, names: Sequence[str]) -> float:
        """SIGKILLs nodes at once, and collects them; the monotonic second of the last signal."""
        processes = [self._cluster.process(name) for name in names]
        for process in processes:
            process.kill()
        killed_s = time.monotonic()
        for process in processes:
            if await process.wait_exit() == -signal.SIGKILL:
                self.proved_kills += 1
        return killed_s

    async def start(self, names: Sequence[str]) -> None:
        """Starts nodes that are dead; returns when they are ready. Raises `NodeFailed`."""
        for name in names:
            await self._cluster.process(name).start()
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        await asyncio.gather(
            *(self._cluster.process(name).wait_until_ready(deadline_s) for name in names)
        )

    # What they say

    async def leader(self) -> tuple[str, int]:
        """Who leads by its own account, and its term, the highest. Blocks until there is one.

        Raises:
            NotHealed: there is none for too long.
        """
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            found = [(s.term, s.name) for s in await self._statuses() if s.role is Role.LEADER]
            if found:
                term, name = max(found)
                return name, term
            await asyncio.sleep(POLL_S)
        raise NotHealed(f"nobody leads for {READY_TIMEOUT_S:g} s")

    async def caught_up(self) -> None:
        """Blocks until every node has applied what the leader had committed, and is linked.

        Raises:
            NotHealed: that takes too long.
        """
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            committed = max((s.commit_index for s in await self._statuses()), default=0)
            statuses = await self._statuses()
            leaders = {status.leader for status in statuses}
            if (
                len(statuses) == len(self.names)
                and len(leaders) == 1
                and "" not in leaders
                and all(status.applied_index >= committed for status in statuses)
                and all(member.connected for status in statuses for member in status.members)
            ):
                return
            await asyncio.sleep(POLL_S)
        raise NotHealed(f"the nodes are not level after {READY_TIMEOUT_S:g} s")

    async def _statuses(self) -> list[ClusterDescription]:
        async def ask(name: str) -> ClusterDescription | None:
            try:
                return await self._clients[name].cluster_status(timeout=ASK_TIMEOUT_S)
            except RendezvousError:
                return None  # it is down, or busy: asked again in a moment

        answers = await asyncio.gather(*map(ask, self.names))
        return [answer for answer in answers if answer is not None]

    async def branches(self, node: str, request_id: str, min_revision: int) -> list[SeenBranch]:
        """What a node itself has of a request, once it is as new as `min_revision`."""
        try:
            description = await self._clients[node].describe_request(
                request_id, min_revision=min_revision, consistency=Consistency.SESSION
            )
        except NotFound:
            return []
        return seen_branches(description)

    async def digests(self, min_revision: int) -> list[tuple[int, str]]:
        """Revision and digest of each node, all at one revision. Blocks until that succeeds."""
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            answers = await asyncio.gather(
                *(self._clients[name].digest(min_revision=min_revision) for name in self.names)
            )
            found = [(answer.revision, answer.digest) for answer in answers]
            if len({revision for revision, _ in found}) == 1:
                return found
            min_revision = max(revision for revision, _ in found)  # a pulse came in between
        raise NotHealed("no two looks at one revision")


def seen_branches(description: RequestDescription) -> list[SeenBranch]:
    """The branches of a request as a ledger takes them."""
    return [
        SeenBranch(
            branch.branch_id,
            {region.region: region.status is Status.CLOSED for region in branch.regions},
        )
        for branch in description.branches
    ]


def choose_victim(names: Sequence[str], leader: str, number: int, chance: random.Random) -> str:
    """The leader every other time, else any follower."""
    if number % 2 == 0:
        return leader
    return chance.choice([name for name in names if name != leader])
