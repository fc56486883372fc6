"""Which branches to look for now. Pure: time and chance are arguments (M4).

Theory of operation. A branch is *waiting* (it has a place in one of two heaps, by the time it is
due) or *being looked for* (handed out by `due`, until `result` or `put_back`). Its age counts from
the `at` of `add`. Up to an age of a minute it is looked for every 15 % of its age, then ever more
rarely (M5); nothing but `remove` or a visible answer ends it (V18). The two heaps hold the young
and the old, so that a great many old branches never delay a young one by more than a batch (M6). A
branch that grows old in its place is moved when it comes up.

The first look. It comes after the 10th percentile of the recent lags, at most half a second. A lag
is only known to lie between two looks, and its middle is taken: taking the later end would make the
percentile its own lower bound, and it could only grow.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from rendezvous_raft.types import BranchId

FIRST_LOOK_UNKNOWN_S = 0.005
"""Pause before the first look while no lag is known."""
LAGS_MAX = 256
"""Recent lags remembered."""
LAG_QUANTILE = 0.10
AGE_FACTOR = 0.15
"""Detection adds at most this share of the lag."""
INTERVAL_MIN_S = 0.010
INTERVAL_MAX_S = 0.500
"""Bounds of the interval while young; the second also caps the pause before the first look."""
OLD_AGE_S = 60.0
OLD_GROWTH = 1.5
OLD_INTERVAL_MAX_S = 30.0
JITTER = 0.20
FAILED_PAUSE_S = 0.100
FAILED_PAUSE_MAX_S = 10.0
"""Pause after failures of one branch alone, doubling; the interval does not grow by them (V15)."""
_SPARE_PLACES = 1_024
"""Stale places that a heap may hold before it is swept."""
_MOVES_MAX = 64
"""Branches moved one by one from the young to the old, before all are looked over."""


class LookOutcome(enum.Enum):
    """What a look said of one branch."""

    VISIBLE = "visible"
    ABSENT = "absent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LookHistory:
    """What is known of a branch, for people."""

    tries: int
    last_outcome: LookOutcome | None
    next_look_at: float | None
    """On the clock of the schedule's user; None while it is being looked for."""


@dataclass(slots=True)
class _Watched:
    at: float
    due_at: float
    interval_s: float = INTERVAL_MIN_S
    ticket: int = 0
    """Place in a heap; 0 while it is being looked for."""
    tries: int = 0
    failures: int = 0
    absent_at: float | None = None
    last_outcome: LookOutcome | None = None


class Schedule:
    """Hands out branches when they are due, in order of due time, the young ones first."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._watched: dict[BranchId, _Watched] = {}
        self._young: list[tuple[float, int, BranchId]] = []
        self._old: list[tuple[float, int, BranchId]] = []
        self._ticket = 0
        self._old_credit = 0
        self._lags: deque[float] = deque(maxlen=LAGS_MAX)
        self._first_look_s: float | None = FIRST_LOOK_UNKNOWN_S

    def __len__(self) -> int:
        """Branches that wait or are being looked for."""
        return len(self._watched)

    def __contains__(self, branch_id: object) -> bool:
        return branch_id in self._watched

    @property
    def first_look_s(self) -> float:
        """Seconds from `at` to the first look of a new branch (M5)."""
        if self._first_look_s is None:
            rank = int(LAG_QUANTILE * (len(self._lags) - 1))
            self._first_look_s = min(sorted(self._lags)[rank], INTERVAL_MAX_S)
        return self._first_look_s

    def add(self, branch_id: BranchId, at: float) -> None:
        """Begins to watch a branch whose age counts from `at`; one watched already stays as it is.

        An `at` long ago is looked for at once.
        """
        if branch_id in self._watched:
            return
        watched = _Watched(at=at, due_at=at + self.first_look_s)
        self._watched[branch_id] = watched
        self._place(branch_id, watched)

    def remove(self, branch_id: BranchId) -> None:
        """Ends watching a branch; an unknown one is ignored."""
        self._watched.pop(branch_id, None)
        self._sweep()

    def due(self, now: float, limit: int) -> list[BranchId]:
        """Takes at most `limit` branches that are due, to be looked for.

        Each must be given back by `result` or `put_back`. While young ones are due, at most a
        quarter of the limit are old.
        """
        taken: list[BranchId] = []
        old_max: int | None = None
        old_taken = 0
        while len(taken) < limit:
            self._move_aged(now)
            young_at = self._due_at_top(self._young, now)
            old_at = self._due_at_top(self._old, now)
            if young_at is None and old_at is None:
                break
            if young_at is not None and old_at is not None and old_max is None:
                old_max = self._old_share(limit)
            old_allowed = old_at is not None and (young_at is None or old_taken < (old_max or 0))
            if old_allowed and (young_at is None or (old_at or 0.0) <= young_at):
                taken.append(self._take(self._old))
                old_taken += 1
            else:
                taken.append(self._take(self._young))
        return taken

    def result(self, branch_id: BranchId, outcome: LookOutcome, now: float) -> None:
        """Tells what a look said. A visible branch is no longer watched."""
        watched = self._watched.get(branch_id)
        if watched is None:
            return
        watched.tries += 1
        watched.last_outcome = outcome
        match outcome:
            case LookOutcome.VISIBLE:
                self._learn_lag(watched, now)
                self.remove(branch_id)
            case LookOutcome.ABSENT:
                watched.failures = 0
                watched.absent_at = now
                watched.interval_s = _next_interval_s(watched.interval_s, age_s=now - watched.at)
                jitter = self._random.uniform(1 - JITTER, 1 + JITTER)
                watched.due_at = now + watched.interval_s * jitter
                self._place(branch_id, watched)
            case LookOutcome.FAILED:
                pause_s = FAILED_PAUSE_S * 2 ** min(watched.failures, 16)
                watched.failures += 1
                watched.due_at = now + min(pause_s, FAILED_PAUSE_MAX_S)
                self._place(branch_id, watched)

    def put_back(self, branch_ids: Iterable[BranchId]) -> None:
        """Gives back branches that no endpoint looked at: they are due when they were."""
        for branch_id in branch_ids:
            watched = self._watched.get(branch_id)
            if watched is not None and watched.ticket == 0:
                watched.last_outcome = LookOutcome.FAILED
                self._place(branch_id, watched)

    def next_wakeup(self) -> float | None:
        """When the next branch is due; None when none waits."""
        tops = [at for at in (self._top(self._young), self._top(self._old)) if at is not None]
        return min(tops, default=None)

    def history(self, branch_id: BranchId) -> LookHistory | None:
        """What is known of a branch; None when it is not watched."""
        watched = self._watched.get(branch_id)
        if watched is None:
            return None
        next_look_at = watched.due_at if watched.ticket else None
        return LookHistory(watched.tries, watched.last_outcome, next_look_at)

    def _place(self, branch_id: BranchId, watched: _Watched) -> None:
        self._ticket += 1
        watched.ticket = self._ticket
        heap = self._old if watched.due_at - watched.at > OLD_AGE_S else self._young
        heapq.heappush(heap, (watched.due_at, watched.ticket, branch_id))

    def _take(self, heap: list[tuple[float, int, BranchId]]) -> BranchId:
        _, _, branch_id = heapq.heappop(heap)
        self._watched[branch_id].ticket = 0
        return branch_id

    def _top(self, heap: list[tuple[float, int, BranchId]]) -> float | None:
        """Due time of the first place that still counts; drops the stale ones before it."""
        while heap:
            due_at, ticket, branch_id = heap[0]
            watched = self._watched.get(branch_id)
            if watched is not None and watched.ticket == ticket:
                return due_at
            heapq.heappop(heap)
        return None

    def _due_at_top(self, heap: list[tuple[float, int, BranchId]], now: float) -> float | None:
        due_at = self._top(heap)
        return due_at if due_at is not None and due_at <= now else None

    def _move_aged(self, now: float) -> None:
        """Moves the branches that grew old while they waited, as far as they are in the way."""
        for _ in range(_MOVES_MAX):
            if self._top(self._young) is None or self._is_young(self._young[0], now):
                return
            heapq.heappush(self._old, heapq.heappop(self._young))
        # A backlog: one pass over all of them is cheaper than a great many moves.
        young, old = self._young, self._old
        old.extend(place for place in young if not self._is_young(place, now))
        young[:] = [place for place in young if self._is_young(place, now)]
        heapq.heapify(young)
        heapq.heapify(old)

    def _is_young(self, place: tuple[float, int, BranchId], now: float) -> bool:
        watched = self._watched.get(place[2])
        return watched is not None and now - watched.at <= OLD_AGE_S

    def _old_share(self, limit: int) -> int:
        """A quarter of the limit; of tiny limits one place in four, or the old would starve."""
        if limit >= 4:
            return limit // 4
        self._old_credit += limit
        if self._old_credit < 4:
            return 0
        self._old_credit -= 4
        return 1

    def _learn_lag(self, watched: _Watched, now: float) -> None:
        if watched.absent_at is None and now - watched.at > 2 * INTERVAL_MAX_S:
            return  # first seen long after its registration: the lag may have been anything
        lag_s = ((watched.absent_at or watched.at) + now) / 2 - watched.at
        self._lags.append(max(lag_s, 0.0))
        self._first_look_s = None

    def _sweep(self) -> None:
        """Removed branches leave stale places; rebuilds the heaps when these prevail."""
        places = len(self._young) + len(self._old)
        if places <= 2 * len(self._watched) + _SPARE_PLACES:
            return
        for heap in (self._young, self._old):
            heap[:] = [place for place in heap if self._counts(place)]
            heapq.heapify(heap)

    def _counts(self, place: tuple[float, int, BranchId]) -> bool:
        watched = self._watched.get(place[2])
        return watched is not None and watched.ticket == place[1]


def _next_interval_s(interval_s: float, *, age_s: float) -> float:
    if age_s <= OLD_AGE_S:
        return min(max(AGE_FACTOR * age_s, INTERVAL_MIN_S), INTERVAL_MAX_S)
    return min(max(interval_s, INTERVAL_MAX_S) * OLD_GROWTH, OLD_INTERVAL_MAX_S)
