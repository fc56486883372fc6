"""Who a certificate is for: one URI among its alternative names.

    rendezvous://CLUSTER_ID/member/NAME        a member of the cluster
    rendezvous://CLUSTER_ID/client/NAME        a client: service, monitor, operator
    rendezvous://CLUSTER_ID/authority          the authority that signs for the cluster

A URI and not a DNS name, for names may hold dots, underscores and both cases: `a.b` of cluster `c`
and `a` of cluster `b.c` would be the same DNS name, and DNS names compare without case, may be
wildcards and end at 63 bytes a label. A slash stands in no name of ours, so that each URI has one
meaning, and it is compared byte by byte. TLS libraries match DNS names and addresses by
themselves (for hosts) and leave URIs to the application, which is what a member's identity wants:
where somebody is reached says nothing of who that is. `ssl.SSLSocket.getpeercert` gives them as
`("URI", …)` under `subjectAltName`, once the chain has been verified.
"""

from __future__ import annotations

from collections.abc import Iterable

SCHEME = "rendezvous://"
_MEMBER = "member"
_CLIENT = "client"
_AUTHORITY = "authority"


def member_identity(cluster_id: str, name: str) -> str:
    """The identity of a member."""
    return f"{SCHEME}{cluster_id}/{_MEMBER}/{name}"


def client_identity(cluster_id: str, name: str) -> str:
    """The identity of a client."""
    return f"{SCHEME}{cluster_id}/{_CLIENT}/{name}"


def authority_identity(cluster_id: str) -> str:
    """The identity of the authority of a cluster."""
    return f"{SCHEME}{cluster_id}/{_AUTHORITY}"


def member_named(uris: Iterable[str], cluster_id: str) -> str:
    """The name of the member of `cluster_id` whose certificate has these URIs.

    Other URIs, as those of other systems, are of no matter.

    Raises:
        ValueError: it is no member's, is one of another cluster, or claims to be several.
    """
    identities = [uri for uri in uris if uri.startswith(SCHEME)]
    if len(identities) != 1:
        found = ", ".join(identities) or "none"
        raise ValueError(f"the certificate must have one {SCHEME} identity, not: {found}")
    cluster, _, rest = identities[0].removeprefix(SCHEME).partition("/")
    kind, _, name = rest.partition("/")
    if cluster != cluster_id or kind != _MEMBER or not name or "/" in name:
        expected = member_identity(cluster_id, "NAME")
        raise ValueError(f"the certificate is for {identities[0]}, not for {expected}")
    return name


def authority_cluster(uris: Iterable[str]) -> str | None:
    """The cluster whose authority has these URIs; None for an authority of somebody else."""
    for uri in uris:
        cluster, _, rest = uri.removeprefix(SCHEME).partition("/")
        if uri.startswith(SCHEME) and rest == _AUTHORITY:
            return cluster
    return None
