from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.client._ids import IdFactory
from rendezvous_raft.limits import ID_ALPHABET, ID_BYTES_MAX

ULID = r"[0-9A-HJKMNP-TV-Z]{26}"


def test_ids_have_the_documented_form() -> None:
    ids = IdFactory()
    assert re.fullmatch(ULID, ids.request_id())
    assert re.fullmatch(rf"post-storage-{ULID}", ids.branch_id("post-storage"))


@given(st.text())
def test_any_service_makes_a_legal_branch_id(service: str) -> None:
    assert re.fullmatch(rf"{ID_ALPHABET}{{1,{ID_BYTES_MAX}}}", IdFactory().branch_id(service))


def test_ids_differ_within_a_millisecond() -> None:
    # semantics: G2.4
    ids = IdFactory(now_ms=lambda: 7)
    assert len({ids.request_id() for _ in range(1_000)}) == 1_000


def test_time_in_ids_never_goes_back() -> None:
    clock = iter([50, 40, 30, 60])
    ids = IdFactory(now_ms=lambda: next(clock), chance=bytes)
    made = [ids.request_id() for _ in range(4)]
    assert made[0] == made[1] == made[2] < made[3]


def test_the_encoding_is_that_of_ulids() -> None:
    ids = IdFactory(now_ms=lambda: 1_469_918_176_385, chance=lambda size: b"\xff" * size)
    assert ids.request_id() == "01ARYZ6S41" + "Z" * 16
