"""Modal's own command line, unmodified, in two versions: the installed one and an older one."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.parts.readable import readable_within

OLDER = "1.1.4"
LIMIT_S = 100.0

_AT_THE_READY = """
import atexit, json, os, sys, traceback
from modal.__main__ import main

def carry_out(words):
    sys.argv = ["modal", *words]
    try:
        return main() or 0
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1

print("ready", flush=True)
for line in sys.stdin:
    wanted = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, path in enumerate(wanted["streams"]):
            os.dup2(os.open(path, os.O_RDWR), number)
        os.environ.clear()
        os.environ.update(wanted["environment"])
        code = carry_out(wanted["words"])
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""What the command's script does, in a process of its own for each command, with the client imported once.

Taking an interpreter down that has imported so much would take as long as ten commands.
"""


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


class _Interpreter:
    """An interpreter that has imported the client, which takes it most of a second, and waits for commands.

    It ends with the process that started it.
    """

    def __init__(self, python: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, "-c", _AT_THE_READY],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        """Exit code and output of one command."""
        assert self._process.stdin is not None
        with tempfile.TemporaryDirectory() as folder:
            said = [Path(folder, name) for name in ("out", "err")]
            for path in said:
                path.touch()
            streams = [os.devnull, *map(str, said)]
            wanted = {"words": list(words), "environment": dict(environment), "streams": streams}
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
            code = int(self._answer())
            return code, "".join(path.read_text() for path in said)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not readable_within(self._process.stdout, LIMIT_S):
            self._process.kill()
            raise AssertionError("the vendor's command hangs")
        return self._process.stdout.readline().strip()


@functools.cache
def _interpreter(python: str, config: str) -> _Interpreter:
    """The one of this client; the path of its configuration is read when it is imported."""
    return _Interpreter(python, _without_modal() | {"MODAL_CONFIG_PATH": config})


def _without_modal() -> dict[str, str]:
    """This process's environment without what concerns Modal; on a screen that no line is too long for."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MODAL_")} | {"COLUMNS": "200"}


class ModalCommand:
    """`modal volume ...` against a server."""

    def __init__(self, command: str, environment: dict[str, str]) -> None:
        self._python = str(Path(command).parent / "python")
        self._environment = environment

    def __call__(self, *arguments: str, ok: bool = True) -> str:
        """Runs it; returns its output. `ok`: whether it must succeed, or must fail."""
        interpreter = _interpreter(self._python, self._environment["MODAL_CONFIG_PATH"])
        code, said = interpreter.run(["volume", *arguments], _without_modal() | self._environment)
        assert (code == 0) == ok, said
        return said

    def sdk(self, code: str) -> str:
        """Runs Python code with the SDK, in an interpreter of its own."""
        done = subprocess.run(
            [self._python, "-W", "ignore", "-c", code],
            env=_without_modal() | self._environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def modal_command(version: str, environment: dict[str, str]) -> ModalCommand:
    """`newest` is the version that is installed beside the product."""
    command = older_modal() if version != "newest" else str(Path(sys.executable).parent / "modal")
    return ModalCommand(command, environment)
