"""A monitor process: settings → probes, clients, monitors, status page → one loop until a signal.

Signals: SIGTERM and SIGINT drain (M11). A fault of one entry that no back-off can heal, such as a
datastore that must not be probed, ends the process with status 1, for whoever supervises it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from rendezvous_raft import AsyncClient
from rendezvous_raft.config import Address
from rendezvous_raft.monitor.metadata import SdkClient, SdkMetadata
from rendezvous_raft.monitor.metrics import MonitorMetrics
from rendezvous_raft.monitor.monitor import Monitor
from rendezvous_raft.monitor.ports import ProbeMisconfigured
from rendezvous_raft.monitor.probes.build import build_probe
from rendezvous_raft.monitor.settings import MonitorConfig
from rendezvous_raft.monitor.status_page import StatusPage, StatusSources
from rendezvous_raft.observability.logs import configure_logs
from rendezvous_raft.observability.metrics import MetricsRegistry

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
Connect = Callable[[MonitorConfig, str], SdkClient]
"""Makes a client of the configuration's endpoints for a region; tests give their own."""

_log = structlog.get_logger(__name__)


def connect(config: MonitorConfig, region: str) -> SdkClient:
    """A client of the SDK; connects on first use."""
    return AsyncClient(config.endpoints, region=region, credentials=config.tls_files.credentials())


def run_monitor(config: MonitorConfig) -> int:
    """Runs the monitors of `config` until SIGTERM or SIGINT; blocks. Needs the main thread.

    Returns:
        The exit status: 0 after an orderly stop, 1 after a fault.

    Raises:
        ConfigError: a probe's driver is not installed.
    """
    configure_logs(level=config.log_level, style=config.log_format)
    status = 0
    try:
        asyncio.run(_serve_until_signal(config))
    except* (ProbeMisconfigured, OSError) as faults:
        _log.error("monitor_failed", errors=[str(fault) for fault in _leaves(faults)])
        status = 1
    return status


class MonitorProcess:
    """The monitors of one configuration with their clients and status page. One event loop.

    Example:
        process = MonitorProcess(config)
        task = asyncio.create_task(process.run())
        ...
        process.stop()
        await task
    """

    def __init__(self, config: MonitorConfig, *, connect: Connect = connect) -> None:
        self._config = config
        self._connect = connect
        self._stopping = False
        self._monitors: list[Monitor] = []
        self._started = asyncio.Event()
        self.http_port = 0
        """Port of the status page, known once started; 0 when there is none."""

    @property
    def monitors(self) -> tuple[Monitor, ...]:
        """The monitors, in the order of the entries; empty before `run`."""
        return tuple(self._monitors)

    async def wait_started(self) -> None:
        """Blocks until the status page listens and every monitor runs."""
        await self._started.wait()

    def stop(self) -> None:
        """Begins to drain; `run` returns after at most a few seconds."""
        self._stopping = True
        for monitor in self._monitors:
            monitor.stop()

    async def run(self) -> None:
        """Runs until `stop`.

        Raises:
            OSError: the status page cannot listen.
            ExceptionGroup: with a `ProbeMisconfigured`: a datastore must not be probed so.
        """
        registry = MetricsRegistry()
        registry.add_process()
        metrics = MonitorMetrics(registry)
        async with AsyncExitStack() as stack:
            self._monitors = self._build(metrics, stack)
            if self._stopping:
                return
            sources = StatusSources(self._monitors, registry, metrics, self._config.masked())
            if self._config.http_address is not None:
                page = StatusPage(sources)
                stack.push_async_callback(page.close)
                self.http_port = await page.start(Address.parse(self._config.http_address))
            _log.info("monitor_started", watches=len(self._monitors), http_port=self.http_port)
            async with asyncio.TaskGroup() as tasks:
                for monitor in self._monitors:
                    tasks.create_task(monitor.run())
                self._started.set()
        _log.info("monitor_stopped")

    def _build(self, metrics: MonitorMetrics, stack: AsyncExitStack) -> list[Monitor]:
        clients: dict[str, SdkClient] = {}
        monitors = []
        for watch in self._config.watch:
            if watch.region not in clients:
                client = self._connect(self._config, watch.region)
                stack.push_async_callback(client.close)
                clients[watch.region] = client
            probe = build_probe(watch.probe)
            stack.push_async_callback(probe.close)
            selection = watch.to_selection()
            monitors.append(
                Monitor(
                    selection=selection,
                    metadata=SdkMetadata(clients[watch.region]),
                    probe=probe,
                    observer=metrics.observer(selection, probe.datastore),
                    max_probes_per_second=watch.max_probes_per_second,
                )
            )
        return monitors


async def _serve_until_signal(config: MonitorConfig) -> None:
    process = MonitorProcess(config)
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, process.stop)
    try:
        await process.run()
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for fault in group.exceptions:
        found += _leaves(fault) if isinstance(fault, BaseExceptionGroup) else [fault]
    return found
