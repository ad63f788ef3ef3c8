"""S3 against a real server: with rclone as another client, with other writers, and with failures."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import subprocess

import pytest
import trio

from mountsync.errors import (
    AccessRefused,
    NotADirectory,
    NotFound,
    PermissionDenied,
    Stale,
    Throttled,
    Unreachable,
    Unsupported,
)
from mountsync.model.entry import Kind, Problem
from mountsync.paths import ROOT, RelPath
from mountsync.storage.api import ABSENT, Enforcement
from mountsync.storage.registry import Remotes
from mountsync.storage.s3.attempts import Attempt, Attempts
from mountsync.storage.s3.opening import open_s3
from mountsync.storage.sources import BytesSource
from tests.parts.bodies import BreakingSource, body, get, items, put
from tests.parts.rclone import BINARY
from tests.parts.s3_server import (  # noqa: F401 - fixtures
    ACCESS,
    SECRET,
    _running_server,
    new_bucket,
    s3_credentials,
    s3_server,
    s3_storage,
)

WHEN = 1_700_000_123_456_789_123
PART = 1 << 20


@pytest.fixture
def bucket():
    return new_bucket()


@pytest.fixture
async def storage(s3_server, s3_credentials, tmp_path, bucket):  # noqa: F811
    async with s3_storage(s3_server.endpoint, tmp_path / "state", bucket, upload_part_size=PART) as made:
        s3_server.requests.clear()
        yield made


def rclone(endpoint: str, *arguments: str) -> bytes:
    if BINARY is None:
        pytest.skip("the real rclone is not installed")
    options = {
        "TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": endpoint, "REGION": "us-east-1",
        "ACCESS_KEY_ID": ACCESS, "SECRET_ACCESS_KEY": SECRET, "FORCE_PATH_STYLE": "true",
        "CHUNK_SIZE": "5Mi", "UPLOAD_CUTOFF": "5Mi",
    }  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "RCLONE_CONFIG": os.devnull}
    environment |= {f"RCLONE_CONFIG_R_{name}": value for name, value in options.items()}
    ran = subprocess.run(
        [BINARY, *arguments, "--retries", "1"], capture_output=True, env=environment, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# ---- another client ------------------------------------------------------------------------------


async def test_rclone_and_we_agree(storage, s3_server, bucket, tmp_path):  # noqa: F811
    await put(storage, "ours/small", b"small", mtime_ns=WHEN)
    await put(storage, "ours/large", body(2 * PART), mtime_ns=WHEN)
    (tmp_path / "theirs").mkdir()
    for name, data in (("small", b"their"), ("large", body(6 << 20))):
        (tmp_path / "theirs" / name).write_bytes(data)
        os.utime(tmp_path / "theirs" / name, ns=(WHEN, WHEN))

    def both_ways() -> list:
        rclone(s3_server.endpoint, "copy", str(tmp_path / "theirs"), f"R:{bucket}/theirs")
        assert rclone(s3_server.endpoint, "cat", f"R:{bucket}/ours/large") == body(2 * PART)
        return json.loads(rclone(s3_server.endpoint, "lsjson", "-R", "--files-only", f"R:{bucket}"))

    seen = {one["Path"]: one for one in await trio.to_thread.run_sync(both_ways)}
    for name in ("ours/small", "ours/large"):
        assert seen[name]["ModTime"].startswith("2023-11-14T22:15:23.456789123")
    listed = await items(storage)
    for name in ("theirs/small", "theirs/large"):
        assert listed[name].mtime_ns == WHEN
        assert await get(storage, name) == (tmp_path / name).read_bytes()
        md5 = await storage.hashes(RelPath(name))
        assert md5["md5"] in rclone(s3_server.endpoint, "md5sum", f"R:{bucket}/{name}").decode()


async def test_rclone_as_the_server(tmp_path, s3_credentials, unused_port, monkeypatch):  # noqa: F811
    """A server that checks signatures and has directories below it."""
    if BINARY is None:
        pytest.skip("the real rclone is not installed")
    (tmp_path / "data").mkdir()
    command = [BINARY, "serve", "s3", str(tmp_path / "data"), "--addr", f"127.0.0.1:{unused_port}"]
    command += ["--auth-key", f"{ACCESS},{SECRET}", "--vfs-cache-mode", "full", "--config", os.devnull]
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with subprocess.Popen(command, env=home, stderr=subprocess.DEVNULL) as server:
        try:
            endpoint = f"http://127.0.0.1:{unused_port}"
            with trio.fail_after(60):
                while True:
                    try:
                        await (await trio.open_tcp_stream("127.0.0.1", unused_port)).aclose()
                        break
                    except OSError:
                        await trio.sleep(0.1)
            await _use(endpoint, tmp_path)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
            with pytest.raises(AccessRefused) as caught:
                await open_s3({"endpoint": endpoint}, "bucket", tmp_path / "other")
            assert "another" not in str(caught.value)
        finally:
            server.terminate()


async def _use(endpoint, tmp_path):
    async with s3_storage(endpoint, tmp_path / "state", "bucket") as storage:
        entry = await put(storage, "d/f", b"content", mtime_ns=WHEN)
        assert (await storage.stat(RelPath("d/f"))).mtime_ns == WHEN
        assert await get(storage, "d/f", 2, 3, expect=entry.token) == b"nte"
        assert set(await items(storage)) == {"d", "d/f"}
        with pytest.raises(Stale):
            await put(storage, "d/f", b"x", expect=ABSENT)
        large = body(9 << 20)
        await put(storage, "large", large, mtime_ns=WHEN)
        assert await get(storage, "large") == large
        await storage.delete(RelPath("d/f"), expect=entry.token)
        assert set(await items(storage)) == {"large"}


@pytest.fixture
def unused_port():
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- expectations --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 3 * PART])
async def test_one_writer_of_a_version_wins(storage, size):
    assert storage.info.enforcement is Enforcement.ATOMIC
    first = await put(storage, "f", b"one")
    won = []

    async def attempt(n):
        with contextlib.suppress(Stale):
            won.append((await put(storage, "f", body(size, n), expect=first.token)).token)

    async with trio.open_nursery() as nursery:
        for n in range(4):
            nursery.start_soon(attempt, n)
    assert len(won) == 1
    assert (await storage.stat(RelPath("f"))).token == won[0]


async def test_a_server_that_compares_nothing_is_found_out(s3_server, s3_credentials, tmp_path, bucket):  # noqa: F811
    s3_server.compares = False
    async with s3_storage(s3_server.endpoint, tmp_path, bucket, upload_part_size=PART) as storage:
        assert storage.info.enforcement is Enforcement.CHECKED
        assert await items(storage) == {}
        await put(storage, "f", b"one")

        class Late(BytesSource):
            async def read(self, offset, length):
                if offset:
                    await put(storage, "f", b"somebody else's")
                return await super().read(offset, length)

        for expect in (ABSENT, "no such token", (await storage.stat(RelPath("f"))).token):
            with pytest.raises(Stale):
                await storage.write(RelPath("f"), Late(body(2 * PART)), expect=expect)
        assert await get(storage, "f") == b"somebody else's"
    changes = _changes(s3_server)
    async with s3_storage(s3_server.endpoint, tmp_path, bucket) as storage:
        assert storage.info.enforcement is Enforcement.CHECKED
    assert _changes(s3_server) == changes, "it is asked once"


def _changes(server) -> int:
    return sum(method != "GET" and method != "HEAD" for method, _, _ in server.requests)


async def test_a_bucket_that_is_read_only(s3_server, s3_credentials, tmp_path, bucket):  # noqa: F811
    s3_server.objects.create_bucket(bucket, "us-east-1")
    s3_server.fault = lambda method, query: "refuse" if method not in ("GET", "HEAD") else None
    async with s3_storage(s3_server.endpoint, tmp_path, bucket) as storage:
        assert storage.info.enforcement is Enforcement.CHECKED
        with pytest.raises(PermissionDenied):
            await put(storage, "f", b"x")


# ---- bodies in parts -----------------------------------------------------------------------------


async def test_parts_that_break_are_given_up(storage, s3_server, bucket, tmp_path):  # noqa: F811
    with pytest.raises(Unreachable):
        await storage.write(RelPath("f"), BreakingSource(body(4 * PART), 3 * PART, Unreachable("gone")))
    assert not s3_server.objects.list_multipart_uploads(bucket)
    assert not any((tmp_path / "state" / "s3-uploads").iterdir())


async def test_recovery_gives_up_our_own_uploads_only(storage, s3_server, bucket, tmp_path):  # noqa: F811
    dead, live, theirs = [
        (await storage._client.call("create_multipart_upload", None, Key=key))["UploadId"] for key in "abc"
    ]
    folder = tmp_path / "state" / "s3-uploads"
    gone, other = Attempts(folder), Attempts(folder)
    gone.note(Attempt(bucket, "a", dead))
    gone.release()
    other.note(Attempt(bucket, "b", live))
    s3_server.fault = lambda method, query: "refuse" if method == "DELETE" else None
    await storage.recover_attempts()
    assert len(Attempts(folder).left()) == 1, "what is refused stays noted"
    s3_server.fault = lambda method, query: None
    await storage.recover_attempts()
    assert set(s3_server.objects.list_multipart_uploads(bucket)) == {live, theirs}
    assert Attempts(folder).left() == []
    other.release()


@pytest.mark.parametrize("size", [10, 2 * PART])
async def test_an_answer_that_is_lost(storage, s3_server, size):  # noqa: F811
    """The server has done it, its answer is lost, and the second attempt meets our own object."""
    lost = []

    def lose_once(method, query):
        commits = method == "POST" and "uploadId" in query if size > PART else method == "PUT"
        if commits and not lost:
            lost.append(query)
            return "lose"
        return None

    s3_server.fault = lose_once
    entry = await put(storage, "f", body(size), expect=ABSENT)
    assert lost
    assert (await storage.stat(RelPath("f"))).token == entry.token
    assert await get(storage, "f") == body(size)


# ---- failures ------------------------------------------------------------------------------------


async def test_a_body_that_is_cut_goes_on_where_it_was(storage, s3_server):  # noqa: F811
    data = body(900_000)
    await put(storage, "f", data)
    once = itertools.count()
    s3_server.fault = lambda method, query: "cut" if method == "GET" and next(once) == 0 else None
    assert await get(storage, "f") == data
    s3_server.fault = lambda method, query: "cut" if method == "GET" else None
    with pytest.raises(Unreachable):
        await get(storage, "f")


async def test_a_server_that_is_busy(storage, s3_server):  # noqa: F811
    s3_server.fault = lambda method, query: "busy" if method == "PUT" else None
    with trio.fail_after(60), pytest.raises(Throttled):
        await put(storage, "f", b"x")


async def test_offline(s3_credentials, tmp_path, bucket, s3_server):  # noqa: F811
    server = type(s3_server)()
    server.start()
    async with s3_storage(server.endpoint, tmp_path / "seen", bucket) as storage:
        await put(storage, "f", b"x")
        server.stop()
        with trio.fail_after(60):
            for call in (get(storage, "f"), put(storage, "g", b"x"), items(storage), storage.stat(ROOT)):
                if call.__name__ == "stat":
                    assert (await call).kind is Kind.DIRECTORY
                    continue
                with pytest.raises(Unreachable):
                    await call
            with pytest.raises(Unreachable):
                await open_s3({"endpoint": server.endpoint}, bucket, tmp_path / "never seen")
            async with s3_storage(server.endpoint, tmp_path / "seen", bucket) as again:
                assert again.info == storage.info
                server.start()
                assert await get(again, "f") == b"x"
    server.stop()


async def test_a_bucket_that_vanishes_is_not_empty(storage, s3_server, bucket):  # noqa: F811
    await put(storage, "f", b"x")
    s3_server.objects.delete_object(bucket, "f")
    s3_server.objects.delete_bucket(bucket)
    for call in (items(storage), get(storage, "f"), put(storage, "f", b"x")):
        with pytest.raises(Unreachable):
            await call


async def test_credentials_are_never_shown(storage, s3_server, caplog, tmp_path, monkeypatch):  # noqa: F811
    with caplog.at_level(logging.DEBUG):
        await put(storage, "f", b"x")
        with pytest.raises(NotFound):
            await get(storage, "g")
        shown = caplog.text + repr(storage.info) + repr(storage._client) + repr(vars(storage))
        assert SECRET not in shown
        assert ACCESS not in shown
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(AccessRefused) as caught:
            await open_s3({"endpoint": s3_server.endpoint}, "bucket", tmp_path / "other")
        assert ACCESS not in str(caught.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(AccessRefused):
        await open_s3({"endpoint": s3_server.endpoint}, "bucket", tmp_path / "other")


# ---- what lies in buckets ------------------------------------------------------------------------


async def test_markers_and_odd_keys_are_not_seen(storage, s3_server, bucket):  # noqa: F811
    for key in ("empty/", "d/", "d/f", "x//y", "both", "both/below", "../up"):
        s3_server.objects.put_object(bucket, key, b"")
    whole = await items(storage)
    assert {path for path in whole if not isinstance(whole[path], Problem)} == {"d", "d/f"}
    assert isinstance(whole["both"], Problem)
    level = await items(storage, recursive=False)
    assert {path for path in level if not isinstance(level[path], Problem)} == {"d"}
    assert await storage.stat(RelPath("empty")) is None
    with pytest.raises(NotFound):
        await items(storage, "empty")
    with pytest.raises((NotFound, NotADirectory)):
        await items(storage, "d/f")
    await put(storage, "empty", b"a file now")


async def test_listings_have_many_pages(s3_server, s3_credentials, tmp_path, bucket):  # noqa: F811
    s3_server.objects.create_bucket(bucket, "us-east-1")
    for n in range(2100):
        s3_server.objects.put_object(bucket, f"d{n % 7}/{n}", b"")
    async with s3_storage(s3_server.endpoint, tmp_path, bucket, mtime="upload") as storage:
        s3_server.requests.clear()
        assert len(await items(storage)) == 2107
        assert len(s3_server.requests) == 3, "times of uploads come with the listing"
        entry = await put(storage, "f", b"x", mtime_ns=WHEN)
        assert entry == await storage.stat(RelPath("f")) == (await items(storage))["f"]


async def test_times_are_asked_for_once(storage, s3_server):  # noqa: F811
    for n in range(5):
        await put(storage, f"f{n}", b"x", mtime_ns=WHEN)
    await items(storage)
    s3_server.requests.clear()
    assert {entry.mtime_ns for entry in (await items(storage)).values()} == {WHEN}
    assert [method for method, _, _ in s3_server.requests] == ["GET"]


async def test_set_mtime_keeps_the_rest(storage, s3_server, bucket):  # noqa: F811
    await storage._client.call(
        "put_object", None, Key="f", Body=b"x", ContentType="text/odd", Metadata={"other": "kept"}
    )
    entry = await storage.set_mtime(RelPath("f"), WHEN)
    assert entry.mtime_ns == WHEN
    found = await storage._client.call("head_object", None, Key="f")
    assert found["ContentType"] == "text/odd"
    assert found["Metadata"]["other"] == "kept"


async def test_a_spec_names_all(s3_server, s3_credentials, tmp_path, bucket):  # noqa: F811
    spec = f':s3,endpoint="{s3_server.endpoint}",region=eu-west-3,create_bucket=true:{bucket}/some/prefix'
    storage = await Remotes({}, tmp_path).open(spec)
    await put(storage, "d/f", b"x")
    await storage.aclose()
    assert s3_server.objects.get_object(bucket, "some/prefix/d/f") is not None
    assert storage.info.identity == f"s3:127.0.0.1:{s3_server.port}/{bucket}/some/prefix"


async def test_the_list_of_buckets(storage, s3_server, bucket, tmp_path):  # noqa: F811
    async with s3_storage(s3_server.endpoint, tmp_path / "all", "/") as everything:
        assert bucket in await items(everything, recursive=False)
        assert (await everything.stat(RelPath(bucket))).kind is Kind.DIRECTORY
        assert await everything.stat(RelPath("no-such-bucket")) is None
        with pytest.raises(Unsupported, match="s3:BUCKET"):
            await put(everything, f"{bucket}/f", b"x")
    with pytest.raises(NotFound, match="no bucket"):
        await open_s3({"endpoint": s3_server.endpoint}, "no-such-bucket", tmp_path / "other")
