"""git in a mounted folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.programs import need, shell

OnRemote = Callable[[], Path]
WHO = {
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
}  # fmt: skip
START = """
git init -q -b main .
mkdir -p src/deep
for i in $(seq 20); do echo "line $i" > src/file$i.txt; done
printf '#!/bin/sh\\necho ran\\n' > run.sh; chmod 755 run.sh
ln -s src/file1.txt link
head -c 300000 /dev/urandom > src/deep/blob.bin
git add -A
git commit -qm first
"""


@pytest.fixture
def project(place: Path) -> Path:
    """A repository with one commit."""
    need("git")
    folder = place / "project"
    folder.mkdir()
    git(START, folder)
    return folder


def git(script: str, cwd: Path) -> str:
    return shell(script, cwd=cwd, env=WHO)


def is_clean(folder: Path) -> None:
    assert git("git status --porcelain", folder) == ""
    assert git("git fsck --full --strict --no-dangling 2>&1", folder) == ""


def test_commit(project: Path, on_remote: OnRemote) -> None:
    is_clean(project)
    assert git("./run.sh", project) == "ran\n"
    is_clean_copy(on_remote() / "project")


def is_clean_copy(folder: Path) -> None:
    """What lies on the remote is a repository too, with every file as committed, modes and links too."""
    assert git("git -c safe.directory='*' diff HEAD --stat", folder) == ""
    assert git("git -c safe.directory='*' fsck --full --strict --no-dangling 2>&1", folder) == ""


def test_gc_and_repack(project: Path, on_remote: OnRemote) -> None:
    for number in range(5):
        git(f"echo {number} >> src/file1.txt; git commit -qam change{number}", project)
    git("git gc -q --aggressive --prune=now", project)
    is_clean(project)
    packs = os.listdir(project / ".git/objects/pack")
    assert sorted(name.rsplit(".")[-1] for name in packs) == ["idx", "pack"]
    is_clean_copy(on_remote() / "project")


def test_branches_merges_and_rebases(project: Path) -> None:
    git(
        """
        git checkout -q -b topic
        git mv src lib
        git commit -qm moved
        git checkout -q main
        echo more >> src/file2.txt
        git commit -qam more
        git merge -q topic -m merged
        grep -q more lib/file2.txt
        git checkout -q -b other HEAD~1
        echo other > other.txt; git add .; git commit -qm other
        git rebase -q main
        git branch -q -D topic
        """,
        project,
    )
    is_clean(project)


def test_stash(project: Path) -> None:
    git("echo changed > src/file1.txt; echo new > new.txt; git stash -q -u", project)
    assert git("git status --porcelain", project) == ""
    git("git stash pop -q", project)
    assert git("git status --porcelain", project) == " M src/file1.txt\n?? new.txt\n"


def test_worktree(project: Path) -> None:
    git("git worktree add -q ../tree -b side", project)
    git("echo side > side.txt; git add .; git commit -qm side", project.parent / "tree")
    is_clean(project.parent / "tree")
    assert "side" in git("git worktree remove ../tree; git log --oneline side", project)
    assert not (project.parent / "tree").exists()


def test_clone_through_hard_links(project: Path, on_remote: OnRemote) -> None:
    git("git gc -q; git clone -q . ../clone", project)
    is_clean(project.parent / "clone")
    packs = ".git/objects/pack"
    name = next(name for name in os.listdir(project / packs) if name.endswith(".pack"))
    first, second = (os.stat(folder / packs / name) for folder in (project, project.parent / "clone"))
    assert first.st_ino == second.st_ino
    is_clean_copy(on_remote() / "clone")


def test_clone_through_the_transport_and_push(project: Path) -> None:
    git("git clone -q --bare --no-local . ../bare.git", project)
    git(
        "git remote add origin ../bare.git; echo x > x; git add x; git commit -qm x; git push -q origin main",
        project,
    )
    git("git clone -q --no-local bare.git again", project.parent)
    is_clean(project.parent / "again")
    assert (project.parent / "again/x").read_text() == "x\n"


def test_checkout_back_and_forth(project: Path) -> None:
    """git trusts size, mtime and inode number: what it wrote in the same second must not look changed."""
    git("for i in $(seq 20); do echo 'next $i' > src/file$i.txt; done; git commit -qam second", project)
    for _ in range(5):
        git("git checkout -q HEAD~1; git status --porcelain; git checkout -q main", project)
        is_clean(project)


def test_clean_removes_all(project: Path, on_remote: OnRemote) -> None:
    git("mkdir -p junk/a/b; touch junk/a/b/{1..30} junk/{x,y}; git clean -qfdx", project)
    is_clean(project)
    assert not (on_remote() / "project/junk").exists()
