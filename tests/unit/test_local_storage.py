"""What is special about the local disk: links, lost roots, odd files, unfinished files, durability."""

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
import trio

from mountsync.errors import (
    DirectoryNotEmpty,
    IsADirectory,
    NameRefused,
    NoSpace,
    NotADirectory,
    NotFound,
    PathError,
    PermissionDenied,
    Stale,
    Unreachable,
    Unsupported,
)
from mountsync.model.entry import Entry, Kind, Problem
from mountsync.paths import ROOT, RelPath
from mountsync.storage import syscalls
from mountsync.storage.api import ABSENT
from mountsync.storage.local import LocalStorage
from mountsync.storage.local_disk import DiskFacts
from mountsync.storage.local_draft import Draft
from mountsync.storage.local_root import LocalRoot
from mountsync.storage.sources import FileSource
from tests.parts.bodies import BreakingSource, ChangingSource, StoppingSource, body, get, items, put

# ---- the root ------------------------------------------------------------------------------------


def test_the_root_must_exist(tmp_path):
    with pytest.raises(NotFound, match="mkdir -p"):
        LocalStorage(str(tmp_path / "nothing"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectory):
        LocalStorage(str(tmp_path / "file"))


def _lose(root):
    root.rename(root.with_name("elsewhere"))


def _replace_by_empty(root):
    _lose(root)
    root.mkdir()


def _replace_by_file(root):
    _lose(root)
    root.write_bytes(b"")


@pytest.mark.parametrize("lose", [_lose, _replace_by_empty, _replace_by_file])
async def test_a_lost_root_is_out_of_reach_and_not_empty(storage, root, lose):
    await put(storage, "d/f", b"x")
    lose(root)
    for call in (
        lambda: items(storage),
        lambda: items(storage, "d"),
        lambda: storage.stat(RelPath("d/f")),
        lambda: storage.stat(ROOT),
        lambda: get(storage, "d/f"),
        lambda: put(storage, "new", b"x"),
        lambda: put(storage, "large", body(2_000_000)),
        lambda: storage.delete(RelPath("d/f")),
        lambda: storage.move(RelPath("d"), RelPath("e")),
        lambda: storage.make_directory(RelPath("m")),
        storage.usage,
        storage.barrier,
    ):
        with pytest.raises(Unreachable):
            await call()
    elsewhere = root.with_name("elsewhere")
    assert (elsewhere / "d" / "f").read_bytes() == b"x"
    if root.is_file():
        root.unlink()
    elif root.exists():
        assert os.listdir(root) == []
        root.rmdir()
    elsewhere.rename(root)
    assert set(await items(storage)) == {"d", "d/f"}


async def test_a_root_that_goes_while_it_is_listed(storage, root):
    for n in range(3):
        await put(storage, f"d{n}/f", b"x")
    with pytest.raises(Unreachable):
        async with storage.list(ROOT, recursive=True) as batches:
            _lose(root)
            async for _ in batches:
                pass


async def test_an_open_storage_does_not_hold_the_root(storage, root):
    await put(storage, "f", b"x")
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert not [path for path in held if path.startswith(str(root))]


def _is_open(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")


# ---- links ---------------------------------------------------------------------------------------


async def test_links_never_lead_outside(storage, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "way").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    assert set(await items(storage)) == {"way", "file"}
    assert (await storage.stat(RelPath("way"))).kind is Kind.SYMLINK
    assert await storage.stat(RelPath("way/secret")) is None
    with pytest.raises(NotFound):
        await get(storage, "way/secret")
    with pytest.raises(Unsupported):
        await get(storage, "file")
    with pytest.raises(NotADirectory):
        await items(storage, "way")
    for call in (
        lambda: put(storage, "way/new", b"x"),
        lambda: storage.make_directory(RelPath("way/new")),
        lambda: storage.make_directory(RelPath("way")),
        lambda: storage.move(RelPath("file"), RelPath("way/new")),
        lambda: storage.copy(RelPath("file"), RelPath("way/new")),
        lambda: storage.set_mode(RelPath("file"), 0o777),
        lambda: storage.set_mode(RelPath("way/secret"), 0o777),
        lambda: storage.delete(RelPath("way/secret")),
        lambda: storage.remove_directory(RelPath("way")),
    ):
        with pytest.raises(PathError):
            await call()
    assert os.listdir(outside) == ["secret"]
    await put(storage, "file", b"a file now")
    assert (outside / "secret").read_bytes() == b"secret"
    assert (root / "file").read_bytes() == b"a file now"


async def test_set_mtime_of_a_link_leaves_its_target(storage, root):
    (root / "target").write_bytes(b"x")
    (root / "link").symlink_to("target")
    before = (root / "target").stat().st_mtime_ns
    await storage.set_mtime(RelPath("link"), 10**18)
    assert (root / "target").stat().st_mtime_ns == before
    assert (root / "link").lstat().st_mtime_ns == 10**18


async def test_hard_links_of_one_file_do_not_move_onto_each_other(storage, root):
    """rename() would do nothing and report success."""
    await put(storage, "a", b"x")
    os.link(root / "a", root / "b")
    with pytest.raises(Unsupported, match="hard links"):
        await storage.move(RelPath("a"), RelPath("b"), replace=None)
    assert set(await items(storage)) == {"a", "b"}


# ---- what cannot travel or be read ---------------------------------------------------------------


async def test_special_files_are_problems_of_their_own_path(storage, root):
    await put(storage, "d/f", b"x")
    os.mkfifo(root / "d" / "pipe")
    found = await items(storage)
    assert set(found) == {"d", "d/f", "d/pipe"}
    problem = found["d/pipe"]
    assert isinstance(problem, Problem)
    assert not problem.transient
    assert problem.error == "Unsupported"
    with trio.fail_after(5):
        for call in (
            lambda: get(storage, "d/pipe"),
            lambda: put(storage, "d/pipe", b"x"),
            lambda: storage.stat(RelPath("d/pipe")),
            lambda: storage.delete(RelPath("d/pipe")),
            lambda: storage.move(RelPath("d/pipe"), RelPath("p")),
        ):
            with pytest.raises(Unsupported):
                await call()
    assert stat.S_ISFIFO((root / "d" / "pipe").stat().st_mode)


@pytest.fixture
def plain_user():
    """A folder of a user without rights over everything, and that user's effective id."""
    folder = Path(tempfile.mkdtemp())
    uid = os.geteuid() or 65534
    os.chown(folder, uid, -1)
    before = os.geteuid()
    os.seteuid(uid)
    yield folder
    os.seteuid(before)
    shutil.rmtree(folder)


async def test_an_unreadable_directory_is_a_problem_and_the_rest_goes_on(plain_user):
    storage = LocalStorage(str(plain_user))
    for name in ("a/f", "b/f", "c/f"):
        await put(storage, name, b"x")
    (plain_user / "b").chmod(0)
    found: dict = {}
    async with storage.list(ROOT, recursive=True) as batches:
        async for batch in batches:
            for path, item in batch:
                found.setdefault(path, []).append(item)
    (plain_user / "b").chmod(0o700)
    assert set(found) == {"a", "a/f", "b", "c", "c/f"}
    entry, problem = found["b"]
    assert isinstance(entry, Entry)
    assert isinstance(problem, Problem)
    assert problem.error == "PermissionDenied"


async def test_could_not_look_is_not_absence(plain_user):
    storage = LocalStorage(str(plain_user))
    await put(storage, "d/f", b"x")
    (plain_user / "d").chmod(0)
    for call in (
        lambda: storage.stat(RelPath("d/f")),
        lambda: get(storage, "d/f"),
        lambda: storage.delete(RelPath("d/f")),
        lambda: put(storage, "d/f", b"y"),
    ):
        with pytest.raises(PermissionDenied):
            await call()
    (plain_user / "d").chmod(0o700)
    assert await get(storage, "d/f") == b"x"


# ---- tokens --------------------------------------------------------------------------------------


async def test_foreign_edits_change_the_token(storage, root):
    first = await put(storage, "f", b"one", mtime_ns=10**18)
    with (root / "f").open("r+b") as file:
        file.write(b"two")
    second = await storage.stat(RelPath("f"))
    assert second.token != first.token
    os.utime(root / "f", ns=(10**18, 10**18))
    os.rename(root / "f", root / "aside")
    (root / "f").write_bytes(b"six")
    os.utime(root / "f", ns=(10**18, 10**18))
    third = await storage.stat(RelPath("f"))
    assert third.token != first.token, "a replacement is seen although size and time are the same"


async def test_a_foreign_rename_or_link_keeps_the_token(storage, root):
    entry = await put(storage, "f", b"one")
    os.link(root / "f", root / "hard")
    os.rename(root / "f", root / "g")
    (root / "g").chmod(0o600)
    assert (await storage.stat(RelPath("g"))).token == entry.token


async def test_an_edit_in_place_while_reading_is_stale(storage, root):
    await put(storage, "f", body(3_000_000))
    with pytest.raises(Stale):
        async with storage.read(RelPath("f")) as pieces:
            async for _ in pieces:
                with (root / "f").open("r+b") as file:
                    file.write(b"changed")
                os.utime(root / "f", ns=(10**18, 10**18))


# ---- writing -------------------------------------------------------------------------------------


async def test_new_files_follow_the_umask(storage, root):
    before = os.umask(0o027)
    try:
        entry = await put(storage, "f", b"x")
    finally:
        os.umask(before)
    assert entry.mode == 0o640


async def test_the_unfinished_version_of_a_private_file_is_private(storage, root):
    await put(storage, "f", b"x")
    await storage.set_mode(RelPath("f"), 0o600)
    draft = Draft(storage._root, storage._temporaries, RelPath("f"), replace=None, occupied=Stale)
    draft.begin()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()}
    draft.discard()
    assert modes == {0o600}


async def test_a_large_file_is_copied_inside_the_kernel(storage, tmp_path):
    data = body(5_000_001)
    (tmp_path / "source").write_bytes(data)
    with FileSource(str(tmp_path / "source")) as source:
        assert (await storage.write(RelPath("f"), source, mtime_ns=10**18)).size == len(data)
        with open(tmp_path / "source", "ab") as file:
            file.write(b"more")
        with pytest.raises(Stale):
            await storage.write(RelPath("f"), source)
    assert await get(storage, "f") == data
    assert set(await items(storage)) == {"f"}


async def test_a_mode_wider_than_the_umask_is_kept(storage, root):
    await put(storage, "f", b"x")
    (root / "f").chmod(0o666)
    assert (await put(storage, "f", b"new")).mode == 0o666


@pytest.fixture
def syncs(monkeypatch):
    """What was made durable and renamed, in order."""
    done = []
    fsync, rename, noreplace = os.fsync, os.rename, syscalls.rename_noreplace

    def record(name, call):
        def recorded(*arguments, **more):
            done.append(name)
            return call(*arguments, **more)

        return recorded

    monkeypatch.setattr(os, "fsync", record("sync", fsync))
    monkeypatch.setattr(os, "rename", record("rename", rename))
    monkeypatch.setattr(syscalls, "rename_noreplace", record("rename", noreplace))
    return done


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_is_synced_before_it_stands(storage, syncs, ordered):
    """A power cut after the rename must not show a name with half a body, where one was before."""
    storage._root.facts = DiskFacts(orders_replacing=ordered)
    await put(storage, "new", b"small", expect=ABSENT)
    assert syncs == ["rename"], "the barrier makes new small files durable"
    syncs.clear()
    await put(storage, "new", b"other")
    assert syncs == (["rename"] if ordered else ["sync", "rename"])
    for data, more in ((body(2_000_000), {}), (body(2_000_000), {"expect": ABSENT})):
        syncs.clear()
        await put(storage, "newer" if more else "new", data, **more)
        assert syncs == ["sync", "rename"]


async def test_another_file_system_below_is_synced_at_once(storage, syncs, monkeypatch):
    """The barrier reaches only the file system of the root."""
    await storage.make_directory(RelPath("mounted"))
    open_root = LocalRoot.open

    def elsewhere(self, *arguments):
        fd = open_root(self, *arguments)
        self.device = -1
        return fd

    monkeypatch.setattr(LocalRoot, "open", elsewhere)
    syncs.clear()
    await put(storage, "mounted/new", b"small")
    assert syncs == ["sync", "rename", "sync"]
    syncs.clear()
    await storage.delete(RelPath("mounted/new"))
    assert syncs == ["sync"]


async def test_the_root_itself_is_no_object(storage):
    for call in (lambda: storage.delete(ROOT), lambda: put(storage, "", b"x"), lambda: get(storage, "")):
        with pytest.raises(IsADirectory):
            await call()
    for call in (lambda: storage.remove_directory(ROOT), lambda: storage.move(ROOT, RelPath("x"))):
        with pytest.raises(PermissionDenied):
            await call()


# ---- unfinished files ----------------------------------------------------------------------------


def _leave_unfinished(storage, path):
    """What the death of the process leaves."""
    draft = Draft(storage._root, storage._temporaries, RelPath(path), replace=None, occupied=Stale)
    draft.begin()
    draft.append(b"half of it")


async def test_unfinished_files_are_hidden_and_recovered(storage, root, tmp_path):
    await put(storage, "d/f", b"x")
    _leave_unfinished(storage, "d/f")
    _leave_unfinished(storage, "e/new")
    assert set(await items(storage)) == {"d", "d/f", "e"}
    await storage.recover_attempts()
    assert len(os.listdir(root / "e")) == 1, "what this process does now is not abandoned"
    await storage.aclose()
    foreign = LocalStorage(str(root), state_dir=tmp_path / "other state")
    await foreign.recover_attempts()
    assert len(os.listdir(root / "e")) == 1, "another state folder's files are not ours"
    again = LocalStorage(str(root), state_dir=tmp_path / "state")
    await again.recover_attempts()
    assert os.listdir(root / "e") == []
    assert os.listdir(root / "d") == ["f"]
    await again.aclose()
    await foreign.aclose()


async def test_an_abandoned_file_does_not_keep_its_directory(storage, root, tmp_path):
    _leave_unfinished(storage, "d/f")
    await storage.aclose()
    again = LocalStorage(str(root), state_dir=tmp_path / "state")
    await again.remove_directory(RelPath("d"))
    assert await items(again) == {}
    await again.aclose()


async def test_two_processes_with_one_state_folder_do_not_meet(storage, root, tmp_path):
    _leave_unfinished(storage, "d/f")
    second = LocalStorage(str(root), state_dir=tmp_path / "state")
    await second.recover_attempts()
    assert len(os.listdir(root / "d")) == 1
    await second.aclose()


async def test_what_this_process_has_under_way_is_not_swept(storage, root, tmp_path):
    _leave_unfinished(storage, "d/f")
    await storage.aclose()
    again = LocalStorage(str(root), state_dir=tmp_path / "state")
    draft = Draft(again._root, again._temporaries, RelPath("d/g"), replace=None, occupied=Stale)
    draft.begin()
    draft.append(b"now")
    with pytest.raises(DirectoryNotEmpty):
        await again.remove_directory(RelPath("d"))
    await again.recover_attempts()
    assert len(os.listdir(root / "d")) == 1
    draft.commit(size=3, mtime_ns=None, sync=False)
    assert os.listdir(root / "d") == ["g"]
    await again.aclose()


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_failed_writes_leave_nothing_on_the_disk(storage, root, size):
    with pytest.raises(Stale):
        await storage.write(RelPath("d/f"), ChangingSource(body(size)))
    with pytest.raises(Unreachable):
        await storage.write(RelPath("d/f"), BreakingSource(body(size), size // 2, Unreachable("gone")))
    source = StoppingSource(body(size), size // 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.write, RelPath("d/f"), source)
        await source.reached.wait()
        nursery.cancel_scope.cancel()
    assert [path for path in root.rglob("*") if not path.is_dir()] == []


async def test_a_full_disk_leaves_nothing(storage, root, monkeypatch):
    await put(storage, "f", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Draft, "append", full)
    for size in (100, 3_000_000):
        with pytest.raises(NoSpace):
            await put(storage, "f", body(size))
    assert os.listdir(root) == ["f"]
    assert await get(storage, "f") == b"old"


async def test_names_of_unfinished_files_are_refused(storage):
    for name in (".0123456789ab.mountsync-tmp-0123456789", "d/.0123456789ab.mountsync-tmp-0123456789"):
        for call in (
            lambda name=name: put(storage, name, b"x"),
            lambda name=name: storage.make_directory(RelPath(name)),
            lambda name=name: storage.make_symlink(RelPath(name), "x"),
        ):
            with pytest.raises(NameRefused):
                await call()
    await put(storage, ".mine.mountsync-tmp-notours", b"x")
    assert ".mine.mountsync-tmp-notours" in await items(storage)


async def test_damaged_notes_are_begun_anew(root, tmp_path):
    for content in (b"", b"garbage", b"\xff\0\0x"):
        state = tmp_path / "state"
        first = LocalStorage(str(root), state_dir=state)
        await first.aclose()
        (notes,) = state.iterdir()
        notes.write_bytes(content)
        again = LocalStorage(str(root), state_dir=state)
        await again.recover_attempts()
        await put(again, "f", b"x")
        await again.aclose()
