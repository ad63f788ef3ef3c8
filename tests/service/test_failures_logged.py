"""What the log says of a failure: the path, the remote, the reason, and when it is tried again."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from mountsync import telemetry
from mountsync.errors import PermissionDenied, QuotaExceeded, Unreachable
from mountsync.paths import RelPath
from mountsync.storage.memory import MemoryStorage
from tests.parts.failing import failing
from tests.parts.mounted import EPOCH_NS, mounted
from tests.parts.real_mount import Mounted


async def test_a_path_that_fails(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    storage = failing(MemoryStorage())
    with capture_logs() as said:
        async with mounted(tmp_path, storage) as m:
            storage.faults.fail_path(RelPath("a"), QuotaExceeded("the account is full", path="a"))
            await m.write("a", b"near")
            await m.steering.flush(timeout=30)
            [problem] = (await m.steering.status()).problems
            assert (await m.steering.status()).totals.failures == len(m.heard.problems) > 0
            storage.faults.fail_path(RelPath("a"), None)
    line = next(line for line in said if line["event"] == "not replicated")
    assert (line["path"], line["remote"], line["log_level"]) == ("a", "test:", "warning")
    assert "the account is full" in line["reason"]
    retry = datetime.fromisoformat(line["retry_at"])
    assert retry.tzinfo == UTC
    assert retry.timestamp() >= EPOCH_NS // 10**9
    assert problem.retry_at is not None
    assert all(heard.retry_at is not None for heard in m.heard.problems)


async def test_a_remote_that_is_away(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    storage = failing(MemoryStorage())
    with capture_logs() as said:
        async with mounted(tmp_path, storage) as m:
            await m.write("a", b"first")
            await m.flush()
            storage.faults.offline = True
            await m.write("a", b"near")
            with pytest.raises(Unreachable):
                await m.steering.flush(timeout=30)
            storage.faults.offline = False
    [line, *_] = [line for line in said if line["event"] == "the remote is out of reach"]
    assert line["retry_every_s"] == (1.0, 30.0)
    assert line["reason"]


def test_the_bridge_carries_what_others_log(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        with telemetry.configure(form="json", file=tmp_path / "log"):
            structlog.contextvars.bind_contextvars(remote="far:")
            logging.getLogger("botocore").warning("slow: %s", "password=hunter2")
            logging.getLogger("botocore").info("quiet")
            logging.getLogger("mountsync.fuse").info("ours")
            logging.getLogger("mountsync.fuse").log(35, "odd level")
            try:
                raise PermissionDenied("no")
            except PermissionDenied:
                logging.getLogger("mountsync.fuse").exception("failed")
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.reset_defaults()
        root.handlers = before
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("slow: password=***", "warning"),
        ("ours", "info"),
        ("odd level", "warning"),
        ("failed", "error"),
    ]
    assert all(line["remote"] == "far:" for line in lines)
    assert "PermissionDenied" in lines[-1]["exception"]


def test_a_mount_that_fails_says_so_in_json(tmp_path: Path) -> None:
    place = Mounted(tmp_path / "place")
    (place.path / "not empty").touch()
    words = ("mount", place.spec, str(place.path), "--log-format", "json")
    [line] = [json.loads(line) for line in place.run(*words, code=4).stderr.splitlines()]
    assert (line["event"], line["error"], line["exit_code"]) == ("ended by a failure", "MountError", 4)
    assert (line["path"], line["level"]) == (str(place.path), "error")
    assert line["reason"] == "the mount point is not empty"


def test_every_line_of_a_mount_in_json_is_json_and_names_the_remote(tmp_path: Path) -> None:
    place = Mounted(tmp_path / "place", "--log-format", "json", "--log-level", "debug")
    try:
        place.start()
        (place.path / "a").write_text("near")
        place.flush()
        place.umount()
    finally:
        place.end()
    lines = [json.loads(line) for line in place.log.read_text().splitlines()]
    assert all(line["remote"] == place.spec for line in lines)
