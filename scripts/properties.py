#!/usr/bin/env python3
"""Calls three nodes at random, with faults, and compares what they do with a model of one page.

The rules and properties are those of tests/service (see its DESIGN.md): clients, monitors and
waiters call the nodes; nodes lag, are cut off, crash, lose leaders and proposals; all in one
process and in virtual time. An example that fails is made as short as possible and printed as
lines to read. At the end stands how often each rule was taken, and how often each property was
looked at and could have failed.

Exit status 0 if everything held, 1 if something did not, 2 usage. The seed replays a run.
"""

from __future__ import annotations

import argparse
import importlib
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis.stateful import run_state_machine_as_test
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "service"))
Service: Any = importlib.import_module("machine").Service
TALLY: Any = importlib.import_module("steps").TALLY

PHASES = (hypothesis.Phase.generate, hypothesis.Phase.shrink)
PLAIN_LINE_S = 10.0
"""Without a terminal, progress is a line this often."""


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="scripts/properties",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--examples", type=_positive, default=200, metavar="N", help="[200]")
    parser.add_argument(
        "--steps", type=_positive, default=50, metavar="N", help="most steps of an example [50]"
    )
    parser.add_argument("--seed", type=int, help="of all chance; printed if it is not given")
    parser.add_argument(
        "--no-shrinking", action="store_true", help="print a failing example as it was found"
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main() -> int:
    """Runs the examples; the status of the program."""
    asked = arguments()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    replay = f"scripts/properties --examples {asked.examples} --steps {asked.steps} --seed {seed}"
    print(f"seed: {seed} (replay with {replay})", flush=True)
    settings = hypothesis.settings(
        max_examples=asked.examples,
        stateful_step_count=asked.steps,
        phases=PHASES[: 1 if asked.no_shrinking else 2],
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    began_s = time.process_time()
    broken: BaseException | None = None
    with _progress(asked.examples):
        try:
            run_state_machine_as_test(hypothesis.seed(seed)(Service), settings=settings)
        except AssertionError as error:
            broken = error
        except KeyboardInterrupt:
            print("interrupted")
    _print(time.process_time() - began_s)
    if broken is None:
        return 0
    print(f"\nVIOLATED {broken}")
    print("\n".join(getattr(broken, "__notes__", ())))
    print(replay)
    return 1


def _progress(examples: int) -> Progress:
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[steps]} steps"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = progress.add_task("examples", total=examples, steps=0)
    last_s = time.monotonic()

    def told() -> None:
        nonlocal last_s
        steps = TALLY.rules.total()
        progress.update(task, completed=TALLY.examples, steps=steps)
        if not console.is_terminal and time.monotonic() >= last_s + PLAIN_LINE_S:
            last_s = time.monotonic()
            print(f"{TALLY.examples} examples, {steps} steps", flush=True)

    TALLY.told = told
    return progress


def _print(cpu_s: float) -> None:
    examples, steps = TALLY.examples, TALLY.rules.total()
    console = Console()
    console.print(
        f"{examples} examples, {steps} steps, {cpu_s:.0f} s of CPU, "
        f"{1000 * cpu_s / max(examples, 1):.0f} ms an example"
    )
    rules = Table("rule", "steps", title="Rules")
    for name, count in sorted(TALLY.rules.items()):
        rules.add_row(name, str(count))
    console.print(rules)
    properties = Table("property", "looked at", "not vacuous", title="Properties")
    for name, count in sorted(TALLY.looked.items()):
        properties.add_row(name, str(count), str(TALLY.meaningful[name]))
    console.print(properties)
    happened = Table("what happened", "times", title="Ends of calls, and what else was seen")
    for name, count in sorted(TALLY.seen.items()):
        happened.add_row(name, str(count))
    console.print(happened)


if __name__ == "__main__":
    sys.exit(main())
