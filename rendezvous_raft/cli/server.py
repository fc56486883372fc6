"""`rendezvous server run`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.session import fail, output_options, session_of

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal that this process gets when its parent dies."""


@click.group()
def server() -> None:
    """Run one node."""


@server.command()
@click.option(
    "-c",
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="RENDEZVOUS_CONFIG",
    show_envvar=True,
    help="Settings in TOML. The environment wins over the file, flags win over both.",
)
@click.option("--name", help="Name of this node, one of the members.")
@click.option("--region", help="Region that this node serves.")
@click.option("--cluster-id", help="Nodes of different clusters refuse each other.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the log and the snapshots are kept; none: in memory, for a single node.",
)
@click.option("--grpc-address", metavar="HOST:PORT", help="Where to listen for clients.")
@click.option(
    "--http-address", metavar="HOST:PORT", help="Where to listen for health, metrics and status."
)
@click.option("--raft-address", metavar="HOST:PORT", help="Where to listen for the other nodes.")
@click.option("--reflection/--no-reflection", default=None, help="Serve gRPC reflection.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["json", "console"]))
@click.option("--die-with-parent", type=int, metavar="PID", hidden=True)
@output_options
@click.pass_context
def run(
    ctx: click.Context, /, *, config: Path | None, die_with_parent: int | None, **overrides: object
) -> None:
    """Run one node until SIGTERM or SIGINT; then it drains and ends.

    Every setting is described in the reference of the configuration; the flags here are the ones
    that differ from node to node.
    """
    session = session_of(ctx)
    if die_with_parent is not None:
        tie_to_parent(die_with_parent)
    from rendezvous_raft.config import ConfigError, load_node_config  # noqa: PLC0415
    from rendezvous_raft.server.build import run_node  # noqa: PLC0415 - loads the engine

    try:
        node_config = load_node_config(config, overrides)
    except ConfigError as error:
        raise fail(
            session,
            "the settings cannot be used: " + "; ".join(error.problems),
            next_step="correct them in the file, in RENDEZVOUS_* or in the flags",
            exit_code=ExitCode.USAGE,
        ) from None
    ctx.exit(run_node(node_config))


def tie_to_parent(parent_pid: int) -> None:
    """Lets this process die (SIGKILL) when its parent does, however the parent dies.

    Linux only; elsewhere a parent that is killed leaves its nodes behind. A crash is what the
    node's log is made for, so nothing is lost by the signal.

    Raises:
        SystemExit: The parent is dead already.
        OSError: The kernel refused.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # it died before the call above could take effect
        raise SystemExit(ExitCode.FAILED)
