"""Blocks: the small, versioned, checksummed maps with which every file of a node begins."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import google_crc32c
import msgpack

from rendezvous_raft.replication.raft.files import DamagedError, StorageError

FORMAT_VERSION = 1
"""Of every file in a data directory."""

_HEAD = struct.Struct("<8sHH")  # magic, version, bytes of the fields
_CRC = struct.Struct("<I")
BLOCK_BYTES_MAX = 4096


def crc32c(content: bytes, before: int = 0) -> int:
    """CRC32C of `content`, or, with that of something, of that followed by `content`."""
    return int(google_crc32c.extend(before, content))


def pack_block(magic: bytes, fields: Mapping[str, object]) -> bytes:
    """A block. Raises `ValueError` if the fields are too long for one."""
    packed = msgpack.packb(fields)
    if _HEAD.size + len(packed) + _CRC.size > BLOCK_BYTES_MAX:
        raise ValueError(f"{len(packed)} bytes are too much for a block")
    block = _HEAD.pack(magic, FORMAT_VERSION, len(packed)) + packed
    return block + _CRC.pack(crc32c(block))


def unpack_block(magic: bytes, content: bytes, path: Path) -> tuple[dict[str, object], int]:
    """The fields of the block at the beginning of `content`, and its length.

    Raises:
        DamagedError: this is no such block, or it does not match its checksum.
        StorageError: another version of this program wrote it.
    """
    if len(content) < _HEAD.size:
        raise DamagedError(path, 0, "the header is missing")
    found, version, length = _HEAD.unpack_from(content)
    end = _HEAD.size + length
    if len(content) < end + _CRC.size:
        raise DamagedError(path, 0, "the header is cut off")
    (crc,) = _CRC.unpack_from(content, end)
    if found != magic or crc != crc32c(content[:end]):
        raise DamagedError(path, 0, "the header does not match its checksum")
    if version != FORMAT_VERSION:
        raise StorageError(f"{path}: format version {version} is not known")
    fields: dict[str, object] = msgpack.unpackb(content[_HEAD.size : end])
    return fields, end + _CRC.size
