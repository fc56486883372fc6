"""What is in a snapshot file, for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack

from rendezvous_raft.core import snapshot as core_snapshot
from rendezvous_raft.core.snapshot import Row, SnapshotError
from rendezvous_raft.membership import MemberConfig
from rendezvous_raft.replication.raft.blocks import FORMAT_VERSION
from rendezvous_raft.replication.raft.files import FileLayer, ReadOnlyFiles
from rendezvous_raft.replication.raft.memberships import MembershipError, membership_of
from rendezvous_raft.replication.raft.snapshots import (
    SnapshotDamaged,
    read_chunks,
    read_header,
    rows_of,
)


@dataclass(frozen=True, slots=True)
class RowsOfKind:
    """How much of a snapshot is of one kind."""

    kind: str
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RequestReport:
    """A request in a snapshot."""

    request_id: str
    branches: int
    open_branches: int
    services: tuple[str, ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What a snapshot says. There is one only if all of it verified, its digest included."""

    path: Path
    size_bytes: int
    cluster_id: str
    index: int
    term: int
    file_version: int
    state_version: int
    revision: int
    time_ms: int
    """Cluster time."""
    chunks: int
    members: tuple[MemberConfig, ...]
    """Who belonged to the cluster there."""
    kinds: tuple[RowsOfKind, ...]
    digest: str
    """Of all rows, as the snapshot has it."""
    state_digest: str
    """What `rendezvous cluster digest` says of a node at this revision."""
    requests: tuple[RequestReport, ...]


def inspect_snapshot(
    path: Path, *, requests: bool = False, files: FileLayer | None = None
) -> SnapshotReport:
    """Reads a snapshot file, whatever its name, and loads its state. Blocks for the disk.

    Args:
        path: the file.
        requests: whether to list the requests in it.
        files: the file system.

    Raises:
        SnapshotDamaged: naming the offset.
        StorageError: another version wrote it.
    """
    file = (files or ReadOnlyFiles()).open(path)
    kinds: dict[str, RowsOfKind] = {}
    seen: dict[str, Row] = {}
    chunks = 0

    def counted() -> Iterator[Row]:
        nonlocal chunks
        for chunk in read_chunks(file, header, path):
            chunks += 1
            for row in rows_of(chunk, path):
                kind = str(row[0]) if row else ""
                before = kinds.get(kind, RowsOfKind(kind, 0, 0))
                size = before.size_bytes + len(msgpack.packb(row))
                kinds[kind] = RowsOfKind(kind, before.rows + 1, size)
                seen[kind] = row
                yield row

    try:
        header = read_header(file, path)
        rows = counted()
        membership = membership_of(next(rows, None))
        state = core_snapshot.load(rows).state
        size = file.size()
    except (SnapshotError, MembershipError) as error:
        raise SnapshotDamaged(path, 0, str(error)) from error
    finally:
        file.close()
    return SnapshotReport(
        path=path,
        size_bytes=size,
        cluster_id=header.cluster_id,
        index=header.index,
        term=header.term,
        file_version=FORMAT_VERSION,
        state_version=core_snapshot.FORMAT_VERSION,
        revision=state.revision,
        time_ms=state.time_ms,
        chunks=chunks,
        members=membership.members,
        kinds=tuple(kinds.values()),
        digest=str(seen["end"][2]),
        state_digest=core_snapshot.digest(state),
        requests=tuple(
            RequestReport(
                request.request_id,
                len(request.branches),
                len(request.open_branches),
                tuple(sorted({str(branch.service) for branch in request.branches})),
                request.at_ms,
            )
            for request in (state.requests.values() if requests else ())
        ),
    )
