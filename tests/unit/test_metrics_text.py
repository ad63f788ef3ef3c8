"""Figures for Prometheus, read back by its own parser."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mountsync.formats.metrics_text import METRICS, metrics_text
from mountsync.model.status import (
    CYCLE_BOUNDS,
    CacheStatus,
    ConflictStatus,
    CycleStatus,
    SessionState,
    Status,
    Totals,
    Transfer,
)


def status(name: str = "photos", mountpoint: str | None = "/mnt", **more: object) -> Status:
    usual: dict[str, object] = {
        "name": name,
        "remote": "far:",
        "mountpoint": mountpoint,
        "pid": 1,
        "state": "settled",
        "reason": None,
        "pending": 3,
        "pending_bytes": 7,
        "transfers": [Transfer(path="a", direction="up", done=1, size=2, rate=0.5)],
        "conflicts": [
            ConflictStatus(
                path="c", reason="", local_size=1, local_mtime_ns=1, remote_size=1, remote_mtime_ns=1
            )
        ],
        "problems": [],
        "cache": CacheStatus(used=10, dirty=7, limit=100, pinned=2),
        "last_cycle": CycleStatus(finished_at=1.8e9, to_local=0, to_remote=1, problems=0, conflicts=0),
        "entries": 12,
        "totals": Totals(
            since=1.7e9,
            bytes_up=1000,
            bytes_down=2000,
            files_up=1,
            files_down=2,
            failures=4,
            cycles=9,
            cycle_seconds=12.25,
            cycles_within=[1, 2, 3, 4, 5, 6, 7, 8],
        ),
    }
    return Status(**(usual | more))  # type: ignore[arg-type]


def read(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Values by sample name, then labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.type != "unknown", family.name
        assert family.documentation
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            values = found.setdefault(sample.name, {})
            assert labels not in values, "one series twice"
            values[labels] = sample.value
    return found


def test_prometheus_reads_every_family() -> None:
    text = metrics_text([status()], "1.2.3")
    families = {family.name for family in text_string_to_metric_families(text)}
    assert families == {name.removesuffix("_total") for name, _, _ in METRICS} | {"mountsync_info"}


def test_every_family_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    assert [name for name, _, _ in METRICS if f"`{name}" not in page] == []


def test_values_are_those_of_the_status() -> None:
    found = read(metrics_text([status()], "1.2.3"))
    whose = (("mountpoint", "/mnt"), ("name", "photos"))
    up = (("direction", "up"), *whose)
    assert found["mountsync_info"] == {(("version", "1.2.3"),): 1}
    assert found["mountsync_pending_changes"][whose] == 3
    assert found["mountsync_pending_bytes"][whose] == 7
    assert found["mountsync_transfers"] == {up: 1, (("direction", "down"), *whose): 0}
    assert found["mountsync_transferred_bytes_total"][up] == 1000
    assert found["mountsync_failures_total"][whose] == 4
    assert found["mountsync_conflicts"][whose] == 1
    assert found["mountsync_cache_limit_bytes"][whose] == 100
    assert found["mountsync_last_cycle_timestamp_seconds"][whose] == 1.8e9
    states = found["mountsync_state"]
    assert len(states) == len(SessionState)
    assert [dict(labels)["state"] for labels, value in states.items() if value] == ["settled"]


def test_cycle_times_are_a_histogram() -> None:
    found = read(metrics_text([status()], "1"))
    buckets = {dict(labels)["le"]: value for labels, value in found["mountsync_cycle_seconds_bucket"].items()}
    assert buckets == {str(bound): place for place, bound in enumerate(CYCLE_BOUNDS, 1)} | {"+Inf": 9}
    assert list(found["mountsync_cycle_seconds_sum"].values()) == [12.25]
    assert list(found["mountsync_cycle_seconds_count"].values()) == [9]


def test_jobs_have_no_mount_point_and_what_is_unknown_is_left_out() -> None:
    found = read(metrics_text([status(mountpoint=None, cache=None, last_cycle=None, totals=None)], "1"))
    assert found["mountsync_pending_changes"] == {(("name", "photos"),): 3}
    assert "mountsync_cache_bytes" not in found
    assert "mountsync_transferred_bytes_total" not in found


def test_without_mounts_only_the_version_is_there() -> None:
    assert list(read(metrics_text([], "1"))) == ["mountsync_info"]


@given(st.lists(st.text(), min_size=1, max_size=3, unique=True))
def test_any_name_is_read_back(names: list[str]) -> None:
    texts = [name for name in names if name.isascii() or name.isprintable()]
    found = read(metrics_text([status(name, None) for name in texts], "1"))
    told = {dict(labels)["name"] for labels in found.get("mountsync_pending_changes", {})}
    assert told == set(texts)
    assert all(math.isfinite(value) for values in found.values() for value in values.values())


def test_names_that_are_not_unicode_are_escaped() -> None:
    found = read(metrics_text([status("a\udcff", None)], "1"))
    assert list(found["mountsync_entries"]) == [(("name", "a\\xff"),)]
