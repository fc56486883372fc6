"""What goes wrong in a simulated world, and how it is made good.

A fault counts only when it bit: something was killed, a message was held or lost, a call failed.
New kinds are methods named `_do_KIND`, and their names stand in `profile.FAULTS`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from rendezvous_raft import errors
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.host import Host
from rendezvous_raft.testing.simulation.judge import Judge
from rendezvous_raft.testing.simulation.network import Network
from rendezvous_raft.testing.simulation.operator import Operator
from rendezvous_raft.testing.simulation.profile import Profile
from rendezvous_raft.testing.simulation.trace import Trace

CALLS = ("fsync_dir", "write", "create", "allocate", "rename", "unlink")
"""Calls of the file layer that may fail, beside `fdatasync`."""


class Faults:
    """Makes faults by chance, until it is told to heal everything.

    Args:
        hosts: the machines.
        patience_s: an election time-out of the world: faults last around it.
    """

    def __init__(
        self,
        agenda: Agenda,
        network: Network,
        hosts: Sequence[Host],
        profile: Profile,
        judge: Judge,
        rng: random.Random,
        trace: Trace,
    ) -> None:
        self.begun: dict[str, int] = {}
        """Faults by kind."""
        self.bitten: dict[str, int] = {}
        """Of these, those that had an effect."""
        self._agenda = agenda
        self._network = network
        self._hosts = hosts
        self._profile = profile
        self._rng = rng
        self._trace = trace
        self._operator = Operator(agenda, hosts, profile, judge, rng, trace, self._bit)
        self._healed = False
        self._patience_s = profile.timers.election_max_s

    def begin(self) -> None:
        """The first fault comes after a while."""
        if self._profile.faults:
            self._network.replays = self._profile.replays
            self._later()

    def heal(self) -> None:
        """No more faults; everything runs again, on good links and good disks."""
        self._healed = True
        self._operator.end()
        self._trace.note(self._agenda.now_s, "world", "heals")
        self._network.restore_all()
        for host in self._hosts:
            host.disk.free()
            host.disk.stalled_until_s = 0.0
            host.resume()
            if self._operator.is_found_out(host):
                self._operator.bring_back(host)
            elif host.life is not None and host.life.halted is not None:
                host.kill(power=False)
            host.start()

    def look(self) -> None:
        """Starts processes again that have halted; called often."""
        for host in self._hosts:
            life = host.life
            if life is not None and life.halted is not None and not life.loop.stopped:
                host.halts += 1
                self._trace.note(self._agenda.now_s, host.name, "halted", life.halted.encode())
                if self._operator.is_found_out(host):
                    self._operator.bring_back(host)
                else:
                    self._end(host, power=self._rng.random() < 0.3)

    def do(self, kind: str) -> None:
        """Makes one fault of a kind, now."""
        self._trace.note(self._agenda.now_s, "world", "fault", kind.encode())
        self.begun[kind] = self.begun.get(kind, 0) + 1
        make: Callable[[], bool] = getattr(self, f"_do_{kind}")
        if make():
            self._bit(kind)

    def _bit(self, kind: str) -> None:
        self.bitten[kind] = self.bitten.get(kind, 0) + 1

    def _later(self) -> None:
        pause_s = self._rng.expovariate(1.0 / self._profile.fault_interval_s)
        self._agenda.after(pause_s, self._next)

    def _next(self) -> None:
        if not self._healed:
            self.do(self._rng.choice(self._profile.faults))
            self._later()

    def _while(self, seconds: float, undo: Callable[[], object]) -> None:
        self._agenda.after(seconds, undo)

    def _some_time_s(self) -> float:
        """Sometimes shorter than an election takes, sometimes longer."""
        return self._patience_s * self._rng.choice((0.2, 0.8, 1.5, 4.0)) * self._rng.random()

    # Whom it hits

    def _any(self) -> Host:
        return self._rng.choice(self._hosts)

    def _leader(self) -> Host:
        leaders = [host for host in self._hosts if host.is_leader]
        return self._rng.choice(leaders) if leaders else self._any()

    def _some(self, count: int) -> list[Host]:
        return self._rng.sample(list(self._hosts), count)

    # Processes and machines

    def _end(self, host: Host, *, power: bool) -> bool:
        if host.life is None:
            return False
        host.kill(power=power)
        self._agenda.after(self._some_time_s(), host.start)
        return True

    def _do_kill(self) -> bool:
        return self._end(self._any(), power=False)

    def _do_kill_leader(self) -> bool:
        return self._end(self._leader(), power=False)

    def _do_kill_all(self) -> bool:
        lived = [host for host in self._hosts if host.lives]
        return sum(self._end(host, power=False) for host in lived) == len(lived)

    def _do_power_loss(self) -> bool:
        return self._end(self._any(), power=True)

    def _do_power_loss_majority(self) -> bool:
        hosts = self._some(len(self._hosts) // 2 + 1)
        return sum(self._end(host, power=True) for host in hosts) > 0

    def _do_power_loss_all(self) -> bool:
        return sum(self._end(host, power=True) for host in self._hosts) > 0

    def _stop(self, host: Host) -> bool:
        if not host.is_up:
            return False
        host.stop()
        self._while(self._some_time_s(), host.resume)
        return True

    def _do_stop(self) -> bool:
        return self._stop(self._any())

    def _do_stop_leader(self) -> bool:
        return self._stop(self._leader())

    # The network

    def _cut(self, kind: str, pairs: Sequence[tuple[Host, Host]], seconds: float) -> bool:
        """Cuts directions for a while; bites when something was held back, or broke."""
        held = self._network.counts.held
        for sender, receiver in pairs:
            self._network.cut(sender.name, receiver.name)
        breaks = self._rng.random() < 0.5

        def restore() -> None:
            if self._network.counts.held > held:
                self._bit(kind)
            for sender, receiver in pairs:
                if breaks:
                    self._network.break_between(sender.name, receiver.name)
                self._network.restore(sender.name, receiver.name)

        self._while(seconds, restore)
        return False

    def _isolate(self, kind: str, host: Host) -> bool:
        others = [other for other in self._hosts if other is not host]
        pairs = [pair for other in others for pair in ((host, other), (other, host))]
        return self._cut(kind, pairs, self._some_time_s())

    def _do_isolate(self) -> bool:
        return self._isolate("isolate", self._any())

    def _do_isolate_leader(self) -> bool:
        return self._isolate("isolate_leader", self._leader())

    def _do_cut_one_way(self) -> bool:
        host = self._leader() if self._rng.random() < 0.5 else self._any()
        others = [other for other in self._hosts if other is not host]
        chosen = self._rng.sample(others, self._rng.randint(1, len(others)))
        inward = self._rng.random() < 0.5
        pairs = [(other, host) if inward else (host, other) for other in chosen]
        return self._cut("cut_one_way", pairs, self._some_time_s())

    def _do_partition(self) -> bool:
        one = self._some(self._rng.randint(1, len(self._hosts) - 1))
        other = [host for host in self._hosts if host not in one]
        pairs = [pair for a in one for b in other for pair in ((a, b), (b, a))]
        return self._cut("partition", pairs, self._some_time_s())

    def _do_bridge(self) -> bool:
        """Two halves that see only one machine in common."""
        shuffled = self._some(len(self._hosts))
        half = (len(shuffled) - 1) // 2
        one, other = shuffled[1 : 1 + half], shuffled[1 + half :]
        pairs = [pair for a in one for b in other for pair in ((a, b), (b, a))]
        return self._cut("bridge", pairs, self._some_time_s())

    def _do_flap(self) -> bool:
        a, b = self._some(2)
        for turn in range(self._rng.randint(2, 6)):
            begin_s = turn * self._patience_s
            pairs = ((a, b), (b, a))
            self._agenda.after(begin_s, self._cut, "flap", pairs, self._patience_s / 2)
        return False

    def _do_slow_link(self) -> bool:
        a, b = self._some(2)
        link = self._network.link(a.name, b.name)
        link.slow_by_s = self._rng.choice((0.1, 0.5, 2.0)) * self._patience_s

        def restore() -> None:
            link.slow_by_s = 0.0

        self._while(self._some_time_s() * 2, restore)
        return True

    def _do_narrow_link(self) -> bool:
        a, b = self._some(2)
        link = self._network.link(a.name, b.name)
        link.width = self._rng.choice((2_000.0, 8_000.0))

        def restore() -> None:
            link.width = 0.0

        self._while(self._some_time_s() * 2, restore)
        return True

    def _do_break_connection(self) -> bool:
        a, b = self._some(2)
        return self._network.break_between(a.name, b.name) > 0

    def _do_break_all(self) -> bool:
        host = self._any()
        others = [other for other in self._hosts if other is not host]
        return sum(self._network.break_between(host.name, o.name) for o in others) > 0

    # Disks and clocks

    def _do_disk_stall(self) -> bool:
        self._any().disk.stall(self._some_time_s())
        return True

    def _do_sync_fails(self) -> bool:
        host = self._any()
        if host.life is not None:
            host.disk.fail_next("fdatasync")
        return False  # counted by the disk when it happens

    def _do_call_fails(self) -> bool:
        """Whatever the process asks of its files next, once."""
        host = self._any()
        failed = host.disk.failed_calls
        if host.life is not None:
            host.disk.fail_next(self._rng.choice(CALLS))

        def count() -> None:
            if host.disk.failed_calls > failed:
                self._bit("call_fails")

        self._while(self._patience_s, count)
        return False

    def _do_disk_full(self) -> bool:
        host = self._any()
        disk, full = host.disk, host.disk.full_calls
        disk.fill(self._rng.choice((0, 5_000, 40_000)))

        def free() -> None:
            if disk.full_calls > full:
                self._bit("disk_full")
            disk.free()

        self._while(self._some_time_s() * 2, free)
        return False

    def _do_wall_jump(self) -> bool:
        self._any().wall_jump_ms += self._rng.choice((-86_400_000, -1000, 1000, 86_400_000))
        return True

    # What operators do

    def _do_snapshot(self) -> bool:
        host = self._any()
        if host.is_up:
            engine = host.living.engine
            host.run(engine.take_snapshot, lambda task: self._ended("snapshot", task))
        return False

    def _do_change_members(self) -> bool:
        self._operator.change_members()
        return False  # counted when it is committed

    def _do_rejoin(self) -> bool:
        return self._operator.rejoin()

    def _do_empty(self) -> bool:
        return self._operator.empty()

    def _do_transfer(self) -> bool:
        host = self._leader()
        if host.is_up:
            engine, loop = host.living.engine, host.living.loop
            deadline_s = loop.time() + 2 * self._patience_s
            host.run(
                lambda: engine.transfer_leadership(None, deadline_s=deadline_s),
                lambda task: self._ended("transfer", task),
            )
        return False

    def _ended(self, kind: str, task: asyncio.Task[Any]) -> None:
        """Bit if it succeeded; that it cannot be done is allowed, whatever else is not."""
        error = task.exception()
        if error is None:
            self._bit(kind)
        elif not isinstance(error, errors.RendezvousError | OSError):
            raise error
