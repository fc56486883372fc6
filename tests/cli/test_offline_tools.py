"""`rendezvous wal` and `rendezvous snapshot` on real directories: they tell, and touch nothing."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import Invoke

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.replication.raft.files import ReadOnlyFiles, RealFiles
from rendezvous_raft.testing.durable_lives import Life
from rendezvous_raft.testing.memory_files import MemoryFiles

GOLDEN = Path(__file__).parent.parent / "golden" / "storage-v1"
SNAPSHOT = "00000000000000000004-00000000000000000001.snapshot"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A node's directory, to be damaged."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "node"))


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


def answer(invoke: Invoke, command: str, *more: str, exit_code: int = 0) -> Any:
    outcome = invoke(command, *more, "-o", "json")
    assert outcome.exit_code == exit_code, outcome.stderr
    return json.loads(outcome.stdout)


@contextmanager
def untouched(directory: Path) -> Iterator[None]:
    """Nothing in a directory is created, removed, written or renamed meanwhile."""

    def told() -> dict[str, tuple[bytes, int, int]]:
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
            for path in directory.iterdir()
        }

    before, changed_ns = told(), directory.stat().st_mtime_ns
    yield
    assert told() == before
    assert directory.stat().st_mtime_ns == changed_ns


def test_verify_finds_a_sound_directory_sound(invoke: Invoke, directory: Path) -> None:
    with untouched(directory):
        verdict = answer(invoke, "wal verify", str(directory))
    assert verdict["sound"] is True
    assert verdict["problems"] == verdict["notes"] == []
    assert (verdict["node_name"], verdict["term"], verdict["voted_for"]) == ("n1", 3, "n2")
    assert (verdict["first_index"], verdict["last_index"]) == (5, 8)
    assert (verdict["snapshot_index"], verdict["revision"]) == (4, 3)


@pytest.mark.parametrize(
    ("name", "offset"), [("metadata", 20), ("000000000005.log", 4110), (SNAPSHOT, 900)]
)
def test_verify_names_file_offset_and_what_to_do(
    invoke: Invoke, directory: Path, name: str, offset: int
) -> None:
    flip(directory / name, offset)
    with untouched(directory):
        verdict = answer(invoke, "wal verify", str(directory), exit_code=ExitCode.FAILED)
    assert verdict["sound"] is False
    (problem,) = verdict["problems"]
    assert problem["path"] == str(directory / name)
    assert 0 <= problem["offset"] <= offset
    assert "rendezvous server rejoin" in problem["next_step"]
    text = invoke("wal verify", str(directory)).stdout
    assert "damaged" in text
    assert name in text


def test_verify_finds_everything_that_is_wrong_at_once(invoke: Invoke, directory: Path) -> None:
    for name in ("metadata", "000000000006.log", SNAPSHOT):
        flip(directory / name, 30)
    verdict = answer(invoke, "wal verify", str(directory), exit_code=ExitCode.FAILED)
    found = {Path(problem["path"]).name for problem in verdict["problems"]}
    assert found == {"metadata", "000000000006.log", SNAPSHOT}


def test_verify_sees_that_log_and_snapshot_do_not_connect(invoke: Invoke, directory: Path) -> None:
    (directory / SNAPSHOT).unlink()
    verdict = answer(invoke, "wal verify", str(directory), exit_code=ExitCode.FAILED)
    assert "entries 2 to 4 are missing" in verdict["problems"][0]["problem"]


def test_verify_tells_of_a_torn_tail_and_leaves_it(invoke: Invoke, tmp_path: Path) -> None:
    directory = tmp_path / "node"

    async def live() -> None:
        life = Life(MemoryFiles(), disk=RealFiles(), directory=directory)
        life.open()
        life.append(b"\xffsynced")
        await life.close()
        life = Life(MemoryFiles(), life.model, disk=RealFiles(), directory=directory)
        life.open()
        life.append(b"\xffnever synced")
        life.log._wal.close()
        life.log._lock.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(live())
    log = directory / "000000000001.log"
    flip(log, log.read_bytes().index(b"never"))
    with untouched(directory):
        verdict = answer(invoke, "wal verify", str(directory))
    assert verdict["sound"] is True
    assert "cut at offset" in verdict["notes"][0]
    assert "cut at offset" in answer(invoke, "wal inspect", str(directory))["cut"]


def test_a_directory_in_use_is_not_judged_but_its_copy_is(
    invoke: Invoke, directory: Path, tmp_path: Path
) -> None:
    lock = RealFiles().lock(directory / "lock")
    try:
        refused = invoke("wal verify", str(directory))
        assert refused.exit_code == ExitCode.USAGE
        assert "in use by a running node" in refused.stderr
        looked = invoke("wal inspect", str(directory))
        assert looked.exit_code == ExitCode.OK
        assert "running node" in looked.stderr
        copy = Path(shutil.copytree(directory, tmp_path / "copy"))
        assert answer(invoke, "wal verify", str(copy))["sound"] is True
    finally:
        lock.close()
    # And looking leaves no lock behind: the node can start.
    invoke("wal verify", str(directory))
    with (directory / "lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_is_no_node_s_directory_is_a_usage_error(invoke: Invoke, tmp_path: Path) -> None:
    for command in ("wal verify", "wal inspect"):
        outcome = invoke(command, str(tmp_path))
        assert outcome.exit_code == ExitCode.USAGE
        assert "no files of a node" in outcome.stderr
        assert invoke(command, str(tmp_path / "nowhere")).exit_code == ExitCode.USAGE
    assert list(tmp_path.iterdir()) == []


def test_inspect_shows_segments_cuts_and_the_durable_end(invoke: Invoke, directory: Path) -> None:
    with untouched(directory):
        report = answer(invoke, "wal inspect", str(directory))
    assert (report["first_index"], report["last_index"]) == (5, 8)
    assert report["end"] == report["durable"]
    assert report["entries"] == []
    segments = report["segments"]
    assert sum(segment["entries"] for segment in segments) == 4 + 2  # two were replaced
    assert [cut["from_index"] for segment in segments for cut in segment["cuts"]] == [6]
    assert all(segment["marks"] for segment in segments[:-1])
    assert {span["term"] for segment in segments for span in segment["terms"]} == {1, 2}
    assert report["problem"] is None


def test_inspect_decodes_entries(invoke: Invoke, directory: Path) -> None:
    report = answer(invoke, "wal inspect", str(directory), "--entries", "6..8")
    assert [(entry["index"], entry["kind"]) for entry in report["entries"]] == [
        (6, "no-op"),
        (7, "commands"),
        (8, "commands"),
    ]
    (command,) = report["entries"][2]["commands"]
    assert command["kind"] == "RegisterBranches"
    assert command["fields"]["branches"][0]["branch_id"] == "post-8"
    assert "post-8" in invoke("wal inspect", str(directory), "--entries", "8").stdout
    assert "post-8" not in invoke("wal inspect", str(directory), "--entries", "5..7").stdout


@pytest.mark.parametrize("wrong", ["x", "1..", "1-2", "-1"])
def test_a_wrong_range_is_a_usage_error(invoke: Invoke, directory: Path, wrong: str) -> None:
    assert invoke("wal inspect", str(directory), f"--entries={wrong}").exit_code == ExitCode.USAGE


def test_inspect_shows_what_is_left_of_a_damaged_log(invoke: Invoke, directory: Path) -> None:
    flip(directory / "metadata", 20)
    flip(directory / "000000000006.log", 30)
    report = answer(
        invoke, "wal inspect", str(directory), "--entries", "1..99", exit_code=ExitCode.FAILED
    )
    assert "metadata" in report["problem"]
    (broken,) = (segment for segment in report["segments"] if segment["problem"])
    assert broken["number"] == 6
    assert report["node_name"] == "n1"
    assert 8 in [entry["index"] for entry in report["entries"]]


def test_an_entry_of_an_unknown_version_is_told(invoke: Invoke, tmp_path: Path) -> None:
    directory = tmp_path / "node"

    async def live() -> None:
        life = Life(MemoryFiles(), disk=RealFiles(), directory=directory)
        life.open()
        life.append(b"\x00\x93\x63\xc4\x01a\x01")
        await life.close()

    asyncio.run(live())
    verdict = answer(invoke, "wal verify", str(directory), exit_code=ExitCode.FAILED)
    (problem,) = verdict["problems"]
    assert "entry 2: unknown entry v99" in problem["problem"]
    assert "version" in problem["next_step"]
    (entry,) = answer(invoke, "wal inspect", str(directory), "--entries", "2")["entries"]
    assert entry["kind"] == "damaged"


def test_snapshot_inspect_tells_of_rows_and_digests(invoke: Invoke, directory: Path) -> None:
    with untouched(directory):
        report = answer(invoke, "snapshot inspect", str(directory / SNAPSHOT), "--requests")
    assert (report["index"], report["term"], report["revision"]) == (4, 1, 3)
    assert (report["file_version"], report["state_version"]) == (1, 1)
    rows = {kind["kind"]: kind["rows"] for kind in report["kinds"]}
    assert (rows["head"], rows["request"], rows["end"]) == (1, 2, 1)
    assert sum(kind["size_bytes"] for kind in report["kinds"]) < report["size_bytes"]
    assert [(r["request_id"], r["open_branches"]) for r in report["requests"]] == [
        ("r3", 1),
        ("r4", 1),
    ]
    assert len(report["digest"]) == len(report["state_digest"]) == 64
    text = invoke("snapshot inspect", str(directory / SNAPSHOT)).stdout
    assert report["state_digest"] in text
    assert "r3" not in text.split()


def test_snapshot_inspect_takes_a_copy_of_any_name(invoke: Invoke, tmp_path: Path) -> None:
    copy = Path(shutil.copy(GOLDEN / SNAPSHOT, tmp_path / "copied"))
    assert answer(invoke, "snapshot inspect", str(copy))["index"] == 4


def test_a_damaged_snapshot_is_told_with_its_offset(invoke: Invoke, directory: Path) -> None:
    path = directory / SNAPSHOT
    flip(path, 2000)
    outcome = invoke("snapshot inspect", str(path))
    assert outcome.exit_code == ExitCode.FAILED
    assert f"{path}: damaged at offset" in outcome.stderr
    assert "rejoin" in outcome.stderr


def test_a_damaged_length_costs_no_memory(invoke: Invoke, directory: Path) -> None:
    """The length of a chunk is read before its checksum can be."""
    path = directory / SNAPSHOT
    content = path.read_bytes()
    chunk = content.index(b"\x92\xaamembership") - 12
    flip(path, chunk + 3)
    outcome = invoke("snapshot inspect", str(path))
    assert outcome.exit_code == ExitCode.FAILED
    assert "longer than the file" in outcome.stderr


def test_files_opened_for_reading_cannot_be_changed(directory: Path) -> None:
    files, path = ReadOnlyFiles(), directory / "metadata"
    file = files.open(path)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write_at(0, b"x")
    file.close()
    for change in (
        lambda: files.create(path),
        lambda: files.rename(path, directory / "other"),
        lambda: files.unlink(path),
        lambda: files.mkdir(directory / "new"),
        lambda: files.fsync_dir(directory),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            change()
    with pytest.raises(FileNotFoundError):
        files.lock(directory / "lock")
    assert {path.name for path in directory.iterdir()} == {path.name for path in GOLDEN.iterdir()}
