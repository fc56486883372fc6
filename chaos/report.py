"""What a run of `kill` found, as lines for people and as values for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from chaos.kill import KillResult
from chaos.ledger import Outcome

BUCKET_S = 0.1
BAR_WIDTH = 40
RULE_OF_THREE = 3
"""Zero failures in n trials bound the rate at 3/n, with 95 % confidence."""


def quantile(seconds: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; NaN of none."""
    ordered = sorted(seconds)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(result: KillResult) -> Iterator[str]:
    """The report, verdict first."""
    ledger, plan = result.ledger, result.plan
    yield f"{result.verdict()}: {_reason(result)}"
    yield (
        f"seed {plan.seed}, {plan.nodes} nodes, {result.seconds:.0f} s; again: "
        f"python -m chaos kill --nodes {plan.nodes} --kills {plan.kills} "
        f"--all-kills {plan.all_kills} --rate {plan.rate:g} --seed {plan.seed}"
    )
    yield (
        f"kills: {result.leader_kills} of a leader, {result.follower_kills} of a follower, "
        f"{result.all_kills} of all nodes; {result.proved_kills} exit statuses say SIGKILL"
    )
    yield (
        "operations: "
        + ", ".join(f"{ledger.outcomes[o]} {o.value}" for o in Outcome)
        + (
            f"; {ledger.acknowledged / max(result.seconds, 0.001):.0f} acknowledged per second, "
            f"{ledger.repeated} of them sent twice"
        )
    )
    if ledger.errors:
        yield "errors: " + ", ".join(f"{n} {code}" for code, n in sorted(ledger.errors.items()))
    yield (
        f"checked: {result.checked_while_running} operations while it ran, "
        f"{result.checked_at_the_end} at the end on {plan.nodes} nodes, "
        f"equal digests on {result.digests}"
    )
    yield from _times("fail-over after SIGKILL of the leader", result.failovers_s)
    yield from _bars(result.failovers_s)
    yield from _times("first write after the start of all", result.recoveries_s)
    yield from ledger.violations.descriptions


def _reason(result: KillResult) -> str:
    if result.broken:
        return result.broken
    if result.ledger.violations:
        return ", ".join(f"{n} {kind}" for kind, n in result.ledger.violations.counts.items())
    if result.invalid():
        return result.invalid()
    trials = result.leader_kills + result.follower_kills + result.all_kills
    return (
        f"0 lost, 0 doubled in {trials} trials"
        f" (with 95 % confidence at most {RULE_OF_THREE / trials:.1%} of such trials lose any)"
        if trials
        else "no trial"
    )


def _times(title: str, seconds: Sequence[float]) -> Iterator[str]:
    if not seconds:
        return
    yield (
        f"{title}, {len(seconds)} times: median {quantile(seconds, 0.5):.3f} s, "
        f"p95 {quantile(seconds, 0.95):.3f} s, worst {max(seconds):.3f} s"
    )


def _bars(seconds: Sequence[float]) -> Iterator[str]:
    counts = histogram(seconds)
    for bucket, count in counts.items():
        bar = "#" * math.ceil(BAR_WIDTH * count / max(counts.values()))
        yield f"  {bucket * BUCKET_S:4.1f} s  {bar} {count}"


def histogram(seconds: Sequence[float]) -> dict[int, int]:
    """How many there are per tenth of a second, from the first that has any to the last."""
    if not seconds:
        return {}
    buckets = [int(one / BUCKET_S) for one in seconds]
    return {b: buckets.count(b) for b in range(min(buckets), max(buckets) + 1)}


def as_values(result: KillResult) -> dict[str, Any]:
    """For JSON, with every single time."""
    plan, ledger = result.plan, result.ledger
    return {
        "verdict": result.verdict(),
        "reason": _reason(result),
        "seed": plan.seed,
        "nodes": plan.nodes,
        "rate": plan.rate,
        "seconds": result.seconds,
        "leader_kills": result.leader_kills,
        "follower_kills": result.follower_kills,
        "all_kills": result.all_kills,
        "proved_kills": result.proved_kills,
        "operations": {outcome.value: n for outcome, n in ledger.outcomes.items()},
        "errors": ledger.errors,
        "repeated": ledger.repeated,
        "checked_while_running": result.checked_while_running,
        "checked_at_the_end": result.checked_at_the_end,
        "digests_equal": result.digests,
        "violations": ledger.violations.counts,
        "descriptions": ledger.violations.descriptions,
        "failovers_s": result.failovers_s,
        "recoveries_s": result.recoveries_s,
    }
