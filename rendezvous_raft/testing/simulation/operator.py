"""An operator of a simulated cluster: changes its members, and brings back who has lost its files.

It keeps to what the documents ask of operators: no more directories are lost at a time than leave
a majority of voters with theirs, whichever membership comes into force. Nothing else is spared the
engine: several changes may be ordered at once, of leaders, of nodes that are down or cut off.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from rendezvous_raft import errors
from rendezvous_raft.membership import (
    AddMember,
    MemberConfig,
    Membership,
    MembershipChange,
    RemoveMember,
)
from rendezvous_raft.testing.damages import damage_at_random
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.host import Host
from rendezvous_raft.testing.simulation.judge import Judge
from rendezvous_raft.testing.simulation.profile import Profile
from rendezvous_raft.testing.simulation.trace import Trace
from rendezvous_raft.types import NodeName, Standing

TRIES_MAX = 10
"""Of an order, as the command line tries."""
LOOK_S = 0.5
"""Pause between tries, as of the command line."""
JUDGED_AFTER_S = 0.001
"""The judge hears of a commit in the turn in which the leader may answer, perhaps after that."""
ORDER_MARGIN = 1.2
"""How much longer than its deadline an order may last by clocks that drift."""


class Operator:
    """See the module's docstring.

    Args:
        hosts: all machines, also those that are no members yet.
        patience_s: an election time-out of the world.
        bit: is told the kind of a fault that had its effect.
    """

    def __init__(
        self,
        agenda: Agenda,
        hosts: Sequence[Host],
        profile: Profile,
        judge: Judge,
        rng: random.Random,
        trace: Trace,
        bit: Callable[[str], None],
    ) -> None:
        self._agenda = agenda
        self._hosts = hosts
        self._judge = judge
        self._rng = rng
        self._trace = trace
        self._bit = bit
        self._patience_s = profile.timers.election_max_s
        self._removing: dict[str, float] = {}
        """Until when an order to remove a member may be carried out, by its name."""
        self._ended = False

    def end(self) -> None:
        """No order is given or repeated any more."""
        self._ended = True

    # Changes

    def change_members(self) -> None:
        """Orders one change, of the leader; it bites when it is committed."""
        change = self._draw_change()
        if change is None:
            return
        if isinstance(change, AddMember):
            # "Start the new node before or after the command."
            after_s = self._patience_s * self._rng.choice((0.0, 2.0, 6.0)) * self._rng.random()
            self._agenda.after(after_s, self._host(change.member.name).start)
        self._order(change, TRIES_MAX if self._rng.random() < 0.7 else 1)

    def _draw_change(self) -> MembershipChange | None:
        rng, membership = self._rng, self._judge.electorate.committed
        outside = [host for host in self._hosts if membership.find(host.name) is None]
        if outside and rng.random() < 0.55:
            standing = Standing.NON_VOTER if rng.random() < 0.15 else Standing.JOINING
            return AddMember(replace(rng.choice(outside).config, standing=standing))
        host = self._whom_to_remove(membership)
        if host is None or not self._goes_on_without(host.name, removed=True):
            return None
        return RemoveMember(NodeName(host.name))

    def _whom_to_remove(self, membership: Membership) -> Host | None:
        rng = self._rng
        members = [host for host in self._hosts if membership.find(host.name) is not None]
        least = 1 if rng.random() < 0.1 else 2
        if len(membership.voters()) <= least:
            members = [host for host in members if host.name not in membership.voters()]
        wanted = rng.choice(("leader", "down", "any", "any"))
        fitting = [
            host
            for host in members
            if (wanted == "leader" and host.is_leader) or (wanted == "down" and not host.is_up)
        ]
        return rng.choice(fitting or members) if members else None

    def _order(self, change: MembershipChange, tries: int) -> None:
        if self._ended:
            return
        leaders = [host for host in self._hosts if host.is_leader and host.is_up]
        if not leaders:
            self._order_later(change, tries - 1)
            return
        host = self._rng.choice(leaders)
        engine, loop = host.living.engine, host.living.loop
        deadline_s = self._patience_s * self._rng.choice((2.0, 5.0, 20.0))
        since = len(self._judge.electorate.history) - 1
        self._trace.note(self._agenda.now_s, host.name, "ordered", str(change).encode())
        if isinstance(change, RemoveMember):
            until_s = self._agenda.now_s + deadline_s * ORDER_MARGIN
            self._removing[change.name] = max(until_s, self._removing.get(change.name, 0.0))

        def done(task: asyncio.Task[None]) -> None:
            self._answered(change, tries, task.exception())
            if task.exception() is None:
                self._agenda.after(JUDGED_AFTER_S, self._check_made, change, since)

        host.run(
            lambda: engine.change_membership(change, deadline_s=loop.time() + deadline_s), done
        )

    def _answered(self, change: MembershipChange, tries: int, error: BaseException | None) -> None:
        if error is None:
            self._bit("change_members")
            if isinstance(change, RemoveMember) and self._rng.random() < 0.5:
                # "Stop its process afterwards."
                host = self._host(change.name)
                self._agenda.after(self._patience_s * self._rng.random(), self._stop_for_good, host)
        elif isinstance(error, errors.Unavailable):
            self._order_later(change, tries - 1)
        elif not isinstance(error, errors.RendezvousError):
            raise error

    def _check_made(self, change: MembershipChange, since: int) -> None:
        """What was reported as made was in force at some time since it was ordered."""
        decided = self._judge.electorate.history[since:]
        self._judge.check(
            "a change of members that is reported as made is made",
            any(_is_made(change, membership) for membership in decided),
            f"{change} was reported as made, and no membership that is committed shows it",
            meaningful=not _is_made(change, decided[0]),
        )

    def _order_later(self, change: MembershipChange, tries: int) -> None:
        if tries:
            self._agenda.after(LOOK_S, self._order, change, tries)

    def _stop_for_good(self, host: Host) -> None:
        if not self._ended and self._judge.electorate.committed.find(host.name) is None:
            host.kill(power=False)

    # Lost directories

    def rejoin(self) -> bool:
        """A member loses its files, or only the trust in them, and begins anew."""
        host = self._rng.choice(self._hosts)
        if not host.lives or not self._goes_on_without(host.name):
            return False
        host.kill(power=self._rng.random() < 0.3)
        for _ in range(self._rng.choice((0, 1, 1, 4))):
            if host.disk.memory.paths():
                damage_at_random(host.disk.memory, self._rng)
        if self._rng.random() < 0.2:
            host.empty()
        host.rejoin()
        if self._rng.random() < 0.3:
            host.disk.kill(power=True)
        self._start_soon(host)
        return self._judge.electorate.committed.find(host.name) is not None

    def empty(self) -> bool:
        """Somebody empties a member's directory by hand; it has to be found out."""
        host = self._rng.choice(self._hosts)
        if not self._is_named_everywhere(host) or not self._goes_on_without(host.name):
            return False
        host.kill(power=False)
        host.empty()
        self._start_soon(host)
        return True

    def is_found_out(self, host: Host) -> bool:
        """Whether a process has halted because its directory is not the member's."""
        life = host.life
        return life is not None and life.halted is not None and "rejoin" in life.halted

    def bring_back(self, host: Host) -> None:
        """What the halted process advises."""
        self._judge.check(
            "who has kept its files is not taken for an impostor",
            host.is_emptied,
            f"{host.name} has halted and still has its directory",
        )
        host.kill(power=False)
        host.rejoin()
        self._start_soon(host)

    def _start_soon(self, host: Host) -> None:
        """At once, while messages of the old directory are on their way, or later."""
        pause_s = self._patience_s * self._rng.choice((0.0, 0.5, 4.0)) * self._rng.random()
        self._agenda.after(pause_s, host.start)

    def _goes_on_without(self, name: str, *, removed: bool = False) -> bool:
        """Whether a majority of voters keeps its directories, whatever is decided meanwhile."""
        electorate, now_s = self._judge.electorate, self._agenda.now_s
        leaving = {other: None for other, end_s in self._removing.items() if end_s > now_s}
        if removed:
            leaving[name] = None
        for membership in electorate.possible(self._judge.last_committed):
            for gone in ({}, leaving):
                for standings in ((Standing.VOTER,), (Standing.VOTER, Standing.JOINING)):
                    voters = [
                        member
                        for member in membership.members
                        if member.standing in standings and member.name not in gone
                    ]
                    if not self._is_majority_intact(voters, name):
                        return False
        return True

    def _is_majority_intact(self, voters: Sequence[MemberConfig], without: str) -> bool:
        intact = [
            member
            for member in voters
            if member.name != without and self._judge.electorate.is_intact(member)
        ]
        return len(intact) > len(voters) // 2

    def _is_named_everywhere(self, host: Host) -> bool:
        """Whether everybody who may stand or vote knows which directory speaks for the member.

        Before that nobody could tell an emptied one from that of a founder (DESIGN.md of
        replication, Rejoining).
        """
        electorate, judge = self._judge.electorate, self._judge
        member = electorate.committed.find(host.name)
        incarnation = host.record.birth.incarnation
        named_at = electorate.named_at.get((host.name, incarnation))
        if member is None or member.incarnation != incarnation or named_at is None:
            return False
        of_term = judge.log[named_at].term
        return all(
            other is host or not other.lives or other.record.stable.holds(named_at, of_term)
            for other in self._hosts
        )

    def _host(self, name: str) -> Host:
        return next(host for host in self._hosts if host.name == name)


def _is_made(change: MembershipChange, membership: Membership) -> bool:
    if isinstance(change, AddMember):
        return membership.find(change.member.name) is not None
    return membership.find(change.name) is None
