"""The HTTP surface: health, metrics, introspection. Reads only; on the node's own loop."""

from __future__ import annotations

import html
import json
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from rendezvous_raft import errors
from rendezvous_raft.config import Address, ConfigError
from rendezvous_raft.node.calls import DescriptionQuery, Freshness
from rendezvous_raft.observability.metrics import CONTENT_TYPE
from rendezvous_raft.server.fields import check_id
from rendezvous_raft.server.statusz import describe_request
from rendezvous_raft.types import Consistency, RequestId

if TYPE_CHECKING:
    from rendezvous_raft.node.node import Node
    from rendezvous_raft.observability.metrics import MetricsRegistry, NodeMetrics
    from rendezvous_raft.server.health import HealthChecks, HealthReport
    from rendezvous_raft.server.statusz import StatusPage

BACKLOG = 128
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_HTML_HEADERS = {**_HEADERS, "Content-Security-Policy": "default-src 'none'; style-src 'self'"}
_LINKS = {
    "/livez": "whether the process turns",
    "/readyz?verbose": "whether clients should come here, check by check",
    "/statusz": "node, cluster, counts, limits and settings as JSON",
    "/metrics": "Prometheus metrics",
}
_HTTP_STATUS: tuple[tuple[type[errors.RendezvousError], int], ...] = (
    (errors.InvalidArgument, 400),
    (errors.NotFound, 404),
    (errors.RequestExpired, 410),
    (errors.Unavailable, 503),
    (errors.DeadlineExceeded, 504),
)


def listen(address: Address) -> socket.socket:
    """A bound and listening socket.

    Raises:
        ConfigError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError((f"http_address: cannot listen on {address}: {error}",)) from error


class HttpSurface:
    """The handlers, and the server that runs them."""

    def __init__(
        self,
        *,
        node: Node,
        checks: HealthChecks,
        status_page: StatusPage,
        registry: MetricsRegistry,
        node_metrics: NodeMetrics,
    ) -> None:
        self._node = node
        self._checks = checks
        self._status_page = status_page
        self._registry = registry
        self._node_metrics = node_metrics
        self._runner: web.AppRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serves on a socket made by `listen`."""
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Stops serving; may take a second for requests in progress."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=1024)
        application.router.add_get("/", self.index)
        application.router.add_get("/livez", self.livez)
        application.router.add_get("/readyz", self.readyz)
        application.router.add_get("/metrics", self.metrics)
        application.router.add_get("/statusz", self.statusz)
        application.router.add_get("/requests/{request_id:.+}", self.request)
        return application

    async def index(self, request: web.Request) -> web.Response:
        """Links for people."""
        del request
        status = self._node.status()
        title = html.escape(f"Rendezvous node {status.name} ({status.region})")
        links = "".join(
            f'<li><a href="{html.escape(path)}">{html.escape(path)}</a> {html.escape(text)}</li>'
            for path, text in _LINKS.items()
        )
        page = (
            f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1>'
            f"<ul>{links}<li>/requests/&lt;id&gt; one request as JSON</li></ul></html>\n"
        )
        return web.Response(text=page, content_type="text/html", headers=_HTML_HEADERS)

    async def livez(self, request: web.Request) -> web.Response:
        """200 while the process turns."""
        return self._health(request, self._checks.live(exclude=_excluded(request)))

    async def readyz(self, request: web.Request) -> web.Response:
        """200 while clients should come here; each check on a line."""
        return self._health(request, self._checks.ready(exclude=_excluded(request)))

    def _health(self, request: web.Request, report: HealthReport) -> web.Response:
        text = f"{report}\n"
        if "verbose" in request.query:
            status = self._node.status()
            text += (
                f"node {status.name} region {status.region} role {status.role.value}"
                f" term {status.term} leader {status.leader} revision {status.revision}\n"
            )
        return web.Response(text=text, status=200 if report.ok else 503, headers=_HEADERS)

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus text."""
        del request
        self._node_metrics.refresh(status=self._node.status(), statistics=self._node.statistics())
        headers = {**_HEADERS, "Content-Type": CONTENT_TYPE}
        return web.Response(body=self._registry.render(), headers=headers)

    async def statusz(self, request: web.Request) -> web.Response:
        """Introspection."""
        del request
        return _json(self._status_page.render())

    async def request(self, request: web.Request) -> web.Response:
        """A request, as this node has it."""
        timeout_s = self._node.limits.call_timeout_ms_max / 1000
        try:
            request_id = check_id(request.match_info["request_id"], "request_id")
            description = await self._node.describe(
                DescriptionQuery(RequestId(request_id), freshness=Freshness(Consistency.LOCAL)),
                deadline_s=self._node.clock.monotonic_s() + timeout_s,
            )
        except errors.RendezvousError as error:
            body = {"code": error.code, "message": error.message, "details": error.details}
            return _json(body, status=_http_status(error))
        return _json(describe_request(description))


def _excluded(request: web.Request) -> frozenset[str]:
    return frozenset(request.query.getall("exclude", []))


def _http_status(error: errors.RendezvousError) -> int:
    return next((status for cls, status in _HTTP_STATUS if isinstance(error, cls)), 500)


def _json(body: object, *, status: int = 200) -> web.Response:
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    return web.Response(text=text, status=status, content_type="application/json", headers=_HEADERS)
