"""What the files around the image say; `scripts/image-test` builds and runs it."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import yaml

from mountsync.cli.mounting import mount
from mountsync.config import Config
from mountsync.formats.sizes import parse_duration
from mountsync.storage.environment import PREFIX, with_environment

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = ROOT / "share/container/compose.yaml"


def instructions() -> list[tuple[str, str]]:
    """Instruction and rest, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def test_the_base_can_be_chosen_and_is_no_moving_target() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert set(bases) == {"${BASE}"}
    [default] = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.search(r":[0-9][^:]*$", default)


def test_the_last_stage_is_no_root_and_has_no_secret() -> None:
    last = instructions()
    while "FROM" in (words := [word for word, _ in last[1:]]):
        last = last[1 + words.index("FROM") :]
    said = dict(last)
    assert said["USER"] == "1000:1000"
    assert said["ENTRYPOINT"] == '["mountsync"]'
    assert "mountsync" in said["HEALTHCHECK"]
    assert not re.search(
        r"secret|password|token", " ".join(rest for word, rest in last if word == "ENV"), re.IGNORECASE
    )


def test_versions_are_those_of_the_lock_file() -> None:
    assert "-c requirements.lock" in DOCKERFILE
    [tools] = re.findall(r'^ARG BUILD_TOOLS="(.*)"$', DOCKERFILE, re.MULTILINE)
    assert all("==" in tool for tool in tools.split())


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert ignored[0] == "*"
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists(), name
                assert any(fnmatch(name, pattern) for pattern in kept), name


def test_what_the_package_installs_is_copied() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    wanted = {name.split("/")[0] for names in setuptools.get("data-files", {}).values() for name in names}
    copied = {name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]}
    assert wanted - copied == set()


def test_the_compose_file_asks_for_what_there_is() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    commands = [services[name]["command"] for name in ("a", "b")]
    assert commands[0] == commands[1]
    flags = {flag for param in mount.params for flag in param.opts}
    assert {word for word in commands[0] if word.startswith("--")} <= flags
    given = services["a"]["environment"]
    assert all(name.startswith(PREFIX) for name in given)
    remotes = with_environment(Config(Path("/none"), {}, {}, {}, {}), given).remotes
    assert remotes == {"shared": {"type": "chunker", "remote": "/shared"}}
    drain = parse_duration(commands[0][commands[0].index("--drain") + 1])
    assert drain < parse_duration(services["a"]["stop_grace_period"])
