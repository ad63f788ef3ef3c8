"""Problems say what they are about once, and go with the path that they are about."""

from __future__ import annotations

import pytest

from mountsync.cli.output import exit_code_of_status, status_lines
from mountsync.errors import NoSpace, PathError, PermissionDenied
from mountsync.paths import RelPath
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import put
from tests.parts.failing import failing
from tests.parts.mounted import mounted


@pytest.fixture
def remote():
    return failing(MemoryStorage())


async def refuse(m, path: str) -> None:
    refusal = PermissionDenied("it may not be written", path=path)
    m.storage.faults.fail_path(RelPath(path), refusal)
    await m.write(path, b"1")
    assert [each.path for each in (await m.flush()).problems] == [path]


async def test_a_refused_file_that_was_removed_is_no_problem(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await refuse(m, "d/n")
        await m.unlink("d/n")
        status = await m.flush()
        assert (status.problems, status.pending) == ([], 0)
        assert exit_code_of_status(status, finished=True) == 0


async def test_a_refused_file_that_was_renamed_is_none_under_its_old_name(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await refuse(m, "n")
        await m.rename("n", "better")
        status = await m.flush()
        assert (status.problems, status.pending) == ([], 0)
        assert await m.remote_tree() == {"better": b"1"}


async def test_what_is_still_on_the_remote_stays_a_problem(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.names()
        await put(remote, "far", b"1")
        await m.flush()
        remote.faults.fail_path(RelPath("mine"), NoSpace("full"))
        await m.write("mine", b"1")
        for _ in range(2):
            assert [each.path for each in (await m.flush()).problems] == ["mine"]


async def test_a_problem_names_its_path_once(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await refuse(m, "n")
        [line] = [line for line in status_lines(await m.steering.status()) if "problem" in line]
        assert line == "  problem: n: it may not be written"


async def test_a_problem_of_the_remote_is_its_reason(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.names()
        remote.faults.fail_next("list", PathError("the listing is broken"), 1000)
        await m.session._guarded_scan()
        [line] = [line for line in status_lines(await m.steering.status()) if "problem" in line]
        assert line == "  problem: the listing is broken"
