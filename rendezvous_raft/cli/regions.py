"""Lists of regions and their distances on the command line."""

from __future__ import annotations

import click

from rendezvous_raft.devcluster.latencies import RegionLatencies


def parse_regions(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    """Callback of an option that takes `eu,us,ap`."""
    if text is None:
        return None
    regions = tuple(part.strip() for part in text.split(","))
    if not all(regions) or len(set(regions)) != len(regions):
        raise click.BadParameter("give different names, as in eu,us,ap", ctx=ctx, param=param)
    return regions


def parse_latencies(
    text: str, *, regions: tuple[str, ...], default_ms: float = 0.0
) -> RegionLatencies:
    """Reads `--rtt-ms`.

    Raises:
        click.BadParameter: With the sentence that says what is wrong.
    """
    try:
        return RegionLatencies.parse(text, regions=regions, default_ms=default_ms)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--rtt-ms") from None
