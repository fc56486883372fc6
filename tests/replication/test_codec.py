"""Commands and entries as bytes: back as they were, or a `CodecError`, nothing else."""

from __future__ import annotations

from typing import get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.core import commands as c
from rendezvous_raft.replication.codec import (
    COMMAND_VERSION,
    CodecError,
    decode_command,
    decode_entry,
    encode_command,
    encode_entry,
)
from rendezvous_raft.types import BranchKind, CommandId

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
counts = st.integers(0, 2**63 - 1)
ids = st.binary(max_size=16).map(CommandId)
text_tuples = st.lists(texts, max_size=3).map(tuple)
scopes = st.builds(
    c.Scope,
    services=text_tuples,
    region=texts,
    tag=texts,
    zone=st.none() | texts,
    waiter_service=texts,
    wait_dependencies=st.booleans(),
)
branches = st.builds(
    c.NewBranch,
    branch_id=texts,
    service=texts,
    tag=texts,
    kind=st.sampled_from(BranchKind),
    regions=text_tuples,
    zone=texts,
    parent_branch_id=texts,
    monitored=st.booleans(),
    locator=st.binary(max_size=8),
)
closes = st.builds(c.Close, branch_id=texts, region=texts, all_regions=st.booleans())
COMMANDS = {
    c.RegisterRequest: st.builds(c.RegisterRequest, ids, texts, counts),
    c.RegisterBranches: st.builds(
        c.RegisterBranches, ids, texts, st.lists(branches, max_size=3).map(tuple), counts
    ),
    c.RegisterNumbered: st.builds(
        c.RegisterNumbered, ids, texts, texts, st.lists(branches, max_size=3).map(tuple), counts
    ),
    c.CloseBranches: st.builds(
        c.CloseBranches, ids, st.lists(closes, max_size=3).map(tuple), counts
    ),
    c.BeginWait: st.builds(c.BeginWait, ids, texts, texts, texts, scopes, counts),
    c.EndWait: st.builds(c.EndWait, ids, texts),
    c.JoinGroup: st.builds(
        c.JoinGroup, ids, texts, texts, texts, texts, text_tuples, texts, counts
    ),
    c.RenewMembers: st.builds(c.RenewMembers, ids, text_tuples, counts),
    c.LeaveGroups: st.builds(c.LeaveGroups, ids, text_tuples),
    c.Pulse: st.builds(c.Pulse, ids, counts),
    c.ExpireRequests: st.builds(c.ExpireRequests, ids, counts, counts, counts, text_tuples, counts),
    c.ActivateVersion: st.builds(c.ActivateVersion, ids, st.integers(0, COMMAND_VERSION)),
    c.Barrier: st.builds(c.Barrier, ids),
}
commands = st.one_of(*COMMANDS.values())


def test_every_kind_of_command_is_covered() -> None:
    assert set(COMMANDS) == set(get_args(c.Command))


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_a_command_comes_back_as_it_was(kind: type[c.Command]) -> None:
    @given(command=COMMANDS[kind])
    def check(command: c.Command) -> None:
        assert decode_command(encode_command(command)) == command

    check()


@given(st.binary(max_size=8), counts, st.lists(commands, max_size=4))
def test_an_entry_comes_back_as_it_was(
    origin: bytes, sequence: int, carried: list[c.Command]
) -> None:
    entry = decode_entry(encode_entry(origin, sequence, map(encode_command, carried)))
    assert (entry.origin, entry.sequence, entry.commands) == (origin, sequence, tuple(carried))


@given(commands)
def test_the_same_command_has_the_same_bytes(command: c.Command) -> None:
    assert encode_command(command) == encode_command(decode_command(encode_command(command)))


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


@given(st.binary(max_size=200) | plain.map(msgpack.packb))
def test_arbitrary_bytes_are_a_codec_error_or_nothing(encoded: bytes) -> None:
    for decode in (decode_command, decode_entry):
        try:
            decode(encoded)
        except CodecError:
            continue


@given(commands, plain, st.integers(0, 9))
def test_a_field_of_another_type_is_a_codec_error_or_another_command(
    command: c.Command, value: object, place: int
) -> None:
    fields = msgpack.unpackb(encode_command(command))
    fields[place % len(fields)] = value
    try:
        decoded = decode_command(msgpack.packb(fields))
    except CodecError:
        return
    # What is taken must be taken by the state machine too: its fields have their types.
    assert encode_command(decoded)


@given(st.lists(commands, min_size=1, max_size=3), st.data())
def test_an_entry_that_is_cut_off_is_found(carried: list[c.Command], data: st.DataObject) -> None:
    encoded = encode_entry(b"o", 1, map(encode_command, carried))
    length = data.draw(st.integers(0, len(encoded) - 1))
    try:
        entry = decode_entry(encoded[:length])
    except CodecError:
        return
    assert entry.commands == tuple(carried[: len(entry.commands)])
    assert length == len(encode_entry(b"o", 1, map(encode_command, entry.commands)))


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "cut off"),
        (b"\xc1", "not an entry"),
        (msgpack.packb([2, b"o", 1]), "unknown entry v2"),
        (msgpack.packb([1, "o", 1]), "header"),
        (msgpack.packb([1, b"o", "1"]), "header"),
        (msgpack.packb([1, b"o"]), "not an entry"),
        (msgpack.packb(7), "not an entry"),
        (msgpack.packb([1, b"o", 1]) + b"\x93\x01", "cut off"),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([3, "barrier", b"c"]), "unknown command v3"),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([[], "barrier", b"c"]), "unknown command v"),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([2, "barrier", b"c"]), "unknown kind"),
        (
            msgpack.packb([1, b"o", 1]) + msgpack.packb([1, "leave-groups", b"c", []]),
            "unknown kind of command 'leave-groups' in v1",
        ),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([1, "dance", b"c"]), "unknown kind"),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([1, ["x"], b"c"]), "unknown kind"),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([1, "barrier", "c"]), "unknown kind"),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([1, "pulse", b"c", 1, 2]), "fields"),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([1, "pulse", b"c", True]), "fields"),
        (msgpack.packb([1, b"o", 1]) + msgpack.packb([1, "activate", b"c", 3]), "not supported"),
    ],
)
def test_an_unknown_entry_says_what_is_unknown(encoded: bytes, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        decode_entry(encoded)


def test_a_deeply_nested_value_is_a_codec_error() -> None:
    nested = b"\x91" * 100_000 + b"\x00"
    for decode in (decode_command, decode_entry):
        with pytest.raises(CodecError):
            decode(nested)
