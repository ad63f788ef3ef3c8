"""A group of commands that imports a command only when it is used, and then quickly."""

from __future__ import annotations

import difflib
import gc
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from mountsync.collector import calm


@contextmanager
def loading(*, without: str | None = None) -> Iterator[None]:
    """For imports inside of it: what is loaded stays, so that nobody looks for garbage in it meanwhile.

    `without` names a module that libraries would load too, but that they do not need for us.
    """
    collects, hides = gc.isenabled(), without is not None and without not in sys.modules
    gc.disable()
    if hides:
        sys.modules[str(without)] = None  # type: ignore[assignment] # as the language says that it is not there
    try:
        yield
    finally:
        if hides:
            del sys.modules[str(without)]
        if collects:
            gc.enable()


@dataclass(frozen=True, slots=True)
class Later:
    """Where a command is, and its line in the group's help."""

    module: str
    attribute: str
    line: str

    def load(self) -> click.Command:
        with loading():
            command = getattr(importlib.import_module(self.module), self.attribute)
        calm()
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """Lists its commands without importing them; a misspelt one gets a suggestion."""

    def __init__(self, *args: Any, later: Mapping[str, Later], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.later = later

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.later)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        found = self.later.get(cmd_name)
        return found.load() if found is not None else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.later and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.later, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see `mountsync --help`"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Names of commands, without importing them, or of options."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        named = ((name, found.line) for name, found in self.later.items() if name.startswith(incomplete))
        return [CompletionItem(name, help=line) for name, line in named]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, found.line) for name, found in self.later.items()])
