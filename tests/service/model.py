"""What the service means, on one page: plain sets, searched from end to end.

Nothing of the product is imported here. The model is told, in the order of the log, which *call*
took effect (not which command was written), so that it also finds a call that became the wrong
command. Copies are kept per revision, for an answer is judged as of the revision that it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

EVERYWHERE = ""
"""The one place of a global branch; as the region of a scope: any."""


class Branch(NamedTuple):
    """A branch as its caller describes it."""

    name: str
    service: str
    regions: tuple[str, ...] = ()
    tag: str = ""
    zone: str = ""
    parent: str = ""
    monitored: bool = True

    @property
    def places(self) -> tuple[str, ...]:
        """Where it is open when it begins."""
        return self.regions or (EVERYWHERE,)


class Scope(NamedTuple):
    """What a wait or check looks at. A zone of None was not given."""

    services: tuple[str, ...] = ()
    region: str = ""
    tag: str = ""
    zone: str | None = None
    waiter: str = ""
    dependants: bool = False

    @property
    def mutual(self) -> bool:
        """R7: whether the others have to know of a blocked wait with this scope."""
        return (not self.services and self.zone is not None) or bool(self.waiter)


class Lease(NamedTuple):
    """A blocked wait that every node knows of."""

    request: str
    scope: Scope
    node: str
    ends_ms: int


class Member(NamedTuple):
    """A subscription that takes part in a group."""

    key: tuple[str, str, str]
    """Service, region and group."""
    tags: tuple[str, ...]
    node: str
    ends_ms: int


@dataclass
class Model:
    """The state at one revision."""

    revision: int = 0
    time_ms: int = 0
    active: dict[str, int] = field(default_factory=dict)
    """Living requests, with the time of their last activity."""
    branches: dict[str, tuple[str, Branch]] = field(default_factory=dict)
    """With their requests, in the order of registration."""
    open: dict[tuple[str, str], None] = field(default_factory=dict)
    """Branch and place."""
    gone: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    """Expired requests: when, and their branches."""
    leases: dict[str, Lease] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    version: int = 1
    """Of the commands that every node understands; groups need 2."""

    def next(self) -> Model:
        """A copy, one revision later."""
        return Model(
            self.revision + 1,
            self.time_ms,
            dict(self.active),
            dict(self.branches),
            dict(self.open),
            dict(self.gone),
            dict(self.leases),
            dict(self.members),
            self.version,
        )

    def content(self) -> tuple[object, ...]:
        """Everything but revision and time."""
        held = (self.leases, self.members, self.version)
        return self.active, self.branches, self.open, self.gone, held

    # Writes: each says what its caller must be told.

    def register_request(self, request: str) -> str:
        """W1."""
        if request in self.gone:
            return "expired"
        if request in self.active:
            return "existed"
        self.active[request] = self.time_ms
        return "created"

    def register(self, request: str, batch: tuple[Branch, ...]) -> str:
        """W2, W3, G2: all of them or none; what is there stays as it is."""
        if request in self.gone:
            return "expired"
        fresh: dict[str, Branch] = {}
        for branch in batch:
            if branch.name in self.branches:
                if self.branches[branch.name] != (request, branch):
                    return "conflict"
                continue
            if self.was(branch.name) or self.was(branch.parent):
                return "expired"
            if branch.parent and branch.parent not in fresh:
                if branch.parent not in self.branches:
                    return "parent unknown"
                if self.branches[branch.parent][0] != request:
                    return "parent elsewhere"
            fresh[branch.name] = branch
        self.active.setdefault(request, self.time_ms)
        for branch in fresh.values():
            self.branches[branch.name] = (request, branch)
            self.open.update(dict.fromkeys((branch.name, place) for place in branch.places))
            self.active[request] = self.time_ms
        return "registered" if fresh else "existed"

    def close(self, name: str, region: str, *, everywhere: bool) -> str:
        """W4, W6."""
        if name not in self.branches:
            return "expired" if self.was(name) else "unknown"
        request, branch = self.branches[name]
        if not everywhere and region not in branch.places:
            return "no such region"
        meant = [(name, place) for place in branch.places if everywhere or place == region]
        closing = [pair for pair in meant if pair in self.open]
        for pair in closing:
            del self.open[pair]
            self.active[request] = self.time_ms
        return "closed" if closing else "already closed"

    def was(self, name: str) -> bool:
        """Whether an expired request had a branch of this name."""
        return bool(name) and any(name in names for _, names in self.gone.values())

    # What the nodes do by themselves

    def begin_wait(self, lease_id: str, lease: Lease) -> None:
        """R7; a second time it is a renewal."""
        known = self.leases.get(lease_id)
        if known is not None:
            self.leases[lease_id] = known._replace(ends_ms=max(known.ends_ms, lease.ends_ms))
        elif lease.request not in self.gone:
            self.leases[lease_id] = lease

    def join_group(self, member_id: str, member: Member) -> None:
        """U5; a second time it is a renewal."""
        known = self.members.get(member_id, member)
        self.members[member_id] = known._replace(ends_ms=max(known.ends_ms, member.ends_ms))

    def renew_members(self, member_ids: tuple[str, ...], ttl_ms: int) -> None:
        """U5; one that has ended stays ended."""
        for member_id in member_ids:
            if member_id in self.members:
                ends_ms = self.time_ms + ttl_ms
                self.join_group(member_id, self.members[member_id]._replace(ends_ms=ends_ms))

    def pulse(self, elapsed_ms: int) -> None:
        """L1, R7.2, U5.2."""
        self.time_ms += elapsed_ms
        self.members = {k: v for k, v in self.members.items() if v.ends_ms > self.time_ms}
        self.leases = {k: v for k, v in self.leases.items() if v.ends_ms > self.time_ms}

    def expire(self, settled_ms: int, open_ms: int, gone_ms: int, keep: tuple[str, ...]) -> None:
        """L2."""
        for request, active_ms in list(self.active.items()):
            ttl_ms = open_ms if self.is_open(request) else settled_ms
            if self.time_ms - active_ms >= ttl_ms and request not in keep:
                names = tuple(name for name, (of, _) in self.branches.items() if of == request)
                for name in names:
                    del self.branches[name]
                self.open = {pair: None for pair in self.open if pair[0] not in names}
                self.leases = {k: v for k, v in self.leases.items() if v.request != request}
                del self.active[request]
                self.gone[request] = (self.time_ms, names)
        self.gone = {k: v for k, v in self.gone.items() if self.time_ms - v[0] < gone_ms}

    # Questions

    def of(self, request: str) -> list[Branch]:
        """The branches of a request."""
        return [branch for owner, branch in self.branches.values() if owner == request]

    def is_open(self, request: str) -> bool:
        """W6: whether anything of it is open."""
        return any(self.is_open_in(branch, EVERYWHERE) for branch in self.of(request))

    def is_open_in(self, branch: Branch, region: str) -> bool:
        """S3."""
        places = [place for name, place in self.open if name == branch.name]
        return bool(places) if not region else region in places or EVERYWHERE in places

    def dependants(self, request: str, services: tuple[str, ...]) -> list[str]:
        """3.3: who comes after these, directly or not."""
        found: list[str] = []
        pending = list(services)
        while pending:
            ancestor = pending.pop()
            for branch in self.of(request):
                parent = self.branches[branch.parent][1].service if branch.parent else ""
                if parent == ancestor != branch.service and branch.service not in found:
                    found.append(branch.service)
                    pending.append(branch.service)
        return found

    def named(self, request: str, scope: Scope) -> tuple[str, ...]:
        """S1: the services looked at."""
        more = self.dependants(request, scope.services) if scope.dependants else ()
        return (*scope.services, *more)

    def blocking(self, request: str, scope: Scope, *, mutual: bool = True) -> list[str]:
        """S1 to S5: what keeps a wait blocked."""
        named = self.named(request, scope)
        zones, services = self.masked(request, scope) if mutual and not named else ((), ())
        return [
            branch.name
            for branch in self.of(request)
            if (not named or branch.service in named)
            and scope.tag in ("", branch.tag)
            and self.is_open_in(branch, scope.region)
            and (scope.zone is None or branch.zone != scope.zone)
            and branch.zone not in zones
            and branch.service not in services
        ]

    def masked(self, request: str, scope: Scope) -> tuple[list[str], list[str]]:
        """S5, R7.3: zones and services that are blocked themselves, and give way."""
        others = [
            lease.scope
            for lease in self.leases.values()
            if lease.request == request and self.blocking(request, lease.scope, mutual=False)
        ]
        zones = [
            other.zone
            for other in others
            if not other.services and other.zone is not None
            if scope.zone is not None and other.zone > scope.zone
        ]
        services = [
            other.waiter
            for other in others
            if other.waiter and scope.waiter and scope.waiter in self.named(request, other)
        ]
        return zones, services

    def knows(self, request: str, scope: Scope) -> bool:
        """R4: whether the request ever used what the scope names."""
        branches = self.of(request)
        tagged = [b for b in branches if not scope.services or b.service in scope.services]
        return (
            all(any(b.service == service for b in branches) for service in scope.services)
            and (not scope.region or any(scope.region in b.regions for b in branches))
            and (not scope.tag or any(b.tag == scope.tag for b in tagged))
        )

    def status(self, request: str, scope: Scope) -> str:
        """C1."""
        if self.blocking(request, scope, mutual=False):
            return "open"
        return "closed" if self.knows(request, scope) else "unknown"

    def watched(self, service: str, region: str, tags: tuple[str, ...]) -> list[str]:
        """U1: what a subscriber is told first."""
        return [
            branch.name
            for _, branch in self.branches.values()
            if branch.service == service
            and branch.monitored
            and (not tags or branch.tag in tags)
            and self.is_open_in(branch, region)
        ]
