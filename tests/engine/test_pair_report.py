"""What failed in a run is told, also when other paths were looked at again afterwards."""

from __future__ import annotations

import pytest

from mountsync.errors import NotFound, PermissionDenied
from mountsync.paths import RelPath
from mountsync.reconcile import Direction
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import put
from tests.parts.failing import failing
from tests.parts.pairs import Pair


@pytest.mark.parametrize("direction", [Direction.BOTH, Direction.ADD, Direction.MIRROR])
async def test_a_refused_path_beside_one_that_is_looked_at_again(quick_clock, home, direction):
    a, b = MemoryStorage("a"), failing(MemoryStorage("b"))
    pair = Pair(home, a, b, direction=direction)
    for path in ("top", "volume/f", "volume/g"):
        await put(a, path, path.encode())
    b.faults.fail_path(RelPath("top"), PermissionDenied("it may not be written"))
    b.faults.fail_path(RelPath("volume/f"), NotFound("there is no such volume"))
    report = await pair.sync()
    assert {path: problem.error for path, problem in report.problems.items()} == {
        "top": "PermissionDenied",
        "volume/f": "NotFound",
    }
    b.faults.fail_path(RelPath("top"), None)
    b.faults.fail_path(RelPath("volume/f"), None)
    assert (await pair.sync()).problems == {}


async def test_what_works_at_the_second_look_is_no_problem(quick_clock, home):
    a, b = MemoryStorage("a"), failing(MemoryStorage("b"))
    pair = Pair(home, a, b)
    for path in ("top", "f"):
        await put(a, path, path.encode())
    b.faults.fail_path(RelPath("top"), PermissionDenied("it may not be written"))
    b.faults.fail_next("write", NotFound("not now"))
    report = await pair.sync()
    assert set(report.problems) == {"top"}
