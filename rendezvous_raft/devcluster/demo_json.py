"""Everything about a demonstration as plain values, for `--json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from rendezvous_raft.devcluster.demo import DemoReport, RunReport
from rendezvous_raft.devcluster.post_traces import PostTrace

FORMAT_VERSION = 1


def report_fields(
    report: DemoReport, *, versions: Mapping[str, str], raw: bool = True
) -> dict[str, object]:
    """The report as JSON can hold it.

    Args:
        report: What to show.
        versions: Of the software that made it.
        raw: Whether the series of each run are part of it: one object per post, its moments in
            seconds since the run's first write.
    """
    settings = report.settings
    return {
        "format": FORMAT_VERSION,
        "ok": not report.problems,
        "problems": list(report.problems),
        "settings": {
            "regions": list(settings.regions),
            "writer_region": settings.writer_region,
            "reader_region": settings.reader_region,
            "rtt_ms": settings.latencies.as_table(),
            "posts": settings.posts,
            "rate_per_s": settings.rate_per_s,
            "datastore": settings.datastore,
            "lag_median_ms": settings.lag_median_ms,
            "lag_p99_ms": settings.lag_p99_ms,
            "seed": settings.seed,
            "wait_timeout_s": settings.wait_timeout_s,
            "notification": "in-process queue with the one-way delay, a stand-in for a broker",
            "clocks": "both regions are on one machine and share its clock",
        },
        "versions": dict(versions),
        "leader_region": report.leader_region or None,
        "events": [
            {"event": event.change.value, "node": event.node, "detail": event.detail}
            for event in report.events
        ],
        "runs": {
            "without": _run_fields(report.without, raw=raw),
            "with": None if report.guarded is None else _run_fields(report.guarded, raw=raw),
        },
    }


def _run_fields(run: RunReport, *, raw: bool) -> dict[str, object]:
    fields: dict[str, object] = {"summary": dataclasses.asdict(run.summary)}
    if raw:
        traces = run.raw.traces
        origin_s = min((trace.write_started_at_s for trace in traces), default=0.0)
        fields["posts"] = [_post_fields(trace, origin_s) for trace in traces]
    return fields


def _post_fields(trace: PostTrace, origin_s: float) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in dataclasses.asdict(trace).items():
        is_moment = name.endswith("_at_s") and isinstance(value, float)
        fields[name] = round(value - origin_s, 6) if is_moment else value
    return fields
