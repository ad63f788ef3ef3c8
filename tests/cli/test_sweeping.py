"""`gc`, `fsck` and `hashsum` on a chunker."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
import trio

from mountsync.errors import PermissionDenied, Unreachable
from mountsync.formats.chunk_names import transaction_id
from mountsync.paths import RelPath
from mountsync.storage.chunker import gc
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import BreakingSource, body, put
from tests.parts.chunkers import chunker_over, open_over
from tests.parts.failing import failing
from tests.parts.shell import Shell

DATA = bytes(range(35))
META = b'{"ver":1,"size":35,"nchunks":4,"md5":"%s"}' % hashlib.md5(DATA).hexdigest().encode()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base with one sound file in chunks of 10 bytes."""
    monkeypatch.setattr(gc, "COMMIT_PAUSE", 0.05)
    found = tmp_path / "base"
    found.mkdir()
    lay(found, "big")
    return found


def lay(base: Path, name: str, suffix: str = "", *, meta: bytes = META) -> None:
    for number in range(4):
        piece = DATA[number * 10 : number * 10 + 10]
        (base / f"{name}.rclone_chunk.{number + 1:03}{suffix}").write_bytes(piece)
    if meta:
        (base / name).write_bytes(meta)


def spec(base: Path, **options: str) -> str:
    more = "".join(f",{name}={value}" for name, value in options.items())
    return f":chunker,remote={base},chunk_size=10B{more}:"


def begun(seconds_ago: float) -> str:
    return "_" + transaction_id(int(time.time() - seconds_ago), 7)


def names(base: Path) -> set[str]:
    return {str(at.relative_to(base)) for at in base.rglob("*") if at.is_file()}


def test_gc_lists_and_removes_by_age(shell: Shell, base: Path) -> None:
    sound = names(base)
    (base / "sub").mkdir()
    lay(base / "sub", "old", begun(9 * 86_400), meta=b"")
    young = begun(1800)
    lay(base, "big", young, meta=b"")
    listed = shell.run("gc", spec(base))
    assert listed.code == 0, listed.err
    assert listed.out.splitlines()[-1] == "8 leftovers of 70 B; --yes removes those at least 7 days old"
    assert len(names(base)) == len(sound) + 8, "nothing was asked to be removed"
    assert shell.here("gc", "--dry-run", spec(base)).out == listed.out
    done = shell.here("gc", "--yes", spec(base))
    assert done.out.splitlines()[-1].endswith("4 removed, 35 B freed")
    assert names(base) == sound | {f"big.rclone_chunk.{number:03}{young}" for number in range(1, 5)}
    assert "8 leftovers" not in shell.here("gc", "--yes", "--age", "0", spec(base)).out
    assert names(base) == sound
    assert shell.here("cat", spec(base) + "big").out.encode() == DATA


def test_gc_of_orphans(shell: Shell, base: Path) -> None:
    """Their age is their time; while a young upload of the same file is there, they may be its chunks."""
    sound = names(base)
    lay(base, "lost", meta=b"")
    lay(base, "busy", meta=b"")
    for at in base.iterdir():
        os.utime(at, (1e9, 1e9))
    (base / f"busy.rclone_chunk.005{begun(5)}").write_bytes(b"x")
    found = json.loads(shell.here("gc", "--yes", "--json", spec(base)).out)
    by_owner = {each["owner"]: each for each in found["leftovers"] if each["reason"] == "orphan"}
    assert by_owner["lost"]["removed"]
    assert not by_owner["busy"]["removed"]
    assert {name for name in names(base) if name.startswith("lost")} == set()
    assert len([name for name in names(base) if name.startswith("busy")]) == 5
    assert sound <= names(base)


def test_gc_takes_no_files_without_metadata_for_garbage(shell: Shell, base: Path) -> None:
    """Whoever forgets `meta_format = "none"` sees orphans only: they are the files."""
    (base / "big").unlink()
    before = names(base)
    done = shell.here("gc", "--yes", "--age", "0", spec(base))
    assert done.code == 3
    assert "4 orphans left" in done.error_line
    assert names(base) == before
    assert shell.here("gc", "--yes", "--age", "0", spec(base, meta_format="none", hash_type="none")).code == 0
    assert names(base) == before
    assert shell.here("gc", "--yes", "--age", "0", "--orphans", spec(base)).code == 0
    assert names(base) == set()


@pytest.mark.parametrize("place", ["storages", "mount-1234/storages"])
def test_gc_spares_an_upload_that_goes_on(shell: Shell, base: Path, place: str) -> None:
    """Of a command as of a mount, whatever the age that was asked for."""

    async def interrupted() -> None:
        state = shell.home / "state/mountsync" / place / "of-the-remote"
        async with chunker_over(base, state, hash_type="none") as storage:
            source = BreakingSource(body(950), 800, Unreachable("gone"))
            with pytest.raises(Unreachable):
                await storage.write(RelPath("later"), source)

    trio.run(interrupted)
    lay(base, "other", begun(60), meta=b"")
    before = {name for name in names(base) if name.startswith("later")}
    assert len(before) >= 20
    done = shell.here("gc", "--yes", "--age", "0", spec(base))
    assert "(unfinished" in done.out
    assert {name for name in names(base) if name.startswith("later")} == before
    assert not any(name.startswith("other") for name in names(base))


@pytest.mark.parametrize(("begun_in", "asked_in"), [("", "d/e"), ("d/e", ""), ("d", "d/e"), ("d/e", "d")])
def test_gc_spares_uploads_of_folders_above_and_below(
    shell: Shell, base: Path, begun_in: str, asked_in: str
) -> None:
    """The upload is of a mount of another folder of the same base, also one with other settings."""
    (base / "d/e").mkdir(parents=True)
    within = RelPath("d/e/later").removeprefix(f"{begun_in}/" if begun_in else "")

    async def interrupted() -> None:
        state = shell.home / "state/mountsync/mount-1234/storages/of-the-remote"
        async with chunker_over(base / begun_in, state, hash_type="none", transactions="norename") as storage:
            source = BreakingSource(body(950), 800, Unreachable("gone"))
            with pytest.raises(Unreachable):
                await storage.write(RelPath(within), source)

    trio.run(interrupted)
    lay(base / "d/e", "other", begun(60), meta=b"")
    lay(base / "d/e", "later", begun(90), meta=b"")
    before = names(base / "d/e")
    done = shell.here("gc", "--yes", "--age", "0", spec(base / asked_in))
    assert done.out.count("(unfinished") >= 20
    left = names(base / "d/e")
    assert len(left) >= 20
    assert all(name.startswith("later") for name in left)
    assert len(before - left) == 8, "what belongs to other transactions goes, of that file too"


def test_gc_refuses_what_makes_no_sense(shell: Shell, base: Path, folder: Path) -> None:
    for args, reason in (
        (["--yes", "--dry-run", spec(base)], "exclude each other"),
        (["--age", "30d", spec(base)], "18 days"),
        ([str(folder)], "has no chunks"),
    ):
        done = shell.here("gc", *args)
        assert done.code == 2
        assert reason in done.error_line


async def test_search_says_where_it_could_not_look(tmp_path: Path) -> None:
    below = failing(MemoryStorage())
    storage = await open_over(below, tmp_path, transactions="norename")
    await put(storage, "f", DATA)
    await put(below, "f.rclone_chunk.001_zzzzz9", b"x")
    below.faults.fail_path(RelPath("f"), PermissionDenied("not yours"))
    storage = await open_over(below, tmp_path, transactions="norename")
    found = await gc.search(storage)
    assert all("not yours" in problem.reason for problem in found.problems.values())
    assert list(found.problems) == ["f"]
    assert found.leftovers == [], "what belongs to a file that cannot be read is no garbage"
    await storage.aclose()


def test_fsck_of_files_in_chunks(shell: Shell, base: Path) -> None:
    assert shell.here("fsck", "--read", spec(base)).code == 0
    lay(base, "hole")
    (base / "hole.rclone_chunk.002").unlink()
    done = shell.here("fsck", spec(base))
    assert done.code == 3
    assert "hole: damaged: chunk 2 of 4 is missing" in done.err
    assert shell.here("fsck", "--repair", spec(base)).code == 3, "what is lost is not invented"
    assert shell.here("rm", spec(base) + "hole").code == 0
    lay(base, "rot")
    (base / "rot.rclone_chunk.002").write_bytes(b"#" * 10)
    assert shell.here("fsck", spec(base)).code == 0
    done = shell.here("fsck", "--read", spec(base))
    assert (done.code, done.error_line) == (3, "rot: its content does not have its md5")


def test_fsck_finishes_a_replacement(shell: Shell, base: Path) -> None:
    """Metadata of a transaction, chunks that still bear its id: a commit in rename mode was interrupted."""
    suffix = begun(3600)
    meta = b'{"ver":2,"size":35,"nchunks":4,"txn":"%s","settle":"chunks"}' % suffix[1:].encode()
    lay(base, "half", suffix, meta=meta)
    (base / f"half.rclone_chunk.001{suffix}").rename(base / "half.rclone_chunk.001")
    assert shell.here("cat", spec(base) + "half").out.encode() == DATA
    found = json.loads(shell.here("fsck", "--repair", "--json", spec(base)).out)
    assert [(each["path"], each["repaired"]) for each in found["damages"]] == [("half", True)]
    assert shell.here("fsck", "--read", spec(base)).code == 0
    assert shell.here("cat", spec(base) + "half").out.encode() == DATA


@pytest.mark.parametrize("hash_type", ["md5", "sha1", "none"])
def test_hashsum_answers_from_metadata(shell: Shell, base: Path, hash_type: str) -> None:
    """Whatever this remote would write itself; the content is read only for what metadata does not say."""
    remote = spec(base, hash_type=hash_type)
    (base / "big.rclone_chunk.002").write_bytes(b"#" * 10)
    told = hashlib.md5(DATA).hexdigest()
    assert shell.here("hashsum", "md5", remote).out == f"{told}  big\n"
    read = hashlib.sha1(DATA[:10] + b"#" * 10 + DATA[20:]).hexdigest()
    assert shell.here("hashsum", "sha1", remote).out == f"{read}  big\n"
