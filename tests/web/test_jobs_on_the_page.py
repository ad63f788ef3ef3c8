"""Jobs of a real daemon, and a mount that was halted, on the page: shown, paused, settled, confirmed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mountsync.control.overview import Overview
from mountsync.model.status import SessionState
from mountsync.web.guard import CSRF_HEADER, Guard, Request
from mountsync.web.page import Pages, everything, shown_of
from tests.parts.shell import Shell
from tests.parts.statuses import status_of

PATIENCE_S = 60.0


class Page:
    """What our own page would send, to the answering side itself."""

    def __init__(self) -> None:
        self.guard = Guard(1234)
        self.pages = Pages(self.guard)

    async def ask(self, method: str, target: str, **body: object) -> tuple[int, Any]:
        headers = {
            "host": "127.0.0.1:1234",
            "origin": "http://127.0.0.1:1234",
            "cookie": self.guard.cookie.partition(";")[0],
            "content-type": "application/json",
            CSRF_HEADER: self.guard.word,
        }
        data = json.dumps(body).encode() if body else b""
        answer = await self.pages.answer(Request(method, target, headers, data))
        return answer.status, json.loads(answer.body)

    async def job(self) -> dict[str, Any]:
        status, found = await self.ask("GET", "/api/overview")
        assert status == 200
        [one] = found["shown"]
        assert isinstance(one, dict)
        return one

    async def act(self, do: str, **more: object) -> tuple[int, Any]:
        return await self.ask("POST", "/api/act", kind="job", id="notes", do=do, **more)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A daemon with one job whose sides have a conflict."""
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path / "home")
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "notes.txt").write_text(side * 3)
    shell.config.write_text(
        f'[job.notes]\na = "{tmp_path}/a"\nb = "{tmp_path}/b"\nconflict = "manual"\nwrite_delay = "10ms"\n'
    )
    monkeypatch.setenv("XDG_STATE_HOME", shell.environment["XDG_STATE_HOME"])
    process = subprocess.Popen(
        [sys.executable, "-m", "mountsync", "daemon"], env=shell.environment, cwd=shell.home
    )
    try:
        wait_until((shell.home / "state/mountsync/daemon/control.sock").exists)
        assert shell.run("start", "notes").code == 0
        shell.run("flush", "notes")
        yield shell
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


async def test_a_job_is_paused_and_its_conflict_settled(user: Shell, tmp_path: Path) -> None:
    page = Page()
    one = await page.job()
    assert (one["kind"], one["id"], one["level"]) == ("job", "notes", "waiting")
    assert [each["path"] for each in one["status"]["conflicts"]] == ["notes.txt"]
    assert (await page.act("pause"))[0] == 200
    assert (await page.job())["paused"]
    assert (await page.act("resume"))[0] == 200
    assert not (await page.job())["paused"]
    assert (await page.act("resolve", path="notes.txt", keep="remote"))[0] == 200
    assert user.run("flush", "notes").code == 0
    assert (tmp_path / "a/notes.txt").read_text() == "bbb"
    assert (await page.job())["status"]["conflicts"] == []


async def test_what_the_daemon_refuses_is_said(user: Shell) -> None:
    page = Page()
    status, said = await page.act("resolve", path="nothing", keep="both")
    assert (status, said["class"]) == (409, "NotFound")
    status, said = await page.ask("POST", "/api/act", kind="job", id="other", do="pause")
    assert status == 409
    assert "other" in said["message"]


@pytest.mark.parametrize(
    ("state", "level", "halted"),
    [
        (SessionState.SETTLED, "good", False),
        (SessionState.APPLYING, "busy", False),
        (SessionState.OFFLINE, "waiting", False),
        (SessionState.PAUSED, "waiting", False),
        (SessionState.HALTED_DELETES, "bad", True),
        (SessionState.HALTED_REMOTE, "bad", True),
        (SessionState.FAILED, "bad", False),
    ],
)
def test_levels(state: SessionState, level: str, halted: bool) -> None:
    status = status_of(state, name="x", mountpoint=None)
    [shown] = everything(Overview(jobs=(status,)), 0.0).shown
    assert (shown.level, shown.halted) == (level, halted)


def test_a_mount_whose_remote_is_gone_has_no_button_and_says_what_to_do() -> None:
    status = status_of(SessionState.HALTED_REMOTE, name="x", mountpoint="/mnt/x")
    shown = shown_of("mount", "/mnt/x", status)
    assert (shown.level, shown.halted, shown.lost) == ("bad", False, True)
    assert "mountsync export" in shown.saying
