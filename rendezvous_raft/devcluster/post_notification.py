"""The race: a post is written in one region, and its notification reaches another region first.

Writers and readers share nothing but notifications. These travel through an in-process queue that
holds each of them for the one-way delay between the regions: a stand-in for a message broker. The
load is open: posts start by the clock, whatever became of the ones before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from rendezvous_raft.devcluster.geo_store import GeoStore, GeoStoreError
from rendezvous_raft.devcluster.guards import Guard, Registration
from rendezvous_raft.devcluster.post_traces import PostTrace
from rendezvous_raft.errors import RendezvousError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """How many posts, how fast, and how far their notifications travel."""

    posts: int
    rate_per_s: float
    seed: int
    reader_region: str
    notification_delay_s: float
    body_bytes: int = 256
    settle_timeout_s: float = 60.0
    """Time after the last read in which every post has to become visible."""


@dataclass(frozen=True, slots=True)
class RunTraces:
    """What happened in a run."""

    traces: tuple[PostTrace, ...]
    """Posts that came to their read, in the order of their reads."""
    errors: tuple[str, ...]
    """One sentence for each post that did not."""


@dataclass(frozen=True, slots=True)
class _Notification:
    post_id: str
    body: bytes
    """What the reader should find; the reader of a real system would not know it."""
    headers: Mapping[str, str]
    write_started_at_s: float
    written_at_s: float
    registration: Registration | None


@dataclass(frozen=True, slots=True)
class _Reading:
    notification: _Notification
    notified_at_s: float
    released_at_s: float
    consistent: bool
    prevented: bool
    timed_out: bool
    registration_s: float


class PostNotification:
    """One run of the workload against one store, with or without a guard."""

    def __init__(
        self,
        *,
        run_name: str,
        store: GeoStore,
        guard: Guard,
        settings: WorkloadSettings,
        progress: Callable[[], None],
    ) -> None:
        self._run_name = run_name
        self._store = store
        self._guard = guard
        self._settings = settings
        self._progress = progress
        self._in_flight: asyncio.Queue[_Notification | None] = asyncio.Queue(settings.posts)
        self._readings: list[_Reading] = []
        self._errors: list[str] = []

    async def run(self) -> RunTraces:
        """Makes every post, reads every one once, and finds out when each became visible."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(tasks))
            await self._write_all(tasks)
        traces = await self._trace_all()
        return RunTraces(traces=traces, errors=tuple(self._errors))

    async def _write_all(self, tasks: asyncio.TaskGroup) -> None:
        settings = self._settings
        chance = Random(settings.seed)  # noqa: S311 - a load, not a secret
        starts_at_s = time.monotonic()
        for number in range(settings.posts):
            starts_at_s += chance.expovariate(settings.rate_per_s)
            body = chance.randbytes(settings.body_bytes)
            await asyncio.sleep(max(0.0, starts_at_s - time.monotonic()))
            tasks.create_task(self._write(f"{self._run_name}-{number:06d}", body))

    async def _write(self, post_id: str, body: bytes) -> None:
        """The writer's side of one post: register, write, notify."""
        branch_id = f"post-storage-{post_id}"
        started_at_s = time.monotonic()
        registration = self._guard.register(post_id, branch_id)
        try:
            await self._store.write(post_id, body, branch_id)
        except GeoStoreError as error:
            if registration:
                registration.abandon()
            self._fail(post_id, error)
            self._in_flight.put_nowait(None)
            return
        notification = _Notification(
            post_id=post_id,
            body=body,
            headers=registration.headers if registration else {},
            write_started_at_s=started_at_s,
            written_at_s=time.monotonic(),
            registration=registration,
        )
        loop = asyncio.get_running_loop()
        loop.call_later(
            self._settings.notification_delay_s, self._in_flight.put_nowait, notification
        )

    async def _receive(self, tasks: asyncio.TaskGroup) -> None:
        for _ in range(self._settings.posts):
            notification = await self._in_flight.get()
            if notification is not None:
                tasks.create_task(self._read(notification, time.monotonic()))

    async def _read(self, notification: _Notification, notified_at_s: float) -> None:
        """The reader's side of one post: wait if the guard says so, then read once."""
        region = self._settings.reader_region
        try:
            release = await self._guard.release(notification.headers)
            released_at_s = time.monotonic()
            found = await self._store.read(region, notification.post_id)
            registration = notification.registration
            registration_s = await registration.acknowledged_after_s() if registration else 0.0
        except (GeoStoreError, RendezvousError) as error:
            if notification.registration:
                notification.registration.abandon()
            self._fail(notification.post_id, error)
            return
        self._readings.append(
            _Reading(
                notification=notification,
                notified_at_s=notified_at_s,
                released_at_s=released_at_s,
                consistent=found == notification.body,
                prevented=release.prevented,
                timed_out=release.timed_out,
                registration_s=registration_s,
            )
        )
        self._progress()

    async def _trace_all(self) -> tuple[PostTrace, ...]:
        """Adds to each reading when the post became visible, as soon as the last one has."""
        traces = []
        try:
            async with asyncio.timeout(self._settings.settle_timeout_s):
                for reading in self._readings:
                    trace = await self._trace(reading)
                    traces.append(trace)
        except TimeoutError:
            missing = len(self._readings) - len(traces)
            self._errors += [f"never became visible: one of {missing} posts"] * missing
        return tuple(traces)

    async def _trace(self, reading: _Reading) -> PostTrace:
        notification = reading.notification
        visible_at_s = await self._store.wait_visible(
            self._settings.reader_region, notification.post_id
        )
        return PostTrace(
            post_id=notification.post_id,
            write_started_at_s=notification.write_started_at_s,
            written_at_s=notification.written_at_s,
            notified_at_s=reading.notified_at_s,
            released_at_s=reading.released_at_s,
            visible_at_s=visible_at_s,
            consistent=reading.consistent,
            prevented=reading.prevented,
            timed_out=reading.timed_out,
            registration_s=reading.registration_s,
        )

    def _fail(self, post_id: str, error: Exception) -> None:
        self._errors.append(f"post {post_id}: {type(error).__name__}: {error}")
        self._progress()
