"""The page in a real browser, over a real mount."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountsync.errors import Halted
from tests.parts.browser import Browser
from tests.parts.readable import readable_within
from tests.parts.real_mount import Mounted

NASTY = "<img src=x onerror=alert(1)>.txt"
BOTH = ("local.txt", "remote.txt", "both.txt", NASTY)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A mount with one conflict for each button, and one whose name is no honest one."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("/dev/fuse does not exist")
    mount = Mounted(
        tmp_path_factory.mktemp("web"), "--conflict", "manual", "--write-delay", "1h", "--poll-interval", "1h"
    )
    for name in BOTH:
        (mount.remote / name).write_text("first")
    mount.start()
    try:
        for name in BOTH:
            assert (mount.path / name).read_text() == "first"
        mount.tell("pause")
        for name in BOTH:
            (mount.path / name).write_text("near side")
            (mount.remote / name).write_text("far")
        mount.tell("resume", confirm=False)
        mount.tell("flush", timeout=60)
        assert len(mount.status().conflicts) == len(BOTH)
        yield mount
    finally:
        mount.end()


@pytest.fixture(scope="module")
def address(mounted: Mounted) -> Iterator[str]:
    process = subprocess.Popen(
        mounted.command("web"), env=mounted.environment, cwd=mounted.home, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert readable_within(process.stdout, 60)
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def browser(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("browser"))
    try:
        made.open(address)
        yield made
    finally:
        made.close()


def card(browser: Browser, name: str) -> bool:
    """Whether the page shows a conflict of this name."""
    return name in browser.run(
        "return [...document.querySelectorAll('li[data-path]')].map((li) => li.dataset.path)"
    )


def press(browser: Browser, name: str, label: str) -> None:
    browser.run(
        "const all = [...document.querySelectorAll('li[data-path]')];"
        "const li = all.find((each) => each.dataset.path === arguments[0]);"
        "[...li.querySelectorAll('button')].find((b) => b.textContent === arguments[1]).click()",
        name,
        label,
    )


def test_everything_is_shown(mounted: Mounted, browser: Browser) -> None:
    browser.until(lambda: "Keep both" in browser.text)
    assert str(mounted.path) in browser.text
    assert f"{len(BOTH)} conflicts" in browser.text
    assert "here: 9 B" in browser.text
    assert "remote: 3 B" in browser.text


def test_the_secret_does_not_stay_in_the_address(browser: Browser) -> None:
    browser.until(lambda: "token" not in browser.address)
    browser.run("location.reload()")
    browser.until(lambda: "Keep both" in browser.text)
    assert browser.run("return document.cookie") == ""


def test_names_are_text_and_nothing_else(browser: Browser) -> None:
    assert card(browser, NASTY)
    assert NASTY in browser.text
    assert browser.run("return document.querySelectorAll('#cards img').length") == 0


def test_nothing_comes_from_elsewhere(browser: Browser, address: str) -> None:
    origin = re.match(r"http://[^/]+", address)
    assert origin is not None
    loaded = browser.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert loaded
    assert [each for each in loaded if not each.startswith(origin[0] + "/")] == []


def test_a_button_stays_while_the_page_follows(browser: Browser) -> None:
    """What is under the mouse is the same element after the page was drawn again."""
    browser.run("window.kept = document.querySelector('li[data-path] button')")
    ticks = (
        "return performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/overview')).length"
    )
    first = int(browser.run(ticks))
    browser.until(lambda: int(browser.run(ticks)) > first + 2)
    assert browser.run("return window.kept.isConnected")


@pytest.mark.parametrize(
    ("name", "label", "contents"),
    [
        ("local.txt", "Keep local", {"local.txt": "near side"}),
        ("remote.txt", "Keep remote", {"remote.txt": "far"}),
    ],
)
def test_one_side_is_kept(
    mounted: Mounted, browser: Browser, name: str, label: str, contents: dict[str, str]
) -> None:
    press(browser, name, label)
    browser.until(lambda: not card(browser, name))
    for path, text in contents.items():
        mounted.until(lambda path=path, text=text: (mounted.remote / path).read_text() == text)  # type: ignore[misc]
        assert (mounted.path / path).read_text() == text


def test_both_are_kept(mounted: Mounted, browser: Browser) -> None:
    press(browser, "both.txt", "Keep both")
    browser.until(lambda: not card(browser, "both.txt"))

    def found() -> set[str]:
        return {path.read_text() for path in mounted.remote.glob("both*.txt")}

    mounted.until(lambda: found() == {"near side", "far"})


def test_pause_and_go_on(mounted: Mounted, browser: Browser) -> None:
    browser.click("Pause")
    browser.until(lambda: "Go on" in browser.text)
    assert mounted.status().state == "paused"
    browser.click("Go on")
    browser.until(lambda: "Pause" in browser.text)
    assert mounted.status().state != "paused"


def test_a_safety_stop_is_confirmed_by_pressing_twice(mounted: Mounted, browser: Browser) -> None:
    kept = {path: path.read_bytes() for path in mounted.remote.iterdir()}
    for path in kept:
        path.unlink()
    with pytest.raises(Halted):
        mounted.tell("flush", timeout=60)
    assert mounted.status().state == "halted-emptied"
    browser.until(lambda: "It is right so: go on…" in browser.text)
    browser.click("It is right so: go on…")
    browser.until(lambda: "Press again" in browser.text)
    assert mounted.status().state == "halted-emptied"
    for path, body in kept.items():
        path.write_bytes(body)  # they are back: nothing is to be deleted any more
    browser.click("Press again: the deletes are carried out")
    browser.until(lambda: "Pause" in browser.text)
    assert mounted.status().state != "halted-emptied"


def test_another_site_can_do_nothing(mounted: Mounted, browser: Browser, address: str) -> None:
    """A page of another origin, in the very browser that has the cookie."""
    origin = address.partition("/?")[0]
    body = json.dumps(json.dumps({"kind": "mount", "id": str(mounted.path), "do": "pause"}))
    browser.open("data:text/html,another site")
    tries = f"""
        const said = [], body = {body}, post = {{ method: "POST", credentials: "include", body }};
        const as = {{ headers: {{ "Content-Type": "application/json" }} }};
        const all = [{{ ...post, mode: "no-cors" }}, {{ ...post, ...as }}, {{ credentials: "include" }}];
        for (const given of all) {{
          const target = "{origin}/api/" + (given.method ? "act" : "overview");
          try {{ said.push(await (await fetch(target, given)).text()); }} catch {{ said.push(""); }}
        }}
        return said;
    """
    assert browser.fetched(tries) == ["", "", ""]
    assert mounted.status().state != "paused"


def test_dark_and_narrow_screens(address: str, tmp_path: Path) -> None:
    browser = Browser(tmp_path, dark=True)
    try:
        browser.resize(500, 900)
        browser.open(address)
        browser.until(lambda: "mountsync" in browser.text and "Pause" in browser.text)
        if browser.run("return matchMedia('(prefers-color-scheme: dark)').matches"):
            colour = browser.run("return getComputedStyle(document.body).backgroundColor")
            assert sum(map(int, re.findall(r"\d+", colour))) < 150, colour
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        browser.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 5000
    finally:
        browser.close()
