"""Branches from a file: JSON lines, a JSON list, or one object, with the names of the protos.

{"service": "post-storage", "regions": ["eu", "us"], "tag": "write", "locator": "posts/7"}
{"service": "audit", "global": true, "parent_branch_id": "post-1"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rendezvous_raft.client import BranchSpec
from rendezvous_raft.limits import BRANCHES_PER_CALL_MAX

_TEXTS = ("service", "branch_id", "tag", "zone", "parent_branch_id", "locator")
_FIELDS = (*_TEXTS, "regions", "monitored", "global")


class BranchFileError(ValueError):
    """The text holds no branches; the message names the place and what is expected there."""


def read_branches(text: str) -> list[BranchSpec]:
    """The branches of a file, 1 to 1,000.

    Raises:
        BranchFileError: It is not of the form above.
    """
    entries = _entries(text)
    if not 1 <= len(entries) <= BRANCHES_PER_CALL_MAX:
        raise BranchFileError(f"1 to {BRANCHES_PER_CALL_MAX} branches, not {len(entries)}")
    return [_branch(entry, f"branches[{index}]") for index, entry in enumerate(entries)]


def _entries(text: str) -> list[Any]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        return [_line(number, line) for number, line in lines]
    return whole if isinstance(whole, list) else [whole]


def _line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise BranchFileError(f"line {number}: no JSON: {error.msg}") from None


def _branch(entry: Any, place: str) -> BranchSpec:
    if not isinstance(entry, Mapping):
        raise BranchFileError(f"{place}: an object with the fields of a branch")
    for name in entry:
        if name not in _FIELDS:
            raise BranchFileError(f"{place}.{name}: no such field; there are {', '.join(_FIELDS)}")
    for name in _TEXTS:
        if not isinstance(entry.get(name, ""), str):
            raise BranchFileError(f"{place}.{name}: a string")
    for name in ("monitored", "global"):
        if not isinstance(entry.get(name, True), bool):
            raise BranchFileError(f"{place}.{name}: true or false")
    regions = entry.get("regions", [])
    if not isinstance(regions, list) or not all(isinstance(name, str) for name in regions):
        raise BranchFileError(f"{place}.regions: a list of strings")
    if bool(regions) == entry.get("global", False):
        raise BranchFileError(f'{place}: give "regions", or "global": true for a branch of none')
    return BranchSpec(
        entry.get("service", ""),
        tuple(regions),
        entry.get("branch_id"),
        entry.get("tag", ""),
        entry.get("zone"),
        entry.get("parent_branch_id", ""),
        entry.get("monitored", True),
        entry.get("locator", "").encode(),
    )
