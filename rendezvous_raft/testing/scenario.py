"""Scenario transcripts: a history in readable text, with the exact trace of what it does.

A transcript has commands at the left margin and, indented below each, what came of it. `run` reads
the commands, forgets the trace and writes it anew; a test compares the two texts.

    register r1                           a request, which the next lines are about
    use r2                                another one
    open b1 service=post regions=eu,us    a branch; also tag= zone= parent= locator=, and the
                                          words unmonitored, regionless; no regions: everywhere
    open b1 service=a + b2 service=b      a batch
    close b1 us                           or `close b1 all`, or `close b1` for a global branch
    close b1 us + b2 eu                   a batch
    wait w1 region=us                     a wait by name; also services= tag= zone= waiter=
                                          requires=, and the word dependencies; `zone=` is the
                                          root zone, given
    abandon w1                            the node of the wait dies; its lease stays
    why region=us                         what a wait with this scope makes of each branch; also
                                          requires=
    check region=us                       a scope like that of a wait
    tags region=us / regions a b          details of a check
    dependencies a                        or of no service: all that are open
    list post us after=3                  what a new subscriber of a service in a region is told
    join m1 post us g tags=a              a subscriber shares these with the others of group g
    renew m1 m2 / leave m1                its node is there still / it has left
    share post us g                       who watches what
    pulse 1000                            cluster time, in milliseconds
    expire settled=1 open=2               also tombstone= keep= max=
    retry                                 the last command again, under its command id
    show                                  the branches of the request

A blocked wait stays parked, is looked at after each command, and holds a lease when rule S5 needs
one, as a node does it. The invariants of the state are checked after each command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rendezvous_raft.core import commands as c
from rendezvous_raft.core import groups, queries
from rendezvous_raft.core.explanation import verdicts
from rendezvous_raft.core.invariants import History, check_basic, check_delta
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.testing.scenario_words import told_event, told_result
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

MARGIN = "    "
LEASE_TTL_MS = 10_000
FOREVER_MS = 10**12


class ScenarioError(ValueError):
    """A line is not understood, or a command broke an invariant; the message has the line."""


def run(text: str) -> str:
    """The same commands and comments, with the trace that they give now.

    Raises:
        ScenarioError: with the number of the line.
    """
    scenario = Scenario()
    written: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(MARGIN):
            continue
        written.append(line.rstrip())
        if line.strip() and not line.startswith("#"):
            try:
                trace = list(scenario.perform(line))
            except (ScenarioError, KeyError, ValueError) as error:
                raise ScenarioError(f"line {number}, {line!r}: {error}") from error
            written += [f"{MARGIN}{entry}" for entry in trace]
    return "\n".join(written) + "\n"


@dataclass(frozen=True, slots=True)
class Words:
    """A command's arguments: plain words in order, and options by name."""

    plain: tuple[str, ...]
    options: dict[str, str]

    @classmethod
    def of(cls, words: list[str], *, known: str) -> Words:
        """Splits `name=value` from the rest; a word of `known` may be either.

        Raises:
            ScenarioError: an option is not among `known`, and would be ignored.
        """
        options: dict[str, str] = {}
        plain: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            if name not in known.split() and equals:
                raise ScenarioError(f"{name}= is not known here")
            if name in known.split():
                options[name] = value
            else:
                plain.append(word)
        return cls(tuple(plain), options)

    def option(self, name: str) -> str:
        """An option, or nothing."""
        return self.options.get(name, "")

    def listed(self, name: str) -> list[str]:
        """An option with commas."""
        return [word for word in self.option(name).split(",") if word]

    def number(self, name: str, default: int) -> int:
        """An option that is a number."""
        return int(self.options.get(name, default))


@dataclass(frozen=True, slots=True)
class ParkedWait:
    """A wait that is blocked."""

    name: str
    request_id: RequestId
    scope: c.Scope
    required: tuple[BranchId, ...]
    leased: bool


class Scenario:
    """One machine, the waits parked on it, and the request that is spoken of."""

    def __init__(self) -> None:
        self.machine = StateMachine()
        self.request_id = RequestId("")
        self.parked: dict[str, ParkedWait] = {}
        self.last: c.Command | None = None
        self.proposed = 0
        self._verbs: dict[str, Callable[[list[str]], Iterator[str]]] = {
            "register": self._register,
            "use": self._use,
            "open": self._open,
            "close": self._close,
            "wait": self._wait,
            "abandon": self._abandon,
            "why": self._why,
            "check": self._check,
            "tags": self._tags,
            "regions": self._regions,
            "dependencies": self._dependencies,
            "list": self._list,
            "join": self._join,
            "renew": self._renew,
            "leave": self._leave,
            "share": self._share,
            "pulse": self._pulse,
            "expire": self._expire,
            "retry": self._retry,
            "show": self._show,
        }

    def perform(self, line: str) -> Iterator[str]:
        """Does what one line says and tells what came of it."""
        verb, *words = line.split()
        if verb not in self._verbs:
            raise ScenarioError(f"{verb} is not known")
        return self._verbs[verb](words)

    # Commands

    def _command_id(self) -> CommandId:
        self.proposed += 1
        return CommandId(b"c%d" % self.proposed)

    def _apply(self, command: c.Command) -> Iterator[str]:
        """Applies a command, tells of it, and looks at the parked waits again."""
        state = self.machine.state
        before = History(state)
        self.last = command
        applied = self.machine.apply(command)
        broken = check_basic(state) + check_delta(before, state)
        if broken:
            raise ScenarioError("; ".join(broken))
        yield f"{applied.revision}: {told_result(command, applied.result)}"
        for event in applied.events:
            yield f"{MARGIN}{told_event(event)}"
        for wait in list(self.parked.values()):
            yield from self._look_again(wait)

    def _look_again(self, wait: ParkedWait) -> Iterator[str]:
        gone = self._refusal(wait.request_id)
        if wait.name not in self.parked or (not gone and self._blocking(wait)):
            return
        del self.parked[wait.name]
        yield f"{wait.name}: {gone or 'released'}"
        if wait.leased and not gone:
            yield from self._apply(c.EndWait(self._command_id(), LeaseId(wait.name)))

    def _register(self, words: list[str]) -> Iterator[str]:
        (name,) = words
        self.request_id = RequestId(name)
        return self._apply(c.RegisterRequest(self._command_id(), self.request_id, at_ms=0))

    def _use(self, words: list[str]) -> Iterator[str]:
        (name,) = words
        self.request_id = RequestId(name)
        return iter(())

    def _open(self, words: list[str]) -> Iterator[str]:
        branches = tuple(new_branch(part) for part in split_batch(words))
        return self._apply(
            c.RegisterBranches(self._command_id(), self.request_id, branches, at_ms=0)
        )

    def _close(self, words: list[str]) -> Iterator[str]:
        closes = tuple(new_close(part) for part in split_batch(words))
        return self._apply(c.CloseBranches(self._command_id(), closes, at_ms=0))

    def _pulse(self, words: list[str]) -> Iterator[str]:
        (elapsed_ms,) = words
        return self._apply(c.Pulse(self._command_id(), int(elapsed_ms)))

    def _expire(self, words: list[str]) -> Iterator[str]:
        given = Words.of(words, known="settled open tombstone keep max")
        return self._apply(
            c.ExpireRequests(
                self._command_id(),
                settled_ttl_ms=given.number("settled", FOREVER_MS),
                open_ttl_ms=given.number("open", FOREVER_MS),
                tombstone_ttl_ms=given.number("tombstone", FOREVER_MS),
                keep=tuple(RequestId(name) for name in given.listed("keep")),
                requests_max=given.number("max", 1_000),
            )
        )

    def _retry(self, words: list[str]) -> Iterator[str]:
        if self.last is None or words:
            raise ScenarioError("there is nothing to retry")
        return self._apply(self.last)

    # Waits

    def _wait(self, words: list[str]) -> Iterator[str]:
        given = Words.of(words, known=f"{SCOPE_OPTIONS} requires")
        (name,) = given.plain
        if name in self.parked:
            raise ScenarioError(f"{name} is parked already")
        scope = scope_of(given)
        required = tuple(BranchId(branch_id) for branch_id in given.listed("requires"))
        leased = queries.uses_mutual_waits(scope)
        wait = ParkedWait(name, self.request_id, scope, required, leased)
        refusal = self._refusal(self.request_id)
        blocking = "" if refusal else self._blocking(wait)
        if refusal or not blocking:
            yield f"{name}: {refusal or 'nothing is open' + self._unknown(scope)}"
            return
        self.parked[name] = wait
        yield f"{name}: blocked by {blocking}"
        if leased:
            yield from self._apply(
                c.BeginWait(
                    self._command_id(), LeaseId(name), self.request_id, "n1", scope, LEASE_TTL_MS
                )
            )

    def _abandon(self, words: list[str]) -> Iterator[str]:
        (name,) = words
        del self.parked[name]
        return iter(())

    def _refusal(self, request_id: RequestId) -> str:
        """Why nothing can be said about a request (G5), or nothing."""
        if request_id in self.machine.state.tombstones:
            return f"{request_id} has expired"
        return "" if request_id in self.machine.state.requests else f"{request_id} is unknown"

    def _blocking(self, wait: ParkedWait) -> str:
        state = self.machine.state
        request = state.requests[wait.request_id]
        missing = queries.missing_branches(state, wait.request_id, wait.required)
        found = [f"{branch_id} (not registered)" for branch_id in missing]
        found += [b.branch_id for b in queries.open_in_scope(state, request, wait.scope)]
        return ", ".join(found)

    def _unknown(self, scope: c.Scope) -> str:
        known = queries.is_known(self.machine.state.requests[self.request_id], scope)
        return "" if known else " (never used)"

    def _why(self, words: list[str]) -> Iterator[str]:
        given = Words.of(words, known=f"{SCOPE_OPTIONS} requires")
        state = self.machine.state
        request = state.requests[self.request_id]
        required = [BranchId(branch_id) for branch_id in given.listed("requires")]
        for branch_id in queries.missing_branches(state, self.request_id, required):
            yield f"{branch_id} is not registered: holds"
        found = verdicts(state, request, scope_of(given), request.branches)
        for branch, verdict in zip(request.branches, found, strict=True):
            yield f"{branch.branch_id} of {branch.service}: {verdict.value.replace('_', ' ')}"

    # Groups

    def _join(self, words: list[str]) -> Iterator[str]:
        given = Words.of(words, known="tags")
        member_id, service, region, group = given.plain
        tags = tuple(Tag(name) for name in given.listed("tags"))
        return self._apply(
            c.JoinGroup(
                self._command_id(),
                MemberId(member_id),
                Service(service),
                Region(region),
                group,
                tags,
                "n1",
                LEASE_TTL_MS,
            )
        )

    def _renew(self, words: list[str]) -> Iterator[str]:
        members = tuple(MemberId(name) for name in words)
        return self._apply(c.RenewMembers(self._command_id(), members, LEASE_TTL_MS))

    def _leave(self, words: list[str]) -> Iterator[str]:
        members = tuple(MemberId(name) for name in words)
        return self._apply(c.LeaveGroups(self._command_id(), members))

    def _share(self, words: list[str]) -> Iterator[str]:
        service, region, group = words
        state, key = self.machine.state, (Service(service), Region(region), group)
        shares: dict[str, list[str]] = {m.member_id: [] for m in groups.members_of(state, key)}
        for branch in queries.branches_for_subscriber(state, key[0], key[1], 0):
            owner = groups.owner_of(groups.members_of(state, key), branch.branch_id, branch.tag)
            shares.setdefault(owner or "nobody", []).append(branch.branch_id)
        for name, share in shares.items():
            yield f"{name}: {', '.join(share) or 'nothing'}"

    # Questions

    def _check(self, words: list[str]) -> Iterator[str]:
        scope = scope_of(Words.of(words, known=SCOPE_OPTIONS))
        request = self.machine.state.requests[self.request_id]
        yield queries.status(self.machine.state, request, scope).value

    def _tags(self, words: list[str]) -> Iterator[str]:
        scope = scope_of(Words.of(words, known=SCOPE_OPTIONS))
        request = self.machine.state.requests[self.request_id]
        for tag, status in queries.status_by_tag(request, scope).items():
            yield f"{tag}: {status.value}"

    def _regions(self, words: list[str]) -> Iterator[str]:
        services = dict.fromkeys(Service(word) for word in words)
        request = self.machine.state.requests[self.request_id]
        for region, status in queries.status_by_region(request, services).items():
            yield f"{region}: {status.value}"

    def _dependencies(self, words: list[str]) -> Iterator[str]:
        service = Service("".join(words))
        request = self.machine.state.requests[self.request_id]
        direct, indirect = queries.fetch_dependencies(request, service, None)
        yield f"direct {', '.join(direct) or 'none'}; indirect {', '.join(indirect) or 'none'}"

    def _list(self, words: list[str]) -> Iterator[str]:
        given = Words.of(words, known="after")
        service, region = given.plain
        branches = queries.branches_for_subscriber(
            self.machine.state, Service(service), Region(region), given.number("after", 0)
        )
        yield ", ".join(branch.branch_id for branch in branches) or "nothing"

    def _show(self, _words: list[str]) -> Iterator[str]:
        request = self.machine.state.requests[self.request_id]
        yield f"{request.request_id} is {'open' if request.open_branches else 'settled'}"
        for branch in request.branches:
            places: tuple[str, ...] = branch.regions or (branch.kind.value,)
            statuses = [queries.branch_status(branch, slot).value for slot in range(branch.slots)]
            told = ", ".join(f"{a} {b}" for a, b in zip(places, statuses, strict=True))
            yield f"{MARGIN}{branch.branch_id} of {branch.service}: {told}"


SCOPE_OPTIONS = "services region tag zone waiter dependencies"


def split_batch(words: list[str]) -> list[list[str]]:
    """The parts between the words `+`."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "+":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def new_branch(words: list[str]) -> c.NewBranch:
    """One part of `open`."""
    known = "service regions tag zone parent locator unmonitored regionless"
    given = Words.of(words, known=known)
    (branch_id,) = given.plain
    regions = tuple(Region(name) for name in sorted(given.listed("regions")))
    kind = BranchKind.REGIONAL if regions else BranchKind.GLOBAL
    return c.NewBranch(
        BranchId(branch_id),
        Service(given.option("service")),
        Tag(given.option("tag")),
        BranchKind.REGIONLESS if "regionless" in given.options else kind,
        regions,
        Zone(given.option("zone")),
        BranchId(given.option("parent")),
        monitored="unmonitored" not in given.options,
        locator=given.option("locator").encode(),
    )


def new_close(words: list[str]) -> c.Close:
    """One part of `close`."""
    branch_id, *where = words
    region = "".join(where)
    if region == "all":
        return c.Close(BranchId(branch_id), all_regions=True)
    return c.Close(BranchId(branch_id), Region(region))


def scope_of(given: Words) -> c.Scope:
    """The scope that options describe."""
    return c.Scope(
        services=tuple(Service(name) for name in given.listed("services")),
        region=Region(given.option("region")),
        tag=Tag(given.option("tag")),
        zone=Zone(given.option("zone")) if "zone" in given.options else None,
        waiter_service=Service(given.option("waiter")),
        wait_dependencies="dependencies" in given.options,
    )
