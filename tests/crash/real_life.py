"""A program that lives a member's life on real files and tells what was acknowledged; to be killed.

    python real_life.py DIRECTORY             # the chapters that a real disk can play
    python real_life.py DIRECTORY --recover   # only opens what is there

On standard output: `b N` before change N of the life begins, `s N` once everything up to change N
is on stable storage. A line is written at once: a reader knows it whatever happens next.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from rendezvous_raft.replication.raft.files import FileLayer, RealFiles
from rendezvous_raft.testing.durable_lives import Life, LogView, Model, Term, open_log
from rendezvous_raft.testing.durable_story import STORY
from rendezvous_raft.testing.memory_files import MemoryFiles

CHAPTERS = tuple(chapter for chapter in STORY if chapter.name in {"grow", "lag", "dispute"})
"""The others need a disk that can be made full."""


class TellingModel(Model):
    """Says what happens to it."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "synced":
            tell(f"s {value}")

    def step(self, *, log: LogView | None = None, term: Term | None = None) -> None:
        tell(f"b {len(self.logs)}")
        super().step(log=log, term=term)


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def tell_story(model: Model, files: MemoryFiles, disk: FileLayer, directory: Path) -> Model:
    """Every chapter to its end; the last one leaves without a word."""
    for chapter in CHAPTERS:
        life = Life(files, model, disk=disk, directory=directory)
        await chapter.script(life)
        model = life.model.fork()
    return model


def main() -> None:
    directory = Path(sys.argv[1])
    if "--recover" in sys.argv:
        open_log(RealFiles(), directory=directory)
    else:
        asyncio.run(tell_story(TellingModel(), MemoryFiles(), RealFiles(), directory))
    os._exit(0)  # as a process ends that is killed: nothing is closed


if __name__ == "__main__":
    main()
