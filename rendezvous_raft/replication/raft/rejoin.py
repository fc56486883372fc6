"""Coming back after damage: a log begun anew, in place of one that cannot be trusted (F11).

What the node promised by its old files is forgotten. With new ones it therefore does not vote: it
asks to be let in, the others go on without its vote, it catches up, and votes again; see
`changing.py`.
"""

from __future__ import annotations

import random
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rendezvous_raft.replication.raft.files import (
    DamagedError,
    FileLayer,
    RealFiles,
    StorageError,
)
from rendezvous_raft.replication.raft.metadata import (
    FILE_NAME,
    RESERVE_NAME,
    Birth,
    Identity,
    Metadata,
    MetadataFile,
)
from rendezvous_raft.replication.raft.opening import LOCK_NAME

KEPT_PREFIX = "damaged-"
_STAYING = (FILE_NAME, RESERVE_NAME, LOCK_NAME)


@dataclass(frozen=True, slots=True)
class Rejoined:
    """What was prepared."""

    kept: Path | None
    """Where the old files are now; None: there were none."""
    incarnation: int
    """Number that the directory has from now on."""


def prepare_rejoin(
    directory: Path,
    identity: Identity,
    *,
    files: FileLayer | None = None,
    rng: random.Random | None = None,
    label: str | None = None,
) -> Rejoined:
    """Lets the directory begin anew, and puts its old files aside. Blocks for the disk.

    Nothing is deleted. The vote is given up first, so that a crash in between leaves old files
    without a vote; do it again then.

    Args:
        directory: of the node, which must not run.
        identity: whose it must be, as far as that can be read.
        files: the file system; the real one by default.
        rng: chance, for the new number; unpredictable by default.
        label: of the place for the old files; the time by default.

    Raises:
        StorageError: a process uses the directory, or it is another node's; nothing was changed.
        OSError: the files cannot be moved or made.
    """
    layer = files or RealFiles()
    layer.mkdir(directory)
    layer.fsync_dir(directory.parent)
    try:
        lock = layer.lock(directory / LOCK_NAME)
    except BlockingIOError as error:
        raise StorageError(f"{directory}: is in use by another process") from error
    with closing(lock):
        kept = directory / f"{KEPT_PREFIX}{label or time.strftime('%Y%m%d-%H%M%S')}"
        metadata_file = MetadataFile(layer, directory)
        had_metadata = FILE_NAME in layer.listdir(directory)
        if had_metadata:
            _keep_copy(layer, directory, kept, metadata_file, identity)
        birth = Birth((rng or random.SystemRandom()).getrandbits(48) + 1, founding=False)
        metadata_file.write(Metadata(identity, birth=birth))
        # Only now: a half-written metadata file of a process that was killed has just been used up.
        moving = [
            name
            for name in layer.listdir(directory)
            if name not in _STAYING and not name.startswith(KEPT_PREFIX)
        ]
        if moving:
            layer.mkdir(kept)
        for name in moving:
            layer.rename(directory / name, kept / name)
        layer.fsync_dir(directory)
        if moving:
            layer.fsync_dir(kept)
    return Rejoined(kept if moving or had_metadata else None, birth.incarnation)


def _keep_copy(
    files: FileLayer, directory: Path, kept: Path, metadata: MetadataFile, identity: Identity
) -> None:
    """Keeps the metadata as it is; refuses a directory that is surely somebody else's."""
    try:
        metadata.read(identity)
    except DamagedError:
        """That is why we are here."""
    with closing(files.open(directory / FILE_NAME)) as old:
        content = old.read_at(0, old.size())
    files.mkdir(kept)
    with closing(files.create(kept / FILE_NAME)) as copy:
        copy.write_at(0, content)
        copy.fdatasync()
    files.fsync_dir(kept)
    files.fsync_dir(directory)
