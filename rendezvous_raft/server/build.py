"""Composition root: configuration to engine, node and servers. The only place that wires them."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from rendezvous_raft.config import Address, ConfigError, NodeConfig
from rendezvous_raft.core.invariants import check_basic
from rendezvous_raft.membership import MemberConfig
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.system import RandomIds, SystemClock
from rendezvous_raft.observability.logs import configure_logs, get_logger
from rendezvous_raft.observability.metrics import (
    EngineMetrics,
    MetricsRegistry,
    NodeMetrics,
    SecurityMetrics,
    ServerMetrics,
)
from rendezvous_raft.server import admin_service, metadata_service
from rendezvous_raft.server.collector import keep_collections_short
from rendezvous_raft.server.compat.rpcs import main_handler, words23_handler
from rendezvous_raft.server.drain import DrainSignal
from rendezvous_raft.server.grpc_server import create_grpc_server, enable_reflection
from rendezvous_raft.server.health import HEALTH_SERVICE, HealthChecks, HealthService
from rendezvous_raft.server.http import HttpSurface, listen
from rendezvous_raft.server.lifecycle import (
    ReadyNotice,
    Server,
    ServerParts,
    StopSignals,
    serve_until_signalled,
)
from rendezvous_raft.server.rpcs import RpcTable
from rendezvous_raft.server.security import LinkReports, client_credentials, member_credentials
from rendezvous_raft.server.statusz import StatusPage
from rendezvous_raft.server.watch import NodeWatch
from rendezvous_raft.types import NodeName, Region

if TYPE_CHECKING:
    import socket

    import grpc.aio
    from structlog.typing import FilteringBoundLogger

    from rendezvous_raft.node.ports import Clock, Replicator

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DAMAGED = 65
DISTRIBUTION = "rendezvous-raft"
COMPAT_HANDLERS = {
    "compat_main_address": main_handler,
    "compat_words23_address": words23_handler,
}
SERVICES = (metadata_service.SERVICE, admin_service.SERVICE)


@dataclass(frozen=True, slots=True)
class BoundPorts:
    """The listeners of a node: bound before anything else, for its addresses are shown to all."""

    grpc_server: grpc.aio.Server
    grpc_address: Address
    http_listener: socket.socket
    http_address: Address
    compat: dict[str, tuple[grpc.aio.Server, Address]]
    """By setting: the servers for clients of the originals."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one node."""

    registry: MetricsRegistry
    node: NodeMetrics
    engine: EngineMetrics
    server: ServerMetrics
    security: SecurityMetrics

    @classmethod
    def create(cls, *, names_max: int) -> Metrics:
        """A registry with everything that a node counts."""
        registry = MetricsRegistry()
        registry.add_process()
        return cls(
            registry=registry,
            node=NodeMetrics(registry, names_max=names_max),
            engine=EngineMetrics(registry),
            server=ServerMetrics(
                registry, version=product_version(), python=platform.python_version()
            ),
            security=SecurityMetrics(registry),
        )


def product_version() -> str:
    """Version of the installed package."""
    return metadata.version(DISTRIBUTION)


async def build_server(config: NodeConfig) -> Server:
    """Binds the ports and wires everything; nothing runs before `Server.start`.

    Call it on the loop that will serve.

    Raises:
        ConfigError: a port is taken, or a file cannot be used.
    """
    metrics = Metrics.create(names_max=config.metrics_names_max)
    clock = SystemClock()
    async with AsyncExitStack() as undo:
        ports = await bind_ports(config, undo, metrics.security)
        replicator, engine_idle_s = _create_engine(config, ports, metrics, clock)
        node = Node(
            name=NodeName(config.name),
            region=Region(config.effective_region),
            replicator=replicator,
            clock=clock,
            ids=RandomIds(),
            limits=config.node_limits(),
            observer=metrics.node,
            early_release=config.early_release,
        )
        server = assemble_server(
            config, node=node, ports=ports, metrics=metrics, engine_idle_s=engine_idle_s
        )
        undo.pop_all()
    return server


async def bind_ports(
    config: NodeConfig, undo: AsyncExitStack, metrics: SecurityMetrics
) -> BoundPorts:
    """Binds the listeners for clients and HTTP; `undo` gives them back.

    Raises:
        ConfigError: an address is taken, or a certificate cannot be used.
    """
    credentials = client_credentials(config, metrics, _logger_of(config))
    listener = listen(config.http_bind)
    undo.callback(listener.close)
    grpc_server, grpc_address = await create_grpc_server(config, credentials, bind=config.grpc_bind)
    undo.push_async_callback(grpc_server.stop, None)
    compat = {}
    for setting, bind in config.compat_binds.items():
        compat[setting] = await create_grpc_server(config, credentials, bind=bind, setting=setting)
        undo.push_async_callback(compat[setting][0].stop, None)
    return BoundPorts(
        grpc_server=grpc_server,
        grpc_address=grpc_address,
        http_listener=listener,
        http_address=Address(host=config.http_bind.host, port=listener.getsockname()[1]),
        compat=compat,
    )


def assemble_server(
    config: NodeConfig,
    *,
    node: Node,
    ports: BoundPorts,
    metrics: Metrics,
    engine_idle_s: Callable[[], float] = lambda: 0.0,
) -> Server:
    """Puts the front ends before a node.

    Args:
        config: the settings.
        node: the node; not opened yet.
        ports: where to serve.
        metrics: those that the node reports to.
        engine_idle_s: seconds since the engine was last driven, for `/livez`.
    """
    logger = _logger_of(config)
    version = product_version()
    drain = DrainSignal()
    disk_failed = asyncio.Event()
    watch = NodeWatch(
        clock=node.clock,
        status=node.status,
        metrics=metrics.server,
        logger=logger,
        find_faults=_invariants_of(node) if config.paranoid else None,
        disk_failed=disk_failed.set,
        open_requests_expired=lambda: metrics.node.open_requests_expired,
    )
    checks = HealthChecks(
        node=node,
        drain=drain,
        ready_lag_max=config.ready_lag_max,
        loop_idle_s=watch.loop_idle_s,
        engine_idle_s=engine_idle_s,
    )
    rpcs = RpcTable(node=node, metrics=metrics.server, logger=logger, drain=drain, version=version)
    health = HealthService(checks, services=SERVICES, drain=drain)
    ports.grpc_server.add_generic_rpc_handlers((*rpcs.handlers(), health.handler()))
    for setting, (compat_server, _) in ports.compat.items():
        handler = COMPAT_HANDLERS[setting](rpcs, node)
        compat_server.add_generic_rpc_handlers((handler, health.handler()))
    if config.reflection:
        enable_reflection(ports.grpc_server, (*SERVICES, HEALTH_SERVICE))
    http = HttpSurface(
        node=node,
        checks=checks,
        status_page=StatusPage(node=node, config=config, version=version),
        registry=metrics.registry,
        node_metrics=metrics.node,
    )
    parts = ServerParts(
        node=node,
        grpc_servers=(ports.grpc_server, *(bound for bound, _ in ports.compat.values())),
        http=http,
        http_listener=ports.http_listener,
        checks=checks,
        watch=watch,
        disk_failed=disk_failed,
        drain=drain,
        logger=logger,
        grpc_address=str(ports.grpc_address),
        http_address=str(ports.http_address),
        compat_addresses={name: str(address) for name, (_, address) in ports.compat.items()},
        version=version,
        drain_timeout_s=config.drain_timeout_s,
    )
    return Server(parts)


def run_node(config: NodeConfig, *, on_ready: Callable[[ReadyNotice], None] | None = None) -> int:
    """Runs a node until SIGTERM or SIGINT and returns the exit status of the process.

    Args:
        config: the settings.
        on_ready: told once the node serves; by default people get a banner on standard output.

    Returns:
        0 after an orderly end, 2 when a setting cannot be used, 65 when the files in `data_dir`
        cannot, 1 when the node could not start for another reason.
    """
    configure_logs(level=config.log_level, style=config.log_format)
    keep_collections_short()
    announce = _banner_for(config) if on_ready is None else on_ready
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, announce))


async def _serve(config: NodeConfig, announce: Callable[[ReadyNotice], None]) -> int:
    logger = _logger_of(config)
    _warn_of_risks(config)
    with StopSignals() as signals:
        try:
            server = await build_server(config)
            notice = await server.start()
        except ConfigError as error:
            problems = error.problems
            logger.error("node_misconfigured", problems=problems)  # noqa: TRY400  nothing to trace
            return EXIT_USAGE
        except Exception as error:
            if not _is_refusal_of_files(error):
                logger.exception("node_failed_to_start")
                return EXIT_FAILED
            reason, advice = str(error), "rendezvous wal verify DIR; rendezvous server rejoin"
            logger.error("node_failed_to_start", reason=reason, next=advice)  # noqa: TRY400
            return EXIT_DAMAGED  # its own status: starting again does not mend files
        announce(notice)
        in_order = await serve_until_signalled(server, signals)
    return EXIT_OK if in_order else EXIT_FAILED


def _logger_of(config: NodeConfig) -> FilteringBoundLogger:
    return get_logger(node=config.name, region=config.effective_region)


def _is_refusal_of_files(error: Exception) -> bool:
    from rendezvous_raft.replication.raft.files import StorageError  # noqa: PLC0415

    return isinstance(error, StorageError)


def _banner_for(config: NodeConfig) -> Callable[[ReadyNotice], None]:
    def show(notice: ReadyNotice) -> None:
        if config.log_format == "console":
            sys.stdout.write(notice.to_banner())
            sys.stdout.flush()

    return show


def _warn_of_risks(config: NodeConfig) -> None:
    logger = _logger_of(config)
    if config.in_memory:
        logger.warning("data_in_memory", consequence="nothing survives this process")
    if not config.has_tls:
        for bind in (config.grpc_bind, *config.compat_binds.values()):
            logger.warning("grpc_without_tls", address=str(bind))
    if config.members and not config.has_raft_tls:
        logger.warning("raft_without_tls", address=str(config.raft_bind))
    if not config.http_bind.is_loopback:
        logger.warning("http_reachable_from_other_machines", address=str(config.http_bind))


def _create_engine(
    config: NodeConfig, ports: BoundPorts, metrics: Metrics, clock: Clock
) -> tuple[Replicator, Callable[[], float]]:
    """The engine, and how long ago it was driven."""
    members = _members_of(config, ports)
    if config.data_dir is None:
        from rendezvous_raft.replication.local import LocalReplicator  # noqa: PLC0415

        local = LocalReplicator(members[0], limits=config.node_limits(), clock=clock)
        return local, lambda: 0.0  # it has no timers: a proposal drives it
    # Only a node with a log loads PySyncObj.
    from rendezvous_raft.replication.raft.engine import RaftReplicator  # noqa: PLC0415
    from rendezvous_raft.replication.raft.transport import TcpLinks  # noqa: PLC0415

    logger = _logger_of(config)
    timers = config.timers.to_timers()
    tls: LinkTls | None = None
    credentials = member_credentials(config, metrics.security, logger)
    if credentials is not None:
        from rendezvous_raft.replication.raft.tls import LinkTls  # noqa: PLC0415

        tls = LinkTls(credentials, cluster_id=config.cluster_id)
    make_links = partial(
        TcpLinks,
        tls=tls,
        silence_s=timers.election_min_s,
        observer=LinkReports(metrics.security, logger, monotonic_s=clock.monotonic_s),
    )
    raft = RaftReplicator(
        self_name=NodeName(config.name),
        members=members,
        cluster_id=config.cluster_id,
        data_dir=config.data_dir,
        joining=config.join,
        listen=str(config.raft_bind),
        timers=timers,
        limits=config.node_limits(),
        clock=clock,
        observer=metrics.engine,
        make_links=make_links,
    )
    return raft, lambda: clock.monotonic_s() - raft.last_turn_s


def _members_of(config: NodeConfig, ports: BoundPorts) -> tuple[MemberConfig, ...]:
    """The members that the cluster is founded with."""
    if not config.members:
        own = MemberConfig(
            name=NodeName(config.name),
            region=Region(config.region),
            raft_address=str(config.raft_bind),
            grpc_address=str(ports.grpc_address),
            http_address=str(ports.http_address),
        )
        return (own,)
    return tuple(member.to_member() for member in config.members)


def _invariants_of(node: Node) -> Callable[[], list[str]]:
    return lambda: check_basic(node.replicator.state.state)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415  not there on every platform
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
