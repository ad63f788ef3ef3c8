"""The reference pages and what is shipped in `share/`, made from the code that they describe."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mountsync import errors
from mountsync.cli import forms
from mountsync.cli.main import COMMANDS, EXIT_CODES
from mountsync.cli.remotes import JOB_KEYS
from mountsync.control import protocol
from mountsync.control.jobs import JOB_COMMANDS
from mountsync.formats.sizes import format_size
from mountsync.settings import MOUNT_OPTIONS
from mountsync.storage.options import COMMON_OPTIONS, Option, OptionKind
from mountsync.storage.registry import BUILT_IN, load_type

DOCS = Path(__file__).parents[2] / "docs"
SHARE = Path(__file__).parents[2] / "share"


def pages() -> dict[str, str]:
    """Every generated file by its name in `docs/`."""
    return {
        "reference.md": "\n".join(reference()),
        "control.schema.json": json.dumps(protocol.json_schema(), indent=2) + "\n",
        "daemon.schema.json": json.dumps(
            protocol.json_schema(JOB_COMMANDS, "mountsync daemon socket"), indent=2
        )
        + "\n",
        "json.schema.json": json.dumps(forms.json_schema(), indent=2) + "\n",
    }


def reference() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Made by `scripts/gen-reference` from the code; a test compares. Do not edit."
    yield from commands()
    yield from mount_options()
    yield from configuration()
    yield from remote_types()
    yield from tables()


def commands() -> Iterator[str]:
    yield "\n## Commands\n"
    yield "`mountsync [--config FILE] COMMAND ...`; each command has `--help`."
    for name, later in COMMANDS.items():
        command = later.load()
        if isinstance(command, click.Group):
            for inner_name in sorted(command.commands):
                yield from one_command(f"{name} {inner_name}", command.commands[inner_name])
        else:
            yield from one_command(name, command)


def one_command(name: str, command: click.Command) -> Iterator[str]:
    ctx = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield f"\n### mountsync {name}\n"
    yield f"`mountsync {name} {usage}`\n"
    yield " ".join((command.help or "").split())
    mount_flags = {option.flag for option in MOUNT_OPTIONS}
    rows = [
        param.get_help_record(ctx)
        for param in command.get_params(ctx)
        if isinstance(param, click.Option) and not param.hidden and "--help" not in param.opts
        if not mount_flags.intersection(param.opts)
    ]
    if rows:
        yield ""
    for row in rows:
        assert row is not None
        yield f"- `{row[0]}`: {row[1]}"
    if name == "mount":
        yield "- and every [mount option](#mount-options)"


def mount_options() -> Iterator[str]:
    yield "\n## Mount options\n"
    yield "Flag, then environment, then `[mount.NAME]`, then the top of the configuration, then default."
    yield ""
    yield "| flag | environment | key | value | meaning | default |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for option in MOUNT_OPTIONS:
        value = (option.metavar or "true, false").replace("|", "\\|")
        default = option.default or ("false" if not option.metavar else "none")
        cells = [f"`{option.flag}`", f"`{option.variable}`", f"`{option.name}`", value, option.help, default]
        yield f"| {' | '.join(str(cell) for cell in cells)} |"


def configuration() -> Iterator[str]:
    yield "\n## Configuration\n"
    yield "TOML at `$MOUNTSYNC_CONFIG`, else `$XDG_CONFIG_HOME/mountsync/config.toml`. Sections:\n"
    yield "- `[remote.NAME]`: `type`, and the options of that type below"
    yield "- `[mount.NAME]`: `remote`, `mountpoint`, and mount options"
    yield f"- `[job.NAME]`: {', '.join(f'`{key}`' for key in sorted(JOB_KEYS))}"
    yield "- top level: mount options that hold for all mounts, but for `cache_dir`"


def remote_types() -> Iterator[str]:
    yield "\n## Remote types\n"
    yield "Each option is a key of `[remote.NAME]`, part of a spec, a flag and an environment variable."
    for name in BUILT_IN:
        try:
            kind = load_type(name)
        except errors.ConfigError:
            continue
        yield f"\n### {name}\n"
        yield from (option_line(name, option) for option in kind.options)
        if not kind.options:
            yield "No options of its own."
    yield "\n### Every type\n"
    yield from (f"- `{option.name}`: {option.kind.value}; {option.help}" for option in COMMON_OPTIONS)


def option_line(name: str, option: Option) -> str:
    choices = f" ({', '.join(option.choices)})" if option.choices else ""
    default = "" if option.default in (None, "") else f"; default {shown(option)}"
    needed = "; required" if option.required else ""
    names = f"`{option.name}`, `{option.flag(name)}`, `{option.variable(name)}`"
    return f"- {names}: {option.kind.value}{choices}; {option.help}{default}{needed}"


def shown(option: Option) -> str:
    is_size = option.kind is OptionKind.SIZE and isinstance(option.default, int)
    return format_size(option.default) if is_size else str(option.default)


def tables() -> Iterator[str]:
    yield "\n## Exit codes\n"
    yield "| code | meaning |"
    yield "| --- | --- |"
    yield from (f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    yield "\n## What programs see\n"
    yield "| error | errno | exit code |"
    yield "| --- | --- | --- |"
    for kind in error_classes():
        sample = kind.__new__(kind)
        errors.MountsyncError.__init__(sample, "")
        name = errno.errorcode[errors.errno_of(sample)]
        meaning = (kind.__doc__ or "").splitlines()[0]
        yield f"| {kind.__name__}: {meaning} | {name} | {errors.exit_code_of(sample)} |"
    yield ""


def error_classes() -> list[type[errors.MountsyncError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, errors.MountsyncError)]


def main() -> int:
    sys.path.insert(0, str(Path(__file__).parent))
    from manual import shipped  # noqa: PLC0415 - a neighbour of this file

    wrong = []
    texts = {DOCS / name: text for name, text in pages().items()}
    texts |= {SHARE / name: text for name, text in shipped().items()}
    for file, text in texts.items():
        if "--check" in sys.argv[1:]:
            if not file.exists() or file.read_text() != text:
                wrong.append(str(file.relative_to(DOCS.parent)))
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    if wrong:
        print(f"{', '.join(wrong)}: not what the code says; run scripts/gen-reference", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
