"""`rendezvous cert`: an authority and certificates for development."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import Session, fail, output_options, session_of

if TYPE_CHECKING:
    from rendezvous_raft.authority import Authority, Issued, Order
    from rendezvous_raft.certificates import Certificate

DEFAULT_CLUSTER_ID = "rendezvous"
DAYS_MAX = 3_650
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@click.group()
def cert() -> None:
    """Make and show certificates for members and clients."""


CREATE_EPILOG = """\b
Examples:
  rendezvous cert create --out certs --cluster-id shop \\
      --member eu-1=10.0.1.10,eu-1.example --member us-1=10.0.2.10 --client post-service
  rendezvous cert create --out certs --member ap-1=10.0.3.10      # one more, later
  rendezvous cert create --out certs --member eu-1=10.0.1.10 --force    # renew it

A running node takes renewed files for its next connections. Members and clients are told apart
by what stands in their certificates. For authorities of their own, use two directories.
"""


@cert.command(epilog=CREATE_EPILOG)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("certs"),
    show_default=True,
    help="Directory for everything; its authority is used when there is one, or made.",
)
@click.option(
    "--cluster-id",
    help="Cluster that the certificates are good for; that of the authority, or "
    f"{DEFAULT_CLUSTER_ID!r} for a new one.",
)
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="NAME[=HOST,…]",
    help="Member by its name in the settings, and where it is reached; repeatable.",
)
@click.option(
    "--client", "clients", multiple=True, metavar="NAME", help="Client by name; repeatable."
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Name or address for every member, beside localhost; repeatable.",
)
@click.option(
    "--days",
    type=click.IntRange(1, DAYS_MAX),
    default=365,
    show_default=True,
    help="How long the certificates are good for.",
)
@click.option(
    "--force", is_flag=True, help="Replace certificates of these names, never the authority."
)
@output_options
@click.pass_context
def create(
    ctx: click.Context,
    /,
    *,
    out: Path,
    cluster_id: str | None,
    members: tuple[str, ...],
    clients: tuple[str, ...],
    hosts: tuple[str, ...],
    days: int,
    force: bool,
) -> None:
    """Make an authority (once) and certificates that it signs.

    For development, and for clusters without an authority of their own. Whoever has ca-key.pem can
    join the cluster: keep it away from the nodes. Nothing is replaced unless --force is given.
    """
    session = session_of(ctx)
    try:
        from rendezvous_raft import authority  # noqa: PLC0415 - cryptography is an extra
    except ImportError:
        raise _lacking(session) from None
    orders: list[Order] = []
    for text in members:
        name, _, places = text.partition("=")
        own = (place.strip() for place in places.split(",") if place.strip())
        order = authority.Order("member", _checked("--member", name), (*own, *hosts))
        orders.append(order)
    orders += [authority.Order("client", _checked("--client", name)) for name in clients]
    if cluster_id is not None:
        _checked("--cluster-id", cluster_id)
    if not orders:
        raise click.UsageError("nothing to make: name a --member or a --client")
    try:
        signing = authority.Authority.open(
            out, cluster_id=cluster_id, default_cluster_id=DEFAULT_CLUSTER_ID
        )
        issued = signing.issue(orders, valid_for=timedelta(days=days), replace=force)
    except authority.FileInTheWay as error:
        raise fail(
            session,
            str(error),
            next_step="choose another --out or name, or replace it with --force",
            exit_code=ExitCode.FAILED,
            effect="no certificate was made",
        ) from None
    except (ValueError, OSError) as error:
        raise fail(
            session,
            str(error),
            next_step="correct the value, or choose another --out",
            exit_code=ExitCode.FAILED,
            effect="no certificate was made",
        ) from None
    _tell(session, signing, issued)


@cert.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@output_options
@click.pass_context
def show(ctx: click.Context, /, *, file: Path) -> None:
    """Show who the certificates in FILE are for, and until when they are good."""
    session = session_of(ctx)
    try:
        from rendezvous_raft.certificates import (  # noqa: PLC0415 - cryptography is an extra
            CertificateError,
            read_certificates,
        )
    except ImportError:
        raise _lacking(session) from None
    try:
        found = read_certificates(file)
    except CertificateError as error:
        raise fail(
            session,
            str(error),
            next_step="give a file in PEM with a certificate; a key has nothing to show",
            exit_code=ExitCode.FAILED,
            effect="nothing was changed: this command only reads",
        ) from None
    headings = ("subject", "identity", "hosts", "authority", "from", "until", "issuer")
    sheet = Sheet(headings, tuple(map(_row, found)))
    print_answer(session.form, answer=found, sheets=[sheet], lines=found, color=session.color)


def _row(found: Certificate) -> tuple[str, ...]:
    return (
        found.subject,
        ", ".join(found.identities),
        ", ".join(found.hosts),
        "yes" if found.is_authority else "no",
        found.not_before.isoformat(),
        found.not_after.isoformat(),
        found.issuer,
    )


def _checked(option: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.BadParameter(
            f"{name!r} must be 1 to 64 letters, digits, '.', '_' or '-'", param_hint=option
        )
    return name


def _lacking(session: Session) -> click.exceptions.Exit:
    return fail(
        session,
        "the library `cryptography` is not installed",
        next_step="install it: pip install 'rendezvous-raft[tls]'",
        exit_code=ExitCode.FAILED,
    )


def _tell(session: Session, signing: Authority, issued: Sequence[Issued]) -> None:
    fields = {
        "directory": str(signing.directory),
        "cluster_id": signing.cluster_id,
        "authority": {
            "certificate": str(signing.file),
            "created": signing.created,
            "expires_at": signing.expires_at,
        },
        "certificates": [
            {
                "kind": one.kind,
                "name": one.name,
                "identity": one.identity,
                "certificate": str(one.certificate),
                "key": str(one.key),
                "expires_at": one.expires_at,
            }
            for one in issued
        ],
    }
    rows = tuple(
        (one.kind, one.name, str(one.certificate), str(one.key), one.expires_at.date().isoformat())
        for one in issued
    )
    sheet = Sheet(("kind", "name", "certificate", "key", "until"), rows)
    print_answer(session.form, answer=fields, sheets=[sheet], color=session.color)
    made = "made" if signing.created else "used as it was"
    session.note(f"authority {signing.file} of the cluster {signing.cluster_id!r}: {made}")
    for line in next_steps(signing, issued):
        session.note(line)


def next_steps(signing: Authority, issued: Sequence[Issued]) -> list[str]:
    """What to do with the files: settings of a member, flags of a client."""
    lines: list[str] = []
    authority = signing.file.absolute()
    member = next((one for one in issued if one.kind == "member"), None)
    client = next((one for one in issued if one.kind == "client"), None)
    if member is not None:
        certificate, key = member.certificate.absolute(), member.key.absolute()
        lines += [
            "",
            f"next, in the settings of {member.name} (and the others with theirs):",
            f'  cluster_id = "{signing.cluster_id}"',
            f'  raft_tls_cert = "{certificate}"',
            f'  raft_tls_key = "{key}"',
            f'  raft_tls_ca = "{authority}"',
            f'  grpc_tls_cert = "{certificate}"',
            f'  grpc_tls_key = "{key}"',
            f'  grpc_tls_client_ca = "{authority}"',
        ]
    if client is not None:
        lines += [
            "",
            f"next, for commands as {client.name}:",
            f"  export RENDEZVOUS_TLS_CA={authority}",
            f"  export RENDEZVOUS_TLS_CERT={client.certificate.absolute()}",
            f"  export RENDEZVOUS_TLS_KEY={client.key.absolute()}",
        ]
    return lines
