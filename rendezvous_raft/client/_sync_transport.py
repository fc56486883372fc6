"""Connections of the synchronous client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.message import Message

from rendezvous_raft.client._calls import AnswerT, Method
from rendezvous_raft.client._channel import (
    CHANNEL_OPTIONS,
    STREAM_S_MAX,
    Lines,
    serialize,
)

AnswerT_co = TypeVar("AnswerT_co", bound=Message, covariant=True)

_UnaryCallable: TypeAlias = "grpc.UnaryUnaryMultiCallable[Message, AnswerT]"


class StreamCall(Protocol[AnswerT_co]):
    """An open subscription or watch."""

    def __iter__(self) -> Iterator[AnswerT_co]:
        """Its messages."""

    def cancel(self) -> bool:
        """Ends it."""


class SyncTransport:
    """Channels of one process, opened when first used; shared by its threads."""

    def __init__(self, credentials: grpc.ChannelCredentials | None) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, int], grpc.Channel] = {}
        self._unary: dict[tuple[str, str, int], object] = {}
        self.lines = Lines()
        self.closed = threading.Event()
        """Wakes the calls that pause before their next attempt."""

    def channel(self, endpoint: str, line: int = 0) -> grpc.Channel:
        """A channel to an endpoint; each line has a connection of its own.

        Raises:
            ValueError: It was closed; a channel that is closed says the same.
        """
        with self._lock:
            if self.closed.is_set():
                raise ValueError("the connections were closed")
            channel = self._channels.get((endpoint, line))
            if channel is None:
                if self._credentials is None:
                    channel = grpc.insecure_channel(endpoint, CHANNEL_OPTIONS)
                else:
                    channel = grpc.secure_channel(endpoint, self._credentials, CHANNEL_OPTIONS)
                self._channels[endpoint, line] = channel
            return channel

    def unary(self, endpoint: str, line: int, method: Method[AnswerT]) -> _UnaryCallable[AnswerT]:
        """The callable of a unary RPC at an endpoint."""
        key = (endpoint, method.path, line)
        callable_ = self._unary.get(key)
        if callable_ is None:
            callable_ = self._unary[key] = self.channel(endpoint, line).unary_unary(
                method.path, serialize, method.answer.FromString
            )
        return cast("_UnaryCallable[AnswerT]", callable_)

    def stream(
        self, endpoint: str, line: int, method: Method[AnswerT], request: Message
    ) -> StreamCall[AnswerT]:
        """Opens a subscription or a watch."""
        return self.channel(endpoint, line).unary_stream(
            method.path, serialize, method.answer.FromString
        )(request, timeout=STREAM_S_MAX)

    def close(self) -> None:
        """Ends everything that is open."""
        with self._lock:
            self.closed.set()
            for channel in self._channels.values():
                channel.close()
