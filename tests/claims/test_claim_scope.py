"""Claims on a request's progress: registered from everywhere, asked for, waited for in parts.

"It exposes an API for services to register new information at any point, which can be later queried
to retrieve the set of dependencies and status that define the progress of the request or to enforce
a consistent view over former actions" (the original's own description).
"""

from __future__ import annotations

import asyncio

import pytest
from claims_world import World, blocked

from rendezvous_raft.types import Status, WaitOutcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def test_any_service_registers_in_any_region_at_any_point(world: World) -> None:
    """Claim: services register new information at any point, wherever they run.

    Three services in three regions add to one request, the last one after all that was known had
    been closed; each region's node tells of all of them.
    """
    # semantics: W2, W6.1
    clients = [await world.client(region) for region in ("eu", "us", "ap")]
    request_id = f"r-{world.name}"
    for number, client in enumerate(clients):
        branch = await client.register_branch(
            world.service(f"s{number}"), regions=["eu", "us", "ap"], request_id=request_id
        )
        for other in clients:
            assert (await other.check_request(request_id, region="")).status is Status.OPEN
        await clients[number - 1].close_branch(branch.branch_id, all_regions=True)
        for other in clients:
            assert (await other.check_request(request_id, region="")).status is Status.CLOSED
    found = await clients[0].describe_request(request_id)
    assert [b.service for b in found.branches] == [world.service(f"s{n}") for n in range(3)]


@pytest.mark.parametrize(
    "narrow",
    [{"service": "mine"}, {"service": "mine", "tag": "write"}, {"region": "us"}],
    ids=["service", "tag", "region"],
)
async def test_a_reader_waits_for_what_it_depends_on_and_for_nothing_else(
    world: World, narrow: dict[str, str]
) -> None:
    """Claim: waits are as fine as a service, a tag, a region.

    What the reader does not depend on stays open all the time: it holds a wait for everything, and
    not that of this reader.
    """
    # semantics: S1, S2, S3
    us = await world.client("us")
    mine = await us.register_branch("mine", regions=["us", "eu"], tag="write")
    request_id = mine.request_id
    other = "other" if narrow == {"service": "mine"} else "mine"
    regions = ["eu"] if "region" in narrow else ["us", "eu"]
    await us.register_branch(other, regions=regions, tag="index", request_id=request_id)

    everything = await blocked(us, request_id, us.wait_request(request_id, region="", timeout=60))
    waiting = us.wait_request(request_id, **{"region": "", **narrow}, timeout=60)
    wait = await blocked(us, request_id, waiting)
    await us.close_branch(mine.branch_id, "us")
    if "region" not in narrow:
        await us.close_branch(mine.branch_id, "eu")
    assert (await wait).outcome is WaitOutcome.BLOCKED
    assert not everything.done()
    everything.cancel()
    await asyncio.gather(everything, return_exceptions=True)


async def test_the_status_of_a_request_is_known_without_waiting(world: World) -> None:
    """Claim: the status that defines the progress of a request can be queried.

    As a whole, by tag, and by region.
    """
    # semantics: C1, C1.1, C2
    eu = await world.client("eu")
    branch = await eu.register_branch("posts", regions=["eu", "us"], tag="write")
    request_id = branch.request_id
    await eu.close_branch(branch.branch_id, "eu")
    assert (await eu.check_request(request_id)).status is Status.CLOSED  # in eu, where it asks
    whole = await eu.check_request(request_id, region="", detailed=True)
    assert whole.status is Status.OPEN
    assert whole.tagged == {"write": Status.OPEN}
    assert whole.regions == {"eu": Status.CLOSED, "us": Status.OPEN}
    # Not knowing is not taken for consistent, as it could be in the original.
    assert (await eu.check_request(request_id, service="never")).status is Status.UNKNOWN


async def test_the_dependencies_of_a_service_are_known_and_can_be_waited_for(world: World) -> None:
    """Claim: the set of dependencies of a service can be retrieved, and waited for.

    Which services it called, directly and through others, and which are not done. They call each
    other in a circle, which ends neither the question nor the wait.
    """
    # semantics: 3.1, 3.3, S1.1, D1
    eu = await world.client("eu")
    web = await eu.register_branch("web", regions=["eu"])
    request_id = web.request_id

    async def call(service: str, parent: str) -> str:
        branch = await eu.register_branch(
            service, regions=["eu"], parent_branch_id=parent, request_id=request_id
        )
        return branch.branch_id

    cart = await call("cart", web.branch_id)
    stock = await call("stock", cart)
    again = await call("web", stock)
    asked = await eu.fetch_dependencies(request_id, service="web")
    assert (asked.direct, asked.indirect) == (("cart",), ("stock",))

    waiting = eu.wait_request(request_id, service="web", wait_dependencies=True, timeout=60)
    wait = await blocked(eu, request_id, waiting)
    for branch_id in (web.branch_id, again, cart):
        await eu.close_branch(branch_id, "eu")
    assert (await eu.wait_request(request_id, service="web")).outcome is WaitOutcome.IMMEDIATE
    assert not wait.done()
    await eu.close_branch(stock, "eu")
    assert (await wait).outcome is WaitOutcome.BLOCKED
    assert (await eu.fetch_dependencies(request_id, service="web")).indirect == ()


async def test_remote_calls_are_captured_as_well_as_writes(world: World) -> None:
    """Claim: all remote calls of services and operations on databases are captured.

    A call that writes nothing is a branch that no monitor is told of; who made it closes it.
    """
    # semantics: W2.7, W4.5
    eu, us = await world.client("eu"), await world.client("us")
    call = await eu.register_branch("payments", monitored=False)
    request_id = call.request_id
    wait = await blocked(us, request_id, us.wait_request(request_id, timeout=60))
    await eu.close_branch(call.branch_id)
    assert (await wait).outcome is WaitOutcome.BLOCKED


async def test_whoever_takes_no_part_is_neither_waited_for_nor_made_to_wait(world: World) -> None:
    """Claim: incrementally deployable, without knowledge of all operations.

    Of Antipode, and of this kind of system: a service that registers nothing holds nobody, and one
    that does not wait is not held.
    """
    # semantics: R4, S1
    us = await world.client("us")
    branch = await us.register_branch("takes-part", regions=["us"])
    request_id = branch.request_id
    result = await us.wait_request(request_id, service="takes-no-part", timeout=60)
    assert (result.outcome, result.known) == (WaitOutcome.IMMEDIATE, False)
    # Another request of the same service is another matter altogether.
    other = await us.register_request()
    assert (await us.wait_request(other.request_id)).outcome is WaitOutcome.IMMEDIATE
