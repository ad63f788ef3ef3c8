"""Tokens that are damaged: what is told never holds them, wherever they come from and whatever is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts.shell import Outcome, Shell

SECRET = "as-TOP{}SECRET"
ODD = {"a carriage return": "\r", "a line": "\n", "not ASCII": "é", "not UTF-8": "\udcff", "a space": " "}
WORDS = {
    "ls": ["ls", ":modal:data"],
    "lsd": ["lsd", ":modal:"],
    "copy": ["copy", "LOCAL", ":modal:data"],
    "bisync": ["bisync", "LOCAL", ":modal:data"],
    "prune-metadata": ["prune-metadata", ":modal:data"],
    "mount": ["mount", ":modal:data", "MOUNT"],
}


@pytest.fixture
def shell(server, tmp_path):
    home = tmp_path / "home"
    for folder in ("local", "mount"):
        (home / folder).mkdir(parents=True)
    shell = Shell(home)
    shell.environment.update(server.environment())
    return shell


def by_variable(shell: Shell, secret: str) -> None:
    shell.environment["MODAL_TOKEN_SECRET"] = secret


def by_file(shell: Shell, secret: str) -> None:
    path = shell.home.parent / "modal.toml"
    text = "".join(c if c.isascii() and c.isprintable() else f"\\u{ord(c):04x}" for c in secret)
    path.write_text(f'[default]\ntoken_id = "ak-test"\ntoken_secret = "{text}"\n')
    shell.environment |= {"MODAL_CONFIG_PATH": str(path), "MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}


def tells(shell: Shell, done: Outcome) -> str:
    """All that a command said, and all that it left in the user's home."""
    kept = [path.read_text("utf-8", "replace") for path in shell.home.rglob("*") if path.is_file()]
    return done.out + done.err + "".join(kept)


def run(shell: Shell, words: list[str]) -> Outcome:
    places = {"LOCAL": str(shell.home / "local"), "MOUNT": str(shell.home / "mount")}
    return shell.run(*(places.get(word, word) for word in words))


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("give", [by_variable, by_file])
def test_no_command_tells_a_damaged_token(shell, words, give):
    give(shell, SECRET.format("\r"))
    done = run(shell, words)
    assert "token secret" in done.out + done.err
    assert "SECRET" not in tells(shell, done).replace("MODAL_TOKEN_SECRET", "")
    assert done.code == 4


@pytest.mark.parametrize(
    ("give", "odd"),
    [
        (give, odd)
        for give in (by_variable, by_file)
        for odd in ODD.values()
        if (give, odd) != (by_file, "\udcff")
    ],
)
def test_whatever_the_damage_is(shell, give, odd):
    give(shell, SECRET.format(odd))
    done = run(shell, WORDS["ls"])
    assert done.code == 4
    assert "token secret" in done.error_line
    assert "TOP" not in tells(shell, done)


def test_a_line_end_after_a_token_does_not_matter(shell):
    shell.environment |= {
        name: f"{shell.environment[name]}\r\n" for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")
    }
    assert shell.here("ls", ":modal:data").code == 0


BAD = {
    "MODAL_SERVER_URL": ["http://a..b", f"http://{'a' * 64}.example"],
    "MODAL_ENVIRONMENT": ["env\udcff"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_other_variables_that_cannot_be(shell, name, value):
    done = shell.run("ls", ":modal:data", **{name: value})
    assert done.code == 2
    assert name in done.error_line


@pytest.mark.parametrize("proxy", ["http://a..b", f"http://{'a' * 64}:5", "http://x:99999", "http://[::1"])
def test_a_proxy_that_cannot_be(shell: Shell, proxy: str, tmp_path: Path):
    server = shell.environment["MODAL_SERVER_URL"]
    local = {"http_proxy": proxy, "no_proxy": "", "MODAL_DISABLE_API_PROXY": ""}
    done = shell.run("ls", ":modal:data", **local, MODAL_SERVER_URL=server.replace("127.0.0.1", "modal.test"))
    assert done.code == 4
    assert "cannot be reached" in done.error_line
