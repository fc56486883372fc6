"""The calls that the machine makes: plain values that print as a person would say them.

Each knows the method of the API and its message, so that what is tested begins at the servicers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from google.protobuf.message import Message
from model import Branch, Scope

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2

CONSISTENCIES = {
    "": types_pb2.CONSISTENCY_UNSPECIFIED,
    "session": types_pb2.CONSISTENCY_SESSION,
    "linearizable": types_pb2.CONSISTENCY_LINEARIZABLE,
    "local": types_pb2.CONSISTENCY_LOCAL,
}


@dataclass(frozen=True)
class Freshness:
    """How fresh a read has to be."""

    consistency: str = ""
    revision: int = 0

    @property
    def kind(self) -> str:
        """G3.1: what an unspecified one means."""
        return self.consistency or ("session" if self.revision else "linearizable")

    def fill(self, message: Any) -> Message:
        """Into a request."""
        message.min_revision = self.revision
        message.consistency = CONSISTENCIES[self.consistency]
        return message

    def __str__(self) -> str:
        return f" ({self.kind}{f' from {self.revision}' if self.revision else ''})"


EVERYTHING = Scope()


class Operation:
    """A call of the API."""

    method: ClassVar[str]
    is_write: ClassVar[bool] = False

    def message(self) -> Message:
        """What is sent."""
        raise NotImplementedError


@dataclass(frozen=True)
class RegisterRequest(Operation):
    method = "RegisterRequest"
    is_write = True
    request: str

    def message(self) -> Message:
        return pb.RegisterRequestRequest(request_id=self.request)

    def __str__(self) -> str:
        return f"register {self.request}"


@dataclass(frozen=True)
class Register(Operation):
    """One branch, or a batch."""

    is_write = True
    request: str
    branches: tuple[Branch, ...]
    patience_s: float = 0.0
    batch: bool = False

    @property
    def method(self) -> str:  # type: ignore[override]
        return "RegisterBranches" if self.batch else "RegisterBranch"

    def message(self) -> Message:
        specs = [spec(branch) for branch in self.branches]
        if self.batch:
            message = pb.RegisterBranchesRequest(request_id=self.request, branches=specs)
        else:
            message = pb.RegisterBranchRequest(request_id=self.request, branch=specs[0])
        message.await_registration.FromMilliseconds(round(self.patience_s * 1000))
        return message

    def __str__(self) -> str:
        return f"register {' and '.join(map(described, self.branches))} of {self.request}" + (
            patience(self.patience_s)
        )


@dataclass(frozen=True)
class Close(Operation):
    """One close, or a batch: names with a region, `""` for a global branch, `*` for everything."""

    is_write = True
    closes: tuple[tuple[str, str], ...]
    patience_s: float = 0.0
    batch: bool = False

    @property
    def method(self) -> str:  # type: ignore[override]
        return "CloseBranches" if self.batch else "CloseBranch"

    def message(self) -> Message:
        specs = [
            pb.CloseSpec(branch_id=name, all_regions=True)
            if region == "*"
            else pb.CloseSpec(branch_id=name, region=region)
            for name, region in self.closes
        ]
        if self.batch:
            message = pb.CloseBranchesRequest(closes=specs)
        else:
            message = pb.CloseBranchRequest(close=specs[0])
        message.await_registration.FromMilliseconds(round(self.patience_s * 1000))
        return message

    def __str__(self) -> str:
        places = {"": " everywhere", "*": " in all its regions"}
        closes = [f"{name}{places.get(region, f' in {region}')}" for name, region in self.closes]
        return f"close {' and '.join(closes)}" + patience(self.patience_s)


@dataclass(frozen=True)
class Wait(Operation):
    method = "WaitRequest"
    request: str
    scope: Scope = EVERYTHING
    timeout_s: float = 30.0
    required: tuple[str, ...] = ()
    patience_s: float = 0.0
    freshness: Freshness = Freshness()

    def message(self) -> Message:
        message = pb.WaitRequestRequest(
            request_id=self.request,
            scope=scope_message(self.scope),
            required_branches=self.required,
        )
        message.timeout.FromMilliseconds(round(self.timeout_s * 1000))
        message.await_registration.FromMilliseconds(round(self.patience_s * 1000))
        return self.freshness.fill(message)

    def __str__(self) -> str:
        required = f" with {' and '.join(self.required)}" if self.required else ""
        return (
            f"wait for {self.request}{in_scope(self.scope)}{required}, {self.timeout_s:g} s"
            f"{patience(self.patience_s)}{self.freshness}"
        )


@dataclass(frozen=True)
class Check(Operation):
    method = "CheckRequest"
    request: str
    scope: Scope = EVERYTHING
    freshness: Freshness = Freshness()

    def message(self) -> Message:
        message = pb.CheckRequestRequest(
            request_id=self.request, scope=scope_message(self.scope), detailed=True
        )
        return self.freshness.fill(message)

    def __str__(self) -> str:
        return f"check {self.request}{in_scope(self.scope)}{self.freshness}"


@dataclass(frozen=True)
class Dependencies(Operation):
    method = "FetchDependencies"
    request: str
    service: str = ""
    freshness: Freshness = Freshness()

    def message(self) -> Message:
        message = pb.FetchDependenciesRequest(request_id=self.request, service=self.service)
        return self.freshness.fill(message)

    def __str__(self) -> str:
        return f"what depends on {self.service or 'anything'} in {self.request}?{self.freshness}"


@dataclass(frozen=True)
class Describe(Operation):
    method = "DescribeRequest"
    request: str
    freshness: Freshness = Freshness()

    def message(self) -> Message:
        return self.freshness.fill(pb.DescribeRequestRequest(request_id=self.request))

    def __str__(self) -> str:
        return f"describe {self.request}{self.freshness}"


@dataclass(frozen=True)
class Subscribe(Operation):
    method = "Subscribe"
    service: str
    region: str
    tags: tuple[str, ...] = ()
    group: str = ""
    after: int = 0

    def message(self) -> Message:
        return pb.SubscribeRequest(
            service=self.service,
            region=self.region,
            tags=self.tags,
            group=self.group,
            resume_revision=self.after,
        )

    def __str__(self) -> str:
        tags = f" tagged {' or '.join(self.tags)}" if self.tags else ""
        group = f" as one of group {self.group}" if self.group else ""
        after = f", after {self.after}" if self.after else ""
        return f"subscribe to {self.service} in {self.region}{tags}{group}{after}"


def spec(branch: Branch) -> pb.BranchSpec:
    """As a message."""
    message = pb.BranchSpec(
        branch_id=branch.name,
        service=branch.service,
        regions=branch.regions,
        tag=branch.tag,
        zone=branch.zone,
        parent_branch_id=branch.parent,
        locator=f"at {branch.name}".encode(),
    )
    if not branch.monitored:
        message.monitored = False
    return message


def scope_message(scope: Scope) -> types_pb2.Scope:
    """As a message."""
    message = types_pb2.Scope(
        services=scope.services,
        region=scope.region,
        tag=scope.tag,
        waiter_service=scope.waiter,
        wait_dependencies=scope.dependants,
    )
    if scope.zone is not None:
        message.zone = scope.zone
    return message


def described(branch: Branch) -> str:
    """`b1 (post in eu, us; tag t)`."""
    words = [
        f"{branch.service} {'in ' + ', '.join(branch.regions) if branch.regions else 'global'}"
    ]
    words += [f"tag {branch.tag}"] * bool(branch.tag)
    words += [f"zone {branch.zone}"] * bool(branch.zone)
    words += [f"under {branch.parent}"] * bool(branch.parent)
    words += ["not monitored"] * (not branch.monitored)
    return f"{branch.name} ({'; '.join(words)})"


def in_scope(scope: Scope) -> str:
    """` for post and its dependants in eu, zone 'a'`."""
    words = f" for {' and '.join(scope.services)}" if scope.services else ""
    words += " and what depends on it" if scope.dependants else ""
    words += f" tagged {scope.tag}" if scope.tag else ""
    words += f" in {scope.region}" if scope.region else ""
    words += f" from zone {scope.zone!r}" if scope.zone is not None else ""
    return words + (f" by {scope.waiter}" if scope.waiter else "")


def patience(seconds: float) -> str:
    """`, patient for 2 s`."""
    return f", patient for {seconds:g} s" if seconds else ""
