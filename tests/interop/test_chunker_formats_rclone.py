"""Our reading of names and metadata is that of the real rclone."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from mountsync.formats.chunk_metadata import MetadataError, decode_metadata
from mountsync.formats.chunk_names import name_format
from tests.parts.rclone import Rclone, files_in


def vectors(name: str):
    path = Path(__file__).parent.parent / "unit" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_name_vector_is_judged_alike(tmp_path):
    """rclone shows what is no chunk, and hides the rest when no file owns it."""
    known = vectors("test_chunk_names")
    base = tmp_path / "base"
    base.mkdir()
    names = [
        name for name in [*known.DATA, *known.CONTROL, *known.PLAIN] if "\n" not in name and name != "fish"
    ]
    for name in names:
        (base / name).write_bytes(b"x") if "\udcff" not in name else None
    there = {os.fsdecode(name) for name in os.listdir(base)}
    shown = Rclone(base, tmp_path).names()
    assert shown == {name for name in there if name_format().parse(name) is None}


@pytest.mark.parametrize("start", [0, 2])
def test_other_first_numbers(tmp_path, start):
    names = [f"f.rclone_chunk.{number:03}" for number in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    shown = Rclone(tmp_path, tmp_path, start_from=start).names()
    assert shown == {name for name in names if name_format("", start).parse(name) is None}


def test_every_format_is_accepted_or_refused_alike(tmp_path):
    known = vectors("test_chunk_names")
    base = tmp_path / "base"
    base.mkdir()
    for text in known.INVALID_FORMATS:
        assert Rclone(base, tmp_path, name_format=text).run("lsf", "C:").returncode != 0, text
    (tmp_path / "f").write_bytes(b"0123456789" * 2)
    for text, (data, _, _) in known.VALID_FORMATS.items():
        Rclone(base, tmp_path, name_format=text).ok("copyto", tmp_path / "f", "C:f")
        third = name_format(text).chunk("f", 1)
        assert (base / third).exists(), (text, data)
        for at in base.iterdir():
            at.unlink()


def test_every_metadata_vector_is_judged_alike(tmp_path):
    known = vectors("test_chunk_metadata")
    base = tmp_path / "base"
    base.mkdir()
    texts = [text for text in [*known.ACCEPTED, *known.REFUSED, *known.FUTURE] if text]
    for n, text in enumerate(texts):
        (base / f"m{n:03}").write_bytes(text.encode())
        for chunk in range(3):
            (base / f"m{n:03}.rclone_chunk.{chunk + 1:03}").write_bytes(b"abc")
    served = Rclone(base, tmp_path).contents(tmp_path / "served")
    for n, text in enumerate(texts):
        try:
            sound = decode_metadata(text.encode()).size == 9
        except MetadataError:
            sound = False
        assert (served.get(f"m{n:03}") == b"abcabcabc") is sound, text
    assert files_in(tmp_path / "served").keys() <= {f"m{n:03}" for n in range(len(texts))}
