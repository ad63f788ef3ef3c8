"""What storages share: facts that they keep, and the words for packages that are missing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mountsync.errors import ConfigError
from mountsync.storage.extras import extra
from mountsync.storage.kept import load, save


class Fact(msgspec.Struct):
    name: str


def test_what_was_kept_last_is_there_again(tmp_path: Path) -> None:
    place = tmp_path / "new" / "fact.json"
    assert load(place, Fact) is None
    save(place, Fact("first"))
    save(place, Fact("second"))
    assert load(place, Fact) == Fact("second")
    assert [file.name for file in place.parent.iterdir()] == ["fact.json"]


def test_what_cannot_be_understood_was_not_kept(tmp_path: Path) -> None:
    place = tmp_path / "fact.json"
    place.write_bytes(b'{"name": 7}')
    assert load(place, Fact) is None


def test_what_cannot_be_read_is_not_taken_for_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        load(tmp_path, Fact)


def test_a_missing_package_of_the_extra_is_told_with_the_command_that_brings_it() -> None:
    with pytest.raises(ConfigError, match="more packages") as caught, extra("s3", ("no_such_package",)):
        import no_such_package.inner  # type: ignore[import-not-found]  # noqa: F401, PLC0415
    assert caught.value.hint == "pip install 'mountsync[s3]'"


def test_another_missing_package_is_a_defect() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), extra("s3", ("botocore",)):
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401, PLC0415
