"""`rendezvous snapshot`: looks into a snapshot file without a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import output_options, session_of
from rendezvous_raft.cli.wal import read

if TYPE_CHECKING:
    from rendezvous_raft.replication.raft.snapshot_inspection import SnapshotReport


@click.group()
def snapshot() -> None:
    """Look into a snapshot file, without a node.

    Needs what a node needs (rendezvous-raft[server,cli]).
    """


@snapshot.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--requests", is_flag=True, help="List the requests in it.")
@output_options
@click.pass_context
def inspect(ctx: click.Context, /, *, file: Path, requests: bool) -> None:
    """Show what the snapshot FILE says, once all of it has verified.

    Its entry, term and revision, versions of the format, rows by kind with their sizes, digests.
    Exit status 1 if it is damaged, with the offset and what to do.
    """
    from rendezvous_raft.replication.raft.snapshot_inspection import (  # noqa: PLC0415
        inspect_snapshot,
    )

    session = session_of(ctx)
    report = read(session, file, lambda: inspect_snapshot(file, requests=requests))
    sheets = [_head_sheet(report), _kinds_sheet(report)]
    if requests:
        sheets.append(_requests_sheet(report))
    print_answer(session.form, answer=report, sheets=sheets, color=session.color)


def _head_sheet(report: SnapshotReport) -> Sheet:
    rows = (
        ("cluster", report.cluster_id),
        ("up to entry", str(report.index)),
        ("of term", str(report.term)),
        ("revision", str(report.revision)),
        ("members", ", ".join(f"{m.name} ({m.standing.value})" for m in report.members)),
        ("cluster time", f"{report.time_ms} ms"),
        ("size", f"{report.size_bytes} bytes in {report.chunks} chunks"),
        ("format", f"file {report.file_version}, state {report.state_version}"),
        ("digest of the snapshot, verified", report.digest),
        ("digest of the state", report.state_digest),
    )
    return Sheet(("snapshot", ""), rows, title=str(report.path))


def _kinds_sheet(report: SnapshotReport) -> Sheet:
    rows = tuple((one.kind, str(one.rows), str(one.size_bytes)) for one in report.kinds)
    return Sheet(("kind", "rows", "bytes"), rows, title="rows")


def _requests_sheet(report: SnapshotReport) -> Sheet:
    rows = tuple(
        (
            one.request_id,
            str(one.branches),
            str(one.open_branches),
            ",".join(one.services),
            str(one.at_ms),
        )
        for one in report.requests
    )
    return Sheet(("request", "branches", "open", "services", "at_ms"), rows, title="requests")
