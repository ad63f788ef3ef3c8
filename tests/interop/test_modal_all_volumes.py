"""The list of all volumes, `:modal:`: what others do to volumes, what we do not, and which is meant."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from mountsync.errors import ConfigError, Halted, NotFound, Unsupported
from mountsync.model.entry import Problem
from mountsync.paths import ROOT, RelPath
from tests.modal_server import RpcFault
from tests.parts.bodies import get, items, put
from tests.parts.modal import modal_storage
from tests.parts.real_mount import Mounted
from tests.parts.shell import Shell


@pytest.fixture
def shell(server, tmp_path):
    (tmp_path / "home" / "local").mkdir(parents=True)
    (tmp_path / "home" / "local" / "f").write_bytes(b"data")
    shell = Shell(tmp_path / "home")
    shell.environment.update(server.environment())
    return shell


class AllVolumes(Mounted):
    """`:modal:`, mounted."""

    def ends_with(self, path: str) -> str:
        """Flushes, which is to end with a problem of this path; the reason that is told."""
        self.run("flush", "--timeout", "20s", str(self.path), code=3)
        (found,) = [each for each in self.status().problems if each.path == path]
        assert found.retry_at is None or found.retry_at > time.time() + 600, "it is tried again and again"
        return found.reason


@pytest.fixture
def make_mount(server, tmp_path: Path):
    made = []

    def make(*options: str) -> AllVolumes:
        mount = AllVolumes(tmp_path / "home", "--poll-interval", "1s", *options, spec=":modal:")
        mount.more = server.environment()
        made.append(mount)
        mount.start()
        return mount

    yield make
    for mount in made:
        mount.end()


def plant(server, volume: str, path: str, data: bytes) -> None:
    there = server.volume(volume)
    server.do(lambda: server.store.plant(there, path, data, mtime=5))


def content(server, volume: str, path: str) -> bytes:
    there = server.volume(volume)
    return server.do(partial(server.store.content, there, path))


def volumes(server) -> set[str]:
    return {volume.name for volume in server.store.volumes.values()}


def replace_volume(server, name: str) -> None:
    """Somebody deletes the volume and makes another one of this name."""
    old = server.volume(name)
    server.do(lambda: server.store.drop(old.id))
    plant(server, name, "theirs", b"theirs")


def rename_volume(server, name: str, new: str) -> None:
    volume = server.volume(name)
    server.do(lambda: server.store.rename(volume.id, new))


# ---- commands take the volumes as they are ------------------------------------------------------------


def test_commands_take_a_volume_that_was_made_anew(server, shell):
    plant(server, "data", "f", b"data")
    commands = [
        ["lsf", ":modal:"],
        ["ls", ":modal:"],
        ["cat", ":modal:data/f"],
        ["hashsum", "sha256", ":modal:"],
        ["copy", ":modal:", "./back"],
        ["sync", ":modal:", "./back"],
        ["mkdir", ":modal:data/made"],
        ["mkdir", ":modal:data"],
        ["rm", "-r", ":modal:data/made"],
        ["check", ":modal:", "./back"],
    ]
    for _ in range(2):
        for words in commands:
            done = shell.here(*words)
            assert done.code == 0, (words, done)
        replace_volume(server, "data")
        plant(server, "data", "f", b"other")
    assert shell.here("cat", ":modal:data/f").out == "other"


def test_one_spec_in_two_environments(server, shell):
    plant(server, "data", "main", b"")
    dev = server.volume("data", env="dev")
    server.do(lambda: server.store.plant(dev, "dev", b"", mtime=5))
    for _ in range(2):
        assert shell.here("lsf", "-R", ":modal:").out.split() == ["data/", "data/main"]
        assert shell.here("lsf", "-R", ":modal:", MODAL_ENVIRONMENT="dev").out.split() == [
            "data/",
            "data/dev",
        ]


@pytest.mark.parametrize("path", ["", "data"])
async def test_state_belongs_to_a_server_and_an_environment(server, tmp_path, path):
    state = tmp_path / "state"
    plant(server, "data", "f", b"main")
    dev = server.volume("data", env="dev")
    server.do(lambda: server.store.plant(dev, "f", b"dev", mtime=5))
    seen = set()
    for _ in range(2):
        for environment, wanted in (("", b"main"), ("dev", b"dev")):
            async with modal_storage(server, state, path, environment=environment) as storage:
                assert await get(storage, "f" if path else "data/f") == wanted
                seen.add(storage.info.identity)
    assert len(seen) == 2
    assert not any("test" in path.name or "dev" in path.name for path in state.rglob("*"))


@pytest.mark.parametrize("environment", ["", "dev"])
async def test_state_of_an_earlier_version_is_found_again(server, tmp_path, environment):
    """It has no word of an environment: it belongs to the one that it is opened with first."""
    state = tmp_path / "state"
    server.volume("data", env=environment or "main")
    async with modal_storage(server, state, "", environment=environment) as storage:
        await put(storage, "data/f", b"x")
    for claim in state.glob("modal-place.json"):
        claim.unlink()
    old = server.volume("data", env=environment or "main")
    server.do(lambda: server.store.drop(old.id))
    server.volume("data", env=environment or "main")
    for _ in range(2):
        async with modal_storage(server, state, "", environment=environment) as storage:
            with pytest.raises(Halted):
                await put(storage, "data/f", b"y")


async def test_a_mount_stays_with_its_volumes_a_command_does_not(server, tmp_path):
    async with modal_storage(server, tmp_path / "mount", "") as mount:
        await put(mount, "data/f", b"x")
    async with modal_storage(server, tmp_path / "command", "", lasting=False) as command:
        await put(command, "data/f", b"x")
    replace_volume(server, "data")
    async with modal_storage(server, tmp_path / "mount", "") as mount:
        with pytest.raises(Halted, match="--cache-dir"):
            await put(mount, "data/g", b"x")
    async with modal_storage(server, tmp_path / "command", "", lasting=False) as command:
        await put(command, "data/g", b"x")
        replace_volume(server, "data")
        assert isinstance((await items(command))["data"], Problem)
        with pytest.raises(Halted, match="run the command again") as caught:
            await put(command, "data/g", b"x")
        assert "--cache-dir" not in str(caught.value)
    assert set(server.volume("data").nodes) == {"theirs"}
    assert list((tmp_path / "command").glob("*")) == []


# ---- renames by others --------------------------------------------------------------------------------


async def test_a_name_that_another_volume_took_is_halted(server, tmp_path):
    plant(server, "alpha", "f", b"first")
    async with modal_storage(server, tmp_path / "state", "") as storage:
        assert await get(storage, "alpha/f") == b"first"
        rename_volume(server, "alpha", "beta")
        plant(server, "alpha", "g", b"second")
        for recursive in (False, True):
            async with storage.list(ROOT, recursive=recursive) as batches:
                found = dict([item async for batch in batches for item in batch])
            assert isinstance(found.pop("alpha"), Problem)
            assert set(found) == {"data", "beta"} | ({"beta/f"} if recursive else set())
        for _ in range(2):
            with pytest.raises(Halted):
                await put(storage, "alpha/f", b"ours")
            with pytest.raises(Halted):
                await storage.stat(RelPath("alpha/g"))
        assert await get(storage, "beta/f") == b"first"
    assert content(server, "beta", "f") == b"first"
    assert set(server.volume("alpha").nodes) == {"g"}


async def test_a_volume_that_others_renamed_is_not_written_under_its_old_name(server, tmp_path):
    plant(server, "alpha", "f", b"first")
    async with modal_storage(server, tmp_path / "state", "") as storage:
        await put(storage, "alpha/mine", b"1", mtime_ns=10**18 + 5)
        rename_volume(server, "alpha", "beta")
        assert set(await items(storage)) == {"data", "beta", "beta/f", "beta/mine"}
        with pytest.raises(Unsupported, match="create_volumes"):
            await put(storage, "alpha/f", b"ours")
        with pytest.raises(NotFound):
            await get(storage, "alpha/f")
    async with modal_storage(server, tmp_path / "other", "") as storage:
        assert (await items(storage))["beta/mine"].mtime_ns == 10**18 + 5
    assert content(server, "beta", "f") == b"first"


def test_a_mount_when_others_give_a_name_to_another_volume(server, make_mount):
    plant(server, "alpha", "f", b"first")
    plant(server, "other", "f", b"other")
    mount = make_mount()
    assert (mount.path / "alpha" / "f").read_bytes() == b"first"
    rename_volume(server, "alpha", "beta")
    plant(server, "alpha", "g", b"second")
    mount.until(lambda: [each.path for each in mount.status().problems] == ["alpha"])
    mount.until((mount.path / "beta").is_dir)
    (mount.path / "other" / "f").write_bytes(b"goes on")
    mount.until(lambda: content(server, "other", "f") == b"goes on")
    (mount.path / "alpha" / "f").write_bytes(b"ours")
    assert "'alpha' is not the one" in mount.run("flush", str(mount.path), code=5).stderr
    mount.run("umount", "--now", str(mount.path))
    assert content(server, "beta", "f") == b"first"
    assert content(server, "alpha", "g") == b"second"
    assert set(server.volume("alpha").nodes) == {"g"}


# ---- volumes that we do not make, rename or delete ----------------------------------------------------


async def test_a_volume_that_is_not_made_is_a_lasting_refusal(server, tmp_path):
    plant(server, "data", "f", b"x")
    async with modal_storage(server, tmp_path / "state", "") as storage:
        for act in (
            lambda: put(storage, "new/f", b"x"),
            lambda: storage.make_directory(RelPath("new")),
            lambda: storage.make_directory(RelPath("new/d")),
            lambda: storage.move(RelPath("data/f"), RelPath("new/f")),
            lambda: storage.copy(RelPath("data/f"), RelPath("new/f")),
        ):
            with pytest.raises(Unsupported, match="create_volumes"):
                await act()
    assert volumes(server) == {"data"}


@pytest.mark.parametrize("interval", ["1s", "60s"])
@pytest.mark.parametrize("files", [(), ("f",), ("d/f", "d/g")])
def test_mkdir_at_the_top_of_a_mount(server, make_mount, files, interval):
    mount = make_mount("--poll-interval", interval)
    (mount.path / "new").mkdir()
    for path in (mount.path / "new" / file for file in files):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert "create_volumes" in mount.ends_with("new")
    mount.run("umount", str(mount.path), code=3)
    mount.run("umount", "--now", str(mount.path))
    mount._reap()
    assert volumes(server) == {"data"}
    mount.start("--modal-create-volumes")
    mount.flush()
    assert volumes(server) == {"data", "new"}
    assert {path for path in server.volume("new").nodes if path in files} == set(files)
    mount.umount()


def test_a_name_that_no_volume_has_is_refused_at_once_in_a_mount(make_mount):
    mount = make_mount()
    for name in ("a b", ".mountsync"):
        with pytest.raises(OSError):
            (mount.path / name).mkdir()
    (mount.path / "data" / "a b").mkdir()
    mount.flush()
    mount.umount()


def test_a_rename_of_a_volume_in_a_mount(server, make_mount):
    plant(server, "alpha", "d/f", b"first")
    mount = make_mount()
    (mount.path / "alpha").rename(mount.path / "beta")
    mount.run("flush", str(mount.path), code=3)
    problems = {each.path: each.reason for each in mount.status().problems}
    assert any("create_volumes" in reason for reason in problems.values()), problems
    assert volumes(server) == {"data", "alpha"}
    assert content(server, "alpha", "d/f") == b"first"
    assert (mount.path / "beta" / "d" / "f").read_bytes() == b"first"
    mount.run("umount", "--now", str(mount.path))


def test_a_volume_that_is_removed_in_a_mount_says_why_it_stays(server, make_mount):
    plant(server, "alpha", "d/f", b"first")
    mount = make_mount()
    (mount.path / "alpha" / "d" / "f").unlink()
    (mount.path / "alpha" / "d").rmdir()
    (mount.path / "alpha").rmdir()
    assert "modal volume delete alpha" in mount.ends_with("alpha")
    assert volumes(server) == {"data", "alpha"}
    mount.run("umount", "--now", str(mount.path))


@pytest.mark.parametrize("files", [{}, {"f": b"1", "d/g": b"2"}])
def test_rm_of_a_volume_is_refused_before_anything_goes(server, shell, files):
    server.volume("alpha")
    for path, data in files.items():
        plant(server, "alpha", path, data)
    done = shell.here("rm", "-r", ":modal:alpha")
    assert done.code == 3
    assert "modal volume delete alpha" in done.error_line
    assert {path: content(server, "alpha", path) for path in files} == files
    assert shell.here("rm", "-r", ":modal:alpha/d").code == (0 if files else 3)
    assert set(server.volume("alpha").nodes) <= {"f"}


# ---- two-way syncs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--modal-create-volumes"], ["--dry-run"]])
@pytest.mark.parametrize("side", [0, 1])
def test_the_list_of_volumes_is_no_side_of_a_pair(server, shell, side, flags):
    plant(server, "data", "f", b"1")
    sides = [str(shell.home / "local")]
    sides.insert(side, ":modal:")
    for _ in range(2):
        done = shell.here("bisync", *sides, *flags)
        assert done.code == 2
        assert done.err.endswith("the list of volumes cannot be kept in sync; name a volume in it\n")
    assert volumes(server) == {"data"}
    assert set(server.volume("data").nodes) == {"f"}
    assert [path.name for path in (shell.home / "local").iterdir()] == ["f"]


def test_a_pair_does_not_take_a_volume_made_anew_for_the_old_one(server, shell):
    """Its marks tell, whatever commands think of the name: nothing is deleted for what is not there."""
    local = shell.home / "local"
    assert shell.here("bisync", str(local), ":modal:data").code == 0
    replace_volume(server, "data")
    assert shell.here("ls", ":modal:data").code == 0
    done = shell.here("bisync", str(local), ":modal:data")
    assert "a side was replaced" in done.out + done.err
    assert (local / "f").read_bytes() == b"data"


def test_a_job_with_the_list_of_volumes(shell):
    local = shell.home / "local"
    shell.config.write_text(f'[job.bad]\na = "{local}"\nb = ":modal:"\n')
    done = shell.here("start", "bad", "--dry-run")
    assert done.code == 2
    assert done.err.endswith("the list of volumes cannot be kept in sync; name a volume in it\n")


# ---- environments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["Environment not found", "Environment 'nope' not found"])
@pytest.mark.parametrize("create", [[], ["--modal-create-volumes"]])
@pytest.mark.parametrize("path", ["", "data", "data/d"])
def test_an_unknown_environment_is_named(server, shell, message, create, path):
    for method in ("VolumeGetOrCreate", "VolumeList"):
        server.faults.rpc.append(RpcFault(method, "NOT_FOUND", 999, message))
    local = str(shell.home / "local")
    for words in (["ls", f":modal:{path}"], ["copy", local, f":modal:{path}"]):
        if words[0] == "copy" and not path:
            continue
        done = shell.here(*words, *create, MODAL_ENVIRONMENT="nope")
        assert done.code == 2, done
        assert "'nope'" in done.error_line
        assert message in done.error_line
        assert "MODAL_ENVIRONMENT" in done.error_line


async def test_an_unknown_volume_is_no_unknown_environment(server, tmp_path):
    with pytest.raises(NotFound, match="volume create"):
        async with modal_storage(server, tmp_path / "state", "Environment"):
            pass
    server.faults.rpc.append(RpcFault("VolumeGetOrCreate", "NOT_FOUND", 9, "Environment not found"))
    with pytest.raises(ConfigError, match=r"default environment: .*Environment not found"):
        async with modal_storage(server, tmp_path / "state", "data"):
            pass
