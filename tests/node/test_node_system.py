"""The real clock and the real ids (semantics G2)."""

from __future__ import annotations

import re
import time

from node_bench import NodeBench, branch

from rendezvous_raft.limits import ID_ALPHABET, ID_BYTES_MAX
from rendezvous_raft.node.ports import Clock, IdSource
from rendezvous_raft.node.system import RandomIds, SystemClock
from rendezvous_raft.node.watches import WaitIndex


def test_ids_are_never_issued_twice_and_fit_their_alphabet() -> None:
    # semantics: G1, G2, G2.4
    ids: IdSource = RandomIds()
    services = ("post-storage", "dünn/räume \N{SNOWMAN}", "x" * 128, "")
    made = [ids.branch_id(service) for service in services for _ in range(1_000)]
    made += [ids.request_id() for _ in range(1_000)] + [ids.lease_id() for _ in range(1_000)]
    assert len(set(made)) == 6_000
    for text in made:
        assert re.fullmatch(f"{ID_ALPHABET}{{1,{ID_BYTES_MAX}}}", text), text
    assert made[0].startswith("post-storage-")
    assert len({ids.command_id() for _ in range(1_000)}) == 1_000


def test_ids_of_two_sources_differ() -> None:
    # semantics: G2, G2.4
    assert RandomIds().request_id() != RandomIds().request_id()


def test_the_clock_is_that_of_the_system() -> None:
    clock: Clock = SystemClock()
    before_s, before_ns = time.monotonic(), time.time_ns()
    assert before_s <= clock.monotonic_s() <= time.monotonic()
    assert before_ns // 1_000_000 <= clock.wall_ms() <= time.time_ns() // 1_000_000


async def test_reports_of_parked_requests_are_bounded(bench: NodeBench) -> None:
    # semantics: 5.2
    for i in range(3):
        bench.opened(branch(f"b{i}"), request_id=f"r{i}")
        await bench.blocked(bench.wait(request_id=f"r{i}"))
    index: WaitIndex = bench.node._index
    assert index.request_ids(2) == ("r0", "r1")
    assert index.request_ids(9) == ("r0", "r1", "r2")
