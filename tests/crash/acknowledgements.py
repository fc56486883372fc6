"""Reads from traces of nodes what each acknowledged, and whether an fdatasync before covers it.

Covered means: after the last write of the entry to the log had ended, an fdatasync of that file
began, and it had ended before the acknowledgement was handed to the kernel.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from syscall_trace import Call, calls

from rendezvous_raft.replication.raft.blocks import unpack_block
from rendezvous_raft.replication.raft.frames import FrameReader
from rendezvous_raft.replication.raft.wal_format import FRAME_BYTES, Kind

TRACED = ("pwrite64", "fdatasync", "fsync", "rename", "write", "writev", "sendmsg", "sendto")
STRING_BYTES = 20_000
"""More than any entry or message of the load."""
REQUEST_ID = re.compile(rb"traced-[0-9]+-[0-9]+-x")

_HEAD = struct.Struct("<IBQQ")
_SOCKET = re.compile(r"TCP(?:v6)?:\[(?:\[[^\]]*\]|[\d.]+):(\d+)->(?:\[[^\]]*\]|[\d.]+):(\d+)\]")
_SENDS = frozenset({"write", "writev", "sendmsg", "sendto"})
Moment = tuple[float, int]


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a node is found."""

    grpc: int
    raft: int


@dataclass(frozen=True, slots=True)
class Written:
    """An entry that was written to the log."""

    path: str
    ended: Moment


@dataclass(frozen=True, slots=True)
class Synced:
    """An fdatasync of a file."""

    path: str
    begun: Moment
    ended: Moment


@dataclass(slots=True)
class NodeTrace:
    """What one node did."""

    entries: dict[int, list[Written]] = field(default_factory=dict)
    """By index; an index is written again after a conflict."""
    syncs: list[Synced] = field(default_factory=list)
    index_of: dict[bytes, int] = field(default_factory=dict)
    """Of the entry that registers a request."""
    replies: list[tuple[int, Moment]] = field(default_factory=list)
    """Acknowledgements to a leader: index, moment."""
    votes: list[tuple[int, str, Moment]] = field(default_factory=list)
    """Term, for whom, moment: votes given, and asked for, which is a vote for itself."""
    stored_votes: list[tuple[int, str | None, Moment]] = field(default_factory=list)
    """Term, for whom, and from when on that was on stable storage."""
    answers: list[tuple[bytes, Moment]] = field(default_factory=list)
    """To clients: request id, moment."""

    def covering_sync(self, index: int, before: Moment) -> Synced | None:
        """The fdatasync that made an entry durable before a moment."""
        written = [one for one in self.entries.get(index, ()) if one.ended < before]
        if not written:
            return None
        last = written[-1]
        for sync in self.syncs:
            if sync.path == last.path and sync.begun > last.ended and sync.ended < before:
                return sync
        return None


@dataclass(slots=True)
class Findings:
    """What a set of traces shows."""

    answers: int = 0
    """Writes acknowledged to clients."""
    replies: int = 0
    """Acknowledgements of entries to a leader."""
    votes: int = 0
    covering_syncs: int = 0
    """Different ones, each of which covers at least one acknowledgement."""
    breaches: list[str] = field(default_factory=list)
    """Acknowledgements that nothing covers."""


def read_node(trace: Path, name: str, ports: Ports, peers: Mapping[int, str]) -> NodeTrace:
    """Reads a trace.

    Args:
        trace: of the node's whole life, which began without files.
        name: of the node.
        ports: of the node.
        peers: names of the other nodes by the port of their Raft links.
    """
    return _Reader(name, ports, peers).read(trace)


class _Reader:
    def __init__(self, name: str, ports: Ports, peers: Mapping[int, str]) -> None:
        self._name = name
        self._ports = ports
        self._peers = peers
        self._node = NodeTrace()
        self._streams: dict[str, FrameReader] = {}
        self._metadata: tuple[int, str | None] | None = None
        self._metadata_step = ""

    def read(self, trace: Path) -> NodeTrace:
        for call in calls(trace):
            if call.result < 0:
                continue
            if call.name in _SENDS:
                self._sent(call)
            elif call.name == "pwrite64":
                self._written(call)
            else:
                self._made_durable(call)
        return self._node

    def _written(self, call: Call) -> None:
        path = Path(call.target)
        if path.name == "metadata.tmp":
            fields, _ = unpack_block(b"RVZMETA\0", call.content, path)
            term, voted_for = fields["term"], fields["voted_for"]
            if not isinstance(term, int) or not (voted_for is None or isinstance(voted_for, str)):
                raise TypeError("the metadata has other fields")
            self._metadata, self._metadata_step = (term, voted_for), "written"
        if path.suffix != ".log" or len(call.content) < FRAME_BYTES:
            return
        length, kind, index, _ = _HEAD.unpack_from(call.content)
        if kind == Kind.ENTRY and length + FRAME_BYTES == call.result:
            if not call.complete:
                raise AssertionError("an entry was not traced in full")
            self._node.entries.setdefault(index, []).append(Written(call.target, call.ended))
            for request_id in REQUEST_ID.findall(call.content):
                self._node.index_of[request_id] = index

    def _made_durable(self, call: Call) -> None:
        """Follows the metadata through its four steps: written, synced, renamed, durable."""
        steps = {
            ("fdatasync", "written"): "synced",
            ("rename", "synced"): "renamed",
            ("fsync", "renamed"): "durable",
        }
        about_metadata = "metadata" in call.arguments or call.name == "fsync"
        if call.name == "fdatasync":
            self._node.syncs.append(Synced(call.target, call.begun, call.ended))
            about_metadata = call.target.endswith("/metadata.tmp")
        if about_metadata:
            step = steps.get((call.name, self._metadata_step), self._metadata_step)
            if step == "durable" != self._metadata_step and self._metadata is not None:
                self._node.stored_votes.append((*self._metadata, call.ended))
            self._metadata_step = step

    def _sent(self, call: Call) -> None:
        socket = _SOCKET.search(call.target)
        if socket is None:
            return
        local, remote = int(socket[1]), int(socket[2])
        if local == self._ports.grpc:
            found = dict.fromkeys(REQUEST_ID.findall(call.content))
            self._node.answers += [(request_id, call.begun) for request_id in found]
        elif remote in self._peers:
            if not call.complete or call.result != len(call.content):
                raise AssertionError("a message was not traced in full")
            stream = self._streams.setdefault(call.target, FrameReader())
            for message in stream.feed(call.content):
                self._said(message, self._peers[remote], call.begun)

    def _said(self, message: Mapping[str, object], peer: str, moment: Moment) -> None:
        match message:
            case {"type": "append_reply", "ok": True, "match": int(index)}:
                self._node.replies.append((index, moment))
            case {"type": "vote_reply", "term": int(term)}:
                self._node.votes.append((term, peer, moment))
            case {"type": "vote", "term": int(term)}:
                self._node.votes.append((term, self._name, moment))


def judge(nodes: Iterable[NodeTrace], quorum: int) -> Findings:
    """Holds every acknowledgement against the syncs before it."""
    nodes = list(nodes)
    findings = Findings()
    covering: dict[tuple[int, Moment], None] = {}
    for number, node in enumerate(nodes):
        for match, moment in node.replies:
            for index in [index for index in node.entries if index <= match]:
                sync = node.covering_sync(index, moment)
                if sync is None:
                    findings.breaches.append(f"node {number} replied {match} at {moment}")
                    break
                covering[number, sync.begun] = None
            findings.replies += match in node.entries
        for term, candidate, moment in node.votes:
            findings.votes += 1
            stored = [vote for *vote, durable in node.stored_votes if durable < moment]
            if [term, candidate] not in stored:
                findings.breaches.append(f"node {number} voted in term {term} at {moment}")
        for request_id, moment in node.answers:
            findings.answers += 1
            at = (moment[0], 0)  # lines of different traces cannot be compared
            syncs = [
                (other_number, sync.begun)
                for other_number, other in enumerate(nodes)
                if request_id in other.index_of
                and (sync := other.covering_sync(other.index_of[request_id], at))
            ]
            covering.update(dict.fromkeys(syncs))
            if len(syncs) < quorum:
                told = f"{request_id.decode()}, answered at {moment}"
                findings.breaches.append(f"{told}, was durable on {len(syncs)} nodes")
    findings.covering_syncs = len(covering)
    return findings
