"""What every command shares: which cluster, which form of output, and one way to fail.

The options stand on `rendezvous` itself and on each command (`shared_options`), so that both
`rendezvous -o json cluster status` and `rendezvous cluster status -o json` work.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rendezvous_raft.cli.exits import ExitCode, effect_of, exit_code_for, next_step_for
from rendezvous_raft.cli.output import OutputFormat, default_format
from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.tls_files import TlsFiles

if TYPE_CHECKING:
    from rendezvous_raft import AsyncClient

DEFAULT_ENDPOINTS = "127.0.0.1:7600"

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
Connect = Callable[[str], "AsyncClient"]
"""Makes a client for endpoints `host:port,host:port`; tests give their own."""


def connect(endpoints: str, tls: TlsFiles | None = None) -> AsyncClient:
    """A real client. Connects lazily; close it by `async with`.

    Raises:
        InvalidArgument: an endpoint is none, or a file of `tls` cannot be used.
    """
    from rendezvous_raft import AsyncClient  # noqa: PLC0415 - grpc is loaded only when needed

    return AsyncClient(endpoints, credentials=None if tls is None else tls.credentials())


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """The shared options of one invocation."""

    endpoints: str = DEFAULT_ENDPOINTS
    endpoints_given: bool = False
    """Whether the caller named them, by flag or environment."""
    output: OutputFormat | None = None
    """None: by the kind of standard output."""
    quiet: bool = False
    no_color: bool = False
    tls: TlsFiles = dataclasses.field(default_factory=TlsFiles)
    connect: Connect = connect

    @property
    def form(self) -> OutputFormat:
        """The form of output to use."""
        return self.output or default_format()

    @property
    def color(self) -> bool | None:
        """False for none, also by `NO_COLOR`; None leaves it to the terminal."""
        return False if self.no_color or os.environ.get("NO_COLOR") else None

    @property
    def endpoint_list(self) -> tuple[str, ...]:
        """The endpoints one by one."""
        return tuple(filter(None, (part.strip() for part in self.endpoints.split(","))))

    def note(self, text: str) -> None:
        """Says something on standard error, unless asked to be quiet."""
        if not self.quiet:
            click.echo(text, err=True)


def session_of(ctx: click.Context) -> Session:
    """The session of this invocation."""
    session = ctx.obj
    if not isinstance(session, Session):
        raise TypeError("the root command makes the session")
    return session


def shared_options(command: _F) -> _F:
    """Adds the options of `rendezvous` itself to a command; given here, they win."""
    command = output_options(command)
    for field, text in reversed(_TLS_OPTIONS):
        command = click.option(
            f"--{field.replace('_', '-')}",
            metavar="FILE",
            help=text,
            expose_value=False,
            callback=_amend(field),
        )(command)
    return _endpoints_option()(command)


def output_options(command: _F) -> _F:
    """The same for a command that asks no running cluster."""
    for option in reversed(_output_options()):
        command = option(command)
    return command


_TLS_OPTIONS = (
    ("tls_ca", "Speak TLS, with nodes signed by these authorities (PEM)."),
    ("tls_cert", "Certificate to show to nodes (PEM); also give --tls-key."),
    ("tls_key", "Its private key (PEM)."),
)


def _endpoints_option() -> Callable[[_F], _F]:
    return click.option(
        "--endpoints",
        metavar="HOST:PORT,…",
        help=f"Nodes to ask, the nearest first.  [default: {DEFAULT_ENDPOINTS}]",
        expose_value=False,
        callback=_amend("endpoints"),
    )


def _output_options() -> tuple[Callable[[_F], _F], ...]:
    return (
        click.option(
            "-o",
            "--output",
            type=click.Choice([form.value for form in OutputFormat]),
            help="Form of the answer: by default a table on a terminal, plain columns in a pipe.",
            expose_value=False,
            callback=_amend("output"),
        ),
        click.option(
            "--quiet",
            is_flag=True,
            default=None,
            help="No progress and no hints on standard error.",
            expose_value=False,
            callback=_amend("quiet"),
        ),
        click.option(
            "--no-color",
            is_flag=True,
            default=None,
            help="No colors; so does NO_COLOR in the environment.",
            expose_value=False,
            callback=_amend("no_color"),
        ),
    )


def _amend(field: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def amend(ctx: click.Context, param: click.Parameter, value: object) -> None:
        if value is None:
            return
        if field == "endpoints" and not str(value).strip(" ,"):
            raise click.BadParameter("names no node", ctx=ctx, param=param)
        session = ctx.obj if isinstance(ctx.obj, Session) else Session()
        match field:
            case "endpoints":
                ctx.obj = dataclasses.replace(session, endpoints=str(value), endpoints_given=True)
            case "output":
                ctx.obj = dataclasses.replace(session, output=OutputFormat(value))
            case "tls_ca" | "tls_cert" | "tls_key":
                tls = dataclasses.replace(session.tls, **{field: str(value)})
                ctx.obj = dataclasses.replace(session, tls=tls, connect=partial(connect, tls=tls))
            case "quiet":
                ctx.obj = dataclasses.replace(session, quiet=bool(value))
            case _:
                ctx.obj = dataclasses.replace(session, no_color=bool(value))

    return amend


def run(session: Session, work: Callable[[], Awaitable[_T]], *, writes: bool) -> _T:
    """Runs the coroutine of a command; turns its failure into words and an exit status.

    Args:
        session: For the form of the message.
        work: What to run.
        writes: Whether the command changes something.

    Raises:
        click.exceptions.Exit: The command failed; the message has been printed.
    """

    async def main() -> _T:
        return await work()

    try:
        return asyncio.run(main())
    except RendezvousError as error:
        code = exit_code_for(error, writes=writes)
        print_failure(
            session,
            code=error.code,
            what=error.message,
            effect=effect_of(error, writes=writes),
            next_step=next_step_for(error, writes=writes),
            definite=error.definite,
            details=error.details,
        )
        raise click.exceptions.Exit(int(code)) from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None


def fail(
    session: Session,
    what: str,
    *,
    next_step: str,
    exit_code: ExitCode,
    effect: str = "nothing was changed",
) -> click.exceptions.Exit:
    """Prints a failure that no client raised; raise the result."""
    print_failure(session, code="failed", what=what, effect=effect, next_step=next_step)
    return click.exceptions.Exit(int(exit_code))


def print_failure(
    session: Session,
    *,
    code: str,
    what: str,
    effect: str,
    next_step: str,
    definite: bool = True,
    details: dict[str, str] | None = None,
) -> None:
    """Says on standard error what happened, whether it took effect, and what to try next."""
    if session.output in {OutputFormat.JSON, OutputFormat.JSONL}:
        error = {
            "code": code,
            "message": what,
            "definite": definite,
            "effect": effect,
            "next": next_step,
            "details": details or {},
        }
        click.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)
        return
    color = None if session.color is None else False
    click.echo(click.style("error: ", fg="red") + what, err=True, color=color)
    click.echo(f"effect: {effect}", err=True)
    click.echo(f"next: {next_step}", err=True)
