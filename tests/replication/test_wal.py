"""The log's files: what is a torn tail, and what is damage, and how each is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rendezvous_raft.replication.raft.blocks import FORMAT_VERSION, crc32c
from rendezvous_raft.replication.raft.storage import DamagedError, StorageError
from rendezvous_raft.replication.raft.wal_format import (
    BLOCK_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    Kind,
    Spot,
    aligned,
    frames,
    marks_from,
    pack_frame,
    pack_mark,
)
from rendezvous_raft.testing.durable_lives import DIRECTORY, Life, chance, open_log
from rendezvous_raft.testing.memory_files import MemoryFiles

FIRST = DIRECTORY / "000000000001.log"
SECOND = DIRECTORY / "000000000002.log"
SEED = 4711


def segment(*payloads: bytes, marked: bool = False) -> tuple[bytes, list[int]]:
    """A segment without its header, and where each frame ends."""
    content, chain, ends = bytearray(HEADER_BYTES), SEED, []
    for index, payload in enumerate(payloads):
        frame, chain = pack_frame(Kind.ENTRY, index=index, term=1, payload=payload, chain=chain)
        content += frame
        ends.append(len(content))
    if marked:
        content += bytes(aligned(len(content)) - len(content))
        content += pack_mark(Spot(1, ends[-1]), seed=SEED, chain=chain)[0]
    return bytes(content) + bytes(2 * BLOCK_BYTES), ends


def test_frames_come_back_in_order() -> None:
    content, ends = segment(b"a", b"", b"c" * 5000, marked=True)
    read = list(frames(content, SEED))
    assert [(f.kind, f.index, f.payload) for f in read[:3]] == [
        (Kind.ENTRY, 0, b"a"),
        (Kind.ENTRY, 1, b""),
        (Kind.ENTRY, 2, b"c" * 5000),
    ]
    assert [frame.end for frame in read[:3]] == ends
    assert (read[3].kind, read[3].index, read[3].term) == (Kind.MARK, 1, ends[-1])


def test_a_frame_is_valid_only_behind_the_frames_it_was_written_behind() -> None:
    content, ends = segment(b"aaaa", b"bbbb", b"cccc")
    length = ends[1] - ends[0]
    without_first = content[:HEADER_BYTES] + content[ends[0] :]
    assert list(frames(without_first, SEED)) == []
    swapped = (
        content[: ends[0]]
        + content[ends[1] : ends[1] + length]
        + content[ends[0] : ends[1]]
        + content[ends[2] :]
    )
    assert [frame.payload for frame in frames(swapped, SEED)] == [b"aaaa"]
    assert list(frames(content, SEED + 1)) == []


def test_every_flipped_bit_of_a_frame_is_seen() -> None:
    content, (end,) = segment(b"payload")
    for bit in range(HEADER_BYTES * 8, end * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        assert list(frames(bytes(flipped), SEED)) == []


def test_a_mark_is_found_behind_anything() -> None:
    content, ends = segment(b"a" * 100, b"b" * 100, marked=True)
    torn = bytearray(content)
    torn[ends[0] : ends[1]] = bytes(ends[1] - ends[0])
    assert list(marks_from(bytes(torn), ends[0], SEED)) == [Spot(1, ends[1])]
    assert list(marks_from(bytes(torn), ends[0], SEED + 1)) == []  # of another segment


def test_no_payload_can_pass_for_a_mark() -> None:
    """Who does not know the header's checksum cannot write one."""
    forged = pack_mark(Spot(99, 99), seed=0, chain=0)[0]
    fill = BLOCK_BYTES - (FRAME_BYTES - 4)
    content, _ = segment(bytes(fill) + forged)
    assert content[HEADER_BYTES + BLOCK_BYTES :].startswith(forged)
    assert list(marks_from(content, HEADER_BYTES, SEED)) == []


def test_the_checksum_is_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789")


# Tails and damage


async def log_of(*payloads: bytes) -> Life:
    """A log of which each entry was synced on its own, and that was closed."""
    life = Life(MemoryFiles())
    life.open()
    for payload in payloads:
        life.append(payload)
        await life.rest()
    await life.close()
    return life


def place_of(life: Life, payload: bytes, path: Path = FIRST) -> int:
    return life.files.content(path).index(payload)


async def test_bytes_never_synced_are_cut_and_the_cut_is_told() -> None:
    life = await log_of(b"synced entry")
    life = life.next_life(life.files.kill())
    life.open()
    life.append(b"unsynced entry")
    files = life.files.kill()
    files.flip_bit(FIRST, place_of(life, b"unsynced entry") * 8)
    recovered = life.next_life(files).open()
    assert [payload for payload, _, _ in recovered.entries] == [b"synced entry"]
    assert recovered.cut is not None
    assert f"{FIRST}: cut at offset" in recovered.cut
    assert b"nsynced entry" not in files.content(FIRST)


async def test_valid_frames_behind_a_torn_one_are_cut_too() -> None:
    life = await log_of(b"synced entry")
    life = life.next_life(life.files.kill())
    life.open()
    for payload in (b"torn entry", b"whole entry", b"another whole entry"):
        life.append(payload)
    files = life.files.kill()
    files.flip_bit(FIRST, place_of(life, b"torn entry") * 8)
    after = life.next_life(files)
    assert len(after.open().entries) == 1
    assert b"whole entry" not in files.content(FIRST)


@pytest.mark.parametrize("payload", [b"first entry", b"second entry", b"last entry"])
async def test_synced_bytes_that_changed_are_refused_with_file_and_offset(payload: bytes) -> None:
    life = await log_of(b"first entry", b"second entry", b"last entry")
    files = life.files.kill()
    offset = place_of(life, payload)
    files.flip_bit(FIRST, offset * 8)
    with pytest.raises(DamagedError) as caught:
        open_log(files)
    assert caught.value.path == FIRST
    assert caught.value.offset <= offset < aligned(caught.value.offset) + BLOCK_BYTES
    assert str(FIRST) in str(caught.value)
    assert str(caught.value.offset) in str(caught.value)


async def test_a_refusal_changes_no_segment() -> None:
    life = await log_of(*(b"%d" % number + bytes(3000) for number in range(20)))
    files = life.files.kill()
    files.flip_bit(SECOND, (HEADER_BYTES + 30) * 8)
    before = {path: files.content(path) for path in files.paths()}
    with pytest.raises(DamagedError):
        open_log(files)
    assert {path: files.content(path) for path in files.paths()} == before


async def test_the_last_block_lost_is_not_the_last_entry_lost() -> None:
    """The mark that vouches for an entry never shares a block with it."""
    life = await log_of(b"only entry")
    files = life.files.kill()
    files.zero(FIRST, place_of(life, b"only entry") // BLOCK_BYTES * BLOCK_BYTES, BLOCK_BYTES)
    with pytest.raises(DamagedError):
        open_log(files)


async def test_after_a_clean_end_and_a_power_loss_damage_is_still_told_from_a_torn_tail() -> None:
    life = await log_of(b"last entry")
    for seed in range(10):
        files = life.files.power_loss(chance(seed))
        files.flip_bit(FIRST, place_of(life, b"last entry") * 8)
        with pytest.raises(DamagedError):
            open_log(files)


async def test_a_segment_that_is_cut_is_gone_for_certain_before_its_name_is_used_again() -> None:
    life = Life(MemoryFiles())
    life.open()
    for number in range(20):
        life.append(b"unsynced %d" % number + bytes(3000))
    files = life.files.kill()
    assert SECOND in files.paths()
    files.flip_bit(FIRST, place_of(life, b"unsynced 3") * 8)
    life.next_life(files).open()
    removed = max(i for i, call in enumerate(files.calls) if call.startswith("unlink 0"))
    assert files.calls[removed + 1] == "fsync_dir node"
    assert SECOND not in files.paths()


@pytest.mark.parametrize("number", [1, 2, -1])
async def test_a_missing_segment_is_refused(number: int) -> None:
    life = await log_of(*(b"%d" % number + bytes(3000) for number in range(20)))
    files = life.files.kill()
    segments = [path for path in files.paths() if path.suffix == ".log"]
    assert len(segments) > 3
    files.lose(segments[number])
    with pytest.raises(DamagedError, match="missing"):
        open_log(files)


async def test_a_shorter_segment_is_refused() -> None:
    life = await log_of(b"x")
    files = life.files.kill()
    size = len(files.content(FIRST))
    files.cut(FIRST, size - 1)
    with pytest.raises(DamagedError, match=f"{size - 1} bytes instead of {size}"):
        open_log(files)


async def test_a_segment_in_another_ones_place_is_refused() -> None:
    life = await log_of(*(b"%d" % number + bytes(3000) for number in range(20)))
    files = life.files.kill()
    files.rename(FIRST, SECOND)
    with pytest.raises(DamagedError, match="this is segment 1"):
        open_log(files)


async def test_another_version_is_refused_and_not_guessed() -> None:
    life = await log_of(b"x")
    files = life.files.kill()
    header = bytearray(files.content(FIRST)[:HEADER_BYTES])
    header[8] = FORMAT_VERSION + 1
    length = int.from_bytes(header[10:12], "little")
    end = 12 + length
    header[end : end + 4] = crc32c(bytes(header[:end])).to_bytes(4, "little")
    files.open(FIRST).write_at(0, bytes(header))
    with pytest.raises(StorageError, match=f"format version {FORMAT_VERSION + 1} is not known"):
        open_log(files)


# Writing


async def test_indexes_have_no_gaps() -> None:
    life = Life(MemoryFiles())
    life.open()
    with pytest.raises(ValueError, match="entry 5 where 2 is due"):
        life.log.append(b"x", 5, 1)
    with pytest.raises(ValueError, match="behind the end"):
        life.log.truncate_from(3)
    assert life.log.position == 0


async def test_an_entry_larger_than_a_segment_gets_a_larger_one() -> None:
    life = await log_of(b"a", b"b" * 100_000, b"c")
    assert max(len(life.files.content(path)) for path in life.files.paths()) > 100_000
    recovered = life.next_life(life.files.power_loss(chance(1))).open()
    assert [len(payload) for payload, _, _ in recovered.entries] == [1, 100_000, 1]


async def test_a_void_entry_does_not_come_back_with_those_before_or_after() -> None:
    life = Life(MemoryFiles())
    life.open()
    for number in range(12):
        life.append(b"void %d" % number + bytes(3000))
    await life.rest()
    life.set_term(1, None)
    life.truncate_from(4)
    life.append(b"valid")
    await life.close()
    recovered = life.next_life(life.files.kill()).open()
    assert [payload[:5] for payload, _, _ in recovered.entries] == [b"void ", b"void ", b"valid"]


async def test_a_cut_below_the_first_segment_that_is_left() -> None:
    """Segments may be dropped while a later one still holds the cut of their entries."""
    life = Life(MemoryFiles())
    life.open()
    for number in range(25):
        life.append(b"%d" % number + bytes(3000))
        await life.sync()
    life.set_term(1, None)
    life.truncate_from(10)
    for _ in range(3):
        life.append(b"valid")
    await life.rest()
    await life.save_snapshot(9)
    await life.save_snapshot(11)
    first_left = min(path for path in life.files.paths() if path.suffix == ".log")
    assert first_left > SECOND
    recovered = life.next_life(life.files.kill()).open()
    assert recovered.entries == [(b"valid", 12, 1)]


async def test_restarting_again_and_again_costs_no_room() -> None:
    life = await log_of(b"x")
    used = []
    for _ in range(10):
        life = life.next_life(life.files.kill())
        life.open()
        await life.close()
        used.append(len(life.files.content(FIRST).rstrip(b"\0")))
    assert used[0] == used[-1]
    assert SECOND not in life.files.paths()


async def test_a_full_segment_goes_on_in_the_spare_one() -> None:
    life = Life(MemoryFiles())
    life.open()
    await life.rest()
    for _ in range(12):
        life.append(bytes(3000))
        await life.rest()
    calls = [call for call in life.files.calls if call.endswith(".log")]
    assert sum(call.startswith("rename") for call in calls) >= 2
    assert sum(call.startswith("create") for call in calls) == 1
    await asyncio.sleep(0)
