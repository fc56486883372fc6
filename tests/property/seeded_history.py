"""A long history from a seed, and its digest: a program of its own, to be run under hash seeds.

python seeded_history.py SEED LENGTH
"""

from __future__ import annotations

import hashlib
import random
import sys

from rendezvous_raft.core.commands import (
    ActivateVersion,
    Barrier,
    BeginWait,
    Close,
    CloseBranches,
    Command,
    EndWait,
    ExpireRequests,
    JoinGroup,
    LeaveGroups,
    NewBranch,
    Pulse,
    RegisterBranches,
    RegisterRequest,
    RenewMembers,
    Scope,
)
from rendezvous_raft.core.groups import members_of, owner_of
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.queries import branches_for_subscriber, fetch_dependencies, open_in_scope
from rendezvous_raft.core.snapshot import digest
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    CommandId,
    LeaseId,
    MemberId,
    Region,
    RequestId,
    Service,
    Tag,
    Zone,
)

SERVICES = [Service(f"service-{letter}") for letter in "abcdef"]
REGIONS = [Region(name) for name in ("ap-south-1", "eu-west-1", "sa-east-1", "us-east-1")]
ZONES = [Zone(name) for name in ("", "1", "1/2", "2")]
TAGS = [Tag(name) for name in ("", "read", "write")]
KINDS = {
    "request": 2,
    "branches": 40,
    "close": 40,
    "begin": 8,
    "end": 4,
    "pulse": 4,
    "expire": 1,
    "version": 1,
    "barrier": 1,
    "member": 8,
}
"""How often each kind of command is drawn."""
REQUESTS = 12
BRANCHES_PER_REQUEST = 10


def branch_of(chance: random.Random, request: int, number: int) -> NewBranch:
    """A branch; without luck, its id is taken already or its parent unknown."""
    kind = chance.choice([BranchKind.REGIONAL, BranchKind.REGIONAL, *BranchKind])
    regions = sorted(chance.sample(REGIONS, chance.randint(1, len(REGIONS))))
    parent = (
        f"b-{request}-{chance.randrange(BRANCHES_PER_REQUEST)}" if chance.random() < 0.5 else ""
    )
    if chance.random() < 0.05:
        parent = f"b-{chance.randrange(REQUESTS)}-0"
    return NewBranch(
        BranchId(f"b-{request}-{number}"),
        chance.choice(SERVICES),
        chance.choice(TAGS),
        kind,
        tuple(regions) if kind is BranchKind.REGIONAL else (),
        chance.choice(ZONES),
        BranchId(parent),
        monitored=chance.random() < 0.9,
    )


def scope_of(chance: random.Random) -> Scope:
    """Any scope."""
    return Scope(
        tuple(chance.sample(SERVICES, chance.randint(0, 2))),
        chance.choice([Region(""), *REGIONS]),
        chance.choice(TAGS),
        chance.choice([None, *ZONES]),
        chance.choice([Service(""), *SERVICES]),
        wait_dependencies=chance.random() < 0.5,
    )


def command_of(chance: random.Random, command_id: CommandId) -> Command:
    """Any command, the common ones more often."""
    request = chance.randrange(REQUESTS)
    request_id = RequestId(f"r-{request}")
    at_ms = chance.randrange(10**12)
    lease_id = LeaseId(f"w-{chance.randrange(20)}")
    match chance.choices([*KINDS], [*KINDS.values()]):
        case ["request"]:
            return RegisterRequest(command_id, request_id, at_ms)
        case ["branches"]:
            numbers = chance.choices(range(BRANCHES_PER_REQUEST), k=chance.randint(1, 3))
            branches = tuple(branch_of(chance, request, number) for number in numbers)
            return RegisterBranches(command_id, request_id, branches, at_ms)
        case ["close"]:
            closes = tuple(
                Close(
                    BranchId(f"b-{request}-{chance.randrange(BRANCHES_PER_REQUEST)}"),
                    chance.choice([Region(""), *REGIONS]),
                    all_regions=chance.random() < 0.1,
                )
                for _ in range(chance.randint(1, 5))
            )
            return CloseBranches(command_id, closes, at_ms)
        case ["begin"]:
            return BeginWait(command_id, lease_id, request_id, "n1", scope_of(chance), 200)
        case ["end"]:
            return EndWait(command_id, lease_id)
        case ["pulse"]:
            return Pulse(command_id, chance.randrange(100))
        case ["expire"]:
            keep = (RequestId(f"r-{chance.randrange(REQUESTS)}"),)
            return ExpireRequests(command_id, 100, 200, 300, keep, chance.randint(1, 4))
        case ["member"]:
            return membership_of(chance, command_id)
        case ["version"]:
            return ActivateVersion(command_id, chance.randrange(4))
    return Barrier(command_id)


def membership_of(chance: random.Random, command_id: CommandId) -> Command:
    """Somebody joins a group, or some are renewed, or leave."""
    names = [MemberId(f"m-{chance.randrange(20)}") for _ in range(3)]
    if chance.random() < 0.2:
        return LeaveGroups(command_id, tuple(names))
    if chance.random() < 0.2:
        return RenewMembers(command_id, tuple(names), 300)
    service, region, tags = chance.choice(SERVICES), chance.choice(REGIONS), chance.sample(TAGS, 2)
    some = tuple(tags) if chance.random() < 0.2 else ()
    return JoinGroup(command_id, names[0], service, region, chance.choice("gh"), some, "n1", 300)


def history_of(seed: int, length: int) -> list[Command]:
    """The history that belongs to a seed; about one command of twenty is a retry."""
    chance = random.Random(seed)
    history: list[Command] = []
    for number in range(length):
        if history and chance.random() < 0.05:
            history.append(chance.choice(history[-50:]))
        else:
            history.append(command_of(chance, CommandId(b"c%d" % number)))
    return history


def fingerprint(seed: int, length: int) -> str:
    """Digest of the state, and of every answer and some questions on the way."""
    machine = StateMachine()
    said = hashlib.sha256()
    for command in history_of(seed, length):
        said.update(repr(machine.apply(command)).encode())
    chance = random.Random(seed)
    for request in machine.state.requests.values():
        for _ in range(20):
            found = open_in_scope(machine.state, request, scope_of(chance))
            said.update(repr([branch.branch_id for branch in found]).encode())
            answer = fetch_dependencies(request, chance.choice(SERVICES), chance.choice(ZONES))
            said.update(repr(answer).encode())
    for service in SERVICES:
        for region in REGIONS:
            listed = branches_for_subscriber(machine.state, service, region, 0)
            said.update(repr([branch.branch_id for branch in listed]).encode())
            for group in "gh":
                members = members_of(machine.state, (service, region, group))
                owners = [owner_of(members, branch.branch_id, branch.tag) for branch in listed]
                said.update(repr(owners).encode())
    return f"{machine.revision} {digest(machine.state)} {said.hexdigest()}"


if __name__ == "__main__":
    sys.stdout.write(fingerprint(int(sys.argv[1]), int(sys.argv[2])))
