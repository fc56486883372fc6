"""Structured logs: one event name plus fields, one object per line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from rendezvous_raft.observability.logs import configure_logs, get_logger


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def written(level: str = "info", style: str = "json") -> io.StringIO:
    stream = io.StringIO()
    configure_logs(level=level, style=style, stream=stream)
    return stream


def test_a_line_is_an_object_with_the_fields_of_its_logger() -> None:
    stream = written()
    get_logger(node="n1", region="eu").warning("disk_full", free_bytes=7)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("at").endswith("Z")
    assert entry == {
        "event": "disk_full",
        "level": "warning",
        "node": "n1",
        "region": "eu",
        "free_bytes": 7,
    }


def test_a_level_below_is_not_written() -> None:
    stream = written(level="warning")
    get_logger().info("nobody_asked")
    assert stream.getvalue() == ""


def test_other_packages_come_out_in_the_same_form() -> None:
    stream = written()
    logging.getLogger("aiohttp.server").error("broken: %s", "pipe")
    assert json.loads(stream.getvalue())["event"] == "broken: pipe"


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_has_no_locals(style: str) -> None:
    """They may hold secrets."""
    stream = written(style=style)
    inside = "hunter2"
    try:
        raise ZeroDivisionError(len(inside))
    except ZeroDivisionError:
        get_logger().exception("call_failed")
    text = stream.getvalue()
    assert "ZeroDivisionError" in (json.loads(text)["exception"] if style == "json" else text)
    assert inside not in text


def test_a_new_line_in_a_value_makes_no_new_entry() -> None:
    """What clients send must not forge lines."""
    stream = written()
    get_logger().info("seen", text='a\n{"event": "forged"}')
    assert len(stream.getvalue().splitlines()) == 1


def test_the_console_style_is_for_people() -> None:
    stream = written(style="console")
    get_logger(node="n1").info("node_ready", port=7)
    assert "node_ready" in stream.getvalue()
    assert "port=7" in stream.getvalue()
