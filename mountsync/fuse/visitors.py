"""Programs that look into every file of a folder by themselves: thumbnailers and indexers.

Nobody asked for what they read, so a folder whose contents are on the remote must not be downloaded for
them. They are known by the names of their processes. What they find here already they may read.

Only facts of /proc are read that never wait for the other process's memory (its name, its program, its
group of threads); the words of its command line, which may, only for KDE's workers, which have one
program for all that they do. All of it blocks and belongs into a thread.
"""

from __future__ import annotations

import os
from typing import Final

THUMBNAILERS: Final = (
    "tumblerd",  # Xfce, LXQt, MATE
    "gdk-pixbuf-thumbnailer",
    "gnome-thumbnail-font",
    "mate-thumbnail-font",
    "totem-video-thumbnailer",
    "showtime-thumbnailer",
    "evince-thumbnailer",
    "atril-thumbnailer",
    "xreader-thumbnailer",
    "papers-thumbnailer",
    "glycin-thumbnailer",
    "ffmpegthumbnailer",
    "gsf-office-thumbnailer",
    "heif-thumbnailer",
    "webp-pixbuf-thumbnailer",
    "jxl-thumbnailer",
    "raw-thumbnailer",
    "gnome-raw-thumbnailer",
    "gnome-epub-thumbnailer",
    "gnome-mobi-thumbnailer",
    "bookworm-thumbnailer",
    "xapp-thumbnailer",
    "stl-thumb",
    "f3d-thumbnailer",
)
INDEXERS: Final = (
    "tracker-extract",
    "tracker-extract-3",
    "tracker-miner-fs",
    "tracker-miner-fs-3",
    "localsearch",
    "localsearch-3",
    "localsearch-extractor-3",
    "baloo_file",
    "baloo_file_extractor",
    "baloo_filemetadata_temp_extractor",
    "recollindex",
    "beagled",
)
_WORKERS: Final = ("kioworker", "kioslave5", "kioslave")
_COMM: Final = 15
"""The length to which the kernel cuts the name of a process."""
_NAMES: Final = frozenset((*THUMBNAILERS, *INDEXERS))
_CUT: Final = frozenset(name[:_COMM] for name in _NAMES)


def is_uninvited(pid: int) -> bool:
    """Whether the process, or thread, of this id is a known thumbnailer or indexer; False when it is gone."""
    if pid <= 0:  # the kernel itself, or a process that this system cannot see
        return False
    program = _program(pid)
    if program in _WORKERS:
        return _makes_thumbnails(pid)
    return program in _NAMES or _name(_group(pid)) in _CUT


def _program(pid: int) -> str:
    """The file name of the program; empty for a process of another user."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except OSError:
        return ""


def _group(pid: int) -> int:
    """The process that a thread belongs to: requests carry the id of the thread."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("Tgid:"):
            return int(line.split()[1])
    return pid


def _name(pid: int) -> str:
    """What the process calls itself: its program, or the script that it runs."""
    return _read(f"/proc/{pid}/comm").rstrip("\n")


def _makes_thumbnails(pid: int) -> bool:
    words = _read(f"/proc/{pid}/cmdline").split("\0")
    return any(os.path.basename(word) in ("thumbnail", "thumbnail.so") for word in words[1:])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
