"""What a service manager sees of a mount: ready, alive, stopping, and there again after a crash."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress

import pytest
import trio

from mountsync.control import supervisor
from tests.parts.real_mount import Mounted
from tests.service.conftest import Manager


def stop(managed: Mounted, how: int = signal.SIGTERM) -> int:
    assert managed.process is not None and managed.process.stdout is not None
    managed.process.send_signal(how)
    code = managed.process.wait(60)
    managed.process.stdout.close()
    managed.process = None
    return code


def test_ready_only_when_mounted_then_alive_then_stopping(managed: Mounted, manager: Manager) -> None:
    managed.more["WATCHDOG_USEC"] = "300000"
    (managed.remote / "a").write_text("far")
    managed.start()
    assert manager.until("READY=1").startswith(f"READY=1\nSTATUS=mounted {managed.remote} on ")
    assert (managed.path / "a").read_text() == "far"
    manager.until("WATCHDOG=1")
    manager.until("WATCHDOG=1")
    assert stop(managed) == 0
    assert manager.until("STOPPING=1") == "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000"
    assert not os.path.ismount(managed.path)


def test_a_process_that_does_not_run_gives_no_sign_of_life(managed: Mounted, manager: Manager) -> None:
    managed.more["WATCHDOG_USEC"] = "300000"
    managed.start()
    manager.until("WATCHDOG=1")
    assert managed.process is not None
    managed.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, managed.process.pid, os.WSTOPPED | os.WNOWAIT)
    manager.drain()
    assert manager.next(within=0.9) is None
    managed.process.send_signal(signal.SIGCONT)
    manager.until("WATCHDOG=1")
    assert stop(managed) == 0


def test_state_is_told(managed: Mounted, manager: Manager) -> None:
    managed.start()
    managed.tell("pause")
    assert manager.until("STATUS=paused") == "STATUS=paused: paused by request"
    assert stop(managed) == 0


def test_sigterm_parks_what_is_left(managed: Mounted) -> None:
    managed.start()
    (managed.path / "a").write_text("near")
    assert stop(managed) == 0
    assert not os.path.ismount(managed.path)
    assert not (managed.remote / "a").exists()
    managed.start().flush()
    assert (managed.remote / "a").read_text() == "near"
    managed.umount()


def test_sigterm_uploads_what_is_left_when_asked(managed: Mounted) -> None:
    managed.start("--drain", "60s")
    (managed.path / "a").write_text("near")
    assert stop(managed) == 0
    assert (managed.remote / "a").read_text() == "near"


def test_a_drain_ends_when_the_remote_is_away(managed: Mounted) -> None:
    managed.start("--drain", "1s", "--offline")
    (managed.path / "a").write_text("near")
    assert stop(managed) == 0
    assert "the rest cannot be replicated now" in managed.log.read_text()
    managed.start().flush()
    assert (managed.remote / "a").read_text() == "near"


def test_a_folder_in_use_does_not_hold_up_the_end(managed: Mounted) -> None:
    managed.start()
    (managed.path / "a").write_text("near")
    held = os.open(managed.path / "a", os.O_RDONLY)
    try:
        assert stop(managed) == 0
        assert not os.path.ismount(managed.path)
    finally:
        with suppress(OSError):  # nobody answers for the file any more
            os.close(held)


def test_after_a_crash_the_next_start_repairs_the_mount_point(managed: Mounted, manager: Manager) -> None:
    managed.start()
    (managed.path / "a").write_text("near")
    assert managed.run("umount", "--now", "--if-mounted", str(managed.remote)).stderr == ""
    managed.kill9()
    with pytest.raises(OSError):
        os.listdir(managed.path)
    manager.drain()
    managed.start()
    manager.until("READY=1")
    assert (managed.path / "a").read_text() == "near"
    managed.umount()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_while_the_remote_does_not_answer(managed: Mounted, how: int, code: int) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(60)
        managed.spec = f':s3,endpoint="http://127.0.0.1:{silent.getsockname()[1]}":bucket'
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        with open(managed.log, "ab") as log:
            process = subprocess.Popen(
                managed.mount_command(), env=managed.environment | keys, cwd=managed.home, stderr=log
            )
        try:
            asked, _ = silent.accept()
            with asked:
                process.send_signal(how)
                assert process.wait(60) == code, managed.log.read_text()
        finally:
            process.kill()
            process.wait(60)
    assert not os.path.ismount(managed.path)


async def test_the_watchdog_is_silent_while_the_service_hangs(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.address))
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    hangs = trio.Event()
    asked = 0

    async def answers() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            await hangs.wait()
        if asked == 4:
            raise OSError("the folder is gone")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.keep_watchdog, answers)
        await trio.sleep(100)
        assert manager.drain() == ["WATCHDOG=1"] * 2
        hangs.set()
        await trio.sleep(11)
        assert (asked, manager.drain()) == (4, ["WATCHDOG=1"])
        nursery.cancel_scope.cancel()


def test_the_watchdog_is_for_one_process() -> None:
    wanted = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}
    assert supervisor.watchdog_seconds(wanted, pid=7) == 2.0
    assert supervisor.watchdog_seconds(wanted, pid=8) is None
    assert supervisor.watchdog_seconds({"WATCHDOG_USEC": "0"}) is None
    assert supervisor.watchdog_seconds({}) is None
