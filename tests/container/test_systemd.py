"""Services under a real systemd, in a container: `scripts/image-test` makes the image with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.containers import Container, Host, podman

IMAGE = os.environ.get("MOUNTSYNC_SYSTEMD_IMAGE", "")

pytestmark = [
    pytest.mark.skipif(not IMAGE, reason="no image with systemd was built: scripts/image-test does"),
    pytest.mark.skipif(os.geteuid() != 0, reason="containers that mount are started by root"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
    pytest.mark.timeout(300),
]

PREPARE = """
mkdir -p /far /srv/photos /etc/m
echo far >/far/a
cat >/etc/m/config.toml <<END
[mount.photos]
remote = "/far"
mountpoint = "/srv/photos"
write_delay = "1h"
END
ln -sf /opt/mountsync/bin/mountsync /opt/mountsync/bin/mount.mountsync /usr/local/bin/
"""


class Machine:
    """A container whose PID 1 is systemd."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def sh(self, script: str) -> str:
        """A script, every step of which must succeed; its output."""
        prefix = "export HOME=/root MOUNTSYNC_CONFIG=/etc/m/config.toml\nset -eu\n"
        done = podman("exec", self.container.name, "bash", "-c", prefix + script, code=None)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}{self.journal()}"
        return done.stdout.strip()

    def journal(self) -> str:
        return podman("exec", self.container.name, "journalctl", "--no-pager", "-n", "60", code=None).stdout

    def property(self, name: str, unit: str = "mountsync-photos") -> str:
        return self.sh(f"systemctl show -P {name} {unit}")

    def until(self, name: str, value: str) -> None:
        self.container.until(lambda: self.property(name) == value)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    host = Host(IMAGE, tmp_path)
    try:
        started = Machine(host.start("systemd", options=("--privileged", "--systemd=always", "--user", "0")))
        running = ("running", "degraded")
        started.container.until(
            lambda: started.container.exec("systemctl", "is-system-running")[1].strip() in running
        )
        started.sh(PREPARE)
        yield started
    finally:
        host.end()


def test_a_service_is_started_restarted_and_ended(machine: Machine) -> None:
    machine.sh("mountsync service install photos --system; cat /srv/photos/a; echo near >/srv/photos/b")
    assert machine.property("ActiveState") == "active"
    assert machine.property("StatusText") in ("settled", "watching")
    machine.sh("kill -KILL $(systemctl show -P MainPID mountsync-photos)")
    machine.until("NRestarts", "1")
    machine.until("ActiveState", "active")
    assert machine.sh("cat /srv/photos/a /srv/photos/b") == "far\nnear"
    machine.sh("systemctl stop mountsync-photos")
    assert (machine.property("ActiveState"), machine.property("Result")) == ("inactive", "success")
    assert machine.sh("ls /far /srv/photos") == "/far:\na\n\n/srv/photos:"
    machine.sh(
        "systemctl start mountsync-photos; mountsync flush; mountsync service uninstall photos --system"
    )
    assert machine.sh("cat /far/b; ls /srv/photos; ls /etc/systemd/system | grep mountsync || true") == "near"


def test_the_watchdog_restarts_what_hangs(machine: Machine) -> None:
    machine.sh(
        """
        mountsync service install photos --system --no-start
        sed -i s/WatchdogSec=60/WatchdogSec=3/ /etc/systemd/system/mountsync-photos.service
        systemctl daemon-reload; systemctl start mountsync-photos; sleep 5
        kill -STOP $(systemctl show -P MainPID mountsync-photos)
        """
    )
    assert machine.property("NRestarts") == "0"
    machine.until("NRestarts", "1")
    machine.until("ActiveState", "active")
    assert machine.sh("cat /srv/photos/a") == "far"
    assert "Watchdog timeout" in machine.journal()


def test_a_line_of_fstab_is_mounted_when_somebody_looks(machine: Machine) -> None:
    machine.sh(
        """
        options=noauto,_netdev,x-systemd.automount,config=/etc/m/config.toml,ro
        echo "photos /srv/photos fuse.mountsync $options 0 0" >>/etc/fstab
        systemctl daemon-reload; systemctl start srv-photos.automount
        """
    )
    assert machine.property("ActiveState", "srv-photos.mount") == "inactive"
    assert machine.sh("cat /srv/photos/a") == "far"
    assert machine.property("ActiveState", "srv-photos.mount") == "active"
    assert machine.sh("systemctl stop srv-photos.mount; cat /srv/photos/a") == "far"
