"""The public face: what is in it, what it costs to import, and how type checkers see it."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import rendezvous_raft
from rendezvous_raft import errors, types
from rendezvous_raft.client import results

ROOT = Path(__file__).parent.parent

PUBLIC = [
    "AlreadyExists",
    "AsyncClient",
    "AttemptEnded",
    "AttemptStarted",
    "BranchDescription",
    "BranchKind",
    "BranchNotFound",
    "BranchSpec",
    "CheckResult",
    "Client",
    "CloseBranchResult",
    "CloseBranchesResult",
    "CloseResult",
    "CloseSpec",
    "ClusterDescription",
    "Consistency",
    "DeadlineExceeded",
    "Dependencies",
    "DigestResult",
    "Disconnected",
    "Draining",
    "Hooks",
    "MemberSpec",
    "InternalError",
    "InvalidArgument",
    "LeaderChanged",
    "LimitExceeded",
    "MemberDescription",
    "NoLeader",
    "NotFound",
    "NotReady",
    "OpenBranch",
    "OutcomeUnknown",
    "Overloaded",
    "PermissionDenied",
    "ProposalTimeout",
    "ReadOnly",
    "RegionStatus",
    "RegionStatuses",
    "RegisterBranchResult",
    "RegisterBranchesResult",
    "RegisterRequestResult",
    "RendezvousContext",
    "RendezvousError",
    "RequestDescription",
    "RequestExpired",
    "RequestNotFound",
    "RequestPage",
    "RequestScope",
    "RequestSummary",
    "RetryPolicy",
    "Role",
    "Standing",
    "ScopeDescription",
    "ServiceNotFound",
    "SnapshotResult",
    "Status",
    "SubscriptionEvent",
    "SubscriptionEventKind",
    "SubscriptionOverflow",
    "Unauthenticated",
    "Unavailable",
    "Verdict",
    "WaitOutcome",
    "WaitResult",
    "WaiterDescription",
    "current_context",
    "use_context",
]


def test_the_public_names_are_pinned() -> None:
    assert sorted(rendezvous_raft.__all__) == sorted(PUBLIC)
    assert rendezvous_raft.__all__ == sorted(rendezvous_raft.__all__)
    assert set(PUBLIC) <= set(dir(rendezvous_raft))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(rendezvous_raft, name)
    assert inspect.getdoc(value)
    assert value.__name__ == name


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(inspect.getsource(rendezvous_raft))
    checked = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        (statement.module, alias.name)
        for statement in checked.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    lazy = {(module, name) for name, module in rendezvous_raft._MODULE_OF.items()}
    assert seen == lazy
    assert {name for _, name in lazy} == set(PUBLIC)


def test_every_error_enum_and_result_is_public() -> None:
    assert {cls.__name__ for cls in errors.all_error_classes().values()} <= set(PUBLIC)
    enums = {name for name, value in vars(types).items() if inspect.isclass(value)} - {"NewType"}
    assert enums <= set(PUBLIC)
    defined = {
        name
        for name, value in vars(results).items()
        if inspect.isclass(value) and value.__module__ == results.__name__
    }
    assert defined <= set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        rendezvous_raft.Klient  # noqa: B018


def loaded_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


HEAVY = {"pysyncobj", "pydantic", "rich", "msgpack", "uvloop", "aiohttp", "structlog", "click"}


def test_importing_the_package_loads_next_to_nothing() -> None:
    loaded = loaded_after("import rendezvous_raft")
    assert "rendezvous_raft" in loaded
    assert not loaded & (HEAVY | {"grpc", "google.protobuf", "asyncio"})


@pytest.mark.parametrize("name", ["BranchNotFound", "Status", "current_context"])
def test_errors_words_and_context_load_no_network(name: str) -> None:
    loaded = loaded_after(f"from rendezvous_raft import {name}")
    assert "rendezvous_raft" in loaded
    assert not loaded & (HEAVY | {"grpc", "google.protobuf"})


def test_the_clients_load_only_what_they_need() -> None:
    loaded = loaded_after("from rendezvous_raft import AsyncClient, Client")
    assert "grpc" in loaded
    assert not loaded & HEAVY
    package = {name for name in loaded if name.startswith("rendezvous_raft.")}
    assert {name.split(".")[1] for name in package} == {
        "_proto", "client", "context", "errors", "limits", "types",
    }  # fmt: skip


def test_examples_in_docstrings_run() -> None:
    import doctest

    attempted = 0
    modules = ["context", "client._base", "client.hooks", "client.arguments"]
    for name in modules:
        module = importlib.import_module(f"rendezvous_raft.{name}")
        outcome = doctest.testmod(module)
        assert outcome.failed == 0
        attempted += outcome.attempted
    assert attempted >= 8


@pytest.mark.slow
def test_the_public_api_is_typed(pytestconfig: pytest.Config) -> None:
    """mypy, as strict as it can be, sees the types that applications rely on, and our values."""
    pytest.importorskip("mypy")
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("mypy")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={cache}", "tests/typing"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stdout
