"""The house rules of STYLE.md, as far as a program can see them.

Each rule is run over the repository, and is itself tested: a breach that is planted is found, and
the nearest innocent code is not. A line may be excepted from a rule, except from the rules of the
core, by a comment `tidy: allow RULE: REASON`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tidy import code_rules, core_rules, module_rules, text_rules
from tidy.tree import Finding, Source, Tree

Rule = Callable[[Tree], Iterator[Finding]]

RULES: dict[str, Rule] = {
    "columns": text_rules.columns,
    "file-lines": text_rules.file_lines,
    "unfinished": text_rules.unfinished,
    "machine-paths": text_rules.machine_paths,
    "all-interfaces": text_rules.all_interfaces,
    "registries": text_rules.registries,
    "links": text_rules.links,
    "function-lines": code_rules.function_lines,
    "future-annotations": code_rules.future_annotations,
    "empty-names": code_rules.empty_names,
    "sleeping-tests": code_rules.sleeping_tests,
    "swallowing": code_rules.swallowing,
    "exits": code_rules.exits,
    "unbounded-queues": code_rules.unbounded_queues,
    "unsafe-loading": code_rules.unsafe_loading,
    "impurity": core_rules.impurity,
    "set-order": core_rules.set_order,
    "design-documents": module_rules.design_documents,
    "dead-modules": module_rules.dead_modules,
    "test-modules": module_rules.test_modules,
}
WITHOUT_EXCEPTIONS = {"impurity", "set-order", "design-documents", "dead-modules"}


def breaches(rule: str, tree: Tree) -> list[Finding]:
    """What a rule finds, without what is excepted."""
    sources = {source.path: source for source in tree.sources}
    found = list(RULES[rule](tree))
    if rule in WITHOUT_EXCEPTIONS:
        return found
    return [
        finding
        for finding in found
        if finding.path not in sources or not sources[finding.path].allows(rule, finding.line)
    ]


@pytest.fixture(scope="module")
def repository() -> Tree:
    return Tree.read()


@pytest.mark.parametrize("rule", RULES)
def test_repository(rule: str, repository: Tree) -> None:
    found = breaches(rule, repository)
    if found:
        pytest.fail(f"{RULES[rule].__doc__}\n" + "\n".join(map(str, found)), pytrace=False)


def test_the_repository_is_looked_at(repository: Tree) -> None:
    paths = {source.path for source in repository.sources}
    assert {"pyproject.toml", "scripts/check", ".ci/run", "tests/test_tidy.py"} <= paths
    assert len(list(repository.python("rendezvous_raft"))) >= 10
    assert not any("_proto/" in path or ".venv" in path for path in paths)


CORE = "rendezvous_raft/core/example.py"
NODE = "rendezvous_raft/node/example.py"
SERVER = "rendezvous_raft/server/example.py"
UNIT_TEST = "tests/node/test_example.py"

# (rule, path, breach). One file each.
PLANTED = [
    ("columns", NODE, "x = '" + "y" * 100 + "'\n"),
    ("columns", "proto/a.proto", "// " + "y" * 100),
    ("file-lines", NODE, "x = 1\n" * 451),
    ("file-lines", UNIT_TEST, "x = 1\n" * 451),
    ("unfinished", NODE, "# TODO: think\n"),
    ("unfinished", "README.md", "FIXME\n"),
    ("machine-paths", "README.md", "cd /tmp/checkout\n"),
    ("machine-paths", SERVER, "PATH = '/tmp/x'\n"),
    ("machine-paths", "deploy/x.service", "ExecStart=/root/bin/x\n"),
    ("all-interfaces", SERVER, "HOST = '0.0.0.0'\n"),
    ("all-interfaces", UNIT_TEST, "bind('0.0.0.0:0')\n"),
    ("registries", "Dockerfile", "FROM quay.io/x\n"),
    ("registries", "README.md", "pip install --index-url x\n"),
    ("links", "README.md", "[design](docs/none.md)\n"),
    ("links", "docs/a.md", "see [x](../README.md) there\n"),
    ("links", "README.md", "# One\n[x](#two)\n"),
    ("function-lines", NODE, "def f():\n" + "    x = 1\n" * 70),
    ("function-lines", UNIT_TEST, "class A:\n  async def f():\n" + "    x = 1\n" * 70),
    ("future-annotations", NODE, '"""Text."""\nimport x\n'),
    ("future-annotations", NODE, "x = 1\n"),
    ("empty-names", "rendezvous_raft/node/utils.py", ""),
    ("empty-names", "rendezvous_raft/helpers/a.py", ""),
    ("empty-names", "tests/grpc_helpers.py", ""),
    ("empty-names", "rendezvous_raft/data.py", ""),
    ("empty-names", NODE, "class LeaseManager: pass\n"),
    ("empty-names", NODE, "class HTTPHandle: pass\n"),
    ("sleeping-tests", UNIT_TEST, "import time\ntime.sleep(1)\n"),
    ("sleeping-tests", UNIT_TEST, "from asyncio import sleep as nap\nawait nap(0.1)\n"),
    ("sleeping-tests", "tests/conftest.py", "import asyncio as a\na.sleep(delay)\n"),
    ("swallowing", NODE, "try: f()\nexcept: g()\n"),
    ("swallowing", NODE, "try: f()\nexcept Exception: pass\n"),
    ("swallowing", UNIT_TEST, "try: f()\nexcept (KeyError, BaseException): ...\n"),
    ("swallowing", NODE, "for x in y:\n try: f()\n except Exception:\n  'why'\n  continue\n"),
    ("swallowing", NODE, "import contextlib\nwith contextlib.suppress(Exception): f()\n"),
    ("exits", NODE, "exit(1)\n"),
    ("exits", SERVER, "import sys as s\ns.exit()\n"),
    ("exits", SERVER, "from os import _exit\n_exit(1)\n"),
    ("exits", SERVER, "raise SystemExit(3)\n"),
    ("exits", "rendezvous_raft/client/__init__.py", "quit()\n"),
    ("unbounded-queues", NODE, "import asyncio\nq = asyncio.Queue()\n"),
    ("unbounded-queues", NODE, "import asyncio\nq = asyncio.Queue[int](maxsize=0)\n"),
    ("unbounded-queues", NODE, "from queue import SimpleQueue\nq = SimpleQueue()\n"),
    ("unbounded-queues", NODE, "import queue\nq = queue.PriorityQueue(0)\n"),
    ("unsafe-loading", NODE, "import pickle\n"),
    ("unsafe-loading", NODE, "from pysyncobj.pickle import loads\n"),
    ("unsafe-loading", NODE, "from pysyncobj import pickle\n"),
    ("unsafe-loading", NODE, "eval('1')\n"),
    ("unsafe-loading", NODE, "import yaml\nyaml.load(f)\n"),
    ("impurity", CORE, "import time\n"),
    ("impurity", CORE, "from datetime import datetime\n"),
    ("impurity", CORE, "import os.path\n"),
    ("impurity", CORE, "def f():\n    import random\n"),
    ("impurity", CORE, "x = hash('a')\n"),
    ("impurity", CORE, "xs.sort(key=id)\n"),
    ("impurity", "rendezvous_raft/types.py", "from uuid import uuid4\n"),
    ("design-documents", CORE, ""),
    ("dead-modules", NODE, "x = 1\n"),
]

# Each is a breach of set-order, as a statement in a function of the core.
PLANTED_ORDERS = [
    "for x in {1, 2}: pass",
    "for x in set(xs): pass",
    "[x for x in frozenset(xs)]",
    "{x: 1 for x in {y for y in xs}}",
    "min(x for x in names if x); list(names)",
    "sorted(names, key=len)",
    "tuple(names | others)",
    "','.join(names)",
    "dict.fromkeys(names)",
    "names.pop()",
    "first, second = names",
    "[*names]",
    "f(*names)",
    "f'{names}'",
    "next(iter(names))",
    "for x in (names or others): pass",
    "for x in a.keys() - b.keys(): pass",
    "for x in names.union(others): pass",
    "for x in self.regions: pass",
    "for x in state.regions_by_service['a']: pass",
    "for x in state.regions_by_service.get('a', ()): pass",
    "for found in state.regions_by_service.values():\n        list(found)",
    "return [x for k, found in state.regions_by_service.items() for x in found]",
    "for x in open_regions(): pass",
    "later = names\n    for x in later: pass",
    "yield from names",
]
INNOCENT_ORDERS = [
    "for x in sorted(names): pass",
    "for x in ordered: pass",
    "return 'a' in names and len(names) > 1",
    "return any(x for x in names) or max(len(x) for x in names)",
    "return {x + 1 for x in names}",
    "return sorted(x for x in names | others)",
    "names.add('a'); names.discard('b'); names |= others",
    "for x in a.keys(): pass",
    "for k, found in state.regions_by_service.items(): print(k, len(found))",
    "mask = mask & ~bit",
    "(only,) = names",
    "return table.pop('a')",
]
SCOPE = """
class State:
    regions: set[str]
    regions_by_service: dict[str, set[str]]
    table: dict[str, int]
def open_regions() -> frozenset[str]: ...
def f(self, names: set[str], others: frozenset[int] | None, ordered: list[str], mask: int):
    {statement}
"""


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED)
def test_planted_breach_is_found(rule: str, path: str, text: str) -> None:
    assert breaches(rule, Tree.of(Source(path, text)))


def test_every_rule_has_a_planted_breach() -> None:
    elsewhere = {"set-order", "test-modules"}
    assert {rule for rule, _, _ in PLANTED} | elsewhere == set(RULES)


@pytest.mark.parametrize("statement", PLANTED_ORDERS)
def test_planted_order_is_found(statement: str) -> None:
    source = Source(CORE, SCOPE.replace("{statement}", statement))
    assert len(breaches("set-order", Tree.of(source))) == 1


@pytest.mark.parametrize("statement", INNOCENT_ORDERS)
def test_innocent_order_is_left_alone(statement: str) -> None:
    source = Source(CORE, SCOPE.replace("{statement}", statement))
    assert not breaches("set-order", Tree.of(source))


def test_order_of_a_set_matters_at_the_top_level_and_in_classes_too() -> None:
    source = Source(CORE, "NAMES = {1, 2}\nclass A:\n    names = tuple(NAMES)\nx = [*NAMES]\n")
    assert [finding.line for finding in breaches("set-order", Tree.of(source))] == [3, 4]


def test_order_of_a_set_declared_in_another_file_is_found() -> None:
    declaration = Source("rendezvous_raft/core/model.py", "class A:\n    regions: set[str]\n")
    use = Source(CORE, "def f(a):\n    return list(a.regions)\n")
    assert [finding.path for finding in breaches("set-order", Tree.of(declaration, use))] == [CORE]


# (rule, path, innocent text): what a rule must not complain about.
INNOCENT = [
    ("columns", "README.md", "y" * 101),
    ("columns", NODE, "x" * 100),
    ("machine-paths", "README.md", "https://example.org/work/x and network/tmp/y\n"),
    ("registries", NODE, "registry.register(metric)\n"),
    (
        "links",
        "README.md",
        "# The end\n[a](https://a.b) [b](#the-end) `[c](d)`\n```\n[e](f)\n```\n",
    ),
    ("function-lines", NODE, "def f():\n" + "    x = 1\n" * 69),
    ("future-annotations", NODE, '"""Text."""\n'),
    ("future-annotations", NODE, '"""Text."""\nfrom __future__ import annotations\nx = 1\n'),
    ("empty-names", NODE, "class DatabaseProbe: pass\n"),
    ("sleeping-tests", UNIT_TEST, "import asyncio\nawait asyncio.sleep(0)\n"),
    ("sleeping-tests", "tests/integration/test_x.py", "import time\ntime.sleep(1)\n"),
    ("swallowing", NODE, "try: f()\nexcept KeyError: pass\n"),
    ("swallowing", NODE, "try: f()\nexcept Exception as error:\n    report(error)\n"),
    ("exits", "rendezvous_raft/cli/app.py", "import sys\nsys.exit(1)\n"),
    ("exits", NODE, "connection.exit()\n"),
    ("unbounded-queues", NODE, "import asyncio\nq = asyncio.Queue(limits.queue_len_max)\n"),
    ("unsafe-loading", NODE, "import re\nre.compile('a'); policy.eval(x)\n"),
    ("unsafe-loading", NODE, "import pickle  # tidy: allow unsafe-loading: refuses every load\n"),
    ("impurity", CORE, "import sys\nidentity = sys.intern('id')\nx.time = 1\n"),
    ("impurity", NODE, "import time\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), INNOCENT)
def test_innocent_code_is_left_alone(rule: str, path: str, text: str) -> None:
    assert not breaches(rule, Tree.of(Source(path, text)))


def test_an_exception_needs_a_reason_and_the_rule_by_name() -> None:
    for comment in (
        "tidy: allow exits:",
        "tidy: allow exits: x",
        "tidy: allow columns: " + "a" * 9,
    ):
        source = Source(NODE, f"exit(1)  # {comment}\n")
        assert breaches("exits", Tree.of(source))


def test_the_core_has_no_exceptions() -> None:
    source = Source(CORE, "x = hash('a')  # tidy: allow impurity: it would be so convenient\n")
    assert breaches("impurity", Tree.of(source))


def test_modules_are_reached_directly_late_and_relatively() -> None:
    tree = Tree.of(
        Source("pyproject.toml", 'rendezvous = "rendezvous_raft.cli.app:main"\n'),
        Source("rendezvous_raft/__init__.py", 'LATE = {"Client": ".client._sync"}\n'),
        Source("rendezvous_raft/client/__init__.py", "from ._errors import x\n"),
        Source("rendezvous_raft/client/_sync.py", "x = 1\n"),
        Source("rendezvous_raft/client/_errors.py", "x = 1\n"),
        Source(
            "rendezvous_raft/cli/app.py", "def f():\n    from rendezvous_raft.node import wait\n"
        ),
        Source("rendezvous_raft/node/wait.py", "import rendezvous_raft.core.machine\n"),
        Source("rendezvous_raft/core/machine.py", "x = 1\n"),
        Source("rendezvous_raft/core/forgotten.py", "import rendezvous_raft.core.lost\n"),
        Source("rendezvous_raft/core/lost.py", "import rendezvous_raft.core.forgotten\n"),
    )
    dead = {finding.path for finding in breaches("dead-modules", tree)}
    assert dead == {"rendezvous_raft/core/forgotten.py", "rendezvous_raft/core/lost.py"}


def test_two_test_modules_of_one_name_are_found() -> None:
    names = ["tests/a/fakes.py", "tests/b/fakes.py", "tests/a/conftest.py", "tests/b/conftest.py"]
    names += ["tests/c/__init__.py", "tests/c/fakes.py", "rendezvous_raft/core/fakes.py"]
    found = breaches("test-modules", Tree.of(*(Source(name, "") for name in names)))
    assert [finding.path for finding in found] == ["tests/b/fakes.py"]
