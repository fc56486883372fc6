"""How fresh an answer has to be, on the command line (semantics G3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from rendezvous_raft.types import Consistency

_F = TypeVar("_F", bound=Callable[..., Any])


def freshness_options(command: _F) -> _F:
    """Adds `--consistency` and `--min-revision`, as a `Consistency` and an int, or None."""
    command = click.option(
        "--min-revision",
        type=click.IntRange(0),
        metavar="REVISION",
        help="Answer as of this revision or a later one.",
    )(command)
    return click.option(
        "--consistency",
        type=click.Choice([consistency.value for consistency in Consistency]),
        callback=_consistency,
        help="session: as new as --min-revision; linearizable: as new as anything acknowledged;"
        " local: whatever the node has, also without a leader."
        "  [default: session with --min-revision, else linearizable]",
    )(command)


def _consistency(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> Consistency | None:
    return Consistency(value) if value else None
