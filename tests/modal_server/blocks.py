"""The HTTP half of the server: block uploads and downloads, at URLs that the gRPC half hands out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
from collections import Counter

from aiohttp import web

from tests.modal_server.faults import Counts, Faults
from tests.modal_server.store import BLOCK, Store


class BlockServer:
    """Serves `/block/...`. `base` is its address, set when it listens."""

    def __init__(self, store: Store, faults: Faults, counts: Counts) -> None:
        self.store = store
        self.faults = faults
        self.counts = counts
        self.base = ""
        self.calls = 0
        """Calls that handed out URLs."""
        self._used: Counter[str] = Counter()
        """How many URLs of each were used."""
        self._key = os.urandom(16)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2 * BLOCK)
        app.router.add_put("/block/{digest}", self._counted(self._put))
        app.router.add_get("/block/{digest}", self._counted(self._get))
        return app

    def put_url(self, digest: bytes) -> str:
        return f"{self.base}/block/{digest.hex()}?of={self.calls}"

    def get_url(self, digest: bytes, start: int, length: int, *, pad: bool) -> str:
        slice_ = f"start={start}&len={length}&pad={int(pad)}"
        return f"{self.base}/block/{digest.hex()}?{slice_}&of={self.calls}"

    def redeem(self, digest: bytes, token: bytes) -> bool:
        """Whether `token` is what the upload of this very block was answered with."""
        return hmac.compare_digest(self._token(digest), token)

    def _token(self, digest: bytes) -> bytes:
        return b"\xff\x00put:" + hmac.digest(self._key, digest, "sha256")

    def _counted(self, handler):
        async def counted(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            self.counts.connections.add(request.transport.get_extra_info("peername"))
            self.counts.blocks_now += 1
            self.counts.blocks_most = max(self.counts.blocks_most, self.counts.blocks_now)
            try:
                data = await request.read()
                if self.faults.block_delay:
                    await asyncio.sleep(self.faults.block_delay)
                return await handler(request, data)
            except (asyncio.CancelledError, ConnectionError):
                self.counts.disconnects += 1
                raise
            finally:
                self.counts.blocks_now -= 1

        return counted

    async def _put(self, request: web.Request, data: bytes) -> web.StreamResponse:
        self.counts.puts += 1
        self.counts.put_bytes += len(data)
        refused = _next(self.faults.put_status)
        if refused is None:
            refused = self._stale(request, self.faults.put_urls_last)
        if refused is not None:
            return self._refusal(request, refused)
        if len(data) > BLOCK:
            return web.Response(status=413)
        digest = await asyncio.to_thread(self.store.add_block, data)
        if digest.hex() != request.match_info["digest"]:
            return web.Response(status=400, text="the content does not have this digest")
        return web.Response(body=self._token(digest))

    async def _get(self, request: web.Request, _: bytes) -> web.StreamResponse:
        self.counts.gets += 1
        refused = _next(self.faults.get_status)
        if refused is None:
            refused = self._stale(request, self.faults.get_urls_last)
        if refused is not None:
            return self._refusal(request, refused)
        length = int(request.query["len"])
        digest = bytes.fromhex(request.match_info["digest"])
        data = await asyncio.to_thread(self.store.block, digest, int(request.query["start"]), length)
        if request.query["pad"] == "1" or not self.faults.omit_zeros:
            data = data.ljust(length, b"\0")
        return await self._send(request, data)

    async def _send(self, request: web.Request, data: bytes) -> web.StreamResponse:
        headers = {"Repr-Digest": _repr_digest(data)} if self.faults.send_digest else {}
        if self.faults.repr_digests:
            self.faults.repr_digests -= 1
            headers = {"Repr-Digest": self.faults.repr_digest or ""}
        if self.faults.get_drip:
            return await self._drip(request, data, headers)
        if self.faults.get_dies_after:
            return await self._die(request, data[: self.faults.get_dies_after.pop(0)], len(data), headers)
        body = self._spoil(data)
        self.counts.get_bytes += len(body)
        if len(body) == len(data):
            return web.Response(body=body, headers=headers)
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        await response.write_eof()
        return response

    async def _drip(self, request: web.Request, data: bytes, headers: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers | {"Content-Length": str(len(data))})
        await response.prepare(request)
        step = -(-len(data) // 100)
        for start in range(0, len(data), step):
            await response.write(data[start : start + step])
            await asyncio.sleep(self.faults.get_drip)
        return response

    async def _die(
        self, request: web.Request, body: bytes, length: int, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Announces `length` bytes, sends fewer, and closes the connection."""
        response = web.StreamResponse(headers=headers | {"Content-Length": str(length)})
        await response.prepare(request)
        await response.write(body)
        self.counts.get_bytes += len(body)
        assert request.transport is not None
        request.transport.close()
        return response

    def _stale(self, request: web.Request, last: int | None) -> int | None:
        call = request.query["of"]
        self._used[call] += 1
        if last is None or self._used[call] <= last:
            return None
        self.counts.stale_urls += 1
        return 403

    def _refusal(self, request: web.Request, status: int) -> web.StreamResponse:
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        after = self.faults.block_retry_after
        headers = {} if after is None else {"Retry-After": after}
        return web.Response(status=status or 500, text="injected", headers=headers)

    def _spoil(self, data: bytes) -> bytes:
        if self.faults.get_truncate:
            self.faults.get_truncate -= 1
            return data[: len(data) // 3]
        if self.faults.get_overlong:
            self.faults.get_overlong -= 1
            return data + b"more"
        if self.faults.get_corrupt and data:
            self.faults.get_corrupt -= 1
            return bytes([data[0] ^ 1]) + data[1:]
        return data


def _next(statuses: list[int]) -> int | None:
    return statuses.pop(0) if statuses else None


def _repr_digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"
