from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_cluster import Invoke

from rendezvous_raft.cli import dev as dev_command
from rendezvous_raft.cli import monitor as monitor_command
from rendezvous_raft.cli.dev import banner
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.config import NodeConfig
from rendezvous_raft.devcluster.certificates import ClusterCertificates
from rendezvous_raft.devcluster.cluster import ClusterSettings, DevCluster
from rendezvous_raft.devcluster.latencies import RegionLatencies
from rendezvous_raft.devcluster.layout import NodeLayout, plan_nodes
from rendezvous_raft.monitor.settings import MonitorConfig
from rendezvous_raft.server import build

PRETEND_NODE = Path(__file__).parents[1] / "devcluster" / "pretend_node.py"


@pytest.fixture
def nodes_run(monkeypatch: pytest.MonkeyPatch) -> list[NodeConfig]:
    run: list[NodeConfig] = []

    def run_node(config: NodeConfig) -> int:
        run.append(config)
        return 7

    monkeypatch.setattr(build, "run_node", run_node)
    return run


def test_server_takes_the_file_and_flags_win(
    invoke: Invoke, nodes_run: list[NodeConfig], tmp_path: Path
) -> None:
    file = tmp_path / "node.toml"
    file.write_text('name = "n9"\nregion = "eu"\n')
    outcome = invoke("server run --region us --log-level debug --config", str(file))
    assert outcome.exit_code == 7  # the node's own exit status
    (config,) = nodes_run
    assert (config.name, config.region, config.log_level) == ("n9", "us", "debug")


def test_server_takes_the_ports_for_clients_of_the_originals(
    invoke: Invoke, nodes_run: list[NodeConfig]
) -> None:
    flags = "--compat-main-address 127.0.0.1:1 --compat-words23-address 127.0.0.1:2"
    invoke(f"server run {flags}")
    (config,) = nodes_run
    assert [str(bind) for bind in config.compat_binds.values()] == ["127.0.0.1:1", "127.0.0.1:2"]


def test_server_names_the_faulty_setting(invoke: Invoke, nodes_run: list[NodeConfig]) -> None:
    outcome = invoke("server run --grpc-address nowhere")
    assert outcome.exit_code == ExitCode.USAGE
    assert "grpc_address" in outcome.stderr
    assert nodes_run == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of the kernel")
def test_a_tied_process_dies_with_its_parent() -> None:
    tied = (
        "import os, signal\nfrom rendezvous_raft.cli.server import tie_to_parent\n"
        "tie_to_parent(os.getppid())\nprint('tied', flush=True)\nsignal.pause()"
    )
    parent = (
        "import signal, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {tied!r}])\n"
        "signal.pause()"
    )
    # The pipe is held open by both, so its end says that both are dead.
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"tied\n"
        process.kill()
        assert process.stdout.read() == b""


def test_a_process_whose_parent_is_another_ends_at_once() -> None:
    script = "from rendezvous_raft.cli.server import tie_to_parent\ntie_to_parent(1)\nprint('on')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")


@pytest.fixture
def monitors_run(monkeypatch: pytest.MonkeyPatch) -> list[MonitorConfig]:
    run: list[MonitorConfig] = []

    def run_monitor(config: MonitorConfig) -> int:
        run.append(config)
        return 0

    monkeypatch.setattr(monitor_command, "run_monitor", run_monitor)
    return run


def test_monitor_of_one_entry(invoke: Invoke, monitors_run: list[MonitorConfig]) -> None:
    outcome = invoke(
        "monitor run --service post-storage --region us --tag write --datastore redis"
        " --endpoint redis://127.0.0.1:1 --endpoint redis://127.0.0.1:2"
        " --endpoints 127.0.0.1:7610,127.0.0.1:7600 --http-address 127.0.0.1:0"
    )
    assert outcome.exit_code == ExitCode.OK, outcome.output
    (config,) = monitors_run
    assert config.endpoints == ("127.0.0.1:7610", "127.0.0.1:7600")
    (watch,) = config.watch
    assert (watch.service, watch.region, watch.tags) == ("post-storage", "us", ("write",))
    assert watch.probe.kind == "redis"
    assert watch.probe.endpoints == ("redis://127.0.0.1:1", "redis://127.0.0.1:2")


def test_monitor_of_a_file_keeps_its_endpoints(
    invoke: Invoke, monitors_run: list[MonitorConfig], tmp_path: Path
) -> None:
    file = tmp_path / "monitor.toml"
    file.write_text(
        'endpoints = ["127.0.0.1:1"]\n[[watch]]\nservice = "s"\nregion = "eu"\n'
        'probe = { kind = "embedded", path = "x.sqlite" }\n'
    )
    assert invoke("monitor run --config", str(file)).exit_code == ExitCode.OK
    assert invoke("--endpoints 127.0.0.1:2 monitor run --config", str(file)).exit_code == 0
    assert [config.endpoints for config in monitors_run] == [("127.0.0.1:1",), ("127.0.0.1:2",)]


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--service s",
        "--service s --region eu --datastore redis",
        "--service s --region eu --datastore embedded",
        "--service s --region eu --datastore embedded --path x --endpoint redis://127.0.0.1:1",
        "--service s --region eu --datastore embedded --path x --http-address nowhere",
    ],
)
def test_half_a_monitor_is_a_usage_error(
    invoke: Invoke, monitors_run: list[MonitorConfig], flags: str
) -> None:
    assert invoke(f"monitor run {flags}").exit_code == ExitCode.USAGE
    assert monitors_run == []


def pretend(mode: str, node: NodeLayout) -> Sequence[str]:
    return (sys.executable, str(PRETEND_NODE), node.http_address, mode)


@pytest.fixture
def pretend_cluster(monkeypatch: pytest.MonkeyPatch) -> list[DevCluster]:
    """`dev` starts children that only pretend, and is told to stop as soon as they are ready."""
    made: list[DevCluster] = []

    class Pretended(DevCluster):
        def __init__(self, settings: ClusterSettings, **arguments: object) -> None:
            super().__init__(
                settings,
                command=lambda node, _: pretend("ready", node),
                **arguments,  # type: ignore[arg-type]
            )
            made.append(self)

        async def start(self) -> None:
            await super().start()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(dev_command, "DevCluster", Pretended)
    return made


def test_dev_prints_one_line_of_json_and_ends_well_on_sigterm(
    invoke: Invoke, pretend_cluster: list[DevCluster], tmp_path: Path
) -> None:
    outcome = invoke("dev --nodes 3 --base-port 0 --json --data-dir", str(tmp_path / "new"))
    assert outcome.exit_code == ExitCode.OK, outcome.output
    (line,) = outcome.stdout.splitlines()
    nodes = json.loads(line)["nodes"]
    assert [(node["name"], node["region"]) for node in nodes] == [
        ("n1", "eu"),
        ("n2", "us"),
        ("n3", "ap"),
    ]
    assert all(set(node) == {"name", "region", "grpc", "http", "pid"} for node in nodes)
    (cluster,) = pretend_cluster
    assert not any(cluster.process(node["name"]).running for node in nodes)
    assert (tmp_path / "new" / "n3" / "node.toml").exists()


def test_dev_removes_a_directory_of_its_own(
    invoke: Invoke, pretend_cluster: list[DevCluster]
) -> None:
    outcome = invoke("dev --base-port 0")
    assert outcome.exit_code == ExitCode.OK, outcome.output
    (line,) = [line for line in outcome.stdout.splitlines() if line.startswith("Data and logs")]
    assert "temporary, removed at the end" in line
    assert not Path(line.split()[3]).exists()


def test_dev_that_cannot_start_shows_the_last_words_of_the_node(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doomed(DevCluster):
        def __init__(self, settings: ClusterSettings, **arguments: object) -> None:
            super().__init__(
                settings,
                command=lambda node, _: pretend("dies", node),
                **arguments,  # type: ignore[arg-type]
            )

    monkeypatch.setattr(dev_command, "DevCluster", Doomed)
    outcome = invoke("dev --base-port 0")
    assert outcome.exit_code == ExitCode.FAILED
    assert "disk on fire" in outcome.stderr
    assert "effect: everything that was started has been stopped" in outcome.stderr


@pytest.mark.parametrize(
    "flags", ["--nodes 0", "--nodes 16", "--base-port 65530", "--rtt-ms eu-us=x", "--regions ,"]
)
def test_impossible_clusters_are_usage_errors(invoke: Invoke, flags: str) -> None:
    assert invoke(f"dev --nodes 3 {flags}").exit_code == ExitCode.USAGE


def test_the_banner_names_every_address_and_the_next_commands(tmp_path: Path) -> None:
    nodes = plan_nodes(count=3, regions=("eu", "us", "ap"), base_port=7600)
    settings = ClusterSettings(
        node_count=3,
        regions=("eu", "us", "ap"),
        data_dir=tmp_path,
        latencies=RegionLatencies.parse("eu-us=80", regions=("eu", "us", "ap")),
    )
    pids = {"n1": 11, "n2": 12, "n3": 13}
    text = banner(nodes, settings, pids, 1.23, temporary=False)
    for node in nodes:
        assert node.grpc_address in text
        assert node.http_address in text
        assert f"pid {pids[node.name]}" in text
    assert "eu-us 80 ms" in text
    assert "export RENDEZVOUS_ENDPOINTS=127.0.0.1:7600,127.0.0.1:7610,127.0.0.1:7620" in text
    assert "rendezvous cluster status" in text
    assert "stays dead" in text
    assert "no encryption" in text
    certificates = ClusterCertificates(tmp_path / "certs")
    text = banner(nodes, settings, pids, 1.23, temporary=False, certificates=certificates)
    assert f"export RENDEZVOUS_TLS_CA={tmp_path}/certs/ca.pem" in text
    assert f"RENDEZVOUS_TLS_KEY={tmp_path}/certs/dev-key.pem" in text
    assert "no encryption" not in text
