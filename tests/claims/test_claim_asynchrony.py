"""Claims on asynchronous parts of a request, which the original tracks by zones ("ACSL")."""

from __future__ import annotations

import asyncio

import pytest
from claims_world import World, blocked, until_described

from rendezvous_raft.client import results
from rendezvous_raft.types import Verdict, WaitOutcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def test_an_asynchronous_call_waits_for_the_rest_and_not_for_itself(world: World) -> None:
    """Claim: asynchronous calls are tracked by zones.

    What a part registers in its own zone, and cannot be done before it goes on, does not hold its
    own waits; it holds everybody else's.
    """
    # semantics: S4, S4.1
    eu = await world.client("eu")
    main = await eu.register_branch("web", regions=["eu"])
    request_id = main.request_id
    own = await eu.register_branch("mailer", regions=["eu"], zone="/mail", request_id=request_id)
    part = await blocked(eu, request_id, eu.wait_request(request_id, zone="/mail", timeout=60))
    other = await blocked(eu, request_id, eu.wait_request(request_id, timeout=60))
    await eu.close_branch(main.branch_id, "eu")
    assert (await part).outcome is WaitOutcome.BLOCKED
    assert not other.done()
    await eu.close_branch(own.branch_id, "eu")
    assert (await other).outcome is WaitOutcome.BLOCKED


async def test_zones_nest(world: World) -> None:
    """Claim: an asynchronous call may make others.

    Each has a zone of its own, that extends its parent's, and its parent waits for it as for any
    other.
    """
    # semantics: S4
    eu = await world.client("eu")
    outer = await eu.register_branch("outer", regions=["eu"], zone="/0")
    request_id = outer.request_id
    inner = await eu.register_branch("inner", regions=["eu"], zone="/0/0", request_id=request_id)
    scope = results.ScopeDescription(region="eu", zone="/0")
    found = await eu.describe_request(request_id, scope=scope)
    verdicts = {branch.branch_id: branch.verdict for branch in found.branches}
    assert verdicts == {outer.branch_id: Verdict.OWN_ZONE, inner.branch_id: Verdict.HOLDS}


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")], ids="-".join)
async def test_parts_that_wait_for_each_other_all_come_to_their_end(
    world: World, order: tuple[str, ...]
) -> None:
    """Claim: mutual waits do not deadlock.

    Three parts of a request, in three regions, each wait for all the rest before they finish.

    Stronger here: the original kept its log of waits in the memory of one server, where entries
    outlived their servers and their clients; here each node knows of the others' waits by leases
    that end with them.
    """
    # semantics: S5, R7, R7.1
    regions = dict(zip("abc", ("eu", "us", "ap"), strict=True))
    request_id = f"r-{world.name}-{'-'.join(order)}"
    first = await world.client("eu")
    branches = {}
    for zone in order:
        made = await first.register_branch(
            f"service-{zone}", regions=["eu"], zone=zone, request_id=request_id
        )
        branches[zone] = made.branch_id
    finished: list[str] = []

    async def part(zone: str) -> None:
        client = await world.client(regions[zone])
        result = await client.wait_request(request_id, region="", zone=zone, timeout=60)
        assert not result.timed_out
        finished.append(zone)
        await client.close_branch(branches[zone], "eu")

    async with asyncio.timeout(60), asyncio.TaskGroup() as parts:
        for zone in order:
            parts.create_task(part(zone))
    assert finished == ["a", "b", "c"], "the lesser zone goes first, in whatever order they park"
    for region in regions.values():
        await until_described(
            await world.client(region), request_id, lambda found: not found.waiters
        )


async def test_services_that_wait_for_each_other_do_not_hold_each_other(world: World) -> None:
    """Claim: a service that waits for all leaves out those who are blocked waiting for it.

    So the original by its log of waiting services; here on whatever node they wait.
    """
    # semantics: S5.1, R7
    eu, us = await world.client("eu"), await world.client("us")
    cart = await eu.register_branch("cart", regions=["eu"], zone="cart")
    request_id = cart.request_id
    stock = await eu.register_branch("stock", regions=["eu"], request_id=request_id)
    waiting = us.wait_request(
        request_id, service="cart", region="", waiter_service="stock", timeout=60
    )
    for_cart = await blocked(us, request_id, waiting)
    found = await until_described(eu, request_id, lambda found: bool(found.waiters))
    assert [(waiter.node, waiter.leased) for waiter in found.waiters] == [("n2", True)]
    scope = results.ScopeDescription(zone="cart", waiter_service="cart")
    found = await eu.describe_request(request_id, scope=scope)
    verdicts = {branch.branch_id: branch.verdict for branch in found.branches}
    assert verdicts == {cart.branch_id: Verdict.OWN_ZONE, stock.branch_id: Verdict.SERVICE_WAITS}
    # cart waits for everybody else, and so for nobody: stock waits for cart, and cart goes on.
    whole = await eu.wait_request(
        request_id, region="", zone="cart", waiter_service="cart", timeout=20
    )
    assert whole.outcome is WaitOutcome.IMMEDIATE
    assert not for_cart.done()
    await eu.close_branch(cart.branch_id, "eu")
    assert (await for_cart).outcome is WaitOutcome.BLOCKED
