"""A group whose commands are imported when they are used, and listed in sections."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command lives, and what the list says of it without loading it."""

    name: str
    target: str
    """`module:attribute` of the click command."""
    section: str
    summary: str


class LazyGroup(click.Group):
    """Loads a command's module when the command is called or asked for help."""

    def __init__(
        self, *args: object, commands_lazy: tuple[LazyCommand, ...] = (), **kwargs: object
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own signature
        self._lazy = {command.name: command for command in commands_lazy}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in the order of the table."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command; None when there is none of this name."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = lazy.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.target} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands section by section."""
        del ctx
        sections: dict[str, list[tuple[str, str]]] = {}
        for command in self._lazy.values():
            sections.setdefault(command.section, []).append((command.name, command.summary))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)
