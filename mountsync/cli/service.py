"""`mountsync service`: mounts and jobs as services of systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from mountsync.cli.mounting import settings_of
from mountsync.cli.remotes import configuration
from mountsync.errors import MountError, NotFound, UsageError, from_os_error
from mountsync.formats.systemd_unit import STOP_S, Unit, unit_name, unit_text

_BOOTED: Final = "/run/systemd/system"
"""Exists while systemd is the init of this machine: sd_booted(3)."""
_SYSTEM_FOLDER: Final = Path("/etc/systemd/system")
_JOBS: Final = "jobs"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where units go, and whose manager they are for."""

    folder: Path
    of_system: bool
    bare: bool
    """The folder was named: no manager is told."""

    def systemctl(self, *words: str) -> None:
        """Raises MountError with what systemctl said."""
        tool = shutil.which("systemctl")
        assert tool is not None
        command = [tool, *([] if self.of_system else ["--user"]), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed tool
        if done.returncode:
            reason = " ".join(done.stderr.split()) or f"systemctl {words[0]} failed with {done.returncode}"
            raise MountError(
                reason, hint=f"see `journalctl {'' if self.of_system else '--user '}-u {words[-1]}`"
            )


@click.group()
def service() -> None:
    """Run a mount, or the jobs, as a service of systemd: at login or at boot, and again after a crash."""


def _common(command: Any) -> Any:
    for option in (
        click.option("--dir", "folder", type=Path, help="Use units in this folder; tell no systemd."),
        click.option("--system", is_flag=True, help="A service of the machine instead of yours."),
        click.argument("name", metavar="NAME"),
    ):
        command = option(command)
    return command


@service.command()
@_common
@click.option("--run-as", metavar="USER", help="Who runs it; for --system.")
@click.option("--no-start", is_flag=True, help="Write the unit; do not enable or start it.")
def install(*, name: str, system: bool, folder: Path | None, run_as: str | None, no_start: bool) -> None:
    """Write the unit for NAME, enable it and start it.

    NAME is a `[mount.NAME]` of the configuration, or `jobs` for the daemon that runs jobs. The unit is
    ready when the folder can be used; a folder that does not answer any more is restarted.
    """
    place = _place(system=system, folder=folder)
    text = unit_text(_unit(name, of_system=system, run_as=run_as))
    if not no_start and not place.bare:
        _refuse_without_systemd()
    file = place.folder / unit_name(name)
    _write(file, text)
    click.echo(f"written: {file}")
    if no_start or place.bare:
        return
    place.systemctl("daemon-reload")
    place.systemctl("enable", "--now", file.name)
    click.echo(f"running: {file.name}")


@service.command()
@_common
def uninstall(*, name: str, system: bool, folder: Path | None) -> None:
    """Stop the service for NAME and remove its unit; nothing that waits for upload is lost."""
    place = _place(system=system, folder=folder)
    file = place.folder / unit_name(name)
    if not file.exists():
        raise NotFound("there is no such unit", path=str(file), hint="see `mountsync service show`")
    managed = not place.bare and os.path.isdir(_BOOTED)
    if managed:
        place.systemctl("disable", "--now", file.name)
    file.unlink()
    if managed:
        place.systemctl("daemon-reload")


@service.command()
@_common
@click.option("--run-as", metavar="USER", help="Who runs it; for --system.")
def show(*, name: str, system: bool, folder: Path | None, run_as: str | None) -> None:
    """Print the unit for NAME: as it is installed, else as it would be."""
    file = _place(system=system, folder=folder).folder / unit_name(name)
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        text = unit_text(_unit(name, of_system=system, run_as=run_as))
        click.echo(f"# {file}: not installed; mountsync service install {name}")
    else:
        click.echo(f"# {file}")
    click.echo(text, nl=False)


def _place(*, system: bool, folder: Path | None) -> _Place:
    if folder is not None:
        return _Place(folder.absolute(), system, bare=True)
    if system:
        return _Place(_SYSTEM_FOLDER, of_system=True, bare=False)
    base = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".config"
    return _Place(home / "systemd/user", of_system=False, bare=False)


def _unit(name: str, *, of_system: bool, run_as: str | None) -> Unit:
    if run_as is not None and not of_system:
        raise UsageError("--run-as needs --system", hint="a service of yours runs as you")
    program = [*_program(), "--config", str(configuration().path)]
    state = os.environ.get("XDG_STATE_HOME", "")
    environment = [("XDG_STATE_HOME", state)] if state.startswith("/") and run_as is None else []
    if name == _JOBS and _JOBS not in configuration().mounts:
        return Unit(
            description="mountsync: folders in sync",
            command=[*program, "daemon"],
            environment=environment,
            user=run_as,
            of_system=of_system,
        )
    configuration().mount(name)  # says which names there are, when it is none
    settings = settings_of(name, None, {}, {}, 1)
    return Unit(
        description=f"mountsync: {name} on {settings.mountpoint}",
        command=[*program, "mount", name],
        after=[*program, "umount", "--now", "--if-mounted", str(settings.mountpoint)],
        environment=environment,
        user=run_as,
        of_system=of_system,
        stop_s=STOP_S + settings.drain,
    )


def _program() -> list[str]:
    """This program by a path that holds whatever the service's PATH is."""
    script = Path(sys.executable).parent / "mountsync"
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "mountsync"]


def _refuse_without_systemd() -> None:
    if not os.path.isdir(_BOOTED) or shutil.which("systemctl") is None:
        raise MountError("systemd does not run this machine", hint="--no-start writes the unit all the same")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.new")
        fresh.write_text(text, "utf-8")
        fresh.replace(file)
    except OSError as error:
        raise from_os_error(error, str(file)) from error
