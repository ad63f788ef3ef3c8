"""Every `--json` output has the documented form, and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mountsync.cli.forms import FORMS
from tests.parts.shell import Shell


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("status", ["status"]),
        ("ls", ["ls", "REMOTE"]),
        ("lsl", ["lsl", "REMOTE"]),
        ("lsd", ["lsd", "REMOTE"]),
        ("lsf", ["lsf", "-R", "REMOTE"]),
        ("hashsum", ["hashsum", "md5", "REMOTE"]),
        ("config show", ["config", "show"]),
        ("fsck", ["fsck", "REMOTE"]),
        ("gc", ["gc", ":chunker,remote=REMOTE:"]),
        ("doctor", ["doctor"]),
        ("version", ["version"]),
    ],
)
def test_output_has_its_form(shell: Shell, folder: Path, name: str, args: list[str]) -> None:
    out = shell.here(*[arg.replace("REMOTE", str(folder)) for arg in args], "--json").out
    raw = msgspec.json.decode(out)
    assert raw["version"] == 1
    assert msgspec.to_builtins(msgspec.convert(raw, type=FORMS[name])) == raw
