"""One damage to one file: harmless, or refused with the file's name; never served."""

from __future__ import annotations

import pytest
from hypothesis import settings

from rendezvous_raft.replication.raft import wal_recovery
from rendezvous_raft.replication.raft.durable_end import DurableEnd
from rendezvous_raft.replication.raft.storage import DamagedError
from rendezvous_raft.replication.raft.wal_format import HEADER_BYTES
from rendezvous_raft.testing.damages import DamageJudge
from rendezvous_raft.testing.durable_lives import DIRECTORY, Life, chance, open_log
from rendezvous_raft.testing.memory_files import MemoryFiles

CASES = 500
CASES_LONG = 10_000
"""With `--hypothesis-profile long`; `scripts/crash_points --damages N` does any number."""
FIRST = DIRECTORY / "000000000001.log"


@pytest.mark.timeout(1800)  # with the profile `long`
async def test_damage_is_harmless_or_refused_and_named(seed: int) -> None:
    cases = CASES_LONG if settings.default.max_examples >= CASES_LONG else CASES
    judge = DamageJudge(seed)
    for number in range(cases):
        await judge.judge(number)
    assert not judge.failures, judge.failures[0]
    assert sum(judge.ends.values()) == cases

    def count(file: str, end: str) -> int:
        return sum(n for (kind, _, how), n in judge.ends.items() if (kind, how) == (file, end))

    # It can tell: what a start relies on is never harmless, what it does not read always is.
    assert count("metadata", "refused") > 0 == count("metadata", "harmless")
    assert count("newest snapshot", "refused") > count("newest snapshot", "harmless")
    assert count("segment", "refused") > count("segment", "harmless")
    for file in ("end", "older snapshot", "reserve", "spare"):
        assert count(file, "harmless") > 0 == count(file, "refused")


async def test_a_recovery_that_believes_what_it_finds_is_caught(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge bites: without marks, damage to the newest entries is served as a torn tail."""
    monkeypatch.setattr(wal_recovery, "marks_from", lambda *_: [])
    monkeypatch.setattr(DurableEnd, "read", lambda _end: None)
    judge = DamageJudge(seed)
    for number in range(CASES):
        await judge.judge(number)
    assert judge.failures
    assert "--damage " in judge.failures[0].replay


@pytest.mark.parametrize("closed", [False, True])
async def test_zeros_over_the_newest_entries_and_their_marks_are_refused(closed: bool) -> None:
    """A shorter log that verifies up to its end: only the file beside it tells."""
    life = Life(MemoryFiles())
    life.open()
    for number in range(4):
        life.append(b"acknowledged %d" % number)
        await life.rest()
    if closed:
        await life.close()
    for begin in (HEADER_BYTES, life.files.content(FIRST).index(b"acknowledged 3") - 30):
        files = life.files.kill()
        files.zero(FIRST, begin, len(files.content(FIRST)))
        with pytest.raises(DamagedError) as caught:
            open_log(files)
        assert caught.value.path == FIRST
        assert HEADER_BYTES <= caught.value.offset <= begin


async def test_after_an_orderly_end_and_a_power_loss_they_are_refused_too() -> None:
    life = Life(MemoryFiles())
    life.open()
    life.append(b"acknowledged")
    await life.close()
    for seed in range(10):
        files = life.files.power_loss(chance(seed))
        files.zero(FIRST, HEADER_BYTES, len(files.content(FIRST)))
        with pytest.raises(DamagedError):
            open_log(files)


@pytest.mark.parametrize("damage", ["lost", "torn", "flipped", "of another node"])
async def test_a_file_beside_the_log_that_says_nothing_is_written_again(damage: str) -> None:
    life = Life(MemoryFiles())
    life.open()
    life.append(b"acknowledged")
    await life.close()
    files, end = life.files.kill(), DIRECTORY / "end"
    whole = files.content(end)
    match damage:
        case "lost":
            files.lose(end)
        case "torn":
            files.cut(end, 20)
        case "flipped":
            files.flip_bit(end, 100)
        case _:
            files.open(end).write_at(0, whole.replace(b"n1", b"n2"))
    after = life.next_life(files)
    after.open()
    after.append(b"another")
    await after.close()
    assert len(files.content(end)) == len(whole)
    assert files.content(end) != whole
    files.zero(FIRST, HEADER_BYTES, len(files.content(FIRST)))
    with pytest.raises(DamagedError):
        open_log(files.kill())
