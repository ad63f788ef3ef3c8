"""`completion`: what a shell needs to complete command lines, and the answers that it then asks for.

The shell's function calls `mountsync` again with the line as typed in COMP_LINE and
_MOUNTSYNC_COMPLETE set. The answer is lines of `kind TAB value TAB help`: first `typed`, the word that is
being completed, then `plain` values, `file` or `dir` (the shell completes paths itself). An answer asks no
remote and no running mount, so that it comes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem, ShellComplete, _resolve_context, split_arg_string

from mountsync.cli.completion_scripts import SCRIPTS
from mountsync.errors import MountsyncError

if TYPE_CHECKING:
    from mountsync.config import Config

VARIABLE: Final = "_MOUNTSYNC_COMPLETE"
"""Set, in the environment, when a shell asks for completions."""

_PATHS: Final = ("/", "./", "../", "~")
"""What a text begins with that is a local path and no remote."""
Source = Callable[[], Iterable[str]]


@click.command()
@click.argument("shell", type=click.Choice(sorted(SCRIPTS)))
def completion(*, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: eval "$(mountsync completion bash)"        in ~/.bashrc
    zsh:  eval "$(mountsync completion zsh)"         in ~/.zshrc, after compinit
    fish: mountsync completion fish > ~/.config/fish/completions/mountsync.fish
    """
    click.echo(SCRIPTS[shell], nl=False)


def answer(line: str) -> str:
    """The completions for a command line up to the cursor. Never fails: what cannot be known is empty."""
    from mountsync.cli.main import root  # noqa: PLC0415 - it knows this module by name only

    words, incomplete = _split(line)
    found: list[CompletionItem[str]] = []
    with suppress(MountsyncError, click.ClickException, click.exceptions.Exit, OSError):
        found = _Completer(root, {}, "mountsync", VARIABLE).get_completions(words, incomplete)
    lines = [f"typed\t{incomplete}\t"]
    lines += [f"{item.type}\t{item.value}\t{_one_line(item.help)}" for item in found]
    return "\n".join(line for line in lines if "\n" not in line) + "\n"


def _split(line: str) -> tuple[list[str], str]:
    """The words after the command's name, and the one that is being typed."""
    words = split_arg_string(line)[1:]
    if not words or (line[-1:].isspace() and line[-2:-1] != "\\"):
        return words, ""
    return words[:-1], words[-1]


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


class _Completer(ShellComplete):
    """Completions of options and commands are click's; those of values are ours."""

    name = "mountsync"
    source_template = ""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        ctx = _resolve_context(self.cli, self.ctx_args, self.prog_name, args)
        taken = _value_of(ctx, args, incomplete)
        if taken is None:
            return super().get_completions(args, incomplete)
        param, text = taken
        flag = incomplete.removesuffix(text) if incomplete.startswith("--") else ""
        return [
            CompletionItem(f"{flag}{item.value}", type=item.type, help=item.help)
            for item in completed(ctx, param, text)
        ]


def _value_of(ctx: click.Context, args: list[str], incomplete: str) -> tuple[click.Parameter, str] | None:
    """The parameter whose value is being typed, and what was typed of it; None for names of options."""
    options = {name: p for p in ctx.command.get_params(ctx) if isinstance(p, click.Option) for name in p.opts}
    flag, equals, rest = incomplete.partition("=")
    if equals and flag in options:
        return None if options[flag].is_flag else (options[flag], rest)
    last = options.get(args[-1]) if args else None
    if last is not None and not last.is_flag:
        return last, incomplete
    if incomplete.startswith("-") or isinstance(ctx.command, click.Group):
        return None
    for param in ctx.command.get_params(ctx):
        if isinstance(param, click.Argument) and (param.nargs == -1 or ctx.params.get(param.name) is None):
            return param, incomplete
    return None


def completed(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem[str]]:
    """Values of a parameter that begin with `text`."""
    if isinstance(param.type, click.Choice):
        return _plain(param.type.choices, text)
    kind = _kind(ctx, param)
    if kind == "option":
        return _plain(_options_of(ctx.params.get("kind")), text)
    if kind in ("file", "dir"):
        return [CompletionItem(text, type=kind)]
    if kind == "remote" or (kind == "mountable" and text.startswith((*_PATHS, ":"))):
        return _remotes(text)
    if kind in SOURCES:
        found = _plain(SOURCES[kind](), text)
        return found if found or kind != "place" else [CompletionItem(text, type="dir")]
    return _plain(kind.split("|") if kind else (), text)


def _plain(values: Iterable[str], text: str) -> list[CompletionItem[str]]:
    return [CompletionItem(value) for value in values if value.startswith(text)]


def _remotes(text: str) -> list[CompletionItem[str]]:
    if text.startswith(_PATHS):
        return [CompletionItem(text, type="file")]
    if text.startswith(":"):
        return _plain((f":{name}:" for name in _types()), text)
    return _plain((f"{name}:" for name in _remote_names()), text)


def _kind(ctx: click.Context, param: click.Parameter) -> str:
    """What a parameter's values are: a key of SOURCES, `remote`, `file`, `dir`, or words with | between."""
    command = ctx.command_path.split(" ", 1)[-1]
    name = param.name or ""
    known = KINDS.get(f"{command} {name}") or KINDS.get(name)
    if known is not None:
        return known
    if isinstance(param, click.Argument):
        return _words(param.metavar) or "file"
    return {"DIR": "dir", "FILE": "file"}.get(param.metavar or "") or _words(param.metavar)


def _words(metavar: str | None) -> str:
    return metavar if metavar is not None and "|" in metavar and "[" not in metavar else ""


def _config() -> Config:
    from mountsync.config import config_path, load_config  # noqa: PLC0415 - only for these kinds

    return load_config(config_path())


def _remote_names() -> list[str]:
    return sorted(_config().remotes)


def _mounts() -> list[str]:
    return sorted(_config().mounts)


def _mountable() -> Iterator[str]:
    config = _config()
    yield from sorted(config.mounts)
    yield from (f"{name}:" for name in sorted(config.remotes))


def _jobs() -> list[str]:
    return sorted(_config().jobs)


def _types() -> list[str]:
    from mountsync.storage.registry import type_names  # noqa: PLC0415 - only for this kind

    return type_names()


def _options_of(kind: object) -> list[str]:
    from mountsync.storage.registry import load_type  # noqa: PLC0415 - only for this kind

    return [f"{option.name}=" for option in load_type(str(kind)).options]


def _places() -> list[str]:
    from mountsync.control.directory import running  # noqa: PLC0415 - only for this kind

    return [record.mountpoint for record in running()]


def _targets() -> list[str]:
    return [*_places(), *_jobs()]


SOURCES: Final[Mapping[str, Source]] = {
    "name": _remote_names,
    "new": tuple,
    "mount": _mounts,
    "mountable": _mountable,
    "job": _jobs,
    "type": _types,
    "place": _places,
    "target": _targets,
}
"""Where values come from."""

_POLICIES: Final = "keep-both|manual|newer|older|larger|smaller|local|remote"
KINDS: Final[Mapping[str, str]] = {
    "remote": "remote",
    "remotes": "remote",
    "src": "remote",
    "dst": "remote",
    "a": "remote",
    "b": "remote",
    "mount remote": "mountable",
    "mount mountpoint": "dir",
    "mountpoint": "place",
    "target": "target",
    "fsck target": "mountable",
    "path": "file",
    "job": "job",
    "name": "name",
    "service install name": "mount",
    "service uninstall name": "mount",
    "service show name": "mount",
    "config create name": "new",
    "kind": "type",
    "config create values": "option",
    "conflict": _POLICIES,
    "log_level": "debug|info|warning|error",
    "log_format": "auto|human|json",
    "folder": "dir",
}
"""What parameters are, by command and name or by name alone; the others are words, files or free text."""
