"""`rendezvous wal`: looks at the files of a node without one, and changes none of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.output import Sheet, print_answer, to_json
from rendezvous_raft.cli.session import Session, fail, output_options, session_of

if TYPE_CHECKING:
    from rendezvous_raft.replication.raft.inspection import (
        EntryReport,
        LogReport,
        Position,
        SegmentReport,
    )
    from rendezvous_raft.replication.raft.verification import Verdict

_T = TypeVar("_T")
_DIRECTORY = click.argument(
    "directory", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
_COPY = "stop the node, or look at a snapshot of its file system"


def _entry_range(ctx: click.Context, param: click.Parameter, value: str | None) -> range | None:
    """`FROM..TO` or one index, both ends included."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not FROM..TO", ctx=ctx, param=param)
    first, last = int(match[1]), int(match[2] or match[1])
    return range(first, last + 1)


@click.group()
def wal() -> None:
    """Look at and verify a node's files, without a node.

    Nothing is changed: the files are opened for reading only. Needs what a node needs
    (rendezvous-raft[server,cli]).
    """


@wal.command()
@_DIRECTORY
@click.option(
    "--entries",
    metavar="FROM..TO",
    callback=_entry_range,
    help="Also decode these entries, by index, as far as they are in the log.",
)
@output_options
@click.pass_context
def inspect(ctx: click.Context, /, *, directory: Path, entries: range | None) -> None:
    """Show what the log in DIRECTORY says.

    For each file: its entries and terms, cuts (entries that a new leader replaced), marks (what was
    known to be on stable storage), and where the log ends. Exit status 1 if the node would refuse
    the log.
    """
    from rendezvous_raft.replication.raft.inspection import inspect_log  # noqa: PLC0415
    from rendezvous_raft.replication.raft.verification import is_in_use  # noqa: PLC0415

    session = session_of(ctx)
    if read(session, directory, lambda: is_in_use(directory)):
        session.note(f"{directory}: a running node has these files; what is told may be torn")
    report = read(session, directory, lambda: inspect_log(directory, entries=entries))
    sheets = [_log_sheet(report), _segments_sheet(report.segments)]
    if entries is not None:
        sheets.append(_entries_sheet(report.entries))
    print_answer(session.form, answer=report, sheets=sheets, color=session.color)
    if report.problem is not None:
        session.note(f"the node would refuse this: {report.problem}")
        ctx.exit(ExitCode.FAILED)


@wal.command()
@_DIRECTORY
@output_options
@click.pass_context
def verify(ctx: click.Context, /, *, directory: Path) -> None:
    """Verify every file of a node in DIRECTORY: metadata, log, snapshots.

    Checksums, digests, versions, and whether log and snapshot fit together, by the same rules as a
    start; nothing is repaired. Exit status 0 if all is sound, 1 if something is damaged, with the
    file, the offset and what to do; 2 if DIRECTORY is in use or not a node's.
    """
    from rendezvous_raft.replication.raft.verification import (  # noqa: PLC0415
        is_in_use,
        verify_directory,
    )

    session = session_of(ctx)
    if read(session, directory, lambda: is_in_use(directory)):
        raise fail(
            session,
            f"{directory} is in use by a running node: its files change while they are read",
            next_step=_COPY,
            exit_code=ExitCode.USAGE,
        )
    verdict = read(session, directory, lambda: verify_directory(directory))
    print_answer(
        session.form,
        answer={"sound": verdict.is_sound, **_fields(verdict)},
        sheets=_verdict_sheets(verdict),
        color=session.color,
    )
    if not verdict.is_sound:
        ctx.exit(ExitCode.FAILED)


def read(session: Session, path: Path, look: Callable[[], _T]) -> _T:
    """Does the look; turns its failure into words and an exit status.

    Raises:
        click.exceptions.Exit: Nothing can be told; the message has been printed.
    """
    from rendezvous_raft.replication.raft.files import StorageError  # noqa: PLC0415
    from rendezvous_raft.replication.raft.inspection import NoDataDirectory  # noqa: PLC0415
    from rendezvous_raft.replication.raft.verification import next_step_for  # noqa: PLC0415

    try:
        return look()
    except NoDataDirectory as error:
        next_step = "name the directory that is `data_dir` in the node's settings"
        raise fail(session, str(error), next_step=next_step, exit_code=ExitCode.USAGE) from None
    except StorageError as error:
        raise fail(
            session, str(error), next_step=next_step_for(error), exit_code=ExitCode.FAILED
        ) from None
    except OSError as error:
        raise fail(
            session,
            f"{path} cannot be read: {error}",
            next_step="run it as a user who may read the node's files",
            exit_code=ExitCode.USAGE,
        ) from None


def _fields(verdict: Verdict) -> dict[str, object]:
    plain = to_json(verdict)
    if not isinstance(plain, dict):
        raise TypeError("a dataclass is an object")
    return dict(plain)


def _log_sheet(report: LogReport) -> Sheet:
    rows = (
        ("node", report.node_name),
        ("cluster", report.cluster_id),
        ("term", _text(report.term)),
        ("voted for", _text(report.voted_for)),
        ("entries", _span(report.first_index, report.last_index)),
        ("ends at", _place(report.end)),
        ("durable up to", _place(report.durable)),
        ("never synced", report.cut or ""),
        ("problem", report.problem or ""),
    )
    return Sheet(("log", ""), rows, title=str(report.directory))


def _segments_sheet(segments: Iterable[SegmentReport]) -> Sheet:
    headings = ("file", "entries", "terms", "used", "size", "marks", "cuts", "problem")
    rows = tuple(
        (
            segment.path.name + (" (begins the log)" if segment.begins_new_log else ""),
            _span(segment.first_index, segment.last_index),
            " ".join(
                f"{span.term}: {_span(span.first_index, span.last_index)}" for span in segment.terms
            ),
            str(segment.used_bytes),
            str(segment.size_bytes),
            str(segment.marks),
            " ".join(f"from {cut.from_index} at {cut.offset}" for cut in segment.cuts),
            segment.problem or "",
        )
        for segment in segments
    )
    return Sheet(headings, rows, title="segments")


def _entries_sheet(entries: Iterable[EntryReport]) -> Sheet:
    rows: list[tuple[str, ...]] = []
    for entry in entries:
        begin = (str(entry.index), str(entry.term), f"{entry.segment}:{entry.offset}")
        origin = f"{entry.origin} #{entry.sequence}" if entry.origin else ""
        if not entry.commands:
            rows.append((*begin, origin, entry.kind, entry.problem or f"{entry.size_bytes} bytes"))
        for command in entry.commands:
            text = json.dumps(to_json(command.fields), ensure_ascii=False)
            rows.append((*begin, origin, command.kind, text))
    headings = ("index", "term", "at", "origin", "kind", "content")
    return Sheet(headings, tuple(rows), title="entries")


def _verdict_sheets(verdict: Verdict) -> list[Sheet]:
    rows = (
        ("verdict", "sound" if verdict.is_sound else "damaged"),
        ("node", _text(verdict.node_name)),
        ("cluster", _text(verdict.cluster_id)),
        ("term", _text(verdict.term)),
        ("voted for", _text(verdict.voted_for)),
        ("snapshots", _text(verdict.snapshots)),
        ("newest snapshot at entry", _text(verdict.snapshot_index)),
        ("revision in it", _text(verdict.revision)),
        ("segments", _text(verdict.segments)),
        ("entries behind it", _span(verdict.first_index, verdict.last_index)),
        *(("note", note) for note in verdict.notes),
    )
    sheets = [Sheet(("files", ""), rows, title=str(verdict.directory))]
    if verdict.problems:
        found = tuple(
            (str(one.path), _text(one.offset), one.problem, one.next_step)
            for one in verdict.problems
        )
        sheets.append(Sheet(("file", "offset", "problem", "next"), found, title="problems"))
    return sheets


def _span(first: int | None, last: int | None) -> str:
    if first is None or last is None or last < first:
        return "none"
    return str(first) if first == last else f"{first}..{last}"


def _place(place: Position | None) -> str:
    return f"segment {place.segment}, offset {place.offset}" if place else ""


def _text(value: object) -> str:
    return "" if value is None else str(value)
