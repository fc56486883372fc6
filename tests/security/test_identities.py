"""Who a certificate is for: one meaning per URI, none for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.identities import (
    authority_cluster,
    authority_identity,
    client_identity,
    member_identity,
    member_named,
)

names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


@given(names, names, names, names)
def test_no_two_members_share_an_identity(c1: str, n1: str, c2: str, n2: str) -> None:
    first, second = member_identity(c1, n1), member_identity(c2, n2)
    assert (first == second) is ((c1, n1) == (c2, n2))
    assert member_named([first], c1) == n1


@given(
    names, names, st.lists(st.text(max_size=12).map(lambda text: f"spiffe://{text}"), max_size=2)
)
def test_uris_of_others_are_of_no_matter(cluster: str, name: str, others: list[str]) -> None:
    assert member_named([*others, member_identity(cluster, name)], cluster) == name


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["spiffe://c/member/a"],
        [member_identity("c", "a"), member_identity("c", "b")],
        [member_identity("c", "a"), member_identity("d", "a")],
        [member_identity("d", "a")],
        [client_identity("c", "a")],
        [authority_identity("c")],
        ["rendezvous://c/member/"],
        ["rendezvous://c/member"],
        ["rendezvous://c/member/a/b"],
        ["rendezvous:///member/a"],
        ["rendezvous://c"],
        ["rendezvous://C/member/a"],
        ["Rendezvous://c/member/a"],
    ],
    ids=str,
)
def test_everything_else_is_nobody(uris: list[str]) -> None:
    with pytest.raises(ValueError, match="the certificate"):
        member_named(uris, "c")


@given(st.lists(st.text(max_size=30), max_size=3))
def test_any_text_is_somebody_or_nobody(uris: list[str]) -> None:
    try:
        member_named(uris, "c")
    except ValueError:
        return


def test_authorities_name_their_cluster() -> None:
    assert authority_cluster(["x", authority_identity("c")]) == "c"
    assert authority_cluster([member_identity("c", "a")]) is None
