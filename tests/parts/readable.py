"""Waits for what another program says; unlike `select.select`, on any number of a descriptor."""

from __future__ import annotations

import selectors
from typing import IO


def readable_within(source: int | IO[str], seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(seconds))
