"""Probe of Redis: a marker key beside the data, written in the same MULTI/EXEC (T1).

A replica applies MULTI/EXEC as one, so whoever sees the marker sees the data (V9).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from rendezvous_raft.monitor.ports import (
    PendingBranch,
    ProbeError,
    ProbeMisconfigured,
    ProbeResult,
)
from rendezvous_raft.monitor.probes.intersection import EndpointAnswer, intersect

MARKER_PREFIX = "rendezvous:"
BATCH_MAX = 500
ANSWER_TIMEOUT_S = 2.0
"""A connection or answer that takes longer has failed; shorter than the monitor's own bound."""


def marker_key(branch_id: str) -> str:
    """The key whose presence says that the write of this branch is there."""
    return MARKER_PREFIX + branch_id


@dataclass(frozen=True, slots=True)
class _Endpoint:
    name: str
    client: redis.asyncio.Redis


class RedisProbe:
    """Asks every given replica for the markers and intersects the answers (V2).

    Connections are made on first use and again after every failure.

    Args:
        urls: `redis://` or `rediss://`, one per replica that serves reads of the region. Never a
            load balancer, and never another region's primary.
        strict: refuse a server that may evict markers, instead of a warning (T3).
    """

    def __init__(self, urls: Sequence[str], *, strict: bool = False) -> None:
        if not urls:
            raise ProbeMisconfigured("a Redis probe needs at least one endpoint")
        self._strict = strict
        self._endpoints = tuple(_connect_lazily(url) for url in urls)

    @property
    def datastore(self) -> str:
        """`redis`."""
        return "redis"

    @property
    def batch_max(self) -> int:
        """Keys of one MGET."""
        return BATCH_MAX

    @property
    def endpoints(self) -> tuple[str, ...]:
        """`host:port` of each replica."""
        return tuple(endpoint.name for endpoint in self._endpoints)

    async def check(self) -> tuple[str, ...]:
        """Reads the settings that endanger markers; warns of an eviction policy.

        Raises:
            ProbeMisconfigured: a cluster (T4), or, when strict, a server that evicts.
            ProbeError: an endpoint does not answer.
        """
        checks = (self._check_endpoint(endpoint) for endpoint in self._endpoints)
        warnings = await asyncio.gather(*checks)
        return tuple(warning for warning in warnings if warning)

    async def find_many(self, pending: Sequence[PendingBranch]) -> ProbeResult:
        """One MGET per endpoint, all at once."""
        answers = await asyncio.gather(*(self._ask(end, pending) for end in self._endpoints))
        return intersect(pending, answers)

    async def close(self) -> None:
        """Closes the connections."""
        async with AsyncExitStack() as stack:
            for endpoint in self._endpoints:
                stack.push_async_callback(endpoint.client.aclose)

    async def _ask(self, endpoint: _Endpoint, pending: Sequence[PendingBranch]) -> EndpointAnswer:
        begun = time.monotonic()
        try:
            # MGET, not EXISTS: with several keys EXISTS tells only how many there are.
            values = await endpoint.client.mget([marker_key(p.branch_id) for p in pending])
        except (RedisError, OSError, TimeoutError) as error:
            fault = ProbeError(f"{endpoint.name}: {error!r}")
            return EndpointAnswer(endpoint.name, time.monotonic() - begun, error=fault)
        found = frozenset(
            branch.branch_id
            for branch, value in zip(pending, values, strict=True)
            if value is not None
        )
        return EndpointAnswer(endpoint.name, time.monotonic() - begun, found)

    async def _check_endpoint(self, endpoint: _Endpoint) -> str | None:
        try:
            cluster = await endpoint.client.info("cluster")
            memory = await endpoint.client.info("memory")
        except (RedisError, OSError, TimeoutError) as error:
            raise ProbeError(f"{endpoint.name}: {error!r}") from error
        if cluster.get("cluster_enabled"):
            raise ProbeMisconfigured(
                f"{endpoint.name} is a Redis Cluster: marker and data would be in different slots"
            )
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if policy == "noeviction":
            return None
        warning = f"{endpoint.name}: maxmemory-policy {policy} may evict markers; set noeviction"
        if self._strict:
            raise ProbeMisconfigured(warning)
        return warning


def _connect_lazily(url: str) -> _Endpoint:
    try:
        client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=ANSWER_TIMEOUT_S,
            # The monitor backs off by itself and must hear of every failure.
            retry=Retry(NoBackoff(), 0),
            max_connections=4,
        )
    except ValueError as error:
        raise ProbeMisconfigured(f"not a Redis URL: {error}") from error
    settings = client.connection_pool.connection_kwargs
    name = f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
    return _Endpoint(str(settings.get("path", name)), client)
