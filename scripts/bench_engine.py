#!/usr/bin/env python3
"""Measures the engine at its port: three processes on real files, durable, over loopback.

    python scripts/bench_engine.py --outstanding 64,1000 --seconds 5
    python scripts/bench_engine.py --at follower --json result.json
    python scripts/bench_engine.py --profile leader.prof       # cProfile of the proposing member

Each member is a process with a `RaftReplicator`, its files in a directory of its own, and TCP links
on loopback, on the loop of a node. One of them proposes, closed loop: so many callers, each with
its next command when it has the answer to the last. A command registers one branch with two regions
in a request of its own, as the SDK does without a request id: about 150 bytes encoded. What builds
the commands and takes the answers runs in the proposing process and is in its CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import dataclasses
import itertools
import json
import os
import platform
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import uvloop

from rendezvous_raft.core.commands import NewBranch, RegisterBranches
from rendezvous_raft.core.results import BranchesRegistered
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MemberConfig, RaftTimers
from rendezvous_raft.node.system import SystemClock
from rendezvous_raft.replication.codec import encode_command
from rendezvous_raft.replication.observer import SilentEngineObserver
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.server.collector import keep_collections_short
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    CommandId,
    NodeName,
    Region,
    RequestId,
    Service,
    Tag,
)

MEMBERS = 3
WARM_UP_S = 1.0
DEADLINE_S = 30.0
REGIONS = (Region("eu"), Region("us"))
CLOCK = SystemClock()
COUNTERS = ("user_s", "system_s", "log_index", "syncs", "sync_s")


class Counts(SilentEngineObserver):
    """What a member did."""

    def __init__(self) -> None:
        self.commands = self.syncs = 0
        self.sync_s = 0.0

    def synced(self, seconds: float) -> None:
        """See `EngineObserver`."""
        self.syncs += 1
        self.sync_s += seconds

    def applied(self, count: int, seconds: float) -> None:  # noqa: ARG002 (the port's)
        """See `EngineObserver`."""
        self.commands += count


class Commands:
    """Registrations, each of a new branch in a new request, with ids as the product makes them."""

    def __init__(self) -> None:
        self._prefix = f"{CLOCK.wall_ms():012x}{secrets.token_hex(6)}"
        self._secret = secrets.token_bytes(8)
        self._numbers = itertools.count()

    def next(self) -> RegisterBranches:
        """Another one. Counted ids of the usual length: making random ones is not measured."""
        number = next(self._numbers)
        unique = f"{self._prefix}{number:08x}"
        branch = NewBranch(
            branch_id=BranchId(f"post-storage-{unique}"),
            service=Service("post-storage"),
            tag=Tag("write_post"),
            kind=BranchKind.REGIONAL,
            regions=REGIONS,
        )
        command_id = CommandId(self._secret + number.to_bytes(4, "big"))
        return RegisterBranches(command_id, RequestId(f"req-{unique}"), (branch,), CLOCK.wall_ms())


# A member's process


async def member_main(index: int, ports: list[int], directory: Path, profile: str) -> None:
    """Runs one member, which obeys the lines of its standard input."""
    keep_collections_short()
    counts = Counts()
    members = [
        MemberConfig(NodeName(f"n{number}"), Region("eu"), f"127.0.0.1:{port}")
        for number, port in enumerate(ports, start=1)
    ]
    engine = RaftReplicator(
        self_name=members[index].name,
        members=members,
        cluster_id="bench",
        data_dir=directory,
        timers=RaftTimers.lan(),
        limits=NodeLimits(),
        clock=CLOCK,
        observer=counts,
    )
    await engine.open()
    commands = Commands()
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            answer: dict[str, Any]
            if order["do"] == "propose":
                answer = await propose(engine, commands, order, profile)
            else:
                answer = state_of(engine, counts)
            print(json.dumps(answer), flush=True)
    finally:
        await engine.close()


def state_of(engine: RaftReplicator, counts: Counts) -> dict[str, Any]:
    """Role, links and counters of this member."""
    status = engine.status()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "leader": status.leader,
        "linked": all(member.connected for member in status.members),
        "halted": status.halted,
        "revision": engine.state.revision,
        "term": status.term,
        "log_index": status.commit_index,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "commands": counts.commands,
        "syncs": counts.syncs,
        "sync_s": counts.sync_s,
    }


async def propose(
    engine: RaftReplicator, commands: Commands, order: dict[str, Any], profile: str
) -> dict[str, Any]:
    """Keeps so many commands outstanding for so many seconds; latencies in milliseconds."""
    latencies_s: list[float] = []
    profiler = cProfile.Profile() if profile and order["measured"] else None
    end_s = time.perf_counter() + order["seconds"]

    async def caller() -> None:
        now_s = time.perf_counter()
        while now_s < end_s:
            applied = await engine.propose(
                commands.next(), deadline_s=CLOCK.monotonic_s() + DEADLINE_S
            )
            if not isinstance(applied.result, BranchesRegistered):
                raise TypeError(f"a registration was answered with {applied.result}")
            started_s, now_s = now_s, time.perf_counter()
            latencies_s.append(now_s - started_s)

    if profiler is not None:
        profiler.enable()
    started_s = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(order["outstanding"])))
    seconds = time.perf_counter() - started_s
    if profiler is not None:
        profiler.disable()
        profiler.dump_stats(profile)
    latencies_s.sort()
    count = len(latencies_s)
    return {
        "commands": count,
        "seconds": seconds,
        "p50_ms": latencies_s[count // 2] * 1000,
        "p99_ms": latencies_s[count * 99 // 100] * 1000,
    }


# The process that measures


class Member:
    """A member's process, and the conversation with it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, do: str, **fields: object) -> dict[str, Any]:
        """Sends an order and waits for the answer to it."""
        stdin, stdout = self._pipes()
        stdin.write(json.dumps({"do": do, **fields}) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"member {self._process.pid} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """Ends it, orderly if it will."""
        self._pipes()[0].close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("started without pipes")
        return self._process.stdin, self._process.stdout


@contextmanager
def running(directory: Path, profile: str) -> Iterator[list[Member]]:
    """Three members that have a leader and know each other."""
    with ExitStack() as stack:
        reserved = [stack.enter_context(socket.socket()) for _ in range(MEMBERS)]
        for holder in reserved:  # bound and not listening: nobody else is given the port
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
        ports = ",".join(str(holder.getsockname()[1]) for holder in reserved)
        members = []
        for index in range(MEMBERS):
            options = ["--member", str(index), "--ports", ports, "--profile", profile]
            process = subprocess.Popen(
                [sys.executable, __file__, *options, "--dir", str(directory / f"n{index + 1}")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            members.append(Member(process))
            stack.callback(members[-1].stop)
        while True:
            states = [member.ask("state") for member in members]
            leaders = {state["leader"] for state in states}
            if len(leaders) == 1 and None not in leaders and all(s["linked"] for s in states):
                break
            time.sleep(0.05)
        yield members


def measure(members: list[Member], at: str, outstanding: int, seconds: float) -> dict[str, Any]:
    """One measurement after a warm-up; everything per second is of the measured time."""
    leader = int(members[0].ask("state")["leader"][1:]) - 1
    proposer = leader if at == "leader" else (leader + 1) % MEMBERS
    order = {"outstanding": outstanding}
    members[proposer].ask("propose", **order, seconds=WARM_UP_S, measured=False)
    before = [member.ask("state") for member in members]
    result = members[proposer].ask("propose", **order, seconds=seconds, measured=True)
    after = [member.ask("state") for member in members]
    spent = [
        {key: new[key] - old[key] for key in COUNTERS}
        for old, new in zip(before, after, strict=True)
    ]
    commands, elapsed_s = result["commands"], result["seconds"]
    cpu_s = [one["user_s"] + one["system_s"] for one in spent]
    entries = spent[leader]["log_index"]
    return {
        "at": at,
        "outstanding": outstanding,
        "commands": commands,
        "seconds": elapsed_s,
        "commands_per_s": commands / elapsed_s,
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "entries_per_s": entries / elapsed_s,
        "commands_per_entry": commands / max(1, entries),
        "leader_syncs_per_s": spent[leader]["syncs"] / elapsed_s,
        "leader_sync_ms": 1000 * spent[leader]["sync_s"] / max(1, spent[leader]["syncs"]),
        "cpu_s": cpu_s,
        "cpu_system_s": [one["system_s"] for one in spent],
        "cpu_us_per_command": [1e6 * seconds / commands for seconds in cpu_s],
        "cpu_us_per_command_total": 1e6 * sum(cpu_s) / commands,
        "leader": leader,
        "proposer": proposer,
        "terms": sorted({state["term"] for state in after}),
    }


def show(result: dict[str, Any]) -> None:
    """A measurement, for people."""
    print(
        f"{result['outstanding']:5} outstanding at the {result['at']}:"
        f" {result['commands_per_s']:8.0f} commands/s"
        f"   p50 {result['p50_ms']:7.2f} ms   p99 {result['p99_ms']:7.2f} ms\n"
        f"      {result['entries_per_s']:6.0f} entries/s"
        f" of {result['commands_per_entry']:5.1f} commands;"
        f" leader: {result['leader_syncs_per_s']:5.0f} syncs/s"
        f" of {result['leader_sync_ms']:.2f} ms"
    )
    for index, (cpu_s, cost_us) in enumerate(
        zip(result["cpu_s"], result["cpu_us_per_command"], strict=True)
    ):
        roles = [name for name in ("leader", "proposer") if result[name] == index]
        print(
            f"      n{index + 1} {' and '.join(roles) or 'follower':20}"
            f" {cpu_s:6.2f} s CPU in {result['seconds']:.1f} s, {cost_us:5.1f} us per command"
        )
    print(f"      together {result['cpu_us_per_command_total']:.1f} us of CPU per command")


def parse_arguments() -> argparse.Namespace:
    """See `--help`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--outstanding", default="1,64,1000", help="callers, one run for each")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured, after 1 s warm-up")
    parser.add_argument("--at", choices=("leader", "follower"), default="leader")
    parser.add_argument("--dir", default="", help="for the files; a temporary one by default")
    parser.add_argument("--json", default="", metavar="FILE", help="write the results there too")
    parser.add_argument("--profile", default="", metavar="FILE", help="cProfile of the proposer")
    parser.add_argument("--member", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--ports", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measures, or is one of the members that are measured."""
    options = parse_arguments()
    if options.member >= 0:
        ports = [int(port) for port in options.ports.split(",")]
        work = member_main(options.member, ports, Path(options.dir), options.profile)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
        return
    encoded_bytes = len(encode_command(Commands().next()))
    about = {
        "command_bytes": encoded_bytes,
        "limits": dataclasses.asdict(NodeLimits()),
        "python": platform.python_version(),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
    }
    print(f"{MEMBERS} members, a command has {encoded_bytes} bytes, {about['machine']}")
    results = []
    for outstanding in map(int, options.outstanding.split(",")):
        # Each run with new members: a state that has grown must not slow down the next one.
        with (
            tempfile.TemporaryDirectory(dir=options.dir or None) as directory,
            running(Path(directory), options.profile) as members,
        ):
            results.append(measure(members, options.at, outstanding, options.seconds))
        show(results[-1])
    if options.json:
        Path(options.json).write_text(json.dumps({**about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
