"""Ends of links for tests: members that remember what came in, and strangers that write bytes."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from contract_cluster import until
from keyring import Keyring
from pysyncobj.node import Node

from rendezvous_raft.replication.raft.frames import FRAME_VERSION, FrameReader, encode_frame
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.replication.raft.transport import TcpLinks

HELLO = {
    "type": "hello",
    "version": FRAME_VERSION,
    "cluster": "c",
    "from": "b",
    "to": "a",
    "address": "127.0.0.1:1",
    "incarnation": 7,
    "founding": True,
    "answering": False,
}
READ = {"type": "read", "term": 1, "read_id": 1}


class Synced:
    """A log that is always on disk."""

    position = term_position = synced = term = 0


class Member:
    """Links with a book of what came in and of connections."""

    def __init__(self, name: str, ports: dict[str, int], **changed: Any) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.connected: list[str] = []
        self.greeted: list[tuple[str, Birth]] = []
        self.lost: list[str] = []
        self.refused: list[tuple[str, str]] = []
        options = {"cluster_id": "c", **changed}
        self.links = TcpLinks(
            name=name,
            listen=f"127.0.0.1:{ports[name]}",
            peers={k: f"127.0.0.1:{port}" for k, port in ports.items() if k != name},
            positions=Synced(),
            address=f"127.0.0.1:{ports[name]}",
            birth=Birth(ports[name], founding=True),
            on_connected=lambda node: self.connected.append(str(node.id)),
            on_greeted=lambda node, birth, _knows: self.greeted.append((str(node.id), birth)),
            on_lost=lambda node: self.lost.append(str(node.id)),
            rng=random.Random(1),
            observer=self,
            **options,
        )
        self.links.setOnMessageReceivedCallback(
            lambda node, message: self.received.append((str(node.id), message))
        )
        self.links.setOnNodeConnectedCallback(lambda _node: None)
        self.links.setOnNodeDisconnectedCallback(lambda _node: None)

    def peer_refused(self, peer: str, reason: str) -> None:
        self.refused.append((peer, reason))

    def why(self, peer: str) -> str:
        """Why connections of or to somebody were refused."""
        return "; ".join(reason for name, reason in self.refused if name.startswith(peer))

    def send(self, receiver: str, **fields: object) -> None:
        self.links.send(Node(receiver), {**READ, **fields})


@asynccontextmanager
async def opened(*members: Member) -> AsyncIterator[None]:
    try:
        for member in members:
            await member.links.open()
        yield
    finally:
        for member in members:
            await member.links.close()


@asynccontextmanager
async def linked(
    keyring: Keyring, ports: dict[str, int], **changed: Any
) -> AsyncIterator[tuple[Member, Member]]:
    """Members a and b with links both ways."""
    a = Member("a", ports, tls=keyring.link_tls("a"), **changed)
    b = Member("b", ports, tls=keyring.link_tls("b"), **changed)
    async with opened(a, b):
        await until(lambda: a.connected == ["b"] and b.connected == ["a"], "links")
        yield a, b


class Stranger:
    """Somebody who connects to `a` and writes bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls, ports: dict[str, int], context: ssl.SSLContext | None = None
    ) -> Stranger:
        return cls(*await asyncio.open_connection("127.0.0.1", ports["a"], ssl=context))

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            self.writer.write(encode_frame(message))
        await self.writer.drain()

    async def hear(self) -> dict[str, Any]:
        (message,) = FrameReader().feed(await self.reader.read(1_000))
        return message

    async def is_cut_off(self) -> bool:
        """Waits until the connection ends."""
        try:
            return await self.reader.read() == b""
        except (ConnectionResetError, ssl.SSLError):
            return True
        finally:
            self.writer.close()
