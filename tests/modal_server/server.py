"""Runs both halves on one asyncio loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from grpclib.config import Configuration
from grpclib.server import Server

from tests.modal_server.blocks import BlockServer
from tests.modal_server.faults import Counts, Faults
from tests.modal_server.service import DetailsCodec, VolumeService
from tests.modal_server.store import Store, Volume

T = TypeVar("T")
_WINDOW = 64 << 20


class ModalServer:
    """A server over the store in `root`. Use it as a context manager; `url` is known inside."""

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        tls: Callable[[str], ssl.SSLContext] | None = None,
    ) -> None:
        """`tls`: makes the context for a protocol of ALPN; without it all is in the clear."""
        self.faults = Faults()
        self.counts = Counts()
        self.store = Store(root, self._now)
        self.clock = clock
        self.port = port
        self._tls = tls
        self._blocks = BlockServer(self.store, self.faults, self.counts)
        self.service = VolumeService(self.store, self._blocks, self.faults, self.counts)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="modal-server", daemon=True)
        self._ready: Future[None] = Future()

    def _now(self) -> float:
        return self.clock()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def _scheme(self) -> str:
        return "https" if self._tls else "http"

    def environment(self, config: str = "/nonexistent/modal.toml") -> dict[str, str]:
        """The variables that make any client of Modal talk to this server."""
        token_id, secret = self.service.tokens
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": token_id,
            "MODAL_TOKEN_SECRET": secret,
            "MODAL_CONFIG_PATH": config,
            "MODAL_DISABLE_API_PROXY": "1",
        }

    def volume(self, name: str = "data", *, version: int = 2, env: str = "main") -> Volume:
        """The volume of that name, made when it is missing."""
        return self.do(lambda: self.store.named(env, name) or self.store.create(env, name, version))

    def do(self, action: Callable[[], T]) -> T:
        """Runs `action` on the server's loop, between two requests."""

        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(30)

    def __enter__(self) -> ModalServer:
        self._thread.start()
        self._ready.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self.store.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        config = Configuration(http2_connection_window_size=_WINDOW, http2_stream_window_size=_WINDOW)
        grpc = Server([self.service], status_details_codec=DetailsCodec(), config=config)
        runner = web.AppRunner(
            self._blocks.application(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls("http/1.1") if self._tls else None)
        await site.start()
        self._blocks.base = f"{self._scheme}://127.0.0.1:{runner.addresses[0][1]}"
        await grpc.start("127.0.0.1", self.port, ssl=self._tls("h2") if self._tls else None)
        self.port = grpc._server.sockets[0].getsockname()[1]
        self._ready.set_result(None)
        await self._stop.wait()
        grpc.close()
        await runner.cleanup()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await grpc.wait_closed()
        for transport in list(self._loop._transports.values()):
            transport.abort()
        await asyncio.sleep(0.01)  # closed connections go when the loop has turned once more
