"""`rendezvous cluster members|add|remove` and `server rejoin`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_cluster import FakeCluster, Invoke, status

from rendezvous_raft import errors
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.client.arguments import MemberSpec
from rendezvous_raft.client.results import MemberDescription
from rendezvous_raft.replication.raft.files import RealFiles
from rendezvous_raft.replication.raft.metadata import Identity, MetadataFile
from rendezvous_raft.types import Standing

ADDRESSES = "--raft-address h:3 --grpc-address h:1 --http-address h:2"


def with_n4(standing: Standing) -> list[MemberDescription]:
    known = list(status().members)
    return [
        *known,
        MemberDescription("n4", "ap", "h:1", "h:2", None, True, 40, standing, "h:3"),
    ]


def test_members_are_shown_as_the_leader_sees_them(invoke: Invoke) -> None:
    outcome = invoke("cluster", "members", "-o", "json")
    assert outcome.exit_code == ExitCode.OK
    shown = json.loads(outcome.stdout)
    assert shown["leader"] == "n1"
    assert [each["standing"] for each in shown["members"]] == ["voter"] * 3


@pytest.mark.parametrize("command", ["members", "remove n2", f"add n4 --region ap {ADDRESSES}"])
def test_without_a_leader_they_exit_3(
    invoke: Invoke, cluster: FakeCluster, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rendezvous_raft.cli.membership.LOOK_S", 0.0)
    cluster.statuses.clear()
    assert invoke(f"cluster {command}").exit_code == ExitCode.UNREACHABLE


def test_add_asks_the_leader_and_waits_for_the_vote(
    invoke: Invoke, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rendezvous_raft.cli.membership.LOOK_S", 0.0)
    cluster.answers["add_member"] = None
    leader = "127.0.0.1:7600"
    cluster.statuses[leader] = [
        status(),
        status(members=with_n4(Standing.JOINING)),
        status(members=with_n4(Standing.VOTER)),
    ]
    outcome = invoke(f"cluster add n4 --region ap {ADDRESSES}")
    assert outcome.exit_code == ExitCode.OK
    called = cluster.called("add_member")
    assert called["address"] == leader
    assert called["args"] == (MemberSpec("n4", "ap", "h:3", "h:1", "h:2", non_voter=False),)
    assert "10 entries behind" in outcome.stderr
    assert "n4 is a voter" in outcome.stderr


def test_an_order_follows_the_leadership(
    invoke: Invoke, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that shall be removed hands over first."""
    monkeypatch.setattr("rendezvous_raft.cli.membership.LOOK_S", 0.0)
    cluster.answers["remove_member"] = [errors.Unavailable("ask n2", leader="n2"), None]
    outcome = invoke("cluster", "remove", "n1")
    assert outcome.exit_code == ExitCode.OK
    assert len([call for call in cluster.calls if call[1] == "remove_member"]) == 2


def test_an_order_whose_outcome_is_unknown_is_not_repeated(
    invoke: Invoke, cluster: FakeCluster
) -> None:
    cluster.answers["remove_member"] = errors.OutcomeUnknown("it may be committed still")
    outcome = invoke("cluster", "remove", "n2")
    assert outcome.exit_code == ExitCode.OUTCOME_UNKNOWN
    assert len([call for call in cluster.calls if call[1] == "remove_member"]) == 1


def test_what_the_leader_refuses_is_said(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["remove_member"] = errors.NotFound("there is no member 'n9'")
    outcome = invoke("cluster", "remove", "n9")
    assert outcome.exit_code == ExitCode.FAILED
    assert "there is no member 'n9'" in outcome.stderr


def config_of(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    addresses = {"raft_address": 1, "grpc_address": 2, "http_address": 3}
    lines = [f'data_dir = "{tmp_path / "data"}"', 'name = "n1"', 'cluster_id = "c"']
    for node in (1, 2):
        lines += ["[[members]]", f'name = "n{node}"', 'region = "eu"']
        lines += [f'{key} = "127.0.0.1:{node}{port}"' for key, port in addresses.items()]
    file.write_text("\n".join(lines))
    return file


def test_rejoin_begins_the_directory_anew(invoke: Invoke, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "metadata").write_bytes(b"damaged")
    (data / "00000000000000000001.wal").write_bytes(b"damaged too")
    outcome = invoke(f"server rejoin --config {config_of(tmp_path)} --yes -o json")
    assert outcome.exit_code == ExitCode.OK
    shown = json.loads(outcome.stdout)
    kept = Path(shown["kept"])
    assert (kept / "metadata").read_bytes() == b"damaged"
    assert (kept / "00000000000000000001.wal").read_bytes() == b"damaged too"
    metadata = MetadataFile(RealFiles(), data).read(Identity("c", "n1"))
    assert not metadata.birth.founding


def test_rejoin_asks_first(invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke(f"server rejoin --config {config_of(tmp_path)}")
    assert outcome.exit_code != ExitCode.OK
    assert not (tmp_path / "data").exists()


def test_rejoin_needs_a_member_with_a_directory(invoke: Invoke) -> None:
    outcome = invoke("server rejoin --yes --name n1")
    assert outcome.exit_code == ExitCode.USAGE
    assert "only a member" in outcome.stderr
