"""A long story of one member's files, in chapters: everything that can happen to them.

Each chapter is a process; between two of them the process is killed, or the machine loses power.
Told again it makes the same file calls in the same order, so that a test can end it at any of them
(`crash_points`).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rendezvous_raft.replication.raft.storage import DiskFull
from rendezvous_raft.testing.durable_lives import SEGMENT_BYTES, Life, chance, payloads, turns_until

PATIENT_TURNS = 400
"""Enough for a worker that makes one file call a turn."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One process."""

    name: str
    script: Callable[[Life], Awaitable[None]]
    loses_power: int | None = None
    """Seed of the power loss behind it; None: it is only killed, however its script ends."""


async def _grow(life: Life) -> None:
    """Entries, segments, terms, a conflict, snapshots and what they make superfluous."""
    rng = chance(7)
    life.open()
    life.set_term(1, "n1")
    await life.sync()
    for payload in payloads(rng, 8):
        life.append(payload)
        await life.rest(1)
    await life.sync()
    life.set_term(2, None)
    life.append(b"of term 2")
    life.append(b"x" * 40_000)  # larger than a segment
    await life.rest()
    life.truncate_from(8)
    life.set_term(3, "n2")
    for payload in payloads(rng, 6):
        life.append(payload)
        await life.rest(1)
    await life.rest(PATIENT_TURNS)
    await life.save_snapshot(9)
    for payload in payloads(rng, 6):
        life.append(payload)
        await life.sync()
    life.set_term(4, "n1")
    life.truncate_from(life.model.log.last_index)
    await life.save_snapshot(14)
    life.append(b"after the second")
    await life.sync()
    await life.save_snapshot(15)
    await life.rest(PATIENT_TURNS)
    await life.close()


async def _lag(life: Life) -> None:
    """A laggard is restarted, overtaken, sent a snapshot, and goes on from there."""
    life.open()
    life.set_term(5, None)
    life.append(b"doomed", 5)
    life.append(b"doomed too", 5)
    await life.install(life.model.log.last_index + 10, 5)
    for number in range(12):
        life.append(b"later %d" % number + bytes(2000), 6)
        await life.sync()
    await life.save_snapshot(life.model.log.last_index - 3)
    await life.install(life.model.log.last_index + 5, 6)
    for number in range(6):
        life.append(b"behind the second install %d" % number, 6)
    await life.sync()
    # The leader's snapshot ends among entries that its log never had.
    await life.install(life.model.log.last_index - 2, 7)
    life.append(b"behind the third install", 7)
    await life.rest(PATIENT_TURNS)
    await life.close()


async def _dispute(life: Life) -> None:
    """Elections and conflicts, the last of them not synced when the machine loses power."""
    life.open()
    for term in range(8, 12):
        life.set_term(term, None)
        await life.rest(1)
        life.set_term(term, f"n{term % 3 + 1}")
        kept = life.model.log.last_index + 1
        for number in range(4):
            life.append(b"of %d in term %d" % (number, term) + bytes(4000))
            await life.rest(1)
        await life.sync()
        if term % 2:
            life.truncate_from(kept + 1)  # over more than one segment
    life.set_term(12, "n3")
    await life.sync()
    for number in range(24):  # three segments that nobody has synced
        life.append(b"hope %d" % number + bytes(4000))


async def _starve(life: Life) -> None:
    """The disk is full: entries and snapshots are refused, votes are not; then there is room."""
    life.open()
    life.set_term(life.model.term + 1, "n1")
    life.append(b"the last that fits easily")
    await life.rest(PATIENT_TURNS)
    life.files.room_bytes = life.files.used_bytes()
    while life.log.read_only is None:
        with contextlib.suppress(DiskFull):
            life.append(b"x" * 3000)
    for term in range(life.model.term + 1, life.model.term + 3):
        life.set_term(term, "n2")
        await life.sync()
    life.files.room_bytes = life.files.used_bytes()
    await _refused(life.save_snapshot(life.model.log.last_index - 2))
    await _refused(life.install(life.model.log.last_index + 7, life.model.term))
    life.files.room_bytes = life.files.used_bytes() + 4 * SEGMENT_BYTES + 1024 * 1024
    if not life.log.try_recover():
        raise AssertionError("there is room again")
    for payload in payloads(chance(8), 5):
        life.append(payload)
        await life.rest(1)
    await life.sync()
    await life.save_snapshot(life.model.log.last_index - 2)
    life.files.room_bytes = life.files.used_bytes()
    life.append(b"fits into the segment")
    life.set_term(life.model.term + 1, None)
    await life.sync()
    life.set_term(life.model.term + 1, "n1")


async def _fall_ill(life: Life) -> None:
    """A sync fails: the process ends, and the kernel believes that what was lost is on the disk."""
    life.open()
    _make_room(life)
    for number in range(3):
        life.append(b"before the fault %d" % number)
        await life.sync()
    life.files.failing = _fails_to_sync
    life.set_term(life.model.term + 1, "n2")
    for number in range(3):
        life.append(b"of which nobody knows %d" % number + bytes(9000))
    await turns_until(lambda: life.failure)


def _fails_to_sync(call: str) -> int | None:
    return errno.EIO if call.startswith("fdatasync") else None


async def _refused(attempt: Awaitable[object]) -> None:
    try:
        await attempt
    except DiskFull:
        return
    raise AssertionError("there was no room for it")


async def _recover(life: Life) -> None:
    """A start on a disk that is still full; then it has room, and an orderly end."""
    life.files.room_bytes = life.files.used_bytes() + 100
    life.open()
    await life.rest(PATIENT_TURNS)
    _make_room(life)
    for payload in payloads(chance(9), 8):
        life.append(payload)
        await life.sync()
    await life.save_snapshot(life.model.log.last_index)
    life.append(b"the end")
    await life.close()


async def _convalesce(life: Life) -> None:
    """What a failed sync left is read, made durable, and built on."""
    life.open()
    for payload in payloads(chance(10), 6):
        life.append(payload)
        await life.sync()
    await life.close()


STORY = (
    Chapter("grow", _grow),
    Chapter("lag", _lag),
    Chapter("dispute", _dispute, loses_power=3),
    Chapter("starve", _starve, loses_power=5),
    Chapter("recover", _recover),
    Chapter("fall ill", _fall_ill),
    Chapter("convalesce", _convalesce),
)


async def go_on(life: Life) -> None:
    """What any recovered log must bear: being voted on, cut, and added to."""
    _make_room(life)
    life.set_term(life.model.term + 1, "n3")
    last = life.model.log.last_index
    if last > life.model.snapshot_index:
        life.truncate_from(last)
    for number in range(3):
        life.append(b"again %d" % number)
    await life.sync()
    _make_room(life)  # the term may have taken the reserve of a disk that was full
    life.append(b"into the next segment" + bytes(SEGMENT_BYTES // 2))
    life.append(b"and the one after it" + bytes(SEGMENT_BYTES // 2))
    await life.sync()


def _make_room(life: Life) -> None:
    life.files.room_bytes = None
    if not life.log.try_recover():
        raise AssertionError("there is room")
