"""Two-way sync between a folder and a volume, plain and under a chunker, on a local server."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mountsync.formats.modal_sidecar import RCLONE_NAME
from mountsync.storage.modal.tokens import YOUNG
from tests.modal_server import ModalServer, RpcFault
from tests.parts.bodies import body
from tests.parts.shell import Outcome, Shell

BLOCK = 8 << 20
PATIENCE_S = 60


class Pair:
    """A folder and a remote on the server, with a user who syncs them."""

    def __init__(self, server: ModalServer, tmp_path: Path, remote: str) -> None:
        self.server = server
        self.remote = remote
        self._times = itertools.count()
        self.folder = tmp_path / "folder"
        self.folder.mkdir()
        (tmp_path / "home").mkdir()
        self.shell = Shell(tmp_path / "home")
        self.shell.environment.update(server.environment())

    def sync(self, *flags: str, code: int = 0) -> Outcome:
        done = self.shell.here("bisync", str(self.folder), self.remote, *flags)
        assert done.code == code, done.out + done.err
        return done

    def write(self, files: dict[str, bytes], *, fresh: bool = False) -> None:
        """With old times, each another one; those that are `fresh` are in doubt after a sync."""
        for name, data in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(data)
            if not fresh:
                os.utime(self.folder / name, ns=(0, 1_600_000_000_000_000_000 + next(self._times)))

    def here(self) -> dict[str, bytes]:
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return users({str(path.relative_to(self.folder)): path.read_bytes() for path in found})

    def times(self) -> dict[str, int]:
        return {name: (self.folder / name).stat().st_mtime_ns for name in self.here()}

    def plant(self, path: str, data: bytes) -> None:
        """What another client of Modal writes."""
        volume = self.server.volume("data")
        mtime = int(time.time()) - 1000 + len(data) % 500
        self.server.do(lambda: self.server.store.plant(volume, path, data, mtime=mtime))

    def unplant(self, path: str) -> None:
        """What another client of Modal removes."""
        volume = self.server.volume("data")
        self.server.do(lambda: self.server.store.unset(volume, path))

    def there(self) -> dict[str, bytes]:
        """The files of the volume, as other clients see them."""
        volume, store = self.server.volume("data"), self.server.store
        return users(
            self.server.do(
                lambda: {p: store.content(volume, p) for p, n in volume.nodes.items() if n.kind == 1}
            )
        )

    def are(self, files: dict[str, bytes]) -> None:
        """Both sides hold this, and a further sync finds nothing to do."""
        assert self.here() == files
        assert self.there() == files
        assert "Nothing to do" in self.sync().out

    def outlive_doubt(self) -> None:
        """Waits until no file of the volume is so young that it might still change within its second.

        What a killed sync had written is anybody's to the next one: its notes died with it, and Modal's
        times are whole seconds. Until it is older than that its token is provisional, and a sync after
        that has to compare it once more. That is inherent.
        """
        volume = self.server.volume("data")
        youngest = self.server.do(lambda: max(node.mtime for node in volume.nodes.values()))
        time.sleep(max(0.0, youngest + YOUNG + 0.1 - time.time()))


def users(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what is ours."""
    return {name: data for name, data in files.items() if not name.startswith(".mountsync")}


@pytest.fixture
def pair(server: ModalServer, tmp_path: Path) -> Pair:
    return Pair(server, tmp_path, ":modal:data")


def test_the_first_sync_unites(pair: Pair) -> None:
    pair.write({"d/ours": b"1", "same": b"equal", "empty": b""})
    pair.plant("e/theirs", b"22")
    pair.plant("same", b"equal")
    assert "First sync" in pair.sync().err
    pair.are({"d/ours": b"1", "same": b"equal", "empty": b"", "e/theirs": b"22"})


@pytest.mark.parametrize("there", [None, b"theirs"])
@pytest.mark.parametrize("command", ["bisync", "copy", "sync"])
def test_a_file_under_a_hidden_name_stays_where_it_is(pair: Pair, command: str, there: bytes | None) -> None:
    pair.write({RCLONE_NAME: b"ours", "f": b"1"})
    if there is not None:
        pair.plant(RCLONE_NAME, there)
    for _ in range(2):
        done = pair.shell.here(command, str(pair.folder), pair.remote)
        assert done.code == 3 and (done.out + done.err).count("this name is kept") == 1
        assert pair.here() == {RCLONE_NAME: b"ours", "f": b"1"}
        assert pair.there() == {"f": b"1"} | ({} if there is None else {RCLONE_NAME: there})


def test_without_a_sidecar_no_file_is_hidden(pair: Pair) -> None:
    pair.remote = ":modal,sidecar_metadata=false:data"
    pair.write({RCLONE_NAME: b"ours", "f": b"1"})
    for _ in range(2):
        pair.sync()
        assert pair.here() == pair.there() == {RCLONE_NAME: b"ours", "f": b"1"}


def test_edits_of_both_sides(pair: Pair) -> None:
    pair.write({name: name.encode() for name in ("a", "b", "c")} | {"big": body(BLOCK + 5)})
    pair.sync()
    big = bytearray(body(BLOCK + 5))
    big[-1] ^= 1
    pair.write({"a": b"edited here", "big": bytes(big), "new here": b"x"})
    pair.plant("b", b"edited there")
    pair.plant("new/there", b"y")
    sent = pair.server.counts.put_bytes
    pair.sync()
    assert pair.server.counts.put_bytes - sent < 100_000  # one short block of the large file
    pair.are(
        {"a": b"edited here", "b": b"edited there", "c": b"c", "big": bytes(big)}
        | {"new here": b"x", "new/there": b"y"}
    )


def test_a_conflict_touches_nothing_until_it_is_settled(pair: Pair) -> None:
    pair.write({"f": b"first", "other": b"1"})
    pair.sync()
    pair.write({"f": b"edited here", "other": b"2"})
    pair.plant("f", b"edited there, too")
    assert "1 conflict" in pair.sync(code=1).out
    assert (pair.here()["f"], pair.there()["f"]) == (b"edited here", b"edited there, too")
    assert pair.there()["other"] == b"2"
    pair.sync("--conflict", "keep-both")
    assert sorted(pair.here().values()) == [b"2", b"edited here", b"edited there, too"]
    pair.are(pair.here())


def test_renames_move_no_bytes(pair: Pair) -> None:
    files = {"d/big": body(BLOCK + 77), "d/e/small": b"small", "stays": body(100_000)}
    pair.write(files)
    pair.sync()
    os.rename(pair.folder / "d", pair.folder / "moved")
    os.rename(pair.folder / "stays", pair.folder / "renamed")
    counts = pair.server.counts
    sent, got = counts.put_bytes, counts.get_bytes
    pair.sync()
    assert counts.put_bytes - sent < 20_000  # the sidecar alone
    assert counts.get_bytes - got < 20_000
    pair.are({"moved/big": files["d/big"], "moved/e/small": b"small", "renamed": files["stays"]})


def test_deletes_of_both_sides(pair: Pair) -> None:
    files = {f"f{n}": b"%d" % n for n in range(10)}
    pair.write(files)
    pair.sync()
    (pair.folder / "f1").unlink()
    pair.unplant("f2")
    (pair.folder / "f3").unlink()
    pair.plant("f3", b"edited there: it stays")
    pair.sync()
    left = {name: data for name, data in files.items() if name not in ("f1", "f2")}
    pair.are(left | {"f3": b"edited there: it stays"})


def test_an_emptied_volume_halts(pair: Pair) -> None:
    pair.write({f"f{n}": b"%d" % n for n in range(30)})
    pair.sync()
    for n in range(30):
        pair.unplant(f"f{n}")
    pair.sync(code=5)
    assert len(pair.here()) == 30


def test_a_listing_that_is_refused_deletes_nothing(pair: Pair) -> None:
    pair.write({"d/f": b"1", "e/g": b"2"})
    pair.sync()
    pair.server.faults.unreadable = {"d"}
    pair.write({"e/h": b"3"})
    pair.sync(code=3)
    assert pair.here() == {"d/f": b"1", "e/g": b"2", "e/h": b"3"} == pair.there()
    pair.server.faults.unreadable = set()
    pair.are({"d/f": b"1", "e/g": b"2", "e/h": b"3"})


CRASHES = {
    "before the first commit": ("VolumePutFiles2", 0, False),
    "after a commit": ("VolumePutFiles2", 2, True),
    "between copy and removal of a rename": ("VolumeRemoveFile2", 0, False),
    "after a removal": ("VolumeRemoveFile2", 0, True),
}


@pytest.mark.parametrize(("method", "skip", "after"), CRASHES.values(), ids=CRASHES)
@pytest.mark.parametrize("kind", ["modal", "chunker"])
def test_killed_and_run_again(
    server: ModalServer, tmp_path: Path, kind: str, method: str, skip: int, *, after: bool
) -> None:
    remote = ":modal:data" if kind == "modal" else ":chunker,remote=':modal:data',chunk_size=300K:"
    pair = Pair(server, tmp_path, remote)
    files = {"old": body(1_000_000), "edited": body(700_000, 1), "gone": b"x", "d/small": b"s"}
    pair.write(files, fresh=True)
    pair.sync()
    os.rename(pair.folder / "old", pair.folder / "new name")
    (pair.folder / "gone").unlink()
    pair.write({"edited": body(700_001, 2), "fresh": body(900_000, 3), "d/small": b"changed"}, fresh=True)
    wanted = pair.here()
    process = subprocess.Popen(
        [sys.executable, "-m", "mountsync", "bisync", str(pair.folder), remote],
        env=pair.shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    kill = RpcFault(
        method, "UNAVAILABLE", skip=skip, after=after, action=lambda: os.kill(process.pid, signal.SIGKILL)
    )
    server.faults.rpc.append(kill)
    assert process.wait(PATIENCE_S) == -signal.SIGKILL
    server.faults.rpc.clear()
    assert pair.here() == wanted
    pair.sync()
    assert pair.here() == wanted
    times = pair.times()
    pair.outlive_doubt()
    for _ in range(2):  # the first one compares, which changes nothing
        assert "Nothing to do" in pair.sync().out
    assert pair.here() == wanted
    assert pair.times() == times
    shown = pair.shell.here("check", str(pair.folder), remote, "--download")
    assert shown.code == 0, shown.out
    if kind == "chunker":
        assert pair.shell.here("fsck", remote).code == 0


def test_a_job_over_modal_and_chunker(server: ModalServer, tmp_path: Path) -> None:
    """The daemon keeps a folder and files in parts on a volume the same, in both directions."""
    remote = ":chunker,remote=':modal:data/parts',chunk_size=100K:"
    server.do(lambda: server.store.plant(server.store.named("main", "data"), "parts/first", b"x"))
    pair = Pair(server, tmp_path, remote)
    pair.shell.config.write_text(
        f'[job.parts]\na = "{pair.folder}"\nb = "{remote}"\nwrite_delay = "50ms"\nwatcher_interval = "1s"\n'
    )
    daemon = subprocess.Popen(
        [sys.executable, "-m", "mountsync", "daemon"],
        env=pair.shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until((pair.shell.home / "state/mountsync/daemon/control.sock").exists)
        assert pair.shell.here("start", "parts").code == 0
        pair.write({"large": body(350_000), "small": b"s"})
        until(lambda: "parts/large.rclone_chunk.004" in pair.there() and "parts/small" in pair.there())
        pair.plant("parts/theirs", b"from there")
        until((pair.folder / "theirs").exists)
        (pair.folder / "small").unlink()
        os.rename(pair.folder / "large", pair.folder / "renamed")
        until(lambda: "parts/small" not in pair.there() and "parts/renamed" in pair.there())
        assert pair.shell.here("flush", "parts").code == 0
    finally:
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0
    assert pair.here() == {"first": b"x", "renamed": body(350_000), "theirs": b"from there"}
    assert pair.shell.here("check", str(pair.folder), remote, "--download").code == 0
    assert pair.shell.here("fsck", remote, "--read").code == 0


def until(holds) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


@pytest.mark.parametrize("wait", [0, 3])
def test_times_here_stay_where_modal_keeps_none(server: ModalServer, tmp_path: Path, wait: int) -> None:
    pair = Pair(server, tmp_path, ":modal,sidecar_metadata=false:data/below")
    pair.write({"old": b"1", "big": body(3_000_000), "d/x": b"2"})
    pair.write({"fresh": b"3"}, fresh=True)
    os.utime(pair.folder / "old", ns=(0, -631_152_000_000_000_000 + 123_456_789))
    before = pair.times()
    pair.sync()
    time.sleep(wait)
    for _ in range(3):
        assert "Nothing to do" in pair.sync().out
        assert pair.times() == before
    os.utime(pair.folder / "old", ns=(0, 5_000_000_000))
    pair.sync()
    assert pair.times() == before | {"old": 5_000_000_000}
