"""A source tree and a git repository, the same on each run, made here."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
WORDS = ("alpha", "beta", "return", "import", "while", "value", "index", "buffer", "string", "table", "error")


@dataclass(frozen=True)
class Fixtures:
    """Where they are, and how many entries the tree has."""

    tar: Path
    repository: Path
    entries: int


def make(place: Path, files: int) -> Fixtures:
    """A tree of so many text files, about eight per folder, as a tar file and as a repository."""
    tree, chance = place / "tree", random.Random(7)
    count = 0
    for number in range(files):
        folder = tree / f"d{number % (files // 64 + 1)}" / f"sub{number % 8}"
        folder.mkdir(parents=True, exist_ok=True)
        size = min(60_000, int(chance.lognormvariate(8, 1.2)))
        text = " ".join(chance.choice(WORDS) for _ in range(size // 6 + 1))
        (folder / f"file{number}.c").write_text(text)
    count = sum(len(folders) + len(names) for _, folders, names in os.walk(tree))
    tar = place / "tree.tar"
    subprocess.run(["tar", "cf", tar, "-C", tree, "."], check=True)
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "tree")
    return Fixtures(tar, tree, count)


def git(folder: Path, *args: str) -> str:
    """git, without the user's configuration."""
    command = ["git", "-C", str(folder), "-c", "safe.directory=*", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | GIT).stdout
