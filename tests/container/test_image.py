"""The image, built and run for real: `scripts/image-test` builds it and names it in MOUNTSYNC_IMAGE."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.container.containers import Host, podman

IMAGE = os.environ.get("MOUNTSYNC_IMAGE", "")
COMPOSE = Path(__file__).parents[2] / "share/container/compose.yaml"

pytestmark = [
    pytest.mark.skipif(not IMAGE, reason="no image was built: scripts/image-test does"),
    pytest.mark.skipif(os.geteuid() != 0, reason="containers that mount are started by root"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(IMAGE, tmp_path)
    yield made
    made.end()


def facts() -> dict[str, Any]:
    [found] = json.loads(podman("image", "inspect", IMAGE).stdout)
    assert isinstance(found, dict)
    return found


def test_the_image_is_small_and_not_root() -> None:
    found = facts()
    print(f"\nimage: {found['Size'] / 1e6:.0f} MB")
    assert found["Size"] < 400e6
    assert found["User"] == "1000:1000"
    assert found["Config"]["Entrypoint"] == ["mountsync"]
    assert found["Config"]["StopSignal"] == "SIGTERM"
    assert found["Healthcheck"]["Test"] == ["CMD", "mountsync", "health", "--accept", "offline"]


def test_commands_run_and_nothing_that_builds_is_there(host: Host) -> None:
    assert "pyfuse3" in host.run("version")
    assert "s3" in host.run("config", "types")
    script = "for tool in gcc pip pip3; do command -v $tool; done; id -u; ls -ld /state"
    said = host.run("-c", script, options=("--entrypoint", "sh"))
    assert said.splitlines()[0] == "1000"
    assert "drwx------" in said


def test_the_folder_is_seen_by_the_host_and_by_other_containers(host: Host) -> None:
    (host.remote / "far").write_text("far")
    began = time.monotonic()
    mounted = host.mount("a", "--write-delay", "0.1s")
    print(f"\nfrom `podman run` until the folder can be used: {time.monotonic() - began:.1f} s")
    assert (host.shown / "far").read_text() == "far"
    see = ("-v", f"{host.shown}:/data:rslave", "--entrypoint", "sh", "--user", "0")
    assert host.run("-c", "cat /data/far; echo near >/data/near", options=see) == "far"
    mounted.until((host.remote / "near").exists)
    assert (host.remote / "near").read_text() == "near\n"
    assert mounted.stop(30)[0] == 0
    assert list(host.shown.iterdir()) == []


def test_stop_parks_in_time_and_the_state_outlives_the_container(host: Host) -> None:
    first = host.mount("a", "--write-delay", "1h")
    (host.shown / "near").write_text("near")
    code, took = first.stop(60)
    print(f"\nend with something left: {took:.1f} s")
    assert code == 0, first.log()
    assert not os.path.ismount(host.shown / "near")
    assert list(host.shown.iterdir()) == []
    assert list(host.remote.iterdir()) == []
    podman("rm", first.name)
    second = host.mount("b", "--write-delay", "1h")
    assert (host.shown / "near").read_text() == "near"
    assert second.exec("mountsync", "flush")[0] == 0
    assert (host.remote / "near").read_text() == "near"
    assert second.stop(60)[0] == 0


def test_stop_uploads_what_is_left_when_asked(host: Host) -> None:
    mounted = host.mount("a", "--write-delay", "1h", "--drain", "30s")
    (host.shown / "near").write_text("near")
    assert mounted.stop(60)[0] == 0
    assert (host.remote / "near").read_text() == "near"


def test_killed_the_next_container_repairs_the_folder(host: Host) -> None:
    first = host.mount("a", "--write-delay", "1h")
    (host.shown / "near").write_text("near")
    podman("kill", "-s", "KILL", first.name)
    first.until(lambda: not first.runs())
    subprocess.run(["umount", "-l", host.shown], check=True)  # what the dead container left on the host
    second = host.mount("b", "--write-delay", "0.1s")
    second.until((host.remote / "near").exists)
    assert second.stop(60)[0] == 0


def test_health_tells_mounted_offline_halted_and_down_apart(host: Host) -> None:
    (host.remote / "d").mkdir()
    for number in range(30):
        (host.remote / "d" / str(number)).write_text("far")
    mounted = host.mount("a")
    assert mounted.exec("mountsync", "flush")[0] == 0
    assert mounted.exec("mountsync", "health")[0] == 0
    assert podman("healthcheck", "run", mounted.name, code=None).returncode == 0
    (host.remote / "d").rename(host.home / "gone")  # all are gone at the same time
    mounted.until(lambda: mounted.exec("mountsync", "health")[0] == 5)
    assert podman("healthcheck", "run", mounted.name, code=None).returncode == 1
    mounted.exec("mountsync", "resume", "--confirm")
    mounted.until(lambda: mounted.exec("mountsync", "health")[0] == 0)
    assert mounted.stop(60)[0] == 0
    idle = host.start("b", "infinity", options=("--entrypoint", "sleep"))
    assert idle.exec("mountsync", "health")[0] == 4


def test_offline_is_healthy_and_says_so(host: Host) -> None:
    (host.home / "outer/inner").mkdir(parents=True)
    (host.home / "outer/inner/far").write_text("far")
    for path in (host.home / "outer", host.home / "outer/inner", host.home / "outer/inner/far"):
        os.chown(path, 1000, 1000)
    options = ("-v", f"{host.home}/outer:/outer", "-v", f"{host.shown}:/mnt/remote:rshared")
    mounted = host.start(
        "a", "mount", "/outer/inner", "/mnt/remote", "--allow-other", "--poll-interval", "1s", options=options
    )
    mounted.until_ready()
    assert (host.shown / "far").read_text() == "far"
    (host.home / "outer/inner").rename(host.home / "outer/away")
    mounted.until(lambda: mounted.exec("mountsync", "health")[0] == 6)
    assert "offline" in mounted.exec("mountsync", "health")[1]
    assert podman("healthcheck", "run", mounted.name, code=None).returncode == 0
    assert (host.shown / "far").read_text() == "far"
    (host.home / "outer/away").rename(host.home / "outer/inner")
    mounted.until(lambda: mounted.exec("mountsync", "health")[0] == 0)
    assert mounted.stop(60)[0] == 0


def test_secrets_come_as_files_and_are_nowhere_else(host: Host) -> None:
    secret = host.home / "where"
    secret.write_text("/shared\n")
    options = ("-e", "MOUNTSYNC_REMOTE_WORK_TYPE=chunker", "-v", f"{secret}:/run/secrets/where:ro")
    options += ("-e", "MOUNTSYNC_REMOTE_WORK_REMOTE_FILE=/run/secrets/where")
    options += ("-v", f"{host.remote}:/shared", "-v", f"{host.shown}:/mnt/remote:rshared")
    mounted = host.start("a", "mount", "work:", "/mnt/remote", "--allow-other", options=options)
    mounted.until_ready()
    (host.shown / "near").write_text("near")
    assert mounted.exec("mountsync", "flush")[0] == 0
    assert (host.remote / "near").read_text() == "near"
    assert mounted.stop(60)[0] == 0
    history = podman("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE).stdout
    environment = [line.partition("=")[0] for line in facts()["Config"]["Env"]]
    assert not [name for name in environment if "SECRET" in name or "TOKEN" in name]
    assert "hunter" not in history


def test_the_two_containers_of_the_compose_file_share_a_remote(host: Host) -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    shown = {}
    for name in ("a", "b"):
        service = services[name]
        shown[name] = host.shown / name
        shown[name].mkdir()
        os.chown(shown[name], 1000, 1000)
        options = [word for pair in service["environment"].items() for word in ("-e", "=".join(pair))]
        options += ["-v", f"{host.name('state-' + name)}:/state", "-v", f"{host.remote}:/shared"]
        options += ["-v", f"{shown[name]}:/mnt/remote:rshared"]
        assert service["volumes"][0] == f"state-{name}:/state"
        assert service["cap_add"] == ["SYS_ADMIN"]
        assert service["devices"] == ["/dev/fuse"]
        host.start(name, *service["command"], options=tuple(options)).until_ready()
    a, b = shown["a"], shown["b"]
    (a / "from-a").write_text("one")
    (b / "from-b").write_text("two")
    end = time.monotonic() + 120
    while not ((a / "from-b").exists() and (b / "from-a").exists()):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert ((a / "from-b").read_text(), (b / "from-a").read_text()) == ("two", "one")
