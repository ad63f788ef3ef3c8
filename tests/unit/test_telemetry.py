"""What the log says, and what it never says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from mountsync.errors import AlreadyExists
from mountsync.telemetry import configure, without_secrets


@contextmanager
def logging(**how: Any) -> Iterator[None]:
    with configure(**how):
        yield
    structlog.reset_defaults()


def test_json_lines_on_request(tmp_path: Path) -> None:
    with logging(form="json", file=tmp_path / "deep/log"):
        structlog.get_logger().info("uploaded", path="a\nb", size=3)
    line = json.loads((tmp_path / "deep/log").read_text())
    assert (line["event"], line["path"], line["size"], line["level"]) == ("uploaded", "a\\nb", 3, "info")
    assert (tmp_path / "deep/log").stat().st_mode & 0o777 == 0o600


def test_human_lines_are_single_lines_without_colour_in_a_file(tmp_path: Path) -> None:
    with logging(file=tmp_path / "log"):
        structlog.get_logger().warning("offline", reason="no route to host")
    text = (tmp_path / "log").read_text()
    assert text.count("\n") == 1
    assert "offline" in text
    assert "\x1b" not in text


def test_level_keeps_lesser_lines_out(tmp_path: Path) -> None:
    with logging(level="error", file=tmp_path / "log"):
        structlog.get_logger().warning("quiet")
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize(
    "text",
    [
        "token_secret=as-hunter2hunter2",
        "Authorization: Bearer hunter2",
        'password = "hunter2"',
        "https://me:hunter2@host/x",
        "ak-hunter2hunter2",
        "client_secret: hunter2",
    ],
)
def test_secrets_become_stars(text: str) -> None:
    assert "hunter2" not in without_secrets(text)
    assert "***" in without_secrets(text)


@pytest.mark.parametrize("text", ["photos/secret garden.jpg", "ask-me", "http://host:80/a@b", "a: b"])
def test_ordinary_text_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_secret_keys_become_stars(tmp_path: Path) -> None:
    with logging(form="json", file=tmp_path / "log"):
        structlog.get_logger().info("opened", token_secret="hunter2", text="password=hunter2")
    assert "hunter2" not in (tmp_path / "log").read_text()


def test_log_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AlreadyExists):
        configure(file=tmp_path / "file/log")
