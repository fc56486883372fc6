"""A program: three members live through everything while nobody may unpickle. Prints what it saw.

    audited_cluster.py DIRECTORY [plant]

An audit hook cannot be taken back, so that this must be a process of its own. `pickle.find_class`
is raised when a pickle names something to call; `marshal.loads` also by every import, and there
it does not count. Pickles that name nothing raise no event: for them the functions themselves are
watched. `plant` commits one of each, to show that they are seen.
"""

from __future__ import annotations

import sys

SEEN: list[str] = []
IMPORTING = "<frozen importlib._bootstrap_external>"
OF_STARTED = False
"""Whether the members run: what modules do while they are imported comes from no socket."""


def audit(event: str, _arguments: tuple[object, ...]) -> None:
    if not OF_STARTED or event not in {"pickle.find_class", "marshal.loads", "marshal.load"}:
        return
    caller = sys._getframe(1)
    if event == "pickle.find_class" or caller.f_code.co_filename != IMPORTING:
        SEEN.append(f"{event} in {caller.f_code.co_filename}")


sys.addaudithook(audit)

import _pickle  # noqa: E402
import asyncio  # noqa: E402
import json  # noqa: E402
import marshal  # noqa: E402
import pickle  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def watch(*arguments: Any, **named: Any) -> Any:
        if OF_STARTED:
            SEEN.append(f"{name} is called")
        return function(*arguments, **named)

    return watch


for module in (pickle, _pickle):
    for name in ("load", "loads", "Unpickler", "_load", "_loads"):
        if hasattr(module, name):
            setattr(module, name, watched(f"{module.__name__}.{name}", getattr(module, name)))

# Whoever imports pickle from here on gets the watched functions.
from contract_cluster import CLOCK, RaftCluster, raft_cluster, soon_s  # noqa: E402

from rendezvous_raft.core.commands import NewBranch, RegisterBranches  # noqa: E402
from rendezvous_raft.node.ports import Replicator  # noqa: E402
from rendezvous_raft.node.system import RandomIds  # noqa: E402
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy  # noqa: E402
from rendezvous_raft.types import BranchId, RequestId, Service  # noqa: E402

IDS = RandomIds()


async def fill(engine: Replicator, prefix: str, count: int = 200) -> None:
    calls = []
    for number in range(count):
        new = NewBranch(BranchId(f"{prefix}{number}"), Service("post"))
        command = RegisterBranches(IDS.command_id(), RequestId("r1"), (new,), 1)
        calls.append(engine.propose(command, deadline_s=soon_s()))
    await asyncio.gather(*calls)


async def live(cluster: RaftCluster) -> dict[str, object]:
    """Traffic on every member, a snapshot, its arrival at one that lagged, restarts of all."""
    for engine in cluster.engines.values():
        await fill(engine, str(engine.status().name))
        await engine.read_barrier(deadline_s=soon_s())
    (lagging, _) = await cluster.followers()
    name = lagging.status().name
    await cluster.stop(name)
    leader = await cluster.leader()
    await fill(leader, "while-away")
    taken = await leader.take_snapshot()
    await fill(leader, "after")
    again = cluster.make(name)
    replaced: list[int] = []
    again.set_listener(lambda _batch: None, lambda: replaced.append(again.state.revision))
    await again.open()
    await again.wait_applied(taken.revision, deadline_s=soon_s())
    await cluster.converged()
    await leader.transfer_leadership(name, deadline_s=soon_s())
    await cluster.leader()
    for member in cluster.members:
        await cluster.stop(member.name)
    for member in cluster.members:
        await cluster.start(member.name)
    await cluster.elect_first()
    await fill(await cluster.leader(), "again")
    await cluster.converged()
    engine = await cluster.leader()
    return {
        "branches": len(engine.state.state.branches),
        "installed": replaced,
        "snapshot_bytes": taken.size_bytes,
    }


def plant() -> None:
    pickle.loads(pickle.dumps(CLOCK.__class__))  # noqa: S301 (that it is seen is the point)
    pickle.loads(pickle.dumps([1]))  # noqa: S301
    marshal.loads(marshal.dumps([1]))  # noqa: S302


async def main() -> None:
    global OF_STARTED  # noqa: PLW0603 (the hook must know, and cannot be told otherwise)
    policy = SnapshotPolicy(entries_kept=0, chunk_bytes=4_096)
    async with raft_cluster(Path(sys.argv[1]), tls=True, snapshots=policy) as cluster:
        OF_STARTED = True
        found = await live(cluster)
        if "plant" in sys.argv:
            plant()
    sys.stdout.write(json.dumps({**found, "seen": SEEN}))


asyncio.run(main())
