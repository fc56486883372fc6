"""What a stranger can do on the port between the members, on stock PySyncObj and on ours (F14).

The stock port is bound to loopback here; left alone it listens on all interfaces.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pysyncobj.pickle as stock_pickle
import pytest
from pysyncobj import SyncObj, SyncObjConf

from rendezvous_raft.replication.raft.frames import encode_frame
from rendezvous_raft.replication.raft.greetings import Caller, greeting_of
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.replication.raft.transport import TcpLinks

TICKS_MAX = 2_000
TICK_S = 0.005
PATIENCE_S = 20.0


def making(directory: Path) -> bytes:
    """A pickle that, read, makes a directory: any call of any function would do."""
    return b"cos\nmkdir\n(V" + str(directory).encode("raw_unicode_escape") + b"\ntR."


def stock_frame(pickled: bytes) -> bytes:
    compressed = zlib.compress(pickled)
    return struct.pack("i", len(compressed)) + compressed


class StockPort:
    """A stock member with its own TCP transport, and a stranger connected to it."""

    def __init__(self, member: SyncObj, stranger: socket.socket) -> None:
        self._member = member
        self._stranger = stranger
        self._received = b""

    def say(self, message: bytes) -> None:
        self._stranger.sendall(message)

    def until(self, condition: Any) -> None:
        for _ in range(TICKS_MAX):
            self._member.doTick(TICK_S)
            if condition():
                return
        pytest.fail("it does not come to that")

    def hear(self) -> Any:
        """The next message to the stranger."""

        def whole() -> bool:
            try:
                self._received += self._stranger.recv(65536)
            except BlockingIOError:
                return False
            return len(self._received) >= 4 and len(self._received) >= 4 + self._length()

        self.until(whole)
        body = self._received[4 : 4 + self._length()]
        self._received = self._received[4 + self._length() :]
        return stock_pickle.loads(zlib.decompress(body))

    def _length(self) -> int:
        return int(struct.unpack("i", self._received[:4])[0])


@contextmanager
def stock_port() -> Iterator[StockPort]:
    """One member, configured as in PySyncObj's own examples but for the address to bind."""
    conf = SyncObjConf(autoTick=False, bindAddress="127.0.0.1:0")
    member = SyncObj("127.0.0.1:1", [], conf)
    try:
        listener = member._SyncObj__transport._server._TcpServer__socket
        with socket.create_connection(listener.getsockname()) as stranger:
            stranger.setblocking(False)
            yield StockPort(member, stranger)
    finally:
        member.destroy()


def test_f14_stock_runs_what_a_stranger_sends(tmp_path: Path) -> None:
    """Stock: the first bytes on a new connection are unpickled, before any name is asked for."""
    marker = tmp_path / "made-by-a-stranger"
    with stock_port() as port:
        port.say(stock_frame(making(marker)))
        port.until(marker.exists)


def test_f14_stock_takes_orders_from_a_stranger() -> None:
    """Stock: admin messages are answered for whoever asks; `readonly` is sent the whole state."""
    with stock_port() as port:
        port.say(stock_frame(stock_pickle.dumps(["status"])))
        assert port.hear()["partner_nodes_count"] == 0
        port.say(stock_frame(stock_pickle.dumps("readonly")))
        assert port.hear()["type"] == "append_entries"


class Synced:
    """A log that is always on disk."""

    position = term_position = synced = term = 0


@pytest.fixture
async def links() -> AsyncIterator[TcpLinks]:
    """Our links, with a peer that is never there."""
    links = TcpLinks(
        name="a",
        cluster_id="c",
        listen="127.0.0.1:0",
        peers={"b": "127.0.0.1:1"},
        address="127.0.0.1:1",
        birth=Birth(7),
        positions=Synced(),
        on_connected=lambda _node: None,
        on_greeted=lambda _node, _birth, _knows: None,
        on_lost=lambda _node: None,
        rng=random.Random(1),
    )
    links.setOnMessageReceivedCallback(lambda _node, _message: pytest.fail("it was listened to"))
    links.setOnNodeConnectedCallback(lambda _node: None)
    links.setOnNodeDisconnectedCallback(lambda _node: None)
    await links.open()
    yield links
    await links.close()


async def refused(links: TcpLinks, message: bytes) -> bytes:
    """What a stranger hears before the connection is closed to it."""
    assert links._server is not None
    host, port = links._server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(message)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_f14_ours_runs_nothing(links: TcpLinks, tmp_path: Path) -> None:
    """Ours: the bytes that stock obeys, and the same in our own frames, end the connection."""
    marker = tmp_path / "made-by-a-stranger"
    pickled = making(marker)
    greeting = greeting_of(Caller("b", "127.0.0.1:1", Birth(7)), cluster_id="c", receiver="a")
    attempts = [
        stock_frame(pickled),
        pickled,
        len(pickled).to_bytes(4, "big") + pickled,
        encode_frame({"type": pickled.decode()}),
        encode_frame({**greeting, "address": pickled.decode()}),
        encode_frame({**greeting, "cluster": "another"}),
        encode_frame({"type": "status"}),
    ]
    for attempt in attempts:
        assert await refused(links, attempt) == b""
    assert not marker.exists()
    # Who knows the names of the cluster is let in, and even then nothing but a message counts.
    heard = await refused(links, encode_frame(greeting) + encode_frame({"type": pickled.decode()}))
    assert heard == encode_frame({"type": "welcome"})
    assert not marker.exists()
