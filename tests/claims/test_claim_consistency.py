"""Claims on the reader: it finds what it was notified of, whatever the datastores are.

"A system that offers correctness guarantees and prevents consistency violations in microservice
applications, including cross-service inconsistencies ... while leaving datastores unmodified"
(the original's own description; M. Ferreira, thesis at IST, 2023).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from claims_world import LookupProbe, World, blocked, until_described

from rendezvous_raft.context import RendezvousContext, current_context, use_context
from rendezvous_raft.types import Status, WaitOutcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def test_a_notified_reader_in_another_region_finds_the_post(world: World) -> None:
    """Claim: cross-service inconsistencies are prevented.

    The post is written in eu; its replication to us is held; the notification, which carries the
    context, arrives before it. Without waiting, the reader finds nothing; after waiting, the post.
    """
    # semantics: R1, R2, U1
    store, service = await world.store(), world.service()
    eu, us = await world.client("eu"), await world.client("us")
    for region in ("eu", "us"):
        await world.monitor(service, region, store.make_probe(region))
    store.hold("us")
    with eu.request() as request:
        branch = await eu.register_branch(service, regions=["eu", "us"])
        await store.write("p1", b"hello", branch.branch_id)
        headers = current_context().to_headers()  # type: ignore[union-attr]

    with use_context(RendezvousContext.from_headers(headers)):
        assert await store.read("us", "p1") is None, "the anomaly that all this is about"
        wait = await blocked(us, request.request_id, us.wait_request(service=service, timeout=60))
        store.release("us")
        result = await wait
        assert (result.outcome, result.timed_out) == (WaitOutcome.BLOCKED, False)
        assert await store.read("us", "p1") == b"hello"


async def test_prevented_inconsistencies_are_detected_and_counted(world: World) -> None:
    """Claim: it is known how many inconsistencies there would have been.

    The original's `Get Inconsistencies`: a wait that was blocked and released is one, any other is
    none.
    """
    # semantics: R2
    service = world.service()
    us = await world.client("us")
    before = await world.prevented("us")
    branch = await us.register_branch(service, regions=["us"])
    wait = await blocked(us, branch.request_id, us.wait_request(branch.request_id, timeout=60))
    await us.close_branch(branch.branch_id, "us")
    assert (await wait).prevented_inconsistency
    assert await world.prevented("us") == before + 1
    again = await us.wait_request(branch.request_id)
    assert (again.outcome, again.prevented_inconsistency) == (WaitOutcome.IMMEDIATE, False)
    assert await world.prevented("us") == before + 1


async def test_a_wait_ends_with_its_time_and_says_what_is_still_open(world: World) -> None:
    """Claim: a wait takes a time-out, and tells by its result that it ran out.

    Stronger here: it names the branches that held it, so that the caller can decide.
    """
    # semantics: R2.1, R3
    us = await world.client("us")
    branch = await us.register_branch(world.service(), regions=["eu", "us"])
    result = await us.wait_request(branch.request_id, timeout=0.05)
    assert (result.timed_out, result.prevented_inconsistency) == (True, False)
    assert [(b.branch_id, b.regions) for b in result.open_branches] == [
        (branch.branch_id, ("eu", "us"))
    ]


@dataclass
class Datastore:
    """A datastore as its vendor ships it: `write(k, v, m)`, `find(m)`, and a way to replicate."""

    write: Callable[[str, str, str], None]
    find_in: Callable[[str], Callable[[str], bool]]
    replicate: Callable[[], None]
    read_in_us: Callable[[str], str | None]


def sql(directory: Path) -> Datastore:
    """Two SQLite files. The marker is a row of an ordinary table, in the write's transaction."""
    files = {region: directory / f"{region}.sqlite" for region in ("eu", "us")}

    def run(region: str, statement: str, *values: str) -> list[tuple[str, ...]]:
        with sqlite3.connect(files[region]) as connection:
            found = connection.execute(statement, values).fetchall()
        connection.close()
        return found

    for region in files:
        run(region, "create table posts (id text, body text, marker text)")

    def replicate() -> None:
        for row in run("eu", "select id, body, marker from posts"):
            run("us", "insert into posts values (?, ?, ?)", *row)

    return Datastore(
        write=lambda k, v, m: run("eu", "insert into posts values (?, ?, ?)", k, v, m) and None,
        find_in=lambda region: (
            lambda m: bool(run(region, "select 1 from posts where marker = ?", m))
        ),
        replicate=replicate,
        read_in_us=lambda k: next(
            (row[0] for row in run("us", "select body from posts where id = ?", k)), None
        ),
    )


def files(directory: Path) -> Datastore:
    """Two directories of objects. The marker stands beside the object, in its own name."""
    places = {region: directory / f"bucket-{region}" for region in ("eu", "us")}
    for place in places.values():
        place.mkdir()

    def read_in_us(key: str) -> str | None:
        return next((path.read_text() for path in places["us"].glob(f"{key}~*")), None)

    return Datastore(
        write=lambda k, v, m: (places["eu"] / f"{k}~{m}").write_text(v) and None,
        find_in=lambda region: lambda m: any(places[region].glob(f"*~{m}")),
        replicate=lambda: shutil.copytree(places["eu"], places["us"], dirs_exist_ok=True) and None,
        read_in_us=read_in_us,
    )


@pytest.mark.parametrize("make", [sql, files])
async def test_datastores_stay_as_they_are(
    world: World, tmp_path: Path, make: Callable[[Path], Datastore]
) -> None:
    """Claim: datastores are left unmodified, and any kind of them will do.

    All that is asked of one is what every datastore does: store a marker with the data (the
    original's `write(k, v, m)`) and say whether it is there (`find(m)`).
    """
    # semantics: U1, W4
    store, service = make(tmp_path), world.service(make.__name__)
    eu, us = await world.client("eu"), await world.client("us")
    await world.monitor(service, "us", LookupProbe(store.find_in("us"), make.__name__))
    branch = await eu.register_branch(service, regions=["us"])
    store.write("p1", "hello", branch.branch_id)
    request_id = branch.request_id
    wait = await blocked(us, request_id, us.wait_request(request_id, region="us", timeout=60))
    assert store.read_in_us("p1") is None
    store.replicate()
    assert (await wait).outcome is WaitOutcome.BLOCKED
    assert store.read_in_us("p1") == "hello"


async def test_monitors_close_on_behalf_of_the_writers(world: World) -> None:
    """Claim: a writer only registers; monitors close.

    The monitor beside the datastore of a region closes the branch there when the write is visible,
    and not before.
    """
    # semantics: W4, W6
    store, service = await world.store(), world.service()
    eu = await world.client("eu")
    store.hold("us")
    branch = await eu.register_branch(service, regions=["eu", "us"])
    await store.write("p1", b"hello", branch.branch_id)
    for region in ("eu", "us"):
        await world.monitor(service, region, store.make_probe(region))
    await until_described(
        eu, branch.request_id, lambda f: f.branches[0].regions[0].status is Status.CLOSED
    )
    check = await eu.check_request_by_regions(branch.request_id)
    assert check.statuses == {"eu": Status.CLOSED, "us": Status.OPEN}
    store.release("us")
    await until_described(eu, branch.request_id, lambda found: found.status is Status.CLOSED)


async def test_a_monitor_gets_what_was_registered_before_it_came(world: World) -> None:
    """Claim: monitors learn of the branches of their service and region by subscribing.

    Stronger here: the original never delivered a branch that was registered before its subscriber
    existed; here a new subscription begins with everything that is open.
    """
    # semantics: U2.1
    store, service = await world.store(), world.service()
    eu = await world.client("eu")
    branch = await eu.register_branch(service, regions=["eu"])
    await store.write("p1", b"hello", branch.branch_id)
    assert (await eu.check_request(branch.request_id)).status is Status.OPEN
    await world.monitor(service, "eu", store.make_probe("eu"))
    assert not (await eu.wait_request(branch.request_id, timeout=60)).timed_out
