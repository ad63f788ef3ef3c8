"""`config import-rclone`: remotes that rclone knows become remotes of ours."""

from __future__ import annotations

import configparser
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import click

from mountsync.cli.forms import ImportedRemote, ImportedRemotes, SkippedRemote
from mountsync.cli.output import counted, emit_json
from mountsync.config import config_path, load_config, replace_private, set_remotes
from mountsync.errors import ConfigError, printable
from mountsync.formats.rclone_config import Skipped, Translated, parse_rclone_config, translated
from mountsync.storage.options import COMMON_OPTIONS, checked_options
from mountsync.storage.registry import load_type

CREDENTIALS: Final = "s3-credentials"
"""The file beside the configuration that takes the keys of imported S3 remotes."""


@click.command("import-rclone")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace remotes that exist under the same names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_rclone(*, file: Path | None, force: bool, as_json: bool) -> int:
    """Take over remotes of rclone: local, alias, chunker, modal and s3 as our types, others through rclone.

    FILE is rclone's configuration, by default $RCLONE_CONFIG, then ~/.config/rclone/rclone.conf. Keys of S3
    go to the file s3-credentials beside our configuration, mode 0600; those of other types stay in rclone's.
    Exit code 3 when some remotes were skipped.
    """
    source = file or rclone_config_path(os.environ)
    own = None if source == rclone_config_path({}) else os.path.abspath(source)
    found = [translated(name, section, file=own) for name, section in _sections(source).items()]
    existing = set() if force else set(load_config(config_path()).remotes)
    chosen = [_checked(each, existing) for each in found]
    taken = [each for each in chosen if isinstance(each, Translated)]
    skipped = [each for each in chosen if isinstance(each, Skipped)]
    _write(taken)
    known = set(load_config(config_path()).remotes)
    outcome = ImportedRemotes(
        file=str(source),
        imported=[_imported(each, known) for each in taken],
        skipped=[SkippedRemote(name=each.name, type=each.type, reason=each.reason) for each in skipped],
    )
    if as_json:
        emit_json(outcome)
    else:
        _say(outcome)
    return 3 if skipped else 0


def rclone_config_path(environment: Mapping[str, str]) -> Path:
    """Where rclone keeps its configuration, if it has one."""
    chosen = environment.get("RCLONE_CONFIG")
    if chosen:
        return Path(os.path.expanduser(chosen))
    base = environment.get("XDG_CONFIG_HOME", "")
    places = [
        Path(base if base.startswith("/") else os.path.expanduser("~/.config")) / "rclone/rclone.conf",
        Path(os.path.expanduser("~/.rclone.conf")),
    ]
    return next((place for place in places if place.exists()), places[0])


def _sections(source: Path) -> dict[str, dict[str, str]]:
    try:
        text = source.read_text("utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{source}: {reason}", hint="name rclone's configuration file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: it is not valid UTF-8") from error
    try:
        return parse_rclone_config(text)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error.reason}", hint=error.hint) from error


def _checked(each: Translated | Skipped, existing: set[str]) -> Translated | Skipped:
    """What can be written: its options are right, and its name is free."""
    if isinstance(each, Skipped):
        return each
    if each.name in existing:
        return Skipped(each.name, each.values["type"], "a remote of this name exists; --force replaces it")
    kind = each.values["type"]
    try:
        declared = (*load_type(kind).options, *COMMON_OPTIONS)
        checked_options(kind, declared, {key: value for key, value in each.values.items() if key != "type"})
    except ConfigError as error:
        return Skipped(each.name, kind, str(error))
    return each


def _write(taken: Iterable[Translated]) -> None:
    """Credentials first: a remote that is written can be used."""
    sections = {each.name: dict(each.values) for each in taken}
    keys = {each.name: each.credentials for each in taken if each.credentials}
    file = config_path().with_name(CREDENTIALS)
    for name in keys:
        sections[name] |= {"credentials": str(file), "profile": name}
    if keys:
        _write_credentials(file, keys)
    if sections:
        set_remotes(config_path(), sections)


def _write_credentials(file: Path, keys: Mapping[str, Mapping[str, str]]) -> None:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, "utf-8")
    except configparser.Error as error:
        raise ConfigError(f"{file}: it cannot be understood", hint="correct or remove it") from error
    for name, values in keys.items():
        parser[name] = values
    text = io.StringIO()
    parser.write(text)
    replace_private(file, text.getvalue())


def _imported(each: Translated, known: set[str]) -> ImportedRemote:
    note = None
    if each.needs is not None and each.needs not in known:
        note = f"it lies over {each.needs!r}, which is not configured here"
    elif each.values["type"] == "s3" and not each.credentials and not each.values.get("profile"):
        note = "its credentials come from where the tools of AWS take them"
    elif each.values["type"] == "rclone":
        note = "it is reached through rclone, which must be installed"
    elif each.values["type"] == "modal":
        note = "its credentials come from MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or from ~/.modal.toml"
    return ImportedRemote(name=each.name, type=each.values["type"], left_out=list(each.left_out), note=note)


def _say(outcome: ImportedRemotes) -> None:
    for each in outcome.imported:
        click.echo(f"{printable(each.name)}: {each.type}")
        if each.left_out:
            click.echo(f"  left out: {', '.join(map(printable, each.left_out))}")
        if each.note:
            click.echo(f"  {printable(each.note)}")
    for other in outcome.skipped:
        kind = f" ({printable(other.type)})" if other.type else ""
        click.echo(f"skipped {printable(other.name)}{kind}: {printable(other.reason)}")
    click.echo(f"{counted(len(outcome.imported), 'remote')} imported, {len(outcome.skipped)} skipped")
