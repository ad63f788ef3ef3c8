"""`mountsync version`."""

from __future__ import annotations

import importlib.metadata
import platform

import click

from mountsync import __version__
from mountsync.cli.forms import Versions
from mountsync.cli.output import emit_json


def versions() -> dict[str, str]:
    """The program, the interpreter and the libraries that matter for bug reports."""
    found = {"mountsync": __version__, "python": platform.python_version()}
    for library in ("pyfuse3", "trio", "apsw"):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "not installed"
    return found | {"kernel": platform.release()}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(*, as_json: bool) -> None:
    """Print the versions of mountsync and of what it stands on."""
    if as_json:
        emit_json(Versions(versions=versions()))
        return
    for name, text in versions().items():
        click.echo(f"{name} {text}")
