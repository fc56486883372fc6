"""Rules on Python syntax: lengths, names, calls and constructs that are not for us."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tidy.tree import PACKAGE, Finding, Source, Tree

FUNCTION_LINES_MAX = 70
CODE = (PACKAGE, "scripts", "chaos")
MAY_SLEEP = ("tests/integration", "tests/e2e")
MAY_EXIT = (f"{PACKAGE}/cli", f"{PACKAGE}/__main__.py")

EMPTY_WORDS = frozenset({"util", "utils", "manager", "helper", "helpers", "misc", "common"})
EMPTY_STEMS = EMPTY_WORDS | {"data", "handle", "handles"}
EMPTY_CLASS_WORDS = EMPTY_WORDS | {"data", "handle"}

EXITS = frozenset({"exit", "quit", "sys.exit", "os._exit", "os.abort"})
SLEEPS = frozenset({"time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep"})
QUEUES = frozenset(
    f"{module}.{name}"
    for module in ("queue", "asyncio", "multiprocessing")
    for name in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "JoinableQueue")
)
UNSAFE_MODULES = frozenset(
    {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
)
UNSAFE_CALLS = frozenset({"eval", "exec", "yaml.load", "yaml.load_all", "yaml.unsafe_load"})
BROAD = frozenset({"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"})


def imported_names(module: ast.Module) -> dict[str, str]:
    """What each imported name stands for: `{"sleep": "time.sleep"}`; relative imports not."""
    names: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name of an expression like `a.b.c`; empty for anything else."""
    if isinstance(node, ast.Subscript):  # asyncio.Queue[int](8)
        return dotted(node.value, names)
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        prefix = dotted(node.value, names)
        return f"{prefix}.{node.attr}" if prefix else ""
    return ""


def calls(source: Source) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the full name of what is called."""
    names = imported_names(source.syntax)
    for node in ast.walk(source.syntax):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func, names)


def function_lines(tree: Tree) -> Iterator[Finding]:
    """Functions of at most 70 lines, from `def` to the end."""
    for source in tree.python():
        for node in ast.walk(source.syntax):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    problem = f"{node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"
                    yield Finding(source.path, node.lineno, problem)


def future_annotations(tree: Tree) -> Iterator[Finding]:
    """Every module with code starts with `from __future__ import annotations`."""
    for source in tree.python():
        first, *rest = [*source.syntax.body, None]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first, *rest = rest
        if first is None:
            continue
        if not (isinstance(first, ast.ImportFrom) and first.module == "__future__"):
            yield Finding(source.path, first.lineno, "no `from __future__ import annotations`")


def empty_names(tree: Tree) -> Iterator[Finding]:
    """No module or class is called by a word that fits everything."""
    for source in tree.python():
        for part in source.path.removesuffix(".py").split("/"):
            if part in EMPTY_STEMS or EMPTY_WORDS & set(part.split("_")):
                yield Finding(source.path, 0, f"the name {part!r} says nothing")
        for node in ast.walk(source.syntax):
            if isinstance(node, ast.ClassDef):
                words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", node.name)
                if words and words[-1].lower() in EMPTY_CLASS_WORDS:
                    yield Finding(source.path, node.lineno, f"the name {node.name!r} says nothing")


def sleeping_tests(tree: Tree) -> Iterator[Finding]:
    """Tests do not sleep; `asyncio.sleep(0)`, one turn of the loop, is no sleep."""
    for source in tree.python("tests"):
        if source.within(*MAY_SLEEP):
            continue
        for call, name in calls(source):
            if name in SLEEPS and not _is_turn(call):
                yield Finding(source.path, call.lineno, f"{name} in a test")


def _is_turn(call: ast.Call) -> bool:
    first = call.args[0] if call.args else None
    return isinstance(first, ast.Constant) and first.value == 0


def swallowing(tree: Tree) -> Iterator[Finding]:
    """No error disappears: no bare `except:`, no `except Exception: pass`, by any spelling."""
    for source in tree.python():
        names = imported_names(source.syntax)
        for node in ast.walk(source.syntax):
            if isinstance(node, ast.ExceptHandler):
                if node.type is None:
                    yield Finding(source.path, node.lineno, "a bare except")
                elif _is_broad(node.type, names) and all(map(_does_nothing, node.body)):
                    yield Finding(source.path, node.lineno, "swallows every error")
        for call, name in calls(source):
            if name == "contextlib.suppress" and any(_is_broad(arg, names) for arg in call.args):
                yield Finding(source.path, call.lineno, "swallows every error")


def _is_broad(node: ast.expr, names: dict[str, str]) -> bool:
    classes = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(dotted(cls, names) in BROAD for cls in classes)


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass | ast.Continue | ast.Break)


def exits(tree: Tree) -> Iterator[Finding]:
    """Libraries never end the process; only the command line does."""
    for source in tree.python(PACKAGE):
        if source.within(*MAY_EXIT):
            continue
        for call, name in calls(source):
            if name in EXITS:
                yield Finding(source.path, call.lineno, f"{name} in a library")
        for node in ast.walk(source.syntax):
            if isinstance(node, ast.Raise) and node.exc is not None:
                raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                if isinstance(raised, ast.Name) and raised.id in {
                    "SystemExit",
                    "KeyboardInterrupt",
                }:
                    yield Finding(source.path, node.lineno, f"raises {raised.id} in a library")


def unbounded_queues(tree: Tree) -> Iterator[Finding]:
    """Every queue has a size."""
    for source in tree.python(*CODE):
        for call, name in calls(source):
            if name in QUEUES and not (_has_size(call) and not name.endswith("SimpleQueue")):
                yield Finding(source.path, call.lineno, f"{name} without a size")


def _has_size(call: ast.Call) -> bool:
    sizes = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "maxsize")]
    endless = all(isinstance(size, ast.Constant) and not size.value for size in sizes)
    return bool(sizes) and not endless


def unsafe_loading(tree: Tree) -> Iterator[Finding]:
    """Nothing that turns bytes into code: no pickle, marshal, eval, yaml.load."""
    for source in tree.python(*CODE):
        for node in ast.walk(source.syntax):
            for module in _imported_modules(node):
                if UNSAFE_MODULES & set(module.split(".")):
                    yield Finding(source.path, node.lineno, f"imports {module}")
        for call, name in calls(source):
            if name in UNSAFE_CALLS:
                yield Finding(source.path, call.lineno, f"calls {name}")


def _imported_modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)
