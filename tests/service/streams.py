"""Subscriptions against the model: each stream, event by event, and each group as a whole."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from lives import Call, Life
from model import Branch, Model
from operations import Subscribe
from world import World

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb

OPEN = pb.SUBSCRIPTION_EVENT_KIND_OPEN
CLOSED = pb.SUBSCRIPTION_EVENT_KIND_CLOSED
GROUPS_VERSION = 2
"""Of the commands: from this on the members of a group share, wherever they are served."""
SYNCED = pb.SUBSCRIPTION_EVENT_KIND_SYNCED
ENDS = {"RESOURCE_EXHAUSTED": "subscription_overflow", "UNAVAILABLE": "draining"}
"""How a stream may end by itself."""


class News(NamedTuple):
    """An event that a stream has to carry."""

    kind: int
    name: str
    request: str
    revision: int


def check(world: World) -> None:
    """Judges all streams."""
    groups: dict[tuple[Life, str, str, str], list[Call]] = defaultdict(list)
    for call in world.streams:
        if call.life.alive or len(call.events) > call.seen:
            _check_stream(world, call)
        operation = call.operation
        assert isinstance(operation, Subscribe)
        if call.in_progress:
            key = (call.life, operation.service, operation.region, operation.group)
            groups[key].append(call)
    for (life, service, region, group), members in groups.items():
        if group and world.history[life.revision].version >= GROUPS_VERSION:
            continue  # its share depends on members elsewhere
        for member in members:
            if life.alive and member.gate is None and member.synced is not None:
                _check_coverage(world, world.history[life.revision], service, region, [member])
    _check_groups(world)
    world.streams = [call for call in world.streams if call.in_progress]


def _check_groups(world: World) -> None:
    """U5, U5.1: where all nodes know all members, each open branch has one that was told."""
    model = world.model
    lives = world.lives.values()
    if model.version < GROUPS_VERSION or world.log.holding:
        return
    if any(not life.alive or life.revision != model.revision for life in lives):
        return
    groups: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
    for call in world.streams:
        if call.in_progress and call.operation.group:
            operation = call.operation
            groups[operation.service, operation.region, operation.group].append(call)
    for key, streams in groups.items():
        known = [member for member in model.members.values() if member.key == key]
        are_all = sorted((m.node, m.tags) for m in known) == sorted(
            (s.name, s.operation.tags) for s in streams
        )
        if are_all and all(s.gate is None and s.synced is not None for s in streams):
            world.seen["a group whose members are known to all"] += len(streams) > 1
            _check_coverage(world, model, key[0], key[1], streams)


def _check_stream(world: World, call: Call) -> None:
    operation = call.operation
    assert isinstance(operation, Subscribe)
    if call.status not in ("", "CANCELLED", "GONE"):
        code = call.facts.get("rendezvous-code")
        world.check(
            "a stream ends with a reason", ENDS.get(call.status) == code, f"{call}: {call.facts}"
        )
    events = call.events
    if call.synced is None:
        end = next((i for i, event in enumerate(events) if event.kind == SYNCED), None)
        if end is None:
            return
        _check_listing(world, call, events[:end], events[end].revision)
        call.synced, call.seen = events[end].revision, end + 1
    news = events[call.seen :]
    call.seen = len(events)
    for event in news:
        _check_truth(world, call, event)
        if event.kind == OPEN:
            call.opened[event.branch_id] = None
    complete = call.in_progress and call.gate is None and call.life.alive
    _check_sequence(world, call, news, complete=complete)


def _check_listing(world: World, call: Call, listed: list[Any], revision: int) -> None:
    """U1: everything open at that revision, oldest first; a member of a group gets its share."""
    operation = call.operation
    assert isinstance(operation, Subscribe)
    model = world.history[revision]
    expected = [
        name
        for name in model.watched(operation.service, operation.region, operation.tags)
        if operation.group or world.registered(model, name) > operation.after
    ]
    names = [event.branch_id for event in listed]
    if operation.group:
        fits = names == [name for name in expected if name in names]
    else:
        fits = names == expected
    world.check(
        "a stream begins with what is open",
        fits,
        f"{call} is listed {names}, open are {expected} at {revision}",
        meaningful=bool(expected),
    )
    for event in listed:
        _check_truth(world, call, event)
    call.opened.update(dict.fromkeys(names))


def _check_truth(world: World, call: Call, event: Any) -> None:
    """An event says what was registered or closed at its revision."""
    kind, name = event.kind, event.branch_id
    revision = event.revision
    before, after = world.history[revision - 1], world.history[revision]
    if kind == OPEN:
        owner, branch = after.branches.get(name, ("", None))
        locator = event.locator
        fits = (
            branch is not None
            and owner == event.request_id
            and name not in before.branches
            and (branch.tag, not branch.regions, f"at {name}".encode())
            == (event.tag, getattr(event, "global"), locator)
        )
    else:
        was = [place for other, place in before.open if other == name]
        fits = kind == CLOSED and was != [place for other, place in after.open if other == name]
    world.check("an event tells the truth", fits, f"{call} got {event}")


def _check_sequence(world: World, call: Call, news: list[Any], *, complete: bool) -> None:
    """U1, U1.1, U2: exactly what the log brought about since, in its order."""
    operation = call.operation
    assert isinstance(operation, Subscribe)
    told = [
        News(e.kind, e.branch_id, e.request_id, e.revision)
        for e in news
        if e.kind == CLOSED or not operation.group
    ]
    due = call.due
    while call.followed < call.life.revision:
        call.followed += 1
        if call.followed > (call.synced or 0):
            due.extend(_news(world, operation, call.followed))
    meaningful = bool(due)
    for item in told:
        # An expiry drops requests in an order of its own.
        is_expiry = bool(due) and not isinstance(world.effects[due[0].revision].said, dict | str)
        at_once = [d for d in due if d.revision == due[0].revision] if is_expiry else due[:1]
        world.check(
            "a stream carries what happens, in the order of the log",
            item in at_once,
            f"{call} got {told}, due were {due}",
            meaningful=meaningful,
        )
        due.remove(item)
    world.check(
        "a stream carries everything that happens",
        not complete or not due,
        f"{call} was not told of {due}",
        meaningful=meaningful,
    )


def _news(world: World, operation: Subscribe, revision: int) -> list[News]:
    """What a revision brought about for a subscriber."""
    before, after = world.history[revision - 1], world.history[revision]
    news: list[News] = []
    for name, (request, branch) in after.branches.items():
        is_fresh = name not in before.branches
        if is_fresh and not operation.group and _concerns(operation, branch):
            news.append(News(OPEN, name, request, revision))
    closes = []
    for name, place in before.open:
        request, branch = before.branches[name]
        is_closed = (name, place) not in after.open and place in ("", operation.region)
        if is_closed and _concerns(operation, branch):
            closes.append(News(CLOSED, name, request, revision))
    return news + _in_order(world, operation, revision, closes)


def _in_order(world: World, operation: Subscribe, revision: int, closes: list[News]) -> list[News]:
    """Closes of a batch come in its order, those of an expiry in that of registration."""
    said = world.effects[revision].said
    if not isinstance(said, dict):
        return closes
    closing = [
        name
        for (name, region), outcome in said.items()
        if outcome == "closed" and region in ("", "*", operation.region)
    ]
    return sorted(closes, key=lambda item: closing.index(item.name))


def _concerns(operation: Subscribe, branch: Branch) -> bool:
    return (
        branch.monitored
        and branch.service == operation.service
        and (not operation.tags or branch.tag in operation.tags)
        and (not branch.regions or operation.region in branch.regions)
    )


def _check_coverage(
    world: World, model: Model, service: str, region: str, members: list[Call]
) -> None:
    """U2, U5: every open branch has reached somebody who watches it now."""
    for name in model.watched(service, region, ()):
        tag = model.branches[name][1].tag
        watching = []
        for member in members:
            operation = member.operation
            assert isinstance(operation, Subscribe)
            resumed = not operation.group and world.registered(model, name) <= operation.after
            if not resumed and (not operation.tags or tag in operation.tags):
                watching.append(member)
        if watching:
            world.check(
                "every open branch reaches a subscriber",
                any(name in member.opened for member in watching),
                f"{name} is open for {service} in {region}, and none of "
                f"{list(map(str, watching))} was told",
            )
