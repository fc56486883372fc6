"""The HTTP surface of a monitor process: health, metrics, and what every branch is waiting for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from rendezvous_raft.config import Address
from rendezvous_raft.monitor.metrics import MonitorMetrics
from rendezvous_raft.monitor.monitor import Monitor, MonitorStatistics
from rendezvous_raft.observability.metrics import CONTENT_TYPE, MetricsRegistry

PENDING_SHOWN_MAX = 1_000
"""Pending branches that /statusz lists, over all entries (M13)."""
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class StatusSources:
    """What the page shows."""

    monitors: Sequence[Monitor]
    registry: MetricsRegistry
    metrics: MonitorMetrics
    settings: dict[str, object]


class StatusPage:
    """Serves /livez, /readyz, /metrics and /statusz. Reads only."""

    def __init__(self, sources: StatusSources) -> None:
        self._sources = sources
        self._runner: web.AppRunner | None = None

    async def start(self, address: Address) -> int:
        """Listens; returns the port.

        Raises:
            OSError: the address is taken or not of this machine.
        """
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        self._runner = runner
        await runner.setup()
        await web.TCPSite(runner, address.host, address.port).start()
        return int(runner.addresses[0][1])

    async def close(self) -> None:
        """Stops listening. Twice is harmless."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=1024)
        application.router.add_get("/livez", self.livez)
        application.router.add_get("/readyz", self.readyz)
        application.router.add_get("/metrics", self.metrics)
        application.router.add_get("/statusz", self.statusz)
        return application

    async def livez(self, request: web.Request) -> web.Response:
        """200 while the loop turns."""
        del request
        return web.Response(text="ok\n", headers=_HEADERS)

    async def readyz(self, request: web.Request) -> web.Response:
        """200 while every entry sees new branches and can look for them (M11); one line each."""
        del request
        lines = []
        ready = True
        for statistics in self._statistics():
            ready &= statistics.ready
            mark, why = ("+", "ok") if statistics.ready else ("-", _why_not_ready(statistics))
            selection = statistics.selection
            lines.append(f"[{mark}]{selection.service}/{selection.region} {why}\n")
        return web.Response(text="".join(lines), status=200 if ready else 503, headers=_HEADERS)

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text format."""
        del request
        for statistics in self._statistics():
            self._sources.metrics.set_pending(statistics)
        body = self._sources.registry.render()
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    async def statusz(self, request: web.Request) -> web.Response:
        """Entries and their pending branches, oldest first."""
        del request
        share = max(1, PENDING_SHOWN_MAX // max(1, len(self._sources.monitors)))
        watches = [
            {
                **dataclasses.asdict(monitor.statistics()),
                "ready": monitor.statistics().ready,
                "pending_branches": [
                    dataclasses.asdict(view) for view in monitor.pending(limit=share)
                ],
            }
            for monitor in self._sources.monitors
        ]
        page = {"settings": self._sources.settings, "watches": watches}
        return web.Response(
            text=json.dumps(page, indent=1) + "\n",
            content_type="application/json",
            headers=_HEADERS,
        )

    def _statistics(self) -> list[MonitorStatistics]:
        return [monitor.statistics() for monitor in self._sources.monitors]


def _why_not_ready(statistics: MonitorStatistics) -> str:
    if statistics.denied:
        return "the service refuses this monitor's identity"
    if not statistics.synced:
        return f"not subscribed: {statistics.last_break or 'the list has not ended yet'}"
    return f"{statistics.datastore}: {statistics.datastore_error or 'did not answer yet'}"
