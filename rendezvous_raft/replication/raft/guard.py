"""The one file that touches PySyncObj's private names.

`GuardedSyncObj` is PySyncObj's `SyncObj` with its private state under readable names, its clock and
chance injected, and the private methods that break Raft's promises overridden whole; what they do
instead is in `rules.py`. The list of names below is checked when this module is imported: another
version of PySyncObj, or a private name that is gone, stops the node with a sentence, never later.

What remains PySyncObj's: the roles and their transitions, terms and votes as state, becoming a
leader (with the no-op entry), the look-ups in the log.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import pysyncobj
import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

PINNED_VERSION = "0.3.17"

_ATTRIBUTES = {
    "term": "raftCurrentTerm",
    "voted_for": "votedForNodeId",
    "role_code": "raftState",
    "leader_node": "raftLeader",
    "votes": "votesCount",
    "election_deadline": "raftElectionDeadline",
    "log": "raftLog",
    "commit_index": "raftCommitIndex",
    "last_applied": "raftLastApplied",
    "next_index": "raftNextIndex",
    "match_index": "raftMatchIndex",
    "last_response": "lastResponseTime",
    "connected": "connectedNodes",
    "others": "otherNodes",
    "noop_index": "noopIDx",
}
_METHODS = {
    "onMessageReceived": ["self", "node", "message"],
    "sendAppendEntries": ["self"],
    "applyLogEntries": ["self"],
    "tryLogCompaction": ["self"],
    "loadDumpFile": ["self", "clearJournal"],
    "onLeaderChanged": ["self"],
    "generateRaftTimeout": ["self"],
    "onBecomeLeader": ["self"],
    "setCurrentTerm": ["self", "term", "votedForNodeId"],
    "setState": ["self", "newState"],
    "onNodeConnected": ["self", "node"],
    "onNodeDisconnected": ["self", "node"],
    "getCurrentLogIndex": ["self"],
    "getCurrentLogTerm": ["self"],
    "getEntries": ["self", "fromIDx", "count", "maxSizeBytes"],
}

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2
REGULAR, NO_OP = b"\x00", b"\x01"
"""First byte of a log payload, as PySyncObj writes it: a command, or the no-op of a new leader."""


class UnsuitableEngineError(RuntimeError):
    """PySyncObj is not the version whose inside this file knows."""


class _Private(property):
    """A private attribute of `SyncObj` under a readable name."""

    def __init__(self, name: str) -> None:
        attribute = f"_SyncObj__{name}"
        # Read many times in each turn, so without a step through Python code.
        super().__init__(attrgetter(attribute), partial(_set, attribute))


def _set(attribute: str, instance: object, value: object) -> None:
    setattr(instance, attribute, value)


class _NoPoller:
    """PySyncObj polls sockets itself; ours are the loop's."""

    def poll(self, timeout: float) -> None:
        """Nothing to poll."""

    def subscribe(self, descr: object, callback: object, event_mask: int) -> None:
        """Nothing to poll."""

    def unsubscribe(self, descr: object) -> None:
        """Nothing to poll."""


class GuardedSyncObj(SyncObj):
    """See the module's docstring. `rules.Raft` completes it.

    Args:
        name: of this member.
        others: names of the other voters.
        log: PySyncObj's journal interface over our log; replaces `createJournal` (F4 to F6).
        transport: PySyncObj's transport interface over our links (F14, F17).
        clock: monotonic seconds.
        rng: chance for election time-outs.
    """

    term = _Private(_ATTRIBUTES["term"])
    voted_for = _Private(_ATTRIBUTES["voted_for"])
    role_code = _Private(_ATTRIBUTES["role_code"])
    leader_node = _Private(_ATTRIBUTES["leader_node"])
    votes = _Private(_ATTRIBUTES["votes"])
    election_deadline = _Private(_ATTRIBUTES["election_deadline"])
    log = _Private(_ATTRIBUTES["log"])
    commit_index = _Private(_ATTRIBUTES["commit_index"])
    last_applied = _Private(_ATTRIBUTES["last_applied"])
    next_index = _Private(_ATTRIBUTES["next_index"])
    match_index = _Private(_ATTRIBUTES["match_index"])
    last_response = _Private(_ATTRIBUTES["last_response"])
    connected = _Private(_ATTRIBUTES["connected"])
    others = _Private(_ATTRIBUTES["others"])
    noop_index = _Private(_ATTRIBUTES["noop_index"])

    def __init__(
        self,
        *,
        name: str,
        others: Sequence[str],
        log: object,
        transport: Transport,
        clock: Callable[[], float],
        rng: random.Random,
        election_s: tuple[float, float],
    ) -> None:
        self.clock = clock
        self.rng = rng
        self._election_s = election_s
        conf = SyncObjConf(autoTick=False, dynamicMembershipChange=False)
        module = pysyncobj.syncobj
        stock = module.createJournal, module.createPoller, module.monotonicTime
        # SyncObj takes these three from its module while it is constructed, and only then.
        module.createJournal = lambda _file: log
        module.createPoller = lambda _type: _NoPoller()
        module.monotonicTime = clock
        try:
            peers = [Node(other) for other in others]
            super().__init__(Node(name), peers, conf, transport=transport)
        finally:
            module.createJournal, module.createPoller, module.monotonicTime = stock

    # Overridden whole: see rules.py for what each does instead.

    def _SyncObj__onMessageReceived(self, node: Node, message: dict[str, Any]) -> None:
        """F1 to F3, F9, F10, F15, F18: Raft's rules for messages."""
        self.receive(node, message)

    def _SyncObj__sendAppendEntries(self) -> None:
        """F1, F16: called by the stock `__onBecomeLeader`; replicates event by event."""
        self.replicate_all()

    def _SyncObj__applyLogEntries(self) -> bool:
        """F8: entries are applied by `turns.Turns`."""
        return False

    def _SyncObj__tryLogCompaction(self) -> None:
        """F4, F5, F13: snapshots are the engine's."""

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:
        """F12: snapshots are the engine's."""

    def _SyncObj__onLeaderChanged(self) -> None:
        """F15: proposals on their way are the engine's (`batching.py`)."""

    def _SyncObj__generateRaftTimeout(self) -> float:
        """An election time-out from the injected chance."""
        low, high = self._election_s
        return low + (high - low) * self.rng.random()

    # The stock methods in use, under readable names.

    def set_term(self, term: int, voted_for: str | None) -> None:
        """Stores term and vote, in memory and in the log's metadata."""
        self._SyncObj__setCurrentTerm(term, voted_for)

    def set_role(self, role_code: int) -> None:
        """Changes the role."""
        self._SyncObj__setState(role_code)

    def become_leader(self) -> None:
        """Becomes the leader of the current term and appends its no-op."""
        self._SyncObj__onBecomeLeader()

    def new_election_timeout(self) -> float:
        """Seconds until the next election, unless a leader is heard of."""
        return self._SyncObj__generateRaftTimeout()

    def last_index(self) -> int:
        """Index of the last entry of the log."""
        return int(self._SyncObj__getCurrentLogIndex())

    def last_term(self) -> int:
        """Term of the last entry of the log."""
        return int(self._SyncObj__getCurrentLogTerm())

    def entries_from(self, index: int, count: int, size_max: int) -> list[tuple[bytes, int, int]]:
        """Entries from `index` on: at least one if there is one, within count and bytes."""
        return list(self._SyncObj__getEntries(index, count, size_max))

    # What rules.Raft provides.

    def receive(self, node: Node, message: dict[str, Any]) -> None:
        """Handles one message of a peer."""
        raise NotImplementedError

    def replicate_all(self) -> None:
        """Sends every peer what it lacks."""
        raise NotImplementedError


def check_pysyncobj() -> None:
    """Raises `UnsuitableEngineError` unless PySyncObj is the one whose inside we know."""
    version = pysyncobj.syncobj.VERSION
    if version != PINNED_VERSION:
        raise UnsuitableEngineError(f"need pysyncobj {PINNED_VERSION}, found {version}")
    for name, parameters in _METHODS.items():
        method = getattr(SyncObj, f"_SyncObj__{name}", None)
        if method is None or list(inspect.signature(method).parameters) != parameters:
            raise UnsuitableEngineError(f"pysyncobj's __{name} is not as expected")
    source = inspect.getsource(SyncObj.__init__)
    for name in _ATTRIBUTES.values():
        if f"self.__{name} =" not in source:
            raise UnsuitableEngineError(f"pysyncobj has no attribute __{name}")


check_pysyncobj()
