"""Figures for Prometheus: the text format, version 0.0.4, of the states of mounts and jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mountsync.model.status import CYCLE_BOUNDS, SessionState, Status, Totals

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Sample:
    value: float
    labels: Labels = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    kind: str
    """`gauge`, `counter` or `histogram`."""
    help: str


_STATE: Final = _Family("state", "gauge", "1 for the state that the mount or job is in, 0 for the others.")
_PENDING: Final = _Family("pending_changes", "gauge", "Local changes that the remote does not have yet.")
_PENDING_BYTES: Final = _Family("pending_bytes", "gauge", "Size of the files that they are about.")
_TRANSFERS: Final = _Family("transfers", "gauge", "Larger bodies on their way now.")
_BYTES: Final = _Family("transferred_bytes_total", "counter", "Bytes that travelled.")
_FILES: Final = _Family("transferred_files_total", "counter", "Bodies that arrived.")
_FAILURES: Final = _Family("failures_total", "counter", "How often a path could not be read or changed.")
_LOST: Final = _Family("events_lost_total", "counter", "How often changes came faster than they are told.")
_PROBLEMS: Final = _Family("problems", "gauge", "Paths that have a problem now.")
_CONFLICTS: Final = _Family("conflicts", "gauge", "Conflicts that wait for a hand.")
_CACHE: Final = _Family("cache_bytes", "gauge", "Content that is kept on this machine.")
_DIRTY: Final = _Family("cache_dirty_bytes", "gauge", "The part of it that the remote does not have.")
_LIMIT: Final = _Family("cache_limit_bytes", "gauge", "The limit of the cache, where there is one.")
_PINS: Final = _Family("cache_pins", "gauge", "Files and folders that are kept on this machine.")
_ENTRIES: Final = _Family("entries", "gauge", "Names known of the tree.")
_CYCLE: Final = _Family("cycle_seconds", "histogram", "How long cycles took.")
_LAST: Final = _Family("last_cycle_timestamp_seconds", "gauge", "When the last cycle ended.")
_SINCE: Final = _Family("start_timestamp_seconds", "gauge", "When the counting of the totals began.")

_FAMILIES: Final = (
    *(_STATE, _PENDING, _PENDING_BYTES, _TRANSFERS, _BYTES, _FILES, _FAILURES, _LOST),
    *(_PROBLEMS, _CONFLICTS, _CACHE, _DIRTY, _LIMIT, _PINS, _ENTRIES, _CYCLE, _LAST, _SINCE),
)

METRICS: Final[Sequence[tuple[str, str, str]]] = tuple(
    (f"mountsync_{family.name}", family.kind, family.help) for family in _FAMILIES
)
"""Name, type and meaning of every family besides `mountsync_info`."""


def metrics_text(statuses: Iterable[Status], version: str) -> str:
    """The whole page. Labels: `name` and, for mounts, `mountpoint`."""
    samples: dict[_Family, list[_Sample]] = {family: [] for family in _FAMILIES}
    for status in statuses:
        for family, sample in _samples(status):
            samples[family].append(sample)
    lines = [
        "# HELP mountsync_info The version that runs.",
        "# TYPE mountsync_info gauge",
        f'mountsync_info{{version="{_escaped(version)}"}} 1',
    ]
    for family, found in samples.items():
        if found:
            lines += _family_lines(family, found)
    return "\n".join(lines) + "\n"


def _family_lines(family: _Family, samples: Iterable[_Sample]) -> Iterator[str]:
    yield f"# HELP mountsync_{family.name} {family.help}"
    yield f"# TYPE mountsync_{family.name} {family.kind}"
    for sample in samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
        yield f"mountsync_{family.name}{sample.suffix}{{{labels}}} {_number(sample.value)}"


def _samples(status: Status) -> Iterator[tuple[_Family, _Sample]]:
    whose: Labels = (("name", status.name),)
    if status.mountpoint is not None:
        whose += (("mountpoint", status.mountpoint),)
    for state in SessionState:
        yield _STATE, _Sample(status.state == state.value, (*whose, ("state", state.value)))
    for family, value in _plain(status):
        yield family, _Sample(value, whose)
    for way in ("up", "down"):
        running = sum(each.direction == way for each in status.transfers)
        yield _TRANSFERS, _Sample(running, (*whose, ("direction", way)))
    if status.totals is not None:
        yield from _total_samples(status.totals, whose)


def _plain(status: Status) -> Iterator[tuple[_Family, float]]:
    yield _PENDING, status.pending
    yield _PENDING_BYTES, status.pending_bytes
    yield _PROBLEMS, len(status.problems)
    yield _CONFLICTS, len(status.conflicts)
    yield _ENTRIES, status.entries
    if status.cache is not None:
        yield _CACHE, status.cache.used
        yield _DIRTY, status.cache.dirty
        yield _PINS, status.cache.pinned
        if status.cache.limit is not None:
            yield _LIMIT, status.cache.limit
    if status.last_cycle is not None:
        yield _LAST, status.last_cycle.finished_at


def _total_samples(totals: Totals, whose: Labels) -> Iterator[tuple[_Family, _Sample]]:
    up, down = (*whose, ("direction", "up")), (*whose, ("direction", "down"))
    yield _BYTES, _Sample(totals.bytes_up, up)
    yield _BYTES, _Sample(totals.bytes_down, down)
    yield _FILES, _Sample(totals.files_up, up)
    yield _FILES, _Sample(totals.files_down, down)
    yield _FAILURES, _Sample(totals.failures, whose)
    yield _LOST, _Sample(totals.events_lost, whose)
    yield _SINCE, _Sample(totals.since, whose)
    for bound, count in zip(CYCLE_BOUNDS, totals.cycles_within, strict=True):
        yield _CYCLE, _Sample(count, (*whose, ("le", str(bound))), "_bucket")
    yield _CYCLE, _Sample(totals.cycles, (*whose, ("le", "+Inf")), "_bucket")
    yield _CYCLE, _Sample(totals.cycle_seconds, whose, "_sum")
    yield _CYCLE, _Sample(totals.cycles, whose, "_count")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(text: str) -> str:
    """A label's value; bytes that are not Unicode become readable escapes."""
    safe = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return safe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
