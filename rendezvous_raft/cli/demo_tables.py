"""The two runs of a demonstration side by side."""

from __future__ import annotations

from collections.abc import Callable

from rendezvous_raft.cli.output import Sheet
from rendezvous_raft.devcluster.demo import DemoReport
from rendezvous_raft.devcluster.figures import Distribution
from rendezvous_raft.devcluster.post_traces import RunSummary

_ROWS: tuple[tuple[str, Callable[[RunSummary], str]], ...] = (
    ("posts", lambda run: f"{run.posts} at {run.rate_per_s:.0f}/s"),
    (
        "inconsistent reads",
        lambda run: f"{run.inconsistent} ({run.inconsistent_share * 100:.1f} %)",
    ),
    ("prevented inconsistencies", lambda run: str(run.prevented)),
    ("time-outs", lambda run: str(run.timed_out)),
    ("errors", lambda run: str(len(run.errors))),
    ("consistency window p50/p95/p99", lambda run: _p50_p95_p99(run.consistency_window_ms)),
    ("datastore's replication lag p50/p95/p99", lambda run: _p50_p95_p99(run.replication_lag_ms)),
    ("latency added beyond it p50/mean/p99", lambda run: _p50_mean_p99(run.added_ms)),
    (
        "registration acknowledged after p50/p95/p99, beside the write",
        lambda run: _p50_p95_p99(run.registration_ms),
    ),
)


def comparison(report: DemoReport) -> Sheet:
    """One row per figure, one column per run."""
    runs = [report.without.summary]
    headings = ["measure", "without Rendezvous"]
    if report.guarded is not None:
        runs.append(report.guarded.summary)
        headings.append("with Rendezvous")
    rows = tuple((label, *(cell(run) for run in runs)) for label, cell in _ROWS)
    settings = report.settings
    title = (
        f"{settings.datastore} store, written in {settings.writer_region}, "
        f"read in {settings.reader_region}, seed {settings.seed}"
    )
    return Sheet(tuple(headings), rows, title=title)


def _p50_p95_p99(distribution: Distribution | None) -> str:
    if distribution is None:
        return ""
    return f"{distribution.p50:.1f} / {distribution.p95:.1f} / {distribution.p99:.1f} ms"


def _p50_mean_p99(distribution: Distribution | None) -> str:
    if distribution is None:
        return ""
    return f"{distribution.p50:.1f} / {distribution.mean:.1f} / {distribution.p99:.1f} ms"
