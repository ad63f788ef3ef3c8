"""The real rclone, as the judge of what lies on a base."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BINARY = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


class Rclone:
    """rclone with a chunker called `C:` over a local folder."""

    def __init__(self, base: Path, home: Path, **options: object) -> None:
        """`options` are the chunker's, as rclone names them; sizes as text with a unit."""
        if BINARY is None:
            pytest.skip("the real rclone is not installed")
        self.base = base
        wanted = {"remote": base, "chunk_size": "10B"} | options
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_C_TYPE": "chunker",
        } | {f"RCLONE_CONFIG_C_{name.upper()}": str(value) for name, value in wanted.items()}

    def run(self, *arguments: object, body: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """One command; retries are off."""
        command = [BINARY, *map(str, arguments), "--retries", "1", "--low-level-retries", "1"]
        return subprocess.run(
            command, input=body, capture_output=True, env=self._environment, timeout=60, check=False
        )

    def ok(self, *arguments: object, body: bytes | None = None) -> bytes:
        """One command that must succeed; gives its output."""
        done = self.run(*arguments, body=body)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def names(self, path: str = "") -> set[str]:
        """All files that it lists below a path."""
        return set(self.ok("lsf", "-R", "--files-only", f"C:{path}").decode().splitlines())

    def contents(self, into: Path, path: str = "") -> dict[str, bytes]:
        """What it serves of every file below a path; files that it hides or fails to open are missing."""
        self.run("copy", "--ignore-checksum", f"C:{path}", into)
        return files_in(into)


def files_in(folder: Path) -> dict[str, bytes]:
    """Relative name to content of all files below a folder."""
    return {str(at.relative_to(folder)): at.read_bytes() for at in folder.rglob("*") if at.is_file()}
