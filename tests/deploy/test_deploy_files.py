"""The files under deploy/ fit the program that they start."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from rendezvous_raft.authority import Authority, Order
from rendezvous_raft.cli.app import app
from rendezvous_raft.config import load_node_config

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
COMPOSE = (DEPLOY / "docker" / "compose.yaml").read_text(encoding="utf-8")
NAMES = re.findall(r"RENDEZVOUS_NAME: (\w+)", COMPOSE)


def test_compose_starts_three_nodes() -> None:
    assert NAMES == ["eu", "us", "ap"]


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_a_composed_node_are_accepted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDEZVOUS_NAME", name)
    config = load_node_config(DEPLOY / "docker" / "rendezvous.toml")
    assert (config.effective_region, str(config.raft_bind)) == (name, f"{name}:7602")
    assert {member.name for member in config.members} == set(NAMES)


def test_settings_in_the_deploy_guide_are_accepted(tmp_path: Path) -> None:
    guide = (DEPLOY / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", guide, re.DOTALL)
    assert example is not None
    authority = Authority.open(tmp_path / "tls", cluster_id="shop")
    authority.issue([Order("member", "eu-1")], valid_for=timedelta(days=1))
    settings = example[1].replace("/etc/rendezvous/tls", str(tmp_path / "tls"))
    file = tmp_path / "rendezvous.toml"
    file.write_text(settings, encoding="utf-8")
    config = load_node_config(file)
    assert config.name == "eu-1"
    assert config.has_tls
    assert config.has_raft_tls


def test_the_command_for_certificates_in_the_guide_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (DEPLOY / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```\n(rendezvous cert create .*?)```", guide, re.DOTALL)
    assert example is not None
    monkeypatch.chdir(tmp_path)
    words = shlex.split(example[1].replace("\\\n", " "))
    outcome = CliRunner().invoke(app, words[1:])
    assert outcome.exit_code == 0, outcome.output
    made = {file.name for file in (tmp_path / "certs").iterdir()}
    assert {"ca.pem", "eu-1.pem", "us-1-key.pem", "post-service.pem"} <= made
