"""`rendezvous dev`: a cluster of processes on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.output import OutputFormat, print_json_line
from rendezvous_raft.cli.regions import parse_latencies, parse_regions
from rendezvous_raft.cli.session import Session, fail, output_options, session_of
from rendezvous_raft.cli.signals import stop_event
from rendezvous_raft.cli.version import installed_versions
from rendezvous_raft.devcluster.certificates import ClusterCertificates
from rendezvous_raft.devcluster.cluster import ClusterSettings, DevCluster, NodeEvent
from rendezvous_raft.devcluster.layout import NodeLayout, check_ports
from rendezvous_raft.devcluster.processes import NodeFailed

NODES_MAX = 15


@click.command()
@click.option(
    "--nodes", type=click.IntRange(1, NODES_MAX), default=1, show_default=True, help="How many."
)
@click.option(
    "--regions",
    default="eu,us,ap",
    show_default=True,
    callback=parse_regions,
    metavar="NAME,…",
    help="Dealt out to the nodes n1, n2, … in turn.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="One directory per node below it; none: a temporary one, removed at the end.",
)
@click.option(
    "--base-port",
    type=click.IntRange(0, 65_535),
    default=7600,
    show_default=True,
    help="Node i (from 0) has gRPC at base+10i, HTTP at base+10i+1, Raft at base+10i+2; 0: free.",
)
@click.option(
    "--rtt-ms",
    default="",
    metavar="A-B=MS,…",
    help="Round trips between regions, as in eu-us=80,eu-ap=160. Only the links between nodes "
    "are delayed, not those to clients.",
)
@click.option(
    "--tls",
    is_flag=True,
    help="TLS between nodes and with clients, with certificates made in the data directory.",
)
@click.option(
    "--compat",
    is_flag=True,
    help="Serve clients of the original Rendezvous too: its format `main` at base+10i+3, "
    "`words23` at base+10i+4.",
)
@click.option("--restart", is_flag=True, help="Start a node that dies again, after one second.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one line of JSON when all nodes are ready, and later events as JSON on stderr.",
)
@output_options
@click.pass_context
def dev(
    ctx: click.Context,
    /,
    *,
    nodes: int,
    regions: tuple[str, ...],
    data_dir: Path | None,
    base_port: int,
    rtt_ms: str,
    tls: bool,
    compat: bool,
    restart: bool,
    as_json: bool,
) -> None:
    """Run a cluster of processes on this machine until Ctrl-C.

    Everything is bound to loopback, and unencrypted unless --tls is given: for development only. A
    node that dies stays dead unless --restart is given.
    """
    session = session_of(ctx)
    as_json = as_json or session.output in {OutputFormat.JSON, OutputFormat.JSONL}
    latencies = parse_latencies(rtt_ms, regions=regions)
    try:
        check_ports(count=nodes, base_port=base_port, compat=compat)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--base-port") from None
    with ExitStack() as stack:
        temporary = data_dir is None
        if data_dir is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="rendezvous-dev-"))
            data_dir = Path(made)
        settings = ClusterSettings(
            node_count=nodes,
            regions=regions,
            data_dir=data_dir.absolute(),
            base_port=base_port,
            latencies=latencies,
            tls=tls,
            compat=compat,
            restart=restart,
        )
        asyncio.run(_serve(session, settings, temporary=temporary, as_json=as_json))


async def _serve(
    session: Session, settings: ClusterSettings, *, temporary: bool, as_json: bool
) -> None:
    """Starts the cluster, says where it is, and waits for a signal."""
    started_at_s = time.monotonic()
    cluster = DevCluster(settings, report=partial(_tell, as_json=as_json))
    with stop_event() as stop:
        starting = asyncio.create_task(cluster.start())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                took_s = time.monotonic() - started_at_s
                _announce(session, cluster, settings, took_s, temporary=temporary, as_json=as_json)
                await stopping
        except (NodeFailed, OSError) as error:
            raise fail(
                session,
                str(error),
                next_step="look at the log above; is a port taken? Try --base-port 0",
                exit_code=ExitCode.FAILED,
                effect="everything that was started has been stopped",
            ) from None
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.wait((starting, stopping))
            await cluster.stop()


def _announce(
    session: Session,
    cluster: DevCluster,
    settings: ClusterSettings,
    took_s: float,
    *,
    temporary: bool,
    as_json: bool,
) -> None:
    nodes: list[dict[str, object]] = [
        {
            "name": node.name,
            "region": node.region,
            "grpc": node.grpc_address,
            "http": node.http_address,
            "pid": cluster.process(node.name).pid,
            **compat_addresses(node),
        }
        for node in cluster.nodes
    ]
    if as_json:
        answer: dict[str, object] = {"nodes": nodes}
        if cluster.certificates is not None:
            certificate, key = cluster.certificates.client
            answer["tls"] = {"ca": cluster.certificates.authority, "cert": certificate, "key": key}
        print_json_line(answer)
    elif not session.quiet:
        pids = {node.name: cluster.process(node.name).pid for node in cluster.nodes}
        click.echo(
            banner(
                cluster.nodes,
                settings,
                pids,
                took_s,
                temporary=temporary,
                certificates=cluster.certificates,
            )
        )


def compat_addresses(node: NodeLayout) -> dict[str, str]:
    """Where a node serves the formats of the originals, if it does."""
    if node.compat_main_address is None or node.compat_words23_address is None:
        return {}
    return {
        "compat_main": node.compat_main_address,
        "compat_words23": node.compat_words23_address,
    }


def banner(
    nodes: Sequence[NodeLayout],
    settings: ClusterSettings,
    pids: Mapping[str, int],
    took_s: float,
    *,
    temporary: bool,
    certificates: ClusterCertificates | None = None,
) -> str:
    """What a person needs to go on: every address, where the logs are, the next commands."""
    version = installed_versions().get("rendezvous-raft", "")
    plural = "s" if len(nodes) > 1 else ""
    lines = [f"Rendezvous {version}: {len(nodes)} node{plural} ready after {took_s:.1f} s", ""]
    for node in nodes:
        lines += [
            f"  {node.name}  region {node.region}  pid {pids[node.name]}",
            f"      gRPC     {node.grpc_address}",
            f"      status   http://{node.http_address}/",
            f"      metrics  http://{node.http_address}/metrics",
            *(f"      {name:<15}{address}" for name, address in compat_addresses(node).items()),
        ]
    lines.append("")
    delayed = {pair: rtt for pair, rtt in settings.latencies.as_table().items() if rtt}
    if delayed:
        pairs = ", ".join(f"{pair} {rtt:g} ms" for pair, rtt in delayed.items())
        lines.append(f"Round trips between nodes (emulated): {pairs}")
    fate = "temporary, removed at the end" if temporary else "kept"
    endpoints = ",".join(node.grpc_address for node in nodes)
    lines += [
        f"Data and logs: {settings.data_dir} ({fate}), each node's log in NODE/node.log",
        "A node that dies is started again."
        if settings.restart
        else "A node that dies stays dead.",
        "",
        "Next, in another terminal:",
        f"  export RENDEZVOUS_ENDPOINTS={endpoints}",
        *_exports(certificates),
        "  rendezvous cluster status",
        f"  rendezvous branch register --service post-storage --region {nodes[0].region}",
        "  rendezvous request list",
        "",
        "Loopback only, "
        + ("no encryption" if certificates is None else "TLS on gRPC and Raft, HTTP is plain")
        + ": for development. Stop with Ctrl-C.",
    ]
    return "\n".join(lines)


def _exports(certificates: ClusterCertificates | None) -> list[str]:
    """What commands need to be heard by nodes that speak TLS."""
    if certificates is None:
        return []
    certificate, key = certificates.client
    return [
        f"  export RENDEZVOUS_TLS_CA={certificates.authority}",
        f"  export RENDEZVOUS_TLS_CERT={certificate} RENDEZVOUS_TLS_KEY={key}",
    ]


def _tell(event: NodeEvent, *, as_json: bool) -> None:
    if as_json:
        fields = {
            "event": event.change.value,
            "node": event.node,
            "pid": event.pid,
            "detail": event.detail,
        }
        click.echo(json.dumps(fields), err=True)
    else:
        words = event.change.value.replace("_", " ").removeprefix("node ")
        click.echo(f"node {event.node} {words} ({event.detail})", err=True)
