"""The wire tables of the two originals, and clients that are written from nothing else.

A message is its name and its fields: `number name`, with a type after a colon unless it is text,
and `*` for repeated. The descriptors live in pools of their own; no generated code is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

ENUMS = {"main": ("CLOSED", "OPENED", "UNKNOWN"), "words23": ("OPENED", "CLOSED", "UNKNOWN")}
MESSAGES = {
    "main": {
        "Empty": "",
        "SubscribeMessage": "1 service, 2 region",
        "SubscribeResponse": "1 bid, 2 tag",
        "RegisterRequestMessage": "1 rid",
        "RegisterRequestResponse": "1 rid",
        "RegisterBranchMessage": "1 rid, 2 bid, 3 service, 4 tag, 5 regions*, 6 monitor:bool,"
        " 7 acsl, 8 current_service_bid",
        "RegisterBranchResponse": "1 rid, 2 bid",
        "Branch": "1 service, 2 tag, 3 regions*, 4 acsl, 5 monitor:bool",
        "RegisterBranchesMessage": "1 rid, 2 branches:Branch*, 3 current_service_bid",
        "RegisterBranchesResponse": "1 rid, 2 bids*",
        "CloseBranchMessage": "1 bid, 2 region, 3 visible_bids*",
        "WaitRequestMessage": "1 rid, 2 service, 3 services*, 4 region, 5 tag, 6 timeout:int32,"
        " 7 wait_deps:bool, 8 current_service, 9 acsl",
        "WaitRequestResponse": "1 prevented_inconsistency:bool, 2 timed_out:bool",
        "CheckStatusMessage": "1 rid, 2 service, 3 region, 4 detailed:bool, 5 acsl",
        "CheckStatusResponse": "1 status:RequestStatus, 2 tagged:map, 3 regions:map",
        "FetchDependenciesMessage": "1 rid, 2 service, 3 acsl",
        "FetchDependenciesResponse": "1 deps*, 2 indirect_deps*",
    },
    "words23": {
        "Empty": "",
        "RequestContext": "1 versions:map32",
        "SubscribeBranchesMessage": "1 service, 2 tag, 3 region",
        "SubscribeBranchesResponse": "1 bid",
        "RegisterRequestMessage": "1 rid",
        "RegisterRequestResponse": "1 rid, 2 context:RequestContext",
        "RegisterBranchMessage": "1 rid, 2 service, 3 tag, 4 region, 5 context:RequestContext",
        "RegisterBranchResponse": "1 rid, 2 bid, 3 context:RequestContext",
        "RegisterBranchesMessage": "1 rid, 2 service, 3 tag, 4 regions*, 5 context:RequestContext",
        "RegisterBranchesResponse": "1 rid, 2 bid, 3 context:RequestContext",
        "DatastoreBranching": "1 datastore, 2 tag, 3 regions*",
        "RegisterBranchesDatastoresMessage": "1 rid, 2 datastores*, 3 regions*, 4 tags*,"
        " 5 branches:DatastoreBranching*, 6 context:RequestContext",
        "RegisterBranchesDatastoresResponse": "1 rid, 2 bids*, 3 context:RequestContext",
        "CloseBranchMessage": "1 bid, 2 region, 3 context:RequestContext",
        "WaitRequestMessage": "1 rid, 2 service, 3 region, 4 tag, 5 timeout:int32, 6 async:bool,"
        " 7 context:RequestContext",
        "WaitRequestResponse": "1 prevented_inconsistency:bool, 2 timed_out:bool",
        "CheckRequestMessage": "1 rid, 2 service, 3 region, 4 context:RequestContext",
        "CheckRequestResponse": "1 status:RequestStatus",
        "CheckRequestByRegionsMessage": "1 rid, 2 service, 3 context:RequestContext",
        "CheckRequestByRegionsResponse": "1 statuses:map",
    },
}
METHODS = {
    "main": {
        "Subscribe": ("SubscribeMessage", "SubscribeResponse"),
        "RegisterRequest": ("RegisterRequestMessage", "RegisterRequestResponse"),
        "RegisterBranch": ("RegisterBranchMessage", "RegisterBranchResponse"),
        "RegisterBranches": ("RegisterBranchesMessage", "RegisterBranchesResponse"),
        "CloseBranch": ("CloseBranchMessage", "Empty"),
        "WaitRequest": ("WaitRequestMessage", "WaitRequestResponse"),
        "Wait": ("WaitRequestMessage", "WaitRequestResponse"),
        "CheckStatus": ("CheckStatusMessage", "CheckStatusResponse"),
        "FetchDependencies": ("FetchDependenciesMessage", "FetchDependenciesResponse"),
    },
    "words23": {
        "SubscribeBranches": ("SubscribeBranchesMessage", "SubscribeBranchesResponse"),
        "RegisterRequest": ("RegisterRequestMessage", "RegisterRequestResponse"),
        "RegisterBranch": ("RegisterBranchMessage", "RegisterBranchResponse"),
        "RegisterBranches": ("RegisterBranchesMessage", "RegisterBranchesResponse"),
        "RegisterBranchesDatastores": (
            "RegisterBranchesDatastoresMessage",
            "RegisterBranchesDatastoresResponse",
        ),
        "CloseBranch": ("CloseBranchMessage", "Empty"),
        "CloseBranches": ("CloseBranchMessage", "Empty"),
        "WaitRequest": ("WaitRequestMessage", "WaitRequestResponse"),
        "CheckRequest": ("CheckRequestMessage", "CheckRequestResponse"),
        "CheckRequestByRegions": ("CheckRequestByRegionsMessage", "CheckRequestByRegionsResponse"),
    },
}
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"text": _Field.TYPE_STRING, "bool": _Field.TYPE_BOOL, "int32": _Field.TYPE_INT32}


def classes_of(wire: str) -> dict[str, type[Message]]:
    """The message classes of a format."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{wire}.proto", package="rendezvous", syntax="proto3"
    )
    enum = file.enum_type.add(name="RequestStatus")
    for number, name in enumerate(ENUMS[wire]):
        enum.value.add(name=name, number=number)
    for name, fields in MESSAGES[wire].items():
        message = file.message_type.add(name=name)
        for field in fields.split(", ") if fields else ():
            _add_field(message, *field.split())
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"rendezvous.{name}"))
        for name in MESSAGES[wire]
    }


def _add_field(message: descriptor_pb2.DescriptorProto, number: str, text: str) -> None:
    name, _, kind = text.rstrip("*").partition(":")
    kind = kind or "text"
    field = message.field.add(name=name, number=int(number))
    repeated = text.endswith("*") or kind.startswith("map")
    field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    if kind.startswith("map"):
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        value = "int32" if kind == "map32" else "RequestStatus"
        _add_field(entry, "1", "key")
        _add_field(entry, "2", f"value:{value}")
        field.type, field.type_name = (
            _Field.TYPE_MESSAGE,
            f".rendezvous.{message.name}.{entry.name}",
        )
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        is_enum = kind == "RequestStatus"
        field.type = _Field.TYPE_ENUM if is_enum else _Field.TYPE_MESSAGE
        field.type_name = f".rendezvous.{kind}"


class OriginalClient:
    """Speaks one of the formats to one port."""

    def __init__(self, wire: str, channel: grpc.aio.Channel) -> None:
        self.classes = classes_of(wire)
        self._channel = channel
        self._methods = METHODS[wire]
        self._enum = ENUMS[wire]

    async def call(self, method: str, *, key: str = "", **fields: Any) -> Any:
        """A unary call."""
        metadata = (("rendezvous-idempotency-key", key),) if key else ()
        request = self.classes[self._methods[method][0]](**fields)
        return await self._make("unary_unary", method)(request, metadata=metadata, timeout=30)

    def stream(self, method: str, **fields: Any) -> AsyncIterator[Any]:
        """A subscription."""
        return self._make("unary_stream", method)(self.classes[self._methods[method][0]](**fields))

    async def send(self, method: str, items: list[dict[str, Any]]) -> Any:
        """A stream of requests, then the answer."""
        requests = [self.classes[self._methods[method][0]](**fields) for fields in items]
        return await self._make("stream_unary", method)(iter(requests), timeout=30)

    async def refused(self, method: str, **fields: Any) -> tuple[str, str]:
        """The status and message of a call that has to fail."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, **fields)
        return caught.value.code().name, caught.value.details() or ""

    def status(self, value: int) -> str:
        """The name of an enum value."""
        return self._enum[value]

    def _make(self, kind: str, method: str) -> Any:
        request, response = (self.classes[name] for name in self._methods[method])
        return getattr(self._channel, kind)(
            f"/rendezvous.ClientService/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
