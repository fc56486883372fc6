"""What happened to each post of a run, and what a run comes to. Pure.

Moments are seconds of one monotonic clock: both "regions" are on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rendezvous_raft.devcluster.figures import Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class PostTrace:
    """The life of one post, as the writer's region and the reader's region saw it."""

    post_id: str
    write_started_at_s: float
    written_at_s: float
    """When the writer's region had acknowledged the write."""
    notified_at_s: float
    """When the notification arrived in the reader's region."""
    released_at_s: float
    """When the reader was free to read: at once without Rendezvous, after its wait with it."""
    visible_at_s: float
    """When the data was really there in the reader's region, by the datastore's own account."""
    consistent: bool
    """Whether the reader's one read found the post."""
    prevented: bool = False
    """Whether the wait was blocked at least once and then released."""
    timed_out: bool = False
    """Whether the wait ran out of time."""
    registration_s: float = 0.0
    """From the start of the registration to its acknowledgement. It runs beside the write and
    the notification, so it delays neither."""

    @property
    def replication_lag_s(self) -> float:
        """From the acknowledged write to the data's arrival in the reader's region."""
        return self.visible_at_s - self.written_at_s

    @property
    def window_s(self) -> float:
        """From the notification's arrival to the data's: positive while a read would miss it."""
        return self.visible_at_s - self.notified_at_s

    @property
    def added_s(self) -> float:
        """What the reader waited longer than it had to. Never floored: it may be negative."""
        return self.released_at_s - max(self.notified_at_s, self.visible_at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run in numbers. Distributions are in milliseconds; None where nothing was counted."""

    posts: int
    """Posts that were written and read, or failed with an error."""
    inconsistent: int
    """Reads, after a notification, that did not find the post."""
    inconsistent_share: float
    stale_after_grant: int
    """Inconsistent reads after a wait that said "settled": a fault of Rendezvous."""
    prevented: int
    timed_out: int
    errors: tuple[str, ...]
    """One sentence per post that failed."""
    rate_per_s: float
    """Posts started per second, as it came out."""
    consistency_window_ms: Distribution | None
    """Over the posts that were not visible when their notification arrived."""
    replication_lag_ms: Distribution | None
    added_ms: Distribution | None
    registration_ms: Distribution | None


def summarize(
    traces: Sequence[PostTrace], *, errors: Sequence[str] = (), guarded: bool
) -> RunSummary:
    """Sums up a run.

    Args:
        traces: The posts that came to their read.
        errors: One sentence for each post that did not.
        guarded: Whether the readers waited; only then is there a latency to speak of.
    """
    inconsistent = [trace for trace in traces if not trace.consistent]
    posts = len(traces) + len(errors)
    starts = [trace.write_started_at_s for trace in traces]
    span_s = max(starts) - min(starts) if starts else 0.0
    return RunSummary(
        posts=posts,
        inconsistent=len(inconsistent),
        inconsistent_share=len(inconsistent) / posts if posts else 0.0,
        stale_after_grant=sum(guarded and not trace.timed_out for trace in inconsistent),
        prevented=sum(trace.prevented for trace in traces),
        timed_out=sum(trace.timed_out for trace in traces),
        errors=tuple(errors),
        rate_per_s=(len(starts) - 1) / span_s if span_s > 0 else 0.0,
        consistency_window_ms=Distribution.of(
            trace.window_s * 1_000 for trace in traces if trace.window_s > 0
        ),
        replication_lag_ms=Distribution.of(trace.replication_lag_s * 1_000 for trace in traces),
        added_ms=Distribution.of(trace.added_s * 1_000 for trace in traces) if guarded else None,
        registration_ms=(
            Distribution.of(trace.registration_s * 1_000 for trace in traces) if guarded else None
        ),
    )


def find_problems(without: RunSummary, guarded: RunSummary | None) -> tuple[str, ...]:
    """Why the demo did not show what it promises; empty when it did.

    Args:
        without: The run without Rendezvous.
        guarded: The run with it; None when only the first was asked for.
    """
    problems = []
    if not without.inconsistent:
        problems.append(
            "without Rendezvous: no inconsistent read, so nothing was shown "
            "(is the datastore's lag longer than the notification's way?)"
        )
    problems += _failures(without, "without Rendezvous")
    if guarded is not None:
        if guarded.stale_after_grant:
            problems.append(
                f"with Rendezvous: {guarded.stale_after_grant} stale reads after a granted wait"
            )
        if guarded.timed_out:
            problems.append(f"with Rendezvous: {guarded.timed_out} waits timed out")
        if not guarded.posts:
            problems.append("with Rendezvous: no post was made")
        problems += _failures(guarded, "with Rendezvous")
    return tuple(problems)


def _failures(summary: RunSummary, label: str) -> list[str]:
    if not summary.errors:
        return []
    return [f"{label}: {len(summary.errors)} posts failed, the first: {summary.errors[0]}"]
