"""The picture of a demonstration: how long data took, what a wait added, how many reads missed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rendezvous_raft.devcluster.demo import DemoReport, RunReport
from rendezvous_raft.devcluster.figures import cumulative
from rendezvous_raft.devcluster.post_traces import PostTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WITHOUT_COLOR = "#c0392b"
GUARDED_COLOR = "#1f77b4"
NEUTRAL_COLOR = "#555555"


def plot_demo(report: DemoReport, path: Path) -> None:
    """Draws the report into a PNG file, without a display.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - a second to load
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    distributions, shares = figure.subplots(1, 2, width_ratios=(2, 1))
    _draw_distributions(distributions, report)
    _draw_shares(shares, report)
    settings = report.settings
    rtt_ms = settings.latencies.rtt_ms(settings.writer_region, settings.reader_region)
    figure.suptitle(
        f"{settings.posts} posts at {settings.rate_per_s:g}/s, {settings.datastore} store, "
        f"{settings.writer_region} to {settings.reader_region} with a round trip of {rtt_ms:g} ms, "
        f"seed {settings.seed}; one machine, delays emulated",
        fontsize=10,
    )
    figure.savefig(path, dpi=120, format="png")


def _draw_distributions(axes: Axes, report: DemoReport) -> None:
    run = report.guarded or report.without
    _draw_curve(
        axes, run, lambda trace: trace.replication_lag_s, NEUTRAL_COLOR, "datastore's own lag"
    )
    if report.guarded is not None:
        _draw_curve(
            axes,
            report.guarded,
            lambda trace: trace.added_s,
            GUARDED_COLOR,
            "added by waiting, beyond the datastore",
        )
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("share of posts at or below")
    axes.set_ylim(0, 1.01)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower right", frameon=False)


def _draw_curve(
    axes: Axes, run: RunReport, seconds: Callable[[PostTrace], float], color: str, label: str
) -> None:
    values, shares = cumulative(seconds(trace) * 1_000 for trace in run.raw.traces)
    axes.step(values, shares, where="post", color=color, label=label)


def _draw_shares(axes: Axes, report: DemoReport) -> None:
    runs = [("without\nRendezvous", report.without, WITHOUT_COLOR)]
    if report.guarded is not None:
        runs.append(("with\nRendezvous", report.guarded, GUARDED_COLOR))
    labels = [label for label, _, _ in runs]
    heights = [run.summary.inconsistent_share * 100 for _, run, _ in runs]
    bars = axes.bar(labels, heights, color=[color for _, _, color in runs], width=0.6)
    axes.bar_label(
        bars,
        [f"{run.summary.inconsistent} of {run.summary.posts}" for _, run, _ in runs],
        padding=3,
    )
    axes.set_ylabel("reads that missed the post, %")
    axes.set_ylim(0, max(*heights, 1.0) * 1.15)
