"""Endpoints and the options of every channel, the same for both gRPC stacks."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from google.protobuf.message import Message

from rendezvous_raft.errors import InvalidArgument
from rendezvous_raft.limits import GRPC_MESSAGE_BYTES_MAX

KEEPALIVE_MS = 20_000
"""A connection that answers nothing for this long, and 5 s more, is broken."""

STREAM_S_MAX = 3_600.0
"""How long a subscription or a watch lasts at most: no stream without a deadline."""

LONG_CALLS_PER_CONNECTION = 100
"""Waits and streams on one connection: a node or a proxy allows so many on each, and a call
beyond that would queue unseen behind calls that last for minutes."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_retries", 0),  # one place retries, and it is not the channel
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # A node that comes back is to be found within a second, not after two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),  # time for one handshake across the world
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A client that was closed or forked must not share its connections with the next one.
    ("grpc.use_local_subchannel_pool", 1),
)


def parse_endpoints(endpoints: str | Sequence[str]) -> tuple[str, ...]:
    """The endpoints in order of preference, each once.

    Raises:
        InvalidArgument: There is none, or one is not `host:port`.
    """
    texts = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    parsed = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not parsed:
        raise InvalidArgument.for_field("endpoints", "at least one host:port")
    for endpoint in parsed:
        host, _, port = endpoint.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()):
            raise InvalidArgument.for_field("endpoints", f"host:port, not {endpoint!r}")
    return parsed


class Lines:
    """Which connection a long call takes: line 0 is for short calls, the others are filled up.

    Used by any number of threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, list[int]] = {}

    @contextmanager
    def line(self, endpoint: str, *, is_long: bool) -> Generator[int]:
        """The number of the connection that a call to the endpoint takes while the block lasts."""
        if not is_long:
            yield 0
            return
        with self._lock:
            calls = self._calls.setdefault(endpoint, [])
            number = next(
                (n for n, count in enumerate(calls) if count < LONG_CALLS_PER_CONNECTION),
                len(calls),
            )
            if number == len(calls):
                calls.append(0)
            calls[number] += 1
        try:
            yield number + 1
        finally:
            with self._lock:
                calls[number] -= 1


def serialize(message: Message) -> bytes:
    """The bytes of any message; `Message.SerializeToString` itself is abstract."""
    return message.SerializeToString()
