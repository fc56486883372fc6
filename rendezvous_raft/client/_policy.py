"""Which endpoint to try next, when, and when to give up: a generator that never does I/O.

Theory of operation. A driver (one per gRPC stack) asks `Retries.attempts()` for a generator, takes
an `Attempt` from it, waits `pause_s`, calls the endpoint, and sends the `Outcome` back, until the
generator returns (the call succeeded) or raises (the error for the caller). Rules:

1. The ids of a call are chosen before its first attempt, so every attempt has the same effect.
2. An error that is not retryable ends the call.
3. A fail-over to an endpoint not tried in this round is immediate. Once every endpoint was tried,
   or when the cluster itself needs time, the next round begins after a pause: exponential, capped,
   with jitter.
4. A leader hint is followed when it names a configured endpoint not tried in this round; not by
   reads, which any node can serve, and not away from a node that sheds load.
5. A retry after a definite error costs a token of the client's budget; without one it ends the
   call. An indefinite error costs none: not knowing is worse than trying, and pauses bound it.
6. Once an attempt of a write ended indefinitely, the call can only succeed or end indefinitely.

Chance, time and the failures of endpoints come in as arguments; nothing here looks at a clock.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from rendezvous_raft.errors import (
    DeadlineExceeded,
    Disconnected,
    InternalError,
    Overloaded,
    RendezvousError,
    Unavailable,
)

_EXPONENT_MAX = 32  # beyond every cap, below every overflow


class CallKind(enum.Enum):
    """What trying a call again may do."""

    READ = "read"
    """Changes nothing, so every failure of it is definite."""
    WRITE = "write"
    """Idempotent by its ids."""
    ORDER = "order"
    """Changes something and has no ids: never repeated when it may have happened."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How persistent a client is. Times are seconds."""

    pause_s_base: float = 0.02
    """Pause before the second round; it doubles with each round."""
    pause_s_max: float = 1.0
    attempt_s_max: float = 3.0
    """Longest single attempt while there is another endpoint to go to, beside the time for which
    the node may hold the call back. An order gets all the time there is: it has one attempt."""
    endpoint_rest_s_base: float = 0.25
    """How long a failing endpoint is left alone; doubles with each failure in a row."""
    endpoint_rest_s_max: float = 5.0
    budget_max: float = 5_000.0
    """Retries after definite errors that the client may make in a row."""
    budget_per_success: float = 0.1
    """What a successful call gives back."""
    budget_per_s: float = 10.0
    """What a second gives back."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An order to the driver."""

    endpoint: str
    deadline: float
    """Monotonic seconds at which this attempt ends."""
    pause_s: float
    """How long to wait before it."""
    number: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt."""

    error: RendezvousError | None
    """None when it succeeded."""
    now: float
    """Monotonic seconds; infinite: there shall be no other attempt."""


class RetryBudget:
    """Tokens for retries, so that a sick cluster is not buried under them."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._tokens = policy.budget_max
        self._counted_at: float | None = None

    @property
    def tokens(self) -> float:
        """Retries left."""
        return self._tokens

    def deposit(self) -> None:
        """A call succeeded."""
        self._tokens = min(self._policy.budget_max, self._tokens + self._policy.budget_per_success)

    def withdraw(self, now: float) -> bool:
        """Takes a token; False when there is none."""
        elapsed = 0.0 if self._counted_at is None else max(0.0, now - self._counted_at)
        self._counted_at = now
        self._tokens = min(
            self._policy.budget_max, self._tokens + elapsed * self._policy.budget_per_s
        )
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Endpoints:
    """The configured endpoints in order of preference, and which of them failed lately.

    The first one is the nearest, where session reads are cheapest, so it is used whenever it does
    not rest. After its rest an endpoint is first tried by one call alone. Shared by threads: a lost
    update costs at most one attempt at the wrong place.
    """

    def __init__(self, endpoints: Sequence[str], policy: RetryPolicy) -> None:
        self.names = tuple(endpoints)
        self._policy = policy
        self._resting_until = dict.fromkeys(self.names, 0.0)
        self._failures = dict.fromkeys(self.names, 0)
        self._probed: set[str] = set()

    def choose(self, now: float, *, tried: Sequence[str] = ()) -> str:
        """The best endpoint, if possible one that was not tried."""
        fresh = [name for name in self.names if name not in tried] or self.names
        for name in fresh:
            if self._resting_until[name] <= now:
                if self._failures[name]:
                    self._probed.add(name)
                    self._resting_until[name] = now + self._policy.attempt_s_max
                return name
        return min(fresh, key=self._resting_until.__getitem__)

    def failed(self, name: str, now: float) -> None:
        """This endpoint could not serve."""
        in_service = self._resting_until[name] <= now
        if not in_service and name not in self._probed:
            return  # calls that fail together count as one failure
        self._probed.discard(name)
        rest_s = self._policy.endpoint_rest_s_base * 2.0 ** self._failures[name]
        self._resting_until[name] = now + min(self._policy.endpoint_rest_s_max, rest_s)
        self._failures[name] = min(self._failures[name] + 1, _EXPONENT_MAX)

    def succeeded(self, name: str) -> None:
        """This endpoint served."""
        if self._failures[name]:
            self._probed.discard(name)
            self._failures[name] = 0
            self._resting_until[name] = 0.0


class Retries:
    """The retry policy of one client: endpoints, budget and chance shared by all its calls."""

    def __init__(
        self, endpoints: Sequence[str], policy: RetryPolicy, *, chance: Callable[[], float]
    ) -> None:
        self.policy = policy
        self.endpoints = Endpoints(endpoints, policy)
        self.budget = RetryBudget(policy)
        self._chance = chance

    def attempts(
        self,
        kind: CallKind,
        *,
        now: float,
        deadline: float,
        blocked_until: float | None = None,
    ) -> Generator[Attempt, Outcome, None]:
        """Yields attempts and is sent their outcomes; returns on success.

        `blocked_until` is the time up to which a node may hold the call back. None: it may not.

        Raises:
            RendezvousError: The error for the caller.
        """
        number, rounds, pause_s = 1, 0, 0.0
        tried: list[str] = []
        indefinite: RendezvousError | None = None
        endpoint = self.endpoints.choose(now)
        while True:
            ends_at = self._attempt_deadline(kind, now + pause_s, deadline, blocked_until)
            outcome = yield Attempt(endpoint, ends_at, pause_s, number)
            now, error = outcome.now, outcome.error
            if error is None:
                self.endpoints.succeeded(endpoint)
                self.budget.deposit()
                return
            self.note(endpoint, error, now)
            if kind is not CallKind.READ and not error.definite:
                indefinite = error
            if now >= deadline or not self._may_retry(kind, error, now):
                raise _final(error, indefinite)
            tried.append(endpoint)
            endpoint = self._next_endpoint(kind, error, tried, now)
            pause_s = 0.0
            if endpoint in tried or not _is_fault_of_endpoint(error):
                pause_s, rounds, tried = self._pause_s(rounds), rounds + 1, []
            if now + pause_s >= deadline:
                raise _final(error, indefinite)
            number += 1

    def note(self, endpoint: str, error: RendezvousError, now: float) -> None:
        """What a failure says of the endpoint that it came from."""
        if _is_fault_of_endpoint(error):
            self.endpoints.failed(endpoint, now)
        elif not isinstance(error, Overloaded | InternalError):
            # The node answered, if only that the call itself was wrong. The other two may also come
            # from this side or from something that is no node.
            self.endpoints.succeeded(endpoint)

    def _attempt_deadline(
        self, kind: CallKind, start: float, deadline: float, blocked_until: float | None
    ) -> float:
        if kind is CallKind.ORDER or len(self.endpoints.names) == 1:
            return deadline
        patience_s = self.policy.attempt_s_max
        if blocked_until is not None:
            # Half of what is left then: the other half is for another endpoint after a silent one.
            patience_s = min(patience_s, (deadline - blocked_until) / 2)
            start = max(start, blocked_until)
        return min(deadline, start + patience_s)

    def _may_retry(self, kind: CallKind, error: RendezvousError, now: float) -> bool:
        if not error.definite:
            # The deadline of the attempt passed, not the one of the call, or the outcome is open.
            retryable = error.retryable or isinstance(error, DeadlineExceeded)
            return retryable and kind is not CallKind.ORDER
        if error.retryable or isinstance(error, DeadlineExceeded):
            return self.budget.withdraw(now)
        return False

    def _next_endpoint(
        self, kind: CallKind, error: RendezvousError, tried: Sequence[str], now: float
    ) -> str:
        hint = error.leader
        wants_leader = kind is not CallKind.READ and not isinstance(error, Overloaded)
        if wants_leader and hint in self.endpoints.names and hint not in tried:
            return str(hint)
        if _is_fault_of_endpoint(error):
            return self.endpoints.choose(now, tried=tried)
        return tried[-1]

    def _pause_s(self, rounds: int) -> float:
        full = min(
            self.policy.pause_s_max, self.policy.pause_s_base * 2.0 ** min(rounds, _EXPONENT_MAX)
        )
        return full * (0.5 + 0.5 * self._chance())


def finish(plan: Generator[Attempt, Outcome, None], now: float) -> None:
    """Tells a plan that its last attempt succeeded."""
    with contextlib.suppress(StopIteration):
        plan.send(Outcome(None, now))


def _is_fault_of_endpoint(error: RendezvousError) -> bool:
    """Whether another endpoint may do better at once."""
    return isinstance(error, Unavailable | Disconnected | DeadlineExceeded)


def _final(error: RendezvousError, indefinite: RendezvousError | None) -> RendezvousError:
    """The error for the caller: it must not call a write undone that may have been done."""
    if indefinite is None or not error.definite:
        return error
    if error.retryable or isinstance(error, DeadlineExceeded):
        return indefinite
    error.definite = False
    return error
