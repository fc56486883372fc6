"""Settings: three layers, one check, and faults that name their field."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from rendezvous_raft.config import (
    MASK,
    Address,
    ConfigError,
    MemberSettings,
    NodeConfig,
    TimerSettings,
    load_node_config,
)
from rendezvous_raft.limit_ranges import LIMIT_RANGES
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import RaftTimers
from rendezvous_raft.monitor.settings import MonitorConfig, WatchConfig


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RENDEZVOUS_"):
            monkeypatch.delenv(name)


def member(number: int, **fields: object) -> dict[str, object]:
    return {
        "name": f"n{number}",
        "region": f"region-{number}",
        "raft_address": f"127.0.0.1:{7000 + number}",
        "grpc_address": f"127.0.0.1:{7100 + number}",
        "http_address": f"127.0.0.1:{7200 + number}",
        **fields,
    }


def cluster(tmp_path: Path, **fields: object) -> dict[str, object]:
    members = [member(number) for number in (1, 2, 3)]
    return {"name": "n2", "data_dir": tmp_path, "members": members, **fields}


def problems_of(settings: dict[str, object]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_node_config(overrides=settings)
    return caught.value.problems


# Layers


def test_without_anything_it_is_one_node_in_memory_on_loopback() -> None:
    config = load_node_config()
    assert config.in_memory
    assert config.grpc_bind.is_loopback
    assert config.http_bind.is_loopback
    assert config.node_limits() == NodeLimits()
    assert config.timers.to_timers() == RaftTimers.lan()


def test_flags_win_over_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "node.toml"
    file.write_text('name = "file"\nregion = "file"\ncluster_id = "file"\n')
    monkeypatch.setenv("RENDEZVOUS_NAME", "environment")
    monkeypatch.setenv("RENDEZVOUS_REGION", "environment")
    config = load_node_config(file, {"name": "flag", "region": None})
    assert (config.name, config.region, config.cluster_id) == ("flag", "environment", "file")


def test_layers_join_inside_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[limits]\nwaiters_max = 5\nopen_ttl_ms = 6\n[timers]\nprofile = 'wan'\n")
    monkeypatch.setenv("RENDEZVOUS_LIMITS__WAITERS_MAX", "7")
    monkeypatch.setenv("RENDEZVOUS_TIMERS__RTT_MAX_MS", "200")
    config = load_node_config(file)
    assert config.node_limits().waiters_max == 7
    assert config.node_limits().open_ttl_ms == 6
    assert config.timers.to_timers() == RaftTimers.wan(0.2)


def test_a_whole_cluster_from_a_file(tmp_path: Path) -> None:
    lines = [f'name = "n1"\ndata_dir = "{tmp_path}"\n']
    for number in (1, 2):
        lines.append("[[members]]")
        lines += [f'{key} = "{value}"' for key, value in member(number).items()]
    file = tmp_path / "node.toml"
    file.write_text("\n".join(lines))
    config = load_node_config(file)
    assert [entry.name for entry in config.members] == ["n1", "n2"]
    assert config.effective_region == "region-1"
    assert str(config.grpc_bind) == "127.0.0.1:7101"
    assert str(config.raft_bind) == "127.0.0.1:7001"
    assert config.members[1].to_member().raft_address == "127.0.0.1:7002"


def test_a_node_may_listen_elsewhere_than_others_dial(tmp_path: Path) -> None:
    config = load_node_config(overrides=cluster(tmp_path, grpc_address="127.0.0.1:9000"))
    assert str(config.grpc_bind) == "127.0.0.1:9000"
    assert config.own_member is not None
    assert config.own_member.grpc_address == "127.0.0.1:7102"


def test_code_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDEZVOUS_NAME", "environment")
    assert NodeConfig().name == "node-1"


@pytest.mark.parametrize("content", ["name = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError, match=r"node\.toml: "):
        load_node_config(file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_node_config(tmp_path / "absent.toml")


def test_environment_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDEZVOUS_MEMBERS", "[nonsense")
    with pytest.raises(ConfigError, match="members"):
        load_node_config()


# Faults

FAULTS = [
    ({"name": "a b"}, "name: "),
    ({"name": ""}, "name: "),
    ({"region": ""}, "region: "),
    ({"region": "a\nb"}, "region: "),
    ({"region": "é" * 65}, "region: "),
    ({"cluster_id": "x" * 65}, "cluster_id: "),
    ({"grpc_address": "localhost"}, "grpc_address: must be host:port"),
    ({"grpc_address": "localhost:65536"}, "grpc_address: must be host:port"),
    ({"http_address": ":80"}, "http_address: must be host:port"),
    ({"log_level": "loud"}, "log_level: "),
    ({"log_format": "xml"}, "log_format: "),
    ({"drain_timeout_s": -1}, "drain_timeout_s: "),
    ({"drain_timeout_s": "soon"}, "drain_timeout_s: "),
    ({"early_release": "perhaps"}, "early_release: "),
    ({"unknown": 1}, "unknown: "),
    ({"timers": {"profile": "moon"}}, "timers.profile: "),
    ({"timers": {"rtt_max_ms": 0}}, "timers.rtt_max_ms: "),
    ({"timers": {"heartbeat_ms": 200}}, "timers: "),
    ({"timers": {"patience": 1}}, "timers.patience: "),
    ({"limits": {"no_such": 1}}, "limits.no_such: no such limit"),
    ({"limits": {"waiters_max": 0}}, "limits.waiters_max: must be from 1 to "),
    ({"limits": {"waiters_max": "many"}}, "limits.waiters_max: "),
    (
        {"limits": {"pulse_interval_ms": 5_001}},
        "limits.pulse_interval_ms: 5001 is more than half of lease_ttl_ms (10000)",
    ),
    ({"limits": {"lease_ttl_ms": 1_999}}, "limits.pulse_interval_ms: 1000 is more than half"),
    ({"grpc_tls_cert": "absent.pem"}, "grpc_tls_cert: "),
    ({"grpc_tls_cert": __file__}, "grpc_tls_cert, grpc_tls_key, grpc_tls_client_ca: "),
    ({"raft_tls_key": "absent.pem"}, "raft_tls_key: "),
    ({"raft_tls_ca": __file__}, "raft_tls_cert, raft_tls_key, raft_tls_ca: set all or none"),
    ({"grpc_address": "192.0.2.1:1"}, "grpc_address: 192.0.2.1:1 can be reached"),
    ({"grpc_address": "node.example:1"}, "grpc_address: "),
    ({"grpc_address": "[::]:1"}, "grpc_address: "),
    ({"raft_address": "192.0.2.1:1"}, "raft_address: "),
]


@pytest.mark.parametrize(("settings", "beginning"), FAULTS)
def test_a_fault_names_its_field(settings: dict[str, object], beginning: str) -> None:
    (problem,) = problems_of(settings)
    assert problem.startswith(beginning), problem


def test_all_faults_are_told_at_once() -> None:
    assert len(problems_of({"name": "!", "drain_timeout_s": -1, "unknown": 1})) == 3


MEMBER_FAULTS = [
    ({"name": "n9"}, "name: 'n9' is not among the members (n1, n2, n3)"),
    ({"region": "elsewhere"}, "region: 'elsewhere', but members says 'region-2'"),
    ({"data_dir": None}, "data_dir: "),
    ({"members": [member(1), member(2, name="n1")]}, "members: two of them have the same name"),
    (
        {"members": [member(1), member(2, raft_address="127.0.0.1:7001")]},
        "members: two of them have the same raft_address",
    ),
    ({"members": [member(2, name="a b")]}, "members[0].name: "),
    ({"members": [member(1), member(2, region="")]}, "members[1].region: "),
    ({"members": [member(2, raft_address="[::]:7")]}, "members[0].raft_address: must be an addr"),
    ({"members": [member(2, grpc_address="127.0.0.1:0")]}, "members[0].grpc_address: "),
    ({"members": [member(2, extra=1)]}, "members[0].extra: "),
    ({"members": [member(n) for n in range(16)]}, "members: "),
    (
        {"members": [member(1), member(2, raft_address="192.0.2.1:7")]},
        "raft_address: 192.0.2.1:7 is not loopback",
    ),
]


@pytest.mark.parametrize(("change", "beginning"), MEMBER_FAULTS)
def test_a_fault_of_the_members_is_named(
    tmp_path: Path, change: dict[str, object], beginning: str
) -> None:
    (problem,) = problems_of(cluster(tmp_path, **change))
    assert problem.startswith(beginning), problem


# Transport


def test_other_machines_need_tls_or_an_explicit_word(tmp_path: Path) -> None:
    exposed = {"grpc_address": "192.0.2.1:1"}
    assert load_node_config(overrides={**exposed, "insecure": True}).grpc_bind.host == "192.0.2.1"
    pem = tmp_path / "any.pem"
    pem.touch()
    tls = dict.fromkeys(("grpc_tls_cert", "grpc_tls_key", "grpc_tls_client_ca"), pem)
    assert load_node_config(overrides={**exposed, **tls}).has_tls


def test_peers_on_other_machines_need_tls_or_an_explicit_word(tmp_path: Path) -> None:
    members = [member(1), member(2, raft_address="192.0.2.1:7")]
    settings = cluster(tmp_path, members=members)
    (problem,) = problems_of(settings)
    assert "set raft_tls_cert, raft_tls_key and raft_tls_ca, or" in problem
    assert "insecure_raft=true" in problem
    # TLS for clients is not TLS for members.
    pem = tmp_path / "any.pem"
    pem.touch()
    for_clients = dict.fromkeys(("grpc_tls_cert", "grpc_tls_key", "grpc_tls_client_ca"), pem)
    assert problems_of({**settings, **for_clients}) == (problem,)
    tls = dict.fromkeys(("raft_tls_cert", "raft_tls_key", "raft_tls_ca"), pem)
    for allowed in ({"insecure_raft": True}, tls, {**tls, "insecure_raft": True}):
        config = load_node_config(overrides={**settings, **allowed})
        assert str(config.raft_bind) == "192.0.2.1:7"
        assert config.has_raft_tls is ("raft_tls_cert" in allowed)
    assert load_node_config(overrides={**settings, **tls}).masked()["raft_tls_key"] == MASK


# Values


@pytest.mark.parametrize(
    ("text", "loopback", "wildcard"),
    [
        ("127.0.0.1:1", True, False),
        ("127.9.9.9:1", True, False),
        ("[::1]:1", True, False),
        ("localhost:1", True, False),
        ("[::]:1", False, True),
        ("192.0.2.1:1", False, False),
        ("localhost.example:1", False, False),
    ],
)
def test_addresses(text: str, *, loopback: bool, wildcard: bool) -> None:
    address = Address.parse(text)
    assert str(address) == text
    assert address.is_loopback is loopback
    assert address.is_wildcard is wildcard


def test_every_limit_has_a_range_that_holds_its_default() -> None:
    defaults = dataclasses.asdict(NodeLimits())
    assert set(LIMIT_RANGES) == set(defaults)
    for name, (low, high) in LIMIT_RANGES.items():
        assert low <= defaults[name] <= high, name
        for value in (low, high):
            limits = {"lease_ttl_ms": 120_000, "pulse_interval_ms": 1, name: value}
            assert load_node_config(overrides={"limits": limits}).limits == limits


def test_single_timers_win_over_the_profile() -> None:
    settings = {"timers": {"profile": "wan", "rtt_max_ms": 80, "heartbeat_ms": 60}}
    timers = load_node_config(overrides=settings).timers.to_timers()
    assert timers == dataclasses.replace(RaftTimers.wan(0.08), heartbeat_s=0.06)


def test_secrets_are_masked_wherever_the_settings_are_shown(tmp_path: Path) -> None:
    key = tmp_path / "very-secret-name.pem"
    key.touch()
    tls = dict.fromkeys(("grpc_tls_cert", "grpc_tls_client_ca"), Path(__file__))
    config = NodeConfig(grpc_tls_key=key, **tls)
    assert config.masked()["grpc_tls_key"] == MASK
    assert config.masked()["name"] == "node-1"
    assert NodeConfig().masked()["grpc_tls_key"] is None
    for shown in (repr(config), str(config), f"{config}"):
        assert "very-secret-name" not in shown


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        NodeConfig().name = "other"


def test_the_reference_names_every_setting_and_its_limits() -> None:
    text = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    named = {name for row in text.splitlines() for name in re.findall(r"`(\w+)`", row[:200])}
    assert NodeConfig.model_fields.keys() | MemberSettings.model_fields.keys() <= named
    assert TimerSettings.model_fields.keys() <= named
    for model in (MonitorConfig, WatchConfig):
        assert model.model_fields.keys() <= named
    defaults = dataclasses.asdict(NodeLimits())
    for name, (low, high) in LIMIT_RANGES.items():
        row = f"| `{name}` | {defaults[name]:,} | {low:,} to {high:,} | "
        assert row in text, row
