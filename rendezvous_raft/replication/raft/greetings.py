"""What a dialer says first: the cluster, itself, and whom it takes the other for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from rendezvous_raft.replication.codec import COMMAND_VERSION
from rendezvous_raft.replication.raft.frames import FRAME_VERSION, FrameError
from rendezvous_raft.replication.raft.metadata import Birth


@dataclass(frozen=True, slots=True)
class Caller:
    """Who dials."""

    name: str
    address: str
    """Where it can be dialed, host:port."""
    birth: Birth
    """Of the data directory that speaks for it."""
    answering: bool = False
    """Whether it dials only because it was dialed, by one that it does not know."""
    command_version: int = COMMAND_VERSION
    """Highest version of commands that it can apply."""


def greeting_of(caller: Caller, *, cluster_id: str, receiver: str) -> dict[str, Any]:
    """The greeting as a message."""
    return {
        "type": "hello",
        "version": FRAME_VERSION,
        "cluster": cluster_id,
        "to": receiver,
        "from": caller.name,
        "address": caller.address,
        "incarnation": caller.birth.incarnation,
        "founding": caller.birth.founding,
        "answering": caller.answering,
        "commands": caller.command_version,
    }


def read_greeting(greeting: dict[str, Any], *, cluster_id: str, receiver: str) -> Caller:
    """Who greets. Raises `FrameError` if it is not meant for `receiver`, or is no greeting."""
    expected = ("hello", FRAME_VERSION, cluster_id, receiver)
    found = tuple(greeting.get(key) for key in ("type", "version", "cluster", "to"))
    if found != expected:
        raise FrameError(f"its greeting says {found!r}, expected is {expected!r}")
    keys = ("from", "address", "incarnation", "founding", "answering")
    fields = tuple(greeting.get(key) for key in keys)
    if [type(field) for field in fields] != [str, str, int, bool, bool]:
        raise FrameError(f"its greeting says {fields!r} for {keys!r}")
    name, address, incarnation, founding, answering = cast(
        "tuple[str, str, int, bool, bool]", fields
    )
    if name == receiver:
        raise FrameError(f"it calls itself {name!r}, as we do")
    try:
        split_address(address)
    except ValueError:
        raise FrameError(f"{name!r} says that it is at {address!r}") from None
    # Who does not say knows what there was before anybody said.
    command_version = greeting.get("commands", 1)
    if type(command_version) is not int:
        raise FrameError(f"its greeting says {command_version!r} for 'commands'")
    birth = Birth(incarnation, founding=founding)
    return Caller(name, address, birth, answering=answering, command_version=command_version)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; the host may be a bracketed IPv6 address.

    Raises:
        ValueError: the port is none. It would be an `OverflowError` where it is dialed.
    """
    host, _, text = address.rpartition(":")
    port = int(text)
    if not 0 <= port <= 65_535:
        raise ValueError(f"{port} is no port")
    return host.strip("[]"), port
