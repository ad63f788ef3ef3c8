"""`mountsync gc`: chunks that no file uses, listed or removed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import trio

from mountsync.cli.forms import Leftover, Leftovers, ListedProblem
from mountsync.cli.output import ago, counted, emit_json, shown
from mountsync.cli.remotes import BackendOptions, opened, remote_command
from mountsync.cli.running import Duration
from mountsync.cli.voice import say
from mountsync.control.directory import running
from mountsync.errors import UsageError
from mountsync.formats.sizes import human_size
from mountsync.settings import state_root, storage_state_root
from mountsync.storage.chunker import ChunkerStorage
from mountsync.storage.chunker import gc as garbage


@remote_command()
@click.argument("remote")
@click.option(
    "--age",
    type=Duration(),
    default="7d",
    show_default=True,
    help="Remove only what is at least so old; no more than 18d.",
)
@click.option("--dry-run", is_flag=True, help="Only list; so it is without --yes too.")
@click.option("--yes", is_flag=True, help="Remove what is old enough.")
@click.option("--orphans", is_flag=True, help="With --yes, also where there is nothing but orphans.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(
    *,
    remote: str,
    age: float,
    dry_run: bool,
    yes: bool,
    orphans: bool,
    as_json: bool,
    backend_options: BackendOptions,
) -> int:
    """List the chunks below REMOTE that no file uses, and with --yes remove them.

    REMOTE is a chunker. Chunks of an upload that this machine has under way, or can take up again, stay
    for a week at least. Exit code 3 when something could not be looked at, or when orphans were spared
    because there is no file beside them.
    """
    if dry_run and yes:
        raise UsageError("--dry-run and --yes exclude each other")
    if age > garbage.MAXIMUM_AGE:
        raise UsageError("--age: the age of a chunk can be told only up to 18 days")

    async def work() -> _Swept:
        async with opened(remote, backend_options) as storage:
            if not isinstance(storage, ChunkerStorage):
                kind = storage.info.type
                raise UsageError(f"{remote}: a remote of type {kind} has no chunks", hint="name a chunker")
            found = await garbage.search(storage, journals=_journals())
            return await _remove(storage, found, age, orphans=orphans) if yes else _Swept(found, [], [])

    swept = trio.run(work)
    if as_json:
        emit_json(_form(remote, swept))
    else:
        _tell(swept, age, yes=yes)
    if swept.spared:
        number = counted(len(swept.spared), "orphan")
        hint = "was it written with meta_format none? If not, add --orphans"
        say(f"{remote}: {number} left, because there is not one file; {hint}")
    return 3 if swept.found.problems or swept.spared else 0


def _journals() -> list[Path]:
    """Where storages keep their state: for commands, for every mount of the usual kind, for running ones."""
    of_mounts = {Path(record.socket).parent / "storages" for record in running()}
    return [storage_state_root(), *of_mounts.union(state_root().glob("*/storages"))]


@dataclass(frozen=True, slots=True)
class _Swept:
    found: garbage.Search
    removed: list[garbage.Leftover]
    spared: list[garbage.Leftover]


async def _remove(storage: ChunkerStorage, found: garbage.Search, age: float, *, orphans: bool) -> _Swept:
    """Removes what may go; `orphans`: those too that may be files without metadata."""
    spared = [] if orphans or found.files else [x for x in found.leftovers if x.reason == "orphan"]
    wanted = [each for each in found.leftovers if each not in spared]
    return _Swept(found, await garbage.remove_settled(storage, wanted, minimum_age=age), spared)


def _form(remote: str, swept: _Swept) -> Leftovers:
    gone = {each.path for each in swept.removed}
    return Leftovers(
        remote=remote,
        leftovers=[
            Leftover(
                path=each.path,
                owner=each.owner,
                size=each.size,
                reason=each.reason,
                age=each.age,
                removed=each.path in gone,
            )
            for each in swept.found.leftovers
        ],
        problems=[ListedProblem(path=at, reason=each.reason) for at, each in swept.found.problems.items()],
    )


def _tell(swept: _Swept, age: float, *, yes: bool) -> None:
    gone = {each.path for each in swept.removed}
    for each in swept.found.leftovers:
        old = "age unknown" if each.age is None else f"{ago(each.age)} old"
        end = ", removed" if each.path in gone else ""
        click.echo(f"{each.size:9d} {shown(each.path)} ({each.reason}, {old}{end})")
    for at, problem in sorted(swept.found.problems.items()):
        say(f"{at}: {problem.reason}")
    total = human_size(sum(each.size for each in swept.found.leftovers))
    line = f"{counted(len(swept.found.leftovers), 'leftover')} of {total}"
    if yes:
        freed = human_size(sum(each.size for each in swept.removed))
        line += f"; {len(gone)} removed, {freed} freed"
    elif swept.found.leftovers:
        line += f"; --yes removes those at least {ago(age)} old"
    click.echo(line)
