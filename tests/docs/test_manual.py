"""Manual pages are what the commands say, and are rendered without a warning."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from mountsync.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
MAN = ROOT / "share/man/man1"


def _shipped() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate_manual", ROOT / "scripts/reference.d/manual.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, str] = module.shipped()
    return found


def test_shipped_files_are_what_the_code_says() -> None:
    wanted = _shipped()
    for name, text in wanted.items():
        assert (ROOT / "share" / name).read_text() == text, f"{name}: run scripts/gen-reference"
    assert {path.name for path in MAN.iterdir()} == {Path(name).name for name in wanted if "/man1/" in name}


def test_every_command_has_a_page() -> None:
    assert {path.name for path in MAN.iterdir()} == {"mountsync.1", *(f"mountsync-{c}.1" for c in COMMANDS)}


@pytest.mark.parametrize(
    "words",
    [
        ["groff", "-man", "-ww", "-Tutf8"],
        ["mandoc", "-T", "lint", "-W", "warning"],
        ["man", "-l", "--warnings"],
    ],
    ids=lambda words: words[0],
)
def test_pages_are_rendered_without_a_warning(words: list[str]) -> None:
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed (Debian: groff, mandoc, man-db)")
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MANWIDTH": "80", "MANPAGER": "cat"}
    pages = sorted(MAN.iterdir())
    if words[0] == "man":  # the same renderer for each page: the longest and the shortest do
        pages = sorted(pages, key=lambda page: page.stat().st_size)[:: len(pages) - 1]
    for page in pages:
        done = subprocess.run(
            [*words, page], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        complaint = done.stdout if words[0] == "mandoc" else done.stderr
        assert (done.returncode, complaint) == (0, ""), page.name
