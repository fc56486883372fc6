"""What kind of world a seed makes: drawn first, so that each seed has its own mix (swarm testing).

Every fault is on in some seeds and off in others: a fault that is always on hides what shows only
without it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields, replace

from rendezvous_raft.membership import RaftTimers
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy
from rendezvous_raft.testing.simulation.disk import DiskSpeed

FAULTS = (
    "kill",
    "kill_leader",
    "kill_all",
    "power_loss",
    "power_loss_majority",
    "power_loss_all",
    "stop",
    "stop_leader",
    "isolate",
    "isolate_leader",
    "cut_one_way",
    "partition",
    "bridge",
    "flap",
    "slow_link",
    "narrow_link",
    "break_connection",
    "break_all",
    "disk_stall",
    "sync_fails",
    "call_fails",
    "disk_full",
    "snapshot",
    "transfer",
    "wall_jump",
)
"""Kinds of faults; `faults.py` says what each does."""
CHANGES_SHARE = 0.25
"""Of the worlds: those whose members change."""
REJOINS_SHARE = 0.2
"""Of the worlds: those in which members lose their files."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The kind of a world. Times in seconds."""

    nodes: int = 3
    """That found the cluster."""
    spares: int = 0
    """Machines beside them, which may become members."""
    duration_s: float = 30.0
    """Of all of it, with the time after healing."""
    quiet_s: float = 8.0
    """At the end: everything is healed, and has to work."""
    timers: RaftTimers = field(default_factory=RaftTimers.lan)
    delay_s: float = 0.001
    jitter_s: float = 0.001
    grid_s: float = 0.0
    disk: DiskSpeed = field(default_factory=DiskSpeed)
    clock_drift: float = 0.0
    """Largest difference of a clock's rate from 1."""
    snapshots: SnapshotPolicy = field(default_factory=SnapshotPolicy)
    segment_bytes: int = 16384
    window_bytes: int = 1024 * 1024
    faults: tuple[str, ...] = ()
    fault_interval_s: float = 2.0
    """Mean time between faults."""
    replays: float = 0.0
    """Chance that what a broken connection lost arrives later on the next one."""
    clients: int = 4
    think_s: float = 0.5
    """Mean pause of a client between its operations."""
    deadline_s: float = 2.0
    """Of an operation, on average."""
    use_cases: bool = False
    """Whether clients go through the node's use-cases, not to the engine."""

    @property
    def heal_s(self) -> float:
        """When the faults end."""
        return self.duration_s - self.quiet_s

    def describe(self) -> str:
        """All of it in a line."""
        return ", ".join(f"{part.name}={getattr(self, part.name)}" for part in fields(self))


def draw_profile(rng: random.Random, *, nodes: int, duration_s: float) -> Profile:
    """The kind of world that a seed makes."""
    # Mostly patient timers: what a heartbeat finds does not depend on how many there are.
    patience = rng.choice((1.0, 3.0, 4.0, 4.0, 6.0, 6.0))
    timers = RaftTimers(0.05 * patience, 0.3 * patience, 0.6 * patience)
    delay_s = rng.choice((0.0005, 0.002, 0.01)) * patience
    share = rng.choice((0.15, 0.3, 0.5))
    faults = tuple(kind for kind in FAULTS if rng.random() < share)
    entries_max = rng.choice((10, 30, 80, 20_000))
    profile = Profile(
        nodes=nodes,
        duration_s=duration_s,
        timers=timers,
        delay_s=delay_s,
        jitter_s=delay_s * rng.choice((0.1, 1.0, 4.0)),
        grid_s=rng.choice((0.0, 0.001, 0.004)),
        disk=DiskSpeed(rng.choice((0.0002, 0.002, 0.02)), rng.choice((0.2, 1.0))),
        clock_drift=rng.choice((0.0, 0.001, 0.05)),
        snapshots=SnapshotPolicy(
            entries_max=entries_max,
            entries_kept=rng.choice((0, 3, entries_max // 4)),
            chunk_bytes=rng.choice((700, 4096, 65536)),
            rows_at_once=8,
        ),
        segment_bytes=rng.choice((16384, 20480, 65536)),
        window_bytes=rng.choice((2000, 20_000, 1024 * 1024)),
        faults=faults,
        fault_interval_s=rng.choice((0.7, 1.5, 4.0)),
        replays=rng.choice((0.0, 0.0, 0.5)),
        clients=rng.choice((2, 4, 6)),
        think_s=rng.choice((0.3, 0.6, 1.2)),
        deadline_s=rng.choice((0.5, 2.0, 5.0)),
        use_cases=rng.random() < 0.25,
    )
    return _with_changing_members(profile, rng)


def _with_changing_members(profile: Profile, rng: random.Random) -> Profile:
    """Adds what few worlds have; drawn last, so that the others are as if it did not exist."""
    faults, spares = profile.faults, 0
    if rng.random() < CHANGES_SHARE:
        faults += ("change_members",) * rng.choice((1, 2, 4))
        spares = rng.choice((1, 1, 2))
    if rng.random() < REJOINS_SHARE:
        faults += ("rejoin",) * rng.choice((1, 1, 2))
        faults += ("empty",) * (rng.random() < 0.3)
    return replace(profile, faults=faults, spares=spares)
