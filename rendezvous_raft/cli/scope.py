"""What a wait or a check looks at, on the command line (semantics S1 to S5)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rendezvous_raft.client.results import ScopeDescription

_F = TypeVar("_F", bound=Callable[..., Any])


def scope_options(*, mutual_waits: bool) -> Callable[[_F], _F]:
    """Adds the options of a scope; the command gets them as `scope`, a `ScopeDescription`.

    Args:
        mutual_waits: Whether `--waiter-service` is among them: a check has no waiter.
    """

    def decorate(command: _F) -> _F:
        @functools.wraps(command)
        def with_scope(
            *args: Any,
            services: tuple[str, ...],
            region: str,
            tag: str,
            zone: str | None,
            wait_dependencies: bool,
            waiter_service: str = "",
            **others: Any,
        ) -> Any:
            scope = ScopeDescription(services, region, tag, zone, waiter_service, wait_dependencies)
            return command(*args, scope=scope, **others)

        made: Any = with_scope
        for option in reversed(_options() + (_waiter_option(),) * mutual_waits):
            made = option(made)
        decorated: _F = made
        return decorated

    return decorate


def _options() -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "--service",
            "services",
            multiple=True,
            help="Only this service; repeatable.  [default: all]",
        ),
        click.option("--region", default="", help="Region of the reader.  [default: any region]"),
        click.option("--tag", default="", help="Only branches with this tag; needs one --service."),
        click.option(
            "--zone",
            help="Zone of the reader, '' for the root zone; its own branches are left out."
            "  [default: no branch is left out]",
        ),
        click.option(
            "--wait-dependencies",
            is_flag=True,
            help="Also the services that depend on these, directly or not.",
        ),
    )


def _waiter_option() -> Callable[[Any], Any]:
    return click.option(
        "--waiter-service",
        default="",
        metavar="NAME",
        help="Service of the reader: services that are blocked waiting for it are left out.",
    )


def scope_text(scope: ScopeDescription) -> str:
    """A scope for people: `services post, audit · region us`."""
    parts = [
        ("services " if len(scope.services) > 1 else "service ") + ", ".join(scope.services)
        if scope.services
        else "all services",
        f"region {scope.region}" if scope.region else "any region",
    ]
    if scope.wait_dependencies:
        parts.insert(1, "and what depends on them")
    if scope.tag:
        parts.append(f"tag {scope.tag}")
    if scope.zone is not None:
        parts.append(f"zone {scope.zone or '(root)'}")
    if scope.waiter_service:
        parts.append(f"waiter {scope.waiter_service}")
    return " · ".join(parts)
