"""Storages whose packages are an extra of ours, and are imported when a remote is opened."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mountsync.errors import ConfigError


@contextmanager
def extra(name: str, packages: Collection[str]) -> Iterator[None]:
    """Around the imports of a type named as its extra.

    Raises ConfigError when one of these top-level packages is missing; what else is missing is a defect.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages:
            raise
        raise ConfigError(
            f"remotes of type {name} need more packages", hint=f"pip install 'mountsync[{name}]'"
        ) from error
