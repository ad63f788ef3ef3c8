"""Documents that can be checked are checked."""

from __future__ import annotations

import importlib.util
import re
import stat
import sys
import tomllib
from pathlib import Path

import pytest

from mountsync.cli.main import COMMANDS
from mountsync.formats.local_names import DEFAULT_PATTERNS
from mountsync.model.status import SessionState
from mountsync.settings import MOUNT_OPTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])


def _generator() -> object:
    file = ROOT / "scripts/reference.d/generate.py"
    spec = importlib.util.spec_from_file_location("generate_reference", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["reference.md", "control.schema.json", "daemon.schema.json", "json.schema.json"]
)
def test_generated_pages_are_what_the_code_says(name: str) -> None:
    wanted = _generator().pages()[name]  # type: ignore[attr-defined]
    assert (DOCS / name).read_text() == wanted, "run scripts/gen-reference"


def test_every_command_and_mount_option_is_in_the_reference() -> None:
    text = (DOCS / "reference.md").read_text()
    for name in COMMANDS:
        assert f"### mountsync {name}" in text
    for option in MOUNT_OPTIONS:
        assert f"| `{option.flag}` | `{option.variable}` | `{option.name}` |" in text


def test_every_state_is_explained() -> None:
    text = (DOCS / "operations.md").read_text()
    assert [state.value for state in SessionState if f"`{state.value}`" not in text] == []


def _tests() -> set[str]:
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("*.py"):
        found |= set(re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))
    return found


def test_semantics_names_tests_that_exist() -> None:
    named = set(re.findall(r"\[(test_\w+)\]", (DOCS / "semantics.md").read_text()))
    assert len(named) > 50
    assert named - _tests() == set()


def test_each_promise_has_a_test() -> None:
    promised = (DOCS / "semantics.md").read_text().split("## What is not promised")[0]
    bare = [line for line in promised.splitlines() if line.startswith("- ") and "[test_" not in line]
    assert bare == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    for path in re.findall(r"`((?:mountsync|tests|scripts|docs)/[\w./-]+?)`", page.read_text()):
        assert (ROOT / path).exists(), path


def test_readme_begins_with_two_sentences_and_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    intro, commands = text.split("```")[0:2]
    assert len(re.findall(r"[.!?](?:\s|$)", intro.split("\n", 1)[1])) == 2
    named = [line.split()[0] for line in commands.splitlines() if line]
    assert named == ["scripts/demo", "scripts/test"]
    for script in [*named, "scripts/check", "scripts/bench", ".ci/run"]:
        assert (ROOT / script).stat().st_mode & stat.S_IXUSR


def test_commands_in_the_documents_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`mountsync ([a-z][\w-]*)", page.read_text()):
            assert name in COMMANDS, f"{page.name}: {name}"


def test_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    assert "## [Unreleased]" in text
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == "0.1.0" or f"## [{version}]" in text


def test_lock_file_pins_every_dependency_and_names_no_host() -> None:
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines), lines
    locked = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", text)[0]).lower() for text in wanted}
    assert names - locked == set(), "run scripts/lock"


def test_default_local_names_are_sound() -> None:
    assert all("/" not in pattern for pattern in DEFAULT_PATTERNS)
