"""`bisync` of mountsync beside that of rclone, on the same trees, in one run: seconds and megabytes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
FOLDERS = 100
ROUNDS = 3


@dataclass(frozen=True)
class Cost:
    """One run."""

    seconds: float
    megabytes: float


def make_tree(root: Path, files: int) -> None:
    """Small files, all different, with times of their own."""
    for number in range(files):
        folder = root / f"d{number % FOLDERS:02d}"
        if number < FOLDERS:
            folder.mkdir(parents=True)
        path = folder / f"file-{number:06d}.txt"
        path.write_bytes(b"content %d" % number)
        os.utime(path, ns=(0, 1_700_000_000_000_000_000 + number * 1_000_000_000))


def run(command: list[str], environment: dict[str, str]) -> Cost:
    """Runs a command to its good end; peak resident memory as the kernel counts it."""
    began = time.perf_counter()
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ | environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)],
    )
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    return Cost(time.perf_counter() - began, usage.ru_maxrss / 1024)


def tools(root: Path) -> dict[str, tuple[list[str], list[str], dict[str, str]]]:
    """By tool: what the first run and the later ones are, and their environment."""
    ours = [str(BIN / "mountsync"), "bisync", str(root / "a"), str(root / "ours")]
    theirs = [
        str(shutil.which("rclone", path=f"{BIN}:{os.environ['PATH']}")),
        *("bisync", str(root / "a"), str(root / "theirs"), "--workdir", str(root / "rclone-state")),
        *("--config", str(root / "rclone.conf"), "--filter", "- /.mountsync/**"),
    ]
    state = {"XDG_STATE_HOME": str(root / "state"), "MOUNTSYNC_CONFIG": str(root / "none.toml")}
    return {"mountsync": (ours, ours, state), "rclone": ([*theirs, "--resync"], theirs, {})}


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    root = Path(tempfile.mkdtemp(prefix="mountsync-bench-"))
    try:
        make_tree(root / "a", files)
        for name in ("ours", "theirs"):
            (root / name).mkdir()
        best: dict[str, Cost] = {}
        for name, (first, again, environment) in tools(root).items():
            cost = run(first, environment)
            print(f"{name:<10} first run of {files:,} files: {cost.seconds:6.1f} s {cost.megabytes:6.0f} MB")
            runs = [run(again, environment) for _ in range(ROUNDS)]
            best[name] = Cost(min(c.seconds for c in runs), min(c.megabytes for c in runs))
            said = " ".join(f"{c.seconds:.1f}" for c in runs)
            print(f"{name:<10} nothing changed:  {said} s, {best[name].megabytes:.0f} MB")
        ours, theirs = best["mountsync"], best["rclone"]
        print(
            f"nothing changed: {theirs.seconds / ours.seconds:.1f} times as fast,"
            f" {ours.megabytes / theirs.megabytes:.2f} of the memory"
        )
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
