"""A real project of more than a thousand files, worked on in a mounted folder, and found again elsewhere."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parts.programs import need, run, shell
from tests.parts.real_mount import Mounted
from tests.parts.trees import differences, tree

FILES = 1_100
WHO = {
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
}  # fmt: skip


def sources() -> Iterator[Path]:
    """Source files of the Python packages that these tests run with; paths relative to where they are."""
    root = Path(sysconfig.get_path("purelib"))
    for package in ("pip", "mypy", "hypothesis", "trio"):
        for folder, folders, names in os.walk(root / package):
            folders[:] = sorted(set(folders) - {"__pycache__"})
            yield from (Path(folder, name).relative_to(root) for name in sorted(names) if ".py" in name)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked release of a project: more than a thousand files, some executable, some links."""
    made = tmp_path_factory.mktemp("release") / "project"
    root = Path(sysconfig.get_path("purelib"))
    for number, path in zip(range(FILES), sources(), strict=False):
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, made / path)
        (made / path).chmod(0o755 if number % 50 == 0 else 0o644)
    (made / "run.sh").write_text("#!/bin/sh\necho it runs\n")
    (made / "run.sh").chmod(0o755)
    (made / "current").symlink_to("pip")
    assert len(tree(made)) > 1_000
    return made


def test_checkout(project: Path, new_mount: Callable[..., Mounted]) -> None:
    need("git", "tar")
    mount = new_mount().start()
    place = mount.path / "project"
    pack = f"tar --format=posix -C {project} -cf - . | tar -C {place} -xpf -"
    shell(f"mkdir {place}; {pack}; cp -a {project} {mount.path}/copy", cwd=project)
    assert differences(project, place) == []
    assert differences(project, mount.path / "copy") == []
    git(place)
    mount.flush()
    mount.agree()
    mount.umount()
    find_again(mount, project)


def git(place: Path) -> None:
    shell("git init -q -b main; git add -A; git commit -qm all", cwd=place, env=WHO)
    assert shell("git status --porcelain", cwd=place, env=WHO) == ""
    shell("git gc -q", cwd=place, env=WHO)
    assert shell("git fsck --full --no-dangling 2>&1", cwd=place, env=WHO) == ""
    assert run(place / "run.sh", cwd=place) == "it runs\n"


def find_again(mount: Mounted, project: Path) -> None:
    """With a cache that knows nothing: everything comes from the remote, and nothing goes back."""
    before = tree(mount.remote)
    mount.forget_cache()
    mount.start()
    assert differences(project, mount.path / "copy") == []
    place = mount.path / "project"
    mount.agree()
    assert shell("git status --porcelain", cwd=place, env=WHO) == ""
    assert shell("git fsck --full --no-dangling 2>&1", cwd=place, env=WHO) == ""
    shutil.rmtree(mount.path / "copy")
    mount.flush()
    after = {path: said for path, said in before.items() if path != "copy" and not path.startswith("copy/")}
    assert {path: said for path, said in tree(mount.remote).items() if ".git/index" not in path} == {
        path: said for path, said in after.items() if ".git/index" not in path
    }
    mount.umount()
