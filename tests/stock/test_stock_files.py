"""What is left in the files of a member, for stock PySyncObj and for ours (F4, F5, F6, F12).

Each scenario runs on both. Stock runs with `journalFile` and `fullDumpFile`, alone: what it has
acknowledged is on its own majority.
"""

from __future__ import annotations

import pytest
from disks import Disk, MakeDisk, our_disk, stock_disk

from rendezvous_raft.replication.raft.storage import DamagedError

# Stock leaves the reading of `.meta` to the garbage collector to close.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*journal.meta:ResourceWarning")

BEFORE = [f"before-{number:02} " + "x" * 1000 for number in range(20)]
"""More than fits into one segment of our log."""
DURING = [f"during-{number:02} " + "x" * 1000 for number in range(20)]
"""Acknowledged between the begin of a dump and its end."""
ALL = [value.partition(" ")[0] for value in (*BEFORE, *DURING)]
OPERATIONS_MAX = 500


def names(values: list[str]) -> list[str]:
    """Without what only makes them long."""
    return [value.partition(" ")[0] for value in values]


async def dumping(disk: Disk) -> None:
    """A life with a dump under way, and writes acknowledged meanwhile."""
    assert await disk.open() == []
    await disk.write(BEFORE)
    await disk.begin_dump()
    await disk.write(DURING)


async def lost_by_ending_a_dump(make: MakeDisk) -> list[int]:
    """For each file operation at the end of a dump: what is lost if the process ends before it."""
    losses = []
    for operation in range(OPERATIONS_MAX):
        async with make() as disk:
            await dumping(disk)
            disk.die_at(operation)
            done = await disk.survives(disk.finish_dump)
            found = names(await disk.open())
            assert found == ALL[: len(found)]
            losses.append(len(ALL) - len(found))
            if done:
                return losses
    raise AssertionError("the dump never ends")


async def test_f4_stock_loses_what_it_was_about_to_write_again() -> None:
    """Stock: the journal is emptied in place and filled anew, entry by entry."""
    losses = await lost_by_ending_a_dump(stock_disk)
    assert max(losses) == len(DURING)
    assert losses == sorted(losses, reverse=True)
    # Two operations per entry: its bytes, and where the last one ends.
    assert sum(map(bool, losses)) >= 2 * (len(DURING) - 1)
    assert losses[-1] == 0


async def test_f4_ours_loses_nothing_wherever_it_ends() -> None:
    """Ours: whole files are dropped once the snapshot is durable; nothing is written over."""
    losses = await lost_by_ending_a_dump(our_disk)
    assert len(losses) >= 5, "the places were counted"
    assert set(losses) == {0}


async def found_after_an_unnoticed_dump(make: MakeDisk) -> list[str]:
    """The new dump is in its place; the process ends before it has done anything about the log."""
    async with make() as disk:
        await dumping(disk)
        disk.die_once_dumped()
        assert not await disk.survives(disk.finish_dump)
        return names(await disk.open())


async def test_f5_stock_takes_the_dump_and_throws_the_log_behind_it_away() -> None:
    """Stock: a journal that does not begin where the dump ends is cleared."""
    assert await found_after_an_unnoticed_dump(stock_disk) == ALL[: len(BEFORE)]


async def test_f5_ours_goes_on_behind_the_snapshot() -> None:
    """Ours: a snapshot names its index and term, and the log behind it is kept."""
    assert await found_after_an_unnoticed_dump(our_disk) == ALL


async def found_with(make: MakeDisk, damage: str) -> list[str]:
    """What the next life serves when the disk returns other bytes than were written."""
    async with make() as disk:
        await dumping(disk)
        assert await disk.survives(disk.finish_dump)
        damages = {
            "log": lambda: disk.change_log(b"during-10", b"during-XX"),
            "dump": disk.change_dump,
            "metadata": disk.change_metadata,
        }
        damages[damage]()
        return names(await disk.open())


async def test_f6_stock_serves_a_damaged_entry() -> None:
    """Stock: there is no checksum anywhere."""
    found = await found_with(stock_disk, "log")
    assert found == ["during-XX" if name == "during-10" else name for name in ALL]


async def test_f6_stock_forgets_its_vote_over_damaged_metadata() -> None:
    """Stock: a `.meta` that cannot be read is silently an empty one; it votes a second time."""
    async with stock_disk() as disk:
        await dumping(disk)
        assert disk.vote() == (1, "a")
        disk.change_metadata()
        disk.restart()
        assert disk.vote() == (1, None)


async def test_f12_stock_goes_on_without_the_dump_that_it_cannot_read() -> None:
    """Stock: the error is logged; the member leads, with an empty state that stays so."""
    assert await found_with(stock_disk, "dump") == []


@pytest.mark.parametrize("damage", ["log", "dump", "metadata"])
async def test_f6_f12_ours_refuses_to_start(damage: str) -> None:
    """Ours: what does not verify is named, never served."""
    with pytest.raises(DamagedError, match="/var/node"):
        await found_with(our_disk, damage)
