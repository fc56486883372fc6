"""The SDK: `Client` for threads and `AsyncClient` for asyncio, twins that share one brain.

Whatever an application needs is also in `rendezvous_raft`.
"""

from __future__ import annotations

from rendezvous_raft.client._async import AsyncClient
from rendezvous_raft.client._base import RequestScope
from rendezvous_raft.client._policy import RetryPolicy
from rendezvous_raft.client._sync import Client
from rendezvous_raft.client.arguments import BranchSpec, CloseSpec, MemberSpec, Seconds
from rendezvous_raft.client.hooks import AttemptEnded, AttemptStarted, Hooks

__all__ = [
    "AsyncClient",
    "AttemptEnded",
    "AttemptStarted",
    "BranchSpec",
    "Client",
    "CloseSpec",
    "Hooks",
    "MemberSpec",
    "RequestScope",
    "RetryPolicy",
    "Seconds",
]
