"""`bisync`, `copy`, `sync` and `check`: two remotes, once."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import trio

from mountsync.cli.forms import Compared, SyncProblem
from mountsync.cli.output import counted, emit_json, shown
from mountsync.cli.pair_options import sync_flags
from mountsync.cli.pair_words import intentions, summary, synced_form
from mountsync.cli.progress import showing
from mountsync.cli.remotes import (
    BackendOptions,
    Place,
    absolute_spec,
    known_remotes,
    opened,
    opened_above,
    remote_command,
    single_file,
)
from mountsync.cli.voice import say
from mountsync.engine.pair.comparing import Differences, differences
from mountsync.engine.pair.job import JobSettings
from mountsync.engine.pair.opening import opened_state, pair_id
from mountsync.engine.pair.options import PairOptions
from mountsync.engine.pair.overlap import refuse_overlap, refuse_same_file
from mountsync.engine.pair.reading import pair_options, patterns_in
from mountsync.engine.pair.report import Report
from mountsync.engine.pair.run import Progress
from mountsync.engine.pair.syncers import OneShot, find_syncer, loadable_syncers
from mountsync.engine.transfers import Transfers
from mountsync.errors import NotADirectory, NotFound, PathError, Unsupported, printable
from mountsync.paths import RelPath
from mountsync.reconcile import Comparison, Direction
from mountsync.settings import state_root
from mountsync.storage.api import Storage, SupportsDirectories
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.presence import insist_there
from mountsync.storage.registry import Remotes

_CHEAP = frozenset({"local", "memory"})


@remote_command()
@click.argument("a")
@click.argument("b")
@sync_flags(two_way=True)
def bisync(*, a: str, b: str, backend_options: BackendOptions, **flags: Any) -> int:
    """Make A and B hold the same: changes of each side go to the other.

    The first run puts together what both sides have, and deletes nothing. Later runs know what was the
    same, so they tell new from deleted and follow renames. Where both sides changed the same file nothing
    is touched, until you say what is right (--conflict, or by hand). What is overwritten or deleted is
    kept in .mountsync/backups of that side. A run that was interrupted is simply run again.

    Exit code: 0 in sync, 1 conflicts are left, 3 some paths failed, 4 a side is out of reach, 5 halted.
    """
    return _sync(a, b, flags, backend_options, Direction.MIRROR if flags["one_way"] else Direction.BOTH)


@remote_command()
@click.argument("src")
@click.argument("dst")
@sync_flags(two_way=False)
def copy(*, src: str, dst: str, backend_options: BackendOptions, **flags: Any) -> int:
    """Bring what SRC has to DST; nothing on DST is deleted.

    Files of equal size and time are left alone; --compare hash reads contents. DST is made when it is
    missing. What is overwritten is kept in .mountsync/backups of DST. Where SRC is a file, it is brought
    into the folder DST under its own name.
    """
    return _sync(src, dst, flags, backend_options, Direction.ADD)


@remote_command()
@click.argument("src")
@click.argument("dst")
@sync_flags(two_way=False)
def sync(*, src: str, dst: str, backend_options: BackendOptions, **flags: Any) -> int:
    """Make DST equal to SRC; SRC is never changed.

    What only DST has is deleted there, and kept in .mountsync/backups. Files of equal size and time are
    left alone; --compare hash reads contents. DST is made when it is missing. Where SRC is a file, only
    the file of its name in the folder DST is touched.
    """
    return _sync(src, dst, flags, backend_options, Direction.MIRROR)


def _sync(a: str, b: str, flags: dict[str, Any], backend: BackendOptions, direction: Direction) -> int:
    as_json, dry_run = bool(flags["as_json"]), bool(flags["dry_run"])
    specs = absolute_spec(a), absolute_spec(b)
    identity = pair_id(*specs)
    options = replace(
        pair_options(identity.rpartition("-")[2], flags, "--"),
        direction=direction,
        confirmed=bool(flags["confirm"]),
        from_scratch=bool(flags.get("from_scratch")),
    )
    for line in loadable_syncers()[1]:
        say(line)

    async def run(source: str, options: PairOptions) -> Report:
        make = direction is not Direction.BOTH
        async with (
            _remotes(backend, dry_run=dry_run) as remotes,
            aclosing(await _source(remotes, source, made=not make)) as one,
            _target(remotes, specs[1], backend, one, make=make, dry_run=dry_run) as two,
        ):
            (refuse_overlap if options.only is None else refuse_same_file)(one.info, two.info)
            chosen = options if flags["compare"] else _with_comparison(options, one, two)
            return await _run(one, two, identity, chosen, as_json=as_json, dry_run=dry_run)

    async def whole_or_single() -> Report:
        try:
            return await run(specs[0], options)
        except (NotFound, NotADirectory) as error:
            place = await _single_source(specs[0], backend, error)
            if direction is Direction.BOTH:
                hint = "name its folder, and leave out the rest with --filter; or use `mountsync copy`"
                raise NotADirectory(f"{a}: it is a file", hint=hint) from error
            return await run(place.folder, replace(options, only=place.path))

    return _told(trio.run(whole_or_single), a, b, options, as_json=as_json)


async def _single_source(spec: str, backend: BackendOptions, error: PathError) -> Place:
    """Where the file is that a spec names. Raises `error` when it names none."""
    found = await single_file(spec, backend)
    if found is None:
        raise error
    return found[0]


def plan_first_run(job: JobSettings, *, as_json: bool) -> int:
    """Says what a job would do if it ran now; the exit code of `bisync --dry-run`."""

    async def run() -> Report:
        async with (
            _remotes({}, dry_run=True) as remotes,
            aclosing(await remotes.open(job.a)) as one,
            aclosing(await remotes.open(job.b)) as two,
        ):
            refuse_overlap(one.info, two.info)
            return await _run(one, two, job.pair_id, job.options, as_json=as_json, dry_run=True)

    return _told(trio.run(run), job.a, job.b, job.options, as_json=as_json)


def _told(report: Report, a: str, b: str, options: PairOptions, *, as_json: bool) -> int:
    if as_json:
        emit_json(synced_form(report, a, b))
    else:
        click.echo("\n".join(summary(report, a, b, options)))
    return report.exit_code


def _with_comparison(options: PairOptions, a: Storage, b: Storage) -> PairOptions:
    """One way, size and time are enough where both sides keep times."""
    if options.direction is Direction.BOTH or not _keep_times(a, b):
        return options
    return replace(options, compare=Comparison.MTIME)


def _keep_times(a: Storage, b: Storage) -> bool:
    """Whether both tell the times that were set there."""
    return None not in (a.info.mtime_precision_ns, b.info.mtime_precision_ns)


async def _run(
    a: Storage, b: Storage, identity: str, options: PairOptions, *, as_json: bool, dry_run: bool
) -> Report:
    progress = Progress(transfers=Transfers.limited(options.bandwidth))
    with opened_state(state_root() / identity, dry_run=dry_run) as state:
        if not as_json:
            for line in intentions(state, options):
                click.echo(line, err=True)
        request = OneShot(a, b, options, dry_run=dry_run, progress=progress, state=state, pair_id=identity)
        syncer = find_syncer(
            a.info.type,
            b.info.type,
            one_shot=True,
            unidirectional=options.direction is not Direction.BOTH,
            built_in=options.only is not None,  # a plug-in that does not know `only` would bring the folder
        )
        async with showing(progress):
            return await syncer.one_shot(request)


@asynccontextmanager
async def _remotes(flags: BackendOptions, *, dry_run: bool) -> AsyncIterator[Remotes]:
    """What specs mean; in a dry run storages keep their own notes in a folder that goes away."""
    remotes = known_remotes(flags)
    if not dry_run:
        yield remotes
        return
    with tempfile.TemporaryDirectory(prefix="mountsync-dry-run-") as folder:
        yield replace(remotes, state_root=Path(folder))


async def _source(remotes: Remotes, spec: str, *, made: bool) -> Storage:
    """The first side. One way nobody is told to make it: an empty source is no help."""
    try:
        return await remotes.open(spec)
    except NotFound as error:
        error.hint = error.hint if made else "check the name"
        raise


@asynccontextmanager
async def _target(
    remotes: Remotes, spec: str, flags: BackendOptions, source: Storage, *, make: bool, dry_run: bool
) -> AsyncIterator[Storage]:
    """The second side; one that is missing is made, or in a dry run thought of as empty.

    Raises NotFound for a source that does not exist, before anything is made for it.
    """
    try:
        storage = await remotes.open(spec)
    except NotFound as error:
        if not make:
            error.hint = error.hint or "make it first, if the name is right: mountsync mkdir"
            raise
        if dry_run:
            storage = MemoryStorage(spec)
        else:
            await insist_there(source, "the source")
            await _make_folder(spec, flags)
            storage = await remotes.open(spec)
    async with aclosing(storage):
        yield storage


async def _make_folder(spec: str, flags: BackendOptions) -> None:
    async with opened_above(spec, flags) as (above, path):
        if not isinstance(above, SupportsDirectories):
            raise Unsupported("the remote has no folders to make", path=path)
        await above.make_directory(path)


@remote_command()
@click.argument("a")
@click.argument("b")
@click.option("--download", is_flag=True, help="Read contents, also where that means a transfer.")
@click.option(
    "--filter", multiple=True, metavar="PATTERN", help="Leave out what this gitignore pattern matches."
)
@click.option("--filter-from", metavar="FILE", help="Leave out what the gitignore patterns in FILE match.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    *,
    a: str,
    b: str,
    download: bool,
    filter: tuple[str, ...],  # noqa: A002 - the name of the flag, as everywhere
    filter_from: str | None,
    as_json: bool,
    backend_options: BackendOptions,
) -> int:
    """Say in what A and B differ; nothing is changed. A may be one file, B the folder of the other.

    Contents are compared where both sides can tell them without a transfer, where a side keeps no times,
    or with --download; else sizes and times. Exit code: 0 equal, 1 differences, 3 some paths could not be
    compared.
    """
    patterns = (patterns_in(Path(filter_from).expanduser()) if filter_from else ()) + filter
    progress = Progress()

    async def run(source: str, only: RelPath | None) -> Differences:
        async with opened(source, backend_options) as one, opened(b, backend_options) as two:
            by_content = download or not _keep_times(one, two) or all(map(_tells_content, (one, two)))
            async with showing(progress):
                return await differences(
                    one, two, patterns=patterns, only=only, by_content=by_content, progress=progress
                )

    async def whole_or_single() -> Differences:
        try:
            return await run(a, None)
        except (NotFound, NotADirectory) as error:
            place = await _single_source(a, backend_options, error)
            return await run(place.folder, place.path)

    found = trio.run(whole_or_single)
    if as_json:
        emit_json(_compared(found, a, b))
    else:
        _tell(found)
    return found.exit_code


def _tells_content(storage: Storage) -> bool:
    return storage.info.type in _CHEAP or "sha256" in storage.info.hashes


def _compared(found: Differences, a: str, b: str) -> Compared:
    problems = [
        SyncProblem(path=path, reason=problem.reason, error=problem.error)
        for path, problem in sorted(found.problems.items())
    ]
    return Compared(
        a=a,
        b=b,
        by=found.by,
        equal=found.equal,
        only_a=list(found.only_a),
        only_b=list(found.only_b),
        differ=list(found.differ),
        problems=problems,
    )


def _tell(found: Differences) -> None:
    for mark, paths in (
        ("only on A: ", found.only_a),
        ("only on B: ", found.only_b),
        ("differs:   ", found.differ),
    ):
        for path in paths:
            click.echo(f"{mark}{shown(path)}")
    for path, problem in sorted(found.problems.items()):
        say(f"{printable(path)}: {problem.reason}")
    different = len(found.only_a) + len(found.only_b) + len(found.differ)
    click.echo(f"{counted(different, 'difference')}, {counted(found.equal, 'entry')} equal by {found.by}")
