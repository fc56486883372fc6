"""Running many seeds, on all cores, and adding up what came of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from rendezvous_raft.testing.simulation.verdict import Tally
from rendezvous_raft.testing.simulation.workload import Outcomes
from rendezvous_raft.testing.simulation.world import Report, World

SIZES = (3, 5, 7)
"""Clusters of seeds whose size is not given, in turn."""
FAILURES_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Seed:
    """A world to run."""

    seed: int
    nodes: int
    duration_s: float

    @property
    def replay(self) -> str:
        """The command that runs it again."""
        duration = "" if self.duration_s == 30.0 else f" --duration {self.duration_s:g}"
        return f"scripts/simulate --seed {self.seed} --nodes {self.nodes}{duration}"


def seeds_from(first: int, count: int, nodes: int | None, duration_s: float) -> Iterator[Seed]:
    """Consecutive seeds; the cluster sizes take turns unless one is given."""
    for seed in range(first, first + count):
        yield Seed(seed, nodes or SIZES[seed % len(SIZES)], duration_s)


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke something."""

    what: str
    replay: str


@dataclass(slots=True)
class Summary:
    """What came of many seeds."""

    seeds: int = 0
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    seeds_by_nodes: dict[int, int] = field(default_factory=dict)
    outcomes: Outcomes = field(default_factory=Outcomes)
    tallies: dict[str, Tally] = field(default_factory=dict)
    faults_begun: dict[str, int] = field(default_factory=dict)
    faults_bitten: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    hashes: dict[int, str] = field(default_factory=dict)
    """Of the traces, by seed."""
    run_again: int = 0
    """Seeds that ran a second time, in processes with another hash seed."""

    @property
    def simulated_h(self) -> float:
        """Hours of simulated time."""
        return self.simulated_s / 3600

    @property
    def speed(self) -> float:
        """Simulated seconds per second of a core."""
        return self.simulated_s / self.cpu_s if self.cpu_s else 0.0

    def add(self, seed: Seed, report: Report, cpu_s: float) -> None:
        """Counts one more."""
        self.seeds += 1
        self.simulated_s += report.simulated_s
        self.cpu_s += cpu_s
        self.hashes[seed.seed] = report.trace_hash
        self.seeds_by_nodes[seed.nodes] = self.seeds_by_nodes.get(seed.nodes, 0) + 1
        for name, count in asdict(report.outcomes).items():
            setattr(self.outcomes, name, getattr(self.outcomes, name) + count)
        for name, tally in report.tallies.items():
            total = self.tallies.setdefault(name, Tally())
            total.evaluated += tally.evaluated
            total.meaningful += tally.meaningful
        counted = (
            (self.faults_begun, report.faults_begun),
            (self.faults_bitten, report.faults_bitten),
            (self.counts, {**report.counts, "entries": report.entries, "events": report.events}),
        )
        for totals, some in counted:
            for name, count in some.items():
                totals[name] = totals.get(name, 0) + count
        self.failures += [Failure(str(v), seed.replay) for v in report.violations]

    def as_json(self) -> dict[str, object]:
        """All of it, for a file."""
        return {
            **{name: value for name, value in asdict(self).items() if name != "hashes"},
            "simulated_h": self.simulated_h,
            "speed": self.speed,
            "operations": self.outcomes.operations,
        }


def run_seed(seed: Seed) -> tuple[Seed, Report, float]:
    """Runs one world; with the CPU time that it took, in seconds."""
    began_s = time.process_time()
    report = World(seed.seed, nodes=seed.nodes, duration_s=seed.duration_s).run()
    return seed, report, time.process_time() - began_s


def run_seeds(
    seeds: Sequence[Seed],
    *,
    workers: int,
    told: Callable[[Summary], None],
    minutes: float | None = None,
) -> Summary:
    """Runs worlds in processes of their own; stops early at an interrupt, or when time is over.

    Args:
        seeds: which.
        workers: processes.
        told: is shown the summary after each seed.
        minutes: after this no result is waited for any more.
    """
    summary = Summary()
    end_s = None if minutes is None else time.monotonic() + minutes * 60
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_ignore_interrupts) as pool:
        try:
            for seed, report, cpu_s in pool.imap_unordered(run_seed, seeds, chunksize=4):
                summary.add(seed, report, cpu_s)
                told(summary)
                if end_s is not None and time.monotonic() >= end_s:
                    break
        except KeyboardInterrupt:
            pool.terminate()
    return summary


def _ignore_interrupts() -> None:
    """The process that started the workers decides when they end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_again(seeds: Sequence[Seed], summary: Summary, *, workers: int) -> None:
    """Runs seeds a second time in processes with another hash seed, and compares the traces.

    Python takes PYTHONHASHSEED at its start, so the workers are started anew.
    """
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "1" if before != "1" else "2"
    try:
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers, initializer=_ignore_interrupts) as pool:
            for seed, report, _ in pool.imap_unordered(run_seed, seeds, chunksize=4):
                summary.run_again += 1
                if report.trace_hash != summary.hashes[seed.seed]:
                    what = f"seed {seed.seed} took another course under another hash seed"
                    summary.failures.append(Failure(what, seed.replay))
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before
