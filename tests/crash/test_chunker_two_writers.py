"""Two machines write one name: the second does all of its change before each single effect of the first.

Whatever the moment, a reader gets one of the versions, whole, and rclone never bytes of two; who was
told that its version is there was told the truth; and what is left over poisons no later write.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
import trio

from mountsync.errors import MountsyncError
from mountsync.storage.api import ABSENT, Expect, Storage
from mountsync.storage.chunker import ChunkerStorage, fsck, gc, stage
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import body, get, items, put
from tests.parts.chunkers import open_over
from tests.parts.failing import Gate, failing
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


class Second:
    """The other writer, which has looked and chosen its transaction before the first one looks.

    `whole`: it does all of its change when it is let go, else it sends its chunks and waits again.
    """

    def __init__(self, storage, data: bytes, expect: Expect, *, whole: bool) -> None:
        self._storage, self.data, self._expect = storage, data, expect
        self.looked, self._last = storage.base.faults.hold("write"), Gate()
        if not whole:
            storage.base.faults.meanwhile(1 + -(-len(data) // 10), self._last.pass_through)
        self.won = False

    async def run(self) -> None:
        self.won = await attempt(self._storage, self.data, self._expect)
        self._last.reached.set()

    async def go_on(self) -> None:
        self.looked.release()
        await self._last.reached.wait()

    def end(self) -> None:
        self.looked.release()
        self._last.release()


@pytest.fixture
def same_id(monkeypatch):
    """Makes the next two transactions have one id, as two of 1296 that begin in one second do."""

    def forced() -> None:
        ids = (f"same{max(0, number - 1):02}" for number in count())
        monkeypatch.setattr(stage, "transaction_id", lambda *_: next(ids))

    return forced


async def write(storage: ChunkerStorage, expect: Expect) -> None:
    await put(storage, "f", FIRST, expect=expect)


async def copy(storage: ChunkerStorage, expect: Expect) -> None:
    await storage.copy("a", "f", replace=expect)


async def move(storage: ChunkerStorage, expect: Expect) -> None:
    await storage.move("a", "f", replace=expect)


async def collide_by_id(act, ours, other: Second, nth: int, expect: Expect) -> tuple[dict[bytes, bool], bool]:
    """What both were told, and whether the first had an effect number `nth`."""
    begun, won = trio.Event(), False

    async def meddle() -> None:
        begun.set()
        await other.go_on()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.run)
        await other.looked.reached.wait()
        ours.base.faults.meanwhile(nth, meddle)
        with suppress(MountsyncError):
            await act(ours, expect)
            won = True
        other.end()
    return {FIRST: won, other.data: other.won}, begun.is_set()


async def at_every_moment_by_id(
    kind: str,
    home: Path,
    mode: dict[str, str],
    second: bytes,
    act,
    *,
    old: bytes | None,
    whole: bool,
    same_id,
) -> None:
    for nth in range(1, MOST):
        place = home / str(nth)
        (place / "base").mkdir(parents=True)
        one, other = map(failing, both_over(kind, place / "base"))
        ours = await open_over(one, place / "one", **mode)
        theirs = await open_over(other, place / "two", **mode)
        if act is not write:
            await put(ours, "a", FIRST)
        expect = ABSENT if old is None else (await put(ours, "f", old)).token
        same_id()
        rival = Second(theirs, second, expect, whole=whole)
        told, happened = await collide_by_id(act, ours, rival, nth, expect)
        assert any(told.values()), "one of two has won"
        assert act is not write or not all(told.values()), "both expected the same version"
        await judge_source(ours, act, won=told[FIRST])
        await judge(await open_over(one, place / "three", **mode), None, place, mode, told)
        if not happened:
            break
    assert 3 < nth < MOST - 1


async def judge_source(storage: ChunkerStorage, act, *, won: bool) -> None:
    """What was to be copied or moved is still there, unless it was moved."""
    if act is copy or (act is move and not won):
        assert await get(storage, "a") == FIRST
        await storage.delete("a")


@pytest.mark.parametrize("second", [SECOND, body(35, 6)], ids=["longer", "as-long"])
@pytest.mark.parametrize("old", [None, b"small", OLD], ids=["new", "small", "chunks"])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(
    ("kind", "whole"),
    [("memory", True), ("memory", False), ("local", True)],
    ids=["memory", "chunks", "local"],
)
async def test_a_second_writer_with_the_same_transaction(
    tmp_path: Path, kind: str, mode: dict[str, str], old: bytes | None, second: bytes, same_id, *, whole
) -> None:
    await at_every_moment_by_id(kind, tmp_path, mode, second, write, old=old, whole=whole, same_id=same_id)


@pytest.mark.parametrize("old", [None, b"small", OLD], ids=["new", "small", "chunks"])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("act", [copy, move])
async def test_a_copy_or_move_with_the_transaction_of_a_writer(
    tmp_path: Path, mode: dict[str, str], act, old: bytes | None, same_id
) -> None:
    await at_every_moment_by_id("memory", tmp_path, mode, SECOND, act, old=old, whole=True, same_id=same_id)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_of_many_writers_of_a_new_name_on_a_disk_one_wins(tmp_path: Path, mode: dict[str, str]) -> None:
    """Each as another machine; that none of them wins is as bad as that two do."""
    for nth in range(25):
        home, results = tmp_path / str(nth), {}
        (home / "base").mkdir(parents=True)

        async def one(number: int, home=home, results=results) -> None:
            base = LocalStorage(str(home / "base"), state_dir=home / f"state{number}")
            storage = await open_over(base, home / f"{number}", **mode)
            data = body(35 + 12 * number, number)
            results[data] = await attempt(storage, data, ABSENT)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(one, number)
        assert sum(results.values()) == 1
        await judge(
            await open_over(LocalStorage(str(home / "base")), home / "last", **mode),
            None,
            home,
            mode,
            results,
        )
