"""What interrupted uploads of the chunker leave, and how the next ones go on with it."""

from __future__ import annotations

import hashlib

import pytest

from mountsync.errors import (
    DirectoryNotEmpty,
    NoSpace,
    Stale,
    Unreachable,
)
from mountsync.paths import RelPath
from tests.parts.bodies import ChangingSource, body, get, items, put
from tests.parts.chunkers import open_over
from tests.unit.test_chunker_storage import DATA, PATCHED, STAMP, F, below


@pytest.mark.parametrize("way", ["rename", "norename"])
@pytest.mark.parametrize("again", ["same process", "next process"])
async def test_an_interrupted_upload_resumes(base, tmp_path, way, again):
    ours = await open_over(base, tmp_path, transactions=way, hash_type="sha1")
    data = body(400, 3)
    base.faults.fail_effect(30, Unreachable("gone"))
    with pytest.raises(Unreachable):
        await put(ours, F, data, mtime_ns=STAMP)
    assert await items(ours) == {}
    if again == "next process":
        await ours.aclose()
        ours = await open_over(base, tmp_path, transactions=way, hash_type="sha1")
        await ours.recover_attempts()
    finished = {path for path in await items(base) if "chunk" in path}
    assert len(finished) > 10
    mark = len(base.faults.log)
    await put(ours, F, data, mtime_ns=STAMP)
    sent = {path for verb, path in base.faults.log[mark:] if verb == "write" and "_" in path[-7:]}
    assert not sent & finished
    assert len(sent | finished) == 40
    assert await get(ours, F) == data
    assert (await ours.hashes(F))["sha1"] == hashlib.sha1(data).hexdigest()
    assert len(await items(base)) == 41
    await ours.aclose()


@pytest.mark.parametrize("again", ["same process", "next process"])
async def test_an_interrupted_upload_does_not_hold_its_folder(base, tmp_path, again):
    """What others have under way there does; ours is over when the folder is to go."""
    ours = await open_over(base, tmp_path)
    await ours.make_directory(RelPath("d"))
    base.faults.fail_effect(30, Unreachable("gone"))
    with pytest.raises(Unreachable):
        await put(ours, "d/f", body(400, 3))
    if again == "next process":
        await ours.aclose()
        ours = await open_over(base, tmp_path)
        await ours.recover_attempts()
    assert len(await items(base)) > 10
    other = await open_over(base, tmp_path / "other machine")
    with pytest.raises(DirectoryNotEmpty):
        await other.remove_directory(RelPath("d"))
    await ours.remove_directory(RelPath("d"))
    assert await items(base) == {}
    assert not ours.attempts.transactions
    await other.aclose()
    await ours.aclose()


async def test_another_content_takes_over_only_what_is_equal(ours, base):
    data = body(400, 3)
    base.faults.fail_effect(30, Unreachable("gone"))
    with pytest.raises(Unreachable):
        await put(ours, F, data)
    mark = len(base.faults.log)
    changed = b"#" * 10 + data[10:]
    await put(ours, F, changed)
    sent = [path for verb, path in base.faults.log[mark:] if verb == "write" and "_" in path[-7:]]
    assert 1 < len(sent) < 30
    assert await get(ours, F) == changed
    assert len(await items(base)) == 41


async def test_what_was_sent_for_another_content_never_counts(base, tmp_path):
    """Sent for PATCHED, then DATA is written again, of which all chunks are kept."""
    ours = await open_over(base, tmp_path)
    await put(ours, F, DATA)
    base.faults.fail_effect(2, Unreachable("gone"))
    with pytest.raises(Unreachable):
        await put(ours, F, PATCHED)
    assert any("002_" in path for path in await items(base))
    other = await open_over(base, tmp_path / "other")
    for nth in range(1, 9):
        base.faults.fail_effect(nth, Unreachable("gone"))
        try:
            await put(ours, F, DATA)
            break
        except Unreachable:
            assert await get(other, F) == DATA
    base.faults._planned.clear()
    assert await get(ours, F) == DATA
    assert len(await items(base)) == 5


async def test_an_upload_that_failed_for_good_leaves_nothing(ours, base):
    base.faults.fail_effect(3, NoSpace("full"))
    with pytest.raises(NoSpace):
        await put(ours, F, DATA)
    assert await below(base) == {}


async def test_a_source_that_moved_on_resumes_with_what_did_not_change(ours, base):
    with pytest.raises(Stale):
        await ours.write(F, ChangingSource(DATA, changes_after=4))
    mark = len(base.faults.log)
    await put(ours, F, PATCHED)
    sent = [path for verb, path in base.faults.log[mark:] if verb == "write" and "chunk" in path]
    assert len(sent) == 1
    assert await get(ours, F) == PATCHED
    assert len(await items(base)) == 5


async def test_a_commit_that_the_base_left_unfinished_is_read_and_finished(base, tmp_path):
    """Out of reach between commit and end: readers see the new version, the next change ends it."""
    ours = await open_over(base, tmp_path)
    await put(ours, F, DATA)
    for nth in range(1, 40):
        base.faults.fail_effect(nth, Unreachable("gone"))
        try:
            await put(ours, F, PATCHED if nth % 2 else DATA)
            done = True
        except Unreachable:
            done = False
        base.faults.offline = False
        base.faults._planned.clear()
        assert await get(ours, F) in (DATA, PATCHED)
        other = await open_over(base, tmp_path / "other")
        assert await get(other, F) in (DATA, PATCHED)
        if done:
            break
    await put(ours, F, b"z")
    await ours.recover_attempts()
    assert await get(ours, F) == b"z"
    assert set(await below(base)) == {"f"}
