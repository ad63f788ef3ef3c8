"""Two machines write one name: the second does all of its change before each single effect of the first.

Whatever the moment, a reader gets one of the versions, whole, and rclone never bytes of two; who was
told that its version is there was told the truth; and what is left over poisons no later write.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mountsync.errors import MountsyncError
from mountsync.storage.api import Expect, Storage
from mountsync.storage.chunker import fsck, gc
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import body, get, items, put
from tests.parts.chunkers import open_over
from tests.parts.failing import failing
from tests.parts.rclone import Rclone

OLD, FIRST, SECOND, THIRD = body(35, 1), body(35, 2), body(55, 3), body(25, 4)
MODES = {
    "rename": {},
    "norename": {"transactions": "norename"},
    "none": {"hash_type": "none", "meta_format": "none"},
}
SECONDS = {"longer": SECOND, "shorter": body(15, 5), "small": b"small"}
MOST = 60
"""More effects than any of these writes has."""


async def attempt(storage: Storage, data: bytes, expect: Expect = None) -> bool:
    """Whether the write was acknowledged; a refusal must be an error of ours."""
    try:
        await put(storage, "f", data, expect=expect)
    except MountsyncError:
        return False
    return True


def both_over(kind: str, folder: Path) -> tuple[Storage, Storage]:
    """One base, as two machines see it."""
    if kind == "local":
        return tuple(LocalStorage(str(folder), state_dir=folder.parent / name) for name in ("s1", "s2"))
    memory = MemoryStorage()
    return memory, memory


async def collide(
    kind: str, home: Path, mode: dict[str, str], nth: int, second: bytes, *, careful: bool
) -> bool:
    """Runs both writers; whether the first had an effect number `nth`."""
    folder = home / "base"
    folder.mkdir(parents=True)
    one, other = both_over(kind, folder)
    base = failing(one)
    ours = await open_over(base, home / "one", **mode)
    theirs = await open_over(other, home / "two", **mode)
    await put(ours, "f", OLD)
    seen = await ours.stat("f")
    results: dict[bytes, bool] = {}

    async def meddle() -> None:
        results[second] = await attempt(theirs, second, (await theirs.stat("f")).token if careful else None)

    base.faults.meanwhile(nth, meddle)
    results[FIRST] = await attempt(ours, FIRST, seen.token if careful else None)
    happened = second in results
    fresh = await open_over(other, home / "three", **mode)
    await judge(fresh, folder if kind == "local" else None, home, mode, results)
    return happened


async def judge(
    storage, folder: Path | None, home: Path, mode: dict[str, str], results: dict[bytes, bool]
) -> None:
    told = {data for data, done in results.items() if done}
    found = await get(storage, "f")
    assert found in (told or {OLD}), "what is there was acknowledged"
    faults = {finding.fault for finding in await fsck.check(storage, contents=True)}
    assert faults <= {"unfinished"}
    if folder is not None:
        judged = Rclone(folder, home, **mode).run("cat", "C:f")
        assert judged.stdout in (found, b"")
    for data in (THIRD, b"tiny", SECOND):
        await put(storage, "f", data)
        assert await get(storage, "f") == data
        assert set(await items(storage)) == {"f"}
    if folder is not None:
        assert Rclone(folder, home, **mode).ok("cat", "C:f") == SECOND
    await gc.remove_leftovers(storage, await gc.find_leftovers(storage, now=4e9), minimum_age=0)
    assert await get(storage, "f") == SECOND


@pytest.mark.parametrize("second", SECONDS.values(), ids=SECONDS)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("careful", [False, True], ids=["any", "expecting"])
async def test_a_second_writer_at_every_moment(
    tmp_path: Path, mode: dict[str, str], second: bytes, *, careful: bool
) -> None:
    await at_every_moment("memory", tmp_path, mode, second, careful=careful)


@pytest.mark.parametrize(
    ("mode", "second"), [("rename", "longer"), ("rename", "small"), ("norename", "shorter")]
)
async def test_a_second_writer_on_a_disk_with_rclone_as_a_witness(
    tmp_path: Path, mode: str, second: str
) -> None:
    await at_every_moment("local", tmp_path, MODES[mode], SECONDS[second], careful=True)


async def at_every_moment(
    kind: str, home: Path, mode: dict[str, str], second: bytes, *, careful: bool
) -> None:
    for nth in range(1, MOST):
        if not await collide(kind, home / str(nth), mode, nth, second, careful=careful):
            break
    assert 3 < nth < MOST - 1
