"""Modal's own command line, unmodified, in two versions: the installed one and an older one."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

OLDER = "1.1.4"


def older_modal() -> str:
    """The older command, installed on demand into a folder of the user's cache; skips when that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "mountsync-tests" / f"modal-{OLDER}"
    command = folder / "bin" / "modal"
    if not command.exists():
        venv.create(folder, with_pip=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", f"modal=={OLDER}"]
        try:
            subprocess.run(install, check=True, capture_output=True, timeout=100)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"modal {OLDER} cannot be installed here: {type(error).__name__}")
    return str(command)


class ModalCommand:
    """`modal volume ...` against a server."""

    def __init__(self, command: str, environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment

    @property
    def python(self) -> str:
        """The interpreter that has this version's SDK."""
        return str(Path(self._command).parent / "python")

    def __call__(self, *arguments: str, ok: bool = True) -> str:
        """Runs it; returns its output. `ok`: whether it must succeed, or must fail."""
        return self._run([self._command, "volume", *arguments], ok=ok)

    def sdk(self, code: str) -> str:
        """Runs Python code with the SDK."""
        return self._run([self.python, "-W", "ignore", "-c", code], ok=True)

    def _run(self, command: list[str], *, ok: bool) -> str:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MODAL_")} | self._environment
        done = subprocess.run(
            command,
            env=environ | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done.stdout + done.stderr


def modal_command(version: str, environment: dict[str, str]) -> ModalCommand:
    """`newest` is the version that is installed beside the product."""
    command = older_modal() if version != "newest" else str(Path(sys.executable).parent / "modal")
    return ModalCommand(command, environment)
