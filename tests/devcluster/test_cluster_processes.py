from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rendezvous_raft.devcluster.layout import free_ports
from rendezvous_raft.devcluster.processes import NodeFailed, NodeProcess, describe_exit
from rendezvous_raft.devcluster.readiness import fetch_readiness

PRETEND_NODE = Path(__file__).with_name("pretend_node.py")
Make = Callable[[str], NodeProcess]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[NodeProcess] = []

    def make_node(mode: str) -> NodeProcess:
        address = f"127.0.0.1:{free_ports(1)[0]}"
        node = NodeProcess(
            name="n1",
            command=(sys.executable, str(PRETEND_NODE), address, mode),
            http_address=address,
            log_path=tmp_path / "node.log",
        )
        made.append(node)
        return node

    yield make_node
    for node in made:
        await node.stop(grace_s=0)


def soon() -> float:
    return time.monotonic() + 20


async def test_becomes_ready_only_when_readyz_says_so(make: Make) -> None:
    node = make("slow")
    await node.start()
    await node.wait_until_ready(soon())
    ready, text = await fetch_readiness(node._http_address)
    assert ready
    assert text == "[+]raft ok"


async def test_stops_on_sigterm_and_gives_the_status(make: Make) -> None:
    node = make("ready")
    await node.start()
    await node.wait_until_ready(soon())
    assert node.running
    assert await node.stop(grace_s=20) == -15
    assert not node.running
    assert await node.stop() == -15  # once more is harmless


async def test_kills_a_child_that_ignores_sigterm(make: Make) -> None:
    node = make("deaf")
    await node.start()
    await node.wait_until_ready(soon())
    assert await node.stop(grace_s=0.1) == -9


async def test_a_cancelled_stop_still_kills(make: Make) -> None:
    node = make("deaf")
    await node.start()
    await node.wait_until_ready(soon())
    stopping = asyncio.create_task(node.stop(grace_s=60))
    await asyncio.sleep(0)  # it has sent SIGTERM and waits
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert await node.wait_exit() == -9


async def test_a_child_that_dies_at_its_start_shows_its_last_words(make: Make) -> None:
    node = make("dies")
    await node.start()
    with pytest.raises(NodeFailed, match="exit status 3") as failure:
        await node.wait_until_ready(soon())
    assert "disk on fire" in failure.value.log_tail
    assert "node.log" in str(failure.value)


async def test_a_deadline_that_passes_names_the_reason(make: Make) -> None:
    node = make("slow")
    await node.start()
    with pytest.raises(NodeFailed, match="did not become ready in time"):
        await node.wait_until_ready(time.monotonic() - 1)


async def test_a_crash_from_outside_is_observed(make: Make) -> None:
    node = make("ready")
    await node.start()
    await node.wait_until_ready(soon())
    os.kill(node.pid, 9)
    assert await node.wait_exit() == -9
    assert describe_exit(-9) == "killed by SIGKILL"


async def test_the_log_is_private_and_the_tail_is_of_the_last_start(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "node.log").write_text("words of an earlier life\n")
    (tmp_path / "node.log").chmod(0o600)
    node = make("dies")
    await node.start()
    await node.wait_exit()
    assert "earlier life" not in node.log_tail()
    assert "disk on fire" in node.log_tail()
    assert "earlier life" in (tmp_path / "node.log").read_text()
    assert stat.S_IMODE((tmp_path / "node.log").stat().st_mode) == 0o600


async def test_settings_of_the_caller_do_not_reach_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDEZVOUS_REGION", "mars")
    monkeypatch.setenv("UNRELATED", "kept")
    script = (
        "import os; print(sorted(n for n in os.environ if n in ('UNRELATED',) or 'RENDEZ' in n))"
    )
    node = NodeProcess(
        name="n1",
        command=(sys.executable, "-c", script),
        http_address="127.0.0.1:1",
        log_path=tmp_path / "node.log",
    )
    await node.start()
    assert await node.wait_exit() == 0
    assert "['UNRELATED']" in node.log_tail()


async def test_nobody_listening_is_not_ready() -> None:
    ready, text = await fetch_readiness(f"127.0.0.1:{free_ports(1)[0]}")
    assert not ready
    assert text


def test_exit_status_in_words() -> None:
    assert describe_exit(0) == "exit status 0"
    assert describe_exit(-15) == "killed by SIGTERM"
    assert describe_exit(-200) == "killed by signal 200"
