"""The gate of the rules: a message has exactly its fields, or it does not pass (F14)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.replication.raft.frames import FrameError
from rendezvous_raft.replication.raft.messages import check_message
from rendezvous_raft.replication.raft.rules import _HANDLERS

ASK: dict[str, Any] = {"last_index": 7, "last_term": 1, "transfer": False, "incarnation": 0}
VALID: dict[str, dict[str, Any]] = {
    "pre_vote": ASK,
    "pre_vote_reply": {},
    "vote": ASK,
    "vote_reply": {},
    "timeout_now": {},
    "append": {
        "round": 1,
        "prev_index": 1,
        "prev_term": 0,
        "entries": [[b"\x00x", 1]],
        "commit": 1,
    },
    "append_reply": {"round": 1, "prev_index": 1, "ok": True, "match": 1, "hint": 0},
    "snapshot": {"index": 9, "snapshot_term": 1, "offset": 0, "size": 3, "data": b"abc"},
    "snapshot_reply": {"round": 0, "offset": 3, "installed": 0},
    "stale": {},
    "read": {"read_id": 1},
    "read_reply": {"read_id": 1, "index": 4},
    "commit": {"commit": 5},
    "forward": {"origin": b"o", "sequence": 1, "payload": b"x"},
    "forward_refused": {"origin": b"o", "sequence": 1},
    "parked": {"request_ids": ["r1"]},
    "join": {"name": "d", "incarnation": 7},
    "not_member": {"known": 0},
}
OTHER_VALUES: list[Any] = [None, -1, True, 1.0, 1, "x", b"x", [], {}, [1], [[b"x"]], [["x", 1]]]


def message(kind: str, **changed: object) -> dict[str, Any]:
    return {"type": kind, "term": 3, **VALID[kind], **changed}


def test_every_handler_has_a_message_and_a_gate() -> None:
    assert set(_HANDLERS) == set(VALID)


@pytest.mark.parametrize("kind", VALID)
def test_a_valid_message_passes_with_more_than_it_needs(kind: str) -> None:
    check_message(message(kind))
    check_message(message(kind, something_newer=1))


@pytest.mark.parametrize("kind", VALID)
def test_a_field_that_is_missing_or_of_another_type_is_refused(kind: str) -> None:
    refused = 0
    for name, valid in message(kind).items():
        if name == "type":
            continue
        lacking = message(kind)
        del lacking[name]
        with pytest.raises(FrameError, match=name):
            check_message(lacking)
        for value in OTHER_VALUES:
            if type(value) is not type(valid) or (isinstance(valid, int) and value == -1):
                with pytest.raises(FrameError, match=name):
                    check_message(message(kind, **{name: value}))
                refused += 1
    assert refused >= 10


@pytest.mark.parametrize("entries", [[1], [[b"x"]], [["x", 1]], [[b"x", 1, 2]], [[b"x", True]]])
def test_entries_are_pairs_of_bytes_and_term(entries: list[object]) -> None:
    with pytest.raises(FrameError, match="entry"):
        check_message(message("append", entries=entries))


def test_request_ids_are_text() -> None:
    with pytest.raises(FrameError, match="request ids"):
        check_message(message("parked", request_ids=["r1", b"r2"]))


@pytest.mark.parametrize("kind", ["", "hello", "welcome", "apply_command", "Append"])
def test_a_message_that_is_none_of_the_rules_is_refused(kind: str) -> None:
    with pytest.raises(FrameError, match="unknown message"):
        check_message({"type": kind, "term": 1})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from(sorted(VALID)), st.dictionaries(st.sampled_from(["term", *ASK]), plain), plain
)
def test_arbitrary_fields_are_a_frame_error_or_pass(
    kind: str, changed: dict[str, Any], value: object
) -> None:
    names = sorted(VALID[kind]) or ["term"]
    try:
        check_message({**message(kind), names[0]: value, **changed})
    except FrameError:
        return
