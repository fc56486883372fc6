from __future__ import annotations

import contextlib
import itertools
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.config import NodeConfig
from rendezvous_raft.devcluster.latencies import RegionLatencies
from rendezvous_raft.devcluster.layout import free_ports, node_toml, plan_nodes


def test_ports_and_regions_are_dealt_out_in_turn() -> None:
    nodes = plan_nodes(count=4, regions=("eu", "us", "ap"), base_port=7600)
    assert [node.name for node in nodes] == ["n1", "n2", "n3", "n4"]
    assert [node.region for node in nodes] == ["eu", "us", "ap", "eu"]
    assert nodes[2].grpc_address == "127.0.0.1:7620"
    assert nodes[2].http_address == "127.0.0.1:7621"
    assert nodes[2].raft_address == "127.0.0.1:7622"


def test_compatible_nodes_have_two_ports_more() -> None:
    second = plan_nodes(count=2, regions=("eu",), base_port=7600, compat=True)[1]
    assert second.compat_main_address == "127.0.0.1:7613"
    assert second.compat_words23_address == "127.0.0.1:7614"
    with pytest.raises(ValueError):
        plan_nodes(count=1, regions=("eu",), base_port=65_532, compat=True)
    assert plan_nodes(count=1, regions=("eu",), base_port=65_532)[0].compat_main_address is None


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports(45))) == 45
    nodes = plan_nodes(count=15, regions=("eu",), base_port=0)
    addresses = itertools.chain.from_iterable(
        (node.grpc_address, node.http_address, node.raft_address) for node in nodes
    )
    assert len(set(addresses)) == 45


@pytest.mark.parametrize(("count", "base_port"), [(1, 65_534), (3, 65_520), (0, 7600)])
def test_impossible_plans_are_refused(count: int, base_port: int) -> None:
    with pytest.raises(ValueError):
        plan_nodes(count=count, regions=("eu",), base_port=base_port)


def _config_of(index: int, *, links: dict[str, str], rtt_ms_max: float, count: int) -> NodeConfig:
    nodes = plan_nodes(count=count, regions=("eu", "us"), base_port=7600)
    text = node_toml(
        nodes[index],
        nodes=nodes,
        cluster_id="dev-1",
        data_dir='data "b"\\c',
        raft_address_by_peer=links,
        rtt_ms_max=rtt_ms_max,
        reflection=True,
    )
    return NodeConfig(**tomllib.loads(text))


def test_a_node_dials_its_links_but_listens_on_its_own_port() -> None:
    config = _config_of(0, links={"n2": "127.0.0.1:9999"}, rtt_ms_max=160, count=3)
    assert [member.raft_address for member in config.members] == [
        "127.0.0.1:7602",
        "127.0.0.1:9999",
        "127.0.0.1:7622",
    ]
    assert str(config.raft_bind) == "127.0.0.1:7602"
    assert config.timers.profile == "wan"
    assert config.timers.to_timers().election_min_s == pytest.approx(0.8)
    assert str(config.data_dir) == 'data "b"\\c'
    assert config.reflection


def test_near_nodes_get_the_quick_timers() -> None:
    assert _config_of(1, links={}, rtt_ms_max=0, count=3).timers.profile == "lan"


def test_a_single_node_is_its_only_member() -> None:
    config = _config_of(0, links={}, rtt_ms_max=0, count=1)
    assert [member.name for member in config.members] == ["n1"]
    assert str(config.raft_bind) == "127.0.0.1:7602"


def test_latencies_are_symmetric_and_default() -> None:
    latencies = RegionLatencies.parse(
        "us-eu=80, eu-ap=160", regions=("eu", "us", "ap"), default_ms=5
    )
    assert latencies.rtt_ms("eu", "us") == latencies.rtt_ms("us", "eu") == 80
    assert latencies.one_way_s("ap", "eu") == 0.08
    assert latencies.rtt_ms("us", "ap") == 5
    assert latencies.rtt_ms("eu", "eu") == 0
    assert latencies.rtt_ms_max == 160
    assert latencies.as_table() == {"eu-us": 80, "ap-eu": 160, "ap-us": 5}


def test_regions_may_have_hyphens() -> None:
    latencies = RegionLatencies.parse(
        "eu-central-1-us-east-1=90", regions=("eu-central-1", "us-east-1")
    )
    assert latencies.rtt_ms("us-east-1", "eu-central-1") == 90


@pytest.mark.parametrize(
    "text", ["eu-mars=1", "eu-us", "eu-us=", "eu-us=x", "eu-us=-1", "eu-us=nan", "eu-us=1,us-eu=2"]
)
def test_faulty_latencies_are_refused_with_the_part(text: str) -> None:
    with pytest.raises(ValueError, match="eu"):
        RegionLatencies.parse(text, regions=("eu", "us"))


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        RegionLatencies.parse(text, regions=("eu", "us", "ap"))
