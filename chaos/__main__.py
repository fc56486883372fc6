"""`python -m chaos kill`: see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chaos import kill
from chaos.report import as_values, summary

LINE_EVERY = 20
"""Kills, where there is no terminal for a progress bar."""
EXIT_CODES = {"pass": 0, "fail": 1, "invalid": 3}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "kill",
        help="SIGKILL of real nodes under load",
        description=kill.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 passed, 1 something was lost or did not heal, 3 proves nothing.",
    )
    command.add_argument("--nodes", type=int, default=3, help="an odd number from 3 on")
    command.add_argument("--kills", type=int, default=200, help="of one node, half the leader")
    command.add_argument("--all-kills", type=int, default=20, help="of all nodes at once")
    command.add_argument("--rate", type=float, default=300.0, help="operations/s; 0: unlimited")
    command.add_argument("--seed", type=int, default=None, help="of the victims and the moments")
    command.add_argument("--json", type=Path, default=None, metavar="FILE", help="the result")
    command.add_argument("--data-dir", type=Path, default=None, help="new; kept afterwards")
    return parser.parse_args(arguments)


def main() -> int:
    """Runs it, and says what came of it."""
    options = parse_arguments()
    directory = options.data_dir or Path(tempfile.mkdtemp(prefix="rendezvous-chaos-"))
    plan = kill.KillPlan(
        seed=secrets.randbits(32) if options.seed is None else options.seed,
        data_dir=directory,
        nodes=options.nodes,
        kills=options.kills,
        all_kills=options.all_kills,
        rate=options.rate,
    )
    result = _run(plan)
    for line in summary(result):
        print(line)
    if options.json is not None:
        options.json.write_text(json.dumps(as_values(result), indent=2) + "\n", encoding="utf-8")
    if options.data_dir is None and result.verdict() == "pass":
        shutil.rmtree(directory)
    else:
        print(f"files and logs of the nodes: {directory}")
    return EXIT_CODES[result.verdict()]


def _run(plan: kill.KillPlan) -> kill.KillResult:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
    )
    console = Console(stderr=True)
    done = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("kills", total=plan.kills + plan.all_kills, now=f"seed {plan.seed}")

        def progress(text: str) -> None:
            nonlocal done
            bar.update(task, advance="killed" in text, now=text)
            done += "killed" in text
            if not console.is_terminal and "killed" in text and done % LINE_EVERY == 0:
                console.print(f"{done} of {plan.kills + plan.all_kills}: {text}")

        return asyncio.run(kill.run(plan, progress))


if __name__ == "__main__":
    sys.exit(main())
