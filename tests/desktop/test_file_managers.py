"""The extensions of Nautilus and Nemo and the menu of Dolphin, against a real mount."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.real_mount import Mounted

NewMount = Callable[..., Mounted]
SHARE = Path(__file__).parents[2] / "share"
HOSTS = {"Nautilus": "nautilus-python", "Nemo": "nemo-python"}
SYSTEM_PYTHON = "/usr/bin/python3"

STUBS = """
import sys, types

class _Item:
    def __init__(self, **given):
        self.__dict__.update(given)
    def connect(self, signal, pressed):
        assert signal == "activate"
        self.pressed = pressed
    def emit(self, signal):
        self.pressed(self)
    def get_property(self, name):
        return getattr(self, name)

repository = types.ModuleType("gi.repository")
repository.GObject = types.SimpleNamespace(GObject=type("GObject", (), {}))
kinds = {kind: type(kind, (), {}) for kind in ("InfoProvider", "MenuProvider", "ColumnProvider")}
setattr(repository, HOST, types.SimpleNamespace(MenuItem=_Item, Column=_Item, **kinds))
sys.modules["gi"] = types.ModuleType("gi")
sys.modules["gi.repository"] = repository
"""
REAL = """
import gi
from gi.repository import GIRepository
versions = GIRepository.Repository.get_default().enumerate_versions(HOST)
gi.require_version(HOST, max(versions))
"""
DRIVER = """
import importlib.util, json, threading

class Place:
    def __init__(self, path): self.path = path
    def get_path(self): return self.path

class File:
    def __init__(self, path): self.place, self.emblems, self.words = Place(path), [], {}
    def get_location(self): return self.place
    def add_emblem(self, name): self.emblems.append(name)
    def add_string_attribute(self, name, value): self.words[name] = value

spec = importlib.util.spec_from_file_location("extension", EXTENSION)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
extension = module.MountsyncExtension()
if HOST == "Nautilus":
    assert [column.get_property("attribute") for column in extension.get_columns()] == ["mountsync_state"]
found = {"emblems": {}, "labels": {}}
for path in PATHS:
    file = File(path)
    extension.update_file_info(file)
    found["emblems"][path] = [file.emblems, file.words.get("mountsync_state")]
    items = extension.get_file_items(None, [file])
    found["labels"][path] = [item.get_property("label") for item in items]
    for item in items:
        if item.get_property("label") == PRESS.get(path):
            item.emit("activate")
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(60)
print(json.dumps(found))
"""


def has_real(host: str) -> bool:
    """Whether the host's own bindings are installed for the system's Python."""
    code = (
        "from gi.repository import GIRepository\n"
        f"assert GIRepository.Repository.get_default().enumerate_versions({host!r})"
    )
    done = subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, check=False)
    return done.returncode == 0


def driven(
    mount: Mounted, host: str, paths: list[Path], press: dict[str, str] | None = None, *, real: bool
) -> dict[str, dict[str, list[object]]]:
    """What the extension says of these files, after what is to be pressed was pressed."""
    extension = SHARE / HOSTS[host] / f"extensions/mountsync-{host.lower()}.py"
    given = {
        "HOST": host,
        "EXTENSION": str(extension),
        "PATHS": [str(path) for path in paths],
        "PRESS": press or {},
    }
    head = "".join(f"{name} = {value!r}\n" for name, value in given.items())
    done = subprocess.run(
        [SYSTEM_PYTHON if real else sys.executable, "-B", "-c", head + (REAL if real else STUBS) + DRIVER],
        env=mount.environment | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, list[object]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def mounted(new_mount: NewMount) -> Mounted:
    """One file of each kind."""
    mount = new_mount("--conflict", "manual", "--write-delay", "1h", "--poll-interval", "1h")
    for name in ("cold", "warm", "both", "small"):
        (mount.remote / name).write_bytes(name.encode() * 20_000)
    mount.start()
    for name in ("warm", "both"):
        (mount.path / name).read_bytes()
    mount.tell("pause")
    (mount.path / "both").write_text("near")
    (mount.remote / "both").write_text("far")
    mount.tell("resume", confirm=False)
    mount.tell("flush", timeout=60)
    (mount.path / "fresh").write_text("fresh")
    return mount


@pytest.mark.parametrize("real", [False, True], ids=["stub", "real"])
@pytest.mark.parametrize("host", HOSTS)
def test_emblems_menus_and_what_they_do(mounted: Mounted, host: str, real: bool) -> None:
    if real and not has_real(host):
        pytest.skip(f"the bindings of {host} are not installed (Debian: python3-nautilus, nemo-python)")
    names = ("cold", "warm", "both", "fresh")
    paths = [mounted.path / name for name in names]
    press = {
        str(mounted.path / "warm"): "Free its space",
        str(mounted.path / "both"): "Keep the version of the remote",
    }
    found = driven(mounted, host, [*paths, mounted.remote / "cold"], press, real=real)
    emblems = {
        Path(path).name: value for path, value in found["emblems"].items() if str(mounted.path) in path
    }
    assert emblems == {
        "cold": [["emblem-web"], "On the remote only"],
        "warm": [["emblem-default"], "On this device and on the remote"],
        "both": [["emblem-important"], "Changed on both sides"],
        "fresh": [["emblem-synchronizing"], "Not on the remote yet"],
    }
    usual = ["Keep on this device", "No longer keep on this device", "Free its space"]
    assert found["labels"][str(paths[0])] == usual
    assert len(found["labels"][str(paths[2])]) == 6
    assert found["labels"][str(mounted.remote / "cold")] == []
    assert found["emblems"][str(mounted.remote / "cold")] == [[], None]
    assert os.getxattr(paths[0], "user.mountsync.state") == b"cloud"
    assert os.getxattr(paths[1], "user.mountsync.state") == b"cloud"
    mounted.until(lambda: paths[2].read_text() == "far")
    assert mounted.status().conflicts == []


def test_pins(mounted: Mounted) -> None:
    path = mounted.path / "cold"
    driven(mounted, "Nautilus", [path], {str(path): "Keep on this device"}, real=False)
    mounted.until(lambda: os.getxattr(path, "user.mountsync.state") == b"synced")
    driven(mounted, "Nemo", [path], {str(path): "No longer keep on this device"}, real=False)
    assert mounted.status().cache.pinned == 0  # type: ignore[union-attr]


def test_a_mount_that_is_gone_is_no_mount(mounted: Mounted) -> None:
    path = mounted.path / "cold"
    mounted.kill9()
    found = driven(mounted, "Nautilus", [path], real=False)
    assert found["labels"][str(path)] == []


def test_files_are_sound_for_the_oldest_python() -> None:
    files = [SHARE / "mountsync/mountsync_desktop.py", *SHARE.glob("*-python/extensions/*.py")]
    assert len(files) == 3
    for file in files:
        compile(file.read_text(), str(file), "exec", dont_inherit=True)


def test_the_menu_of_dolphin(mounted: Mounted) -> None:
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(SHARE / "kio/servicemenus/mountsync.desktop")
    names = parser["Desktop Entry"]["Actions"].strip(";").split(";")
    assert [f"Desktop Action {name}" for name in names] == parser.sections()[1:]
    tools = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    for name, path in (("evict", "warm"), ("local", "both")):
        words = shlex.split(parser[f"Desktop Action {name}"]["Exec"])
        assert words[-1] == "%F"
        command = [*words[:-1], str(mounted.path / path)]
        done = subprocess.run(
            command,
            env=mounted.environment | {"PATH": tools},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert os.getxattr(mounted.path / "warm", "user.mountsync.state") == b"cloud"
    mounted.until(lambda: (mounted.remote / "both").read_text() == "near")
