"""`rendezvous version`."""

from __future__ import annotations

import importlib.metadata
import platform

import click

from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import output_options, session_of

_PACKAGES = ("rendezvous-raft", "grpcio", "protobuf", "pysyncobj", "redis")


def installed_versions() -> dict[str, str]:
    """Version of this package, of Python, and of what matters of the rest; absent ones left out."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@click.command()
@output_options
@click.pass_context
def version(ctx: click.Context) -> None:
    """Print the versions of Rendezvous and of what it runs on."""
    session = session_of(ctx)
    versions = installed_versions()
    sheet = Sheet(("package", "version"), tuple(sorted(versions.items())))
    print_answer(session.form, answer=versions, sheets=[sheet], color=session.color)
