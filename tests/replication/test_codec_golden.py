"""Bytes that version 1 wrote: they decode to the same commands for ever (style P10).

A line of the file is never changed. A new version adds a file of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from rendezvous_raft.core import commands as c
from rendezvous_raft.replication.codec import Entry, decode_command, decode_entry, encode_command
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    CommandId,
    LeaseId,
    Region,
    RequestId,
    Service,
    Tag,
    Zone,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "commands-v1.txt"
ID = CommandId(bytes(range(12)))
R1 = RequestId("req-1")
COMMANDS: dict[str, c.Command] = {
    "request": c.RegisterRequest(ID, R1, 1_700_000_000_000),
    "branches": c.RegisterBranches(
        ID,
        R1,
        (
            c.NewBranch(
                BranchId("post-1"),
                Service("post-storage"),
                Tag("write"),
                BranchKind.REGIONAL,
                (Region("eu"), Region("us")),
                Zone("a/b"),
                BranchId("post-0"),
                monitored=False,
                locator=b"bucket\x00key",
            ),
            c.NewBranch(BranchId("g"), Service("ü")),
            c.NewBranch(BranchId("n"), Service("s"), kind=BranchKind.REGIONLESS),
        ),
        1,
    ),
    "numbered": c.RegisterNumbered(
        ID, RequestId(""), "rv_n1", (c.NewBranch(BranchId(""), Service("s")),), 3
    ),
    "closes": c.CloseBranches(
        ID,
        (
            c.Close(BranchId("post-1"), Region("eu")),
            c.Close(BranchId("g")),
            c.Close(BranchId("n"), all_regions=True),
        ),
        2,
    ),
    "begin-wait": c.BeginWait(
        ID,
        LeaseId("lease-1"),
        R1,
        "n1",
        c.Scope((Service("a"), Service("b")), Region("eu"), Tag("t"), Zone(""), Service("w"), True),
        10_000,
    ),
    "begin-wait-without-zone": c.BeginWait(ID, LeaseId("lease-1"), R1, "n1", c.Scope(), 0),
    "end-wait": c.EndWait(ID, LeaseId("lease-1")),
    "pulse": c.Pulse(ID, 1_000),
    "expire": c.ExpireRequests(ID, 600_000, 3_600_000, 86_400_000, (R1,), 1_000),
    "activate": c.ActivateVersion(ID, 1),
    "barrier": c.Barrier(ID),
}


def golden() -> dict[str, bytes]:
    lines = [line.split() for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    return {name: bytes.fromhex(encoded) for name, encoded in lines}


def test_every_kind_of_command_has_its_bytes() -> None:
    assert set(golden()) == {*COMMANDS, "entry"}
    assert {type(command) for command in COMMANDS.values()} == set(get_args(c.Command))


@pytest.mark.parametrize("name", COMMANDS)
def test_bytes_of_version_1_decode_for_ever(name: str) -> None:
    assert decode_command(golden()[name]) == COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_version_1_is_what_is_written_today(name: str) -> None:
    assert encode_command(COMMANDS[name]) == golden()[name]


def test_an_entry_of_version_1_decodes_for_ever() -> None:
    entry = Entry(b"\x00origin\xff", 300, (COMMANDS["request"], COMMANDS["pulse"]))
    assert decode_entry(golden()["entry"]) == entry
