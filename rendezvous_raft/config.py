"""Typed settings of a node: file (TOML) < environment `RENDEZVOUS_*` < flags, validated once.

`load_node_config` is the door for the command line; `NodeConfig(...)` builds one in code and reads
neither file nor environment. Every fault names its field. What a setting means stands beside it.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from rendezvous_raft.limit_ranges import check_limits
from rendezvous_raft.limits import NAME_BYTES_MAX, NodeLimits
from rendezvous_raft.membership import MEMBERS_MAX, MemberConfig, RaftTimers
from rendezvous_raft.types import NodeName, Region

ENVIRONMENT_PREFIX = "RENDEZVOUS_"
DEFAULT_GRPC_ADDRESS = "127.0.0.1:7600"
DEFAULT_HTTP_ADDRESS = "127.0.0.1:7601"
SOLE_RAFT_ADDRESS = "127.0.0.1:0"
"""Of a node that has no peers: nobody needs to find it."""
NODE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
COMPAT_SETTINGS = ("compat_main_address", "compat_words23_address")
COMPAT_NAME_LENGTH_MAX = 48
"""The name stands twice in an id `rv_<name>_<k>:rv_<name>_<n>`, which has at most 128 bytes."""
SECRET_SUFFIXES = ("_key", "_secret", "_password", "_token")
MASK = "********"


class ConfigError(ValueError):
    """The configuration cannot be used; `problems` has one line per field. Correct it."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address; an IPv6 host stands in brackets. Port 0 means any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `host:port`.

        Raises:
            ValueError: it is something else.
        """
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):(\d{1,5})", text)
        if match is None or int(match[2]) > 65_535:
            raise ValueError(f"must be host:port, not {text!r}")
        return cls(host=match[1].strip("[]"), port=int(match[2]))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost counts as not."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every interface, so that nobody can dial it."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def check_dialable(text: str) -> str:
    """The address, if others can dial it.

    Raises:
        ValueError: it is no address, or stands for every interface or any port.
    """
    address = Address.parse(text)
    if address.is_wildcard or address.port == 0:
        raise ValueError(f"must be an address that others can dial, not {text!r}")
    return text


def _check_region(text: str) -> str:
    if len(text.encode()) > NAME_BYTES_MAX or not text.isprintable():
        raise ValueError(f"must be at most {NAME_BYTES_MAX} bytes without control characters")
    return text


Name = Annotated[str, Field(pattern=NODE_NAME_PATTERN)]
RegionName = Annotated[str, Field(min_length=1), AfterValidator(_check_region)]
BindAddress = Annotated[str, AfterValidator(lambda text: str(Address.parse(text)))]
DialAddress = Annotated[str, AfterValidator(check_dialable)]
_STRICT = ConfigDict(frozen=True, extra="forbid")


class MemberSettings(BaseModel):
    """One member as the configuration lists it; its addresses are what others dial."""

    model_config = _STRICT

    name: Name
    region: RegionName
    raft_address: DialAddress
    grpc_address: DialAddress
    http_address: DialAddress

    def to_member(self) -> MemberConfig:
        """The value that the engine takes."""
        return MemberConfig(
            name=NodeName(self.name),
            region=Region(self.region),
            raft_address=self.raft_address,
            grpc_address=self.grpc_address,
            http_address=self.http_address,
        )


class TimerSettings(BaseModel):
    """How patient the engine is: a profile, and single values that override it."""

    model_config = _STRICT

    profile: Literal["lan", "wan"] = "lan"
    rtt_max_ms: Annotated[float, Field(gt=0, le=5_000)] = 100.0
    """Largest round trip between two members; the profile `wan` is derived from it."""
    heartbeat_ms: Annotated[float, Field(gt=0, le=60_000)] | None = None
    election_min_ms: Annotated[float, Field(gt=0, le=600_000)] | None = None
    election_max_ms: Annotated[float, Field(gt=0, le=600_000)] | None = None

    @model_validator(mode="after")
    def _refuse_impatience(self) -> Self:
        self.to_timers()
        return self

    def to_timers(self) -> RaftTimers:
        """The value that the engine takes."""
        base = RaftTimers.lan() if self.profile == "lan" else RaftTimers.wan(self.rtt_max_ms / 1e3)
        overrides = {
            field.name: value / 1e3
            for field in dataclasses.fields(RaftTimers)
            if (value := getattr(self, field.name.removesuffix("_s") + "_ms")) is not None
        }
        return dataclasses.replace(base, **overrides)


class NodeConfig(BaseModel):
    """Everything that one node is told. Frozen; faults name their field."""

    model_config = _STRICT

    name: Name = "node-1"
    region: RegionName = "local"
    """Region that this node serves; with `members`, the one listed for it."""
    cluster_id: Name = "rendezvous"
    """Nodes of different clusters refuse each other."""
    data_dir: Path | None = None
    """Where log and snapshots are; None keeps everything in memory, for a single node only."""
    grpc_address: BindAddress | None = None
    """Address to listen on for clients; by default this member's own, or a loopback port."""
    http_address: BindAddress | None = None
    """Address to listen on for health, metrics and status; it is always plain HTTP."""
    compat_main_address: BindAddress | None = None
    """Address for clients of the original's format `main`; None: they are not served."""
    compat_words23_address: BindAddress | None = None
    """Address for clients of the original's format `words23`; None: they are not served."""
    raft_address: BindAddress | None = None
    """Address to listen on for peers; by default this member's own."""
    members: Annotated[tuple[MemberSettings, ...], Field(max_length=MEMBERS_MAX)] = ()
    """All members, this node among them; empty: a single node."""
    join: bool = False
    """Whether a node without data comes to a cluster that exists, rather than to found one."""
    timers: TimerSettings = TimerSettings()
    early_release: bool = True
    """Whether a close releases the waits of this node before it commits (semantics R6)."""
    insecure: bool = False
    """Allows clients without TLS to reach this node from other machines."""
    insecure_raft: bool = False
    """Allows peers without TLS on other machines: whoever reaches the port can change the state."""
    raft_tls_cert: FilePath | None = None
    """PEM certificate chain of this member, with its identity; set all of `raft_tls_*` or none."""
    raft_tls_key: FilePath | None = None
    raft_tls_ca: FilePath | None = None
    """PEM certificates of the authorities that members must be signed by."""
    grpc_tls_cert: FilePath | None = None
    """PEM certificate chain of this node; set all three of `grpc_tls_*` or none."""
    grpc_tls_key: FilePath | None = None
    grpc_tls_client_ca: FilePath | None = None
    """PEM certificates of the authorities that clients must be signed by."""
    grpc_streams_per_connection_max: Annotated[int, Field(ge=16, le=1_000_000)] = 4_096
    """Calls at once on one connection: a parked wait is one, and must not keep out a close."""
    reflection: bool = False
    """Whether gRPC reflection is served; meant for development."""
    limits: dict[str, int] = Field(default_factory=dict)
    """Fields of `NodeLimits` that differ from their defaults."""
    metrics_names_max: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Services, and regions, that get a label of their own; the others are counted as `other`."""
    ready_lag_max: Annotated[int, Field(ge=1)] = 10_000
    """Entries that a ready node may be behind what it knows to be committed."""
    drain_timeout_s: Annotated[float, Field(ge=0, le=600)] = 10.0
    """Time that calls in progress get to finish when the node shuts down."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    paranoid: bool = False
    """Checks the invariants of the state while it runs; slow."""

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        check_limits(self.limits)
        return self

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        if not self.members:
            return self
        names = [member.name for member in self.members]
        for field in ("name", "raft_address", "grpc_address", "http_address"):
            values = [getattr(member, field) for member in self.members]
            if len(set(values)) != len(values):
                raise ValueError(f"members: two of them have the same {field}")
        if self.name not in names:
            raise ValueError(f"name: {self.name!r} is not among the members ({', '.join(names)})")
        own = self.members[names.index(self.name)]
        if "region" in self.model_fields_set and self.region != own.region:
            raise ValueError(f"region: {self.region!r}, but members says {own.region!r}")
        if self.data_dir is None:
            raise ValueError("data_dir: a member that votes must keep its log on disk; set it")
        return self

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        if self.compat_binds and len(self.name) > COMPAT_NAME_LENGTH_MAX:
            raise ValueError(f"name: at most {COMPAT_NAME_LENGTH_MAX} characters with compat_*")
        tls = (self.grpc_tls_cert, self.grpc_tls_key, self.grpc_tls_client_ca)
        if any(tls) and not all(tls):
            raise ValueError("grpc_tls_cert, grpc_tls_key, grpc_tls_client_ca: set all or none")
        for setting, bind in {"grpc_address": self.grpc_bind, **self.compat_binds}.items():
            if not (self.has_tls or self.insecure or bind.is_loopback):
                raise ValueError(
                    f"{setting}: {bind} can be reached from other machines;"
                    " set grpc_tls_cert, grpc_tls_key and grpc_tls_client_ca, or insecure=true"
                )
        raft_tls = (self.raft_tls_cert, self.raft_tls_key, self.raft_tls_ca)
        if any(raft_tls) and not all(raft_tls):
            raise ValueError("raft_tls_cert, raft_tls_key, raft_tls_ca: set all or none")
        if self.has_raft_tls or self.insecure_raft:
            return self
        raft = [*(member.raft_address for member in self.members), str(self.raft_bind)]
        exposed = [text for text in raft if not Address.parse(text).is_loopback]
        if exposed:
            raise ValueError(
                f"raft_address: {exposed[0]} is not loopback;"
                " set raft_tls_cert, raft_tls_key and raft_tls_ca, or, on a network that only"
                " members reach, insecure_raft=true"
            )
        return self

    @property
    def has_tls(self) -> bool:
        """Whether clients must come with TLS and a certificate."""
        return self.grpc_tls_cert is not None

    @property
    def has_raft_tls(self) -> bool:
        """Whether members must come with TLS and a certificate."""
        return self.raft_tls_cert is not None

    @property
    def own_member(self) -> MemberSettings | None:
        """This node's entry of `members`; None for a single node."""
        return next((member for member in self.members if member.name == self.name), None)

    @property
    def effective_region(self) -> str:
        """Region of this node."""
        return self.own_member.region if self.own_member else self.region

    @property
    def grpc_bind(self) -> Address:
        """Where to listen for clients."""
        own = self.own_member.grpc_address if self.own_member else DEFAULT_GRPC_ADDRESS
        return Address.parse(self.grpc_address or own)

    @property
    def compat_binds(self) -> dict[str, Address]:
        """Where to listen for clients of the originals, by setting; only those that are served."""
        given = {name: getattr(self, name) for name in COMPAT_SETTINGS}
        return {name: Address.parse(text) for name, text in given.items() if text is not None}

    @property
    def http_bind(self) -> Address:
        """Where to listen for HTTP."""
        own = self.own_member.http_address if self.own_member else DEFAULT_HTTP_ADDRESS
        return Address.parse(self.http_address or own)

    @property
    def raft_bind(self) -> Address:
        """Where to listen for peers; of no use to a single node in memory."""
        own = self.own_member.raft_address if self.own_member else SOLE_RAFT_ADDRESS
        return Address.parse(self.raft_address or own)

    @property
    def in_memory(self) -> bool:
        """Whether everything is lost with the process."""
        return not self.members and self.data_dir is None

    def node_limits(self) -> NodeLimits:
        """The bounds of this node."""
        return dataclasses.replace(NodeLimits(), **self.limits)

    def masked(self) -> dict[str, object]:
        """Every setting as JSON can show it, secrets masked."""
        dump: dict[str, object] = self.model_dump(mode="json")
        return {
            name: MASK if value is not None and name.endswith(SECRET_SUFFIXES) else value
            for name, value in dump.items()
        }

    def __repr__(self) -> str:
        return f"NodeConfig({', '.join(f'{k}={v!r}' for k, v in self.masked().items())})"

    __str__ = __repr__


class _LayeredNodeConfig(NodeConfig, BaseSettings):
    """The same settings, read from their three layers; the first source wins."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        layers = init_settings()
        file = InitSettingsSource(settings_cls, init_kwargs=layers.get("file", {}))
        flags = InitSettingsSource(settings_cls, init_kwargs=layers.get("flags", {}))
        return flags, env_settings, file


def load_node_config(
    file: Path | None = None, overrides: Mapping[str, object] | None = None
) -> NodeConfig:
    """Reads file, environment and flags, and checks the result once.

    Args:
        file: TOML file; None reads none.
        overrides: flags by setting name, which win over everything; None values are left out.

    Raises:
        ConfigError: a setting is wrong or unknown, or the file cannot be read.

    Example:
        >>> load_node_config(overrides={"name": "eu-1"}).name
        'eu-1'
    """
    flags = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        settings = {} if file is None else tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError((f"{file}: {error}",)) from error
    try:
        return _LayeredNodeConfig(file=settings, flags=flags)  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigError(describe_faults(error)) from None
    except SettingsError as error:
        raise ConfigError((str(error),)) from error


def describe_faults(error: ValidationError) -> tuple[str, ...]:
    """One line per fault, each beginning with the setting that it is about."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault["loc"])
        field = "".join(steps).removeprefix(".")
        cause = fault.get("ctx", {}).get("error")
        message = str(cause) if cause is not None else fault["msg"]
        lines.append(f"{field}: {message}" if field else message)
    return tuple(lines)
