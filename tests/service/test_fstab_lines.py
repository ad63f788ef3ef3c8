"""Lines of /etc/fstab: what options mean, and the real mount(8)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountsync.errors import UsageError
from mountsync.formats.fstab_options import parse_fstab_options
from tests.parts.readable import readable_within
from tests.parts.real_mount import Mounted

SCRIPTS = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("defaults,rw,_netdev,noauto,nofail,user,x-systemd.automount,X-y=1,dev,suid", {}),
        ("ro", {"read_only": "true"}),
        ("ro,rw", {}),
        ("noexec,nosuid,nodev,user=me", {"exec": "false"}),
        ("noexec,exec", {}),
        ("sync,cache-size=1G", {"durability": "close", "cache_size": "1G"}),
        ("allow_other,uid=7", {"allow_other": None, "uid": "7"}),
        ('local_only="*.a,*.b",umask=022', {"local_only": "*.a,*.b", "umask": "022"}),
        ("chunker_chunk_size=4M", {"chunker_chunk_size": "4M"}),
    ],
)
def test_options(text: str, values: dict[str, str | None]) -> None:
    assert parse_fstab_options(text).values == values


def test_options_for_the_helper_itself() -> None:
    found = parse_fstab_options("config=/etc/m.toml,setuid=me")
    assert (found.config, found.user, found.values) == ("/etc/m.toml", "me", {})


@pytest.mark.parametrize("text", ["remount,ro", "allow_root", "config=", "setuid", 'a="b'])
def test_what_cannot_be(text: str) -> None:
    with pytest.raises(UsageError):
        parse_fstab_options(text)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path / "place")
    (made.remote / "a").write_text("far")
    yield made
    made.end()


def helper(place: Mounted, *words: str) -> tuple[int, str]:
    """`mount.mountsync` with these words; exit code, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", "from mountsync.cli.fstab import main; main()", *words],
        env=place.environment,
        cwd=place.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_helper_returns_when_it_is_mounted(place: Mounted) -> None:
    options = f"rw,user,noexec,_netdev,uid=0,cache_dir={place.cache},chunker_chunk_size=1M"
    assert helper(place, "./remote", "mnt", "-o", options) == (0, "")
    assert (place.path / "a").read_text() == "far"
    [line] = [line for line in Path("/proc/mounts").read_text().splitlines() if str(place.path) in line]
    assert "fuse.mountsync" in line
    assert "noexec" in line
    again = helper(place, "./remote", "mnt", "-o", options)
    assert again[0] == 32
    assert "in use by process" in again[1]
    place.run("umount", str(place.path))


def test_the_helper_says_what_is_wrong(place: Mounted) -> None:
    for words, code, reason in (
        (("./remote", "mnt", "-o", "casche_size=1G"), 1, "did you mean 'cache_size'"),
        (("./remote", "mnt", "-o", "cache_size=x"), 1, "option cache_size: 'x' is not a size"),
        (("./remote", "mnt", "-o", "cache_dir"), 1, "needs a value"),
        (("./remote", "mnt", "-o", "uid=no such user"), 1, "there is no 'no such user'"),
        (("./remote", "mnt", "-o", "setuid=no such user"), 1, "there is no user"),
        (("./remote", "mnt", "-o", "remount,ro"), 1, "unmount it, then mount it"),
        (("none:", "mnt"), 1, "there is no remote 'none'"),
        (("./remote",), 1, "usage: mount.mountsync SPEC DIR"),
        (("./remote", "mnt", "-q"), 1, "there is no flag -q"),
        (("./remote", "missing"), 32, "the mount point does not exist"),
        (("./gone", "mnt"), 32, "gone"),
    ):
        found, said = helper(place, *words)
        assert (found, reason in said, said.count("\n")) == (code, True, 1), said


def test_a_dry_run_mounts_nothing_and_a_sloppy_one_forgives(place: Mounted) -> None:
    assert helper(place, "./remote", "mnt", "-f", "-o", "ro") == (0, "")
    assert helper(place, "./remote", "mnt", "-fs", "-o", "unheard_of=1") == (0, "")
    assert not os.path.ismount(place.path)


_READY = 0x9360
"""AUTOFS_IOC_READY of linux/auto_fs.h: what a request asked for is there."""


class Automount:
    """What systemd puts at an `x-systemd.automount`: whoever looks into the folder waits for a mount.

    The kernel lets the process group of its maker pass, to which systemd's mount(8) belongs too.
    """

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._folder = folder
        self._asked, kernel = os.pipe()
        options = f"fd={kernel},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct".encode()
        failed = self._libc.mount(b"automount", os.fsencode(folder), b"autofs", 0, options)
        os.close(kernel)
        if failed:
            os.close(self._asked)
            pytest.skip(f"this kernel has no autofs for us: {os.strerror(ctypes.get_errno())}")
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def request(self) -> int:
        """Waits until somebody looks into the folder; the number of the request."""
        assert readable_within(self._asked, 60)
        token: int = struct.unpack_from("=iiI", os.read(self._asked, 4096))[2]
        return token

    def answer(self, token: int) -> None:
        """Lets those go on who wait."""
        fcntl.ioctl(self._root, _READY, token)

    def end(self) -> None:
        os.close(self._root)
        os.close(self._asked)  # whoever still waits is sent away
        while self._libc.umount2(os.fsencode(self._folder), 2) == 0:
            pass


@pytest.fixture
def automount(place: Mounted) -> Iterator[Automount]:
    if os.geteuid() != 0:
        pytest.skip("only root can fill an automount")
    made = Automount(place.path)
    yield made
    made.end()


def test_an_automount_is_filled_while_somebody_waits_for_it(place: Mounted, automount: Automount) -> None:
    waiting = subprocess.Popen(["cat", place.path / "a"], stdout=subprocess.PIPE, start_new_session=True)
    try:
        token = automount.request()
        assert helper(place, "./remote", "mnt", "-o", f"cache_dir={place.cache}") == (0, "")
        automount.answer(token)
        assert waiting.communicate(timeout=60)[0] == b"far"
    finally:
        waiting.kill()
        waiting.communicate(timeout=60)
    place.run("umount", str(place.path))


SCRIPT = """
set -eu
mount -t tmpfs none "$HOME/over"
mkdir "$HOME"/over/1 "$HOME"/over/2 "$HOME"/over/3 "$HOME"/over/4
mount -t overlay none -o "lowerdir=/usr/local/bin,upperdir=$HOME/over/1,workdir=$HOME/over/2" /usr/local/bin
mount -t overlay none -o "lowerdir=/usr/sbin,upperdir=$HOME/over/3,workdir=$HOME/over/4" /usr/sbin
ln -sf "$SCRIPTS/mountsync" /usr/local/bin/mountsync
ln -sf "$SCRIPTS/mount.mountsync" /usr/sbin/mount.mountsync
for type in fuse.mountsync mountsync; do
    options=ro,_netdev,x-systemd.automount,cache_dir=$HOME/cache
    echo "$HOME/remote $HOME/mnt $type $options 0 0" >"$HOME/fstab"
    mount -T "$HOME/fstab" -a
    cat "$HOME/mnt/a"
    if echo x 2>/dev/null >"$HOME/mnt/b"; then echo "it can be written"; fi
    mount -T "$HOME/fstab" -a
    awk -v at="$HOME/mnt" '$2 == at { print $3, substr($4, 1, 2) }' /proc/mounts
    umount "$HOME/mnt"
done
mount -t fuse.mountsync -o unheard_of=1 "$HOME/remote" "$HOME/mnt" || echo "code $?"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has its own mount namespace")
def test_the_real_mount_program(place: Mounted) -> None:
    if not (SCRIPTS / "mount.mountsync").exists() or shutil.which("mount.fuse3") is None:
        pytest.skip("mount.mountsync is not installed beside this Python, or mount.fuse3 is missing")
    (place.home / "over").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", SCRIPT],
        env=place.environment | {"HOME": str(place.home), "SCRIPTS": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said == ["far" + "fuse.mountsync ro"] * 2 + ["code 1"], (said, done.stderr)
    assert "option 'unheard_of' is unknown" in done.stderr
