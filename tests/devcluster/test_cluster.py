from __future__ import annotations

import asyncio
import os
import stat
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from rendezvous_raft.certificates import read_certificates
from rendezvous_raft.config import NodeConfig
from rendezvous_raft.devcluster import cluster as cluster_module
from rendezvous_raft.devcluster.cluster import (
    ClusterSettings,
    DevCluster,
    NodeChange,
    NodeEvent,
    node_command,
)
from rendezvous_raft.devcluster.latencies import RegionLatencies
from rendezvous_raft.devcluster.layout import NodeLayout, plan_nodes
from rendezvous_raft.devcluster.processes import NodeFailed
from rendezvous_raft.identities import member_named

PRETEND_NODE = Path(__file__).with_name("pretend_node.py")
REGIONS = ("eu", "us", "ap")


class Told:
    """Receives the events of a cluster, and lets a test wait for the next one."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[NodeEvent] = asyncio.Queue(100)

    def __call__(self, event: NodeEvent) -> None:
        self.events.put_nowait(event)

    async def next(self) -> tuple[NodeChange, str, str]:
        event = await asyncio.wait_for(self.events.get(), 20)
        return event.change, event.node, event.detail


def fake(node: NodeLayout, config_path: Path) -> Sequence[str]:
    assert config_path.exists()
    return (sys.executable, str(PRETEND_NODE), node.http_address)


def settings(data_dir: Path, **changes: object) -> ClusterSettings:
    fields = {"node_count": 3, "regions": REGIONS, "data_dir": data_dir, **changes}
    return ClusterSettings(**fields)  # type: ignore[arg-type]


async def test_starts_every_node_in_a_private_directory_and_stops_all(tmp_path: Path) -> None:
    async with DevCluster(settings(tmp_path), report=Told(), command=fake) as cluster:
        pids = [cluster.process(node.name).pid for node in cluster.nodes]
        assert [node.name for node in cluster.nodes] == ["n1", "n2", "n3"]
        assert len(cluster.endpoints.split(",")) == 3
        for node in cluster.nodes:
            config_path = tmp_path / node.name / "node.toml"
            assert stat.S_IMODE(config_path.stat().st_mode) == 0o600
            assert stat.S_IMODE(config_path.parent.stat().st_mode) == 0o700
            config = tomllib.loads(config_path.read_text())
            assert config["region"] == node.region
            assert Path(config["data_dir"]).parent == config_path.parent
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_the_cluster_keeps_its_id(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        async with DevCluster(settings(tmp_path, node_count=1), report=Told(), command=fake):
            config = tomllib.loads((tmp_path / "n1" / "node.toml").read_text())
            ids.append(config["cluster_id"])
    assert ids[0] == ids[1]


async def test_with_tls_every_node_has_a_certificate_and_the_authority_stays(
    tmp_path: Path,
) -> None:
    authorities = []
    for _ in range(2):
        wanted = settings(tmp_path, tls=True)
        async with DevCluster(wanted, report=Told(), command=fake) as cluster:
            assert cluster.certificates is not None
            authorities.append(Path(cluster.certificates.authority).read_bytes())
            for node in cluster.nodes:
                text = (tmp_path / node.name / "node.toml").read_text()
                config = NodeConfig(**tomllib.loads(text))
                assert config.has_tls
                assert config.has_raft_tls
                (found, *_) = read_certificates(tmp_path / "certs" / f"{node.name}.pem")
                assert member_named(found.identities, config.cluster_id) == node.name
    assert authorities[0] == authorities[1]


async def test_distant_peers_are_reached_through_links(tmp_path: Path) -> None:
    latencies = RegionLatencies.parse("eu-us=80", regions=REGIONS)
    wanted = settings(tmp_path, latencies=latencies, node_count=4)  # n4 is in eu again
    async with DevCluster(wanted, report=Told(), command=fake) as cluster:
        own = {node.name: node.raft_address for node in cluster.nodes}
        dialed = {
            node.name: {
                member["name"]: member["raft_address"]
                for member in tomllib.loads((tmp_path / node.name / "node.toml").read_text())[
                    "members"
                ]
            }
            for node in cluster.nodes
        }
        through_a_link = {
            (name, peer)
            for name, members in dialed.items()
            for peer, address in members.items()
            if address != own[peer]
        }
        assert through_a_link == {
            ("n1", "n2"), ("n2", "n1"), ("n4", "n2"), ("n2", "n4")
        }  # fmt: skip
        # Every directed pair has a link of its own.
        assert len({dialed[name][peer] for name, peer in through_a_link}) == 4


async def test_a_node_that_dies_stays_dead(tmp_path: Path) -> None:
    told = Told()
    async with DevCluster(settings(tmp_path), report=told, command=fake) as cluster:
        os.kill(cluster.process("n2").pid, 9)
        assert await told.next() == (NodeChange.DIED, "n2", "killed by SIGKILL")
        await asyncio.gather(*(task for task in cluster._supervisors if "n2" in task.get_name()))
        assert not cluster.process("n2").running
        assert cluster.process("n1").running
    assert told.events.empty()  # the orderly stop of the others is no event


async def test_with_restart_it_comes_back_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "RESTART_PAUSE_S", 0)
    told = Told()
    wanted = settings(tmp_path, restart=True)
    async with DevCluster(wanted, report=told, command=fake) as cluster:
        first_pid = cluster.process("n1").pid
        os.kill(first_pid, 9)
        assert (await told.next())[0] is NodeChange.DIED
        change, node, detail = await told.next()
        assert (change, node) == (NodeChange.RESTARTED, "n1")
        assert cluster.process("n1").running
        assert cluster.process("n1").pid != first_pid
        assert detail == f"pid {cluster.process('n1').pid}"


async def test_restarts_that_only_fail_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "RESTART_PAUSE_S", 0)
    monkeypatch.setattr(cluster_module, "RESTARTS_IN_A_ROW_MAX", 2)
    broken = tmp_path / "broken"

    def breaking(node: NodeLayout, config_path: Path) -> Sequence[str]:
        script = (
            "import runpy, sys, pathlib\n"
            f"sys.exit(3) if pathlib.Path({str(broken)!r}).exists() else None\n"
            f"sys.argv = ['fake', {node.http_address!r}]\n"
            f"runpy.run_path({str(PRETEND_NODE)!r}, run_name='__main__')\n"
        )
        return (sys.executable, "-c", script)

    told = Told()
    wanted = settings(tmp_path, node_count=1, restart=True)
    async with DevCluster(wanted, report=told, command=breaking) as cluster:
        broken.touch()
        cluster.process("n1").kill()
        changes = [(await told.next())[0] for _ in range(4)]
        assert changes == [NodeChange.DIED] * 3 + [NodeChange.GAVE_UP]


async def test_one_node_that_fails_to_start_stops_the_others(tmp_path: Path) -> None:
    pids: list[int] = []

    def one_dies(node: NodeLayout, config_path: Path) -> Sequence[str]:
        return (*fake(node, config_path), "dies" if node.name == "n3" else "ready")

    cluster = DevCluster(settings(tmp_path), report=Told(), command=one_dies)
    with pytest.raises(NodeFailed, match=r"n3.*exit status 3") as failure:
        await cluster.start()
    assert "disk on fire" in str(failure.value)
    for node in cluster.nodes:
        pids.append(cluster.process(node.name).pid)
        assert not cluster.process(node.name).running
    assert all(pids)


async def test_free_ports_that_somebody_took_are_planned_anew(tmp_path: Path) -> None:
    attempts = 0

    def taken_once(node: NodeLayout, config_path: Path) -> Sequence[str]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            script = "import sys; sys.exit('http_address: cannot listen on 127.0.0.1:1: in use')"
            return (sys.executable, "-c", script)
        return fake(node, config_path)

    async with DevCluster(settings(tmp_path), report=Told(), command=taken_once) as cluster:
        assert all(cluster.process(node.name).running for node in cluster.nodes)
    assert attempts == 6


def test_a_real_node_is_tied_to_this_process(tmp_path: Path) -> None:
    (node,) = plan_nodes(count=1, regions=("eu",), base_port=7600)
    command = node_command(node, tmp_path / "node.toml")
    assert command[0] == sys.executable
    assert command[-2:] == ("--die-with-parent", str(os.getpid()))
