"""A mount that kills itself while one of its own threads waits for it: `hanging_mount.py STATE MOUNTPOINT`.

The thread shares the descriptor that leads to the kernel. So the process cannot die, and the mount hangs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pyfuse3
import trio

from mountsync.control import directory
from mountsync.fuse.mountpoint import mount
from mountsync.state.database import StateLock


class Deadly(pyfuse3.Operations):
    """Dies of the first question for a name."""

    async def getattr(self, inode: int, ctx: object = None) -> pyfuse3.EntryAttributes:
        made = pyfuse3.EntryAttributes()
        made.st_ino, made.st_mode, made.st_nlink = inode, 0o40755, 2
        return made

    async def lookup(self, parent: int, name: bytes, ctx: object = None) -> pyfuse3.EntryAttributes:
        print("dies", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        raise pyfuse3.FUSEError(5)


async def main(state: Path, mountpoint: Path) -> None:
    state.mkdir(parents=True, exist_ok=True)
    lock = StateLock(str(state))
    fd = mount(str(mountpoint), {"default_permissions": None}, name="hanging")
    pyfuse3.init(Deadly(), f"/dev/fd/{fd}", set())
    directory.announce(
        name="x", remote="x", mountpoint=mountpoint, state_dir=state, socket=state / "control.sock"
    )
    threading.Thread(target=os.path.exists, args=(mountpoint / "name",), daemon=True).start()
    await pyfuse3.main()
    lock.release()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]))
