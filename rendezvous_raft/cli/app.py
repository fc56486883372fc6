"""The root command: shared options and the table of commands."""

from __future__ import annotations

import click

from rendezvous_raft.cli.lazy import LazyCommand, LazyGroup
from rendezvous_raft.cli.session import Session, shared_options

_RUN = "Run"
_LOOK = "Look"
_USE = "Use"
_OPERATE = "Operate"
_OFFLINE = "Look at files"

COMMANDS = (
    LazyCommand(
        "demo",
        "rendezvous_raft.cli.demo:demo",
        _RUN,
        "Show the race between data and notification, without and with Rendezvous.",
    ),
    LazyCommand(
        "dev", "rendezvous_raft.cli.dev:dev", _RUN, "Run a cluster of processes on this machine."
    ),
    LazyCommand("server", "rendezvous_raft.cli.server:server", _RUN, "Run one node."),
    LazyCommand(
        "monitor",
        "rendezvous_raft.cli.monitor:monitor",
        _RUN,
        "Run the process that watches a datastore and closes branches.",
    ),
    LazyCommand(
        "request",
        "rendezvous_raft.cli.request:request",
        _USE,
        "Register, show, list, check, wait for and close requests.",
    ),
    LazyCommand(
        "branch", "rendezvous_raft.cli.branch:branch", _USE, "Register and close branches."
    ),
    LazyCommand(
        "watch",
        "rendezvous_raft.cli.watch:watch",
        _LOOK,
        "Print branches of a service in a region, or a request, as they change.",
    ),
    LazyCommand(
        "cluster",
        "rendezvous_raft.cli.cluster:cluster",
        _OPERATE,
        "Status, members, digest, snapshot, leadership.",
    ),
    LazyCommand(
        "check", "rendezvous_raft.cli.check:check", _OPERATE, "Checks with an exit status."
    ),
    LazyCommand(
        "cert",
        "rendezvous_raft.cli.cert:cert",
        _OPERATE,
        "Make and show certificates for members and clients.",
    ),
    LazyCommand(
        "wal", "rendezvous_raft.cli.wal:wal", _OFFLINE, "Look at and verify a node's files."
    ),
    LazyCommand(
        "snapshot",
        "rendezvous_raft.cli.snapshot:snapshot",
        _OFFLINE,
        "Look into a snapshot file.",
    ),
    LazyCommand("version", "rendezvous_raft.cli.version:version", _LOOK, "Print versions."),
)

EPILOG = """\b
Exit status: 0 ok, 1 a check failed or the service refused, 2 usage,
3 cluster not reachable, 4 outcome of a write unknown, 5 timed out.

Every option has an environment variable: RENDEZVOUS_ENDPOINTS, RENDEZVOUS_DEV_NODES, …
"""


@click.group(
    cls=LazyGroup,
    commands_lazy=COMMANDS,
    epilog=EPILOG,
    context_settings={
        "auto_envvar_prefix": "RENDEZVOUS",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@shared_options
@click.pass_context
def app(ctx: click.Context) -> None:
    """Keeps readers in every region from missing writes that are still on their way."""
    if not isinstance(ctx.obj, Session):
        ctx.obj = Session()


def main() -> None:
    """The entry point of `rendezvous` and `rvz`."""
    app(prog_name="rendezvous")
