"""Logs are captured: rendering them costs more than the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    """Every line logged so far, as dictionaries."""
    with capture_logs() as lines:
        yield lines
