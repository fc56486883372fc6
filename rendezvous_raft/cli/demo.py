"""`rendezvous demo`: see the anomaly happen, switch Rendezvous on, see it gone."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from rendezvous_raft.cli.demo_progress import DemoBar, SilentProgress
from rendezvous_raft.cli.demo_tables import comparison
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.output import OutputFormat, print_answer
from rendezvous_raft.cli.regions import parse_latencies, parse_regions
from rendezvous_raft.cli.session import Session, fail, output_options, session_of
from rendezvous_raft.cli.signals import stop_event
from rendezvous_raft.cli.version import installed_versions
from rendezvous_raft.devcluster.demo import (
    DATASTORES,
    DemoProgress,
    DemoReport,
    DemoSettings,
    run_demo,
)
from rendezvous_raft.devcluster.demo_json import report_fields
from rendezvous_raft.devcluster.geo_store import POSTS_MAX, GeoStoreError
from rendezvous_raft.devcluster.processes import NodeFailed
from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.observability.logs import configure_logs

DEFAULT_RTT_MS = {"eu-us": 80.0, "eu-ap": 160.0, "us-ap": 140.0}
OTHER_RTT_MS = 80.0
LAG_MEDIAN_MS = 200.0
P99_OF_MEDIAN = 2.5
"""Default 99th percentile of the embedded store's lag, in medians."""
DEFAULT_PLOT = Path("rendezvous-demo.png")
INTERRUPTED = 130


HELP = """Show the race between data and notification, without and with Rendezvous.

Three nodes run as processes on loopback with emulated distance. Posts are written in the first
region of a geo-replicated store; a notification of each takes the one-way delay to the second
region (through an in-process queue, a stand-in for a message broker), where a reader reads the
post once: first at once, then, in a second run, after a wait on its own region's node.

\b
consistency window  from the arrival of a notification until the post can
                    really be read there, over the posts that could not yet
replication lag     from the acknowledged write to the post's arrival in the
                    reader's region, by the datastore's own account
added latency       from max(notification arrived, post arrived) to the
                    moment the reader may read; never floored at zero

The share of inconsistent reads without Rendezvous follows from the lag that is configured: it is an
input, not a finding. Exit status 0 only if the first run was inconsistent and the second had no
inconsistent read, no time-out and no error.
"""


@click.command(help=HELP)
@click.option(
    "--regions",
    default="eu,us,ap",
    show_default=True,
    callback=parse_regions,
    metavar="NAME,…",
    help="Writer's region, reader's region, then those of further nodes: at least three.",
)
@click.option(
    "--rtt-ms",
    default="",
    metavar="A-B=MS,…",
    help="Round trips between regions.  [default: eu-us=80,eu-ap=160,us-ap=140; others 80]",
)
@click.option(
    "--posts",
    type=click.IntRange(1, POSTS_MAX // 2),
    default=1000,
    show_default=True,
    help="How many.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=200.0,
    show_default=True,
    help="Posts per second on average, whatever becomes of them (open loop).",
)
@click.option(
    "--datastore",
    type=click.Choice(DATASTORES),
    default="embedded",
    show_default=True,
    help="embedded: a SQLite file per region; redis: a redis-server and its replica.",
)
@click.option(
    "--lag-median-ms",
    type=click.FloatRange(0, 60_000, min_open=True),
    default=LAG_MEDIAN_MS,
    show_default=True,
    help="Replication lag of the datastore: an input of the demonstration.",
)
@click.option(
    "--lag-p99-ms",
    type=click.FloatRange(0, 120_000, min_open=True),
    help="Its 99th percentile.  [default: embedded 2.5 medians, redis the median]",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of load and lags.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write settings, versions, numbers and the raw series to this file.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=DEFAULT_PLOT,
    show_default=True,
    help="Draw the result into this PNG file.",
)
@click.option("--no-rendezvous", is_flag=True, help="Only show the anomaly.")
@output_options
@click.pass_context
def demo(
    ctx: click.Context,
    /,
    *,
    regions: tuple[str, ...],
    rtt_ms: str,
    posts: int,
    rate: float,
    datastore: str,
    lag_median_ms: float,
    lag_p99_ms: float | None,
    seed: int,
    json_path: Path | None,
    plot_path: Path,
    no_rendezvous: bool,
) -> None:
    """Makes both runs, prints and draws the result."""
    session = session_of(ctx)
    if len(regions) < 3:
        raise click.BadParameter("at least three", param_hint="--regions")
    if lag_p99_ms is None:
        lag_p99_ms = lag_median_ms * (P99_OF_MEDIAN if datastore == "embedded" else 1.0)
    if lag_p99_ms < lag_median_ms:
        raise click.BadParameter("is below the median", param_hint="--lag-p99-ms")
    settings = DemoSettings(
        regions=regions,
        latencies=parse_latencies(
            _with_defaults(rtt_ms, regions), regions=regions, default_ms=OTHER_RTT_MS
        ),
        posts=posts,
        rate_per_s=rate,
        datastore=datastore,
        lag_median_ms=lag_median_ms,
        lag_p99_ms=lag_p99_ms,
        seed=seed,
        with_rendezvous=not no_rendezvous,
    )
    configure_logs(level="warning", style="console")  # the monitors of this process log
    report = _perform(session, settings)
    _publish(session, report, json_path=json_path, plot_path=plot_path)
    for problem in report.problems:
        click.echo(f"failed: {problem}", err=True)
    if report.problems:
        ctx.exit(ExitCode.FAILED)


def _perform(session: Session, settings: DemoSettings) -> DemoReport:
    """Runs the demonstration with a progress bar, in a directory of its own."""
    shows_progress = sys.stderr.isatty() and not session.quiet
    progress: DemoBar | SilentProgress
    progress = DemoBar(color=session.color) if shows_progress else SilentProgress()
    with tempfile.TemporaryDirectory(prefix="rendezvous-demo-") as directory, progress:
        try:
            report = asyncio.run(_run_until_signal(settings, Path(directory), progress))
        except (GeoStoreError, NodeFailed, RendezvousError, OSError) as error:
            progress.stop()
            raise fail(
                session,
                str(error),
                next_step="see the message above; --datastore embedded needs no other program",
                exit_code=ExitCode.FAILED,
                effect="everything that was started has been stopped",
            ) from None
    if report is None:
        raise click.exceptions.Exit(INTERRUPTED)
    return report


async def _run_until_signal(
    settings: DemoSettings, directory: Path, progress: DemoProgress
) -> DemoReport | None:
    """The report; None when a signal came first. Everything is stopped in either case."""
    with stop_event() as stop:
        running = asyncio.create_task(run_demo(settings, directory=directory, progress=progress))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else None
        finally:
            running.cancel()
            stopping.cancel()
            await asyncio.wait((running, stopping))


def _publish(
    session: Session, report: DemoReport, *, json_path: Path | None, plot_path: Path
) -> None:
    versions = installed_versions()
    for event in report.events:
        session.note(f"node {event.node}: {event.change.value} ({event.detail})")
    print_answer(
        session.form,
        answer=report_fields(report, versions=versions, raw=False),
        sheets=[comparison(report)],
        color=session.color,
    )
    if session.form is OutputFormat.TABLE and report.guarded is not None:
        session.note(f"leader: {report.leader_region}; the lag is an input of this demonstration")
    if json_path is not None:
        text = json.dumps(report_fields(report, versions=versions), indent=1)
        json_path.write_text(text + "\n", encoding="utf-8")
        session.note(f"numbers and raw series: {json_path}")
    if find_spec("matplotlib") is None:
        session.note("no plot: matplotlib is not installed (extra `demo`)")
        return
    from rendezvous_raft.devcluster.demo_plot import plot_demo  # noqa: PLC0415 - needs the above

    plot_demo(report, plot_path)
    session.note(f"plot: {plot_path}")


def _with_defaults(rtt_ms: str, regions: tuple[str, ...]) -> str:
    """`rtt_ms` with the usual distances of eu, us and ap where it names no other."""
    given = {part.partition("=")[0].strip() for part in rtt_ms.split(",")}
    parts = [rtt_ms] if rtt_ms.strip() else []
    for pair, rtt in DEFAULT_RTT_MS.items():
        first, _, second = pair.partition("-")
        known = first in regions and second in regions
        if known and pair not in given and f"{second}-{first}" not in given:
            parts.append(f"{pair}={rtt:g}")
    return ",".join(parts)
