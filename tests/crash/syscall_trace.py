"""What `strace -f -ttt -yy` wrote down, as calls with their bytes.

A call of one thread may be cut in two by those of others: `name(… <unfinished ...>` where it
begins and `<... name resumed>…` where it ends. The moments are those at which strace saw them, so
what ends before something begins here did so in the process as well.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"(?P<thread>\d+) +(?P<time>\d+\.\d+) (?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"\w+\((\d+)<((?:->|[^<>])*)>")
_RESULT = re.compile(r"= (-?\d+|\?)[^=]*$")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that came to its end."""

    name: str
    descriptor: int
    target: str
    """Path, or `TCP:[local->remote]`, of the descriptor; empty without one."""
    arguments: str
    content: bytes
    """All strings of the arguments, one after the other."""
    complete: bool
    """Whether strace wrote all of the strings down."""
    result: int
    begun: tuple[float, int]
    """Moment and line; can be compared within a trace, and by moment between traces."""
    ended: tuple[float, int]


def calls(trace: Path) -> Iterator[Call]:
    """The calls of a trace in the order in which they ended."""
    begun: dict[str, tuple[tuple[float, int], str]] = {}
    with trace.open(encoding="latin-1") as lines:
        for number, line in enumerate(lines):
            match = _LINE.fullmatch(line.rstrip("\n"))
            if match is None:
                continue
            thread, rest = match["thread"], match["rest"]
            moment = (float(match["time"]), number)
            if rest.endswith("<unfinished ...>"):
                begun[thread] = (moment, rest.removesuffix("<unfinished ...>"))
                continue
            first = moment
            if resumed := _RESUMED.fullmatch(rest):
                if thread not in begun:
                    continue
                first, beginning = begun.pop(thread)
                rest = beginning + resumed[2]
            call = _parsed(rest, first, moment)
            if call is not None:
                yield call


def _parsed(text: str, begun: tuple[float, int], ended: tuple[float, int]) -> Call | None:
    name, bracket, arguments = text.partition("(")
    result = _RESULT.search(text)
    if not bracket or result is None or result[1] == "?":
        return None  # an exit, or a signal
    descriptor = _DESCRIPTOR.match(text)
    strings = _STRING.findall(arguments)
    return Call(
        name,
        int(descriptor[1]) if descriptor else -1,
        descriptor[2] if descriptor else "",
        arguments,
        b"".join(codecs.escape_decode(string.encode("latin-1"))[0] for string, _ in strings),
        complete=not any(cut for _, cut in strings),
        result=int(result[1]),
        begun=begun,
        ended=ended,
    )
