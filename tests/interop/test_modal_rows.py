"""What the README of rclone-modal promises, row by row, on the command line; `docs/modal.md` has the table.

Each test bears the number of its row. Where ours does more, the test shows what the row wants and that.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from mountsync.formats.modal_sidecar import FOLDER, RCLONE_NAME, decode, shard_of, shard_path
from mountsync.paths import RelPath
from mountsync.storage import api, modal
from mountsync.storage.modal.sidecar import DEBOUNCE
from tests.modal_server import ModalServer
from tests.modal_server.store import FILE
from tests.parts.bodies import put
from tests.parts.modal import all_stored, modal_storage, plant
from tests.parts.shell import Shell

NATIVE = 1_650_000_000
SOURCE = 1_600_000_000_123_456_789
ROWS = range(1, 23)
KEPT = re.compile(r"lock|null|modal-(volume|place)\.new|local-\w+\.attempts")
"""What a copy opens to write to it: locks, and small facts of its state."""


@pytest.fixture
def shell(server, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    shell = Shell(home)
    shell.environment.update(server.environment())
    return shell


@pytest.fixture
def local(tmp_path):
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "f").write_bytes(b"data")
    return folder


def volumes(server) -> set[str]:
    return {volume.name for volume in server.store.volumes.values()}


def listed(shell: Shell, remote: str, *flags: str) -> list[str]:
    done = shell.here("lsf", remote, *flags)
    assert done.code == 0, done.err
    return done.out.splitlines()


def mtime_of(shell: Shell, remote: str) -> int:
    """The time of the only file there, in nanoseconds."""
    done = shell.here("ls", "--json", remote)
    assert done.code == 0, done.err
    (entry,) = json.loads(done.out)["entries"]
    return int(entry["mtime_ns"])


def test_r01_type_modal_on_the_fly_and_named(server, shell):
    plant(server, "a/b/f", b"data")
    assert listed(shell, ":modal:data/a/b") == ["f"]
    assert shell.here("config", "create", "work", "modal").code == 0
    assert listed(shell, "work:data/a") == ["b/"]
    assert shell.here("cat", "work:data/a/b/f").out == "data"


def test_r02_the_root_lists_volumes(server, shell):
    server.volume("other")
    plant(server, "top", b"data")
    plant(server, "d/x", b"data")
    assert sorted(listed(shell, ":modal:")) == ["data/", "other/"]
    assert sorted(listed(shell, ":modal:data")) == ["d/", "top"]


def test_r03_credentials_are_never_options(server, shell):
    assert not any(re.search("token|secret|key|pass", option.name) for option in modal.OPTIONS)
    refused = shell.here("ls", ":modal,token_secret=as-test:data")
    assert refused.code == 2
    assert "token_secret" in refused.error_line
    nothing = {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}
    assert shell.here("ls", ":modal:data", **nothing).code != 0
    write_profiles(server, shell, active="test")
    assert shell.here("ls", ":modal:data", **nothing).code == 0


def write_profiles(server, shell, *, active: str, environment: str = "") -> None:
    """A `.modal.toml` with the right token in the profile `test` and wrong ones elsewhere."""
    path = shell.home / "modal.toml"
    tables = []
    for name, secret in (("test", server.service.tokens[1]), ("wrong", "as-wrong")):
        lines = [f"[{name}]", f'token_id = "{server.service.tokens[0]}"', f'token_secret = "{secret}"']
        lines += ["active = true"] if name == active else []
        lines += [f'environment = "{environment}"'] if environment else []
        tables.append("\n".join(lines))
    path.write_text("\n\n".join(tables) + "\n")
    shell.environment["MODAL_CONFIG_PATH"] = str(path)


def test_r04_profile_option_then_variable_then_active(server, shell):
    bare = {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}
    write_profiles(server, shell, active="wrong")
    assert shell.here("ls", ":modal:data", **bare).code == 4
    assert shell.here("ls", ":modal:data", MODAL_PROFILE="test", **bare).code == 0
    assert shell.here("ls", ":modal,profile=test:data", MODAL_PROFILE="wrong", **bare).code == 0
    assert shell.here("ls", ":modal:data", "--modal-profile", "test", **bare).code == 0
    write_profiles(server, shell, active="test")
    assert shell.here("ls", ":modal:data", **bare).code == 0


def test_r05_environment_option_then_variable_then_profile(server, shell):
    for name in ("one", "two", "three"):
        server.volume(f"in-{name}", env=name)
    write_profiles(server, shell, active="test", environment="three")
    assert listed(shell, ":modal:") == ["in-three/"]
    shell.environment["MODAL_ENVIRONMENT"] = "two"
    assert listed(shell, ":modal:") == ["in-two/"]
    assert listed(shell, ":modal,environment=one:") == ["in-one/"]
    assert listed(shell, ":modal:", "--modal-environment", "one") == ["in-one/"]


def test_r06_config_path_and_server_url(server, shell, tmp_path):
    write_profiles(server, shell, active="test")
    bare = {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}
    assert shell.here("ls", ":modal:data", **bare).code == 0
    assert shell.here("ls", ":modal:data", MODAL_CONFIG_PATH=str(tmp_path / "none"), **bare).code != 0
    with ModalServer(tmp_path / "second") as second:
        second.volume("elsewhere")
        moved = shell.here("lsf", ":modal:", MODAL_SERVER_URL=second.url)
        assert moved.out.splitlines() == ["elsewhere/"]


def test_r07_defaults_of_the_options():
    defaults = {option.name: option.default for option in modal.OPTIONS}
    assert defaults["sidecar_metadata"] is True
    assert defaults["create_volumes"] is False
    reference = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    assert {"--modal-sidecar-metadata", "--modal-create-volumes"} <= set(re.findall("--[a-z-]+", reference))


@pytest.mark.parametrize(
    "words",
    [
        ["ls", ":modal:typo"],
        ["cat", ":modal:typo/f"],
        ["copy", "LOCAL", ":modal:typo/d"],
        ["sync", "LOCAL", ":modal:typo"],
        ["bisync", "LOCAL", ":modal:typo"],
        ["mkdir", ":modal:typo/d"],
        ["mkdir", ":modal:typo"],
        ["rm", ":modal:typo/f"],
        ["rm", "-r", ":modal:typo"],
        ["rm", "-r", ":modal:typo/d"],
        ["hashsum", "sha256", ":modal:typo"],
        ["mount", ":modal:typo", "MOUNT"],
        ["check", "LOCAL", ":modal:typo"],
        ["prune-metadata", ":modal:typo"],
        ["gc", ":chunker,remote=':modal:typo':"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_r08_a_typo_never_makes_a_volume(server, shell, local, tmp_path, words):
    (tmp_path / "mount").mkdir()
    places = {"LOCAL": str(local), "MOUNT": str(tmp_path / "mount")}
    command = shell.run if words[0] == "mount" else shell.here
    done = command(*(places.get(word, word) for word in words))
    assert done.code != 0
    assert "typo" in done.err
    assert volumes(server) == {"data"}


@pytest.mark.parametrize("way", ["write", "mkdir"])
def test_r09_create_volumes(server, shell, local, way):
    words = ["copy", str(local), ":modal:fresh/d"] if way == "write" else ["mkdir", ":modal:fresh/d"]
    assert shell.here(*words, "--modal-create-volumes").code == 0
    assert volumes(server) == {"data", "fresh"}
    assert server.volume("fresh").version == 2
    assert listed(shell, ":modal:fresh") == ["d/"]


async def test_r10_hashes_times_moves_and_usage(server, tmp_path):
    """There as here: no hashes, no usage. Beyond it: times and modes, moves and copies on the server."""
    async with modal_storage(server, tmp_path / "state") as storage:
        assert storage.info.hashes == frozenset()
        assert not isinstance(storage, api.SupportsHashes | api.SupportsDigest | api.SupportsUsage)
        entry = await put(storage, "a", b"x" * 100_000, mtime_ns=SOURCE)
        sent, got = server.counts.put_bytes, server.counts.get_bytes
        moved = await storage.move(RelPath("a"), RelPath("b"), expect=entry.token)
        copied = await storage.copy(RelPath("b"), RelPath("c"))
        later = await storage.set_mtime(RelPath("c"), SOURCE + 1)
        assert (moved.mtime_ns, copied.mtime_ns, later.mtime_ns) == (SOURCE, SOURCE, SOURCE + 1)
        assert (server.counts.put_bytes, server.counts.get_bytes) == (sent, got)


def test_r11_the_sidecar_lies_at_the_root_of_the_volume(server, shell, local):
    """Under a name of ours, in shards: the layout of rclone-modal's is not known, so it is never written."""
    plant(server, RCLONE_NAME, b'{"theirs": 1}')
    assert shell.here("copy", str(local), ":modal:data/deep/er").code == 0
    files = all_stored(server)
    assert set(files) == {RCLONE_NAME, "deep/er/f", shard_path(shard_of("deep/er/f"))}
    assert files[RCLONE_NAME] == b'{"theirs": 1}'


def test_r12_what_the_sidecar_holds(server, shell, local):
    assert shell.here("copy", str(local), ":modal:data").code == 0
    entries = decode(all_stored(server)[shard_path(shard_of("f"))])
    node = server.volume("data").nodes["f"]
    kept = entries["f"]
    assert (kept.size, kept.mtime) == (node.size, node.mtime)
    assert kept.mtime_ns == (local / "f").stat().st_mtime_ns


def theirs(server, *, size: int = 4, physical: int = NATIVE) -> None:
    """A file, and what rclone-modal may have noted of it."""
    plant(server, "f", b"data", mtime=NATIVE)
    fields = {"size": size, "modal_mtime": physical, "source_mtime": "2020-09-13T12:26:40.123456789Z"}
    plant(server, RCLONE_NAME, json.dumps({"files": {"f": fields}}).encode())


@pytest.mark.parametrize(
    ("size", "physical", "wanted"),
    [(4, NATIVE, SOURCE), (5, NATIVE, NATIVE * 10**9), (4, NATIVE + 1, NATIVE * 10**9)],
    ids=["both agree", "another size", "another time"],
)
def test_r13_a_source_time_holds_while_size_and_time_agree(server, shell, size, physical, wanted):
    theirs(server, size=size, physical=physical)
    assert mtime_of(shell, ":modal:data") == wanted


def test_r14_hidden_while_the_option_is_on(server, shell):
    theirs(server)
    assert listed(shell, ":modal:data") == ["f"]
    assert sorted(listed(shell, ":modal,sidecar_metadata=false:data")) == sorted([RCLONE_NAME, "f"])


@pytest.mark.parametrize("text", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"files":{"f":{"size":"x"}}}'])
def test_r15_a_missing_or_damaged_sidecar_is_ignored(server, shell, text):
    plant(server, "f", b"data", mtime=NATIVE)
    if text is not None:
        plant(server, RCLONE_NAME, text)
        plant(server, shard_path(shard_of("f")), text)
    assert mtime_of(shell, ":modal:data") == NATIVE * 10**9


class Shards:
    """The shards that a server was given, each time that it was."""

    def __init__(self, server: ModalServer, monkeypatch) -> None:
        self.written: list[str] = []
        self._token = trio.lowlevel.current_trio_token()
        self._news = trio.Event()
        self._store = server.store.set
        monkeypatch.setattr(server.store, "set", self._set)

    def _set(self, volume, path, node) -> None:
        self._store(volume, path, node)
        if path.startswith(f"{FOLDER}/") and node.kind == FILE:
            self.written.append(path)
            self._token.run_sync_soon(self._news.set)

    async def one_more(self) -> None:
        await self._news.wait()
        self._news = trio.Event()


async def test_r16_updates_wait_briefly_and_are_flushed_at_the_end(server, tmp_path, monkeypatch, mock_clock):
    """A flush rewrites the shards that changed, not everything. Time stands still but where it is moved."""
    shards = Shards(server, monkeypatch)
    shard = shard_path(shard_of("a/f0"))
    async with modal_storage(server, tmp_path / "state") as storage:
        for n in range(20):
            await put(storage, f"a/f{n}", b"x", mtime_ns=SOURCE + n)
        await put(storage, "b/f", b"x", mtime_ns=SOURCE)
        mock_clock.jump(DEBOUNCE - 0.01)
        await storage.set_mtime(RelPath("a/f0"), SOURCE)
        await trio.testing.wait_all_tasks_blocked()
        assert shards.written == []
        mock_clock.jump(0.01)
        while len(shards.written) < 2:
            await shards.one_more()
        assert sorted(shards.written) == sorted([shard, shard_path(shard_of("b/f"))])
        assert decode(all_stored(server)[shard])["a/f19"].mtime_ns == SOURCE + 19
        await storage.barrier()  # the flush is over: what comes now waits anew
        await storage.set_mtime(RelPath("a/f1"), SOURCE)
        await trio.testing.wait_all_tasks_blocked()
        assert len(shards.written) == 2
    assert shards.written[2:] == [shard]
    assert decode(all_stored(server)[shard])["a/f1"].mtime_ns == SOURCE


async def test_r17_two_processes_at_once(server, tmp_path):
    """Entries of both live on, unless both write one shard in the same moment."""
    async with (
        modal_storage(server, tmp_path / "one") as one,
        modal_storage(server, tmp_path / "two") as two,
    ):
        await put(one, "d/mine", b"1", mtime_ns=SOURCE)
        await put(two, "d/theirs", b"2", mtime_ns=SOURCE + 1)
        await one.barrier()
        await two.barrier()
    entries = decode(all_stored(server)[shard_path(shard_of("d/mine"))])
    assert {path: entry.mtime_ns for path, entry in entries.items()} == {
        "d/mine": SOURCE,
        "d/theirs": SOURCE + 1,
    }


def test_r18_prune_metadata_within_its_path(server, shell, local):
    (local / "in").mkdir()
    (local / "in" / "g").write_bytes(b"data")
    assert shell.here("copy", str(local), ":modal:data").code == 0
    volume = server.volume("data")
    for path in ("f", "in/g"):
        server.do(lambda path=path: server.store.unset(volume, path))
    assert "1 stale entry dropped" in shell.here("prune-metadata", ":modal:data/in").out
    assert "1 stale entry dropped" in shell.here("prune-metadata", ":modal:data").out


def test_r19_without_the_sidecar_only_native_times(server, shell, local):
    """A sync then compares contents by itself: there is no flag to forget."""
    remote = ":modal,sidecar_metadata=false:data"
    assert shell.here("copy", str(local), remote).code == 0
    assert set(all_stored(server)) == {"f"}
    assert mtime_of(shell, remote) == server.volume("data").nodes["f"].mtime * 10**9
    sent = server.counts.put_bytes
    again = shell.here("copy", str(local), remote)
    assert again.code == 0
    assert server.counts.put_bytes == sent
    assert shell.here("check", str(local), remote, "--download").code == 0


WITNESS = """
import os, sys
log = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def see(event, args):
    if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR):
        os.write(log, os.fsencode(f"{args[0]}\\n"))
sys.addaudithook(see)
"""
"""Has Python write down every file that it opens to write to it, whoever does it and whatever its name is."""


@pytest.fixture
def witness(shell, tmp_path, monkeypatch):
    """The files that commands of the shell opened for writing, in processes of their own."""
    (tmp_path / "witness").mkdir()
    (tmp_path / "witness" / "sitecustomize.py").write_text(WITNESS)
    (tmp_path / "tmp").mkdir()
    log = tmp_path / "witness" / "log"
    before = shell.environment.get("PYTHONPATH")
    shell.environment["PYTHONPATH"] = ":".join(filter(None, (str(log.parent), before)))
    shell.environment |= {
        "TMPDIR": str(tmp_path / "tmp"),
        "WITNESS": str(log),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return lambda: [Path(line) for line in log.read_text().splitlines()]


def test_r20_no_copy_of_an_upload_on_local_disk(server, shell, local, tmp_path, witness):
    """Missing blocks are read from the source again: nothing of it is ever put into another file."""
    (local / "big").write_bytes(bytes(range(256)) * 70_000)
    server.faults.put_status = [503, 503]
    assert shell.run("copy", str(local), ":modal:data").code == 0
    opened = witness()
    assert [path for path in opened if path.is_relative_to(tmp_path / "tmp")] == []
    state = shell.home / "state" / "mountsync"
    assert {path for path in opened if not path.is_relative_to(state)} <= {Path(os.devnull)}
    assert [path for path in opened if not KEPT.fullmatch(path.name)] == []
    assert all_stored(server)["big"] == (local / "big").read_bytes()
    # the proof can fail: a spool file would be seen, also one without a name
    spool = "import tempfile; tempfile.TemporaryFile().write(b'x')"
    subprocess.run([sys.executable, "-c", spool], env=shell.environment, check=True)
    assert any(path.is_relative_to(tmp_path / "tmp") for path in witness())


def test_r21_only_the_file_calls_of_version_2(server, shell, local):
    assert shell.here("copy", str(local), ":modal:data/d").code == 0
    assert shell.here("copy", ":modal:data", str(local / "back")).code == 0
    assert shell.here("rm", ":modal:data/d/f").code == 0
    wanted = {"VolumeGetOrCreate", "VolumeListFiles2", "VolumePutFiles2", "VolumeGetFile2"}
    assert set(server.counts.rpc) <= wanted | {"VolumeRemoveFile2", "VolumeGetById", "VolumeList"}
    assert "commit" not in shell.here("--help").out


def test_r22_version_2_only(server, shell):
    server.volume("old", version=1)
    refused = shell.here("ls", ":modal:old")
    assert refused.code != 0
    assert "version 2" in refused.error_line


def test_every_row_has_a_test_and_a_line() -> None:
    here = Path(__file__)
    numbers = {int(n) for n in re.findall(r"def test_r(\d\d)_", here.read_text())}
    page = (here.parents[2] / "docs" / "modal.md").read_text()
    assert numbers == {int(n) for n in re.findall(r"^\| R(\d+) \|", page, re.MULTILINE)} == set(ROWS)
