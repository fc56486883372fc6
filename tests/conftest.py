"""What every test can rely on: seeds that are printed and replayable, servers, no leftovers.

One seed decides the order of the tests, what `random` gives, and the fixture `seed`; with the
profile `ci` (or when `--seed` is given) also what Hypothesis tries. It is printed at the top of
the run; `--seed N` replays it. Without it Hypothesis keeps its own book of failing examples.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Nothing that depends on the speed of the machine: no deadline, no complaint about slowness.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("dev", _UNTIMED, max_examples=50)
settings.register_profile("ci", _UNTIMED, max_examples=200)
settings.register_profile("long", _UNTIMED, max_examples=10_000)
settings.load_profile("dev")

REQUIRE_SERVERS = os.environ.get("RENDEZVOUS_REQUIRE_SERVERS") == "1"
"""Set where a missing server must fail the run: a test that did not run proves nothing."""
SETTLE_S = 2.0
"""Time in which tasks that are about to end have ended."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="replay a run by the seed it printed")


@pytest.hookimpl(tryfirst=True)  # before the plugins that are told the seed
def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    if hasattr(config, "workerinput"):
        return  # the controller has decided
    ordering = getattr(option, "randomly_seed", "default")
    replayed = option.seed is not None
    if not replayed:
        chosen = isinstance(ordering, int)
        option.seed = ordering if chosen else random.SystemRandom().getrandbits(32)
    if ordering == "default":
        option.randomly_seed = option.seed
    if option.hypothesis_seed is None and (replayed or option.hypothesis_profile == "ci"):
        option.hypothesis_seed = str(option.seed)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (replay with --seed {config.option.seed})"


def pytest_itemcollected(item: pytest.Item) -> None:
    # First in, last out: it looks when all other fixtures have stopped what they started.
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.fixturenames.insert(0, "_no_task_is_left")


@pytest.fixture(autouse=True)
def _logs_are_as_they_were() -> Iterator[None]:
    """A test that sets up the product's logs does not set them up for the next one."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    # What ends by itself is not left behind; gRPC's own tasks end after news from its thread.
    left = (await asyncio.wait(others, timeout=SETTLE_S))[1] if others else others
    if not left:
        return
    names = ", ".join(sorted(f"{task.get_name()} {task.get_coro()!r}" for task in left))
    pytest.fail(f"tasks outlive the test: {names}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    reason = str(report.longrepr) if report.skipped else ""
    missing = re.search(r"redis|server|is not installed", reason, re.IGNORECASE)
    if REQUIRE_SERVERS and missing and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but must not be here: {reason}"
    return report


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number of this test's own, the same whenever the run's seed is."""
    name = f"{request.config.option.seed} {request.node.path.name} {request.node.name}"
    return zlib.crc32(name.encode())


@dataclass(frozen=True)
class RedisServer:
    """A Redis of this test process alone, on loopback, without persistence."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self.port}/0"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis. Tests share it: use keys of your own. Skips where there is no redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    directory = tmp_path_factory.mktemp("redis")
    process, port = _start_redis(program, directory)
    try:
        yield RedisServer(port, process.pid)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _start_redis(program: str, directory: Path) -> tuple[subprocess.Popen[str], int]:
    for _ in range(5):  # another process may take the free port first
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
        process = subprocess.Popen(
            [program, *options, "--save", "", "--appendonly", "no", "--daemonize", "no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                # Somebody has to read the rest, or a full pipe stops the server.
                threading.Thread(target=_drain, args=(process,), daemon=True).start()
                return process, port
        process.wait()
    pytest.fail("redis-server does not start", pytrace=False)


def _drain(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for _ in output:
            pass
