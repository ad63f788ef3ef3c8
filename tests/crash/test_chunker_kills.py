"""kill -9 before every effect of a change: old or new, for us at once and for rclone as promised.

`norename`: the real rclone reads old or new at every point. `rename`: old, new or an error, never
bytes of both. After our next start: old or new for everybody, nothing is left to do, nothing left over
but what an upload may take up again, and a second try succeeds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from mountsync.errors import NotFound
from mountsync.paths import RelPath
from mountsync.storage.chunker import ChunkerStorage, fsck, gc
from mountsync.storage.local import LocalStorage
from tests.parts.bodies import body, get, items, put
from tests.parts.chunkers import chunker_over, open_over
from tests.parts.failing import failing
from tests.parts.rclone import Rclone
from tests.parts.renewing import RenewingStorage

OLD = body(35, 1)
NEW = body(35, 2)
PATCHED = OLD[:10] + b"##########" + OLD[20:]
F, G = RelPath("f"), RelPath("g")

KINDS: dict[str, type[LocalStorage]] = {"local": LocalStorage, "renewing": RenewingStorage}
Change = Callable[[ChunkerStorage], Awaitable[object]]


async def overwrite(storage: ChunkerStorage) -> None:
    await put(storage, F, NEW)


async def grow(storage: ChunkerStorage) -> None:
    await put(storage, F, NEW + NEW)


async def shrink(storage: ChunkerStorage) -> None:
    await put(storage, F, b"small")


async def patch(storage: ChunkerStorage) -> None:
    await put(storage, F, PATCHED)


async def move(storage: ChunkerStorage) -> None:
    await storage.move(F, G)


async def move_onto(storage: ChunkerStorage) -> None:
    await storage.move(G, F, replace=None)


async def copy_onto(storage: ChunkerStorage) -> None:
    await storage.copy(G, F, replace=None)


async def delete(storage: ChunkerStorage) -> None:
    await storage.delete(F)


# name: what is there before, the change, what may be there after (the old state is allowed too)
CASES: dict[str, tuple[dict[str, bytes], Change, dict[str, bytes]]] = {
    "create": ({}, overwrite, {"f": NEW}),
    "overwrite": ({"f": OLD}, overwrite, {"f": NEW}),
    "grow": ({"f": OLD}, grow, {"f": NEW + NEW}),
    "shrink to plain": ({"f": OLD}, shrink, {"f": b"small"}),
    "grow from plain": ({"f": b"small"}, overwrite, {"f": NEW}),
    "patch": ({"f": OLD}, patch, {"f": PATCHED}),
    "move": ({"f": OLD}, move, {"g": OLD}),
    "move onto": ({"f": OLD, "g": NEW}, move_onto, {"f": NEW}),
    "moved onto plain": ({"f": b"small", "g": NEW}, move_onto, {"f": NEW}),
    "plain moved onto": ({"f": OLD, "g": b"small"}, move_onto, {"f": b"small"}),
    "copy onto": ({"f": OLD, "g": NEW}, copy_onto, {"f": NEW, "g": NEW}),
    "delete": ({"f": OLD}, delete, {}),
}
WRITES = ("create", "overwrite", "grow", "shrink to plain", "grow from plain", "patch", "copy onto")


def killed_at(folder: Path, state: Path, nth: int, change: Change, mode: dict[str, str]) -> bool:
    """Makes the change in a child that kills itself before effect `nth`; whether it died."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        return os.WIFSIGNALED(status)

    async def work() -> None:
        base = failing(KINDS[mode.pop("base", "local")](str(folder), state_dir=state))
        base.faults.crash_at(nth)
        base.faults._strike = lambda plans: os.kill(os.getpid(), signal.SIGKILL) if plans else None
        storage = await open_over(base, state, **mode)
        await change(storage)

    mode = dict(mode)
    try:
        trio.run(work)
    finally:
        os._exit(0 if nth else 1)


async def prepare(folder: Path, state: Path, before: dict[str, bytes], mode: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    async with chunker_over(folder, state, **mode) as storage:
        for path, data in before.items():
            await put(storage, path, data)


async def seen(storage: ChunkerStorage) -> dict[str, bytes]:
    return {path: await get(storage, path) for path in await items(storage)}


async def judge_ours(folder: Path, state: Path, case: str, mode: dict[str, str]) -> None:
    """What another machine sees, then what we have after a start, after a start."""
    before, _, after = CASES[case]
    if case in WRITES:
        async with chunker_over(folder, state.with_name(state.name + "-other"), **mode) as stranger:
            assert await seen(stranger) in (before, after)
    async with chunker_over(folder, state, **mode) as storage:
        await storage.recover_attempts()
        assert await seen(storage) in (before, after)
        assert await fsck.check(storage, contents=True) == []
        left = await gc.find_leftovers(storage)
        assert {leftover.reason for leftover in left} <= {"unfinished", "orphan", "temporary"}


async def finish_after(folder: Path, state: Path, case: str, mode: dict[str, str]) -> None:
    """The change once more succeeds, and then there is no leftover of the names that it writes."""
    _, change, after = CASES[case]
    async with chunker_over(folder, state, **mode) as storage:
        try:
            await change(storage)
        except NotFound:
            assert case in (*MOVES, "delete")
        assert await seen(storage) == after
        await gc.remove_leftovers(storage, await gc.find_leftovers(storage, now=4e9), minimum_age=0)
        assert await gc.find_leftovers(storage) == []


MOVES = ("move", "move onto", "moved onto plain", "plain moved onto")
WAYS = [(case, way) for case in CASES for way in ("rename", "norename")]
WAYS += [
    (case, "none") for case in ("create", "overwrite", "shrink to plain", "patch", "move onto", "delete")
]


WAYS += [(case, "renewing") for case in MOVES]


@pytest.mark.parametrize(("case", "way"), WAYS)
def test_kill_before_every_effect(tmp_path, case, way):
    mode = {"transactions": "norename" if way == "norename" else "rename"}
    mode |= {"meta_format": "none", "hash_type": "none"} if way == "none" else {}
    mode |= {"base": "renewing"} if way == "renewing" else {}
    before, change, after = CASES[case]
    base = tmp_path / "base"
    base.mkdir()
    points = []
    for nth in range(1, 60):
        folder, state = base / f"at{nth:02}", tmp_path / f"state{nth}"
        trio.run(prepare, folder, state, before, mode)
        points.append(nth)
        if not killed_at(folder, state, nth, change, mode):
            break
    assert 1 < len(points) < 59
    rclone = Rclone(base, tmp_path, **{name: value for name, value in mode.items() if name != "base"})
    judge_rclone(rclone.contents(tmp_path / "early"), points, case, strict=way == "norename")
    for nth in points:
        trio.run(judge_ours, base / f"at{nth:02}", tmp_path / f"state{nth}", case, mode)
    served = rclone.contents(tmp_path / "late")
    for nth in points:
        assert of_point(served, nth) in (before, after), (nth, case)
    for nth in points:
        trio.run(finish_after, base / f"at{nth:02}", tmp_path / f"state{nth}", case, mode)
    served = rclone.contents(tmp_path / "end")
    assert all(of_point(served, nth) == after for nth in points)


def of_point(served: dict[str, bytes], nth: int) -> dict[str, bytes]:
    prefix = f"at{nth:02}/"
    own = {name.removeprefix(prefix): data for name, data in served.items() if name.startswith(prefix)}
    # A chunk that was half written is the local storage's own affair.
    return {name: data for name, data in own.items() if ".mountsync-tmp-" not in name}


def judge_rclone(served: dict[str, bytes], points: list[int], case: str, *, strict: bool) -> None:
    """Before our recovery: the states that rclone may show."""
    before, _, after = CASES[case]
    for nth in points:
        now = of_point(served, nth)
        if strict and case in WRITES:
            assert now in (before, after), (nth, case)
        for name, data in now.items():
            assert data in (before.get(name), after.get(name)), (nth, case, name, data)
