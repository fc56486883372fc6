"""Any sequence of mutations, deaths and restarts, against a list that remembers everything."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from rendezvous_raft.testing.durable_lives import Life, chance, settle, turns_until
from rendezvous_raft.testing.memory_files import MemoryFiles


@dataclass(frozen=True)
class Append:
    count: int
    size: int

    async def do(self, life: Life) -> Life:
        for number in range(self.count):
            life.append(bytes([number]) * self.size)
        return life


@dataclass(frozen=True)
class Conflict:
    """A new leader's entries take the place of some that were not committed."""

    back: int

    async def do(self, life: Life) -> Life:
        life.set_term(life.model.term + 1, None)
        lowest = max(life.model.snapshot_index, life.model.log.base[0]) + 1
        index = max(lowest, life.model.log.last_index + 1 - self.back)
        if index <= life.model.log.last_index:
            life.truncate_from(index)
        life.append(b"of the new leader")
        return life


@dataclass(frozen=True)
class Vote:
    name: str

    async def do(self, life: Life) -> Life:
        life.set_term(life.model.term + 1, self.name)
        return life


@dataclass(frozen=True)
class Sync:
    rest: bool

    async def do(self, life: Life) -> Life:
        await (life.rest() if self.rest else life.sync())
        return life


@dataclass(frozen=True)
class Snapshot:
    behind: int

    async def do(self, life: Life) -> Life:
        index = life.model.log.last_index - self.behind
        if index > life.model.snapshot_index:
            await life.save_snapshot(index)
        return life


@dataclass(frozen=True)
class Install:
    ahead: int

    async def do(self, life: Life) -> Life:
        life.set_term(life.model.term + 1, None)
        await life.install(life.model.snapshot_index + self.ahead, life.model.term)
        return life


@dataclass(frozen=True)
class Restart:
    async def do(self, life: Life) -> Life:
        await life.close()
        return await reopened(life, life.files.kill())


@dataclass(frozen=True)
class Kill:
    async def do(self, life: Life) -> Life:
        return await reopened(life, life.files.kill())


@dataclass(frozen=True)
class PowerLoss:
    seed: int
    turns: int
    """That pass before."""

    async def do(self, life: Life) -> Life:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return await reopened(life, life.files.power_loss(chance(self.seed)))


@dataclass(frozen=True)
class SyncFails:
    """The process ends; the kernel believes that the pages are clean."""

    async def do(self, life: Life) -> Life:
        life.files.failing = lambda call: errno.EIO if call.startswith("fdatasync") else None
        life.append(b"of which nobody knows")
        await turns_until(lambda: life.failure)
        return await reopened(life, life.files.kill())


async def reopened(life: Life, files: MemoryFiles) -> Life:
    after = life.next_life(files)
    await settle()  # the life before comes to its end, but nobody hears of it
    after.open()
    event("something was cut" if after.recovered.cut else "nothing was cut")
    return after


Step = Append | Conflict | Vote | Sync | Snapshot | Install | Restart | Kill | PowerLoss | SyncFails
few = st.integers(0, 6)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Append, st.integers(1, 5), st.sampled_from((0, 30, 500, 3000, 5000, 40_000))),
    st.builds(Sync, st.booleans()),
    st.builds(PowerLoss, st.integers(0, 2**32), few),
    st.builds(Conflict, few),
    st.builds(Snapshot, few),
    st.builds(Vote, st.sampled_from(("n1", "n2", "n3"))),
    st.builds(Kill),
    st.builds(Install, st.integers(1, 12)),
    st.builds(Restart),
    st.builds(SyncFails),
)


async def live(steps: list[Step]) -> None:
    life = Life(MemoryFiles())
    life.open()
    for step in steps:
        life = await step.do(life)
    await reopened(life, life.files.power_loss(chance(1)))


@pytest.mark.timeout(1800)  # with the profile `long`
@given(st.lists(STEPS, min_size=1, max_size=30))
def test_a_log_is_a_list_that_survives(steps: list[Step]) -> None:
    asyncio.run(live(steps))
