"""`kill -9` at random moments of a random load, on remotes that are no folders; and two mounts of one.

MOUNTSYNC_KILL_ROUNDS and MOUNTSYNC_KILL_SEED choose how often and which; `scripts/soak` runs more of them.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modal_server import ModalServer
from tests.parts.random_load import Crowd, sha256
from tests.parts.real_mount import Mounted
from tests.parts.s3_server import (  # noqa: F401 - fixtures
    ACCESS,
    SECRET,
    _running_server,
    new_bucket,
    s3_credentials,
    s3_server,
)
from tests.parts.shell import run_here

ROUNDS = int(os.environ.get("MOUNTSYNC_KILL_ROUNDS", "2"))
SEED = int(os.environ.get("MOUNTSYNC_KILL_SEED", "1"))


class Remote:
    """Mounts of one remote, and what a program without a mount reads from it."""

    def __init__(self, home: Path, spec: str, environment: dict[str, str]) -> None:
        self.home = home
        self.spec = spec
        self.environment = environment
        self.mounts: list[Mounted] = []

    def mount(self, *options: str) -> Mounted:
        mount = Mounted(self.home / f"home{len(self.mounts)}", *options, spec=self.spec)
        mount.more = self.environment
        self.mounts.append(mount)
        return mount.start()

    def contents(self) -> dict[str, str]:
        """The digest of each file."""
        any_mount = self.mounts[0]
        done = run_here(["hashsum", "sha256", self.spec], any_mount.environment, self.home)
        assert (done.code, done.err) == (0, ""), done
        pairs = (line.split("  ", 1) for line in done.out.splitlines())
        return {path: digest for digest, path in pairs if not path.startswith(".mountsync/")}


@pytest.fixture(params=["modal", "modal-chunker", "s3", "s3-chunker"])
def remote(request, tmp_path: Path) -> Iterator[Remote]:
    kind, _, more = request.param.partition("-")
    environment = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    with ModalServer(tmp_path / "server") as server:
        server.volume("data")
        spec = ":modal:data/below"
        if kind == "s3":
            endpoint = request.getfixturevalue("s3_server").endpoint
            spec = f':s3,endpoint="{endpoint}",create_bucket=true:{new_bucket()}/below'
        environment |= server.environment()
        if more == "chunker":
            environment |= {
                "MOUNTSYNC_REMOTE_R_TYPE": "chunker",
                "MOUNTSYNC_REMOTE_R_REMOTE": spec,
                "MOUNTSYNC_REMOTE_R_CHUNK_SIZE": "100K",
            }
            spec = "r:"
        remote = Remote(tmp_path, spec, environment)
        yield remote
        for mount in remote.mounts:
            mount.end()


def shown(mount: Mounted) -> dict[str, str]:
    files = (Path(folder, name) for folder, _, names in os.walk(mount.path) for name in names)
    return {str(path.relative_to(mount.path)): sha256(path.read_bytes()) for path in files}


def test_rounds(remote: Remote) -> None:
    chance = random.Random(SEED)
    mount = remote.mount("--write-delay", "0.05s")
    crowd = Crowd(SEED, 3)
    for number in range(ROUNDS):
        kill_once(mount, crowd, chance, f"round {number}, seed {SEED}")
        if number % 2 or number == ROUNDS - 1:
            mount.settle()
            mount.flush()
            assert remote.contents() == shown(mount)
    assert came_back(crowd) == []
    mount.umount()


def test_two_mounts(remote: Remote) -> None:
    """Each has programs of its own in folders of its own; both show all in the end."""
    chance = random.Random(SEED)
    mounts = [remote.mount("--write-delay", "0.05s", "--poll-interval", "0.5s") for _ in range(2)]
    crowds = [Crowd(SEED + 1000 * which, 2) for which in range(2)]
    for which, crowd in enumerate(crowds):
        for program in crowd.programs:
            program.name = f"m{which}-{program.name}"
    for number in range(ROUNDS):
        for mount, crowd in zip(mounts, crowds, strict=True):
            crowd.begin(mount.path)
        time.sleep(chance.uniform(0.1, 1.2))
        for mount, crowd in zip(mounts, crowds, strict=True):
            crowd.until_all_worked()
            crowd.expect_the_end()
            if chance.random() < 0.7:
                mount.kill9()
        for mount, crowd in zip(mounts, crowds, strict=True):
            crowd.join()
            if mount.process is None:
                mount.remount()
            judged(crowd, mount, f"round {number}, seed {SEED}", alone=False)
    for mount in (*mounts, mounts[0], mounts[1]):
        mount.settle()
        mount.flush()
    for mount, crowd in zip(mounts, crowds, strict=True):
        judged(crowd, mount, "in the end", alone=False)
        assert came_back(crowd) == []
    assert remote.contents() == shown(mounts[0]) == shown(mounts[1])
    for mount in mounts:
        mount.umount()


def kill_once(mount: Mounted, crowd: Crowd, chance: random.Random, when: str) -> None:
    crowd.work_until(mount.path, chance.uniform(0.1, 1.2), mount.kill9)
    mount.remount()
    judged(crowd, mount, when)


def judged(crowd: Crowd, mount: Mounted, when: str, *, alone: bool = True) -> None:
    wrong = crowd.judge(mount.path, alone=alone)
    assert wrong == [], "\n".join([when, *wrong])


def came_back(crowd: Crowd) -> list[str]:
    return [said for program in crowd.programs for said in program.came_back]
