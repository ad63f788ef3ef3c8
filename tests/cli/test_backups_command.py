"""`backups prune`, dry runs of `backups restore` and `start`, JSON of `stop`, filters of `check`, and how
a job gets on while `flush` waits."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import trio

from mountsync.cli.forms import FORMS
from mountsync.cli.running import while_asking
from mountsync.model.status import Status
from tests.parts.shell import Shell


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


STATUS = {
    "name": "one", "remote": "one", "mountpoint": None, "pid": 1, "state": "applying", "reason": None,
    "pending": 7, "pending_bytes": 2048, "transfers": [], "conflicts": [], "problems": [], "cache": None,
    "last_cycle": None, "entries": 9,
}  # fmt: skip


def formed(name: str, text: str) -> dict:
    raw = msgspec.json.decode(text)
    assert msgspec.to_builtins(msgspec.convert(raw, type=FORMS[name])) == raw
    return raw


def keep_version(folder: Path, job: str, stamp: str, path: str, data: bytes = b"kept") -> Path:
    place = folder / ".mountsync/backups" / job / stamp / path
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    return place


def test_prune_by_age_and_by_count_and_by_job(shell: Shell, sides: tuple[Path, Path]) -> None:
    _, b = sides
    old = keep_version(b, "one", "2001-01-01T000000Z", "d/x")
    younger = [keep_version(b, "one", f"2999-01-0{day}T000000Z", "x") for day in range(1, 6)]
    other = keep_version(b, "two", "2001-01-01T000000Z", "y")
    foreign = keep_version(b, "one", "not a time", "z")
    before = tree(b)
    said = formed("backups prune", shell.here("backups", "prune", str(b), "--dry-run", "--json").out)
    assert [(each["job"], each["path"]) for each in said["backups"]] == [("one", "d/x"), ("two", "y")]
    assert tree(b) == before
    done = shell.here("backups", "prune", str(b), "--job", "one")
    assert (done.code, done.out.splitlines()[-1]) == (0, "1 version")
    assert not old.exists()
    assert not old.parents[1].exists(), "the folders of the run went too"
    assert other.exists()
    assert shell.here("backups", "prune", str(b), "--keep-runs", "2").code == 0
    assert [path.exists() for path in younger] == [False, False, False, True, True]
    assert not other.exists()
    assert shell.here("backups", "prune", str(b), "--keep-backups", "0s", "--keep-runs", "0").code == 0
    assert list(tree(b)) == [str(foreign.relative_to(b))], "what is no run of ours stays"
    assert shell.here("backups", "prune", str(b), "--keep-runs", "-1").code == 2


def test_restore_dry_run_changes_nothing(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = map(str, sides)
    (sides[0] / "x").write_text("1")
    (sides[0] / "y").write_text("2")
    shell.here("bisync", a, b)
    (sides[0] / "x").unlink()
    shell.here("bisync", a, b)
    before = tree(sides[1])
    said = formed("backups restore", shell.here("backups", "restore", b, "x", "--dry-run", "--json").out)
    assert [each["path"] for each in said["backups"]] == ["x"]
    assert tree(sides[1]) == before
    assert shell.here("backups", "restore", b, "x").code == 0
    assert (sides[1] / "x").read_text() == "1"


def test_check_leaves_out_what_a_filter_matches(shell: Shell, sides: tuple[Path, Path]) -> None:
    (sides[0] / "x.tmp").write_text("1")
    (sides[0] / "y").write_text("2")
    (sides[1] / "y").write_text("2")
    a, b = map(str, sides)
    assert shell.here("check", a, b).code == 1
    assert shell.here("check", a, b, "--filter", "*.tmp").code == 0


def test_start_dry_run_says_what_the_job_would_do(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    (a / "x").write_text("1")
    (a / "x.tmp").write_text("2")
    shell.config.write_text(f'[job.notes]\na = "{a}"\nb = "{b}"\nfilter = ["*.tmp"]\n')
    done = shell.here("start", "notes", "--dry-run")
    assert (done.code, "would get 1 new" in done.out) == (0, True)
    said = formed("start --dry-run", shell.here("start", "notes", "-n", "--json").out)
    assert [action["path"] for action in said["actions"]] == ["x"]
    assert tree(b) == {}
    assert not (shell.home / "state/mountsync/daemon").exists(), "no daemon was started"
    assert shell.here("start", "none", "--dry-run").code == 2


def test_stop_tells_what_it_stopped(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    shell.config.write_text("".join(f'[job.{name}]\na = "{a}"\nb = "{b}"\n' for name in ("one", "two")))
    try:
        assert json.loads(shell.run("start", "one", "--json").out)["name"] == "one"
        assert shell.here("start", "two").code == 0
        said = formed("stop", shell.here("stop", "two", "--json").out)
        assert said == {"version": 1, "stopped": ["two"], "daemon": False}
        said = formed("stop", shell.here("stop", "--all", "--json").out)
        assert said["stopped"] == ["one"]
    finally:
        done = shell.here("stop", "--daemon", "--json")
    assert formed("stop", done.out) == {"version": 1, "stopped": [], "daemon": True}


async def test_flush_of_a_job_shows_how_it_gets_on(capsys: pytest.CaptureFixture[str]) -> None:
    asked = trio.Event()

    async def ask() -> Status:
        asked.set()
        await trio.lowlevel.checkpoint()
        return msgspec.convert(STATUS, Status)

    async def work() -> str:
        with trio.fail_after(60):
            await asked.wait()
            while not (said := capsys.readouterr().err):
                await trio.sleep(0.01)
        return said

    assert await while_asking(ask, work()) == "applying: 7 left, 2.0 KiB\n"
