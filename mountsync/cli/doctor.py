"""`mountsync doctor`: what is wrong with this machine's set-up, and what to do about it."""

from __future__ import annotations

import ctypes.util
import importlib
import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from mountsync.cli.forms import Finding, Findings
from mountsync.cli.output import emit_json
from mountsync.errors import MountsyncError
from mountsync.formats.sizes import human_size
from mountsync.settings import state_root

_LOW_SPACE: Final = 1 << 30


def _ok(check: str, found: str) -> Finding:
    return Finding(check=check, level="ok", found=found)


def _wrong(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, level="wrong", found=found, fix=fix)


def _python() -> Finding:
    return _ok("python", f"{platform.python_version()} at {sys.executable}")


def _kernel() -> Finding:
    release = platform.release()
    if platform.system() != "Linux":
        return _wrong("kernel", platform.system(), "mountsync mounts on Linux only")
    return _ok("kernel", release)


def _device() -> Finding:
    try:
        is_device = stat.S_ISCHR(os.stat("/dev/fuse").st_mode)
    except OSError:
        is_device = False
    if not is_device:
        fix = "load the kernel module: sudo modprobe fuse (in a container: --device /dev/fuse)"
        return _wrong("/dev/fuse", "missing", fix)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return _wrong("/dev/fuse", "not yours to open", "sudo chmod 0666 /dev/fuse")
    return _ok("/dev/fuse", "there")


def _helper() -> Finding:
    path = shutil.which("fusermount3")
    if path is None:
        return _wrong("fusermount3", "missing", "sudo apt-get install fuse3")
    if os.getuid() != 0 and not os.stat(path).st_mode & stat.S_ISUID:
        return _wrong("fusermount3", f"{path} is not setuid root", f"sudo chmod u+s {path}")
    return _ok("fusermount3", path)


def _library() -> Finding:
    name = ctypes.util.find_library("fuse3")
    if name is None:
        return _wrong("libfuse3", "missing", "sudo apt-get install libfuse3-dev fuse3")
    return _ok("libfuse3", name)


def _binding() -> Finding:
    try:
        binding = importlib.import_module("pyfuse3")  # whether it loads is what is asked here
    except ImportError as error:
        fix = "sudo apt-get install libfuse3-dev pkg-config gcc python3-dev, then install mountsync again"
        return _wrong("pyfuse3", str(error), fix)
    return _ok("pyfuse3", str(binding.__version__))


def _other_users() -> Finding:
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if os.getuid() == 0 or "user_allow_other" in (line.strip() for line in lines):
        return _ok("--allow-other", "permitted")
    fix = "only needed for --allow-other: add the line user_allow_other to /etc/fuse.conf"
    return Finding(check="--allow-other", level="note", found="not permitted", fix=fix)


def _state() -> Finding:
    root = state_root()
    nearest = next(place for place in (root, *root.parents) if place.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        return _wrong("state folder", f"{nearest} is not writable", "set XDG_STATE_HOME")
    free = shutil.disk_usage(nearest).free
    found = f"{root}, {human_size(free)} free"
    if free < _LOW_SPACE:
        return _wrong("state folder", found, "make room, or use --cache-dir on another disk")
    return _ok("state folder", found)


def _config() -> Finding:
    from mountsync.cli.remotes import configuration  # noqa: PLC0415 - other checks work without it

    try:
        loaded = configuration()
    except MountsyncError as error:
        return _wrong("configuration", str(error), "mountsync config check")
    return _ok("configuration", f"{loaded.path}: {len(loaded.remotes)} remotes")


def _dead_mounts() -> Finding:
    from mountsync.control.mounts import condition, mountsync_mounts  # noqa: PLC0415 - only here

    bad = [(place, state) for place in mountsync_mounts() if (state := condition(place)) != "alive"]
    if bad:
        found = ", ".join(f"{place} {'is dead' if state == 'dead' else state}" for place, state in bad)
        return _wrong("mounts", found, "; ".join(f"mountsync umount {place}" for place, _ in bad))
    return _ok("mounts", "none is dead")


CHECKS: Final[tuple[Callable[[], Finding], ...]] = (
    _kernel,
    _python,
    _device,
    _helper,
    _library,
    _binding,
    _other_users,
    _state,
    _config,
    _dead_mounts,
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, as_json: bool) -> int:
    """Check what mounting needs on this machine, and say how to mend what is missing.

    Exit code 4 when something is wrong.
    """
    findings = [check() for check in CHECKS]
    if as_json:
        emit_json(Findings(findings=findings))
    else:
        for each in findings:
            click.echo(f"{each.level:5} {each.check}: {each.found}" + (f"; {each.fix}" if each.fix else ""))
    return 4 if any(each.level == "wrong" for each in findings) else 0
