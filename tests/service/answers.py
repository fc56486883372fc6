"""Whether an answer, or an error, is what the model says at the revision that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lives import Call
from model import Model
from operations import Check, Close, Dependencies, Describe, Register, RegisterRequest, Wait
from world import World

from rendezvous_raft._proto.rendezvous.v1 import types_pb2

STATUS = {
    "open": types_pb2.STATUS_OPEN,
    "closed": types_pb2.STATUS_CLOSED,
    "unknown": types_pb2.STATUS_UNKNOWN,
}
REFUSED = {
    "conflict": ("ALREADY_EXISTS", "conflict"),
    "expired": ("FAILED_PRECONDITION", "expired"),
    "parent unknown": ("NOT_FOUND", "branch_not_found"),
    "parent elsewhere": ("INVALID_ARGUMENT", "invalid"),
    "unknown": ("NOT_FOUND", "branch_not_found"),
    "no such region": ("INVALID_ARGUMENT", "invalid"),
}
"""What the model says of a write that changes nothing, as a status and a code."""
UNSERVED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "RESOURCE_EXHAUSTED"}
"""How a call ends that the state has nothing to do with."""
SHOWN_MAX = 10


def judge(world: World, call: Call) -> None:
    """Judges a call that has ended."""
    if call.status in ("CANCELLED", "GONE"):
        return
    world.check("an error is never a fault of the service", call.status != "INTERNAL", call)
    if call.status != "OK":
        _judge_error(world, call)
    elif call.operation.is_write:
        _judge_write(world, call)
    else:
        _judge_read(world, call)


# Errors


def _judge_error(world: World, call: Call) -> None:
    definite = call.facts["rendezvous-definite"] == "true"
    effects = [effect for effect in world.effects if effect.call is call]
    world.check(
        "what definitely did not happen has no effect",
        not (definite and call.operation.is_write and any(effect.changed for effect in effects)),
        f"{call} ended with {call.status} {call.facts}",
        meaningful=call.operation.is_write,
    )
    if not call.operation.is_write:
        world.check("an error of a read is definite", definite, f"{call}: {call.facts}")
    if call.status in UNSERVED:
        return
    revision = int(call.facts["rendezvous-revision"])
    found = (call.status, call.facts["rendezvous-code"])
    if call.operation.is_write:
        effect = world.effects[revision]
        said = effect.said
        if isinstance(said, dict):
            (said,) = said.values()
        world.check(
            "a refusal says why",
            effect.call is call and REFUSED.get(str(said)) == found,
            f"{call} was refused with {found} at {revision}; the model says {said}",
        )
        return
    _check_freshness(world, call, revision)
    model, request = world.history[revision], call.operation.request
    if isinstance(call.operation, Dependencies) and request in model.active:
        expected = ("NOT_FOUND", "service_not_found")
        uses = any(b.service == call.operation.service for b in model.of(request))
        world.check("what is not known is not found", not uses and found == expected, call)
        return
    expected = ("NOT_FOUND", "request_not_found")
    if request in model.gone:
        expected = ("FAILED_PRECONDITION", "expired")
    world.check(
        "what is not known is not found",
        request not in model.active and found == expected,
        f"{call} was told {found} at {revision}",
    )


# Writes


def _judge_write(world: World, call: Call) -> None:
    operation, answer = call.operation, call.answer
    world.check(
        "an acknowledged write is applied where it is acknowledged",
        call.begun_revision < answer.revision <= call.life.revision or not call.life.alive,
        f"{call} at {answer.revision}, its node is at {call.life.revision}",
    )
    effect = world.effects[answer.revision] if answer.revision < len(world.effects) else None
    prop = "an acknowledged write is in the log"
    world.check(prop, effect is not None and effect.call is call, f"{call}: {answer}")
    said = effect.said if effect is not None else None
    prop = "a write is answered as the model says"
    match operation:
        case RegisterRequest():
            expected = {"created": True, "existed": False}
            world.check(prop, expected.get(said) == answer.created, f"{call}: {answer}, {said}")
            world.check(prop, answer.request_id == operation.request, call)
        case Register():
            expected = {"registered": False, "existed": True}
            told = expected.get(said) == answer.already_existed
            world.check(prop, told, f"{call}: {answer}, {said}")
            names = tuple(answer.branch_ids) if operation.batch else (answer.branch_id,)
            world.check(prop, names == tuple(b.name for b in operation.branches), call)
        case Close():
            _judge_close(world, call, said)


def _judge_close(world: World, call: Call, said: Any) -> None:
    operation, answer = call.operation, call.answer
    assert isinstance(operation, Close)
    prop = "a write is answered as the model says"
    if not operation.batch:
        (outcome,) = said.values()
        told = (answer.closed, answer.already_closed)
        expected = (outcome == "closed", outcome == "already closed")
        world.check(prop, any(told) and told == expected, f"{call}: {answer}, {said}")
        return
    outcomes: dict[tuple[str, str], str] = {}
    for effect in world.effects:
        if effect.call is call:
            outcomes.update(effect.said)
    for item, result in zip(operation.closes, answer.results, strict=True):
        outcome = outcomes[item]
        told = (result.closed, result.already_closed, result.failure.code)
        code = REFUSED[outcome][1] if outcome in REFUSED else ""
        expected = (outcome == "closed", outcome == "already closed", code)
        world.check(prop, told == expected, f"{call}: {item} is {told}, not {expected}")


# Reads


def _check_freshness(world: World, call: Call, revision: int) -> None:
    """G3, G4: nothing older than was asked for."""
    freshness = call.operation.freshness
    kind = freshness.kind
    least = freshness.revision if kind != "local" else 0
    if kind == "linearizable":
        least = max(least, call.floor)
    world.check(
        "no answer is older than was asked for",
        revision >= max(least, call.begun_revision) and revision < len(world.history),
        f"{call} was answered as of {revision}, asked for {least}",
        meaningful=least > call.begun_revision,
    )


def _judge_read(world: World, call: Call) -> None:
    operation, answer = call.operation, call.answer
    revision = answer.revision
    _check_freshness(world, call, revision)
    model = world.history[revision]
    request: str = operation.request
    world.check(
        "only what is known is answered",
        request in model.active or (_waits_for_more(call) and request not in model.gone),
        f"{call} was answered {answer} although it is not there at {revision}",
    )
    match operation:
        case Wait():
            _judge_wait(world, call, model)
        case Check():
            _judge_check(world, call, model)
        case Dependencies():
            _judge_dependencies(world, call, model)
        case Describe():
            _judge_description(world, call, model)


def covered(world: World, call: Call) -> Callable[[str, str], bool]:
    """R6: which closes this node had received when the call was last looked at."""
    received = [
        (name, region)
        for other in world.calls
        if isinstance(other.operation, Close)
        and other.life is call.life
        and (other.in_progress or other.ended_step >= call.ended_step)
        for name, region in other.operation.closes
        if region not in ("", "*")
    ]
    return lambda name, region: (name, region) in received


def _waits_for_more(call: Call) -> bool:
    """Whether it gave up on what was to be registered first: the request may be one to come."""
    wait = call.operation
    if not isinstance(wait, Wait) or not call.answer.timed_out:
        return False
    return bool(wait.required) or wait.patience_s >= wait.timeout_s


def _judge_wait(world: World, call: Call, model: Model) -> None:
    operation, answer = call.operation, call.answer
    assert isinstance(operation, Wait)
    request, scope = operation.request, operation.scope
    blocking = model.blocking(request, scope)
    missing = [
        name
        for name in operation.required
        if name not in model.branches or model.branches[name][0] != request
    ]
    world.check(
        "a wait says whether the scope was ever used",
        answer.known == (request in model.active and model.knows(request, scope)),
        f"{call}: {answer}",
    )
    flags = (
        answer.prevented_inconsistency == (answer.outcome == types_pb2.WAIT_OUTCOME_BLOCKED),
        answer.timed_out == (answer.outcome == types_pb2.WAIT_OUTCOME_TIMED_OUT),
    )
    world.check("the flags of a wait are its outcome", all(flags), f"{call}: {answer}")
    if answer.timed_out:
        shown = [branch.branch_id for branch in answer.open_branches]
        expected = [*missing, *blocking][:SHOWN_MAX]
        world.check(
            "a wait that timed out says what is open",
            shown == expected and (bool(shown) or bool(operation.patience_s)),
            f"{call} shows {shown}, open are {expected}",
        )
        world.check(
            "a wait times out no earlier than its time-out",
            call.ended_s >= call.begun_s + operation.timeout_s - 1e-6,
            call,
        )
        return
    is_received = covered(world, call)
    early = [
        name
        for name in blocking
        if is_received(name, scope.region) and scope.region in model.branches[name][1].regions
    ]
    world.check(
        "a wait that was released was right",
        not missing and set(blocking) <= set(early),
        f"{call} was released at {model.revision} although {[*missing, *blocking]} are open",
        meaningful=bool(model.of(request)),
    )
    if early:
        world.seen["a wait is released before the commit"] += 1
    if answer.prevented_inconsistency and not operation.patience_s:
        was_blocked = any(
            model.blocking(request, scope)
            or any(name not in model.branches for name in operation.required)
            for model in world.history[call.begun_revision : model.revision + 1]
        )
        world.check("what was prevented was possible", was_blocked, f"{call}: {answer}")


def _judge_check(world: World, call: Call, model: Model) -> None:
    operation, answer = call.operation, call.answer
    assert isinstance(operation, Check)
    request, scope = operation.request, operation.scope
    prop = "a check is answered as the model says"
    expected = STATUS[model.status(request, scope)]
    world.check(prop, answer.status == expected, f"{call}: {answer}")
    named = model.named(request, scope)
    looked_at = [b for b in model.of(request) if not named or b.service in named]
    tags = {
        tag: STATUS[
            "open"
            if any(b.tag == tag and model.is_open_in(b, scope.region) for b in looked_at)
            else "closed"
        ]
        for tag in {b.tag for b in looked_at if b.tag}
    }
    regions = {
        region: STATUS["open" if any(model.is_open_in(b, region) for b in looked_at) else "closed"]
        for region in {region for b in looked_at for region in b.regions}
    }
    world.check(prop, dict(answer.tagged) == tags, f"{call}: {answer}, {tags}")
    world.check(prop, dict(answer.regions) == regions, f"{call}: {answer}, {regions}")


def _judge_dependencies(world: World, call: Call, model: Model) -> None:
    operation, answer = call.operation, call.answer
    assert isinstance(operation, Dependencies)
    request, service = operation.request, operation.service
    still_open = {b.service for b in model.of(request) if model.is_open_in(b, "")}
    expected = still_open
    if service:
        expected = (still_open & set(model.dependants(request, (service,)))) - {service}
    told = [*answer.direct, *answer.indirect]
    world.check(
        "dependencies are as the model says",
        set(told) == expected and len(told) == len(expected),
        f"{call}: {answer}, not {expected}",
    )


def _judge_description(world: World, call: Call, model: Model) -> None:
    """Everything that was ever said of a request, and a region never opens again."""
    operation, answer = call.operation, call.answer
    assert isinstance(operation, Describe)
    shown = [
        (
            b.branch_id,
            b.service,
            b.tag,
            b.zone,
            b.parent_branch_id,
            b.monitored,
            b.locator,
            sorted((r.region, r.status) for r in b.regions),
        )
        for b in answer.branches
    ]
    expected = [
        (
            b.name,
            b.service,
            b.tag,
            b.zone,
            b.parent,
            b.monitored,
            f"at {b.name}".encode(),
            sorted(
                (p, STATUS["open" if (b.name, p) in model.open else "closed"]) for p in b.places
            ),
        )
        for b in model.of(operation.request)
    ]
    prop = "a description is what was registered and closed"
    world.check(prop, shown == expected, f"{call}: {shown}, not {expected}")
    status = STATUS["open" if model.is_open(operation.request) else "closed"]
    world.check(prop, answer.status == status, f"{call}: {answer}")
