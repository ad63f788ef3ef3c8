"""Editors save in a mounted folder: the new content, the old mode, and nothing else on the remote."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.programs import Terminal, need, run

OnRemote = Callable[[], Path]
OLD, NEW = "the old text\n", "the new text\n"


def a_file(place: Path, name: str = "notes.txt", mode: int = 0o754) -> Path:
    path = place / name
    path.write_text(OLD)
    path.chmod(mode)
    return path


def check(path: Path, remote: Path, text: str = NEW, mode: int = 0o754) -> None:
    for each in (path, remote / path.name):
        assert each.read_text() == text
        assert each.stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("how", ["no", "yes", "auto"])
def test_vim_saves(place: Path, on_remote: OnRemote, how: str) -> None:
    need("vim")
    path = a_file(place)
    command = f"set nocompatible swapfile writebackup backupcopy={how} fsync"
    run("vim", "-N", "-u", "NONE", "-es", "-c", command, "-c", "%s/old/new/", "-c", "wq", path, cwd=place)
    check(path, on_remote())
    assert os.listdir(place) == ["notes.txt"]


def test_vim_keeps_a_backup(place: Path, on_remote: OnRemote) -> None:
    need("vim")
    path = a_file(place)
    run(
        "vim",
        "-N",
        "-u",
        "NONE",
        "-es",
        "-c",
        "set backup backupskip=",
        "-c",
        "%s/old/new/",
        "-c",
        "wq",
        path,
        cwd=place,
    )
    remote = on_remote()
    check(path, remote)
    assert (remote / "notes.txt~").read_text() == OLD


def test_vim_recovers_after_its_own_crash(place: Path, on_remote: OnRemote) -> None:
    need("vim")
    path = a_file(place)
    vim = Terminal(["vim", "-N", "-u", "NONE", "-c", "set swapfile updatecount=1 nofsync", path], cwd=place)
    vim.until(b"the old text")
    vim.keys(b"ggCtyped before the crash\x1b:preserve\r")
    vim.until(b"File preserved")
    vim.kill()
    assert sorted(os.listdir(place)) == [".notes.txt.swp", "notes.txt"]
    assert os.listdir(on_remote()) == ["notes.txt"]
    run("vim", "-N", "-u", "NONE", "-es", "-r", path, "-c", "wq!", cwd=place)
    (place / ".notes.txt.swp").unlink()
    check(path, on_remote(), "typed before the crash\n")


def test_nano_saves_with_backup_and_lock(place: Path, on_remote: OnRemote) -> None:
    need("nano")
    path = a_file(place)
    nano = Terminal(["nano", "--backup", "--locking", "--ignorercfiles", path], cwd=place)
    nano.until(b"the old text")
    assert ".notes.txt.swp" in os.listdir(place)
    nano.keys(b"typed ")
    nano.until(b"typed")
    nano.keys(b"\x0f\r")
    nano.until(b"Wrote")
    nano.keys(b"\x18")
    assert nano.wait() == 0
    remote = on_remote()
    check(path, remote, "typed " + OLD)
    check(place / "notes.txt~", remote, OLD)
    assert sorted(os.listdir(remote)) == ["notes.txt", "notes.txt~"]


def test_emacs_saves(place: Path, on_remote: OnRemote) -> None:
    if shutil.which("emacs") is None:
        pytest.skip("emacs is not installed: half a minute for one test")
    path = a_file(place)
    edit = """(progn
        (setq backup-enable-predicate (lambda (_) t))  ; none in /tmp otherwise
        (find-file "notes.txt") (goto-char 5) (delete-char 3) (insert "new") (save-buffer))"""
    run("emacs", "--batch", "-Q", "--eval", edit, cwd=place)
    remote = on_remote()
    check(path, remote)
    check(place / "notes.txt~", remote, OLD)
    assert sorted(os.listdir(place)) == ["notes.txt", "notes.txt~"]


def test_emacs_lock_and_auto_save_stay_here(place: Path, on_remote: OnRemote) -> None:
    path = a_file(place)
    (place / ".#notes.txt").symlink_to("user@host.1234:5678")
    (place / "#notes.txt#").write_text("auto-saved")
    assert os.listdir(on_remote()) == ["notes.txt"]
    (place / ".#notes.txt").unlink()
    (place / "#notes.txt#").unlink()
    check(path, on_remote(), OLD)


GLIB = """
import sys
import gi
gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib
path, backup, etag, text = sys.argv[1], sys.argv[2] == "backup", sys.argv[3] or None, sys.argv[4]
file = Gio.File.new_for_path(path)
try:
    file.replace_contents(text.encode(), etag, backup, Gio.FileCreateFlags.NONE, None)
except GLib.Error as error:
    print("refused", error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.WRONG_ETAG))
print(file.query_info("etag::value", 0, None).get_etag())
"""


def glib_replace(path: Path, text: str, *, backup: str = "plain", etag: str = "") -> str:
    if not Path("/usr/lib/python3/dist-packages/gi").exists():
        pytest.skip("python3-gi is not installed")
    return run("/usr/bin/python3", "-c", GLIB, path, backup, etag, text, cwd=path.parent)


def test_glib_replaces_a_file(place: Path, on_remote: OnRemote) -> None:
    """gedit, Nautilus and every program that uses GLib."""
    path = a_file(place)
    glib_replace(path, NEW)
    check(path, on_remote())
    assert os.listdir(place) == ["notes.txt"]


def test_glib_replaces_with_a_backup(place: Path, on_remote: OnRemote) -> None:
    path = a_file(place)
    glib_replace(path, NEW, backup="backup")
    remote = on_remote()
    check(path, remote)
    assert (remote / "notes.txt~").read_text() == OLD
    assert sorted(os.listdir(remote)) == ["notes.txt", "notes.txt~"]


def test_glib_notices_that_another_wrote(place: Path, on_remote: OnRemote) -> None:
    path = a_file(place)
    etag = glib_replace(path, NEW).split()[-1]
    path.write_text("by another program\n")
    assert "refused True" in glib_replace(path, OLD, etag=etag)
    check(path, on_remote(), "by another program\n")


def test_vs_code_writes_in_place(place: Path, on_remote: OnRemote) -> None:
    path = a_file(place)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(fd, NEW.encode())
    os.fdatasync(fd)
    os.close(fd)
    check(path, on_remote())


def test_vs_code_saves_atomically(place: Path, on_remote: OnRemote) -> None:
    path = a_file(place)
    temporary = place / "notes.txt.vsctmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(fd, NEW.encode())
    os.fdatasync(fd)
    os.close(fd)
    os.chmod(temporary, os.stat(path).st_mode & 0o7777)
    os.rename(temporary, path)
    remote = on_remote()
    check(path, remote)
    assert os.listdir(remote) == ["notes.txt"]


def test_libreoffice_save_by_its_system_calls(place: Path, on_remote: OnRemote) -> None:
    """A lock beside the document, a temporary file, fsync, the old one aside, rename over, unlock."""
    path = a_file(place, "letter.odt")
    lock = place / ".~lock.letter.odt#"
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    os.lockf(fd, os.F_TLOCK, 0)
    os.write(fd, b",user,host,20.11.2026 11:30,file:///home/user/.config/libreoffice/4;")
    os.close(fd)
    temporary = place / "lu4711abc.tmp"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, b"\0" * len(NEW))
    os.pwrite(fd, NEW.encode(), 0)
    os.fsync(fd)
    os.fchmod(fd, 0o754)
    os.close(fd)
    os.rename(temporary, path)
    assert os.listdir(on_remote()) == ["letter.odt"]
    lock.unlink()
    check(path, on_remote())


OFFICE = """
import sys, time, uno
from com.sun.star.beans import PropertyValue
here = uno.getComponentContext()
resolver = here.ServiceManager.createInstanceWithContext("com.sun.star.bridge.UnoUrlResolver", here)
for attempt in range(300):
    try:
        there = resolver.resolve(f"uno:pipe,name={sys.argv[1]};urp;StarOffice.ComponentContext")
        break
    except Exception:
        time.sleep(0.1)
desktop = there.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", there)
hidden = PropertyValue(Name="Hidden", Value=True)
for text in sys.argv[3:]:
    document = desktop.loadComponentFromURL(sys.argv[2], "_blank", 0, (hidden,))
    document.Text.setString(text)
    document.store()
    document.close(True)
try:
    desktop.terminate()
except Exception:
    pass  # it is gone before it can answer
"""


@pytest.fixture
def office(place: Path) -> list[str]:
    """LibreOffice's command line with a profile of its own, on the machine's disk."""
    if shutil.which("soffice") is None:
        pytest.skip("LibreOffice is not installed: too large for these tests")
    return ["soffice", f"-env:UserInstallation=file://{place.parent.parent}/office", "--headless"]


def test_libreoffice_converts(place: Path, on_remote: OnRemote, office: list[str]) -> None:
    (place / "letter.txt").write_text("Dear reader")
    for kind in ("odt", "pdf"):
        run(*office, "--convert-to", kind, "letter.txt", cwd=place)
    assert sorted(os.listdir(on_remote())) == ["letter.odt", "letter.pdf", "letter.txt"]


def test_libreoffice_opens_and_saves(place: Path, on_remote: OnRemote, office: list[str]) -> None:
    """Twice in place; then another LibreOffice reads what lies on the remote."""
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "import uno"], check=False, capture_output=True).returncode:
        pytest.skip("python3-uno is not installed: it comes with LibreOffice, which is too large")
    (place / "letter.txt").write_text(OLD)
    run(*office, "--convert-to", "odt", "letter.txt", cwd=place)
    pipe = f"mountsync{os.getpid()}"
    listening = subprocess.Popen([*office, f"--accept=pipe,name={pipe};urp;"], cwd=place)
    try:
        url = (place / "letter.odt").as_uri()
        run(python, "-c", OFFICE, pipe, url, "first change", NEW.strip(), cwd=place)
        listening.wait(60)
    finally:
        listening.kill()
        listening.wait()
    remote = on_remote()
    assert sorted(os.listdir(remote)) == ["letter.odt", "letter.txt"]
    assert (remote / "letter.odt").read_bytes() == (place / "letter.odt").read_bytes()
    elsewhere = place.parent.parent / "elsewhere"
    run(*office, "--convert-to", "txt:Text", "--outdir", elsewhere, remote / "letter.odt", cwd=place)
    assert (elsewhere / "letter.txt").read_text().strip("\ufeff\n") == NEW.strip()
