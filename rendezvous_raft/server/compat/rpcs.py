"""Gives gRPC the handlers of one format, under the path that both originals use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rendezvous_raft.server.compat import main_service, words23_service
from rendezvous_raft.server.rpcs import WAIT_MARGIN_S, Rpc

if TYPE_CHECKING:
    import grpc

    from rendezvous_raft.limits import NodeLimits
    from rendezvous_raft.node.node import Node
    from rendezvous_raft.server.rpcs import RpcTable

SERVICE = "rendezvous.ClientService"
"""What both originals call their service. Messages do not carry the names of their packages."""


def main_handler(table: RpcTable, node: Node) -> grpc.GenericRpcHandler:
    """The methods of `main`."""
    service = main_service.MainService(node)
    call_s, wait_s = _caps_s(node.limits)
    rpcs = {
        "Subscribe": Rpc(service.subscribe, math.inf),
        "RegisterRequest": Rpc(service.register_request, call_s),
        "RegisterBranch": Rpc(service.register_branch, call_s),
        "RegisterBranches": Rpc(service.register_branches, call_s),
        "CloseBranch": Rpc(service.close_branch, main_service.BIDS_VISIBLE_S + call_s),
        "WaitRequest": Rpc(service.wait_request, wait_s),
        "Wait": Rpc(service.wait_request, wait_s),
        "CheckStatus": Rpc(service.check_status, call_s),
        "FetchDependencies": Rpc(service.fetch_dependencies, call_s),
    }
    return table.handler(main_service.DESCRIPTOR, rpcs, path=SERVICE, label="compat.main")


def words23_handler(table: RpcTable, node: Node) -> grpc.GenericRpcHandler:
    """The methods of `words23`."""
    service = words23_service.Words23Service(node)
    call_s, wait_s = _caps_s(node.limits)
    rpcs = {
        "SubscribeBranches": Rpc(service.subscribe_branches, math.inf),
        "RegisterRequest": Rpc(service.register_request, call_s),
        "RegisterBranch": Rpc(service.register_branch, call_s),
        "RegisterBranches": Rpc(service.register_branches, call_s),
        "RegisterBranchesDatastores": Rpc(service.register_branches_datastores, call_s),
        "CloseBranch": Rpc(service.close_branch, call_s),
        "CloseBranches": Rpc(service.close_branches, math.inf),
        "WaitRequest": Rpc(service.wait_request, wait_s),
        "CheckRequest": Rpc(service.check_request, call_s),
        "CheckRequestByRegions": Rpc(service.check_request_by_regions, call_s),
    }
    return table.handler(words23_service.DESCRIPTOR, rpcs, path=SERVICE, label="compat.words23")


def _caps_s(limits: NodeLimits) -> tuple[float, float]:
    """Of a usual call and of a wait."""
    wait_s = limits.wait_timeout_ms_max / 1000 + WAIT_MARGIN_S
    return limits.call_timeout_ms_max / 1000, wait_s
