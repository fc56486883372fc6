"""Words for tests on the bench about who belongs to a group."""

from __future__ import annotations

from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.testing.raft_bench import RaftBench
from rendezvous_raft.types import NodeName, Region, Standing


def named_directories(*names: str) -> RaftBench:
    bench = RaftBench(*names)
    for number, name in enumerate(names, start=1):
        bench.begin_anew(name, Birth(number, founding=True))
    bench.elect(names[0])
    bench.live(0.2)
    return bench


def newcomer(name: str, standing: Standing = Standing.JOINING) -> MemberConfig:
    return MemberConfig(NodeName(name), Region("eu"), f"{name}:1", standing=standing)


def add(bench: RaftBench, name: str, standing: Standing = Standing.JOINING) -> None:
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.with_member(newcomer(name, standing)))
    bench.settle()


def standing(bench: RaftBench, name: str, of: str) -> Standing | None:
    member = bench[name].raft.membership.find(of)
    return None if member is None else member.standing


def agreed(bench: RaftBench) -> Membership:
    """The membership that all have."""
    (membership,) = {member.raft.membership for member in bench}
    return membership


def agreed_among(bench: RaftBench, *names: str) -> Membership:
    (membership,) = {bench[name].raft.membership for name in names}
    return membership
