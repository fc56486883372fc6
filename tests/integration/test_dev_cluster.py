"""`rendezvous dev` with real nodes, from outside, as its users run it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from rendezvous_raft.devcluster.embedded_store import EmbeddedStore
from rendezvous_raft.devcluster.replication_lag import ReplicationLag

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TRIES_MAX = 20
"""Each takes a good part of a second."""


@contextmanager
def dev(tmp_path: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], list[Any]]]:
    """Runs `dev` until the end of the block; its nodes, once all of them are ready."""
    command = [
        *(sys.executable, "-m", "rendezvous_raft", "dev", "--nodes", "3", "--base-port", "0"),
        *("--json", "--data-dir", str(tmp_path / "cluster"), *flags),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)["nodes"]
        finally:
            process.terminate()
            process.wait(60)
    assert process.returncode == 0


def event_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The next event that `dev` tells of on standard error."""
    assert process.stderr is not None
    event = json.loads(process.stderr.readline())
    return event["event"], event["node"]


def rendezvous(*arguments: str) -> tuple[int, Any]:
    """Runs a command of the product; its exit status and its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "rendezvous_raft", "-o", "json", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def until_healthy(endpoint: str) -> None:
    """On a machine that is busy with other things a heartbeat may be late, and an election held."""
    for _ in range(TRIES_MAX):
        status, health = rendezvous("--endpoints", endpoint, "check", "health")
        assert (status == 0) is health["healthy"]
        if status == 0:
            return
    raise AssertionError(f"never healthy: {health}")


async def write_to_store(directory: Path, branch_id: str) -> None:
    """Makes a post visible in eu, in the embedded store."""
    lag = ReplicationLag(median_ms=1.0, p99_ms=1.0)
    store = EmbeddedStore(directory, regions=("eu",), lag=lag)
    await store.start()
    await store.write("post-1", b"x", branch_id)
    await store.stop()


@contextmanager
def monitor(*flags: str) -> Iterator[None]:
    """Runs a monitor of the embedded store until the end of the block."""
    command = [
        *(sys.executable, "-m", "rendezvous_raft", "monitor", "run", "--datastore", "embedded"),
        *("--http-address", "127.0.0.1:0", *flags),
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
    assert process.returncode == 0


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_cluster_is_used_through_every_node_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with dev(tmp_path, "--rtt-ms", "eu-us=20,eu-ap=20,us-ap=20") as (_, nodes):
        assert [(node["name"], node["region"]) for node in nodes] == [
            ("n1", "eu"),
            ("n2", "us"),
            ("n3", "ap"),
        ]
        first, second, third = (node["grpc"] for node in nodes)
        until_healthy(first)
        place = ("--service", "post-storage", "--region", "eu", "--region", "us")
        status, branch = rendezvous("--endpoints", second, "branch", "register", *place)
        assert status == 0
        request = ("request", "wait", branch["request_id"], "--region", "us", "--timeout")
        status, waited = rendezvous("--endpoints", third, *request, "300ms")
        assert (status, waited["outcome"]) == (5, "timed_out")
        assert waited["open_branches"][0]["branch_id"] == branch["branch_id"]
        close = ("branch", "close", branch["branch_id"], "--region", "us")
        assert rendezvous("--endpoints", first, *close)[0] == 0
        status, waited = rendezvous("--endpoints", third, *request, "20s")
        assert (status, waited["timed_out"]) == (0, False)
        status, compared = rendezvous("--endpoints", first, "cluster", "digest")
        assert (status, compared["diverged"]) == (0, False)
    assert not any(is_alive(node["pid"]) for node in nodes)


def test_with_tls_only_who_has_a_certificate_is_served(tmp_path: Path) -> None:
    """Members among themselves, through links that delay, and clients."""
    with dev(tmp_path, "--tls", "--rtt-ms", "eu-us=20,eu-ap=20,us-ap=20") as (_, nodes):
        endpoints = ("--endpoints", ",".join(node["grpc"] for node in nodes))
        certs = tmp_path / "cluster" / "certs"
        pair = ("--tls-cert", str(certs / "dev.pem"), "--tls-key", str(certs / "dev-key.pem"))
        tls = ("--tls-ca", str(certs / "ca.pem"), *pair)
        status, health = rendezvous(*endpoints, *tls, "check", "health")
        assert (status, health["healthy"]) == (0, True)
        place = ("--service", "post-storage", "--region", "eu")
        status, branch = rendezvous(*endpoints, *tls, "branch", "register", *place)
        assert status == 0
        status, compared = rendezvous(*endpoints, *tls, "cluster", "digest")
        assert (status, compared["diverged"]) == (0, False)
        asyncio.run(write_to_store(tmp_path, branch["branch_id"]))
        with monitor(*endpoints, *tls, *place, "--path", str(tmp_path / "region-0.sqlite")):
            wait = ("request", "wait", branch["request_id"], "--region", "eu", "--timeout", "60s")
            assert rendezvous(*endpoints, *tls, *wait)[0] == 0
        assert rendezvous(*endpoints, "check", "health")[0] == 3
        assert rendezvous(*endpoints, "--tls-ca", str(certs / "ca.pem"), "check", "health")[0] == 3
        for node in nodes:
            with urlopen(f"http://{node['http']}/metrics", timeout=20) as answer:
                text = answer.read().decode()
            for plane in ("grpc", "raft"):
                metric = "rendezvous_tls_certificate_expiry_timestamp_seconds"
                assert f'{metric}{{plane="{plane}"}}' in text
    logs = "".join((tmp_path / "cluster" / node["name"] / "node.log").read_text() for node in nodes)
    assert "without_tls" not in logs


def test_a_node_killed_from_outside_stays_dead(tmp_path: Path) -> None:
    with dev(tmp_path) as (process, nodes):
        victim = nodes[1]
        os.kill(victim["pid"], signal.SIGKILL)
        assert event_of(process) == ("node_died", "n2")
        endpoints = ",".join(node["grpc"] for node in nodes)
        status, health = rendezvous("--endpoints", endpoints, "check", "health")
        assert status == 1
        unhealthy = [entry for entry in health["members"] if not entry["healthy"]]
        assert [entry["grpc_address"] for entry in unhealthy] == [victim["grpc"]]
        place = ("--service", "post-storage", "--region", "eu", "--timeout", "20s")
        assert rendezvous("--endpoints", endpoints, "branch", "register", *place)[0] == 0
        assert not is_alive(victim["pid"])


def test_with_restart_a_killed_node_comes_back_with_what_it_had(tmp_path: Path) -> None:
    with dev(tmp_path, "--restart") as (process, nodes):
        endpoints = ",".join(node["grpc"] for node in nodes)
        place = ("--service", "post-storage", "--region", "eu")
        status, branch = rendezvous("--endpoints", endpoints, "branch", "register", *place)
        assert status == 0
        os.kill(nodes[0]["pid"], signal.SIGKILL)
        assert event_of(process) == ("node_died", "n1")
        assert event_of(process) == ("node_restarted", "n1")
        status, shown = rendezvous(
            "--endpoints", nodes[0]["grpc"], "request", "show", branch["request_id"]
        )
        assert (status, shown["branches"][0]["branch_id"]) == (0, branch["branch_id"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of the kernel")
def test_nodes_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "rendezvous_raft", "dev", "--nodes", "1", "--base-port", "0"),
        *("--json", "--data-dir", str(tmp_path)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        (node,) = json.loads(process.stdout.readline())["nodes"]
        pidfd = os.pidfd_open(node["pid"])
        process.kill()
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)  # readable once the process has ended
        assert ended.poll(20_000)
    finally:
        os.close(pidfd)
