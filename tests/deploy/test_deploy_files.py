"""The files under deploy/ fit the program that they start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
    file = tmp_path / "rendezvous.toml"
    file.write_text("insecure = true\ninsecure_raft = true\n" + example[1], encoding="utf-8")
    assert load_node_config(file).name == "eu-1"
