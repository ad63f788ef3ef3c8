"""Modal storages over a local server, for tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

from mountsync.storage.modal.opening import open_modal
from mountsync.storage.modal.patience import Limits
from tests.modal_server import ModalServer

QUICK = Limits(connect=1.0, call=3.0, idle=2.0, first_delay=0.01)
"""Limits that let a test of a failure end soon."""


@asynccontextmanager
async def modal_storage(server: ModalServer, state: Path, path: str = "data", **options):
    """A storage on the server. `limits` and `now` go to `open_modal`; the rest are options."""
    keywords = {name: options.pop(name) for name in ("now", "limits", "lasting") if name in options}
    keywords.setdefault("limits", QUICK)
    environ = options.pop("environ", {}) | server.environment()
    storage = await open_modal(options, path, state, environ=environ, **keywords)
    try:
        yield storage
    finally:
        await storage.aclose()


def stored(server: ModalServer, path: str = "f") -> bytes | None:
    """What the server holds at the path of the volume `data`; None when nothing."""
    volume = server.volume("data")
    return server.do(lambda: server.store.content(volume, path) if path in volume.nodes else None)


def all_stored(server: ModalServer, volume: str = "data") -> dict[str, bytes]:
    """All files that the server holds in a volume."""
    place = server.volume(volume)
    return server.do(
        lambda: {p: server.store.content(place, p) for p, node in place.nodes.items() if node.kind == 1}
    )


def plant_now(server: ModalServer, path: str, data: bytes, **more):
    """A file as somebody else writes it; called on the server's own loop, as by a fault's action."""
    volume = server.store.named("main", "data")
    assert volume is not None
    return server.store.plant(volume, path, data, **more)


def plant(server: ModalServer, path: str, data: bytes, **more):
    """As `plant_now`, from elsewhere."""
    return server.do(lambda: plant_now(server, path, data, **more))
