"""What is known of file systems without trying them out."""

import pytest

from mountsync.errors import NameRefused
from mountsync.paths import RelPath
from mountsync.storage import local_root
from mountsync.storage.local import LocalStorage
from mountsync.storage.local_disk import disk_facts, facts_of, mount_of

MOUNTS = rb"""
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
22 21 0:20 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1k
30 21 8:1 / /media/my\040stick rw - vfat /dev/sdb1 rw,uid=0
31 21 8:2 / /data rw - ext4 /dev/sdc1 rw,data=writeback
32 21 8:3 / /data rw - xfs /dev/sdd1 rw
broken line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        (b"/", "ext4"),
        (b"/home/x", "ext4"),
        (b"/tmp", "tmpfs"),
        (b"/tmp/x", "tmpfs"),
        (b"/tmpfile", "ext4"),
        (b"/media/my stick/a", "vfat"),
        (b"/data/x", "xfs"),
    ],
)
def test_finds_the_mount(folder, kind):
    assert mount_of(folder, MOUNTS)[0] == kind


def test_options_decide_about_order():
    assert facts_of("ext4", mount_of(b"/home", MOUNTS)[1]).orders_replacing
    for option in ("data=writeback", "noauto_da_alloc"):
        assert not facts_of("ext4", frozenset({"rw", option})).orders_replacing
    for kind in ("xfs", "overlay", "nfs4", "fuse.sshfs", ""):
        assert not facts_of(kind, frozenset()).orders_replacing


def test_dos_disks():
    facts = facts_of("vfat", frozenset())
    assert facts.mtime_precision_ns == 2_000_000_000
    assert not facts.case_sensitive
    assert isinstance(facts.names.refusal(RelPath("a:b")), NameRefused)
    assert facts.names.refusal(RelPath("d/plain name")) is None


async def test_a_storage_tells_what_its_disk_can(tmp_path, monkeypatch):
    monkeypatch.setattr(local_root, "disk_facts", lambda folder: facts_of("vfat", frozenset()))
    info = LocalStorage(str(tmp_path)).info
    assert (info.mtime_precision_ns, info.case_sensitive) == (2_000_000_000, False)
    assert isinstance(info.names.refusal(RelPath("what?")), NameRefused)


def test_this_machine(tmp_path):
    assert disk_facts(str(tmp_path).encode()) is not None
