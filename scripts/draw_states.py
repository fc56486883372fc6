#!/usr/bin/env python3
"""Draws `rendezvous_raft/core/states.svg` from the tables of `core/machine.py`.

With `--check` it draws nothing and fails when the picture is stale, so the document cannot rot.
The layout is the simplest that stays readable: states of a table in one row, an arrow to the right
above the row, an arrow to the left below it, each with the commands that take it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple, TypeAlias
from xml.sax.saxutils import escape

from rendezvous_raft.core.model import BRANCH_REGION_TRANSITIONS, REQUEST_TRANSITIONS

TARGET = Path(__file__).resolve().parent.parent / "rendezvous_raft" / "core" / "states.svg"
Table: TypeAlias = tuple[tuple[str, str, str], ...]

BOX_WIDTH, BOX_HEIGHT = 120, 40
DOT_RADIUS = 9
GAP = 150
"""Pixels between two boxes: room for one label."""
MARGIN = 24
LEVEL = 46
"""Pixels that an arrow rises for each box that it passes over."""
LINE = 15
"""Pixels between two lines of a label."""
TITLE = 30
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">
<!-- Written by scripts/draw_states.py. -->
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" \
orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>
<rect width="100%" height="100%" fill="white"/>
"""


class Arrow(NamedTuple):
    """From one column to another, with the commands that take it."""

    start: int
    end: int
    labels: list[str]

    def rise(self) -> int:
        """Pixels between the boxes and the top of the arrow; a straight one has none."""
        distance = abs(self.end - self.start)
        return 0 if self.end - self.start == 1 else LEVEL * max(distance, 1)


def states_of(table: Table) -> list[str]:
    """The states in the order in which a reader of the table meets them; columns of the picture."""
    return list(dict.fromkeys(state for start, _, end in table for state in (start, end)))


def arrows_of(table: Table) -> list[Arrow]:
    """One arrow for each pair of states; commands between the same two share it."""
    columns = {state: column for column, state in enumerate(states_of(table))}
    labels: dict[tuple[int, int], list[str]] = {}
    for start, command, end in table:
        labels.setdefault((columns[start], columns[end]), []).append(command)
    return [Arrow(start, end, commands) for (start, end), commands in labels.items()]


def column_left(column: int) -> int:
    """The left edge of a box."""
    return MARGIN + column * (BOX_WIDTH + GAP)


def draw_box(state: str, column: int, top: int) -> str:
    """A state; the one without a name is a dot, where things come from and vanish to."""
    left = column_left(column)
    if not state:
        middle = top + BOX_HEIGHT // 2
        return f'<circle cx="{left + BOX_WIDTH // 2}" cy="{middle}" r="{DOT_RADIUS}"/>\n'
    return (
        f'<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" '
        'fill="#eef3fb" stroke="#2b4a7d"/>\n'
        f'<text x="{left + BOX_WIDTH // 2}" y="{top + BOX_HEIGHT // 2 + 5}" '
        f'text-anchor="middle" font-weight="bold">{escape(state)}</text>\n'
    )


def draw_arrow(arrow: Arrow, states: list[str], top: int) -> str:
    """A straight arrow between neighbours, else an arch above (rightwards) or below the row."""
    middle = top + BOX_HEIGHT // 2
    if arrow.rise() == 0:
        # A dot is narrower than a box.
        inset = BOX_WIDTH // 2 - DOT_RADIUS if not states[arrow.start] else 0
        start = column_left(arrow.start) + BOX_WIDTH - inset
        end = column_left(arrow.end)
        path = f"M{start},{middle} L{end},{middle}"
        return draw_path(path) + draw_label(arrow, (start + end) // 2, middle - 6)
    above = arrow.end > arrow.start
    edge = top if above else top + BOX_HEIGHT
    height = edge - arrow.rise() if above else edge + arrow.rise()
    start, start_y = arch_foot(arrow, states, edge, leaving=True)
    end, end_y = arch_foot(arrow, states, edge, leaving=False)
    path = f"M{start},{start_y} C{start},{height} {end},{height} {end},{end_y}"
    # A cubic whose handles are level reaches three quarters of their height.
    peak = edge + (height - edge) * 3 // 4
    return draw_path(path) + draw_label(
        arrow, (start + end) // 2, peak - 6 if above else peak + LINE
    )


def arch_foot(arrow: Arrow, states: list[str], edge: int, *, leaving: bool) -> tuple[int, int]:
    """Where an arch touches a state: beside the middle of a box, so that two of them stay apart."""
    above = arrow.end > arrow.start
    column = arrow.start if leaving else arrow.end
    centre = column_left(column) + BOX_WIDTH // 2
    if states[column]:
        return centre + (16 if leaving == above else -16), edge
    inward = BOX_HEIGHT // 2 - DOT_RADIUS
    return centre, edge + inward if above else edge - inward


def draw_path(path: str) -> str:
    """A line with a tip."""
    return f'<path d="{path}" fill="none" stroke="black" marker-end="url(#tip)"/>\n'


def draw_label(arrow: Arrow, x: int, baseline: int) -> str:
    """The commands of an arrow; they grow away from it."""
    step = LINE if arrow.end <= arrow.start else -LINE
    return "".join(
        f'<text x="{x}" y="{baseline + number * step}" text-anchor="middle" '
        f'font-size="11">{escape(label)}</text>\n'
        for number, label in enumerate(arrow.labels)
    )


def draw_table(title: str, table: Table, top: int) -> tuple[str, int, int]:
    """The drawing of one table, and its right and lower edge."""
    states, arrows = states_of(table), arrows_of(table)
    above = max((arrow.rise() for arrow in arrows if arrow.end > arrow.start), default=0)
    below = max((arrow.rise() for arrow in arrows if arrow.end <= arrow.start), default=0)
    lines = max(len(arrow.labels) for arrow in arrows)
    row = top + TITLE + above * 3 // 4 + lines * LINE
    parts = [f'<text x="{MARGIN}" y="{top + LINE}" font-size="15">{escape(title)}</text>\n']
    parts += [draw_box(state, column, row) for column, state in enumerate(states)]
    parts += [draw_arrow(arrow, states, row) for arrow in arrows]
    bottom = row + BOX_HEIGHT + below * 3 // 4 + (lines * LINE if below else 0)
    return "".join(parts), column_left(len(states) - 1) + BOX_WIDTH, bottom


def draw() -> str:
    """The whole picture."""
    tables: tuple[tuple[str, Table], ...] = (
        ("A region of a branch", BRANCH_REGION_TRANSITIONS),
        ("A request", REQUEST_TRANSITIONS),
    )
    body, right, bottom = "", 0, 0
    for title, table in tables:
        part, right_edge, bottom = draw_table(title, table, bottom + MARGIN)
        body += part
        right = max(right, right_edge)
    return HEAD.format(width=right + MARGIN, height=bottom + MARGIN) + body + "</svg>\n"


def main() -> int:
    """Entry point; the exit code is 1 when `--check` finds a stale picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    arguments = parser.parse_args()
    picture = draw()
    if not arguments.check:
        TARGET.write_text(picture, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == picture:
        return 0
    print(f"stale, run scripts/draw_states.py: {TARGET.name}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
