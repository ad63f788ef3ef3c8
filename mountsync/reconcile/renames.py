"""Moves of one side that nobody saw: inferred from equal contents at vanished and new places.

Equal bytes make any pairing right, so a wrong guess costs nothing but a strange history. Empty files,
links and directories without a followed file are never followed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from mountsync.model.base import Agreed, Base
from mountsync.model.entry import Entry, Kind
from mountsync.model.listing import Listing
from mountsync.model.side import Side
from mountsync.paths import RelPath, ancestors, name_of, parent_of, relocate
from mountsync.reconcile.settings import Evidence

Moves: TypeAlias = list[tuple[RelPath, RelPath]]
"""(path in base, path on the side now)"""

_Key: TypeAlias = tuple[object, ...]


def infer_moves(
    side: Side, entries: Listing, base: Base, changed: Iterable[RelPath], *, evidence: Evidence
) -> Moves:
    """The moves that `side` made since base, whole directories as one, in a fixed order.

    `changed` are the paths at which the side may differ from base; others are not looked at. The result
    names each source and each target once.
    """
    if evidence is Evidence.NONE:
        return []
    key = _digest_key if evidence is Evidence.DIGEST else _time_key
    sources, targets = _candidates(side, entries, base, changed, key)
    pairs = _supported(_match(sources, targets), entries)
    folders = _folders(pairs, entries, base, sources)
    return sorted(folders.items()) + sorted((s, t) for s, t in pairs.items() if _by_folder(s, folders) != t)


def rests(agreed: Agreed | None, entry: Entry | None, side: Side) -> bool:
    """Whether the token says that this is still what was agreed there."""
    if agreed is None or entry is None or entry.token is None:
        return False
    return entry.token == agreed.token(side)


def _digest_key(entry: Entry, _mtime_ns: int | None) -> _Key | None:
    return None if entry.digest is None else (entry.digest,)


def _time_key(entry: Entry, mtime_ns: int | None) -> _Key | None:
    return None if mtime_ns is None else (entry.size, mtime_ns)


def _candidates(
    side: Side,
    entries: Listing,
    base: Base,
    changed: Iterable[RelPath],
    key: Callable[[Entry, int | None], _Key | None],
) -> tuple[dict[_Key, list[RelPath]], dict[_Key, list[RelPath]]]:
    """Places whose base content is gone, and places whose content is new, both by what they held."""
    sources: dict[_Key, list[RelPath]] = {}
    targets: dict[_Key, list[RelPath]] = {}
    for path in sorted(changed):
        agreed, entry = base.get(path), entries.get(path)
        was, now = _old_key(agreed, side, key), _new_key(entry, key)
        if was == now or rests(agreed, entry, side):
            continue
        if was is not None:
            sources.setdefault(was, []).append(path)
        if now is not None:
            targets.setdefault(now, []).append(path)
    return sources, targets


def _old_key(
    agreed: Agreed | None, side: Side, key: Callable[[Entry, int | None], _Key | None]
) -> _Key | None:
    if agreed is None or not _followable(agreed.entry):
        return None
    return key(agreed.entry, agreed.mtime_ns(side))


def _new_key(entry: Entry | None, key: Callable[[Entry, int | None], _Key | None]) -> _Key | None:
    return key(entry, entry.mtime_ns) if entry is not None and _followable(entry) else None


def _followable(entry: Entry) -> bool:
    return entry.kind is Kind.FILE and entry.size > 0


def _match(
    sources: Mapping[_Key, list[RelPath]], targets: Mapping[_Key, list[RelPath]]
) -> dict[RelPath, RelPath]:
    """Pairs of equal content; among equals the same name first, then the same directory, then order."""
    pairs: dict[RelPath, RelPath] = {}
    for key, left in sources.items():
        right = list(targets.get(key, ()))
        if not right:
            continue
        alone = left
        for likeness in (name_of, parent_of, _any):
            alone = _pair_off(alone, right, likeness, pairs)
    return pairs


def _any(_path: RelPath) -> str:
    return ""


def _pair_off(
    left: list[RelPath],
    right: list[RelPath],
    likeness: Callable[[RelPath], str],
    pairs: dict[RelPath, RelPath],
) -> list[RelPath]:
    """Pairs what is alike, takes the targets out of `right`, returns the sources that stay alone."""
    waiting: dict[str, list[RelPath]] = {}
    for target in reversed(right):
        waiting.setdefault(likeness(target), []).append(target)
    alone = []
    for source in left:
        if alike := waiting.get(likeness(source)):
            pairs[source] = alike.pop()
        else:
            alone.append(source)
    right[:] = sorted(target for rest in waiting.values() for target in rest)
    return alone


def _supported(pairs: dict[RelPath, RelPath], entries: Listing) -> dict[RelPath, RelPath]:
    """Without pairs whose source still stands: a copy that was edited afterwards is not a move.

    A source that stands counts as moved only when another move put something in its place.
    """
    taken = set(pairs.values())
    loose = [source for source in pairs if source in entries and source not in taken]
    while loose:
        target = pairs.pop(loose.pop())
        if target in pairs and target in entries:
            loose.append(target)
    return pairs


def _folders(
    pairs: Mapping[RelPath, RelPath],
    entries: Listing,
    base: Base,
    sources: Mapping[_Key, list[RelPath]],
) -> dict[RelPath, RelPath]:
    """Vanished directories at least half of whose known content went to one new directory."""
    votes: dict[RelPath, Counter[RelPath]] = {}
    for source, target in pairs.items():
        for old, new in _aligned(source, target):
            if old in base and old not in entries and new not in base and new in entries:
                votes.setdefault(old, Counter())[new] += 1
    sizes = Counter(above for paths in sources.values() for path in paths for above in ancestors(path))
    return _elect(votes, sizes)


def _aligned(source: RelPath, target: RelPath) -> Iterable[tuple[RelPath, RelPath]]:
    """The pairs of directories under which both paths have the same rest, nearest first."""
    while name_of(source) == name_of(target):
        source, target = parent_of(source), parent_of(target)
        if not source or not target:
            return
        yield source, target


def _elect(votes: Mapping[RelPath, Counter[RelPath]], sizes: Mapping[RelPath, int]) -> dict[RelPath, RelPath]:
    elected: dict[RelPath, RelPath] = {}
    used: set[RelPath] = set()
    for old in sorted(votes):
        new, count = min(votes[old].items(), key=lambda item: (-item[1], item[0]))
        if count * 2 >= sizes[old] and new not in used and _by_folder(old, elected) != new:
            elected[old] = new
            used.add(new)
    return elected


def _by_folder(path: RelPath, folders: Mapping[RelPath, RelPath]) -> RelPath:
    """Where `path` is when only the directories moved."""
    for above in ancestors(path):
        if above in folders:
            return relocate(path, above, folders[above])
    return path
