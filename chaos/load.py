"""The load: writers that register and close branches, and write down what they were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable
from typing import TypeVar

from chaos.ledger import Ledger, Outcome
from rendezvous_raft.client import AsyncClient
from rendezvous_raft.errors import RendezvousError

SERVICE = "post-storage"
REGIONS = ("eu", "us")
BRANCHES_PER_REQUEST = 20
REPEATED_SHARE = 0.05
"""Share of the acknowledged operations that are sent once more."""
CALL_TIMEOUT_S = 10.0
"""Longest call of the load; longer than any fail-over, so that few outcomes stay unknown."""

ResultT = TypeVar("ResultT")


class Writer:
    """One client, one operation after the other, each with ids of its own.

    The first branch of a request stays open, so that the request is not forgotten while the run
    lasts (an open request lives for an hour). `pause_s` is what it waits after an operation.
    """

    def __init__(
        self, name: str, client: AsyncClient, ledger: Ledger, pause_s: float, chance: random.Random
    ) -> None:
        self._name = name
        self._client = client
        self._ledger = ledger
        self._pause_s = pause_s
        self._chance = chance
        self._number = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Writes until it is told to stop; its last operation is completed."""
        while not stop.is_set():
            self._number += 1
            branch_id = f"{self._name}-{self._number}"
            request_id = f"request-{self._name}-{self._number // BRANCHES_PER_REQUEST}"
            if await self._register(branch_id, request_id) and (
                self._number % BRANCHES_PER_REQUEST
            ):
                for region in self._chance.sample(REGIONS, self._chance.randint(0, len(REGIONS))):
                    if stop.is_set():
                        return
                    await self._close(branch_id, region)

    async def _register(self, branch_id: str, request_id: str) -> bool:
        def call() -> Awaitable[tuple[bool, int]]:
            return self._registration(branch_id, request_id)

        told = await self._told(f"registration of {branch_id}", call())
        self._ledger.registration(branch_id, request_id, told)
        await self._pause()
        if told is Outcome.ACKNOWLEDGED and self._chance.random() < REPEATED_SHARE:
            await self._repeat(f"registration of {branch_id}", call())
        return told is Outcome.ACKNOWLEDGED

    async def _registration(self, branch_id: str, request_id: str) -> tuple[bool, int]:
        result = await self._client.register_branch(
            SERVICE, regions=REGIONS, branch_id=branch_id, request_id=request_id
        )
        return result.already_existed, result.revision

    async def _close(self, branch_id: str, region: str) -> None:
        operation = f"close of {branch_id} in {region}"
        told = await self._told(operation, self._closing(branch_id, region))
        self._ledger.close(branch_id, region, told)
        await self._pause()
        if told is Outcome.ACKNOWLEDGED and self._chance.random() < REPEATED_SHARE:
            await self._repeat(operation, self._closing(branch_id, region))

    async def _closing(self, branch_id: str, region: str) -> tuple[bool, int]:
        result = await self._client.close_branch(branch_id, region)
        return result.already_closed, result.revision

    async def _told(self, operation: str, call: Awaitable[tuple[bool, int]]) -> Outcome:
        outcome, _ = await self._outcome(operation, call)
        return outcome

    async def _pause(self) -> None:
        if self._pause_s:
            await asyncio.sleep(self._pause_s * self._chance.uniform(0.5, 1.5))

    async def _repeat(self, operation: str, call: Awaitable[tuple[bool, int]]) -> None:
        outcome, known = await self._outcome(f"repeated {operation}", call)
        if outcome is Outcome.ACKNOWLEDGED:
            self._ledger.repetition(operation, known=known)

    async def _outcome(
        self, operation: str, call: Awaitable[tuple[bool, int]]
    ) -> tuple[Outcome, bool]:
        try:
            known, revision = await call
        except RendezvousError as error:
            self._ledger.error(error.code)
            return (Outcome.FAILED if error.definite else Outcome.UNKNOWN), False
        self._ledger.answered(operation, revision)
        return Outcome.ACKNOWLEDGED, known


class Prober:
    """Writes through the survivors every few milliseconds, to see when that works again."""

    PERIOD_S = 0.010
    IN_FLIGHT_MAX = 500

    def __init__(self, name: str, clients: list[AsyncClient], ledger: Ledger) -> None:
        self._name = name
        self._clients = clients
        self._ledger = ledger
        self._number = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def first_acknowledgement(self, since_s: float, patience_s: float) -> float | None:
        """Seconds from `since_s` to the first acknowledgement of a write begun after it.

        None: there was none in time. Every probe is in the ledger when this returns.
        """
        answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        end_s = since_s + patience_s
        while not answered.done() and time.monotonic() < end_s:
            if len(self._calls) < self.IN_FLIGHT_MAX:
                for client in self._clients:
                    self._number += 1
                    call = asyncio.create_task(self._probe(client, self._number, answered))
                    self._calls.add(call)
                    call.add_done_callback(self._calls.discard)
            await asyncio.wait([answered], timeout=self.PERIOD_S)
        if self._calls:
            await asyncio.gather(*self._calls)
        return answered.result() - since_s if answered.done() else None

    async def _probe(
        self, client: AsyncClient, number: int, answered: asyncio.Future[float]
    ) -> None:
        branch_id, request_id = f"{self._name}-{number}", f"request-{self._name}-{number // 100}"
        try:
            result = await client.register_branch(
                SERVICE, regions=REGIONS, branch_id=branch_id, request_id=request_id
            )
        except RendezvousError as error:
            outcome = Outcome.FAILED if error.definite else Outcome.UNKNOWN
            self._ledger.error(error.code)
        else:
            outcome = Outcome.ACKNOWLEDGED
            if not answered.done():
                answered.set_result(time.monotonic())
            self._ledger.answered(f"registration of {branch_id}", result.revision)
        self._ledger.registration(branch_id, request_id, outcome)
