"""Whatever comes through a socket: a `FrameError`, or a message that the rules accept (F14, F17).

Chance makes values and damages valid frames; the gate is the one of a connection, from the first
byte to the hands of the rules.
"""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from typing import Any, cast

import msgpack
from hypothesis import assume, given
from hypothesis import strategies as st
from test_messages import VALID, message

from rendezvous_raft.replication.raft.connections import Hall, Inbound
from rendezvous_raft.replication.raft.frames import (
    FRAME_BYTES_MAX,
    GREETING_BYTES_MAX,
    FrameError,
    encode_frame,
)
from rendezvous_raft.replication.raft.greetings import Caller, greeting_of
from rendezvous_raft.replication.raft.messages import check_message
from rendezvous_raft.replication.raft.metadata import Birth

HELLO = greeting_of(Caller("b", "127.0.0.1:1", Birth(7)), cluster_id="c", receiver="a")
WELCOME = encode_frame({"type": "welcome"})


class Gate:
    """A connection without a socket, and a hall that lets `b` in. Any other exception escapes."""

    tls = None
    silence_s = 1.0

    def __init__(self, *, greeted: bool) -> None:
        self.accepted: list[dict[str, Any]] = []
        self.why = ""
        self.written = bytearray()
        self.is_cut_off = False
        self.inbound = Inbound(cast("Hall", self))
        self.inbound._transport = cast("asyncio.Transport", self)
        if greeted:
            self.inbound.data_received(encode_frame(HELLO))
            assert self.inbound.sender == "b"

    def admit(self, inbound: Inbound, greeting: dict[str, Any], certified: str | None) -> str:
        if greeting != HELLO:
            raise FrameError("another greeting")
        return "b"

    def received(self, sender: str, message: dict[str, Any]) -> None:
        check_message(message)
        self.accepted.append(message)

    def refused(self, inbound: Inbound, reason: str) -> None:
        self.why = reason

    def inbound_closed(self, inbound: Inbound) -> None:
        """Nothing to do."""

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_cut_off = True

    def feed(self, stream: bytes, cuts: list[int]) -> None:
        """Gives it a stream in pieces, until it has had enough."""
        places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
        for start, end in itertools.pairwise(places):
            if self.is_cut_off:
                return
            self.inbound.data_received(stream[start:end])


def packed(value: object) -> bytes:
    body: bytes = msgpack.packb(value)
    return len(body).to_bytes(4, "big") + body


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**40), st.integers(0, 999_999_999))
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(0, 9) | st.none(), inner, max_size=4)
    ),
    max_leaves=12,
)
kinds = st.sampled_from(sorted(VALID))
frames = kinds.map(lambda kind: encode_frame(message(kind)))
cuts = st.lists(st.integers(0, 10_000), max_size=4)


@given(values, cuts, st.booleans())
def test_any_value_in_a_frame(value: object, cuts: list[int], greeted: bool) -> None:
    gate = Gate(greeted=greeted)
    gate.feed(packed(value), cuts)
    assert gate.is_cut_off  # none of these is a message of ours
    assert gate.accepted == []
    assert greeted or gate.why


@given(kinds, st.data(), values)
def test_any_value_in_the_place_of_a_field(kind: str, data: st.DataObject, value: object) -> None:
    valid = message(kind)
    field = data.draw(st.sampled_from(sorted(valid)))
    gate = Gate(greeted=True)
    gate.feed(packed({**valid, field: value}), [])
    assert gate.is_cut_off is not bool(gate.accepted)
    for accepted in gate.accepted:
        for name, was in valid.items():
            assert type(accepted[name]) is type(was)


@given(st.lists(frames, min_size=1, max_size=4), st.data(), cuts)
def test_frames_with_damaged_bytes(sent: list[bytes], data: st.DataObject, cuts: list[int]) -> None:
    stream = bytearray(b"".join(sent))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(stream) - 1))
        match data.draw(st.sampled_from(["flip", "insert", "remove"])):
            case "flip":
                stream[position] ^= data.draw(st.integers(1, 255))
            case "insert":
                stream[position:position] = data.draw(st.binary(min_size=1, max_size=6))
            case "remove" if len(stream) > 1:
                del stream[position]
    gate = Gate(greeted=True)
    gate.feed(bytes(stream), cuts)
    for accepted in gate.accepted:
        check_message(accepted)
    assert bytes(gate.written) == WELCOME  # it answers a greeting and nothing else


@given(st.lists(frames, max_size=4), cuts)
def test_valid_frames_pass_however_they_are_cut(sent: list[bytes], cuts: list[int]) -> None:
    gate = Gate(greeted=True)
    gate.feed(b"".join(sent), cuts)
    assert not gate.is_cut_off
    assert [encode_frame(accepted) for accepted in gate.accepted] == sent


@given(st.dictionaries(st.sampled_from([*HELLO, "x"]), values, max_size=6), cuts)
def test_who_greets_otherwise_is_never_heard(fields: dict[str, Any], cuts: list[int]) -> None:
    greeting = {**HELLO, **fields}
    assume(greeting != HELLO)
    gate = Gate(greeted=False)
    gate.feed(packed(greeting) + encode_frame(message("read")), cuts)
    assert gate.is_cut_off
    assert gate.why
    assert gate.accepted == []
    assert gate.written == b""


def held_bytes(gate: Gate, stream: bytes, piece_bytes: int) -> int:
    """The most memory that a stream takes on its way through the gate, beside itself."""
    tracemalloc.start()
    try:
        for start in range(0, len(stream), piece_bytes):
            if gate.is_cut_off:
                break
            gate.inbound.data_received(stream[start : start + piece_bytes])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_who_has_not_greeted_gets_no_memory() -> None:
    for length in (GREETING_BYTES_MAX + 1, FRAME_BYTES_MAX, 2**32 - 1):
        gate = Gate(greeted=False)
        stream = length.to_bytes(4, "big") + bytes(FRAME_BYTES_MAX)
        assert held_bytes(gate, stream, 1_000) < 64 * 1024
        assert gate.is_cut_off


def test_who_has_greeted_gets_memory_for_a_frame_and_no_more() -> None:
    gate = Gate(greeted=True)
    endless = (FRAME_BYTES_MAX).to_bytes(4, "big") + b"\xc4" * (FRAME_BYTES_MAX + 100_000)
    assert held_bytes(gate, endless, 60_000) < 4 * FRAME_BYTES_MAX
    assert gate.is_cut_off
    # Lengths that lie: an array of four thousand million, in some bytes.
    for lie in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"):
        gate = Gate(greeted=True)
        body = b"\x81\xa4type" + lie * 1_000
        frame = len(body).to_bytes(4, "big") + body
        assert held_bytes(gate, frame, len(frame)) < 1_000_000
        assert gate.is_cut_off
