"""Frames: streams of bytes become messages, or a `FrameError`, nothing else (F14, F17)."""

from __future__ import annotations

import itertools

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.limits import COMMAND_BYTES_MAX, ID_BYTES_MAX
from rendezvous_raft.node.expiry import PARKED_REPORTED_MAX
from rendezvous_raft.replication.raft.frames import (
    FRAME_BYTES_MAX,
    FrameError,
    FrameReader,
    encode_frame,
)
from rendezvous_raft.replication.raft.leading import APPEND_BYTES_MAX

values = st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=20) | st.text(max_size=5)
messages = st.dictionaries(st.text(max_size=5), values, max_size=4).map(
    lambda fields: {**fields, "type": "x"}
)


@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 400), max_size=6))
def test_messages_come_out_however_the_stream_is_cut(
    sent: list[dict[str, object]], cuts: list[int]
) -> None:
    stream = b"".join(encode_frame(message) for message in sent)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    received: list[dict[str, object]] = []
    for start, end in itertools.pairwise(places):
        received += reader.feed(stream[start:end])
    assert received == sent


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_arbitrary_bytes_are_a_frame_error_or_messages(received: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for piece in received:
            for message in reader.feed(piece):
                assert isinstance(message["type"], str)
    except FrameError:
        return


@given(st.binary(max_size=60))
def test_a_body_of_arbitrary_bytes_is_a_frame_error_or_a_message(body: bytes) -> None:
    frame = len(body).to_bytes(4, "big") + body
    try:
        (message,) = FrameReader().feed(frame)
    except FrameError:
        return
    assert msgpack.unpackb(body) == message


@pytest.mark.parametrize(
    "value",
    [
        7,
        [],
        {},
        {"type": 1},
        {"kind": "x"},
        {1: 2, "type": "x"},
        msgpack.Timestamp(1, 2),
    ],
    ids=str,
)
def test_what_is_no_message_is_refused(value: object) -> None:
    body = msgpack.packb(value)
    with pytest.raises(FrameError):
        list(FrameReader().feed(len(body).to_bytes(4, "big") + body))


def test_nesting_without_end_is_refused() -> None:
    body = b"\x91" * 100_000
    with pytest.raises(FrameError):
        list(FrameReader().feed(len(body).to_bytes(4, "big") + body))


def test_a_length_beyond_the_cap_is_refused_before_its_bytes_come() -> None:
    reader = FrameReader()
    with pytest.raises(FrameError, match="at most"):
        list(reader.feed((FRAME_BYTES_MAX + 1).to_bytes(4, "big")))


def test_a_frame_of_the_cap_passes_and_a_larger_one_is_not_made() -> None:
    overhead = len(msgpack.packb({"type": "x", "data": bytes(70_000)})) - 70_000
    largest = {"type": "x", "data": bytes(FRAME_BYTES_MAX - overhead)}
    assert list(FrameReader().feed(encode_frame(largest))) == [largest]
    with pytest.raises(FrameError, match="at most"):
        encode_frame({"type": "x", "data": bytes(FRAME_BYTES_MAX - overhead + 1)})


def test_everything_that_the_rules_send_fits_into_a_frame() -> None:
    largest = [
        {"type": "append", "entries": [[bytes(APPEND_BYTES_MAX + COMMAND_BYTES_MAX + 256), 1]]},
        {"type": "forward", "payload": bytes(COMMAND_BYTES_MAX + 256)},
        {"type": "parked", "request_ids": ["x" * ID_BYTES_MAX] * PARKED_REPORTED_MAX},
    ]
    for message in largest:
        assert list(FrameReader().feed(encode_frame(message))) == [message]
