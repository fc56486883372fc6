"""The files that the rules look at, and what a rule says of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "rendezvous_raft"
IGNORED = re.compile(
    r"(^|/)(\.git|\.venv[^/]*|build|dist|\.\w+_cache|\.hypothesis|__pycache__"
    r"|rendezvous-demo[^/]*)(/|$)"
)
NOT_TEXT = frozenset({".svg", ".png", ".gif", ".pyc", ".bin", ".zip", ".ico"})
GENERATED = f"{PACKAGE}/_proto/"
ALLOWED = re.compile(r"tidy: allow ([\w-]+): \S.{9,}")


@dataclass(frozen=True)
class Finding:
    """One breach of a rule. `line` is 0 when it concerns a file as a whole."""

    path: str
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.problem}"


@dataclass(frozen=True)
class Source:
    """A text file by its path from the root of the repository."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """Without line ends."""
        return self.text.splitlines()

    @cached_property
    def syntax(self) -> ast.Module:
        """The parsed file; only for Python."""
        return ast.parse(self.text, self.path)

    @property
    def is_python(self) -> bool:
        """Whether a Python rule can look at it."""
        return self.path.endswith(".py")

    def within(self, *directories: str) -> bool:
        """Whether it lies below one of `directories`, or is that file."""
        return any(self.path == name or self.path.startswith(f"{name}/") for name in directories)

    def allows(self, rule: str, line: int) -> bool:
        """Whether the line says `tidy: allow RULE: REASON`, with a reason that is one."""
        if not 1 <= line <= len(self.lines):
            return False
        match = ALLOWED.search(self.lines[line - 1])
        return match is not None and match[1] == rule


@dataclass(frozen=True)
class Tree:
    """All text files, and the paths of everything that exists, directories included."""

    sources: tuple[Source, ...]
    paths: frozenset[str]

    @classmethod
    def of(cls, *sources: Source) -> Tree:
        """A tree of these files alone."""
        paths = {source.path for source in sources}
        for source in sources:
            paths.update(str(parent) for parent in PurePosixPath(source.path).parents)
        return cls(sources, frozenset(paths))

    @classmethod
    def read(cls, root: Path = ROOT) -> Tree:
        """The repository as it lies on the disk, without what is made or generated."""
        sources: list[Source] = []
        paths: set[str] = {"."}
        for file in sorted(root.rglob("*")):
            path = file.relative_to(root).as_posix()
            if IGNORED.search(path):
                continue
            paths.add(path)
            if file.is_file() and file.suffix not in NOT_TEXT and not path.startswith(GENERATED):
                content = file.read_bytes()
                if b"\0" not in content:  # golden records and the like are no text
                    sources.append(Source(path, content.decode("utf-8")))
        return cls(tuple(sources), frozenset(paths))

    def python(self, *directories: str) -> Iterator[Source]:
        """The Python files below `directories`, or all."""
        for source in self.sources:
            if source.is_python and (not directories or source.within(*directories)):
                yield source
