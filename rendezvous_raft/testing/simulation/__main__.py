"""`scripts/simulate`: runs seeds, or shows what happened in one."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from rendezvous_raft.testing.simulation.run import (
    FAILURES_SHOWN_MAX,
    SIZES,
    Failure,
    Seed,
    Summary,
    run_again,
    run_seeds,
    seeds_from,
)
from rendezvous_raft.testing.simulation.world import World

EVENTS_KEPT = 100_000
EVENTS_SHOWN = 120
LINE_EVERY_S = 60.0
"""Where there is no terminal for a progress bar."""


@click.command()
@click.option("--seeds", default=200, show_default=True, help="How many seeds to run.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=int, help="Run this one alone and show how it ended.")
@click.option("--nodes", type=click.IntRange(1, 9), help="Size of the cluster; 3, 5, 7 in turn.")
@click.option("--duration", default=30.0, show_default=True, help="Simulated seconds a seed.")
@click.option("--minutes", type=float, help="End after so long, whatever is left.")
@click.option("--workers", type=int, help="Processes; one per core by default.")
@click.option("--again", default=0, show_default=True, help="Seeds to run twice and compare.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Summary as a file.")
@click.option("--events", default=EVENTS_SHOWN, show_default=True, help="Shown of a single seed.")
def main(
    seeds: int,
    first: int,
    seed: int | None,
    nodes: int | None,
    duration: float,
    minutes: float | None,
    workers: int | None,
    again: int,
    json_path: Path | None,
    events: int,
) -> None:
    """Simulates clusters under faults, each from a seed that replays it exactly.

    Processes are killed and stopped, links cut, disks fail; in a quarter of the seeds an operator
    adds and removes members, in a fifth members lose their files and rejoin. --nodes is how many
    found the cluster. The summary says how often each kind of fault began and had an effect.

    Ends with status 1 if anything that must hold did not, and names the commands to see it again.
    Ctrl-C ends it early, with a summary.
    """
    if seed is not None:
        world = Seed(seed, nodes or SIZES[seed % len(SIZES)], duration)
        sys.exit(_show_one(world, events))  # tidy: allow exits: the program's own status
    chosen = list(seeds_from(first, seeds, nodes, duration))
    workers = workers or os.cpu_count() or 1
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failures]} failures"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("seeds", total=len(chosen), failures=0)
        failures_shown = 0
        next_line_s = time.monotonic() + LINE_EVERY_S

        def told(summary: Summary) -> None:
            nonlocal failures_shown, next_line_s
            progress.update(task, completed=summary.seeds, failures=len(summary.failures))
            for failure in summary.failures[failures_shown:FAILURES_SHOWN_MAX]:
                _print_failure(console, failure)
            failures_shown = len(summary.failures)
            if not console.is_terminal and time.monotonic() >= next_line_s:
                next_line_s = time.monotonic() + LINE_EVERY_S
                console.print(f"{summary.seeds} of {len(chosen)} seeds, {failures_shown} failures")

        summary = run_seeds(chosen, workers=workers, told=told, minutes=minutes)
        twice = [one for one in chosen if one.seed in summary.hashes][:again]
        if twice:
            progress.update(task, description=f"{len(twice)} seeds again")
            run_again(twice, summary, workers=workers)
    _print(summary)
    if json_path is not None:
        json_path.write_text(json.dumps(summary.as_json(), indent=2) + "\n")
    sys.exit(1 if summary.failures else 0)  # tidy: allow exits: the program's own status


def _show_one(seed: Seed, events: int) -> int:
    """Runs one seed and prints its last events; the status of the program."""
    world = World(seed.seed, nodes=seed.nodes, duration_s=seed.duration_s, keep=EVENTS_KEPT)
    report = world.run()
    for line in world.trace.lines(events):
        click.echo(line)
    click.echo(f"\nprofile   {world.profile.describe()}")
    click.echo(f"nodes     {world.state_line()}")
    click.echo(f"trace     {report.trace_hash}, {world.trace.events} events")
    click.echo(f"simulated {report.simulated_s:.1f} s, {report.outcomes.operations} operations")
    for violation in report.violations:
        click.echo(f"VIOLATED  {violation}")
    return 1 if report.violations else 0


def _print(summary: Summary) -> None:
    console = Console()
    outcomes, counts = summary.outcomes, summary.counts
    sizes = ", ".join(f"{count} of {n}" for n, count in sorted(summary.seeds_by_nodes.items()))
    console.print(
        f"[bold]{summary.seeds} seeds[/] ({sizes} nodes), {summary.simulated_h:.2f} simulated "
        f"hours, {summary.speed:.0f} x real time per core"
    )
    console.print(
        f"{outcomes.operations} operations: {outcomes.acknowledged} acknowledged, "
        f"{outcomes.refused} refused, {outcomes.unsure} unknown; {outcomes.reads} reads, "
        f"{outcomes.reads_failed} of them failed"
    )
    console.print(", ".join(f"{count} {name}" for name, count in counts.items()))
    faults = Table("fault", "begun", "that bit", title="Faults")
    for kind in sorted(summary.faults_begun):
        bitten = summary.faults_bitten.get(kind, 0)
        faults.add_row(kind, str(summary.faults_begun[kind]), str(bitten))
    console.print(faults)
    invariants = Table("invariant", "evaluated", "not vacuous", title="Invariants")
    for name, tally in sorted(summary.tallies.items()):
        invariants.add_row(name, str(tally.evaluated), str(tally.meaningful))
    console.print(invariants)
    if summary.run_again:
        console.print(f"{summary.run_again} seeds ran again under another hash seed")
    for failure in summary.failures[:FAILURES_SHOWN_MAX]:
        _print_failure(console, failure)
    if not summary.failures:
        # Rule of three: what zero failures in so many trials say.
        bound = 3 / max(summary.seeds, 1)
        console.print(f"no violation: at 95 % fewer than {bound:.2g} of all seeds have one")


def _print_failure(console: Console, failure: Failure) -> None:
    console.print(f"[red]VIOLATED[/] {failure.what}", highlight=False)
    console.print(f"  {failure.replay}", highlight=False)


if __name__ == "__main__":
    main()
