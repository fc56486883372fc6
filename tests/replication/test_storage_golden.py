"""The files of format version 1: they are read for ever, and today's are the same byte for byte.

`tests/golden/storage-v1` is the directory of a node that did what `write_files` does. Its files are
never changed. Who changes the format makes a new version, whose directory
`python tests/replication/test_storage_golden.py` writes, and keeps reading this one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rendezvous_raft.core import commands as c
from rendezvous_raft.core import snapshot as core_snapshot
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.replication.codec import encode_command, encode_entry
from rendezvous_raft.replication.raft.blocks import FORMAT_VERSION
from rendezvous_raft.replication.raft.inspection import inspect_log
from rendezvous_raft.replication.raft.memberships import membership_of, membership_row
from rendezvous_raft.replication.raft.snapshot_inspection import inspect_snapshot
from rendezvous_raft.replication.raft.snapshots import encode_snapshot
from rendezvous_raft.replication.raft.storage import DamagedError, LogEntry
from rendezvous_raft.replication.raft.verification import verify_directory
from rendezvous_raft.testing.durable_lives import DIRECTORY, MEMBERSHIP, open_log, turns_until
from rendezvous_raft.testing.memory_files import MemoryFiles
from rendezvous_raft.types import BranchId, BranchKind, CommandId, Region, RequestId, Service

GOLDEN = Path(__file__).parent.parent / "golden"
SEGMENT_BYTES = 16 * 1024
NOT_GOLDEN = ("spare", "reserve")
"""Zeros that say nothing."""
SNAPSHOT = "00000000000000000004-00000000000000000001.snapshot"
NO_OP = b"\x01"


def command(number: int, locator: bytes = b"") -> c.RegisterBranches:
    branch = c.NewBranch(
        BranchId(f"post-{number}"),
        Service("post-storage"),
        kind=BranchKind.REGIONAL,
        regions=(Region("eu"), Region("us")),
        locator=locator,
    )
    at_ms = 1_700_000_000_000 + number
    return c.RegisterBranches(
        CommandId(b"%012d" % number), RequestId(f"r{number}"), (branch,), at_ms
    )


def payload(number: int, size: int = 0) -> bytes:
    return b"\x00" + encode_entry(
        b"origin-1", number, [encode_command(command(number, b"x" * size))]
    )


ENTRIES: list[LogEntry] = [
    (NO_OP, 2, 1),
    (payload(3), 3, 1),
    (payload(4, 3000), 4, 1),
    (payload(5, 5000), 5, 1),
    (NO_OP, 6, 2),
    (payload(7, 20_000), 7, 2),  # needs a segment of its own size
    (payload(8), 8, 2),
]
REPLACED: list[LogEntry] = [(payload(16, 3000), 6, 1), (payload(17), 7, 1)]
"""By those of term 2."""


async def write_files() -> MemoryFiles:
    """The life whose files are golden."""
    files = MemoryFiles()
    log, _ = open_log(files, segment_bytes=SEGMENT_BYTES)
    log.start(lambda: None, _not_expected)

    async def synced() -> None:
        await turns_until(lambda: log.synced == log.position)

    log.set_term(1, "n1")
    for entry in (*ENTRIES[:4], *REPLACED):
        log.append(*entry)
        await synced()
    log.set_term(2, None)
    log.truncate_from(6)
    for entry in ENTRIES[4:]:
        log.append(*entry)
        await synced()
    log.set_term(3, "n2")
    rows = [membership_row(MEMBERSHIP), *core_snapshot.rows(machine().state)]
    await log.save_snapshot(4, 1, list(encode_snapshot(rows)))
    await log.close()
    return files


def machine() -> StateMachine:
    """What entries up to 4 make."""
    made = StateMachine()
    made.apply(command(3))
    made.apply(command(4, b"x" * 3000))
    made.apply(
        c.CloseBranches(CommandId(b"%012d" % 99), (c.Close(BranchId("post-3"), Region("eu")),), 5)
    )
    return made


def _not_expected(error: BaseException) -> None:
    raise error


def golden_files() -> MemoryFiles:
    files = MemoryFiles()
    files.mkdir(DIRECTORY)
    for path in sorted((GOLDEN / "storage-v1").iterdir()):
        files.create(DIRECTORY / path.name).write_at(0, path.read_bytes())
    return files


def told(files: MemoryFiles) -> dict[str, bytes]:
    return {path.name: files.content(path) for path in files.paths() if path.name not in NOT_GOLDEN}


def test_every_version_of_the_format_has_its_files() -> None:
    found = {path.name for path in GOLDEN.glob("storage-v*")}
    assert found == {f"storage-v{version}" for version in range(1, FORMAT_VERSION + 1)}


@pytest.mark.skipif(FORMAT_VERSION != 1, reason="today's version is another")
async def test_version_1_is_what_is_written_today() -> None:
    written, golden = told(await write_files()), told(golden_files())
    assert set(written) == set(golden)
    for name, content in golden.items():
        same = written[name] == content
        assert same, f"{name}: another format under the same version number"


def test_files_of_version_1_say_what_they_said() -> None:
    files = golden_files()
    log, recovered = open_log(files, segment_bytes=SEGMENT_BYTES)
    assert (recovered.term, recovered.voted_for) == (3, "n2")
    assert (recovered.base_index, recovered.base_term) == (4, 1)
    assert recovered.entries == ENTRIES[3:] == [entry for entry in ENTRIES if entry[1] > 4]
    assert recovered.cut is None
    assert recovered.snapshot is not None
    rows = log.load_snapshot(recovered.snapshot)
    assert membership_of(next(rows)) == MEMBERSHIP
    loaded = core_snapshot.load(rows)
    assert core_snapshot.digest(loaded.state) == core_snapshot.digest(machine().state)


def test_the_offline_tools_read_version_1() -> None:
    files = golden_files()
    before = told(files)
    files.calls.clear()
    verdict = verify_directory(DIRECTORY, files)
    assert verdict.is_sound
    assert (verdict.first_index, verdict.last_index, verdict.snapshot_index) == (5, 8, 4)
    report = inspect_log(DIRECTORY, entries=range(6, 9), files=files)
    assert [(entry.index, entry.term, entry.kind) for entry in report.entries] == [
        (6, 2, "no-op"),
        (7, 2, "commands"),
        (8, 2, "commands"),
    ]
    assert [cut.from_index for segment in report.segments for cut in segment.cuts] == [6]
    assert report.end == report.durable
    snapshot = inspect_snapshot(DIRECTORY / SNAPSHOT, requests=True, files=files)
    assert [request.request_id for request in snapshot.requests] == ["r3", "r4"]
    assert snapshot.state_digest == core_snapshot.digest(machine().state)
    assert files.calls == []
    assert told(files) == before


def test_each_golden_file_matters() -> None:
    """One bit of any of them that a start reads is noticed: none is golden for show."""
    for name in told(golden_files()):
        files = golden_files()
        files.flip_bit(DIRECTORY / name, 13 * 8)
        if name == "end":
            open_log(files, segment_bytes=SEGMENT_BYTES)  # the marks tell the same
            continue
        with pytest.raises(DamagedError, match=name):
            open_log(files, segment_bytes=SEGMENT_BYTES)


def main() -> None:
    directory = GOLDEN / f"storage-v{FORMAT_VERSION}"
    directory.mkdir()  # golden files are never written again
    for name, content in told(asyncio.run(write_files())).items():
        (directory / name).write_bytes(content)


if __name__ == "__main__":
    main()
