"""One answer, four forms: a table for people, plain columns for pipes, JSON and JSON lines."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import json
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

import click

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


class OutputFormat(enum.Enum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    PLAIN = "plain"


def default_format(stream: TextIO | None = None) -> OutputFormat:
    """A table on a terminal, plain columns in a pipe."""
    stream = stream or sys.stdout
    return OutputFormat.TABLE if stream.isatty() else OutputFormat.PLAIN


@dataclasses.dataclass(frozen=True, slots=True)
class Sheet:
    """Rows under headings, with an optional title. Cells are text already."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


def to_json(value: object) -> Json:
    """A result as JSON can hold it: dataclasses as objects, enums by value, bytes as text.

    Bytes that are no UTF-8 become `base64:…`. Moments are ISO 8601, durations seconds,
    paths text.

    Raises:
        TypeError: A value of a kind that results do not have.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case enum.Enum():
            return to_json(value.value)
        case bytes():
            return _bytes_text(value)
        case pathlib.PurePath():
            return str(value)
        case dt.datetime():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            return {field.name: to_json(getattr(value, field.name)) for field in fields}
        case Iterable():
            return [to_json(item) for item in value]
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


def _bytes_text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(content).decode("ascii")


def print_answer(
    form: OutputFormat,
    *,
    answer: object,
    sheets: Sequence[Sheet],
    lines: Sequence[object] | None = None,
    text: Sequence[str] | None = None,
    color: bool | None = None,
) -> None:
    """Prints an answer on standard output.

    Args:
        form: In which form.
        answer: The whole answer, for JSON.
        sheets: The same as tables, for people and pipes.
        lines: For JSON lines, one value per line; None prints the answer as the only line.
        text: For people, instead of the tables.
        color: False for none; None leaves it to the terminal.
    """
    match form:
        case OutputFormat.JSON:
            click.echo(json.dumps(to_json(answer), indent=2, ensure_ascii=False))
        case OutputFormat.JSONL:
            for line in [answer] if lines is None else lines:
                print_json_line(line)
        case OutputFormat.PLAIN:
            for sheet in sheets:
                for row in (sheet.headings, *sheet.rows):
                    click.echo("\t".join(_one_line(cell) for cell in row))
        case OutputFormat.TABLE if text is not None:
            print_text(text, color=color)
        case OutputFormat.TABLE:
            _print_tables(sheets, color=color)


def print_text(lines: Iterable[str], *, color: bool | None, err: bool = False) -> None:
    """Prints lines whose styles show on a terminal only, and flushes."""
    for line in lines:
        click.echo(line.rstrip(), color=color, err=err)


def print_json_line(value: object, *, err: bool = False) -> None:
    """Prints one value as one line of JSON; a pipe sees it now."""
    click.echo(json.dumps(to_json(value), ensure_ascii=False), err=err)


def _print_tables(sheets: Sequence[Sheet], *, color: bool | None) -> None:
    from rich import box  # noqa: PLC0415 - a tenth of a second, for tables only
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout, no_color=True if color is False else None, highlight=False)
    for sheet in sheets:
        table = Table(box=box.SIMPLE_HEAD, title=sheet.title or None, title_justify="left")
        for heading in sheet.headings:
            table.add_column(heading, overflow="fold")
        for row in sheet.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)


def _one_line(cell: str) -> str:
    # A tab or a newline inside a cell would shift the columns of whoever reads the pipe.
    return cell.replace("\t", " ").replace("\n", " ") or "-"
