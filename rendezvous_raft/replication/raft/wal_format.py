"""The bytes of the log's files.

A segment is a file of a fixed size, all zeros at first. Its first block of 4096 bytes is the
header; frames follow, in the order in which things happened; zeros fill the rest.

    frame     length u32 · kind u8 · index u64 · term u64 · payload · crc u32

Numbers are little-endian, `length` is that of the payload. Each CRC32C goes on from that of the
frame before, the first from that of the header: a frame is valid only behind exactly those frames
behind which it was written.

    ENTRY     the Raft entry (index, term, payload)
    CUT       entries from `index` on are void: a conflict with the leader. What is cut stays in
              the file, and comes before the CUT, so no crash can bring it back without the CUT
    MARK      "everything before (segment = index, offset = term) is on stable storage". Payload:
              the header's CRC and the CRC before the mark, so that a mark can be verified alone

A mark begins at a block's start, so that no lost block takes both a mark and what it vouches for;
zeros lead up to it. Marks tell damage from a torn tail: bytes that do not verify were never
acknowledged, and may be cut, unless a mark behind them says that they were on disk. The newest one
is repeated in a file of its own (`durable_end`), for damage that takes the end with all its marks.

A segment names the end of the one before it (`after`, and the CRC there); `after` 0 begins a new
log, when a snapshot was installed: all segments before it are void.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from rendezvous_raft.replication.raft.blocks import (
    BLOCK_BYTES_MAX,
    crc32c,
    pack_block,
    unpack_block,
)
from rendezvous_raft.replication.raft.metadata import Identity, check_identity, identity_in

BLOCK_BYTES = 4096
"""What disks lose at once, and kernels write at once."""
HEADER_BYTES = BLOCK_BYTES
MARK_ROOM_BYTES = 2 * BLOCK_BYTES
"""Left behind every frame: for the mark of the sync under way, and for that of the next."""

_NAME = re.compile(r"(\d{12})\.log")
_MAGIC = b"RVZWAL\0\0"
_HEAD = struct.Struct("<IBQQ")
_CRC = struct.Struct("<I")
_MARK = struct.Struct("<II")
_ZERO_BLOCK = bytes(BLOCK_BYTES)
FRAME_BYTES = _HEAD.size + _CRC.size
"""Of a frame without payload."""
_KIND_OFFSET = 4


class Kind(IntEnum):
    """Of frames."""

    ENTRY = 1
    CUT = 2
    MARK = 3


class Spot(NamedTuple):
    """A place in the log: segment number, offset in it. Later spots are greater."""

    segment: int
    offset: int


@dataclass(slots=True)
class Frame:
    """A frame that verified."""

    kind: int
    index: int
    term: int
    payload: bytes
    end: int
    """Offset behind it."""
    crc: int


@dataclass(frozen=True, slots=True)
class Header:
    """The first block of a segment."""

    number: int
    first_index: int
    """Index of the next entry when the segment was begun."""
    size_bytes: int
    after: int
    """Offset in the segment before where that one ended; 0 begins a new log."""
    chain: int
    """CRC at that end."""


def segment_path(directory: Path, number: int) -> Path:
    """Where a segment is."""
    return directory / f"{number:012d}.log"


def segment_numbers(names: Iterable[str]) -> list[int]:
    """The numbers of the segments among the names of a directory, in order."""
    return sorted(int(match[1]) for match in filter(None, map(_NAME.fullmatch, names)))


def aligned(offset: int) -> int:
    """The start of the block at or behind an offset."""
    return -(-offset // BLOCK_BYTES) * BLOCK_BYTES


def pack_header(header: Header, identity: Identity) -> tuple[bytes, int]:
    """The header's bytes and the CRC from which the frames go on."""
    block = pack_block(
        _MAGIC,
        {
            "cluster": identity.cluster_id,
            "node": identity.node_name,
            "number": header.number,
            "first_index": header.first_index,
            "size": header.size_bytes,
            "after": header.after,
            "chain": header.chain,
        },
    )
    return block, crc32c(block)


def unpack_header(content: bytes, identity: Identity, path: Path) -> tuple[Header, int]:
    """The opposite of `pack_header`. Raises `StorageError`."""
    fields, end = unpack_block(_MAGIC, content[:BLOCK_BYTES_MAX], path)
    check_identity(identity_in(fields), identity, path)
    read: Any = fields
    header = Header(read["number"], read["first_index"], read["size"], read["after"], read["chain"])
    return header, crc32c(content[:end])


def identity_of_segment(content: bytes, path: Path) -> Identity:
    """Whose segment this is, from its first block. Raises `StorageError`."""
    return identity_in(unpack_block(_MAGIC, content[:BLOCK_BYTES_MAX], path)[0])


def pack_frame(
    kind: Kind, *, index: int, term: int, payload: bytes, chain: int
) -> tuple[bytes, int]:
    """A frame's bytes and its CRC."""
    head = _HEAD.pack(len(payload), kind, index, term)
    crc = crc32c(payload, crc32c(head, chain))
    return b"".join((head, payload, _CRC.pack(crc))), crc


def pack_mark(synced: Spot, *, seed: int, chain: int) -> tuple[bytes, int]:
    """A mark's bytes and its CRC; `seed` is the CRC of the segment's header."""
    payload = _MARK.pack(seed, chain)
    return pack_frame(
        Kind.MARK, index=synced.segment, term=synced.offset, payload=payload, chain=chain
    )


def frames(content: bytes, seed: int) -> Iterator[Frame]:
    """The frames of a segment up to the first bytes that are none."""
    offset, chain = HEADER_BYTES, seed
    while frame := _frame_at(content, offset, chain) or _mark_behind(content, offset, chain):
        yield frame
        offset, chain = frame.end, frame.crc


def marks_from(content: bytes, offset: int, seed: int) -> Iterator[Spot]:
    """What marks at or behind an offset say, whatever is between them."""
    for start in range(aligned(max(offset, HEADER_BYTES)), len(content) - FRAME_BYTES, BLOCK_BYTES):
        if content[start + _KIND_OFFSET] == Kind.MARK:
            chain = _chain_before_mark(content, start, seed)
            frame = None if chain is None else _frame_at(content, start, chain)
            if frame is not None:
                yield Spot(frame.index, frame.term)


def written_end(content: bytes) -> int:
    """Behind the last byte that is not zero. Whole blocks at a time: most are zeros."""
    end = len(content)
    while content[end - BLOCK_BYTES : end] == _ZERO_BLOCK:
        end -= BLOCK_BYTES
    start = max(0, end - BLOCK_BYTES)
    return start + len(content[start:end].rstrip(b"\0"))


def _frame_at(content: bytes, offset: int, chain: int) -> Frame | None:
    body = offset + _HEAD.size
    if body > len(content):
        return None
    length, kind, index, term = _HEAD.unpack_from(content, offset)
    end = body + length
    if kind not in _KINDS or end + _CRC.size > len(content):
        return None
    (crc,) = _CRC.unpack_from(content, end)
    if crc32c(content[offset:end], chain) != crc:
        return None
    return Frame(kind, index, term, content[body:end], end + _CRC.size, crc)


def _mark_behind(content: bytes, offset: int, chain: int) -> Frame | None:
    """The mark at the next block's start, if there are only zeros up to it."""
    start = aligned(offset)
    if content[offset:start].strip(b"\0"):
        return None
    frame = _frame_at(content, start, chain)
    return frame if frame is not None and frame.kind == Kind.MARK else None


def _chain_before_mark(content: bytes, start: int, seed: int) -> int | None:
    body = start + _HEAD.size
    if body + _MARK.size > len(content):
        return None
    found, chain = _MARK.unpack_from(content, body)
    return int(chain) if found == seed else None


_KINDS = frozenset(Kind)
