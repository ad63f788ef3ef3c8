"""The gRPC half of the server: the volume methods of Modal's service, over the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from grpclib.encoding.base import StatusDetailsCodecBase
from modal_proto import api_grpc, api_pb2

from tests.modal_server.blocks import BlockServer
from tests.modal_server.faults import Counts, Faults, RpcFault
from tests.modal_server.store import (
    BLOCK,
    DIRECTORY,
    FILE,
    Node,
    Store,
    StoreError,
    Volume,
    absent,
    is_directory,
    normal,
)

Handler = Callable[[Any], Awaitable[Any]]


class DetailsCodec(StatusDetailsCodecBase):
    """Error details as Modal sends them: an RPCStatus that holds Any messages."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        form = api_pb2.RPCStatus(code=status.value, message=message or "")
        for detail in details or ():
            box = AnyMessage()
            box.Pack(detail, type_url_prefix="type.modal.com/")
            form.details.append(box)
        return form.SerializeToString()

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        return api_pb2.RPCStatus.FromString(data)


def _unimplemented(name: str) -> Callable[..., Awaitable[None]]:
    async def method(self: object, stream: Any) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not part of this server")

    return method


_REST = {name: _unimplemented(name) for name in api_grpc.ModalClientBase.__abstractmethods__}
_Base: Any = type("_Base", (api_grpc.ModalClientBase,), _REST)


class VolumeService(_Base):
    """Volume* of the service. `tokens`: the accepted pair of token id and secret."""

    def __init__(self, store: Store, blocks: BlockServer, faults: Faults, counts: Counts) -> None:
        self.store = store
        self.blocks = blocks
        self.faults = faults
        self.counts = counts
        self.tokens = ("ak-test", "as-test")
        self.headers: dict[str, str] = {}
        self._shadows: dict[tuple[str, str], tuple[Node | None, int]] = {}

    # the frame around every call

    async def _serve(self, name: str, stream: Any, handler: Handler) -> None:
        self.counts.rpc[name] += 1
        self.counts.rpc_now += 1
        self.counts.rpc_most = max(self.counts.rpc_most, self.counts.rpc_now)
        try:
            self._authorize(stream)
            request = await stream.recv_message()
            delay = self.faults.delay_of.get(name, self.faults.delay)
            if delay:
                await asyncio.sleep(delay)
            fault = self._fault(name)
            if fault is not None and not fault.after:
                raise _injected(fault)
            answer = await handler(request)
            if fault is not None:
                raise _injected(fault)
            if answer is not None:
                await stream.send_message(answer)
        except StoreError as error:
            raise GRPCError(Status[error.status], error.message) from None
        finally:
            self.counts.rpc_now -= 1

    def _authorize(self, stream: Any) -> None:
        self.headers = dict(stream.metadata)
        if not self.headers.get("x-modal-client-version") or not self.headers.get("x-modal-client-type"):
            raise GRPCError(Status.FAILED_PRECONDITION, "client version is missing")
        pair = (self.headers.get("x-modal-token-id"), self.headers.get("x-modal-token-secret"))
        if pair != self.tokens:
            raise GRPCError(Status.UNAUTHENTICATED, "Token ID is malformed or the secret does not match")

    def _fault(self, name: str) -> RpcFault | None:
        for fault in self.faults.rpc:
            if fault.method != name or fault.times <= 0:
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            if fault.action is not None:
                fault.action()
            return fault
        return None

    # volumes

    async def VolumeGetOrCreate(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            env, name = request.environment_name or "main", request.deployment_name
            volume = self.store.named(env, name)
            kind = request.object_creation_type
            if volume is None and kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise StoreError("NOT_FOUND", f"Volume '{name}' not found in environment '{env}'")
            if volume is not None and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
                raise StoreError("ALREADY_EXISTS", f"Volume '{name}' already exists")
            if volume is None:
                volume = self.store.create(env, name, request.version)
            return api_pb2.VolumeGetOrCreateResponse(volume_id=volume.id, metadata=_metadata(volume))

        await self._serve("VolumeGetOrCreate", stream, handle)

    async def VolumeGetById(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            volume = self.store.by_id(request.volume_id)
            return api_pb2.VolumeGetByIdResponse(volume_id=volume.id, metadata=_metadata(volume))

        await self._serve("VolumeGetById", stream, handle)

    async def VolumeList(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            env = request.environment_name or "main"
            before = request.pagination.created_before or float("inf")
            found = [v for v in self.store.volumes.values() if v.env == env and v.created < before]
            found.sort(key=lambda v: -v.created)
            items = [
                api_pb2.VolumeListItem(
                    label=v.name, volume_id=v.id, created_at=v.created, metadata=_metadata(v)
                )
                for v in found[: request.pagination.max_objects or 100]
            ]
            return api_pb2.VolumeListResponse(items=items, environment_name=env)

        await self._serve("VolumeList", stream, handle)

    async def VolumeDelete(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            self.store.drop(request.volume_id)
            return Empty()

        await self._serve("VolumeDelete", stream, handle)

    async def VolumeRename(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            self.store.rename(request.volume_id, request.name)
            return Empty()

        await self._serve("VolumeRename", stream, handle)

    # names

    def _volume(self, volume_id: str) -> Volume:
        volume = self.store.by_id(volume_id)
        if volume.version != 2:
            raise StoreError("FAILED_PRECONDITION", "this method needs a v2 volume")
        return volume

    def _look(self, volume: Volume, path: str) -> Node | None:
        """What a lookup sees: for a while after a put that may be the state before it."""
        shadow = self._shadows.get((volume.id, path))
        if shadow is None:
            return volume.find(path)
        node, left = shadow
        if left <= 1:
            del self._shadows[volume.id, path]
        else:
            self._shadows[volume.id, path] = (node, left - 1)
        return node

    async def VolumeListFiles2(self, stream: Any) -> None:
        async def handle(request: Any) -> None:
            volume, path = self._volume(request.volume_id), normal(request.path)
            entries = self._entries(volume, path, recursive=request.recursive)
            if request.HasField("max_entries"):
                entries = entries[: request.max_entries]
            await self._send_entries(stream, entries)

        await self._serve("VolumeListFiles2", stream, handle)

    def _entries(self, volume: Volume, path: str, *, recursive: bool) -> list[Any]:
        node = self._look(volume, path)
        if node is None:
            raise absent(path)
        if node.kind != DIRECTORY:
            return [_entry(path, node)]
        names = list(volume.below(path)) if recursive else sorted(volume.children.get(path, ()))
        self._refuse_many(path, names, recursive=recursive)
        looked = [(name, self._look(volume, name)) for name in names]
        return [_entry(name, found) for name, found in looked if found is not None]

    def _refuse_many(self, path: str, names: list[str], *, recursive: bool) -> None:
        limit = self.faults.too_many_files
        hidden = self.faults.unreadable
        bad = path in hidden or (recursive and any(name in hidden for name in names))
        if bad or (limit is not None and len(names) > limit):
            raise StoreError("FAILED_PRECONDITION", "Too many files to list in the path")

    async def _send_entries(self, stream: Any, entries: list[Any]) -> None:
        size = self.faults.list_batch
        for count, start in enumerate(range(0, len(entries), size)):
            if self.faults.list_dies_after is not None and count >= self.faults.list_dies_after:
                self.faults.list_deaths -= 1
                if self.faults.list_deaths <= 0:
                    self.faults.list_dies_after = None
                raise GRPCError(Status.UNAVAILABLE, "the stream died")
            await stream.send_message(api_pb2.VolumeListFiles2Response(entries=entries[start : start + size]))
            if self.faults.list_pause:
                await asyncio.sleep(self.faults.list_pause)

    async def VolumeGetFile2(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            volume, path = self._volume(request.volume_id), normal(request.path)
            node = self._look(volume, path)
            if node is None:
                raise absent(path)
            if node.kind == DIRECTORY:
                raise is_directory(path)
            return self._download(node, request)

        await self._serve("VolumeGetFile2", stream, handle)

    def _download(self, node: Node, request: Any) -> Any:
        start = min(request.start, node.size)
        end = min(start + request.len, node.size) if request.len else node.size
        urls = []
        self.blocks.calls += 1
        for index in range(start // BLOCK, -(-end // BLOCK) if end > start else start // BLOCK):
            low, high = max(start - index * BLOCK, 0), min(end - index * BLOCK, BLOCK)
            urls.append(
                self.blocks.get_url(node.blocks[index], low, high - low, pad=not request.client_pads_blocks)
            )
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=node.size, start=start, len=end - start)

    async def VolumePutFiles2(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            volume = self._volume(request.volume_id)
            missing = []
            self.blocks.calls += 1
            for index, file in enumerate(request.files):
                self._refuse_put(volume, file, create_only=request.disallow_overwrite_existing_files)
                missing += self._missing(volume, index, file)
            if not missing:
                for file in request.files:
                    self._commit(volume, file)
            return api_pb2.VolumePutFiles2Response(missing_blocks=missing)

        await self._serve("VolumePutFiles2", stream, handle)

    def _refuse_put(self, volume: Volume, file: Any, *, create_only: bool) -> None:
        path = normal(file.path)
        if not path:
            raise StoreError("INVALID_ARGUMENT", "empty path")
        node = volume.find(path)
        if node is not None and node.kind == DIRECTORY:
            raise is_directory(path)
        if node is not None and create_only:
            raise StoreError(self.faults.conflict_status, f'path "/{path}" already exists')
        if len(file.blocks) != -(-file.size // BLOCK):
            raise StoreError("INVALID_ARGUMENT", "the number of blocks does not fit the size")

    def _missing(self, volume: Volume, index: int, file: Any) -> list[Any]:
        node = volume.nodes.get(normal(file.path))
        held = set(node.blocks) if node is not None else set()
        found = []
        for number, block in enumerate(file.blocks):
            digest = block.contents_sha256
            known = digest in held or (self.faults.dedupe == "global" and self.store.has_block(digest))
            if known or self.blocks.redeem(digest, block.put_response):
                continue
            found.append(
                api_pb2.VolumePutFiles2Response.MissingBlock(
                    file_index=index, block_index=number, put_url=self.blocks.put_url(digest)
                )
            )
        return found

    def _commit(self, volume: Volume, file: Any) -> None:
        path = normal(file.path)
        old = volume.nodes.get(path)
        blocks = tuple(block.contents_sha256 for block in file.blocks)
        mode = file.mode if file.HasField("mode") else 0o644
        node = Node(FILE, self.store.now(), file.size, mode, blocks)
        if self.faults.put_keeps_mtime and old and (old.size, old.blocks) == (node.size, blocks):
            return
        if self.faults.invisible_lookups:
            self._shadows[volume.id, path] = (old, self.faults.invisible_lookups)
        self.store.set(volume, path, node)

    async def VolumeRemoveFile2(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            volume = self._volume(request.volume_id)
            path = normal(request.path)
            self.store.remove(
                volume, path, recursive=request.recursive, vanish=self.faults.directories_vanish
            )
            return Empty()

        await self._serve("VolumeRemoveFile2", stream, handle)

    async def VolumeCopyFiles2(self, stream: Any) -> None:
        async def handle(request: Any) -> Any:
            volume = self._volume(request.volume_id)
            sources = [normal(path) for path in request.src_paths]
            self.store.copy(volume, sources, normal(request.dst_path), recursive=request.recursive)
            return Empty()

        await self._serve("VolumeCopyFiles2", stream, handle)


def _injected(fault: RpcFault) -> GRPCError:
    details = None
    if fault.retry_after is not None:
        details = [api_pb2.RPCRetryPolicy(retry_after_secs=fault.retry_after)]
    return GRPCError(Status[fault.status], fault.message, details)


def _metadata(volume: Volume) -> Any:
    return api_pb2.VolumeMetadata(
        version=volume.version,
        name=volume.name,
        creation_info=api_pb2.CreationInfo(created_at=volume.created, created_by="tester"),
    )


def _entry(path: str, node: Node) -> Any:
    return api_pb2.FileEntry(path=path, type=node.kind, mtime=node.mtime, size=node.size)
