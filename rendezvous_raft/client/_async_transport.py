"""Connections of the asyncio client."""

from __future__ import annotations

import asyncio
from typing import TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client._calls import EXECUTE, AnswerT, Method
from rendezvous_raft.client._channel import (
    CHANNEL_OPTIONS,
    STREAM_S_MAX,
    Lines,
    serialize,
)
from rendezvous_raft.client._pipeline import ExecuteCall, Pipeline

StreamCall: TypeAlias = "grpc.aio.UnaryStreamCall[Message, AnswerT]"
_UnaryCallable: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Message, AnswerT]"

_ExecuteCallable: TypeAlias = (
    "grpc.aio.StreamStreamMultiCallable[pb.ExecuteRequest, pb.ExecuteResponse]"
)


class AsyncTransport:
    """Channels and pipelines of one loop, opened when first used."""

    def __init__(self, credentials: grpc.ChannelCredentials | None) -> None:
        self._credentials = credentials
        self._loop = asyncio.get_running_loop()
        self._channels: dict[tuple[str, int], grpc.aio.Channel] = {}
        self._unary: dict[tuple[str, str, int], object] = {}
        self.lines = Lines()
        self._pipelines: dict[str, Pipeline] = {}

    def is_of_running_loop(self) -> bool:
        """Whether it can be used here: gRPC binds a channel to the loop that opened it."""
        return self._loop is asyncio.get_running_loop()

    def channel(self, endpoint: str, line: int = 0) -> grpc.aio.Channel:
        """A channel to an endpoint; each line has a connection of its own."""
        channel = self._channels.get((endpoint, line))
        if channel is None:
            if self._credentials is None:
                channel = grpc.aio.insecure_channel(endpoint, CHANNEL_OPTIONS)
            else:
                channel = grpc.aio.secure_channel(endpoint, self._credentials, CHANNEL_OPTIONS)
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

    def pipeline(self, endpoint: str) -> Pipeline:
        """The pipeline of writes to an endpoint."""
        pipeline = self._pipelines.get(endpoint)
        if pipeline is None:
            callable_: _ExecuteCallable = self.channel(endpoint).stream_stream(
                EXECUTE.path, serialize, pb.ExecuteResponse.FromString
            )

            def open_stream(timeout_s: float) -> ExecuteCall:
                return callable_(timeout=timeout_s)

            pipeline = self._pipelines[endpoint] = Pipeline(open_stream)
        return pipeline

    async def close(self) -> None:
        """Ends everything that is open."""
        for pipeline in self._pipelines.values():
            await pipeline.close()
        for channel in self._channels.values():
            await channel.close()
