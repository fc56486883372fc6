"""A monitor process: settings, status page, metrics, stop; and the adapter of the SDK."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from rendezvous_raft.client.arguments import CloseSpec
from rendezvous_raft.client.results import (
    CloseBranchesResult,
    CloseResult,
    SubscriptionEvent,
    SubscriptionEventKind,
)
from rendezvous_raft.config import ConfigError
from rendezvous_raft.devcluster.embedded_store import EmbeddedStore
from rendezvous_raft.devcluster.replication_lag import ReplicationLag
from rendezvous_raft.errors import BranchNotFound, Disconnected
from rendezvous_raft.monitor.metadata import SdkMetadata
from rendezvous_raft.monitor.ports import (
    BranchClose,
    BranchClosed,
    BranchOpened,
    CloseAnswer,
    ListEnded,
    Selection,
)
from rendezvous_raft.monitor.probes.build import build_probe
from rendezvous_raft.monitor.runner import MonitorProcess
from rendezvous_raft.monitor.settings import (
    EmbeddedProbeConfig,
    MonitorConfig,
    RedisProbeConfig,
    load_monitor_config,
)
from rendezvous_raft.types import BranchId, Region, Service, Tag

SECONDS = 20.0
"""Bound of every wait; nothing is asserted about it."""
REGISTERED_AT = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


def event(kind: SubscriptionEventKind, branch_id: str = "", revision: int = 1) -> SubscriptionEvent:
    return SubscriptionEvent(
        kind=kind,
        branch_id=branch_id,
        request_id="r1",
        tag="",
        locator=b"here",
        registered_at=REGISTERED_AT,
        revision=revision,
        is_global=False,
    )


class FakeSdk:
    """The methods of the SDK's client that a monitor uses."""

    def __init__(self, open_branches: Sequence[str] = ()) -> None:
        self.open = dict.fromkeys(open_branches)
        self.subscribed: list[tuple[object, ...]] = []
        self.closes: list[CloseSpec] = []
        self.all_closed = asyncio.Event()
        self.streams_open = 0
        self.is_closed = False
        self.fault: Exception | None = None

    async def subscribe(
        self, service: str, region: str | None = None, *, tags: Sequence[str] = (), group: str = ""
    ) -> AsyncGenerator[SubscriptionEvent, None]:
        self.subscribed.append((service, region, tuple(tags), group))
        self.streams_open += 1
        try:
            for branch_id in list(self.open):
                yield event(SubscriptionEventKind.OPEN, branch_id)
            yield event(SubscriptionEventKind.SYNCED, revision=7)
            if self.fault is not None:
                raise self.fault
            await asyncio.get_running_loop().create_future()
        finally:
            self.streams_open -= 1

    async def close_branches(
        self, closes: Sequence[CloseSpec], *, timeout: float | None = None
    ) -> CloseBranchesResult:
        self.closes += closes
        results = []
        for close in closes:
            known = close.branch_id in self.open
            self.open.pop(close.branch_id, None)
            failure = None if known else BranchNotFound("unknown")
            results.append(CloseResult(closed=known, already_closed=False, failure=failure))
        if not self.open:
            self.all_closed.set()
        return CloseBranchesResult(results=tuple(results), revision=9)

    async def close(self) -> None:
        self.is_closed = True


SELECTION = Selection(Service("post-storage"), Region("eu"), (Tag("t"),), "g")


async def test_the_sdk_is_adapted_to_the_port() -> None:
    sdk = FakeSdk(["b1"])
    metadata = SdkMetadata(sdk)
    stream = metadata.subscribe(SELECTION)
    opened = await anext(stream)
    assert isinstance(opened, BranchOpened)
    assert (opened.branch_id, opened.locator) == ("b1", b"here")
    assert opened.registered_at_s == REGISTERED_AT.timestamp()
    assert await anext(stream) == ListEnded(7)
    await stream.aclose()
    assert sdk.streams_open == 0, "the stream is ended with its reader"
    assert sdk.subscribed == [("post-storage", "eu", ("t",), "g")]
    closes = [BranchClose(BranchId("b1"), Region("eu")), BranchClose(BranchId("b2"), Region(""))]
    answers = await metadata.close_branches(closes, timeout_s=1.0)
    assert sdk.closes == [CloseSpec("b1", "eu"), CloseSpec("b2", "")]
    assert answers[0] == CloseAnswer(closed=True, already_closed=False)
    assert isinstance(answers[1].failure, BranchNotFound)


async def test_closed_events_and_faults_pass_the_adapter() -> None:
    sdk = FakeSdk()
    sdk.fault = Disconnected("gone")
    stream = SdkMetadata(sdk).subscribe(SELECTION)
    assert await anext(stream) == ListEnded(7)
    with pytest.raises(Disconnected):
        await anext(stream)

    class Closing(FakeSdk):
        async def subscribe(self, *_: object, **__: object) -> AsyncGenerator[SubscriptionEvent]:
            yield event(SubscriptionEventKind.CLOSED, "b9", 4)

    deliveries = [delivery async for delivery in SdkMetadata(Closing()).subscribe(SELECTION)]
    assert deliveries == [BranchClosed(BranchId("b9"), 4)]


@asynccontextmanager
async def process_with_store(
    directory: Path, sdk: FakeSdk
) -> AsyncIterator[tuple[MonitorProcess, EmbeddedStore, aiohttp.ClientSession]]:
    lag = ReplicationLag(median_ms=1.0, p99_ms=1.0)
    store = EmbeddedStore(directory, regions=("eu", "us"), lag=lag)
    async with asyncio.timeout(SECONDS):
        await store.start()
        config = MonitorConfig.model_validate(
            {
                "endpoints": ["127.0.0.1:7600"],
                "http_address": "127.0.0.1:0",
                "watch": [
                    {
                        "service": "post-storage",
                        "region": "us",
                        "probe": {"kind": "embedded", "path": directory / "region-1.sqlite"},
                    }
                ],
            }
        )
        process = MonitorProcess(config, connect=lambda _config, _region: sdk)
        task = asyncio.create_task(process.run())
        await process.wait_started()
        try:
            base_url = f"http://127.0.0.1:{process.http_port}"
            async with aiohttp.ClientSession(base_url) as session:
                yield process, store, session
        finally:
            process.stop()
            await task
            await store.stop()
            assert sdk.is_closed
            assert sdk.streams_open == 0


async def test_a_process_watches_and_closes_and_tells_about_it(tmp_path: Path) -> None:
    sdk = FakeSdk(["branch-1", "branch-2"])
    async with process_with_store(tmp_path, sdk) as (process, store, session):
        store.hold("us")
        await store.write("p1", b"x", "branch-1")
        await store.write("p2", b"x", "branch-2")
        (monitor,) = process.monitors
        await monitor.wait_synced()
        async with session.get("/statusz") as response:
            page = json.loads(await response.text())
        (watch,) = page["watches"]
        assert watch["selection"]["service"] == "post-storage"
        assert watch["pending"] == 2
        shown = [view["branch_id"] for view in watch["pending_branches"]]
        assert shown == ["branch-1", "branch-2"]
        assert sdk.open, "nothing is visible yet"
        store.release("us")
        await sdk.all_closed.wait()
        assert {close.branch_id for close in sdk.closes} == {"branch-1", "branch-2"}
        assert {close.region for close in sdk.closes} == {"us"}
        async with session.get("/metrics") as response:
            text = await response.text()
        labels = 'datastore="embedded",region="us",service="post-storage"'
        for line in (
            f"rendezvous_monitor_branches_pending{{{labels}}} 0.0",
            'rendezvous_monitor_closes_total{result="closed"} 2.0',
            'rendezvous_monitor_endpoint_up{endpoint="region-1.sqlite"} 1.0',
        ):
            assert line in text
        for name in (
            "probes_total",
            "probe_duration_seconds_count",
            "oldest_pending_seconds",
            "visibility_lag_seconds_count",
            "close_lag_seconds_count",
            "close_batch_size_count",
            "resubscribes_total",
            "superseded_total",
        ):
            assert f"rendezvous_monitor_{name}" in text
        async with session.get("/livez") as response:
            assert response.status == 200
        async with session.get("/readyz") as response:
            assert (response.status, await response.text()) == (200, "[+]post-storage/us ok\n")


async def test_a_process_that_sees_no_new_branches_is_not_ready(tmp_path: Path) -> None:
    sdk = FakeSdk()
    sdk.fault = Disconnected("gone")
    async with process_with_store(tmp_path, sdk) as (_, _, session):
        text = ""
        while "disconnected" not in text:
            async with session.get("/readyz") as response:
                text = await response.text()
                assert (response.status == 200) == ("[+]" in text)
        assert text == "[-]post-storage/us not subscribed: disconnected\n"


SETTINGS = """
endpoints = ["127.0.0.1:7600", "127.0.0.1:7610"]
log_format = "console"

[[watch]]
service = "post-storage"
region = "eu"
tags = ["write-post"]
group = "g"
max_probes_per_second = 100
probe = { kind = "redis", endpoints = ["redis://monitor:secret@127.0.0.1:6379"], strict = true }

[[watch]]
service = "post-storage"
region = "us"
probe = { kind = "embedded", path = "region-1.sqlite" }
"""


def test_settings_come_from_a_file_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "monitor.toml"
    file.write_text(SETTINGS)
    config = load_monitor_config(file, {"http_address": "127.0.0.1:1", "log_level": None})
    assert config.endpoints == ("127.0.0.1:7600", "127.0.0.1:7610")
    assert config.http_address == "127.0.0.1:1"
    first, second = config.watch
    assert first.to_selection() == Selection(
        Service("post-storage"), Region("eu"), (Tag("write-post"),), "g"
    )
    assert isinstance(first.probe, RedisProbeConfig)
    assert isinstance(second.probe, EmbeddedProbeConfig)
    assert "secret" not in json.dumps(config.masked())
    assert "127.0.0.1:6379" in json.dumps(config.masked())


WATCH = {"service": "s", "region": "eu", "probe": {"kind": "embedded", "path": "x"}}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "endpoints"),
        ({"endpoints": [], "watch": [WATCH]}, "endpoints"),
        ({"endpoints": ["nowhere"], "watch": [WATCH]}, "endpoints[0]: must be host:port"),
        ({"endpoints": ["a:1"], "watch": []}, "watch"),
        ({"endpoints": ["a:1"], "watch": [WATCH, WATCH]}, "two entries watch the same"),
        ({"endpoints": ["a:1"], "watch": [{**WATCH, "service": ""}]}, "watch[0].service"),
        ({"endpoints": ["a:1"], "watch": [{**WATCH, "probe": {"kind": "x"}}]}, "watch[0].probe"),
        ({"endpoints": ["a:1"], "watch": [WATCH], "endpoint": "a:1"}, "endpoint"),
        ({"endpoints": ["a:1"], "watch": [WATCH], "tls_ca": "absent.pem"}, "tls_ca: a file"),
        ({"endpoints": ["a:1"], "watch": [WATCH], "tls_key": "x.pem"}, "tls_ca: a file"),
        (
            {"endpoints": ["a:1"], "watch": [{**WATCH, "max_probes_per_second": 0}]},
            "watch[0].max_probes_per_second",
        ),
    ],
)
def test_faults_of_settings_name_their_field(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as failure:
        load_monitor_config(overrides=settings)
    assert problem in "; ".join(failure.value.problems)


def test_a_file_that_cannot_be_read_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        load_monitor_config(tmp_path / "missing.toml")


async def test_probes_are_built_from_settings(tmp_path: Path) -> None:
    embedded = build_probe(EmbeddedProbeConfig(path=tmp_path / "x.sqlite"))
    assert (embedded.datastore, embedded.endpoints) == ("embedded", ("x.sqlite",))
    redis = build_probe(RedisProbeConfig(endpoints=("redis://127.0.0.1:1",)))
    assert (redis.datastore, redis.endpoints) == ("redis", ("127.0.0.1:1",))
    for probe in (embedded, redis):
        await probe.close()


PROGRAM = """
import sys
from pathlib import Path
from rendezvous_raft.monitor.runner import run_monitor
from rendezvous_raft.monitor.settings import load_monitor_config
sys.exit(run_monitor(load_monitor_config(Path(sys.argv[1]))))
"""


@pytest.mark.slow
def test_a_real_process_stops_on_sigterm(tmp_path: Path) -> None:
    file = tmp_path / "monitor.toml"
    file.write_text(
        """
        endpoints = ["127.0.0.1:1"]
        http_address = "127.0.0.1:0"
        [[watch]]
        service = "s"
        region = "eu"
        probe = { kind = "embedded", path = "none.sqlite" }
        """
    )
    command = [sys.executable, "-c", PROGRAM, str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "monitor_started" in line:
                break
        os.kill(process.pid, signal.SIGTERM)
        lines += process.stderr.readlines()
        assert process.wait(SECONDS) == 0, "".join(lines)
    assert any("monitor_stopped" in line for line in lines)


@pytest.mark.slow
def test_a_real_process_that_cannot_listen_fails(tmp_path: Path) -> None:
    file = tmp_path / "monitor.toml"
    file.write_text(
        """
        endpoints = ["127.0.0.1:1"]
        http_address = "192.0.2.1:7690"
        [[watch]]
        service = "s"
        region = "eu"
        probe = { kind = "embedded", path = "none.sqlite" }
        """
    )
    command = [sys.executable, "-c", PROGRAM, str(file)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert "monitor_failed" in done.stderr
    assert "Traceback" not in done.stderr
