"""The parts of the simulator: what a process, a network and a disk do there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rendezvous_raft.replication.raft.metadata import Identity
from rendezvous_raft.replication.raft.wal import Place, Wal
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.disk import Disk, DiskSpeed
from rendezvous_raft.testing.simulation.loop import ProcessLoop
from rendezvous_raft.testing.simulation.network import Link, Network

DIRECTORY = Path("/n1")


class Machine:
    """A process with a disk, on a network."""

    def __init__(self, name: str, agenda: Agenda, network: Network, rate: float = 1.0) -> None:
        self.name = name
        self.network = network
        self.faults: list[str] = []
        self.lost: list[int] = []
        self.disk = Disk(
            agenda,
            random.Random(1),
            Identity("c", name),
            DIRECTORY,
            DiskSpeed(0.01, 0.0),
            wrote=lambda entry: None,
            lost=lambda index, term: self.lost.append(index),
        )
        self.loop = ProcessLoop(  # type: ignore[abstract]
            agenda,
            self,
            clock_begin_s=100.0,
            clock_rate=rate,
            faults=self.faults.append,
            afterwards=lambda: None,
        )

    def run_blocking(self, loop: ProcessLoop, call: Callable[[], Any]) -> asyncio.Future[Any]:
        return self.disk.run_blocking(loop, call)

    async def listen(self, factory: Callable[[], asyncio.Protocol], port: int) -> object:
        return self.network.listen(self.name, self.loop, factory)

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        return await self.network.connect(self.name, self.loop, factory, host)

    def run(self, coroutine: Any) -> list[Any]:
        """Begins a coroutine; its result, or error, once it is over."""
        results: list[Any] = []

        def done(task: asyncio.Task[Any]) -> None:
            results.append(task.exception() or task.result())

        self.loop.post(lambda: self.loop.create_task(coroutine).add_done_callback(done))
        return results


class Pair:
    """Two machines, and what arrives at the second."""

    def __init__(self, jitter_s: float = 0.0) -> None:
        self.agenda = Agenda()
        self.network = Network(
            self.agenda,
            random.Random(3),
            ["a", "b"],
            lambda sender, receiver: Link(0.01, jitter_s),
            0.0,
            lambda sender, receiver, content: None,
        )
        self.a = Machine("a", self.agenda, self.network)
        self.b = Machine("b", self.agenda, self.network)
        self.received: list[bytes] = []
        self.closed: list[str] = []
        self.transport: Any = None

    def open(self) -> None:
        pair = self

        class Protocol(asyncio.Protocol):
            def __init__(self, name: str) -> None:
                self.name = name

            def data_received(self, data: bytes) -> None:
                pair.received.append(data)

            def connection_lost(self, exc: Exception | None) -> None:
                pair.closed.append(self.name)

        self.b.run(self.b.loop.create_server(lambda: Protocol("b"), "b", 1))
        self.agenda.run_until(0.1)
        found = self.a.run(self.a.loop.create_connection(lambda: Protocol("a"), "b", 1))
        self.agenda.run_until(2.0)
        self.transport, _ = found[0]

    def write(self, *contents: bytes) -> None:
        for content in contents:
            self.a.loop.post(self.transport.write, content)
            self.agenda.run_until(self.agenda.now_s + 0.0001)

    def wait(self, seconds: float) -> None:
        self.agenda.run_until(self.agenda.now_s + seconds)


# Processes


def test_a_process_has_asyncio() -> None:
    pair = Pair()

    async def work() -> list[object]:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(1.0)  # tidy: allow sleeping-tests: virtual time
        assert loop.time() - began_s == pytest.approx(1.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await loop.create_future()
        later = asyncio.sleep(0.1, "x")  # tidy: allow sleeping-tests: virtual time
        return await asyncio.gather(later, loop.run_in_executor(None, str, 1))

    found = pair.a.run(work())
    pair.wait(5.0)
    assert found == [["x", "1"]]
    assert pair.a.faults == []


def test_a_clock_may_drift() -> None:
    agenda = Agenda()
    machine = Machine("a", agenda, Pair().network, rate=1.5)
    found = machine.run(asyncio.sleep(3.0, "late"))  # tidy: allow sleeping-tests: virtual time
    agenda.run_until(1.9)
    assert found == []
    agenda.run_until(2.1)
    assert found == ["late"]
    assert machine.loop.time() == pytest.approx(100.0 + 1.5 * 2.1)


def test_what_comes_to_a_stopped_process_happens_late_unless_it_is_cancelled() -> None:
    pair = Pair()
    happened: list[str] = []
    pair.a.loop.call_later(1.0, happened.append, "first")
    pair.a.loop.call_later(1.1, happened.append, "second").cancel()
    pair.a.loop.stop()
    pair.wait(2.0)
    assert happened == []
    pair.a.loop.resume(random.Random(1))
    pair.wait(0.0)
    assert happened == ["first"]


def test_of_a_dead_process_nothing_happens_not_even_a_finally() -> None:
    pair = Pair()
    happened: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1.0)  # tidy: allow sleeping-tests: virtual time
        finally:
            happened.append("finally")

    pair.a.run(work())
    pair.wait(0.5)
    pair.a.loop.kill()
    pair.wait(2.0)
    assert happened == []
    pair.a.loop.bury()


def test_what_nobody_catches_is_a_fault() -> None:
    pair = Pair()
    pair.a.loop.post(lambda: 1 / 0)
    pair.wait(0.1)
    (fault,) = pair.a.faults
    assert "ZeroDivisionError" in fault


def test_a_process_that_spins_is_found() -> None:
    pair = Pair()

    def again() -> None:
        pair.a.loop.call_soon(again)

    pair.a.loop.post(again)
    pair.wait(0.1)
    (fault,) = pair.a.faults
    assert "Spinning" in fault


# Networks


def test_a_connection_keeps_order_whatever_the_jitter() -> None:
    pair = Pair(jitter_s=0.5)
    pair.open()
    contents = [b"%d" % number for number in range(20)]
    pair.write(*contents)
    pair.wait(2.0)
    assert pair.received == contents


def test_what_is_sent_on_a_cut_link_arrives_late() -> None:
    pair = Pair()
    pair.open()
    pair.network.cut("a", "b")
    pair.write(b"x", b"y")
    pair.wait(5.0)
    assert pair.received == []
    pair.network.restore("a", "b")
    pair.wait(0.1)
    assert pair.received == [b"xy"]


def test_a_connection_that_breaks_loses_some_and_tells_both() -> None:
    pair = Pair()
    pair.open()
    pair.network.cut("a", "b")
    pair.write(b"x")
    pair.network.break_between("a", "b")
    pair.network.restore("a", "b")
    pair.wait(1.0)
    assert pair.received == []
    assert sorted(pair.closed) == ["a", "b"]
    assert pair.network.counts.lost == 1


def test_a_killed_process_closes_its_connections() -> None:
    pair = Pair()
    pair.open()
    pair.b.loop.kill()
    pair.network.host_ends("b", power=False)
    pair.wait(0.1)
    assert pair.closed == ["a"]


def test_after_a_power_loss_the_peer_learns_of_it_when_it_writes_to_the_machine_again() -> None:
    pair = Pair()
    pair.open()
    pair.b.loop.kill()
    pair.network.host_ends("b", power=True)
    pair.write(b"x")
    pair.wait(5.0)
    assert pair.closed == []
    pair.network.listen("b", pair.b.loop, asyncio.Protocol)
    pair.write(b"y")
    pair.wait(0.1)
    assert pair.closed == ["a"]
    assert pair.received == []


def test_nobody_listening_refuses_and_a_cut_link_says_nothing() -> None:
    pair = Pair()
    refused = pair.a.run(pair.a.loop.create_connection(asyncio.Protocol, "b", 1))
    pair.wait(1.0)
    assert isinstance(refused[0], ConnectionRefusedError)
    pair.network.cut("b", "a")
    silent = pair.a.run(pair.a.loop.create_connection(asyncio.Protocol, "b", 1))
    pair.wait(60.0)
    assert silent == []


def test_a_slow_link_shows_in_what_waits() -> None:
    pair = Pair()
    pair.open()
    pair.network.link("a", "b").width = 1000.0
    pair.write(bytes(500))
    assert pair.transport.get_write_buffer_size() == 500
    pair.wait(1.0)
    assert pair.transport.get_write_buffer_size() == 0


# Disks


def log_on(disk: Disk) -> tuple[Wal, Place]:
    place = Place(disk.begin_life(), DIRECTORY, disk.identity, 16384)
    place.files.mkdir(DIRECTORY)
    return Wal.begin(place, number=1, first_index=2), place


def sync(wal: Wal, place: Place) -> None:
    for file in wal.take_unsynced().files:
        file.fdatasync()
    place.files.fsync_dir(DIRECTORY)


def test_an_entry_is_durable_once_file_and_name_are() -> None:
    disk = Pair().a.disk
    wal, place = log_on(disk)
    wal.append(b"x", 2, 1)
    for file in wal.take_unsynced().files:
        file.fdatasync()
    assert disk.log.last == 1, "the name of the file is not durable"
    place.files.fsync_dir(DIRECTORY)
    assert disk.log.holds(2, 1)
    wal.append(b"y", 3, 1)
    assert disk.log.last == 2
    sync(wal, place)
    assert disk.log.terms == [1, 1]


def test_what_is_cut_is_lost_once_the_cut_is_durable() -> None:
    machine = Pair().a
    wal, place = log_on(machine.disk)
    for index in range(2, 6):
        wal.append(b"x", index, 1)
    sync(wal, place)
    wal.truncate_from(4)
    wal.append(b"y", 4, 2)
    assert machine.lost == []
    sync(wal, place)
    assert machine.lost == [4, 5]
    assert machine.disk.log.terms == [1, 1, 2]


def test_a_new_log_voids_the_old_one_once_it_is_durable() -> None:
    machine = Pair().a
    wal, place = log_on(machine.disk)
    wal.append(b"x", 2, 1)
    wal.append(b"x", 3, 1)
    sync(wal, place)
    machine.disk.log.snapshot_published(9, 2)
    assert (machine.disk.log.base, machine.lost) == (9, [])
    wal.restart(10)
    wal.append(b"y", 10, 2)
    sync(wal, place)
    assert machine.disk.log.terms == [2]


def test_a_snapshot_keeps_what_the_log_holds_behind_it() -> None:
    disk = Pair().a.disk
    wal, place = log_on(disk)
    for index in range(2, 6):
        wal.append(b"x", index, 1)
    sync(wal, place)
    disk.log.snapshot_published(3, 1)
    assert (disk.log.base, disk.log.terms) == (3, [1, 1])


def test_the_worker_takes_its_time_and_keeps_order() -> None:
    pair = Pair()
    done: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(None, done.append, name) for name in "abc"]
        await asyncio.gather(*calls)

    found = pair.a.run(work())
    pair.wait(0.015)
    assert found == []
    pair.wait(0.1)
    assert found == [None]
    assert done == ["a", "b", "c"]


def test_a_stalled_disk_ends_no_call() -> None:
    pair = Pair()

    async def work() -> None:
        await asyncio.get_running_loop().run_in_executor(None, str)

    pair.a.disk.stall(2.0)
    found = pair.a.run(work())
    pair.wait(1.9)
    assert found == []
    pair.wait(0.2)
    assert found == [None]
