"""The option with which the traces of the scenarios are written anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    # Known when tests/core is named on the command line: pytest tests/core --rewrite
    parser.addoption(
        "--rewrite",
        action="store_true",
        default=False,
        help="write the traces of the scenarios anew; commit only what you understand",
    )
