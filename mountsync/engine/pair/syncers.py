"""Who carries out a sync: plug-ins of the entry point group `mountsync.syncer`, and the engine itself.

A syncer is a class, made without arguments, with these traits:

    SYNCER_NAME       its name
    SOURCE_TYPES      types of storages that it takes as side A; `["*"]`: all
    TARGET_TYPES      the same for side B
    CONTINUOUS        it can keep a pair in sync: with `continuous(request)` by itself until it is
                      cancelled; without that method a job calls `one_shot` whenever something changed
    ONE_SHOT          `one_shot(request)` makes one run and returns its `Report`
    UNIDIRECTIONAL    it can bring changes from A to B only
    REQUIRES_MOUNT    it works on mounted folders; such ones are never chosen here

Every syncer can work in both directions. Of those that fit, the one with the fewest `*` is chosen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, runtime_checkable

from mountsync.engine.pair.options import PairOptions
from mountsync.engine.pair.report import Report
from mountsync.engine.pair.run import PairRun, Progress
from mountsync.errors import UsageError
from mountsync.model.plan import ConflictPolicy
from mountsync.paths import RelPath
from mountsync.state.pairs import PairState
from mountsync.storage.api import Storage

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "mountsync.syncer"
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class OneShot:
    """One run that is wanted. The storages are open and the state is locked; the caller closes both."""

    a: Storage
    b: Storage
    options: PairOptions
    state: PairState
    pair_id: str
    dry_run: bool = False
    progress: Progress = field(default_factory=Progress)
    overrides: Mapping[RelPath, ConflictPolicy] = field(default_factory=dict)
    """Policies that a person chose for single paths."""
    only: frozenset[RelPath] | None = None
    """Paths that may have changed since the last run; None: look at everything."""


@runtime_checkable
class Syncer(Protocol):
    """What a plug-in provides."""

    SYNCER_NAME: ClassVar[str]
    SOURCE_TYPES: ClassVar[Sequence[str]]
    TARGET_TYPES: ClassVar[Sequence[str]]
    CONTINUOUS: ClassVar[bool]
    ONE_SHOT: ClassVar[bool]
    UNIDIRECTIONAL: ClassVar[bool]
    REQUIRES_MOUNT: ClassVar[bool]

    async def one_shot(self, request: OneShot) -> Report:
        """Makes one run. Raises mountsync.errors only."""
        ...


@dataclass(frozen=True, slots=True)
class Continuous:
    """A pair to be kept in sync. The storages are open, the state is locked; the caller closes both."""

    a: Storage
    b: Storage
    options: PairOptions
    state: PairState
    pair_id: str
    progress: Progress
    report: Callable[[Report], None]
    """To be called whenever a round ended: it is what `status` and the events tell, and it ends a `flush`."""
    wanted: Callable[[], Awaitable[None]]
    """Returns when somebody wants a whole look now; the next `report` answers them."""
    overrides: Mapping[RelPath, ConflictPolicy] = field(default_factory=dict)
    """Policies that a person chose for single paths; it changes while the syncer runs."""


@runtime_checkable
class ContinuousSyncer(Protocol):
    """What a plug-in provides that watches both sides by itself."""

    async def continuous(self, request: Continuous) -> None:
        """Keeps the pair in sync until it is cancelled. Raises mountsync.errors only; is then tried again."""
        ...


class EngineSyncer:
    """The engine: any storage to any other, both ways or one way. A job runs it again and again."""

    SYNCER_NAME: ClassVar[str] = "engine"
    SOURCE_TYPES: ClassVar[Sequence[str]] = (_ANY,)
    TARGET_TYPES: ClassVar[Sequence[str]] = (_ANY,)
    CONTINUOUS: ClassVar[bool] = True
    ONE_SHOT: ClassVar[bool] = True
    UNIDIRECTIONAL: ClassVar[bool] = True
    REQUIRES_MOUNT: ClassVar[bool] = False

    copies_in_kernel: ClassVar[bool] = False

    async def one_shot(self, request: OneShot) -> Report:
        run = PairRun(
            request.a,
            request.b,
            request.state,
            request.pair_id,
            request.options,
            dry_run=request.dry_run,
            progress=request.progress,
            overrides=request.overrides,
            copies_in_kernel=self.copies_in_kernel,
            only=request.only,
        )
        return await run.run()


class LocalSyncer(EngineSyncer):
    """Folder to folder on this machine: bodies are cloned, or copied by the kernel, never through us."""

    SYNCER_NAME: ClassVar[str] = "local"
    SOURCE_TYPES: ClassVar[Sequence[str]] = ("local",)
    TARGET_TYPES: ClassVar[Sequence[str]] = ("local",)

    copies_in_kernel: ClassVar[bool] = True


BUILT_IN: Final[tuple[type[Syncer], ...]] = (LocalSyncer, EngineSyncer)
"""Announced as entry points too; here so that a damaged installation can still sync."""


def loadable_syncers() -> tuple[list[type[Syncer]], list[str]]:
    """Every syncer, plug-ins first, and for those that cannot be loaded why; none of them is fatal."""
    found: list[type[Syncer]] = []
    refused = []
    for point in _plug_ins():
        try:
            found.append(_checked(point.load()))
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything, and must not stop us
            reason = f"{type(error).__name__}: {error}"
            refused.append(
                f"syncer {point.name!r} ({point.value}) is left out: {reason}; update or remove it"
            )
    return list(dict.fromkeys([*found, *BUILT_IN])), refused


def _plug_ins() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to load, and only for plug-ins

    return entry_points(group=GROUP)


def _checked(kind: object) -> type[Syncer]:
    names = ("SYNCER_NAME", "SOURCE_TYPES", "TARGET_TYPES", "CONTINUOUS", "ONE_SHOT", "UNIDIRECTIONAL")
    missing = [name for name in (*names, "REQUIRES_MOUNT") if not hasattr(kind, name)]
    if not isinstance(kind, type) or missing:
        raise UsageError(f"it has no {', '.join(missing) or 'class'}")
    return kind


def find_syncer(
    source: str,
    target: str,
    *,
    one_shot: bool = False,
    continuous: bool = False,
    unidirectional: bool = False,
    built_in: bool = False,
) -> Syncer:
    """The syncer for these types of storages: exact types go before `*`. Raises UsageError.

    `built_in` leaves out the plug-ins.
    """
    fitting = [
        kind
        for kind in (BUILT_IN if built_in else loadable_syncers()[0])
        if not kind.REQUIRES_MOUNT
        and (kind.ONE_SHOT or not one_shot)
        and (kind.CONTINUOUS or not continuous)
        and (kind.UNIDIRECTIONAL or not unidirectional)
        and _takes(kind.SOURCE_TYPES, source)
        and _takes(kind.TARGET_TYPES, target)
    ]
    if not fitting:
        raise UsageError(f"no syncer takes {source} and {target}")
    return min(fitting, key=lambda kind: [*kind.SOURCE_TYPES, *kind.TARGET_TYPES].count(_ANY))()


def _takes(types: Sequence[str], wanted: str) -> bool:
    return list(types) == [_ANY] or wanted in types
