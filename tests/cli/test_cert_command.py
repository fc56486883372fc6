"""`rendezvous cert`: what it makes is what nodes and commands take."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fake_cluster import Invoke

from rendezvous_raft.cli import session as session_module
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.config import NodeConfig
from rendezvous_raft.errors import InvalidArgument
from rendezvous_raft.tls_files import TlsFiles


def create(invoke: Invoke, out: Path, *arguments: str) -> dict[str, object]:
    outcome = invoke("-o", "json", "cert", "create", "--out", str(out), *arguments)
    assert outcome.exit_code == ExitCode.OK, outcome.output
    answer: dict[str, object] = json.loads(outcome.stdout)
    return answer


def test_an_authority_and_certificates_are_made(invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "certs"
    answer = create(
        invoke,
        out,
        *("--cluster-id", "shop", "--member", "eu=eu.example, 10.0.1.10", "--member", "us"),
        *("--host", "all.example", "--client", "post", "--days", "30"),
    )
    assert answer["cluster_id"] == "shop"
    assert answer["authority"]["created"]
    made = answer["certificates"]
    assert [(one["kind"], one["name"]) for one in made] == [
        ("member", "eu"),
        ("member", "us"),
        ("client", "post"),
    ]
    assert all(Path(one["certificate"]).exists() and Path(one["key"]).exists() for one in made)
    outcome = invoke("-o", "json", "cert", "show", str(out / "eu.pem"))
    (shown,) = json.loads(outcome.stdout)
    assert shown["identities"] == ["rendezvous://shop/member/eu"]
    assert {"eu.example", "10.0.1.10", "all.example", "localhost"} <= set(shown["hosts"])
    plain = invoke("cert", "show", str(out / "us.pem")).stdout
    assert "10.0.1.10" not in plain
    assert "all.example" in plain


def test_one_more_is_made_later(invoke: Invoke, tmp_path: Path) -> None:
    create(invoke, tmp_path, "--cluster-id", "shop", "--member", "eu")
    answer = create(invoke, tmp_path, "--member", "ap")
    assert (answer["cluster_id"], answer["authority"]["created"]) == ("shop", False)
    assert answer["certificates"][0]["identity"] == "rendezvous://shop/member/ap"


def test_nothing_is_replaced_without_force(invoke: Invoke, tmp_path: Path) -> None:
    create(invoke, tmp_path, "--member", "eu")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    again = ("cert", "create", "--out", str(tmp_path), "--member", "eu", "--member", "us")
    outcome = invoke(*again)
    assert outcome.exit_code == ExitCode.FAILED
    assert "eu.pem: exists already" in outcome.stderr
    assert "effect: no certificate was made" in outcome.stderr
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert invoke(*again, "--force").exit_code == ExitCode.OK
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert (after["ca.pem"], after["ca-key.pem"]) == (before["ca.pem"], before["ca-key.pem"])
    assert after["eu.pem"] != before["eu.pem"]


def test_the_next_steps_are_settings_that_a_node_takes(invoke: Invoke, tmp_path: Path) -> None:
    import tomllib

    outcome = invoke("cert", "create", "--out", str(tmp_path), "--member", "eu", "--client", "c")
    assert outcome.exit_code == ExitCode.OK
    lines = [line for line in outcome.stderr.splitlines() if " = " in line]
    settings = tomllib.loads("\n".join(lines))
    config = NodeConfig(
        name="eu", raft_address="192.0.2.1:1", grpc_address="192.0.2.1:2", **settings
    )
    assert config.has_tls
    assert config.has_raft_tls
    exports = [line.split()[1] for line in outcome.stderr.splitlines() if "export" in line]
    variables = dict(text.split("=", 1) for text in exports)
    assert set(variables) == {"RENDEZVOUS_TLS_CA", "RENDEZVOUS_TLS_CERT", "RENDEZVOUS_TLS_KEY"}
    assert all(Path(file).exists() for file in variables.values())
    quiet = invoke("cert", "create", "--out", str(tmp_path), "--member", "us", "--quiet")
    assert quiet.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--member", "a b"),
        ("--member", "../x"),
        ("--member", "=host"),
        ("--client", ""),
        ("--member", "a", "--cluster-id", "c/d"),
        ("--member", "a", "--days", "0"),
    ],
)
def test_faulty_orders_are_usage_errors(
    invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    out = tmp_path / "certs"
    outcome = invoke("cert", "create", "--out", str(out), *arguments)
    assert outcome.exit_code == ExitCode.USAGE
    assert not out.exists()


def test_what_is_wrong_is_said(invoke: Invoke, tmp_path: Path) -> None:
    where = ("cert", "create", "--out", str(tmp_path), "--member")
    outcome = invoke(*where, "a=b c")
    assert outcome.exit_code == ExitCode.FAILED
    assert "'b c' is no name or address of a host" in outcome.stderr
    create(invoke, tmp_path, "--member", "a")
    outcome = invoke(*where, "b", "--cluster-id", "other")
    assert "signs for the cluster 'rendezvous', not 'other'" in outcome.stderr
    outcome = invoke("cert", "show", str(tmp_path / "a-key.pem"))
    assert outcome.exit_code == ExitCode.FAILED
    assert "a-key.pem: holds no certificate" in outcome.stderr


@pytest.mark.parametrize("command", ["create --member a", "show {file}"])
def test_without_the_library_the_extra_is_named(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    file = tmp_path / "x.pem"
    file.touch()
    for name in ("rendezvous_raft.authority", "rendezvous_raft.certificates"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("rendezvous_raft.authority", raising=False)
    outcome = invoke("cert", *command.format(file=file).split())
    assert outcome.exit_code == ExitCode.FAILED
    assert "pip install 'rendezvous-raft[tls]'" in outcome.stderr


def test_commands_show_the_certificate_that_they_are_given(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(invoke, tmp_path, "--client", "ops")
    used: list[TlsFiles] = []

    def connect(endpoints: str, tls: TlsFiles | None = None) -> object:
        assert tls is not None
        used.append(tls)
        raise InvalidArgument.for_field("endpoints", "enough seen")

    monkeypatch.setattr(session_module, "connect", connect)
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "ops.pem", "ops-key.pem"))
    outcome = invoke(
        *("request", "show", "r1", "--tls-ca", ca, "--tls-cert", cert),
        env={"RENDEZVOUS_TLS_KEY": key},
    )
    assert outcome.exit_code == ExitCode.USAGE
    assert used == [TlsFiles(tls_ca=ca, tls_cert=cert, tls_key=key)]
    assert used[0].credentials() is not None
    assert TlsFiles(tls_ca=ca).credentials() is not None
    assert TlsFiles().credentials() is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"tls_cert": "x"}, "tls_ca"),
        ({"tls_ca": "absent.pem"}, "tls_ca"),
        ({"tls_ca": __file__, "tls_cert": "x"}, "tls_key"),
        ({"tls_ca": __file__, "tls_key": __file__}, "tls_cert"),
    ],
)
def test_half_of_tls_is_refused_by_name(given: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        TlsFiles(**given).credentials()


def test_files_that_are_no_certificates_are_refused_by_name(invoke: Invoke, tmp_path: Path) -> None:
    create(invoke, tmp_path, "--client", "ops")
    create(invoke, tmp_path / "other", "--client", "ops")
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "ops.pem", "ops-key.pem"))
    other = str(tmp_path / "other" / "ops-key.pem")
    assert TlsFiles(ca, cert, key).credentials() is not None
    with pytest.raises(InvalidArgument, match=r"^tls_ca: .*test_cert_command\.py cannot be used: "):
        TlsFiles(__file__).credentials()
    with pytest.raises(InvalidArgument, match=r"^tls_cert, tls_key: .*KEY_VALUES_MISMATCH"):
        TlsFiles(ca, cert, other).credentials()
