"""Determinism of the core: the same history gives the same bytes on every replica.

The order in which a set is iterated depends on the hash seed of the process. A value is taken for
a set when it is written as one, annotated as one, or computed from one; that catches honest
mistakes, and the replay of one history under two hash seeds catches the rest.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from tidy.code_rules import dotted, imported_names
from tidy.tree import PACKAGE, Finding, Source, Tree

CORE = (f"{PACKAGE}/core", f"{PACKAGE}/types.py", f"{PACKAGE}/errors.py", f"{PACKAGE}/limits.py")
IMPURE_MODULES = frozenset(
    {"time", "datetime", "random", "secrets", "uuid", "os", "socket", "asyncio", "threading"}
    | {"logging", "locale", "platform", "tempfile", "pathlib", "subprocess"}
)
IMPURE_NAMES = frozenset({"hash", "id", "open", "input", "print", "globals", "locals"})
MAY_LIST_ITS_NAMES = f"{PACKAGE}/limits.py"

SET_CLASSES = frozenset({"set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"})
MAP_CLASSES = frozenset({"dict", "Dict", "Mapping", "MutableMapping", "defaultdict"})
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
LOOKUPS = frozenset({"get", "setdefault", "pop"})
ORDER_FREE = frozenset({"any", "all", "sum", "len", "min", "max", "sorted", "set", "frozenset"})
ORDERING = frozenset(
    {"list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "deque", "str", "repr"}
)
ORDERING_METHODS = frozenset({"join", "fromkeys", "extend", "extendleft", "writelines"})


def impurity(tree: Tree) -> Iterator[Finding]:
    """The core knows no time, chance, identity, environment or file."""
    for source in tree.python(*CORE):
        names = imported_names(source.syntax)
        for name in names.values():
            if name.partition(".")[0] in IMPURE_MODULES:
                yield Finding(source.path, 0, f"imports {name}")
        for node in ast.walk(source.syntax):
            if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
                continue
            if node.id in IMPURE_NAMES and source.path != MAY_LIST_ITS_NAMES:
                yield Finding(source.path, node.lineno, f"uses {node.id}")


@dataclass
class Kinds:
    """Which names of a scope, attributes and functions of the core are sets, or maps to sets."""

    names: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)

    def of_annotation(self, node: ast.expr | None) -> str:
        """`set`, `map` (to sets) or nothing."""
        if isinstance(node, ast.BinOp):
            return self.of_annotation(node.left) or self.of_annotation(node.right)
        if isinstance(node, ast.Subscript):
            if _last_word(node.value) in MAP_CLASSES and isinstance(node.slice, ast.Tuple):
                return "map" if self.of_annotation(node.slice.elts[-1]) == "set" else ""
            if _last_word(node.value) in {"Final", "ClassVar", "Optional"}:
                return self.of_annotation(node.slice)
            node = node.value
        return "set" if _last_word(node) in SET_CLASSES else ""

    def of(self, node: ast.expr | None) -> str:
        """The kind of an expression."""
        match node:
            case ast.Set() | ast.SetComp():
                return "set"
            case ast.Name():
                return self.names.get(node.id, "")
            case ast.Attribute():
                return self.attributes.get(node.attr, "")
            case ast.Subscript():
                return "set" if self.of(node.value) == "map" else ""
            case ast.NamedExpr():
                return self.of(node.value)
            case ast.IfExp():
                return self.of(node.body) or self.of(node.orelse)
            case ast.BoolOp():
                return next(filter(None, map(self.of, node.values)), "")
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.BitXor() | ast.Sub()):
                sides = (node.left, node.right)
                return "set" if any(self.of(s) == "set" or _is_view(s) for s in sides) else ""
            case ast.Call():
                return self._of_call(node)
        return ""

    def _of_call(self, node: ast.Call) -> str:
        if isinstance(node.func, ast.Name):
            known = "set" if node.func.id in {"set", "frozenset"} else ""
            return known or self.functions.get(node.func.id, "")
        if not isinstance(node.func, ast.Attribute):
            return ""
        owner, method = self.of(node.func.value), node.func.attr
        if owner == "set" and method in SET_METHODS:
            return "set"
        if owner == "map" and method in LOOKUPS:
            return "set"
        return self.functions.get(method, "")

    def learn_declarations(self, source: Source) -> None:
        """Notes attributes and functions that are annotated anywhere in a file."""
        for node in ast.walk(source.syntax):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if kind := self.of_annotation(node.returns):
                    properties = {_last_word(mark) for mark in node.decorator_list}
                    is_property = bool(properties & {"property", "cached_property"})
                    (self.attributes if is_property else self.functions)[node.name] = kind
            elif isinstance(node, ast.ClassDef):
                for line in node.body:
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                        self._learn(self.attributes, line.target.id, line.annotation)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
                self._learn(self.attributes, node.target.attr, node.annotation)
            elif isinstance(node, ast.Assign) and (kind := self.of(node.value)):
                for target in node.targets:
                    if isinstance(target, ast.Attribute):
                        self.attributes[target.attr] = kind

    def _learn(self, where: dict[str, str], name: str, annotation: ast.expr | None) -> None:
        if kind := self.of_annotation(annotation):
            where[name] = kind

    def inside(self, scope: list[ast.AST]) -> Kinds:
        """A copy that also knows the names that are bound in `scope`, to any depth."""
        kinds = Kinds(dict(self.names), self.attributes, self.functions)
        known = -1
        while known < len(kinds.names):  # a name may depend on one that is bound further down
            known = len(kinds.names)
            for top in scope:
                for node in ast.walk(top):
                    kinds._learn_binding(node)
        return kinds

    def _learn_binding(self, node: ast.AST) -> None:
        match node:
            case ast.arg():
                self._learn(self.names, node.arg, node.annotation)
            case ast.AnnAssign(target=ast.Name(id=name)):
                self._learn(self.names, name, node.annotation)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.NamedExpr(target=ast.Name(id=name)):
                if kind := self.of(node.value):
                    self.names[name] = kind
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                self._learn_loop(node.target, node.iter)

    def _learn_loop(self, target: ast.expr, over: ast.expr) -> None:
        if not (isinstance(over, ast.Call) and isinstance(over.func, ast.Attribute)):
            return
        if self.of(over.func.value) != "map":
            return
        if over.func.attr == "items" and isinstance(target, ast.Tuple):
            target = target.elts[-1]
        elif over.func.attr != "values":
            return
        if isinstance(target, ast.Name):
            self.names[target.id] = "set"


def set_order(tree: Tree) -> Iterator[Finding]:
    """The core never depends on the order of a set: use `dict[str, None]`, or `sorted`."""
    everywhere = Kinds()
    for source in tree.python(*CORE):
        everywhere.learn_declarations(source)
    for source in tree.python(*CORE):
        functions, loose = _split(source.syntax)
        outside = everywhere.inside(loose)
        for scope in (loose, *([function] for function in functions)):
            kinds = outside.inside(scope)
            for line in sorted({line for top in scope for line in _ordered_uses(top, kinds)}):
                yield Finding(source.path, line, "depends on the order of a set")


def _split(body: ast.Module | ast.ClassDef) -> tuple[list[ast.AST], list[ast.AST]]:
    """Functions and methods, and the statements around them."""
    functions: list[ast.AST] = []
    loose: list[ast.AST] = []
    for node in body.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append(node)
        elif isinstance(node, ast.ClassDef):
            inner_functions, inner_loose = _split(node)
            functions += inner_functions
            loose += inner_loose
        else:
            loose.append(node)
    return functions, loose


def _ordered_uses(top: ast.AST, kinds: Kinds) -> Iterator[int]:
    harmless = {id(node) for node in ast.walk(top) for node in _order_free_arguments(node)}
    for node in ast.walk(top):
        if any(kinds.of(part) == "set" for part in _iterated(node, harmless)):
            yield getattr(node, "lineno", 0)


def _order_free_arguments(node: ast.AST) -> Iterator[ast.AST]:
    """Comprehensions whose order nobody sees, as in `any(… for x in names)`."""
    if isinstance(node, ast.SetComp):
        yield node
    if isinstance(node, ast.Call) and _last_word(node.func) in ORDER_FREE and not node.keywords:
        yield from (arg for arg in node.args if isinstance(arg, ast.GeneratorExp | ast.ListComp))


def _iterated(node: ast.AST, harmless: set[int]) -> Iterator[ast.expr]:
    """Expressions whose order decides what `node` does."""
    match node:
        case ast.For() | ast.AsyncFor():
            yield node.iter
        case ast.ListComp() | ast.GeneratorExp() | ast.DictComp():
            if id(node) not in harmless:
                yield from (part.iter for part in node.generators)
        case ast.YieldFrom():
            yield node.value
        case ast.FormattedValue():
            yield node.value
        case ast.List() | ast.Tuple():
            yield from (part.value for part in node.elts if isinstance(part, ast.Starred))
        case ast.Assign(targets=[ast.Tuple() | ast.List() as target]):
            if len(target.elts) > 1:
                yield node.value
        case ast.Call():
            yield from _iterated_by_call(node)


def _iterated_by_call(node: ast.Call) -> Iterator[ast.expr]:
    yield from (arg.value for arg in node.args if isinstance(arg, ast.Starred))
    if isinstance(node.func, ast.Name):
        # min and max with a key break ties by order.
        ties = node.func.id in {"min", "max", "sorted"} and node.keywords
        if node.func.id in ORDERING or ties:
            yield from node.args
    elif isinstance(node.func, ast.Attribute):
        if node.func.attr in ORDERING_METHODS:
            yield from node.args
        elif node.func.attr == "pop" and not node.args:
            yield node.func.value


def _is_view(node: ast.expr) -> bool:
    """`d.keys()` and `d.items()`: ordered by themselves, sets when combined."""
    method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr
    return method in {"keys", "items"}


def _last_word(node: ast.expr | None) -> str:
    return dotted(node, {}).rpartition(".")[2] if node is not None else ""
