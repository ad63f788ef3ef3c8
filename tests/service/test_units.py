"""Units for systemd: what is written, and what systemd says about it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mountsync.formats.systemd_unit import Unit, unit_name, unit_text
from tests.parts.shell import Shell

SHARE = Path(__file__).parents[2] / "share/systemd"


def verify(*files: Path) -> None:
    """systemd itself reads the units and has nothing to say."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if any(file.name in line for file in files)]
    assert (done.returncode, ours) == (0, []), done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "home").mkdir()
    made = Shell(tmp_path / "home")
    made.config.write_text(
        f'[mount.photos]\nremote = "{tmp_path}/far"\nmountpoint = "{tmp_path}/my 100% $HOME \\"mnt\\""\n'
        'drain = "30s"\n[mount."two words"]\nremote = "/far"\nmountpoint = "/near"\n'
        '[mount.nowhere]\nremote = "/far"\n'
    )
    return made


def test_the_units_that_we_ship_are_those_that_we_write() -> None:
    for folder in ("user", "system"):
        for file, about, words in (
            ("mountsync@.service", "mountsync: INSTANCE", ["mount", "INSTANCE"]),
            ("mountsync-jobs.service", "mountsync: folders in sync", ["daemon"]),
        ):
            unit = Unit(
                description=about,
                command=["/usr/bin/env", "mountsync", *words],
                of_system=folder == "system",
            )
            wanted = unit_text(unit).replace("INSTANCE", "%I")
            assert (SHARE / folder / file).read_text() == wanted


def test_systemd_accepts_the_units_that_we_ship() -> None:
    verify(*SHARE.rglob("*.service"))


def test_install_show_and_uninstall(shell: Shell, tmp_path: Path) -> None:
    units = tmp_path / "units"
    done = shell.run("service", "install", "photos", "--dir", str(units))
    assert (done.code, done.err) == (0, "")
    file = units / "mountsync-photos.service"
    text = file.read_text()
    assert "Type=notify\n" in text
    assert "WatchdogSec=60\n" in text
    assert "TimeoutStopSec=120\n" in text, "the drain comes on top"
    assert f"--config {shell.config} mount photos\n" in text
    assert 'umount --now --if-mounted "' in text
    assert '100%% $$HOME \\"mnt\\""\n' in text
    assert shell.here("service", "show", "photos", "--dir", str(units)).out == f"# {file}\n{text}"
    verify(file)
    assert shell.here("service", "uninstall", "photos", "--dir", str(units)).code == 0
    assert not file.exists()
    assert shell.here("service", "uninstall", "photos", "--dir", str(units)).code == 3


def test_units_of_the_machine_and_of_jobs(shell: Shell, tmp_path: Path) -> None:
    units = str(tmp_path / "units")
    assert (
        shell.here("service", "install", "--system", "--dir", units, "--run-as", "root", "photos").code == 0
    )
    assert shell.here("service", "install", "--dir", units, "jobs").code == 0
    system, jobs = tmp_path / "units/mountsync-photos.service", tmp_path / "units/mountsync-jobs.service"
    assert "User=root\n" in system.read_text()
    assert "WantedBy=multi-user.target\n" in system.read_text()
    assert " daemon\n" in jobs.read_text()
    verify(system, jobs)


def test_what_cannot_be_a_service_is_refused(shell: Shell, tmp_path: Path) -> None:
    units = tmp_path / "units"
    for words, reason in (
        (("photo",), "did you mean 'photos'"),
        (("nowhere",), "the mount point is missing"),
        (("photos", "--run-as", "root"), "needs --system"),
    ):
        done = shell.here("service", "install", *words, "--dir", str(units))
        assert (done.code, reason in done.err) == (2, True), done.err
    assert not units.exists()


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs this machine")
def test_without_systemd_nothing_is_written_unless_asked(shell: Shell) -> None:
    done = shell.here("service", "install", "photos")
    assert (done.code, "--no-start" in done.error_line) == (4, True)
    assert not list(shell.home.rglob("*.service"))
    assert shell.here("service", "install", "photos", "--no-start").code == 0
    assert [file.name for file in shell.home.rglob("*.service")] == ["mountsync-photos.service"]


def test_names_of_units_are_distinct_and_safe() -> None:
    names = ["a b", "a-b", "a_b", "a@b", "ä"]
    made = [unit_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert made[0] == r"mountsync-a\x20b.service"


def test_texts_cannot_break_out_of_their_line() -> None:
    text = unit_text(Unit(description="a", command=["/bin/x", 'a\nExecStart=/bin/y "%n\\'], user="u"))
    assert r'ExecStart=/bin/x "a\x0aExecStart=/bin/y \"%%n\\"' in text.splitlines()
