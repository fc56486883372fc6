"""Bytes that each version wrote: they decode to the same commands for ever.

A line of the file is never changed. A new version adds a file of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from rendezvous_raft.core import commands as c
from rendezvous_raft.replication.codec import (
    COMMAND_VERSION,
    Entry,
    decode_command,
    decode_entry,
    encode_command,
)
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    CommandId,
    LeaseId,
    MemberId,
    Region,
    RequestId,
    Service,
    Tag,
    Zone,
)

GOLDEN = Path(__file__).parent.parent / "golden"
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
COMMANDS_OF_2: dict[str, c.Command] = {
    "join-group": c.JoinGroup(
        ID,
        MemberId("member-1"),
        Service("post-storage"),
        Region("eu"),
        "g\u00fc",
        (Tag("a"), Tag("b")),
        "n1",
        10_000,
    ),
    "join-group-without-tags": c.JoinGroup(
        ID, MemberId("m"), Service("s"), Region("eu"), "g", (), "n1", 0
    ),
    "renew-members": c.RenewMembers(ID, (MemberId("member-1"), MemberId("member-2")), 10_000),
    "leave-groups": c.LeaveGroups(ID, (MemberId("member-1"),)),
    "activate": c.ActivateVersion(ID, 2),
}
ALL = {1: COMMANDS, 2: COMMANDS_OF_2}
CASES = [(version, name) for version, commands in ALL.items() for name in commands]


def golden(version: int) -> dict[str, bytes]:
    text = (GOLDEN / f"commands-v{version}.txt").read_text()
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name: bytes.fromhex(encoded) for name, encoded in lines}


def test_every_kind_of_command_has_its_bytes() -> None:
    assert {path.name for path in GOLDEN.glob("commands-*")} == {
        f"commands-v{version}.txt" for version in range(1, COMMAND_VERSION + 1)
    }
    for version, commands in ALL.items():
        assert set(golden(version)) == {*commands, "entry"}
    kinds = {type(command) for commands in ALL.values() for command in commands.values()}
    assert kinds == set(get_args(c.Command))


@pytest.mark.parametrize(("version", "name"), CASES)
def test_bytes_of_every_version_decode_for_ever(version: int, name: str) -> None:
    assert decode_command(golden(version)[name]) == ALL[version][name]


@pytest.mark.parametrize(("version", "name"), CASES)
def test_every_version_is_what_is_written_today(version: int, name: str) -> None:
    assert encode_command(ALL[version][name]) == golden(version)[name]


def test_an_entry_of_version_1_decodes_for_ever() -> None:
    entry = Entry(b"\x00origin\xff", 300, (COMMANDS["request"], COMMANDS["pulse"]))
    assert decode_entry(golden(1)["entry"]) == entry


def test_an_entry_may_have_commands_of_several_versions() -> None:
    entry = Entry(b"o", 1, (COMMANDS["request"], COMMANDS_OF_2["leave-groups"]))
    assert decode_entry(golden(2)["entry"]) == entry


def test_what_version_1_knows_is_written_as_version_1() -> None:
    """For as long as nothing newer is used, a node of that version can follow."""
    assert {golden(1)[name][1] for name in COMMANDS} == {1}
    assert {golden(2)[name][1] for name in COMMANDS_OF_2} == {1, 2}
    assert golden(2)["activate"][1] == 1
