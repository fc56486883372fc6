"""One machine of a simulated cluster: its disk, its clock, and the lives of its process.

A life is a real `RaftReplicator`, opened on what the disk holds, with the real links over the
simulated network. What the judge has to see is intercepted here, and nowhere else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MemberConfig
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.observer import SilentObserver
from rendezvous_raft.replication.batching import GroupCommit
from rendezvous_raft.replication.observer import SilentEngineObserver
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.replication.raft.files import DiskFull
from rendezvous_raft.replication.raft.links import EngineLinks
from rendezvous_raft.replication.raft.links import Node as Peer
from rendezvous_raft.replication.raft.memberships import MEMBERSHIP
from rendezvous_raft.replication.raft.metadata import UNNAMED, Birth, Identity
from rendezvous_raft.replication.raft.rejoin import prepare_rejoin
from rendezvous_raft.replication.raft.snapshots import SnapshotFile
from rendezvous_raft.replication.raft.transport import TcpLinks
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.disk import Disk, NoThreads
from rendezvous_raft.testing.simulation.electorate import NodeRecord
from rendezvous_raft.testing.simulation.inputs import ProcessClock, SeededIds
from rendezvous_raft.testing.simulation.judge import Judge
from rendezvous_raft.testing.simulation.loop import ProcessLoop
from rendezvous_raft.testing.simulation.network import Network
from rendezvous_raft.testing.simulation.profile import Profile
from rendezvous_raft.testing.simulation.stable_log import WrittenEntry
from rendezvous_raft.testing.simulation.trace import Trace
from rendezvous_raft.types import NodeName, Region

T = TypeVar("T")

CLUSTER = "simulated"
BOOT_RETRY_S = 1.0
"""After this a process that found no room on its disk is started again."""
LIMITS = NodeLimits(pulse_interval_ms=5_000)
"""Pulses are entries that do nothing: fewer of them than by default."""


class _Links(TcpLinks):
    """The real links; what leaves is shown to the judge."""

    left: Callable[[str, dict[str, Any]], None]

    def _deliver(self, node: Peer, message: dict[str, Any]) -> None:
        self.left(str(node.id), message)
        super()._deliver(node, message)


@dataclass(slots=True)
class Around:
    """What all machines of a world share."""

    agenda: Agenda
    network: Network
    judge: Judge
    trace: Trace
    profile: Profile
    founders: tuple[MemberConfig, ...]
    rng: Callable[[str], random.Random]
    """Chance for a purpose, from the world's seed."""


@dataclass(slots=True)
class Life:
    """One life of a process."""

    loop: ProcessLoop
    engine: RaftReplicator
    node: Node | None
    """The use-cases over the engine, if the world has them."""
    is_open: bool = False

    @property
    def raft(self) -> Any:
        """The Raft member; there once the engine is open."""
        return self.engine._raft  # noqa: SLF001 (this is where one looks inside)

    @property
    def halted(self) -> str | None:
        """Why the engine has halted, if it has."""
        return self.engine._halted  # noqa: SLF001


class Host:
    """One machine. See the module's docstring."""

    def __init__(self, around: Around, name: str) -> None:
        self.name = name
        self.lives = 0
        self.halts = 0
        self.refusals = 0
        """Starts that failed because the disk was full."""
        self.is_emptied = False
        """Whether its directory was emptied by hand, and nobody has found out yet."""
        self.wall_jump_ms = 0
        self.life: Life | None = None
        self.config = MemberConfig(NodeName(name), Region("eu"), f"{name}:1")
        """As its own configuration names it."""
        self._around = around
        self._rng = around.rng(f"host {name}")
        self._links: _Links | None = None
        self._graves: list[ProcessLoop] = []
        self._directory = Path("/") / name
        disk_rng = around.rng(f"disk {name}")
        identity = Identity(CLUSTER, name)
        speed = around.profile.disk
        self.disk = Disk(
            around.agenda,
            disk_rng,
            identity,
            self._directory,
            speed,
            wrote=self._wrote,
            lost=self._lost,
        )
        self.record = NodeRecord(name, self.disk.log)

    @property
    def is_up(self) -> bool:
        """Whether its process lives, takes part, and is not stopped."""
        return self.life is not None and self.life.is_open and not self.life.loop.stopped

    @property
    def is_leader(self) -> bool:
        """Whether it believes to lead."""
        return self.life is not None and self.life.is_open and bool(self.life.raft.is_leader)

    @property
    def living(self) -> Life:
        """Its life, which takes part. Raises `RuntimeError` if there is none."""
        if self.life is None or not self.life.is_open:
            raise RuntimeError(f"{self.name} is down")
        return self.life

    # Lives

    def start(self) -> None:
        """A new process begins."""
        if self.life is not None:
            return
        around = self._around
        self.lives += 1
        around.trace.note(around.agenda.now_s, self.name, "starts")
        around.judge.begins(self.record)
        drift = around.profile.clock_drift
        # Asyncio's class declares much that no engine uses; at run time none of it is abstract.
        loop = ProcessLoop(  # type: ignore[abstract]
            around.agenda,
            self,
            clock_begin_s=1000.0 + self._rng.random() * 1000,
            clock_rate=1.0 + drift * (2 * self._rng.random() - 1),
            faults=self._fault,
            afterwards=self._afterwards,
        )
        self.life = life = self._make_life(loop)
        opening: RaftReplicator | Node = life.node or life.engine
        self.run(opening.open, partial(self._opened, life))

    def _make_life(self, loop: ProcessLoop) -> Life:
        around, profile = self._around, self._around.profile
        clock = ProcessClock(loop, lambda: self.wall_jump_ms)
        is_founder = self.config in around.founders
        engine = RaftReplicator(
            self_name=NodeName(self.name),
            members=around.founders if is_founder else (*around.founders, self.config),
            joining=not is_founder,
            cluster_id=CLUSTER,
            data_dir=self._directory,
            timers=profile.timers,
            limits=LIMITS,
            clock=clock,
            observer=SilentEngineObserver(),
            segment_bytes=profile.segment_bytes,
            files=self.disk.begin_life(),
            rng=random.Random(self._rng.getrandbits(64)),  # noqa: S311 (not for secrets)
            executor=NoThreads(),
            make_links=partial(self._make_links, window_bytes=profile.window_bytes),
            snapshot_policy=profile.snapshots,
        )
        node = None
        if profile.use_cases:
            node = Node(
                name=NodeName(self.name),
                region=Region("eu"),
                replicator=engine,
                clock=clock,
                ids=SeededIds(random.Random(self._rng.getrandbits(64))),  # noqa: S311
                limits=LIMITS,
                observer=SilentObserver(),
            )
        self._intercept(engine)
        return Life(loop, engine, node)

    def _make_links(self, **parts: Any) -> EngineLinks:
        links = _Links(**parts)
        links.left = self._left
        self._links = links
        return links

    def _intercept(self, engine: RaftReplicator) -> None:
        """Lets the judge see what is applied."""
        replica = engine._replica  # noqa: SLF001 (this is where one looks inside)
        apply_entry, judge, record = replica.apply_entry, self._around.judge, self.record

        def apply_and_tell(encoded: bytes, commits: GroupCommit | None) -> int:
            raft = engine._raft  # noqa: SLF001
            self._see_commits()
            answers: list[list[Applied]] = []
            listener = replica._listener  # noqa: SLF001

            def listen(batch: Sequence[Applied]) -> None:
                answers.append(list(batch))
                listener(batch)
                judge.applied(record, raft.last_applied + 1, answers[0], replica.machine)

            replica._listener = listen  # noqa: SLF001
            try:
                return apply_entry(encoded, commits)
            finally:
                replica._listener = listener  # noqa: SLF001

        replica.apply_entry = apply_and_tell  # type: ignore[method-assign]

    def _opened(self, life: Life, task: asyncio.Task[None]) -> None:
        error = task.exception()
        around = self._around
        if isinstance(error, DiskFull):
            self.refusals += 1
            self.kill(power=False)
            around.agenda.after(BOOT_RETRY_S, self.start)
            return
        if error is not None:
            around.judge.broke("a node starts on its own files", f"{self.name}: {error!r}")
            return
        life.is_open = True
        log = life.raft.log
        self._tell_of_restores(life.engine)
        term, voted_for, base = log.getCurrentTerm(), log.getVotedForNodeId(), log.base_index
        terms = [term for _, _, term in log[1:]]
        around.judge.booted(
            self.record,
            birth=life.raft.birth,
            term=term,
            voted_for=voted_for,
            base=base,
            terms=terms,
            volatile=self.disk.volatile_files(),
        )
        self.disk.recovered(term, voted_for, base, terms)
        if base > 1:
            around.judge.restored(self.record, base, life.engine.state)

    def _tell_of_restores(self, engine: RaftReplicator) -> None:
        snapshots = engine._snapshots  # noqa: SLF001
        replace, judge, record = snapshots.replace_state, self._around.judge, self.record

        def replace_and_tell(file: SnapshotFile, machine: StateMachine) -> None:
            replace(file, machine)
            judge.restored(record, file.index, machine)

        snapshots.replace_state = replace_and_tell  # type: ignore[method-assign]

    def kill(self, *, power: bool) -> None:
        """The process ends at once; with `power`, the machine loses what is not synced."""
        if self.life is None:
            return
        around = self._around
        around.trace.note(around.agenda.now_s, self.name, "power loss" if power else "killed")
        self.life.loop.kill()
        self._graves.append(self.life.loop)
        self.life = None
        around.network.host_ends(self.name, power=power)
        self.disk.kill(power=power)

    def bury(self) -> None:
        """Frees what the processes held; at the end of the world."""
        if self.life is not None:
            self._graves.append(self.life.loop)
        for grave in self._graves:
            grave.bury()
        self._graves.clear()

    # Its directory, while no process runs

    def rejoin(self) -> None:
        """`rendezvous server rejoin`: the old files are put aside."""
        around = self._around
        around.trace.note(around.agenda.now_s, self.name, "rejoins")
        self.disk.free()
        identity, files = Identity(CLUSTER, self.name), self.disk.memory
        label = str(self.lives)
        done = prepare_rejoin(self._directory, identity, files=files, rng=self._rng, label=label)
        self.is_emptied = False
        self._begins_anew(Birth(done.incarnation, founding=False))

    def empty(self) -> None:
        """Somebody removes every file of its directory."""
        around = self._around
        around.trace.note(around.agenda.now_s, self.name, "emptied")
        files = self.disk.memory
        files.fsync_dir(self._directory)
        for path in files.paths():
            files.lose(path)
        self.is_emptied = True
        self._begins_anew(UNNAMED)

    def _begins_anew(self, birth: Birth) -> None:
        self.disk.begins_anew()
        self.record = NodeRecord(self.name, self.disk.log, birth)
        self._around.judge.electorate.replaces(self.record)

    # Signals

    def stop(self) -> None:
        """SIGSTOP: nothing happens in the process."""
        if self.life is not None:
            self.life.loop.stop()

    def resume(self) -> None:
        """SIGCONT."""
        if self.life is not None and self.life.loop.stopped:
            self.life.loop.resume(self._rng)

    def run(
        self, call: Callable[[], Coroutine[Any, Any, T]], done: Callable[[asyncio.Task[T]], None]
    ) -> None:
        """Runs a coroutine in the process; it may never end, for the process may.

        Does nothing if there is no process.
        """
        if self.life is None:
            return
        loop = self.life.loop

        def begin() -> None:
            loop.create_task(call()).add_done_callback(done)

        loop.post(begin)

    # Surroundings of the process

    def run_blocking(self, loop: ProcessLoop, call: Callable[[], T]) -> asyncio.Future[T]:
        """See `loop.Surroundings`."""
        return self.disk.run_blocking(loop, call)

    async def listen(self, factory: Callable[[], asyncio.Protocol], port: int) -> object:
        """See `loop.Surroundings`."""
        return self._around.network.listen(self.name, _running(), factory)

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """See `loop.Surroundings`."""
        return await self._around.network.connect(self.name, _running(), factory, host)

    # What the judge is shown

    def _fault(self, what: str) -> None:
        self._around.judge.broke("nothing is raised that nobody catches", f"{self.name}: {what}")

    def _wrote(self, entry: WrittenEntry) -> None:
        if entry.payload[:1] == MEMBERSHIP:
            self._see_commits()  # that of the one before may have come in this very turn
        self._around.judge.wrote(self.record, entry)

    def _lost(self, index: int, term: int) -> None:
        self._around.judge.voided(self.record, index, term)

    def _left(self, receiver: str, message: dict[str, Any]) -> None:
        self._around.judge.left(self.record, receiver, message)

    def _see_commits(self) -> None:
        life = self.life
        if life is None or not life.is_open:
            return
        raft = life.raft
        if raft.commit_index > self.record.committed:
            self._around.judge.committed(
                self.record,
                raft.commit_index,
                raft.log,
                term=raft.term,
                leads=raft.is_leader,
            )

    def _afterwards(self) -> None:
        """After everything that the process did in one appointment."""
        life = self.life
        if life is None or not life.is_open:
            return
        self._see_commits()
        raft, record, around = life.raft, self.record, self._around
        if not raft.is_leader:
            return
        if record.led_term != raft.term:
            around.trace.note(around.agenda.now_s, self.name, "leads", b"term %d" % raft.term)
            around.judge.leads(record, raft.term, raft.log)
            record.led_term = raft.term
            record.believed.clear()
        around.judge.believes(record, raft.term, raft.match_index, raft.log)


def _running() -> ProcessLoop:
    return cast("ProcessLoop", asyncio.get_running_loop())
