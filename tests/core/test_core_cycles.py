"""A state is in no cycles: counting references frees what is dropped of it, and all of it.

Servers rely on it: their garbage collector does not look at the state (`server/collector.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from core_builders import FOREVER_MS, Log, branch, scope

from rendezvous_raft.core import snapshot
from rendezvous_raft.core.model import Request


@pytest.fixture(autouse=True)
def _looks_at_what_is_made_here() -> Iterator[None]:
    """And not at what other tests have left, which may become garbage at any moment."""
    gc.disable()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.enable()


def history() -> Log:
    """With something of everything that a state holds."""
    log = Log()
    for number in range(20):
        request_id = f"r{number}"
        log.add(branch(f"a{number}", "eu", "us", tag="t"), request_id=request_id)
        log.add(branch(f"b{number}", parent=f"a{number}", zone="z"), request_id=request_id)
        log.begin_wait(f"l{number}", scope("post", region="eu"), request_id=request_id)
    log.join("m1")
    log.join("m2")
    log.close("a1", "eu")
    log.retry()
    log.close("unknown", "eu")
    log.end_wait("l1")
    return log


def test_what_commands_drop_needs_no_collector() -> None:
    log = history()
    log.leave("m1")
    log.close("a2", all_regions=True)
    log.close("b2", all_regions=True)
    log.pulse(FOREVER_MS)
    log.expire(tombstone_ttl_ms=1)
    assert gc.collect() == 0


def test_a_state_that_is_dropped_needs_no_collector() -> None:
    log = history()
    capture = snapshot.Capture(log.machine)
    read_back = snapshot.load(iter(list(capture.rows())))
    capture.close()
    assert requests_alive() == 40
    del log, read_back, capture
    assert requests_alive() == 0
    assert gc.collect() == 0


def requests_alive() -> int:
    return sum(isinstance(one, Request) for one in gc.get_objects())
