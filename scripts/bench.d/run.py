"""Runs rows on targets, round by round, and prints medians and ratios."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
from pathlib import Path

import fixtures
from rows import ROWS, Row, Work, clean
from targets import TARGETS, Target

Results = dict[str, dict[str, list[float]]]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one round")
    parser.add_argument(
        "--rows", default="", help="only these, comma between: " + ",".join(r.name for r in ROWS)
    )
    parser.add_argument("--targets", default="native,rclone,mountsync")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--big", type=int, default=512, metavar="MIB")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--place", help="a folder on the disk to measure; default: the temporary folder")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.files, chosen.big = 1, 300, 64
    return chosen


def measure(
    row: Row, target: Target, made: fixtures.Fixtures, chosen: argparse.Namespace, number: int
) -> float:
    folder = target.folder / f"{row.name}-{number}"
    folder.mkdir()
    work = Work(target, folder, made, chosen.files, chosen.big)
    if row.needs_remote:
        target.settle()
    try:
        return row.run(work)
    finally:
        clean(work)


def run_all(
    rows: list[Row], targets: list[Target], made: fixtures.Fixtures, chosen: argparse.Namespace
) -> Results:
    results: Results = {row.name: {target.name: [] for target in targets} for row in rows}
    for row in rows:
        for number in range(chosen.rounds):
            for target in targets:
                if row.needs_remote and target.remote is None:
                    continue
                try:
                    value = measure(row, target, made, chosen, number)
                except Exception as error:  # noqa: BLE001 - a row that one target cannot do is a result
                    print(f"{row.name} on {target.name}: {type(error).__name__}: {error}", file=sys.stderr)
                    continue
                results[row.name][target.name].append(value)
        print(f"{row.name} done", file=sys.stderr, flush=True)
    return results


def ratio(row: Row, ours: float | None, theirs: float | None) -> float | None:
    """How many times better we are."""
    if not ours or not theirs:
        return None
    return ours / theirs if row.more_is_better else theirs / ours


def table(rows: list[Row], results: Results, names: list[str]) -> list[dict[str, object]]:
    lines = []
    for row in rows:
        medians = {
            name: statistics.median(found) if (found := results[row.name][name]) else None for name in names
        }
        ours = medians.get("mountsync")
        lines.append(
            {"row": row.name, "unit": row.unit, **medians}
            | {"vs_rclone": ratio(row, ours, medians.get("rclone")), "bar": row.bar or None}
            | {"vs_native": ratio(row, ours, medians.get("native"))}
        )
    return lines


def show(lines: list[dict[str, object]], names: list[str]) -> None:
    heads = ["row", "unit", *names, "vs_rclone", "bar", "vs_native"]
    text = [[_cell(line[head]) for head in heads] for line in lines]
    widths = [max(len(head), *(len(cells[i]) for cells in text)) for i, head in enumerate(heads)]
    for cells in [heads, *text]:
        print("  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return str(value)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that mounts are taken down
    chosen = options()
    wanted = [name for name in chosen.rows.split(",") if name]
    unknown = set(wanted) - {row.name for row in ROWS}
    if unknown:
        sys.exit(f"scripts/bench: there is no row {', '.join(sorted(unknown))}")
    rows = [row for row in ROWS if not wanted or row.name in wanted]
    names = chosen.targets.split(",")
    with tempfile.TemporaryDirectory(prefix="bench.", dir=chosen.place) as text:
        place = Path(text)
        made = fixtures.make(place, chosen.files * 3)
        targets = [TARGETS[name](place) for name in names]
        try:
            for target in targets:
                target.start()
            results = run_all(rows, targets, made, chosen)
        finally:
            for target in targets:
                target.stop()
    lines = table(rows, results, names)
    if chosen.json:
        machine = {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()}
        print(
            json.dumps({"version": 1, "machine": machine, "rounds": chosen.rounds, "rows": lines}, indent=2)
        )
    else:
        show(lines, names)


main()
