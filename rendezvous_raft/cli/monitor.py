"""`rendezvous monitor run`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.session import fail, session_of, shared_options
from rendezvous_raft.config import ConfigError
from rendezvous_raft.monitor.runner import run_monitor
from rendezvous_raft.monitor.settings import load_monitor_config


@click.group()
def monitor() -> None:
    """Run the process that watches a datastore and closes branches."""


@monitor.command()
@click.option(
    "-c",
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings in TOML: any number of services and regions in one process.",
)
@click.option("--service", help="Service to watch, instead of the file's.")
@click.option("--region", help="Region to watch.")
@click.option("--tag", "tags", multiple=True, help="Only branches with this tag; repeatable.")
@click.option(
    "--group", help="Monitors of one group share the branches, and take over from one that dies."
)
@click.option("--datastore", type=click.Choice(["redis", "embedded"]), help="Where to look.")
@click.option(
    "--endpoint",
    "datastore_endpoints",
    multiple=True,
    metavar="URL",
    help="With redis: redis://HOST:PORT of each replica that serves reads; repeatable.",
)
@click.option(
    "--path", type=click.Path(dir_okay=False, path_type=Path), help="With embedded: the file."
)
@click.option("--http-address", metavar="HOST:PORT", help="Where its status and metrics are.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["json", "console"]))
@shared_options
@click.pass_context
def run(
    ctx: click.Context,
    /,
    *,
    config: Path | None,
    http_address: str | None,
    log_level: str | None,
    log_format: str | None,
    **flags: object,
) -> None:
    """Watch branches and close each where its data is visible, until SIGTERM or SIGINT.

    Give a file, or --service, --region and --datastore for a single entry. --endpoints names the
    nodes of the metadata service, the nearest first.
    """
    session = session_of(ctx)
    watch = _single_watch(flags)
    if config is None and watch is None:
        raise click.UsageError("give --config FILE, or --service, --region and --datastore")
    overrides: dict[str, object] = {
        "watch": None if watch is None else [watch],
        "http_address": http_address,
        "log_level": log_level,
        "log_format": log_format,
        **{field: file or None for field, file in dataclasses.asdict(session.tls).items()},
    }
    if config is None or session.endpoints_given:
        overrides["endpoints"] = session.endpoint_list
    try:
        ctx.exit(run_monitor(load_monitor_config(config, overrides)))
    except ConfigError as error:
        raise fail(
            session,
            "the settings cannot be used: " + "; ".join(error.problems),
            next_step="correct them in the file or in the flags",
            exit_code=ExitCode.USAGE,
        ) from None


def _single_watch(flags: dict[str, object]) -> dict[str, object] | None:
    """The one entry that the flags describe; None when they describe none.

    Raises:
        click.UsageError: They describe half of one.
    """
    given = {name for name, value in flags.items() if value}
    if not given:
        return None
    missing = {"service", "region", "datastore"} - given
    if missing:
        raise click.UsageError("also give " + ", ".join(f"--{name}" for name in sorted(missing)))
    is_redis = flags["datastore"] == "redis"
    if ("datastore_endpoints" in given) != is_redis or ("path" in given) == is_redis:
        raise click.UsageError("redis needs --endpoint URL, embedded needs --path FILE")
    place = {"endpoints": flags["datastore_endpoints"]} if is_redis else {"path": flags["path"]}
    return {
        "service": flags["service"],
        "region": flags["region"],
        "tags": flags["tags"],
        "group": flags["group"] or "",
        "probe": {"kind": flags["datastore"], **place},
    }
