"""Several nodes over scripted engines that commit the same commands, and members of a group."""

from __future__ import annotations

from node_bench import NodeBench, Reader, key

from rendezvous_raft.core import groups, queries, snapshot
from rendezvous_raft.core.commands import Command, NewBranch
from rendezvous_raft.core.model import GroupKey
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.calls import BranchIsClosed, BranchIsOpen, SubscriptionKey, Synced
from rendezvous_raft.node.status import MemberStatus
from rendezvous_raft.types import MemberId, NodeName, Region, Role

GROUP = key(group="g")


class Monitor:
    """A member of a group: remembers what it was told of, as a monitor does."""

    def __init__(self, bench: NodeBench, subscribed: SubscriptionKey = GROUP) -> None:
        self.bench = bench
        self.reader = Reader(bench, subscribed)
        self.watched: set[str] = set()
        self.told: list[str] = []
        self.synced = False
        self.member_id = MemberId("")
        """Of its stream."""

    def remembered(self) -> set[str]:
        """What its node remembers to have given it."""
        watching = self.bench.node._subscriptions._by_service[GROUP.service][GROUP.region]
        (subscriber,) = [
            one
            for one in watching
            if one.membership is not None and one.membership.member_id == self.member_id
        ]
        return set(subscriber.given)

    async def read(self) -> None:
        """Takes what there is."""
        events = await self.reader.read_nowait()
        if not self.member_id and self.bench.node._groups._memberships:
            self.member_id = [*self.bench.node._groups._memberships][-1]
        for event in events:
            if isinstance(event, BranchIsOpen):
                self.watched.add(event.branch_id)
                self.told.append(event.branch_id)
            elif isinstance(event, BranchIsClosed):
                self.watched.discard(event.branch_id)
            elif isinstance(event, Synced):
                self.synced = True


async def joined(
    bench: NodeBench, count: int = 1, subscribed: SubscriptionKey = GROUP
) -> list[Monitor]:
    """Monitors that subscribe one after the other and read their list."""
    monitors = [Monitor(bench, subscribed) for _ in range(count)]
    for monitor in monitors:
        await monitor.read()
    return monitors


async def read_all(monitors: list[Monitor]) -> set[str]:
    """Everybody reads; what they watch together."""
    for monitor in monitors:
        await monitor.read()
    return set().union(*(monitor.watched for monitor in monitors))


def names(count: int, first: int = 0) -> list[str]:
    return [f"b{i:04}" for i in range(first, first + count)]


class Cluster:
    """Nodes n1, n2, … of one cluster, opened; the first that lives leads, and pulses."""

    def __init__(self, count: int, limits: NodeLimits | None = None) -> None:
        self.benches = [NodeBench(limits=limits, name=f"n{i + 1}") for i in range(count)]
        self.dead: list[NodeBench] = []
        for bench in self.benches:
            engines = [other.engine for other in self.benches]
            bench.engine.others = [engine for engine in engines if engine is not bench.engine]
            bench.engine.role = Role.FOLLOWER
        self.benches[0].engine.role = Role.LEADER

    async def open(self) -> Cluster:
        for bench in self.benches:
            await bench.node.open()
        return self

    def everywhere(self, *commands: Command) -> None:
        """Commands of nobody in particular."""
        for bench in self.benches:
            bench.elsewhere(*commands)

    def opened(self, *branches: NewBranch) -> None:
        self.everywhere(self.benches[0].registering(*branches))

    def kill(self, bench: NodeBench) -> None:
        """The node is gone: it proposes and applies nothing more."""
        self.benches.remove(bench)
        self.dead.append(bench)
        bench.engine.holding = True
        for other in self.benches:
            other.engine.others.remove(bench.engine)
        self.benches[0].engine.role = Role.LEADER

    def leader_misses(self, *nodes: str) -> None:
        """The leader sees these nodes as not connected, and all others as connected."""
        self.benches[0].engine.members = tuple(
            MemberStatus(NodeName(name), Region("eu"), "", "", None, name not in nodes, 0)
            for name in ("n1", "n2", "n3")
        )

    def members(self, bench: NodeBench | None = None) -> list[MemberId]:
        return list((bench or self.benches[0]).engine.state.state.members)

    def check(self) -> None:
        """All replicas are one, but for those that lag."""
        states = [bench.engine.state.state for bench in self.benches]
        assert len({snapshot.digest(state) for state in states}) == 1

    def shares(self, group: GroupKey = ("post", "eu", "g")) -> dict[MemberId, set[str]]:
        """What is open, by the member that it belongs to."""
        state = self.benches[0].engine.state.state
        shares: dict[MemberId, set[str]] = {name: set() for name in state.groups.get(group, ())}
        for branch in queries.branches_for_subscriber(state, group[0], group[1], 0):
            members = groups.members_of(state, group)
            owner = groups.owner_of(members, branch.branch_id, branch.tag)
            if owner is not None:
                shares[owner].add(branch.branch_id)
        return shares

    async def close(self) -> None:
        for bench in (*self.benches, *self.dead):
            bench.engine.others.clear()
            await bench.close()
