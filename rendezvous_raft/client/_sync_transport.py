"""Connections of the synchronous client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol, TypeAlias, cast

import grpc
from google.protobuf.message import Message

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client._calls import SUBSCRIBE, AnswerT, Method
from rendezvous_raft.client._channel import (
    CHANNEL_OPTIONS,
    SUBSCRIPTION_S_MAX,
    Lines,
    serialize,
)

_UnaryCallable: TypeAlias = "grpc.UnaryUnaryMultiCallable[Message, AnswerT]"


class SubscribeCall(Protocol):
    """An open subscription."""

    def __iter__(self) -> Iterator[pb.SubscribeResponse]:
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
        """A channel to an endpoint; each line has a connection of its own."""
        with self._lock:
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

    def subscribe(self, endpoint: str, line: int, request: pb.SubscribeRequest) -> SubscribeCall:
        """Opens a subscription."""
        return self.channel(endpoint, line).unary_stream(
            SUBSCRIBE.path, pb.SubscribeRequest.SerializeToString, SUBSCRIBE.answer.FromString
        )(request, timeout=SUBSCRIPTION_S_MAX)

    def close(self) -> None:
        """Ends everything that is open."""
        self.closed.set()
        with self._lock:
            for channel in self._channels.values():
                channel.close()
