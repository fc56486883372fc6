"""The table of RPC methods: wraps each one once and gives gRPC its handlers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2, metadata_service_pb2
from rendezvous_raft.server import admin_service, metadata_service
from rendezvous_raft.server.execute import ExecuteMethod
from rendezvous_raft.server.failures import FailureReporter
from rendezvous_raft.server.interceptors import (
    AnswerSize,
    CallMetrics,
    DeadlinePolicy,
    ErrorsToStatus,
    lenient,
)

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from structlog.typing import FilteringBoundLogger

    from rendezvous_raft.node.node import Node
    from rendezvous_raft.observability.metrics import ServerMetrics
    from rendezvous_raft.server.drain import DrainSignal
    from rendezvous_raft.server.interceptors import Behaviour, Body, Write

WAIT_MARGIN_S = 5.0
"""A wait's call may last this much longer than the longest wait: its own time-out comes first."""

_METADATA = metadata_service_pb2.DESCRIPTOR.services_by_name["MetadataService"]
_ADMIN = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]


@dataclass(frozen=True, slots=True)
class Rpc:
    """What implements a method, and how long a call may last at most."""

    body: Body
    cap_s: float


class RpcTable:
    """Every method of the native services, wrapped."""

    def __init__(
        self,
        *,
        node: Node,
        metrics: ServerMetrics,
        logger: FilteringBoundLogger,
        drain: DrainSignal,
        version: str,
    ) -> None:
        self._node = node
        self._metrics = metrics
        self._drain = drain
        self._version = version
        self._reporter = FailureReporter(status=node.status, logger=logger)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """One handler per service, to be added to a server before it starts."""
        return (
            self.handler(_METADATA, self.metadata_rpcs()),
            self.handler(_ADMIN, self.admin_rpcs()),
        )

    def metadata_rpcs(self) -> dict[str, Rpc]:
        """The methods of MetadataService by name."""
        service = metadata_service.MetadataService(self._node)
        writes: dict[str, Write] = {
            "register_request": service.register_request,
            "register_branch": service.register_branch,
            "register_branches": service.register_branches,
            "close_branch": service.close_branch,
            "close_branches": service.close_branches,
        }
        execute = ExecuteMethod(
            operations=writes,
            reporter=self._reporter,
            limits=self._node.limits,
            clock=self._node.clock,
            drain=self._drain,
        )
        limits = self._node.limits
        call_s = limits.call_timeout_ms_max / 1000
        wait_s = limits.wait_timeout_ms_max / 1000 + WAIT_MARGIN_S
        return {
            "RegisterRequest": Rpc(service.register_request, call_s),
            "RegisterBranch": Rpc(service.register_branch, call_s),
            "RegisterBranches": Rpc(service.register_branches, call_s),
            "CloseBranch": Rpc(service.close_branch, call_s),
            "CloseBranches": Rpc(service.close_branches, call_s),
            "Execute": Rpc(execute.execute, math.inf),
            "WaitRequest": Rpc(service.wait_request, wait_s),
            "CheckRequest": Rpc(service.check_request, call_s),
            "CheckRequestByRegions": Rpc(service.check_request_by_regions, call_s),
            "FetchDependencies": Rpc(service.fetch_dependencies, call_s),
            "DescribeRequest": Rpc(service.describe_request, call_s),
            "ListRequests": Rpc(service.list_requests, call_s),
            "WatchRequest": Rpc(service.watch_request, math.inf),
            "Subscribe": Rpc(service.subscribe, math.inf),
        }

    def admin_rpcs(self) -> dict[str, Rpc]:
        """The methods of AdminService by name."""
        service = admin_service.AdminService(self._node, version=self._version)
        call_s = self._node.limits.call_timeout_ms_max / 1000
        return {
            "GetClusterStatus": Rpc(service.get_cluster_status, call_s),
            "GetDigest": Rpc(service.get_digest, call_s),
            "TakeSnapshot": Rpc(service.take_snapshot, call_s),
            "TransferLeadership": Rpc(service.transfer_leadership, call_s),
            "AddMember": Rpc(service.add_member, call_s),
            "RemoveMember": Rpc(service.remove_member, call_s),
        }

    def wrap(self, rpc: Rpc, *, service: str, method: str) -> Behaviour:
        """Surrounds a method with deadline, size, metrics and the translation of errors."""
        behaviour = DeadlinePolicy(clock=self._node.clock, ids=self._node.ids).wrap(
            rpc.body, cap_s=rpc.cap_s
        )
        behaviour = AnswerSize().wrap(behaviour)
        counters = self._metrics.call_counters(service=service, method=method)
        behaviour = CallMetrics().wrap(behaviour, counters)
        return ErrorsToStatus(self._reporter).wrap(behaviour, method=f"{service}/{method}")

    def handler(
        self,
        descriptor: ServiceDescriptor,
        rpcs: dict[str, Rpc],
        *,
        path: str = "",
        label: str = "",
    ) -> grpc.GenericRpcHandler:
        """The methods of a service, wrapped.

        Args:
            descriptor: says which methods there are and what they take.
            rpcs: what implements each.
            path: the service in the path of a call; by default its full name.
            label: the service in metrics and logs; by default its full name.
        """
        service = label or descriptor.full_name
        return grpc.method_handlers_generic_handler(
            path or descriptor.full_name,
            {
                name: _method_handler(method, self.wrap(rpcs[name], service=service, method=name))
                for name, method in descriptor.methods_by_name.items()
            },
        )


def _method_handler(
    method: MethodDescriptor, behaviour: Behaviour
) -> grpc.RpcMethodHandler[Any, Any]:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    parse = GetMessageClass(method.input_type).FromString
    serialize = GetMessageClass(method.output_type).SerializeToString
    return make(behaviour, lenient(parse, malformed=DecodeError), serialize)
