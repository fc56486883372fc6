"""Settings of a monitor process: a TOML file, validated once. Every fault names its field.

endpoints = ["127.0.0.1:7600"]

[[watch]]
service = "post-storage"
region = "eu"
probe = { kind = "redis", endpoints = ["redis://127.0.0.1:6379"] }
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from rendezvous_raft.config import Address, ConfigError, describe_faults
from rendezvous_raft.errors import InvalidArgument
from rendezvous_raft.limits import NAME_BYTES_MAX, SUBSCRIPTION_TAGS_MAX
from rendezvous_raft.monitor.monitor import PROBES_PER_SECOND
from rendezvous_raft.monitor.ports import Selection
from rendezvous_raft.tls_files import TlsFiles
from rendezvous_raft.types import Region, Service, Tag

WATCHES_MAX = 256
"""Entries of one process; each has its own subscription."""
DEFAULT_HTTP_ADDRESS = "127.0.0.1:7690"
_PASSWORD = re.compile(r"(?<=://)[^/@]*@")


def _check_address(text: str) -> str:
    Address.parse(text)
    return text


def _check_name(text: str) -> str:
    if not text or len(text.encode()) > NAME_BYTES_MAX or not text.isprintable():
        raise ValueError(f"must be 1 to {NAME_BYTES_MAX} bytes without control characters")
    return text


Name = Annotated[str, AfterValidator(_check_name)]
HostPort = Annotated[str, AfterValidator(_check_address)]
_STRICT = ConfigDict(frozen=True, extra="forbid")


class RedisProbeConfig(BaseModel):
    """Looks for marker keys in Redis."""

    model_config = _STRICT

    kind: Literal["redis"] = "redis"
    endpoints: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    """`redis://` or `rediss://`, one per replica that serves reads of the region."""
    strict: bool = False
    """Refuse a server that may evict markers, instead of a warning."""


class EmbeddedProbeConfig(BaseModel):
    """Looks into the SQLite file of the embedded store of the demonstrations."""

    model_config = _STRICT

    kind: Literal["embedded"] = "embedded"
    path: Path


ProbeConfig = Annotated[RedisProbeConfig | EmbeddedProbeConfig, Field(discriminator="kind")]


class WatchConfig(BaseModel):
    """One service in one region, and how to look for its branches."""

    model_config = _STRICT

    service: Name
    region: Name
    tags: Annotated[tuple[Name, ...], Field(max_length=SUBSCRIPTION_TAGS_MAX)] = ()
    """Only branches with one of these tags; none: all."""
    group: str = ""
    """Monitors of one group share the branches, also at different nodes; empty: this one watches
    all of them."""
    max_probes_per_second: Annotated[float, Field(gt=0, le=10_000_000)] = PROBES_PER_SECOND
    """Branches looked for in a second, at most."""
    probe: ProbeConfig

    def to_selection(self) -> Selection:
        """The value that the monitor takes."""
        return Selection(
            service=Service(self.service),
            region=Region(self.region),
            tags=tuple(Tag(tag) for tag in self.tags),
            group=self.group,
        )


class MonitorConfig(BaseModel):
    """Everything that one monitor process is told. Frozen; faults name their field."""

    model_config = _STRICT

    endpoints: Annotated[tuple[HostPort, ...], Field(min_length=1)]
    """Nodes of the metadata service, nearest first: the first releases its waiters first."""
    watch: Annotated[tuple[WatchConfig, ...], Field(min_length=1, max_length=WATCHES_MAX)]
    tls_ca: str = ""
    """PEM file of the authorities that nodes must be signed by; none of `tls_*`: plain text."""
    tls_cert: str = ""
    """PEM file with the certificate that nodes are shown, where they ask for one."""
    tls_key: str = ""
    http_address: HostPort | None = DEFAULT_HTTP_ADDRESS
    """Where /readyz, /statusz and /metrics are served."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @model_validator(mode="after")
    def _refuse_duplicates(self) -> Self:
        # Two equal entries would do everything twice; two of one group would share for nothing.
        selections = [watch.to_selection() for watch in self.watch]
        if len(set(selections)) != len(selections):
            raise ValueError("watch: two entries watch the same")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        try:
            self.tls_files.credentials()
        except InvalidArgument as error:
            raise ValueError(error.message) from error
        return self

    @property
    def tls_files(self) -> TlsFiles:
        """What the clients of the process show and expect."""
        return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)

    def masked(self) -> dict[str, object]:
        """Every setting as JSON can show it, without passwords."""
        dump: dict[str, object] = _mask(self.model_dump(mode="json"))  # type: ignore[assignment]
        return dump


def load_monitor_config(
    file: Path | None = None, overrides: Mapping[str, object] | None = None
) -> MonitorConfig:
    """Reads a file and flags, and checks the result once.

    Args:
        file: TOML file; None reads none.
        overrides: settings by name, which win over the file; None values are left out.

    Raises:
        ConfigError: a setting is wrong or unknown, or the file cannot be read.
    """
    flags = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        settings = {} if file is None else tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError((f"{file}: {error}",)) from error
    try:
        return MonitorConfig.model_validate(settings | flags)
    except ValidationError as error:
        raise ConfigError(describe_faults(error)) from None


def _mask(setting: object) -> object:
    match setting:
        case dict():
            return {name: _mask(value) for name, value in setting.items()}
        case list():
            return [_mask(value) for value in setting]
        case str():
            return _PASSWORD.sub("********@", setting)
        case _:
            return setting
