"""`config import-rclone`: what rclone wrote through its remotes is read through ours."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from mountsync.errors import ConfigError
from mountsync.formats.rclone_config import Skipped, Translated, parse_rclone_config, translated
from tests.parts.rclone import BINARY
from tests.parts.s3_server import S3Server
from tests.parts.shell import Shell


def rclone(config: Path, *words: object, body: bytes | None = None) -> bytes:
    """The real rclone with this configuration."""
    if BINARY is None:
        pytest.skip("the real rclone is not installed")
    done = subprocess.run(
        [BINARY, "--config", config, *map(str, words)],
        input=body,
        capture_output=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(config.parent)},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.fixture
def theirs(shell: Shell, tmp_path: Path) -> Path:
    """A configuration made by rclone itself."""
    config = tmp_path / "rclone.conf"
    disk = tmp_path / "disk"
    disk.mkdir()
    for words in (
        ("disk", "local"),
        ("parts", "chunker", f"remote={disk}/parts", "chunk_size=10B", "hash_type=sha1"),
        ("short", "alias", "remote=parts:deep"),
        ("photos", "alias", f"remote={disk}/photos"),
        ("cloud", "drive", "config_is_local=false", "token={}"),
        ("over", "chunker", "remote=nowhere:x"),
        ("hidden", "crypt", f"remote={disk}/hidden", "password=correct horse", "--obscure"),
    ):
        rclone(config, "config", "create", *words, "--non-interactive")
    return config


def test_what_rclone_wrote_is_read(shell: Shell, theirs: Path, tmp_path: Path) -> None:
    rclone(theirs, "rcat", "parts:deep/large", body=b"0123456789" * 7)
    rclone(theirs, "rcat", "photos:2026/a", body=b"picture")
    rclone(theirs, "rcat", f"disk:{tmp_path}/disk/plain", body=b"plain")
    outcome = shell.here("config", "import-rclone", str(theirs))
    assert outcome.code == 0
    assert "cloud: rclone\n  it is reached through rclone, which must be installed\n" in outcome.out
    assert "over: chunker\n  it lies over 'nowhere', which is not configured here\n" in outcome.out
    assert outcome.out.endswith("7 remotes imported, 0 skipped\n")
    assert shell.here("cat", "short:large").out == "0123456789" * 7
    assert shell.here("cat", "parts:deep/large").out == "0123456789" * 7
    assert shell.here("lsf", "photos:2026").out == "a\n"
    assert shell.here("cat", f"disk:{tmp_path}/disk/plain").out == "plain"
    assert len(list((tmp_path / "disk/parts/deep").iterdir())) == 8


def test_other_types_go_through_rclone(shell: Shell, theirs: Path, tmp_path: Path) -> None:
    """With the password that is in rclone's configuration, and stays there."""
    shell.here("config", "import-rclone", str(theirs))
    rclone(theirs, "rcat", "hidden:deep/letter", body=b"for your eyes only")
    assert shell.here("cat", "hidden:deep/letter").out == "for your eyes only"
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/answer").write_text("understood")
    assert shell.here("copy", str(tmp_path / "plain"), "hidden:deep").code == 0
    assert rclone(theirs, "cat", "hidden:deep/answer") == b"understood"
    assert not (tmp_path / "disk/hidden/deep").exists()
    assert "horse" not in shell.config.read_text()


def test_what_we_write_rclone_reads(shell: Shell, theirs: Path, tmp_path: Path) -> None:
    rclone(theirs, "mkdir", "parts:deep")
    shell.here("config", "import-rclone", str(theirs))
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(b"abcdefghij" * 5)
    assert shell.here("copy", str(source), "short:").code == 0
    assert rclone(theirs, "cat", "parts:deep/large") == b"abcdefghij" * 5


def test_s3_with_its_keys(shell: Shell, tmp_path: Path) -> None:
    config = tmp_path / "rclone.conf"
    server = S3Server()
    server.start()
    try:
        values = {
            "provider": "Other",
            "endpoint": f"http://127.0.0.1:{server.port}",
            "access_key_id": "key",
            "secret_access_key": "hunter2",
            "region": "us-east-1",
            "acl": "private",
        }
        words = [f"{key}={value}" for key, value in values.items()]
        rclone(config, "config", "create", "bucket", "s3", *words, "--non-interactive")
        rclone(config, "mkdir", "bucket:imported")
        rclone(config, "rcat", "bucket:imported/dir/a", body=b"from rclone")
        found = shell.here("config", "import-rclone", str(config), "--json")
        assert found.code == 0
        [one] = json.loads(found.out)["imported"]
        assert (one["name"], one["left_out"], one["note"]) == ("bucket", ["acl"], None)
        keys = shell.config.with_name("s3-credentials")
        assert keys.stat().st_mode & 0o777 == 0o600
        assert "hunter2" in keys.read_text()
        assert "hunter2" not in shell.config.read_text() + found.out
        assert shell.run("cat", "bucket:imported/dir/a").out == "from rclone"
    finally:
        server.stop()


def test_existing_names_stay_unless_forced(shell: Shell, theirs: Path) -> None:
    shell.here("config", "create", "photos", "local", "root=/mine")
    outcome = shell.here("config", "import-rclone", str(theirs))
    assert "skipped photos (alias): a remote of this name exists; --force replaces it\n" in outcome.out
    assert "/mine" in shell.here("config", "show", "photos").out
    assert shell.here("config", "import-rclone", str(theirs), "--force").code == 0
    assert 'type = "alias"' in shell.here("config", "show", "photos").out


def test_an_encrypted_configuration_is_refused(shell: Shell, tmp_path: Path) -> None:
    config = tmp_path / "rclone.conf"
    config.write_text("# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabcdef\n")
    outcome = shell.here("config", "import-rclone", str(config))
    assert outcome.code == 2
    assert "this configuration of rclone is encrypted; `rclone config show` prints" in outcome.error_line
    assert not shell.config.exists()


def test_the_usual_places(shell: Shell) -> None:
    assert "rclone.conf: no such file" in shell.here("config", "import-rclone").error_line
    place = shell.home / ".config/rclone/rclone.conf"
    place.parent.mkdir(parents=True)
    place.write_text("[a]\ntype = local\n")
    assert (
        shell.here("config", "import-rclone", XDG_CONFIG_HOME="").out
        == "a: local\n1 remote imported, 0 skipped\n"
    )
    other = shell.home / "other.conf"
    other.write_text("[b]\ntype = local\n")
    assert shell.here("config", "import-rclone", RCLONE_CONFIG=str(other)).out.startswith("b: local\n")


def test_a_wrong_value_skips_its_remote(shell: Shell, tmp_path: Path) -> None:
    config = tmp_path / "rclone.conf"
    config.write_text(
        "[x]\ntype = chunker\nremote = /tmp\nchunk_size = many\n[-y]\ntype = local\n[z]\n[e]\ntype=alias\n"
    )
    outcome = shell.here("config", "import-rclone", str(config))
    assert "skipped x (chunker): chunker option chunk_size: " in outcome.out
    assert "skipped -y (local): a remote cannot have this name here\n" in outcome.out
    assert "skipped z: it has no type\n" in outcome.out
    assert "skipped e (alias): its remote is missing\n" in outcome.out
    assert not shell.config.exists()


def test_the_form_of_the_file() -> None:
    text = (
        "\ufeff# c\n; d\n[a b]\ntype = local\n key=with = equals \nquoted = `x y`\nempty =\n[a b]\nmore = 1\n"
    )
    assert parse_rclone_config(text) == {
        "a b": {"type": "local", "key": "with = equals", "quoted": "x y", "empty": "", "more": "1"}
    }
    for wrong in ("key = value\n", "[a]\nnothing\n"):
        with pytest.raises(ConfigError, match="line"):
            parse_rclone_config(wrong)


def test_translations() -> None:
    modal = translated(
        "m", {"type": "modal", "profile": "work", "create_volumes": "true", "description": "x"}
    )
    assert modal == Translated("m", {"type": "modal", "profile": "work", "create_volumes": "true"})
    s3 = translated(
        "s",
        {
            "type": "s3",
            "env_auth": "true",
            "endpoint": "s3.example.org",
            "access_key_id": "k",
            "force_path_style": "false",
        },
    )
    assert s3 == Translated("s", {"type": "s3", "path_style": "false", "endpoint": "https://s3.example.org"})
    crypt = translated("c", {"type": "crypt", "remote": "s:", "password": "x"}, file="/etc/rclone.conf")
    assert crypt == Translated("c", {"type": "rclone", "remote": "c:", "config": "/etc/rclone.conf"})
    assert isinstance(translated("c", {"remote": "s:"}), Skipped)
    assert "secret" not in repr(
        translated("s", {"type": "s3", "access_key_id": "k", "secret_access_key": "secret"})
    )
