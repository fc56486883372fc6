"""Rules that need no syntax: lengths, words that must not appear, links."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from tidy.tree import Finding, Source, Tree

COLUMNS_MAX = 100
FILE_LINES_MAX = 450
# These files name what the rules forbid.
SELF = ("tests/tidy", "tests/test_tidy.py")

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(root|tmp|Users)/")
ALL_INTERFACES = re.compile(r"\b0\.0\.0\.0\b")
REGISTRY = re.compile(
    r"\b((test\.)?pypi\.org|pythonhosted\.org|docker\.(io|com)|ghcr\.io|quay\.io|gcr\.io"
    r"|registry\.(npmjs|hub|k8s)\b[\w.]*|index-url)\b"
)


def columns(tree: Tree) -> Iterator[Finding]:
    """Lines of at most 100 columns, in code and in what is written by hand like code."""
    for source in tree.sources:
        like_code = source.path.endswith((".py", ".proto", ".sh", ".toml", ".js", ".css"))
        if not like_code and not source.within("scripts", ".ci"):
            continue
        # pyproject.toml holds import contracts, whose form allows no line breaks.
        if source.path == "pyproject.toml":
            continue
        for number, line in enumerate(source.lines, 1):
            if len(line) > COLUMNS_MAX:
                yield Finding(source.path, number, f"{len(line)} columns, at most {COLUMNS_MAX}")


def file_lines(tree: Tree) -> Iterator[Finding]:
    """Python files of at most 450 lines: one idea each."""
    for source in tree.python():
        if len(source.lines) > FILE_LINES_MAX:
            problem = f"{len(source.lines)} lines, at most {FILE_LINES_MAX}"
            yield Finding(source.path, 0, problem)


def unfinished(tree: Tree) -> Iterator[Finding]:
    """No notes to oneself: it is done, or it is an issue."""
    yield from _lines_with(tree, UNFINISHED, "is unfinished")


def machine_paths(tree: Tree) -> Iterator[Finding]:
    """No paths of somebody's machine."""
    yield from _lines_with(tree, MACHINE_PATH, "exists on one machine only")


def all_interfaces(tree: Tree) -> Iterator[Finding]:
    """Nothing listens on every interface, not even in an example."""
    yield from _lines_with(tree, ALL_INTERFACES, "listens on every interface")


def registries(tree: Tree) -> Iterator[Finding]:
    """Where packages and images come from is the reader's choice."""
    yield from _lines_with(tree, REGISTRY, "names a registry")


def _lines_with(tree: Tree, pattern: re.Pattern[str], problem: str) -> Iterator[Finding]:
    for source in tree.sources:
        if source.within(*SELF):
            continue
        for number, line in enumerate(source.lines, 1):
            if match := pattern.search(line):
                yield Finding(source.path, number, f"{match[0]!r} {problem}")


FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
ELSEWHERE = re.compile(r"^([a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


def links(tree: Tree) -> Iterator[Finding]:
    """Links between documents lead to files, and to headings, that exist."""
    documents = {source.path: source for source in tree.sources if source.path.endswith(".md")}
    for source in documents.values():
        for number, target in _links_of(source):
            path, _, heading = target.partition("#")
            found = posixpath.normpath(posixpath.join(posixpath.dirname(source.path), path))
            found = found if path else source.path
            if found not in tree.paths:
                yield Finding(source.path, number, f"{target!r} leads nowhere")
            elif heading and found in documents and heading not in _headings_of(documents[found]):
                yield Finding(source.path, number, f"{target!r}: no such heading")


def _without_fences(text: str) -> str:
    # Line ends stay, so that line numbers stay.
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)


def _links_of(source: Source) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_without_fences(source.text).splitlines(), 1):
        for match in LINK.finditer(re.sub(r"`[^`]*`", "", line)):
            if not ELSEWHERE.match(match[1]):
                yield number, match[1]


def _headings_of(source: Source) -> set[str]:
    """Anchors as the usual renderers make them."""
    anchors = set()
    for line in _without_fences(source.text).splitlines():
        if match := re.match(r"#{1,6}\s+(.*)", line):
            words = re.sub(r"[^\w\- ]", "", match[1].strip().lower())
            anchors.add(words.replace(" ", "-"))
    return anchors
