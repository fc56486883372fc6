"""Makes probes from settings. A driver is imported only when a probe needs it."""

from __future__ import annotations

from rendezvous_raft.config import ConfigError
from rendezvous_raft.monitor.ports import Probe
from rendezvous_raft.monitor.probes.embedded import EmbeddedProbe
from rendezvous_raft.monitor.settings import EmbeddedProbeConfig, RedisProbeConfig


def build_probe(config: RedisProbeConfig | EmbeddedProbeConfig) -> Probe:
    """The probe that the settings describe; it connects on first use.

    Raises:
        ConfigError: its driver is not installed.
        ProbeMisconfigured: an endpoint is malformed.
    """
    match config:
        case EmbeddedProbeConfig():
            return EmbeddedProbe(config.path)
        case RedisProbeConfig():
            try:
                from rendezvous_raft.monitor.probes.redis import (  # noqa: PLC0415 - an extra
                    RedisProbe,
                )
            except ModuleNotFoundError as error:
                problem = "probe.kind: needs the driver; install rendezvous-raft[redis]"
                raise ConfigError((problem,)) from error
            return RedisProbe(config.endpoints, strict=config.strict)
