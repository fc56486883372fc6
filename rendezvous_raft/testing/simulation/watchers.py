"""Members of a subscription group on the nodes of a world, and what they are given (semantics U5).

A watcher follows one stream; when its process dies, the stream breaks, or by chance, it takes up
another one somewhere, with a list, as a monitor does. At the end everything open must have been
given to the member whose it is, as every replica says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from rendezvous_raft import errors
from rendezvous_raft.core import groups, queries
from rendezvous_raft.core.model import State
from rendezvous_raft.node.calls import (
    BranchIsClosed,
    BranchIsOpen,
    SubscriptionEvent,
    SubscriptionKey,
    Synced,
)
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.host import Host, Life
from rendezvous_raft.testing.simulation.judge import Judge
from rendezvous_raft.testing.simulation.profile import Profile
from rendezvous_raft.types import BranchId, MemberId, Region, Service

WATCHERS = 3
KEY = SubscriptionKey(Service("post"), Region("eu"), group="watchers")
LOOK_S = 1.0
"""After this a client notices that its process is gone."""
MOVES = 0.04
"""Chance at each look that a watcher goes elsewhere."""


class Watcher:
    """One client: what it watches, as far as its stream has told."""

    def __init__(self) -> None:
        self.life: Life | None = None
        """Of the process that serves its stream; None between two streams."""
        self.task: asyncio.Task[Any] | None = None
        self.key = KEY
        self.synced = False
        self.watched: dict[BranchId, None] = {}

    @property
    def member_id(self) -> MemberId:
        """Of its stream, as the node has it that serves it; empty without a stream."""
        node = None if self.life is None else self.life.node
        if node is None:
            return MemberId("")
        # This is where one looks inside.
        watching = node._subscriptions._by_service.get(KEY.service, {})  # noqa: SLF001
        for subscriber in watching.get(KEY.region, ()):
            if subscriber.key is self.key and subscriber.membership is not None:
                return subscriber.membership.member_id
        return MemberId("")

    def begin(self, life: Life) -> None:
        """A stream begins, with a list."""
        self.life, self.task, self.synced = life, None, False
        self.key = replace(KEY)  # a value of its own, to be found by
        self.watched.clear()

    def take(self, batch: Sequence[SubscriptionEvent]) -> None:
        """What the stream tells."""
        for event in batch:
            match event:
                case BranchIsOpen():
                    self.watched[event.branch_id] = None
                case BranchIsClosed():
                    self.watched.pop(event.branch_id, None)
                case Synced():
                    self.synced = True


class Watchers:
    """All watchers of a world."""

    def __init__(
        self,
        agenda: Agenda,
        members: Callable[[], Sequence[Host]],
        profile: Profile,
        judge: Judge,
        rng: random.Random,
    ) -> None:
        self.streams = 0
        self._agenda = agenda
        self._members = members
        self._profile = profile
        self._judge = judge
        self._rng = rng
        self._watchers: list[Watcher] = []
        self._ended = False

    def begin(self) -> None:
        """Each begins its first stream somewhere."""
        if self._profile.use_cases:
            self._watchers = [Watcher() for _ in range(WATCHERS)]
            for watcher in self._watchers:
                self._pause(watcher)

    def end(self) -> None:
        """Nobody moves any more; who has lost its stream takes up another one still."""
        self._ended = True

    def are_settled(self) -> bool:
        """Whether every watcher is a member, and nobody else is, as all nodes know."""
        mine = sorted(watcher.member_id for watcher in self._watchers)
        return all(
            host.is_up and sorted(host.living.engine.state.state.members) == mine
            for host in self._members()
        ) and all(watcher.synced for watcher in self._watchers)

    # Streams

    def _pause(self, watcher: Watcher) -> None:
        watcher.life = None
        self._agenda.after(self._rng.expovariate(1.0), self._subscribe, watcher)

    def _subscribe(self, watcher: Watcher) -> None:
        host = self._rng.choice(self._members())
        life = host.life
        if not host.is_up or life is None or life.node is None:
            self._pause(watcher)
            return
        self.streams += 1
        watcher.begin(life)
        node = life.node

        async def follow() -> None:
            if watcher.life is not life:
                return
            watcher.task = asyncio.current_task()
            async with aclosing(node.subscribe(watcher.key)) as stream:
                async for batch in stream:
                    watcher.take(batch)

        host.run(follow, partial(self._over, watcher, life))
        self._agenda.after(LOOK_S, self._look, watcher, host, life)

    def _look(self, watcher: Watcher, host: Host, life: Life) -> None:
        if watcher.life is not life:
            return
        if host.life is not life:
            self._pause(watcher)
            return
        moves = not self._ended and self._rng.random() < MOVES
        if watcher.task is not None and (moves or host not in self._members()):
            life.loop.post(watcher.task.cancel)
        self._agenda.after(LOOK_S, self._look, watcher, host, life)

    def _over(self, watcher: Watcher, life: Life, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, errors.RendezvousError):
            self._judge.broke("errors are named", repr(error))
        if watcher.life is life:
            self._pause(watcher)

    # What must hold

    def check(self) -> None:
        """Compares what everybody was given with what the replicas say is theirs."""
        if not self._profile.use_cases:
            return
        judge = self._judge
        judge.check(
            "after healing the members of a group are its streams",
            self.are_settled(),
            f"{[watcher.member_id for watcher in self._watchers]} are not all, or not the only "
            f"members: {[[*host.living.engine.state.state.members] for host in self._members()]}",
        )
        watched = dict.fromkeys(b for watcher in self._watchers for b in watcher.watched)
        for host in self._members():
            state = host.living.engine.state.state
            shares = _shares(state)
            unwatched = [b for share in shares.values() for b in share if b not in watched]
            judge.check(
                "what is open is watched",
                not unwatched,
                f"{host.name} has {unwatched} open, which no member of the group was given",
                meaningful=any(shares.values()),
            )
            for watcher in self._watchers:
                share = shares.get(watcher.member_id, [])
                missing = [branch_id for branch_id in share if branch_id not in watcher.watched]
                judge.check(
                    "what is open is watched by its owner",
                    not missing,
                    f"{watcher.member_id} was not given {missing}, as {host.name} divides",
                    meaningful=bool(share),
                )


def _shares(state: State) -> dict[MemberId, list[BranchId]]:
    """What is open, by its owner."""
    shares: dict[MemberId, list[BranchId]] = {}
    members = groups.members_of(state, (KEY.service, KEY.region, KEY.group))
    for branch in queries.branches_for_subscriber(state, KEY.service, KEY.region, 0):
        owner = groups.owner_of(members, branch.branch_id, branch.tag)
        shares.setdefault(owner or MemberId(""), []).append(branch.branch_id)
    return shares
