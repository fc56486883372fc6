#!/usr/bin/env python3
"""Ends a member's files at every call that changes or syncs something, damages them, and judges.

Crash points: a story of one member's files is ended before each of its calls, by a kill, in the
middle of a write, and by power losses; the next life must have everything that was acknowledged,
and so must the one after a second kill during its recovery.

Damages: single bits, tears, lost sectors and zeros in the files of random lives; each must be
harmless, or refused and named.

Exit status 0 if everything held, 1 if something did not (with what replays it), 2 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import secrets
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rendezvous_raft.testing.crash_points import POINTS_AT_ONCE, Failure, Judge, record, sample
from rendezvous_raft.testing.damages import DamageJudge
from rendezvous_raft.testing.durable_lives import chance_of

SAMPLE = 100
FAILURES_SHOWN = 10


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="scripts/crash_points",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--all", action="store_true", help="judge every crash point")
    amount.add_argument(
        "--sample", type=int, metavar="N", help=f"one of each kind, and N more [{SAMPLE}]"
    )
    amount.add_argument(
        "--point", type=int, action="append", metavar="N", help="judge this one; may be repeated"
    )
    order = parser.add_mutually_exclusive_group()
    order.add_argument("--inline", action="store_true", help="only with syncs that run at once")
    order.add_argument("--lagging", action="store_true", help="only with syncs between writes")
    parser.add_argument("--power-losses", type=int, default=3, metavar="N", help="each point [3]")
    parser.add_argument(
        "--every-second", action="store_true", help="a second kill at every call of each recovery"
    )
    parser.add_argument("--damages", type=int, metavar="N", help="do N random damages")
    parser.add_argument("--damage", type=int, metavar="N", help="do this one")
    parser.add_argument("--seed", type=int, help="of all chance; printed if it is not given")
    return parser.parse_args()


async def run(options: argparse.Namespace, console: Console) -> list[Failure]:
    """Does what was asked, and prints what was seen."""
    failures: list[Failure] = []
    asked_for_points = options.all or options.point or options.sample is not None
    if asked_for_points or (options.damages is None and options.damage is None):
        for lagging in (False, True):
            if not (options.inline and lagging) and not (options.lagging and not lagging):
                failures += await judge_points(options, console, lagging=lagging)
    if options.damages is not None or options.damage is not None:
        failures += await judge_damages(options, console)
    return failures


async def judge_points(
    options: argparse.Namespace, console: Console, *, lagging: bool
) -> list[Failure]:
    """Judges the points that were asked for in one order of syncs."""
    try:
        _, calls = await record((), lagging=lagging)
    except Exception as error:  # noqa: BLE001 (its own power losses are judged like any other)
        return [Failure("the story cannot be told to its end", "--sample 0", error)]
    numbers = chosen(options, calls, f"{options.seed} {lagging}")
    judge = Judge(
        options.seed,
        power_losses=options.power_losses,
        every_second=options.every_second,
        lagging=lagging,
    )
    order = "between writes" if lagging else "at once"
    with progress(console) as bar:
        task = bar.add_task(f"crash points, syncs {order}", total=len(numbers))
        for start in range(0, len(numbers), POINTS_AT_ONCE):
            points, _ = await record(numbers[start : start + POINTS_AT_ONCE], lagging=lagging)
            for point in points:
                await judge.judge(point)
                bar.advance(task)
    title = f"crash points, syncs {order}: {len(numbers)} of {len(calls)} boundaries"
    deaths = ", ".join(f"{count} by {way}" for way, count in sorted(judge.deaths.items()))
    table = Table("boundary before", "judged", title=title, title_justify="left")
    for kind, count in sorted(judge.points.items()):
        table.add_row(kind, str(count))
    console.print(table)
    console.print(
        f"{sum(judge.deaths.values())} deaths judged ({deaths}), each with a power loss after it; "
        f"{judge.second_kills} second kills during recovery; {judge.cuts} torn tails cut; "
        f"{judge.starved} starts refused until the disk had room; "
        f"{len(judge.failures)} failures",
        soft_wrap=True,
    )
    return judge.failures


def chosen(options: argparse.Namespace, calls: Sequence[str], seed: str) -> Sequence[int]:
    """The numbers of the points to judge."""
    if options.all:
        return range(len(calls))
    if options.point:
        return sorted(number for number in options.point if number < len(calls))
    count = SAMPLE if options.sample is None else options.sample
    return sample(calls, count, chance_of(seed))


async def judge_damages(options: argparse.Namespace, console: Console) -> list[Failure]:
    """Does the damages that were asked for."""
    one = options.damage is not None
    numbers: Sequence[int] = [options.damage] if one else range(options.damages)
    judge = DamageJudge(options.seed)
    with progress(console) as bar:
        task = bar.add_task("damages", total=len(numbers))
        for number in numbers:
            await judge.judge(number)
            bar.advance(task)
    table = Table("file", "damage", "refused", "harmless", title="damages", title_justify="left")
    sums: collections.Counter[str] = collections.Counter()
    for (file, damage, end), count in judge.ends.items():
        sums[end] += count
        del file, damage
    for file, damage in sorted({(file, damage) for file, damage, _ in judge.ends}):
        counts = (judge.ends[file, damage, end] for end in ("refused", "harmless"))
        table.add_row(file, damage, *map(str, counts))
    console.print(table)
    console.print(
        f"{len(numbers)} damages: {sums['refused']} refused and named, {sums['harmless']} "
        f"harmless, {len(judge.failures)} failures"
    )
    return judge.failures


def progress(console: Console) -> Progress:
    """A bar that is drawn on terminals only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )


def main() -> int:
    """The script."""
    options = arguments()
    options.seed = secrets.randbits(32) if options.seed is None else options.seed
    console = Console()
    console.print(f"seed: {options.seed}")
    started_s = time.process_time()
    failures = asyncio.run(run(options, console))
    console.print(f"{time.process_time() - started_s:.1f} s of CPU time")
    for failure in failures[:FAILURES_SHOWN]:
        console.print(f"FAILED {failure.point}: {failure.error!r}", markup=False, soft_wrap=True)
        console.print(f"  replay: scripts/crash_points {failure.replay}", soft_wrap=True)
    if len(failures) > FAILURES_SHOWN:
        console.print(f"… and {len(failures) - FAILURES_SHOWN} more")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
