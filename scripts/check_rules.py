#!/usr/bin/env python3
"""Prints the rules of `docs/semantics-rules.txt` that no test names, and what names no rule.

A test names the rules that it proves by a comment within it, `# semantics: W4, G5`; so does a
scenario in `tests/**/scenarios/*.txt`. More text may follow the ids. A comment outside of a test,
or in one that is skipped, proves nothing and is a finding as well. Exit status 1 with findings.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = "docs/semantics-rules.txt"
RULE = re.compile(r"([A-Z]?\d+(?:\.\d+)?)\s+\S")
MARKER = re.compile(r"#\s*semantics:(.*)")
IDS = re.compile(r"\s*[A-Z]?\d+(?:\.\d+)?(?:\s*,\s*[A-Z]?\d+(?:\.\d+)?)*")
SKIPPED = frozenset({"skip", "xfail"})


def main() -> int:
    """Prints the findings. 0 without, 1 with some."""
    parser = argparse.ArgumentParser(description="Is every rule of the semantics tested?")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    root = parser.parse_args().root
    rules, findings = read_rules(root)
    named: Counter[str] = Counter()
    for path in sorted((root / "tests").rglob("*")):
        if path.suffix == ".py" or (path.suffix == ".txt" and path.parent.name == "scenarios"):
            place = path.relative_to(root).as_posix()
            text = path.read_text(encoding="utf-8")
            for line, ids in markers(comments(text) if path.suffix == ".py" else lines(text)):
                if not ids:
                    findings.append(f"{place}:{line}: names no rule")
                if path.suffix == ".py" and not proves(text, line):
                    findings.append(f"{place}:{line}: is not within a test that runs")
                    continue
                findings += [f"{place}:{line}: {i} is no rule" for i in ids if i not in rules]
                named.update(ids)
    findings += [f"{RULES}: no test names {i}: {what}" for i, what in rules.items() if not named[i]]
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{len(rules)} rules, named {named.total()} times by tests\n")
    return 1 if findings else 0


def read_rules(root: Path) -> tuple[dict[str, str], list[str]]:
    """The rules by id, each with the first line of its text; and what is wrong with the list."""
    rules: dict[str, str] = {}
    findings = []
    for number, line in enumerate((root / RULES).read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith(("#", " ")):
            continue  # a heading, or the rest of a rule's text
        match = RULE.match(line)
        if match is None or match[1] in rules:
            findings.append(f"{RULES}:{number}: no rule, or one that is there already: {line}")
        else:
            rules[match[1]] = line.removeprefix(match[1]).strip()
    if not rules:
        findings.append(f"{RULES}: has no rules")
    return rules, findings


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a scenario with their numbers."""
    return enumerate(text.splitlines(), 1)


def comments(text: str) -> Iterator[tuple[int, str]]:
    """The comments of a program with their lines; what a string contains is none."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def markers(places: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Lines with a marker, and the ids it names."""
    for number, line in places:
        marker = MARKER.match(line)
        if marker is not None:
            ids = IDS.match(marker[1])
            yield number, [i.strip() for i in ids[0].split(",")] if ids else []


def proves(text: str, line: int) -> bool:
    """Whether the line lies within a test, decorators included, that is not skipped."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        if node.name.startswith("test") and first <= line <= (node.end_lineno or first):
            return not any(
                isinstance(part, ast.Attribute) and part.attr in SKIPPED
                for decorator in node.decorator_list
                for part in ast.walk(decorator)
            )
    return False


if __name__ == "__main__":
    sys.exit(main())
