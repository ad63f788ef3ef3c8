"""The page on other syncs names tests that exist, and every scenario."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/other-syncs.md").read_text()


def _words(text: str) -> list[str]:
    return text.split()


SCENARIOS = _words(
    """
    all_changed backupdir basic changes compare_all nomodtime check_access check_access_filters
    check_filename check_sync concurrent createemptysrcdirs rmdirs dry_run equal ext_paths
    extended_filenames filters filtersfile_checks ignorelistingchecksum rclone_args max_delete_path1
    max_delete_path2_force normalization resolve resync resync_modes volatile
    """
)
PINNED = _words("""sync_subdirs sync_large_file sync_move_dir sync_remove_file sync_remove_dir sync_move_file
sync_simple_conflict sync_complex_conflict sync_lost_event_delete sync_delete_conflict sync_conflict_resolved
sync_move_from_subdir sync_file_dir_conflict sync_file_dir_conf_res1 sync_file_dir_conf_res2
sync_two_containers get_conflicts_simple find_syncer sync_events_oneshot sync_events_continuous_pre
sync_events_continuous_post sync_events_oneshot_error sync_events_continuous_error
sync_events_oneshot_conflict sync_events_continuous_pre_conflict sync_events_continuous_post_conflict
sync_events_multiple sync_events_oneshot_progress sync_events_continuous_progress
sync_events_filter""")


def _tests() -> set[str]:
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))
    return found


def test_the_page_names_tests_that_exist() -> None:
    assert set(re.findall(r"\[(test_\w+)\]", PAGE)) - _tests() == set()


def test_every_scenario_is_on_the_page() -> None:
    rows = {
        name for line in PAGE.splitlines() if line.startswith("| ") for name in line.split("|")[1].split()
    }
    assert {name.strip(",") for name in rows} >= set(SCENARIOS)
    assert len(SCENARIOS) == 28


def test_every_pinned_behaviour_and_weakness_has_its_test() -> None:
    tests = _tests()
    assert len(PINNED) == 30
    assert [name for name in PINNED if f"test_{name}" not in tests] == []
    missing = [n for n in range(1, 30) if not any(name.startswith(f"test_w{n}_") for name in tests)]
    assert missing == []
