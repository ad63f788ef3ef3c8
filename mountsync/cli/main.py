"""The root of the command line, and the only place where a failure becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, TextIO

import click

from mountsync.cli.lazy import Later, LazyGroup
from mountsync.cli.voice import say
from mountsync.errors import MountsyncError, alone_in, exit_code_of, from_os_error

EXIT_CODES: Final[dict[int, str]] = {
    0: "clean",
    1: "conflicts or differences are left",
    2: "usage or configuration",
    3: "some paths failed",
    4: "fatal: remote out of reach, state locked, mount point unusable",
    5: "halted by a safety stop",
    6: "offline; only `health` says so",
    130: "interrupted",
}
"""What the process's exit code tells; the only table of it besides `errors.exit_code_of`."""

_MODULE: Final = "mountsync.cli."

COMMANDS: Final[dict[str, Later]] = {
    "mount": Later(_MODULE + "mounting", "mount", "Mount a remote as a folder."),
    "umount": Later(_MODULE + "mounting", "umount", "Replicate what is left, then unmount."),
    "status": Later(_MODULE + "watching", "status", "Show what mounts do and what is not replicated."),
    "web": Later(_MODULE + "web", "web", "Show mounts and jobs on a page in the browser."),
    "health": Later(_MODULE + "health", "health", "Say whether mounts and jobs work, for monitors."),
    "flush": Later(_MODULE + "watching", "flush", "Bring both sides to agree now."),
    "conflicts": Later(_MODULE + "steering", "conflicts", "List conflicts that wait for you."),
    "resolve": Later(_MODULE + "steering", "resolve", "Settle a conflict."),
    "pause": Later(_MODULE + "steering", "pause", "Stop transfers for a while."),
    "resume": Later(_MODULE + "steering", "resume", "Go on after a pause or a safety stop."),
    "pin": Later(_MODULE + "steering", "pin", "Keep a file or folder on this machine."),
    "unpin": Later(_MODULE + "steering", "unpin", "Undo pin."),
    "evict": Later(_MODULE + "steering", "evict", "Forget local copies that the remote has too."),
    "bisync": Later(_MODULE + "syncing", "bisync", "Make two remotes or folders hold the same."),
    "copy": Later(_MODULE + "syncing", "copy", "Bring what one side has to another; delete nothing."),
    "sync": Later(_MODULE + "syncing", "sync", "Make one side equal to another."),
    "check": Later(_MODULE + "syncing", "check", "Say in what two sides differ."),
    "start": Later(_MODULE + "jobs", "start", "Keep a pair in sync from now on."),
    "stop": Later(_MODULE + "jobs", "stop", "Stop keeping a pair in sync."),
    "daemon": Later(_MODULE + "jobs", "daemon", "Run jobs; `start` does it in the background."),
    "service": Later(_MODULE + "service", "service", "Run mounts and jobs as services of systemd."),
    "backups": Later(_MODULE + "backing", "backups", "List and restore what syncs replaced or deleted."),
    "config": Later(_MODULE + "configuring", "config", "Make, show and check remotes."),
    "ls": Later(_MODULE + "looking", "ls", "List files of a remote with their sizes."),
    "lsd": Later(_MODULE + "looking", "lsd", "List folders of a remote."),
    "lsl": Later(_MODULE + "looking", "lsl", "List files with sizes and times."),
    "lsf": Later(_MODULE + "looking", "lsf", "List names, for scripts."),
    "cat": Later(_MODULE + "looking", "cat", "Write the content of a file to standard output."),
    "hashsum": Later(_MODULE + "looking", "hashsum", "Print digests of files."),
    "mkdir": Later(_MODULE + "changing", "mkdir", "Make a folder on a remote."),
    "rm": Later(_MODULE + "changing", "rm", "Remove a file, or with -r a folder, from a remote."),
    "fsck": Later(_MODULE + "checking", "fsck", "Verify the state of a mount, or a remote."),
    "export": Later(_MODULE + "exporting", "export", "Copy out what is on this machine."),
    "gc": Later(_MODULE + "sweeping", "gc", "List or remove chunks that no file uses."),
    "prune-metadata": Later(_MODULE + "pruning", "prune_metadata", "Drop stale entries of a sidecar."),
    "completion": Later(_MODULE + "completion", "completion", "Print the completion script of a shell."),
    "doctor": Later(_MODULE + "doctor", "doctor", "Say what is wrong with this machine's set-up."),
    "version": Later(_MODULE + "version", "version", "Print versions."),
}


@click.group(
    cls=LazyGroup,
    later=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.option("--config", "config_path", metavar="FILE", help="Configuration file [env: MOUNTSYNC_CONFIG].")
@click.option("--version", "show_version", is_flag=True, help="Print the version.")
@click.pass_context
def root(ctx: click.Context, config_path: str | None, show_version: bool) -> None:
    """Use remote storage as an ordinary folder, and keep folders in sync.

    \b
    mountsync mount REMOTE MOUNTPOINT     a remote as a folder
    mountsync status                      what is not replicated yet
    mountsync umount MOUNTPOINT           replicate what is left, then unmount

    REMOTE is NAME:PATH of a configured remote, a local path, or :TYPE,OPTION=VALUE:PATH.
    """
    if config_path is not None:
        os.environ["MOUNTSYNC_CONFIG"] = os.path.abspath(os.path.expanduser(config_path))
    if show_version:
        ctx.invoke(COMMANDS["version"].load())
    elif ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(args: Sequence[str]) -> int:
    """Carries out one command line and returns its exit code. Nothing is raised."""
    if len(args) == 4 and args[2] == "-o":  # as mount.fuse3(8) calls the program of a type
        from mountsync.cli import fstab  # noqa: PLC0415 - no command of ours looks like this

        return fstab.run(args)
    for stream in (sys.stdout, sys.stderr):
        _carry_any_name(stream)
    try:
        # `color`: what click would take for colours in a pipe are bytes of names, and stay.
        with root.make_context("mountsync", list(args), color=True) as ctx:
            code = root.invoke(ctx)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _reader_left()
    except BaseException as error:  # noqa: BLE001 - the one place where every failure ends
        return _failed(error)


def _carry_any_name(stream: TextIO) -> None:
    """Names that are not Unicode leave as the bytes that they are."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="surrogateescape" if stream is sys.stdout else "backslashreplace")


def _reader_left() -> int:
    """Whoever read our output has closed it (`| head`): quiet, with the code of SIGPIPE."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 128 + 13


def _failed(error: BaseException) -> int:
    error = alone_in(error)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 130
    if isinstance(error, click.ClickException):
        say(_usage_line(error))
        return 2
    if isinstance(error, OSError):
        error = from_os_error(error, os.fsdecode(error.filename) if error.filename else None)
    if isinstance(error, MountsyncError):
        say(str(error))
        return exit_code_of(error)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 4
    return _bug(error)


def _usage_line(error: click.ClickException) -> str:
    """click's sentence as `command: reason; next step`, on one line."""
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path.split(" ")[1:] if ctx is not None else []
    reason = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.NoSuchOption) or hasattr(error, "command_name"):
        reason = _unknown(error, path)
    elif ";" not in reason:
        reason = f"{reason}; see `{' '.join(['mountsync', *path, '--help'])}`"
    reason = reason[:1].lower() + reason[1:]
    return ": ".join(filter(None, [" ".join(path), reason]))


def _unknown(error: click.ClickException, path: Sequence[str]) -> str:
    """click's errors for a word that nothing is called, with the nearest one that something is."""
    option, command = getattr(error, "option_name", None), getattr(error, "command_name", None)
    what = f"no such option {option!r}" if option is not None else f"there is no command {command!r}"
    near = getattr(error, "possibilities", None)
    hint = f"did you mean {near[0]!r}?" if near else f"see `{' '.join(['mountsync', *path, '--help'])}`"
    return f"{what}; {hint}"


def _bug(error: BaseException) -> int:
    import traceback  # noqa: PLC0415 - only for a bug

    traceback.print_exception(error)
    say(f"internal error: {type(error).__name__}: {error}; please report it with the lines above")
    return 4
