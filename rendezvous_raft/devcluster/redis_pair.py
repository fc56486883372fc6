"""A real Redis with its replica in another "region", behind a link that delays.

The write side is what the Redis shim will do: the post and the marker of its branch in one
MULTI/EXEC, which a replica applies as one (docs/monitor-rules.txt V9, T1).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import redis.asyncio
from redis.exceptions import RedisError

from rendezvous_raft.devcluster.delay_link import DelayLink
from rendezvous_raft.devcluster.geo_store import GeoStoreError, GroundTruth
from rendezvous_raft.devcluster.layout import LOOPBACK
from rendezvous_raft.devcluster.redis_server import RedisServer, connect
from rendezvous_raft.monitor.ports import Probe
from rendezvous_raft.monitor.probes.redis import RedisProbe, marker_key
from rendezvous_raft.monitor.wakeup import raise_if_cancelled

MARKER_TTL_S = 24 * 3_600
"""Longer than any outage to survive and than the life of an open request (V17)."""
POLL_INTERVAL_S = 0.001
POLL_BATCH_MAX = 500
POLL_ERROR_PAUSE_S = 0.050
UNSEEN_MAX = 100_000
"""Posts whose visibility in the replica is not known yet."""


def post_key(post_id: str) -> str:
    """The key of a post."""
    return f"post:{post_id}"


class RedisPair:
    """A `GeoStore` of two redis-server processes below `directory`.

    Args:
        directory: an existing, empty directory; the caller removes it.
        one_way_s: delay of the link between the two, each way.
        jitter_s: more delay per chunk, at random.
        writer_region: where the primary is.
        replica_region: where the replica is.

    Example:
        async with RedisPair(directory, one_way_s=0.045) as store:
            await store.write("p1", b"hello", "post-storage-1")
            await store.wait_visible("us", "p1")
    """

    def __init__(
        self,
        directory: Path,
        *,
        one_way_s: float,
        jitter_s: float = 0.0,
        writer_region: str = "eu",
        replica_region: str = "us",
    ) -> None:
        self._directory = directory
        self._one_way_s = one_way_s
        self._jitter_s = jitter_s
        self._regions = (writer_region, replica_region)
        self._truth = GroundTruth(self._regions)
        self._servers: dict[str, RedisServer] = {}
        self._clients: dict[str, redis.asyncio.Redis] = {}
        self._link: DelayLink | None = None
        self._poller: _Poller | None = None
        self._stack = AsyncExitStack()

    @property
    def name(self) -> str:
        """`redis`."""
        return "redis"

    @property
    def writer_region(self) -> str:
        """Where the primary is."""
        return self._regions[0]

    @property
    def regions(self) -> tuple[str, ...]:
        """The primary's and the replica's."""
        return self._regions

    @property
    def link(self) -> DelayLink:
        """What the replication goes through; may be cut and healed."""
        if self._link is None:
            raise GeoStoreError("the pair does not run")
        return self._link

    def server(self, region: str) -> RedisServer:
        """The server of a region, e.g. to pause or kill it."""
        if region not in self._servers:
            raise GeoStoreError(f"no server runs in region {region!r}")
        return self._servers[region]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts both servers and the link; returns once the replica is in step.

        Raises:
            GeoStoreError: something did not start; nothing is left running.
        """
        writer, replica = self._regions
        try:
            primary = await self._start_server(writer, ())
            self._link = DelayLink(
                target_host=LOOPBACK,
                target_port=primary.port,
                one_way_s=self._one_way_s,
                jitter_s=self._jitter_s,
            )
            self._stack.push_async_callback(self._link.stop)
            await self._link.start()
            follow = ("--replicaof", f"{LOOPBACK} {self._link.port}")
            follower = await self._start_server(replica, follow)
            await follower.wait_info("replication", "master_link_status", "up")
            self._poller = _Poller(connect(follower.port), replica, self._truth)
            self._poller.start()
            self._stack.push_async_callback(self._poller.stop)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stops the servers, by their process ids, and the link. Twice is harmless."""
        await self._stack.aclose()
        self._servers.clear()
        self._clients.clear()
        self._link = self._poller = None

    async def write(self, post_id: str, body: bytes, branch_id: str | None) -> None:
        """One MULTI/EXEC on the primary.

        Raises:
            GeoStoreError: its outcome is not known; writing it again is harmless.
        """
        client = self._client(self.writer_region)
        if self._poller is None:
            raise GeoStoreError("the pair does not run")
        self._truth.ensure_room()
        self._poller.ensure_room()
        try:
            async with client.pipeline(transaction=True) as both:
                both.set(post_key(post_id), body)
                if branch_id is not None:
                    both.set(marker_key(branch_id), str(time.time()), ex=MARKER_TTL_S)
                await both.execute()
        except (RedisError, OSError) as error:
            raise GeoStoreError(f"the post may not be written: {error!r}") from error
        self._truth.tell(self.writer_region, post_id, time.monotonic())
        self._poller.look_for(post_id)

    async def read(self, region: str, post_id: str) -> bytes | None:
        """One GET on the server of the region."""
        try:
            body = await self._client(region).get(post_key(post_id))
        except (RedisError, OSError) as error:
            raise GeoStoreError(f"{region} does not answer: {error!r}") from error
        return body.encode() if isinstance(body, str) else body

    def visible_at(self, region: str, post_id: str) -> float | None:
        """In the replica's region: when a poller of its own first saw the post."""
        return self._truth.visible_at(region, post_id)

    async def wait_visible(self, region: str, post_id: str) -> float:
        """Blocks until `visible_at` is known."""
        return await self._truth.wait_visible(region, post_id)

    def make_probe(self, region: str) -> Probe:
        """A probe of the region's own server; the replica's never asks the primary."""
        return RedisProbe([self.server(region).url])

    async def _start_server(self, region: str, options: tuple[str, ...]) -> RedisServer:
        directory = self._directory / f"redis-{len(self._servers)}"
        directory.mkdir(mode=0o700, exist_ok=True)
        server = RedisServer(directory, options=options)
        self._stack.push_async_callback(server.stop)
        await server.start()
        client = connect(server.port)
        self._stack.push_async_callback(client.aclose)
        self._servers[region] = server
        self._clients[region] = client
        return server

    def _client(self, region: str) -> redis.asyncio.Redis:
        if region not in self._clients:
            raise GeoStoreError(f"no server runs in region {region!r}")
        return self._clients[region]


class _Poller:
    """Looks at the replica for posts not seen there yet; knows nothing of Rendezvous (B6)."""

    def __init__(self, client: redis.asyncio.Redis, region: str, truth: GroundTruth) -> None:
        self._client = client
        self._region = region
        self._truth = truth
        self._unseen: dict[str, None] = {}
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failures = 0
        """Polls without an answer; they are repeated."""

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="visibility poller")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()

    def ensure_room(self) -> None:
        """Refuses a post too many, before it is written."""
        if len(self._unseen) >= UNSEEN_MAX:
            raise GeoStoreError(f"{UNSEEN_MAX} posts are not in the replica yet")

    def look_for(self, post_id: str) -> None:
        self._unseen[post_id] = None
        self._work.set()

    async def _run(self) -> None:
        while True:
            raise_if_cancelled()
            await self._work.wait()
            pause_s = POLL_INTERVAL_S
            try:
                await self._poll_once()
            except (RedisError, OSError):
                self.failures += 1  # the replica is away: what it has is looked for later
                pause_s = POLL_ERROR_PAUSE_S
            if not self._unseen:
                self._work.clear()
                continue
            await asyncio.sleep(pause_s)

    async def _poll_once(self) -> None:
        unseen = list(self._unseen)
        for begin in range(0, len(unseen), POLL_BATCH_MAX):
            batch = unseen[begin : begin + POLL_BATCH_MAX]
            async with self._client.pipeline(transaction=False) as questions:
                for post_id in batch:
                    questions.exists(post_key(post_id))
                answers = await questions.execute()
            seen_at = time.monotonic()
            for post_id, present in zip(batch, answers, strict=True):
                if present:
                    del self._unseen[post_id]
                    self._truth.tell(self._region, post_id, seen_at)
