"""Rules on modules as a whole: none is dead, the difficult packages explain themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tidy.tree import PACKAGE, Finding, Source, Tree

EXPLAINED = ("core", "node", "replication", "monitor")
SCRIPT = re.compile(rf'^\w+ = "({PACKAGE}[\w.]*):\w+"', re.MULTILINE)
LATE_IMPORT = re.compile(r"\.?[a-z_][\w.]*(:\w+)?")
# What users, tests and programs of others start from.
PUBLIC = tuple(
    f"{PACKAGE}{name}" for name in ("", ".__main__", ".errors", ".testing", ".core.invariants")
)


def design_documents(tree: Tree) -> Iterator[Finding]:
    """Packages with a hard part have a DESIGN.md."""
    for name in EXPLAINED:
        path = f"{PACKAGE}/{name}/DESIGN.md"
        if path not in tree.paths:
            yield Finding(path, 0, "is missing")


def dead_modules(tree: Tree) -> Iterator[Finding]:
    """Every module is reached by imports from the command line or the public face."""
    modules = {module_name(source.path): source for source in tree.python(PACKAGE)}
    reached: set[str] = set()
    pending = [name for name in entry_points(tree) if name in modules]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += [found for found in references(modules[name], name) if found in modules]
    for name, source in modules.items():
        if name not in reached and not _is_empty(source):
            yield Finding(source.path, 0, "is reached from nowhere")


def test_modules(tree: Tree) -> Iterator[Finding]:
    """Files of tests have names of their own: two of one name would be one module for pytest."""
    first: dict[str, str] = {}
    for source in tree.python("tests"):
        directory, _, name = source.path.rpartition("/")
        if name == "conftest.py" or f"{directory}/__init__.py" in tree.paths:
            continue
        if name in first:
            yield Finding(source.path, 0, f"has the name of {first[name]}")
        first.setdefault(name, source.path)


def module_name(path: str) -> str:
    """The dotted name of a Python file."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def entry_points(tree: Tree) -> Iterator[str]:
    """Modules that are used from outside: the public ones, programs, the shipped test kit."""
    yield from PUBLIC
    for source in tree.sources:
        if source.path == "pyproject.toml":
            yield from SCRIPT.findall(source.text)
        elif source.within(f"{PACKAGE}/testing"):
            yield module_name(source.path)


def references(source: Source, name: str) -> Iterator[str]:
    """Modules that a module imports, at any depth, or names in a string to import them late."""
    package = name if source.path.endswith("/__init__.py") else name.rpartition(".")[0]
    # Whoever imports a module imports the packages above it.
    yield from _with_parents(name)
    for node in ast.walk(source.syntax):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = _resolve("." * node.level + (node.module or ""), package)
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and LATE_IMPORT.fullmatch(str(node.value)):
            yield _resolve(str(node.value).partition(":")[0], package)


def _resolve(target: str, package: str) -> str:
    if not target.startswith("."):
        return target
    dots = len(target) - len(target.lstrip("."))
    above = package.split(".")[: len(package.split(".")) - dots + 1]
    return ".".join([*above, target.lstrip(".")]).rstrip(".")


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _is_empty(source: Source) -> bool:
    return all(isinstance(node, ast.Expr) for node in source.syntax.body)
