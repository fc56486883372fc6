"""`rendezvous server run|rejoin`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.output import Sheet, print_answer
from rendezvous_raft.cli.session import Session, fail, output_options, session_of

if TYPE_CHECKING:
    from rendezvous_raft.config import NodeConfig

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal that this process gets when its parent dies."""


@click.group()
def server() -> None:
    """Run one node, or let a damaged one begin anew."""


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
@click.option(
    "--compat-main-address",
    metavar="HOST:PORT",
    help="Where to listen for clients of the original's format `main`; none: not at all.",
)
@click.option(
    "--compat-words23-address",
    metavar="HOST:PORT",
    help="Where to listen for clients of the original's format `words23`; none: not at all.",
)
@click.option("--raft-address", metavar="HOST:PORT", help="Where to listen for the other nodes.")
@click.option(
    "--join/--no-join",
    default=None,
    help="Come to a cluster that exists, after `rendezvous cluster add`.",
)
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

    docs/configuration.md describes every setting; the flags here are those that differ from node to
    node.
    """
    session = session_of(ctx)
    if die_with_parent is not None:
        tie_to_parent(die_with_parent)
    node_config = _load(session, config, overrides)
    from rendezvous_raft.server.build import run_node  # noqa: PLC0415 - loads the engine

    ctx.exit(run_node(node_config))


REJOIN_EPILOG = """\b
Example:
  rendezvous wal verify /var/lib/rendezvous     # what is damaged
  rendezvous server rejoin --config node.toml
  rendezvous server run --config node.toml
"""


@server.command(epilog=REJOIN_EPILOG)
@click.option(
    "-c",
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="RENDEZVOUS_CONFIG",
    show_envvar=True,
    help="The settings with which the node runs.",
)
@click.option("--name", help="Name of this node, one of the members.")
@click.option("--cluster-id", help="Nodes of different clusters refuse each other.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the node's log and snapshots are.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_options
@click.pass_context
def rejoin(ctx: click.Context, /, *, config: Path | None, yes: bool, **overrides: object) -> None:
    """Let a node whose files are damaged begin anew, as a member without a vote.

    Its old files are put aside, in a directory `damaged-...` beside the new ones; nothing is
    deleted. Started again, the node asks the others to be let in: they go on without its vote, it
    catches up from them, and votes again. That needs a leader, and so a majority without this node.
    """
    session = session_of(ctx)
    node_config = _load(session, config, overrides)
    if node_config.data_dir is None or not node_config.members:
        raise fail(
            session,
            "only a member of a cluster that keeps its data on disk can rejoin",
            next_step="name its configuration by --config",
            exit_code=ExitCode.USAGE,
        )
    if not yes:
        click.confirm(
            f"Begin {node_config.data_dir} anew and put what is there aside?", abort=True, err=True
        )
    from rendezvous_raft.replication.raft.files import StorageError  # noqa: PLC0415
    from rendezvous_raft.replication.raft.metadata import Identity  # noqa: PLC0415
    from rendezvous_raft.replication.raft.rejoin import prepare_rejoin  # noqa: PLC0415

    identity = Identity(node_config.cluster_id, node_config.name)
    try:
        done = prepare_rejoin(node_config.data_dir, identity)
    except (StorageError, OSError) as error:
        raise fail(
            session,
            str(error),
            next_step="stop the node; check --config and the rights on its directory",
            exit_code=ExitCode.FAILED,
            effect="the node may have lost its vote, no file was deleted",
        ) from None
    kept = None if done.kept is None else str(done.kept)
    fields = {"data_dir": str(node_config.data_dir), "kept": kept}
    sheet = Sheet(tuple(fields), (tuple(str(value or "") for value in fields.values()),))
    print_answer(session.form, answer=fields, sheets=[sheet], color=session.color)
    session.note("start the node now: it catches up from the others, and then votes again")


def _load(session: Session, config: Path | None, overrides: dict[str, object]) -> NodeConfig:
    """The settings, or a failure that names what is wrong with them."""
    from rendezvous_raft.config import ConfigError, load_node_config  # noqa: PLC0415

    try:
        return load_node_config(config, overrides)
    except ConfigError as error:
        raise fail(
            session,
            "the settings cannot be used: " + "; ".join(error.problems),
            next_step="correct them in the file, in RENDEZVOUS_* or in the flags",
            exit_code=ExitCode.USAGE,
        ) from None


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
