"""The two clients are twins: same constructor, same methods, same order of parameters."""

from __future__ import annotations

import inspect

import pytest

from rendezvous_raft.client import AsyncClient, Client
from rendezvous_raft.client._channel import parse_endpoints
from rendezvous_raft.errors import InvalidArgument


def public_methods(cls: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(cls, callable)
        if not name.startswith("_") or name == "__init__"
    }


def test_twins_have_the_same_methods() -> None:
    assert sorted(public_methods(AsyncClient)) == sorted(public_methods(Client))
    assert {"register_branch", "wait_request", "subscribe", "close"} < set(public_methods(Client))


@pytest.mark.parametrize("name", sorted(public_methods(AsyncClient)))
def test_twins_have_the_same_parameters(name: str) -> None:
    ours, theirs = public_methods(AsyncClient)[name], public_methods(Client)[name]
    assert list(ours.parameters.values()) == list(theirs.parameters.values())


@pytest.mark.parametrize("name", sorted(public_methods(AsyncClient)))
def test_twins_say_the_same(name: str) -> None:
    def first_sentence(cls: type) -> str:
        return (inspect.getdoc(getattr(cls, name)) or "").partition("\n")[0]

    assert first_sentence(AsyncClient) == first_sentence(Client) != ""


def test_parameters_of_one_type_are_keyword_only() -> None:
    positional = {
        name: [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
        ]
        for name, signature in public_methods(Client).items()
    }
    more_than_one = {name: names for name, names in positional.items() if len(names) > 1}
    assert more_than_one == {
        "close_branch": ["branch_id", "region"],
        "subscribe": ["service", "region"],
    }


@pytest.mark.parametrize("cls", [AsyncClient, Client])
def test_the_environment_makes_a_client(cls: type[AsyncClient | Client]) -> None:
    client = cls.from_env(
        {
            "RENDEZVOUS_ENDPOINTS": "eu-1:7000, eu-2:7000,",
            "RENDEZVOUS_REGION": "eu",
            "RENDEZVOUS_TIMEOUT": "2.5",
        }
    )
    assert client.endpoints == ("eu-1:7000", "eu-2:7000")
    assert client.region == "eu"
    assert client._defaults.timeout_s == 2.5
    assert cls.from_env({"RENDEZVOUS_ENDPOINTS": "a:1"})._defaults.timeout_s == 10.0


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({}, "RENDEZVOUS_ENDPOINTS"),
        ({"RENDEZVOUS_ENDPOINTS": " "}, "RENDEZVOUS_ENDPOINTS"),
        ({"RENDEZVOUS_ENDPOINTS": "a:1", "RENDEZVOUS_TIMEOUT": "5s"}, "RENDEZVOUS_TIMEOUT"),
        ({"RENDEZVOUS_ENDPOINTS": "a:1", "RENDEZVOUS_TIMEOUT": "0"}, "timeout"),
        ({"RENDEZVOUS_ENDPOINTS": "a"}, "endpoints"),
    ],
)
def test_a_malformed_environment_is_refused_by_name(environ: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Client.from_env(environ)
    assert caught.value.details["field"] == field


def test_endpoints_come_as_text_or_sequence() -> None:
    assert parse_endpoints("a:1,b:2,a:1") == ("a:1", "b:2")
    assert parse_endpoints(["[::1]:1"]) == ("[::1]:1",)
    for malformed in ("", [], ["a"], ["a:x"], [":1"], "a:1,b"):
        with pytest.raises(InvalidArgument):
            parse_endpoints(malformed)
