"""Mounting and unmounting: by mount(2) as root, by fusermount3 otherwise. All of it blocks."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import stat
import subprocess
from contextlib import suppress
from typing import Final

from mountsync.errors import MountError

DEVICE: Final = "/dev/fuse"
_MS_NOSUID, _MS_NODEV, _MS_RDONLY, _MS_NOEXEC = 2, 4, 1, 8
_MNT_FORCE: Final = 1
_MNT_DETACH: Final = 2
_CONNECTIONS: Final = "/sys/fs/fuse/connections"
_libc = ctypes.CDLL(None, use_errno=True)


def mounted_at(mountpoint: str) -> tuple[str, int, int] | None:
    """Type, major and minor device number of what is mounted exactly there; None when nothing is."""
    wanted = os.path.realpath(os.path.dirname(mountpoint)) + "/" + os.path.basename(mountpoint)
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split(" ")
            if _unescape(fields[4]) == wanted.replace("//", "/"):
                major, minor = fields[2].split(":")
                found = (fields[fields.index("-") + 1], int(major), int(minor))
    return found


def _unescape(text: str) -> str:
    for code in ("\\040", "\\011", "\\012", "\\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text


def make_ready(mountpoint: str) -> None:
    """Repairs a dead mount point. Raises MountError when it is missing, in use or not empty."""
    kind = mounted_at(mountpoint)
    if kind is not None and kind[0] == "autofs":
        _refuse_others_automount(mountpoint)
        return
    try:
        os.statvfs(mountpoint)  # the kernel answers this one from no cache, so a dead mount shows
        found = os.stat(mountpoint)
    except FileNotFoundError as error:
        raise MountError("the mount point does not exist", path=mountpoint, hint="make the folder") from error
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise MountError(
                f"the mount point cannot be used ({os.strerror(error.errno or 0)})", path=mountpoint
            ) from error
        unmount(mountpoint, lazy=True)
        make_ready(mountpoint)
        return
    if not stat.S_ISDIR(found.st_mode):
        raise MountError("the mount point is not a folder", path=mountpoint)
    if kind is not None and kind[0].startswith("fuse"):
        raise MountError(
            "something is mounted there already",
            path=mountpoint,
            hint="unmount it with `mountsync umount`, or choose another folder",
        )
    if os.listdir(mountpoint):
        raise MountError("the mount point is not empty", path=mountpoint, hint="choose an empty folder")


def _refuse_others_automount(mountpoint: str) -> None:
    """An automount waits for us: whoever looks into it waits until we have mounted, so we must not look."""
    if os.geteuid() != 0:
        raise MountError(
            "an automount can be filled by root alone",
            path=mountpoint,
            hint="in /etc/fstab use allow_other,uid=,gid= in the place of setuid=",
        )


def mount(
    mountpoint: str,
    options: dict[str, str | None],
    *,
    name: str,
    read_only: bool = False,
    executable: bool = True,
) -> int:
    """Mounts and returns the descriptor through which the kernel's requests come. Raises MountError."""
    if not os.path.exists(DEVICE):
        raise MountError(
            f"{DEVICE} does not exist", hint="install the Debian package fuse3 and load the module `fuse`"
        )
    if os.geteuid() == 0:
        flags = (_MS_RDONLY if read_only else 0) | (0 if executable else _MS_NOEXEC)
        return _mount_as_root(mountpoint, options, name=name, flags=flags)
    limits: dict[str, str | None] = {}
    if read_only:
        limits["ro"] = None
    if not executable:
        limits["noexec"] = None
    return _mount_as_user(mountpoint, options | limits, name=name)


def _text(options: dict[str, str | None]) -> str:
    return ",".join(key if value is None else f"{key}={value}" for key, value in options.items())


def _mount_as_root(mountpoint: str, options: dict[str, str | None], *, name: str, flags: int) -> int:
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    rootmode = stat.S_IFMT(os.stat(mountpoint).st_mode)
    own: dict[str, str | None] = {
        "fd": str(fd),
        "rootmode": f"{rootmode:o}",
        "user_id": str(os.getuid()),
        "group_id": str(os.getgid()),
    }
    result = _libc.mount(
        name.encode("utf-8", "surrogateescape"),
        os.fsencode(mountpoint),
        b"fuse.mountsync",
        _MS_NOSUID | _MS_NODEV | flags,
        _text(options | own).encode(),
    )
    if result != 0:
        reason = os.strerror(ctypes.get_errno())
        os.close(fd)
        raise MountError(f"the kernel refuses the mount ({reason})", path=mountpoint)
    return fd


def _mount_as_user(mountpoint: str, options: dict[str, str | None], *, name: str) -> int:
    helper = shutil.which("fusermount3")
    if helper is None:
        raise MountError("fusermount3 is missing", hint="install the Debian package fuse3")
    asked = options | {
        "fsname": name.replace(",", "_"),
        "subtype": "mountsync",
        "nosuid": None,
        "nodev": None,
    }
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
            [helper, "-o", _text(asked), "--", mountpoint],
            env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise MountError(f"fusermount3 refuses the mount ({reason[0]})", path=mountpoint)
        return _receive(ours)


def _receive(channel: socket.socket) -> int:
    descriptors = array.array("i")
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(descriptors.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: descriptors.itemsize])
            os.set_inheritable(descriptors[0], False)
            return descriptors[0]
    raise MountError("fusermount3 gave no descriptor")


def unmount(mountpoint: str, *, lazy: bool) -> bool:
    """Unmounts; tells whether it went. `lazy`: the name goes at once, open files go on to their end.

    Not lazy, the kernel first writes all that it has, so the mount must still be served.
    """
    if os.geteuid() == 0:
        result: int = _libc.umount2(os.fsencode(mountpoint), _MNT_DETACH if lazy else 0)
        return result == 0
    helper = shutil.which("fusermount3")
    if helper is None:
        raise MountError("fusermount3 is missing", hint="install the Debian package fuse3")
    command = [helper, "-u", "-q", *(["-z"] if lazy else []), "--", mountpoint]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell
    return done.returncode == 0


def cut_off(mountpoint: str) -> bool:
    """Ends all requests to a mount whose process was killed and cannot die as long as one waits for it.

    The kernel's control file system lets the owner do that; without it root alone can. Whether it was done.
    """
    kind = mounted_at(mountpoint)
    if kind is None or not kind[0].startswith("fuse"):
        return False
    with suppress(OSError), open(f"{_CONNECTIONS}/{kind[2]}/abort", "w", encoding="ascii") as switch:
        switch.write("1")
        return True
    _libc.umount2(os.fsencode(mountpoint), _MNT_FORCE)
    return os.geteuid() == 0


def sync(mountpoint: str) -> None:
    """Lets the kernel write all that it has for this mount, which must still be served."""
    fd = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _libc.syncfs(fd)
    finally:
        os.close(fd)


def raise_read_ahead(mountpoint: str, kib: int) -> bool:
    """Lets the kernel read ahead that much; tells whether that was permitted."""
    found = mounted_at(mountpoint)
    if found is None:
        return False
    try:
        with open(f"/sys/class/bdi/{found[1]}:{found[2]}/read_ahead_kb", "w", encoding="ascii") as knob:
            knob.write(str(kib))
    except OSError:
        return False
    return True
