"""The flags of `bisync`, `copy` and `sync`; their values are read by `engine.pair.reading`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mountsync.engine.pair.reading import POLICIES


def sync_flags(*, two_way: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The flags of a command that syncs."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([*(_two_way() if two_way else []), *_common()]):
            command = option(command)
        return command

    return decorate


def _two_way() -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    return [
        click.option("--one-way", is_flag=True, help="Only bring changes of A to B, and make B equal to A."),
        click.option(
            "--conflict",
            metavar="POLICY",
            help=f"What happens where both sides changed: {', '.join(POLICIES)}.  [default: manual]",
        ),
        click.option(
            "--policy",
            "policies",
            multiple=True,
            metavar="PATTERN=POLICY",
            help="Another policy for some paths.",
        ),
        click.option(
            "--renames", metavar="hash|mtime|off", help="By what renames are found.  [default: hash]"
        ),
        click.option(
            "--from-scratch", is_flag=True, help="As if never synced: nothing is deleted on either side."
        ),
    ]


def _common() -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    return [
        click.option(
            "--dry-run", "-n", is_flag=True, help="Only say what would be done; change nothing at all."
        ),
        click.option("--compare", metavar="hash|mtime|size", help="By what files are compared."),
        click.option("--fallback", metavar="mtime|size", help="What decides where --compare cannot."),
        click.option(
            "--max-delete",
            metavar="N",
            help="Halt before deleting more than N, N% or `off`.  [default: half, and over 20]",
        ),
        click.option(
            "--filter",
            multiple=True,
            metavar="PATTERN",
            help="Leave out what this gitignore pattern matches.",
        ),
        click.option(
            "--filter-from", metavar="FILE", help="Leave out what the gitignore patterns in FILE match."
        ),
        click.option(
            "--backups",
            metavar="on|off",
            help="Keep what is overwritten or deleted in .mountsync/backups.  [default: on]",
        ),
        click.option("--keep-backups", metavar="TIME", help="How long backups are kept.  [default: 30d]"),
        click.option("--transfers", metavar="N", help="How many files travel at once.  [default: 4]"),
        click.option("--bwlimit", metavar="RATE", help="Bandwidth, or UP:DOWN; a bare number counts KiB/s."),
        click.option(
            "--confirm", is_flag=True, help="Go on where a safety stop halted: what was found is right."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON (schema: docs/json.schema.json)."),
    ]
