"""TLS between members: who is on the other side is who its certificate says (F14).

Both sides show a certificate that the authorities signed, and in it the identity of a member of
this cluster (`identities.py`). Hosts are not compared: a member is known by its name, wherever it
is reached. Which names are members is the business of the links, so that a member can be added
without touching the others' files.
"""

from __future__ import annotations

import asyncio
import ssl

from rendezvous_raft.credentials import Credentials
from rendezvous_raft.identities import member_named
from rendezvous_raft.replication.raft.frames import FrameError


class LinkTls:
    """The TLS of one member's links.

    Args:
        credentials: certificate and key of this member, and the authorities that sign for members.
        cluster_id: of this member and its peers.
    """

    def __init__(self, credentials: Credentials, *, cluster_id: str) -> None:
        self._credentials = credentials
        self._cluster_id = cluster_id

    def accepting(self) -> ssl.SSLContext:
        """For a listener that lives long: each handshake takes what the files hold then."""
        context = self._credentials.current().accepting
        # Called for every handshake, whether the client names a server or not (ours do not).
        context.sni_callback = self._renew
        return context

    def dialing(self) -> ssl.SSLContext:
        """For one connection to a peer, made now."""
        return self._credentials.current().dialing

    def peer_of(self, transport: asyncio.BaseTransport) -> str:
        """The name of the member on the other side of a connection whose handshake is done.

        Raises:
            FrameError: it is no member of this cluster.
        """
        certificate = transport.get_extra_info("peercert") or {}
        names = certificate.get("subjectAltName", ())
        try:
            return member_named([name for kind, name in names if kind == "URI"], self._cluster_id)
        except ValueError as error:
            raise FrameError(str(error)) from error

    def _renew(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _server: str | None, _old: ssl.SSLContext
    ) -> None:
        newest = self._credentials.current().accepting
        if connection.context is not newest:
            connection.context = newest
