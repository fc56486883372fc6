from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from fake_cluster import FakeCluster, Invoke

from rendezvous_raft.cli.app import COMMANDS, app
from rendezvous_raft.cli.durations import duration_text
from rendezvous_raft.cli.exits import ExitCode, next_step_for
from rendezvous_raft.cli.output import OutputFormat, Sheet, print_answer, to_json
from rendezvous_raft.errors import all_error_classes


def test_help_lists_every_command_in_its_section(invoke: Invoke) -> None:
    text = invoke("--help").stdout
    for command in COMMANDS:
        assert f"{command.section}:" in text
        assert f"  {command.name} " in text


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += leaves(command, (*path, name))
        else:
            found.append((*path, name))
    return found


@pytest.mark.parametrize("path", leaves(app), ids=" ".join)
def test_every_command_explains_itself_and_has_a_json_twin(
    invoke: Invoke, path: tuple[str, ...]
) -> None:
    outcome = invoke(*path, "--help")
    assert outcome.exit_code == ExitCode.OK
    assert "--output [table|json|jsonl|plain]" in outcome.stdout
    assert len(outcome.stdout.splitlines()) > 5
    assert "\\b" not in outcome.stdout, (
        "a paragraph that click must not fold stands in a raw string"
    )


def test_an_unknown_command_is_a_usage_error(invoke: Invoke) -> None:
    assert invoke("levitate").exit_code == ExitCode.USAGE


def test_shared_options_stand_in_both_places(invoke: Invoke, cluster: FakeCluster) -> None:
    before = invoke("-o", "json", "--endpoints", "127.0.0.1:7610", "request", "show", "r1")
    after = invoke("request", "show", "r1", "-o", "json", "--endpoints", "127.0.0.1:7610")
    assert json.loads(before.stdout) == json.loads(after.stdout)
    assert [call[0] for call in cluster.calls] == ["127.0.0.1:7610"] * 2


def test_the_environment_is_a_twin_of_the_flags(invoke: Invoke, cluster: FakeCluster) -> None:
    env = {"RENDEZVOUS_ENDPOINTS": "127.0.0.1:7620", "RENDEZVOUS_OUTPUT": "json"}
    outcome = invoke("request", "show", "r1", env=env)
    assert json.loads(outcome.stdout)["request_id"] == "r1"
    assert cluster.calls[0][0] == "127.0.0.1:7620"
    invoke("request", "show", "r1", "--endpoints", "127.0.0.1:7600", env=env)
    assert cluster.calls[1][0] == "127.0.0.1:7600"
    env = {"RENDEZVOUS_REQUEST_WAIT_TIMEOUT": "2s"}
    invoke("request", "wait", "r1", env=env)
    assert cluster.called("wait_request")["timeout"] == 2


def test_endpoints_that_name_nobody_are_a_usage_error(invoke: Invoke) -> None:
    assert invoke("--endpoints", " , ", "cluster", "status").exit_code == ExitCode.USAGE


def test_quiet_suppresses_hints(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["list_requests"][0] = type(cluster.answers["list_requests"][0])((), "more", 1)
    assert invoke("request", "list", "--limit", "1", "--quiet").stderr == ""


def test_version_in_json(invoke: Invoke) -> None:
    versions = json.loads(invoke("version", "-o", "json").stdout)
    assert versions["python"].startswith("3.")
    assert "rendezvous-raft" in versions


def test_a_table_has_a_title_and_no_color_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Sheet(("name", "role"), (("n1", "[leader]"),), title="members")
    print_answer(OutputFormat.TABLE, answer={}, sheets=[sheet], color=False)
    text = capsys.readouterr().out
    assert "members" in text
    assert "[leader]" in text  # text is text, not markup
    assert "\x1b[3" not in text


def test_plain_cells_cannot_break_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Sheet(("a", "b"), (("x\ty\nz", ""),))
    print_answer(OutputFormat.PLAIN, answer={}, sheets=[sheet])
    assert capsys.readouterr().out == "a\tb\nx y z\t-\n"


def test_values_without_a_json_form_are_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        to_json(object())


def test_every_error_has_a_next_step() -> None:
    for cls in all_error_classes().values():
        error = cls.__new__(cls)
        for writes in (True, False):
            assert next_step_for(error, writes=writes)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0124, "12 ms"), (1.94, "1.9 s"), (-0.5, "-500 ms"), (600, "10 min")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_list_of_commands_loads_no_network() -> None:
    script = (
        "import sys\nfrom rendezvous_raft.cli.app import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted(m for m in ('grpc', 'rich', 'pydantic', 'aiohttp') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rendezvous_raft", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Usage: rendezvous")
