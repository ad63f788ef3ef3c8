"""Calls to Modal over bad lines: each ends, and none takes others along."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial

import pytest
import trio

from mountsync.errors import NameRefused, Unreachable
from mountsync.model.entry import Entry
from mountsync.paths import ROOT, RelPath
from mountsync.storage.modal.patience import Limits
from mountsync.storage.modal.transport import FilePut
from tests.modal_server import ModalServer
from tests.parts.bodies import body, get, items, put
from tests.parts.modal import QUICK, modal_storage, plant
from tests.parts.tls import certificate, server_context

F = RelPath("f")
BLOCK = 8 << 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def black_hole(port):
    """An address at which nobody answers, not even with a refusal: its line is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with pytest.raises(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        yield


# ---- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["b\udcff", "d/\udcff", "\udcff/f"])
async def test_a_name_that_no_message_can_hold_is_refused(server, storage, path):
    transport, volume = storage._transport, server.volume("data").id
    with trio.fail_after(10):
        with pytest.raises(NameRefused):
            await transport.look(volume, path)
        with pytest.raises(NameRefused):
            await transport.list_files(volume, path, recursive=True)
        with pytest.raises(NameRefused):
            await transport.remove(volume, path, within=3.0)
        for create_only in (False, True):
            with pytest.raises(NameRefused):
                file = FilePut(path, 1, (b"x" * 32,))
                await transport.put_file(volume, file, create_only=create_only, within=3.0)


# ---- lines ------------------------------------------------------------------------------------------


async def test_a_line_that_was_lost_and_leads_nowhere_now(server, tmp_path):
    """Nobody was calling when it went; then the address swallows everything."""
    async with modal_storage(server, tmp_path / "state", sidecar_metadata=False) as storage:
        await put(storage, "f", b"data")
        server.__exit__()
        await trio.sleep(0.3)
        with black_hole(server.port):
            for _ in range(2):
                began = time.monotonic()
                with trio.fail_after(60), pytest.raises(Unreachable):
                    await storage.stat(F)
                assert time.monotonic() - began < 4 * QUICK.connect + 3


@pytest.mark.parametrize("hole", [False, True])
async def test_another_server_takes_over(tmp_path, hole):
    port = free_port()
    with ExitStack() as stack:
        first = stack.enter_context(ModalServer(tmp_path / "server"))
        first.volume("data")
        environ = first.environment() | {"MODAL_SERVER_URL": f"{first.url},http://127.0.0.1:{port}"}
        first.environment = lambda: environ
        async with modal_storage(first, tmp_path / "state", sidecar_metadata=False) as storage:
            await put(storage, "f", b"data")
            second = stack.enter_context(ModalServer(tmp_path / "server", port=port))
            first.__exit__()
            if hole:
                stack.enter_context(black_hole(first.port))
            with trio.fail_after(60):
                assert await get(storage, "f") == b"data"
                await put(storage, "g", b"more")
            assert second.counts.rpc["VolumePutFiles2"] == 2


async def test_a_silent_line_is_left_for_another(server, tmp_path):
    """Calls that are not answered say nothing, two in a row are enough; what is answered goes on."""
    limits = Limits(connect=1.0, call=1.0, idle=1.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "state", limits=limits, sidecar_metadata=False) as storage:
        await put(storage, "f", b"data")
        channels = storage._transport._channels
        line = channels._link
        server.faults.delay_of = {"VolumeGetFile2": 9.0}
        for is_first in (True, False):
            with pytest.raises(Unreachable):
                await get(storage, "f")
            assert (channels._link is line) is is_first
        server.faults.delay_of = {}
        assert await get(storage, "f") == b"data"
        assert channels._link is not line
        assert not line.is_open


async def test_one_slow_call_takes_no_other_along(server, tmp_path):
    limits = Limits(connect=1.0, call=3.0, idle=3.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "state", limits=limits, sidecar_metadata=False) as storage:
        for n in range(5):
            await put(storage, f"d{n}/f", b"data")
        server.faults.delay_of = {"VolumeGetFile2": 60.0, "VolumeListFiles2": 1.2}
        found = []

        async def slow(delay):
            await trio.sleep(delay)
            with pytest.raises(Unreachable):
                await get(storage, "d0/f")

        async def look(n):
            for _ in range(4):
                found.append(await storage.stat(RelPath(f"d{n}/f")))

        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(slow, n * 0.4)
                nursery.start_soon(look, n)
        assert len(found) == 20
        assert all(isinstance(entry, Entry) for entry in found)


async def test_many_who_find_no_server_are_told_together(server, tmp_path):
    async with modal_storage(server, tmp_path / "state", sidecar_metadata=False) as storage:
        await put(storage, "f", b"data")
        server.__exit__()

        async def look(n):
            with pytest.raises(Unreachable):
                await storage.stat(RelPath(f"d/f{n}"))

        with black_hole(server.port), trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for n in range(300):
                    nursery.start_soon(look, n)


# ---- ends -------------------------------------------------------------------------------------------


async def test_a_listing_that_never_ends(server, tmp_path):
    limits = Limits(connect=3.0, call=3.0, idle=1.0, stream=3.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "state", limits=limits, sidecar_metadata=False) as storage:
        for n in range(50):
            plant(server, f"d/f{n}", b"x")
        server.faults.list_batch, server.faults.list_pause = 1, 0.5
        began = time.monotonic()
        with trio.fail_after(30), pytest.raises(Unreachable):
            async with storage.list(ROOT, recursive=True) as batches:
                async for _ in batches:
                    pass
        assert time.monotonic() - began < 15, "it would take 25 s"
        server.faults.list_pause = 0.003
        assert len(await items(storage)) == 51


async def test_a_slow_listing_may_take_longer_than_a_call(server, tmp_path):
    limits = Limits(connect=2.0, call=2.0, idle=5.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "state", limits=limits, sidecar_metadata=False) as storage:
        for n in range(10):
            plant(server, f"d/f{n}", b"x")
        server.faults.list_batch, server.faults.list_pause = 1, 0.25
        assert len(await items(storage)) == 11


async def test_a_call_that_names_many_blocks_has_longer(server, tmp_path):
    limits = Limits(connect=1.0, call=1.0, idle=1.0, per_block=1.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "state", limits=limits, sidecar_metadata=False) as storage:
        entry = await put(storage, "f", b"data")
        server.faults.delay_of = {"VolumePutFiles2": 1.8}
        entry = await put(storage, "f", body(2 * BLOCK + 5), expect=entry.token)
        await put(storage, "g", body(2 * BLOCK + 5))
        with trio.fail_after(30), pytest.raises(Unreachable):
            server.faults.delay_of = {"VolumePutFiles2": 3.0}
            await put(storage, "f", b"little", expect=entry.token)


# ---- TLS and proxies --------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path, monkeypatch):
    """A server that speaks TLS only, with a certificate that this process trusts."""
    both = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(both))
    with ModalServer(tmp_path / "server", tls=partial(server_context, both)) as server:
        server.volume("data")
        yield server


async def use_all(storage):
    """What a storage does, once each."""
    data = body(BLOCK + 5)
    entry = await put(storage, "d/f", data, mtime_ns=10**18)
    await put(storage, "d/g", b"small", mtime_ns=10**18)
    assert await get(storage, "d/f", expect=entry.token) == data
    assert await get(storage, "d/g") == b"small"
    await storage.move(RelPath("d/g"), RelPath("d/h"))
    await storage.delete(RelPath("d/f"))
    await storage.barrier()
    assert set(await items(storage)) == {"d", "d/h"}
    assert (await storage.stat(RelPath("d/h"))).mtime_ns == 10**18


async def test_all_of_it_over_tls(secure, tmp_path):
    async with modal_storage(secure, tmp_path / "state") as storage:
        await use_all(storage)


async def test_a_server_with_an_unknown_certificate_is_refused(secure, tmp_path, monkeypatch):
    (tmp_path / "none.pem").write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Unreachable):
        async with modal_storage(secure, tmp_path / "state"):
            pass
    assert not secure.counts.rpc


@asynccontextmanager
async def proxy(answer=b"HTTP/1.1 200 Go\r\n\r\n"):
    """A proxy that knows CONNECT only; yields its port and the heads that it was sent."""
    heads = []

    async def pump(source, sink, scope):
        with suppress(trio.BrokenResourceError):
            async for piece in source:
                await sink.send_all(piece)
        scope.cancel()

    async def serve(stream):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some(1 << 16)
        heads.append(head.decode())
        await stream.send_all(answer)
        if b" 200 " not in answer:
            return
        host, _, port = head.split()[1].partition(b":")
        other = await trio.open_tcp_stream(host.decode(), int(port))
        async with other, trio.open_nursery() as nursery:
            nursery.start_soon(pump, other, stream, nursery.cancel_scope)
            nursery.start_soon(pump, stream, other, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1], heads
        nursery.cancel_scope.cancel()


def by_proxy(server, monkeypatch, url, **more):
    """The environment of a client that is to go through a proxy."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.setenv("https_proxy", url)
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    environ = server.environment() | {"MODAL_DISABLE_API_PROXY": "0"}
    server.environment = lambda: environ


async def test_all_of_it_through_a_proxy(secure, tmp_path, monkeypatch):
    async with proxy() as (port, heads):
        by_proxy(secure, monkeypatch, f"http://me:pass@127.0.0.1:{port}")
        async with modal_storage(secure, tmp_path / "state") as storage:
            await use_all(storage)
        calls = [head for head in heads if head.startswith(f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1\r\n")]
        assert len(calls) == 1
        assert "Proxy-Authorization: Basic bWU6cGFzcw==\r\n" in calls[0]
        assert len(heads) > 1, "blocks go through it too"


async def test_calls_in_the_clear_through_a_proxy(server, tmp_path, monkeypatch):
    async with proxy() as (port, heads):
        by_proxy(server, monkeypatch, f"http://127.0.0.1:{port}")
        async with modal_storage(server, tmp_path / "state", sidecar_metadata=False) as storage:
            assert await storage.stat(F) is None
        assert len(heads) == 1


async def test_no_proxy_is_heeded(server, tmp_path, monkeypatch):
    by_proxy(server, monkeypatch, "http://127.0.0.1:9", no_proxy="127.0.0.1")
    async with modal_storage(server, tmp_path / "state") as storage:
        await use_all(storage)


async def test_a_proxy_that_refuses_is_told(secure, tmp_path, monkeypatch):
    async with proxy(b"HTTP/1.1 407 Who\r\n\r\n") as (port, _):
        by_proxy(secure, monkeypatch, f"http://127.0.0.1:{port}")
        with pytest.raises(Unreachable, match="407"):
            async with modal_storage(secure, tmp_path / "state"):
                pass
