"""What was committed, told to the model by the *call* that brought it about.

Every command is traced to the call that proposed it, and the model hears what that call says, so
that a call which became the wrong command is found.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lives import LIMITS, Call
from model import Lease, Member, Model
from operations import Close, Register, RegisterRequest, Subscribe, Wait

from rendezvous_raft.core import commands as c
from rendezvous_raft.core import snapshot
from rendezvous_raft.core.results import Applied
from rendezvous_raft.testing.agreed_log import AgreedLog

REMEMBERED = (c.RegisterRequest, c.RegisterBranches, c.CloseBranches, c.Pulse)
"""Whose second copy in the log is answered as the first one (semantics 5.3)."""


class Violation(AssertionError):
    """A property does not hold; each has a class of its own, so that shrinking keeps to it."""


@functools.cache
def _violation_of(prop: str) -> type[Violation]:
    return type(prop, (Violation,), {})


@dataclass(frozen=True)
class Origin:
    """Where a command comes from."""

    name: str
    call: Call | None
    waited_for: tuple[str, ...]
    """Requests that had waiters, as its node had to know when it proposed."""


@dataclass(frozen=True)
class Effect:
    """What a committed command did, by the model."""

    call: Call | None
    said: Any
    changed: bool


class Chronicle:
    """The model at each revision, and what each command did."""

    def __init__(self, log: AgreedLog) -> None:
        self.log = log
        log.committed = self.committed
        self.step = 0
        self.history = [Model()]
        """The model at each revision."""
        self.effects = [Effect(None, None, False)]
        self.digests = [snapshot.digest(log.machine.state)]
        """At each revision; empty within an entry, whose commands are applied at once."""
        self.origins: dict[bytes, Origin] = {}
        self.first: dict[bytes, Any] = {}
        """What was said to the first copy of a command."""
        self.leases: dict[str, Call] = {}
        """The waits behind the leases."""
        self.lease_steps: dict[str, int] = {}
        """The steps in which the leases began."""
        self.fresh: dict[str, list[int]] = {}
        """When each name was registered; more than once if it was forgotten in between."""
        self.counts: Counter[str] = Counter()
        self.meaningful: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        """How calls ended, and what else came about."""

    def check(self, prop: str, holds: bool, what: object = "", *, meaningful: bool = True) -> None:
        """Counts that a property was looked at; raises its `Violation` if it does not hold."""
        self.counts[prop] += 1
        self.meaningful[prop] += meaningful
        if not holds:
            raise _violation_of(prop)(f"{prop}: {what}")

    @property
    def model(self) -> Model:
        """As of everything committed."""
        return self.history[-1]

    def proposed(self, name: str, command: c.Command, call: Call | None) -> None:
        """A node proposes a command."""
        is_expiry = isinstance(command, c.ExpireRequests)
        waited_for = tuple(self.waited_for(name)) if is_expiry else ()
        self.origins[command.command_id] = Origin(name, call, waited_for)

    def waited_for(self, leader: str) -> list[str]:
        """Requests whose waiters a leader has to know of."""
        raise NotImplementedError

    def committed(self, batch: Sequence[c.Command], _answers: Sequence[Applied]) -> None:
        for command in batch:
            model = self.model.next()
            origin = self.origins[command.command_id]
            remembered = isinstance(command, REMEMBERED)
            if remembered and command.command_id in self.first:
                self.seen["a command is in the log twice"] += 1
                said = self.first[command.command_id]
            else:
                said = self._tell(model, command, origin)
                self.first[command.command_id] = said
            changed = model.content() != self.model.content()
            for name in model.branches:
                if name not in self.model.branches:
                    self.fresh.setdefault(name, []).append(model.revision)
            self.history.append(model)
            self.effects.append(Effect(origin.call, said, changed))
        self.digests += [""] * (len(batch) - 1)
        self.digests.append(snapshot.digest(self.log.machine.state))

    def _tell(self, model: Model, command: c.Command, origin: Origin) -> Any:
        """What the call that wrote the command means."""
        operation = origin.call.operation if origin.call is not None else None
        match command, operation:
            case c.RegisterRequest(), RegisterRequest():
                return model.register_request(operation.request)
            case c.RegisterBranches(), Register():
                return model.register(operation.request, operation.branches)
            case c.CloseBranches(), Close():
                return self._tell_closes(model, command, operation)
            case c.BeginWait(), Wait():
                ends_ms = model.time_ms + LIMITS.lease_ttl_ms
                self.leases.setdefault(command.lease_id, origin.call)
                self.lease_steps.setdefault(command.lease_id, self.step)
                lease = Lease(operation.request, operation.scope, origin.name, ends_ms)
                return model.begin_wait(command.lease_id, lease)
            case c.EndWait(), _:
                return model.leases.pop(command.lease_id, None)
            case c.JoinGroup(), Subscribe() | None:
                return self._tell_join(model, command, operation)
            case c.RenewMembers(), _:
                return model.renew_members(command.member_ids, LIMITS.lease_ttl_ms)
            case c.LeaveGroups(), _:
                for member_id in command.member_ids:
                    model.members.pop(member_id, None)
                return None
            case c.ActivateVersion(), None:
                model.version = max(model.version, command.version)
                return None
            case c.Pulse(), None:
                self.check(
                    "a pulse is capped",
                    0 < command.elapsed_ms <= LIMITS.pulse_elapsed_ms_max,
                    command,
                )
                return model.pulse(command.elapsed_ms)
            case c.ExpireRequests(), None:
                return self._tell_expiry(model, command, origin)
        return self.check("a call becomes the command that it says", False, (command, operation))

    def _tell_closes(self, model: Model, command: c.CloseBranches, close: Close) -> Any:
        items = [(one.branch_id, "*" if one.all_regions else one.region) for one in command.closes]
        wanted = [item for item in close.closes if item in items]
        prop = "a call becomes the command that it says"
        self.check(
            prop,
            items == wanted and (bool(close.patience_s) or len(items) == len(close.closes)),
            command,
        )
        said = {}
        for name, region in items:
            said[name, region] = model.close(name, region, everywhere=region == "*")
        return said

    def _tell_join(self, model: Model, join: c.JoinGroup, subscribe: Subscribe | None) -> None:
        key = (join.service, join.region, join.group)
        said = (key, join.tags)
        if subscribe is not None:
            key_said = (subscribe.service, subscribe.region, subscribe.group)
            prop = "a call becomes the command that it says"
            self.check(prop, said == (key_said, subscribe.tags), join)
        ends_ms = model.time_ms + LIMITS.lease_ttl_ms
        model.join_group(join.member_id, Member(key, join.tags, join.node, ends_ms))

    def _tell_expiry(self, model: Model, command: c.ExpireRequests, origin: Origin) -> None:
        before = dict(model.active)
        model.expire(
            LIMITS.settled_ttl_ms, LIMITS.open_ttl_ms, LIMITS.tombstone_ttl_ms, command.keep
        )
        dropped = [request for request in before if request not in model.active]
        self.check(
            "a request with a waiter is not dropped",
            not set(dropped) & set(origin.waited_for),
            (dropped, origin),
            meaningful=bool(origin.waited_for),
        )

    def registered(self, model: Model, name: str) -> int:
        """The revision at which a branch of a model was registered."""
        return max(revision for revision in self.fresh[name] if revision <= model.revision)
