"""The configuration file: read with exact errors, written with care."""

import os
import stat
from pathlib import Path

import pytest

from mountsync.config import chosen, config_path, delete_remote, load_config, set_remote
from mountsync.errors import ConfigError, exit_code_of

TEXT = """\
# my remotes
poll_interval = "5m"

[remote.archive]
type = "chunker"   # large files
remote = "work:photos"
chunk_size = "100M"

[remote.work]
type = "modal"

[mount.photos]
remote = "archive:"
mountpoint = "~/Photos"

[job.notes]
a = "~/notes"
b = "s3:bucket/notes"
conflict = "manual"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(TEXT)
    return path


def test_reads_all_sections(file):
    config = load_config(file)
    assert config.remote("archive") == {"type": "chunker", "remote": "work:photos", "chunk_size": "100M"}
    assert config.mount("photos")["mountpoint"] == "~/Photos"
    assert config.job("notes")["conflict"] == "manual"
    assert config.defaults == {"poll_interval": "5m"}


def test_a_missing_file_is_empty(tmp_path):
    config = load_config(tmp_path / "nothing.toml")
    assert (config.remotes, config.mounts, config.jobs, config.defaults) == ({}, {}, {}, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = \ny = 1", ["line 1"]),
        ("[remotes.a]\ntype='x'", ["[remotes]", "unknown section", "'remote'"]),
        ("remote = 5", ["remote", "table"]),
        ("[remote]\na = 5", ["remote"]),
        ("[remote.a]\nremote = 'x:'", ["[remote.a] type", "missing"]),
        ("[remote.a]\ntype = 5", ["[remote.a] type"]),
        ("[remote.'a:b']\ntype = 'x'", ["[remote.a:b]", "name"]),
        ("[remote.a]\ntype='x'\n[remote.a]\n", ["line 3"]),
    ],
)
def test_errors_name_file_and_key(tmp_path, text, words):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert exit_code_of(caught.value) == 2
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "c").write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "c")


def test_a_misspelt_name_gets_a_suggestion(file):
    with pytest.raises(ConfigError, match="did you mean 'archive'"):
        load_config(file).remote("archiv")
    with pytest.raises(ConfigError, match=r"no \[job.x\].*known: notes"):
        load_config(file).job("x")


def test_unknown_keys_are_refused(file):
    config = load_config(file)
    known = {"mount_keys": {"remote", "mountpoint"}, "job_keys": {"a", "b", "conflict"}}
    config.refuse_unknown(**known, defaults={"poll_interval"})
    with pytest.raises(ConfigError, match=r"poll_interval: unknown key.*did you mean 'poll_intervals'"):
        config.refuse_unknown(**known, defaults={"poll_intervals"})
    with pytest.raises(ConfigError, match=r"\[mount.photos\] mountpoint: unknown key"):
        config.refuse_unknown(mount_keys={"remote"}, job_keys=known["job_keys"], defaults={"poll_interval"})


def test_where_it_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert config_path({"MOUNTSYNC_CONFIG": "/x/y.toml", "XDG_CONFIG_HOME": "/z"}) == Path("/x/y.toml")
    assert config_path({"MOUNTSYNC_CONFIG": "~/y.toml"}) == Path("/home/somebody/y.toml")
    assert config_path({"XDG_CONFIG_HOME": "/z"}) == Path("/z/mountsync/config.toml")
    assert config_path({"XDG_CONFIG_HOME": "relative"}) == Path(
        "/home/somebody/.config/mountsync/config.toml"
    )
    assert config_path({}) == Path("/home/somebody/.config/mountsync/config.toml")


def _pick(flag=None, environment=None, sections=({}, {})):
    return chosen(
        "size",
        flag=flag,
        variable="MOUNTSYNC_SIZE",
        environment=environment or {},
        sections=sections,
        default=1,
        convert=lambda value, where: int(value),
        file=Path("c"),
    )


def test_precedence():
    everything = {"MOUNTSYNC_SIZE": "3"}, ({"size": "4"}, {"size": "5"})
    assert _pick(2, *everything) == 2
    assert _pick(0, *everything) == 0
    assert _pick(None, *everything) == 3
    assert _pick(None, {}, everything[1]) == 4
    assert _pick(None, {}, ({}, {"size": "5"})) == 5
    assert _pick() == 1


def test_writing_makes_a_private_file(tmp_path):
    path = tmp_path / "deep" / "config.toml"
    set_remote(path, "new one", {"type": "s3", "bucket": 'with "quotes" and \\', "n": 5, "flag": True})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_config(path).remote("new one") == {
        "type": "s3", "bucket": 'with "quotes" and \\', "n": 5, "flag": True,
    }  # fmt: skip
    assert os.listdir(path.parent) == ["config.toml"]


def test_writing_keeps_what_else_is_there(file):
    set_remote(file, "third", {"type": "local"})
    set_remote(file, "work", {"type": "modal", "profile": "p"})
    text = file.read_text()
    assert "# my remotes" in text
    assert "# large files" in text
    config = load_config(file)
    assert set(config.remotes) == {"archive", "work", "third"}
    assert config.remote("work") == {"type": "modal", "profile": "p"}
    assert config.mount("photos")
    assert config.defaults == {"poll_interval": "5m"}


def test_deleting(file):
    delete_remote(file, "archive")
    assert set(load_config(file).remotes) == {"work"}
    delete_remote(file, "work")
    assert load_config(file).remotes == {}
    assert load_config(file).job("notes")
    with pytest.raises(ConfigError, match=r"no \[remote.work\]"):
        delete_remote(file, "work")


def test_a_damaged_file_is_not_written_over(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[remote.a\n")
    with pytest.raises(ConfigError):
        set_remote(path, "b", {"type": "local"})
    assert path.read_text() == "[remote.a\n"


def test_a_linked_file_stays_a_link(file, tmp_path):
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    set_remote(link, "third", {"type": "local"})
    assert link.is_symlink()
    assert "third" in load_config(file).remotes


def test_names_that_cannot_be_written(tmp_path):
    for name in ("", "a:b", "..", "-x", "a,b"):
        with pytest.raises(ConfigError, match="cannot have the name"):
            set_remote(tmp_path / "c", name, {"type": "local"})
