"""The one room that speaks Modal's protocol: gRPC by grpclib, blocks over HTTP, on one asyncio loop.

Messages come from the package `modal_proto`; Modal's own client is not used. The protocol is not
published as stable: only the calls and fields below are relied on, and `check_protocol` looks at them.
"""

from __future__ import annotations

import asyncio
import math
import platform
import random
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from typing import Any, Final, TypeVar
from urllib.parse import quote
from urllib.request import getproxies

from grpclib.exceptions import GRPCError
from modal_proto import api_grpc, api_pb2

from mountsync.errors import (
    AlreadyExists,
    ConfigError,
    MountsyncError,
    NameRefused,
    NotFound,
    Throttled,
    Unreachable,
    Unsupported,
)
from mountsync.storage.api import Into
from mountsync.storage.modal.batches import Looks, Puts
from mountsync.storage.modal.blocks import BlockCourier
from mountsync.storage.modal.bridge import AsyncioThread, Flowing
from mountsync.storage.modal.channels import LOST, Channels, Link
from mountsync.storage.modal.patience import Limits, Patience
from mountsync.storage.modal.pouring import Pouring
from mountsync.storage.modal.refusals import RETRIED, MaybeOurs, TryAgain, UrlRefused, refusal
from mountsync.storage.modal.road import Road
from mountsync.storage.modal.settings import Settings
from mountsync.storage.modal.sinks import HANDED_AHEAD, Handed
from mountsync.storage.modal.transport import (
    FilePut,
    Located,
    NativeEntry,
    NativeKind,
    Small,
    SmallPut,
    VolumeFound,
)

T = TypeVar("T")

_PAGE: Final = 100
_PAGE_MOST: Final = 1600
"""Volumes that are asked for at once: Modal's own clients ask for the first number."""
_SMALL_RANGE: Final = 1 << 20
"""Ranges up to this size in bytes are read in one go."""
_FIELDS: Final[Mapping[str, Mapping[str, int]]] = {
    "VolumeGetOrCreateRequest": {"deployment_name": 1, "environment_name": 3, "object_creation_type": 4},
    "VolumeGetByIdRequest": {"volume_id": 1},
    "VolumeListFiles2Request": {"volume_id": 1, "path": 2, "max_entries": 3, "recursive": 4},
    "FileEntry": {"path": 1, "type": 2, "mtime": 3, "size": 4},
    "VolumeGetFile2Request": {"volume_id": 1, "path": 2, "start": 3, "len": 4},
    "VolumeGetFile2Response": {"get_urls": 1, "size": 2},
    "VolumePutFiles2Request": {"volume_id": 1, "files": 2, "disallow_overwrite_existing_files": 3},
    "VolumePutFiles2Response": {"missing_blocks": 1},
    "VolumeRemoveFile2Request": {"volume_id": 1, "path": 2, "recursive": 3},
    "VolumeCopyFiles2Request": {"volume_id": 1, "src_paths": 2, "dst_path": 3},
}


def check_protocol() -> None:
    """Raises ConfigError when the installed messages are not those that this room was written for."""
    for name, fields in _FIELDS.items():
        message = getattr(api_pb2, name, None)
        known = message.DESCRIPTOR.fields_by_name if message is not None else {}
        for field, number in fields.items():
            if field not in known or known[field].number != number:
                raise ConfigError(
                    f"the installed package `modal` has another protocol ({name}.{field})",
                    hint="install the version of `modal` that mountsync[modal] asks for",
                )


class ModalRpc:
    """A `Transport` to one account and environment. Connects when first used; `aclose` ends it."""

    def __init__(self, settings: Settings, limits: Limits | None = None) -> None:
        check_protocol()
        self._settings = settings
        self._limits = limits or Limits()
        self._thread = AsyncioThread("mountsync-modal")
        road = Road(getproxies() if settings.proxies else {}, "h2")
        self._channels = Channels(settings.servers, self._limits.connect, road)
        self._blocks = BlockCourier(self._limits, proxies=settings.proxies)
        self._pouring = Pouring(self._limits, proxies=settings.proxies)
        self._calls = asyncio.Semaphore(self._limits.calls_at_once)
        self._looks = Looks(self._look_once, self._look_in, self._busy)
        self._puts = Puts(self._put_files, self._busy)
        self._stub_of: object = None
        self._stub_made: Any = None
        self._identity = partial(_identity, settings)

    def _busy(self) -> int:
        return self._thread.busy

    # the face, called from trio

    async def find_volume(self, name: str, *, create: bool) -> VolumeFound | None:
        return await self._thread.run(lambda: self._find_volume(name, create=create))

    async def volume_exists(self, volume: str) -> bool:
        return await self._thread.run(lambda: self._volume_exists(volume))

    async def list_volumes(self) -> Sequence[VolumeFound]:
        return await self._thread.run(self._list_volumes)

    async def list_files(self, volume: str, path: str, *, recursive: bool) -> Sequence[NativeEntry]:
        return await self._thread.run(lambda: self._list_files(volume, path, recursive=recursive))

    async def look(self, volume: str, path: str) -> NativeEntry | None:
        return await self._thread.run(lambda: self._look(volume, path))

    async def locate(self, volume: str, path: str, start: int, length: int) -> Located:
        return await self._thread.run(lambda: self._locate(volume, path, start, length))

    async def begin(self, volume: str, path: str, start: int, length: int) -> tuple[Located, Small | None]:
        return await self._thread.run(lambda: self._begin(volume, path, start, length))

    @property
    def limits(self) -> Limits:
        return self._limits

    async def put_small(
        self, volume: str, file: FilePut, block: bytes, *, create_only: bool, within: float
    ) -> SmallPut:
        return await self._thread.run(
            lambda: self._put_small(volume, file, block, create_only=create_only, within=within)
        )

    async def put_file(
        self, volume: str, file: FilePut, *, create_only: bool, within: float
    ) -> Mapping[bytes, str]:
        return await self._thread.run(
            lambda: self._puts.put(volume, file, create_only=create_only, within=within)
        )

    async def remove(self, volume: str, path: str, *, within: float) -> None:
        await self._thread.run(lambda: self._remove(volume, path, within))

    async def copy(self, volume: str, source: str, target: str, *, within: float) -> None:
        await self._thread.run(lambda: self._copy(volume, source, target, within))

    async def send_block(self, url: str, data: bytes | memoryview) -> bytes:
        return await self._thread.run(lambda: self._blocks.send(url, data))

    def fetch_block(self, url: str, length: int) -> Flowing[bytes]:
        return self._thread.flow(
            lambda flow: self._blocks.deliver(url, length, Handed(flow)), waiting=HANDED_AHEAD
        )

    def pour_block(self, url: str, start: int, length: int, into: Into) -> Flowing[int]:
        return self._pouring.begin(url, start, length, into)

    async def aclose(self) -> None:
        await self._pouring.aclose()
        await self._thread.aclose(self._end)

    async def _end(self) -> None:
        self._channels.close()
        await self._blocks.close()

    # the calls, on the asyncio loop

    async def _find_volume(self, name: str, *, create: bool) -> VolumeFound | None:
        kind = "OBJECT_CREATION_TYPE_CREATE_IF_MISSING" if create else "OBJECT_CREATION_TYPE_UNSPECIFIED"
        request = api_pb2.VolumeGetOrCreateRequest(
            deployment_name=name,
            environment_name=self._settings.environment,
            object_creation_type=api_pb2.ObjectCreationType.Value(kind),
            version=api_pb2.VOLUME_FS_VERSION_V2,
        )
        try:
            answer = await self._unary("VolumeGetOrCreate", request, name)
        except NotFound as error:
            if create or _is_about_environment(error):
                raise self._no_environment(error) from error
            return None
        return VolumeFound(answer.volume_id, name, answer.metadata.version or 1)

    def _no_environment(self, error: NotFound) -> ConfigError:
        name = self._settings.environment
        which = f"the environment {name!r}" if name else "the account's default environment"
        return ConfigError(
            f"Modal does not know {which}: {error.reason}",
            hint="correct MODAL_ENVIRONMENT or the option environment; see `modal environment list`",
        )

    async def _volume_exists(self, volume: str) -> bool:
        request = api_pb2.VolumeGetByIdRequest(volume_id=volume)
        try:
            await self._unary("VolumeGetById", request, None)
        except NotFound:
            return False
        return True

    async def _list_volumes(self) -> Sequence[VolumeFound]:
        """All volumes, newest first.

        The next page begins with the moment at which this one ends, since more volumes may be of that
        moment; where a page brings nothing new a larger one is asked for.
        """
        found: dict[str, VolumeFound] = {}
        before, size = 0.0, _PAGE
        while size <= _PAGE_MOST:
            page = api_pb2.ListPagination(max_objects=size, created_before=before)
            request = api_pb2.VolumeListRequest(environment_name=self._settings.environment, pagination=page)
            try:
                items = (await self._unary("VolumeList", request, None)).items
            except NotFound as error:
                raise self._no_environment(error) from error
            known = len(found)
            found |= {item.volume_id: _found(item) for item in items}
            if len(items) < _PAGE:
                return list(found.values())
            before = math.nextafter(items[-1].metadata.creation_info.created_at, math.inf)
            size = _PAGE if len(found) > known else 2 * size
        raise Unsupported("more volumes were made in one moment than Modal lists")

    async def _list_files(self, volume: str, path: str, *, recursive: bool) -> Sequence[NativeEntry]:
        request = api_pb2.VolumeListFiles2Request(volume_id=volume, path=_wire(path), recursive=recursive)
        return (await self._listing(request, path, self._limits.stream))[0]

    async def _look(self, volume: str, path: str) -> NativeEntry | None:
        return await self._looks.ask(volume, path)

    async def _look_in(
        self, volume: str, folder: str, wanted: Collection[str]
    ) -> tuple[Sequence[NativeEntry], int]:
        """Those of the wanted paths that are in the folder, and how many entries it has."""
        request = api_pb2.VolumeListFiles2Request(volume_id=volume, path=_wire(folder))
        return await self._listing(request, folder, self._limits.call, wanted)

    async def _look_once(self, volume: str, path: str) -> Sequence[NativeEntry]:
        """At most one entry: the file's own, or one of those in the directory."""
        request = api_pb2.VolumeListFiles2Request(volume_id=volume, path=_wire(path), max_entries=1)
        return (await self._listing(request, path, self._limits.call))[0]

    async def _listing(
        self, request: Any, path: str, within: float, wanted: Collection[str] | None = None
    ) -> tuple[Sequence[NativeEntry], int]:
        """The whole stream, or the wanted paths of it; one that dies is begun again from its start.

        All ends `within` seconds after it was begun first, however steadily a little comes.
        """
        end: float | None = None

        async def attempt(patience: Patience) -> tuple[Sequence[NativeEntry], int]:
            nonlocal end
            end = time.monotonic() + within if end is None else end
            patience.left()  # from now on, but for what `renew` says
            found: list[NativeEntry] = []
            count = 0

            def take(entries: Sequence[Any]) -> None:
                nonlocal count
                count += len(entries)
                patience.renew()
                found.extend(_entry(each) for each in entries if _is_wanted(each.path, wanted))

            await self._stream(request, end - time.monotonic(), take)
            return found, count

        return await self._persist(attempt, path)

    async def _stream(self, request: Any, seconds: float, take: Callable[[Sequence[Any]], None]) -> None:
        """Takes what one stream brings; it has so many seconds, and a moment from one batch to the next."""
        async with self._channels.use(seconds) as link:
            call = self._stub(link).VolumeListFiles2.open(metadata=self._headers())
            async with call as stream:
                async with asyncio.timeout(self._limits.idle):
                    await stream.send_message(request, end=True)
                while True:
                    async with asyncio.timeout(self._limits.idle):
                        batch = await stream.recv_message()
                    if batch is None:
                        return
                    take(batch.entries)

    async def _locate(self, volume: str, path: str, start: int, length: int) -> Located:
        request = api_pb2.VolumeGetFile2Request(volume_id=volume, path=_wire(path), start=start, len=length)
        answer = await self._unary("VolumeGetFile2", request, path)
        return Located(tuple(answer.get_urls), answer.size)

    async def _begin(self, volume: str, path: str, start: int, length: int) -> tuple[Located, Small | None]:
        located = await self._locate(volume, path, start, length)
        size = min(start + length, located.size) - start
        if len(located.urls) != 1 or not 0 < size <= _SMALL_RANGE:
            return located, None
        look = self._looks.ask(volume, path)
        look.add_done_callback(_heard)
        try:
            body = await self._blocks.fetch(located.urls[0], size)
            return located, Small(await look, body)
        except UrlRefused:
            return located, None
        finally:
            look.cancel()

    async def _put_small(
        self, volume: str, file: FilePut, block: bytes, *, create_only: bool, within: float
    ) -> SmallPut:
        missing = await self._puts.put(volume, file, create_only=create_only, within=within)
        if not missing:
            return SmallPut(done=True, entry=await self._looks.ask(volume, file.path))
        receipts = {}
        for digest, url in missing.items():
            with suppress(UrlRefused):
                receipts[digest] = await self._blocks.send(url, block)
        return SmallPut(done=False, receipts=receipts)

    async def _put_files(
        self, volume: str, files: Sequence[FilePut], *, create_only: bool, within: float
    ) -> list[dict[bytes, str]]:
        """Missing blocks of each file. MaybeOurs when a retry was refused by what is there.

        Only Modal's own refusal of what is there already makes it safe to try again unseen.
        """
        request = api_pb2.VolumePutFiles2Request(
            volume_id=volume,
            files=map(_file, files),
            disallow_overwrite_existing_files=create_only,
        )
        path = files[0].path if len(files) == 1 else None
        if create_only:
            answer = await self._unary("VolumePutFiles2", request, path, within)
        else:
            answer = await self._once("VolumePutFiles2", request, path, within)
        missing: list[dict[bytes, str]] = [{} for _ in files]
        for block in answer.missing_blocks:
            file = files[block.file_index]
            missing[block.file_index].setdefault(file.blocks[block.block_index], block.put_url)
        return missing

    async def _remove(self, volume: str, path: str, within: float) -> None:
        request = api_pb2.VolumeRemoveFile2Request(volume_id=volume, path=_wire(path))
        await self._once("VolumeRemoveFile2", request, path, within)

    async def _copy(self, volume: str, source: str, target: str, within: float) -> None:
        request = api_pb2.VolumeCopyFiles2Request(
            volume_id=volume, src_paths=[_wire(source)], dst_path=_wire(target)
        )
        await self._once("VolumeCopyFiles2", request, source, within)

    # the frame around a call

    async def _unary(self, method: str, request: Any, path: str | None, within: float | None = None) -> Any:
        """A call that may be tried again as it is: it changes nothing, or is safe at any time."""
        key = _new_key()

        async def attempt(patience: Patience) -> Any:
            async with self._channels.use(patience.left()) as link:
                return await getattr(self._stub(link), method)(request, metadata=self._headers(key))

        return await self._persist(attempt, path, within)

    async def _once(self, method: str, request: Any, path: str | None, within: float) -> Any:
        """One attempt at a call that changes something. Raises TryAgain where another may succeed."""
        async with self._calls:
            try:
                async with self._channels.use(within) as link:
                    return await getattr(self._stub(link), method)(request, metadata=self._headers())
            except GRPCError as refused:
                raise _again(refused, path) from refused
            except LOST as lost:
                raise TryAgain(_lost(lost), doubtful=True) from lost

    async def _persist(
        self, attempt: Callable[[Patience], Awaitable[T]], path: str | None, within: float | None = None
    ) -> T:
        """Runs `attempt` until it succeeds, is refused, or patience ends."""
        patience = Patience(self._limits, time.monotonic, random.random, within)
        while True:
            delay, error = None, None
            async with self._calls:
                try:
                    return await attempt(patience)
                except GRPCError as refused:
                    delay, error = _judge(refused, patience, path)
                except LOST as lost:
                    delay, error = patience.after_loss(), _lost(lost)
            if delay is None:
                raise error
            await asyncio.sleep(delay)

    def _stub(self, link: Link) -> Any:
        """The calls of a connection. Made once for the present one: it has some hundred methods."""
        if link is not self._stub_of:
            self._stub_of, self._stub_made = link, api_grpc.ModalClientStub(link)
        return self._stub_made

    def _headers(self, key: str | None = None) -> dict[str, str]:
        extra = {"x-idempotency-key": key or _new_key(), "x-modal-timestamp": str(time.time())}
        return self._identity() | extra


def _judge(refused: GRPCError, patience: Patience, path: str | None) -> tuple[float | None, MountsyncError]:
    """The wait before another attempt (None: no more) and the error otherwise."""
    retry_after = _retry_after(refused.details)
    was_doubtful = patience.doubtful
    delay = patience.after_refusal(refused.status.name, retry_after)
    if retry_after is not None:
        return delay, _asked_to_wait(refused, retry_after, path)
    error = refusal(refused.status.name, refused.message or "", path)
    if was_doubtful and type(error) is AlreadyExists:
        return None, MaybeOurs(error.reason, path=path)
    return delay, error


def _again(refused: GRPCError, path: str | None) -> MountsyncError:
    """What a refused attempt is to its caller: TryAgain where another one may succeed."""
    retry_after, status = _retry_after(refused.details), refused.status.name
    error = refusal(status, refused.message or "", path)
    if retry_after is not None:
        error = _asked_to_wait(refused, retry_after, path)
    elif status not in RETRIED:
        return error
    return TryAgain(error, doubtful=status in RETRIED, retry_after=retry_after)


def _asked_to_wait(refused: GRPCError, retry_after: float, path: str | None) -> Throttled:
    reason = f"Modal asks to slow down: {refused.message or ''}"
    return Throttled(reason, retry_after=retry_after, path=path)


def _lost(lost: BaseException) -> Unreachable:
    reason = "Modal did not answer in time" if isinstance(lost, TimeoutError) else "Modal cannot be reached"
    detail = getattr(lost, "strerror", None) or type(lost).__name__
    return Unreachable(f"{reason}: {detail}", hint="check the network, and MODAL_SERVER_URL if it is set")


def _retry_after(details: Any) -> float | None:
    for detail in details or ():
        if isinstance(detail, api_pb2.RPCRetryPolicy):
            return float(detail.retry_after_secs)
    return None


@cache
def _identity(settings: Settings) -> dict[str, str]:
    """What Modal wants to know with every call. It holds the secrets, so nothing else keeps it."""
    return {
        "x-modal-client-version": version("modal"),
        "x-modal-client-type": str(api_pb2.CLIENT_TYPE_CLIENT),
        "x-modal-python-version": ".".join(platform.python_version_tuple()[:3]),
        "x-modal-node": quote(platform.node()),
        "x-modal-platform": quote(platform.platform()),
        "x-modal-token-id": settings.credentials.token_id,
        "x-modal-token-secret": settings.credentials.token_secret,
    }


def _heard(task: asyncio.Future[Any]) -> None:
    """An error that nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()


def _new_key() -> str:
    """A key that tells one call from others, the same for all its attempts."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _wire(path: str) -> str:
    """The path as messages have it. Raises NameRefused for one that no message can hold."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise NameRefused("Modal has only names in UTF-8", path=path) from None
    return f"/{path}"


def _is_wanted(path: str, wanted: Collection[str] | None) -> bool:
    return wanted is None or path.strip("/") in wanted


def _is_about_environment(error: NotFound) -> bool:
    """Whether Modal misses the environment, and not what was asked for in it."""
    return re.match(r"not found: (the )?environment\b", error.reason, re.IGNORECASE) is not None


def _found(item: Any) -> VolumeFound:
    return VolumeFound(item.volume_id, item.label, item.metadata.version)


def _entry(entry: Any) -> NativeEntry:
    kind = _KINDS.get(entry.type, NativeKind.OTHER)
    return NativeEntry(entry.path.strip("/"), kind, entry.size, entry.mtime)


def _file(file: FilePut) -> Any:
    blocks = [
        api_pb2.VolumePutFiles2Request.Block(contents_sha256=digest, put_response=file.receipts.get(digest))
        for digest in file.blocks
    ]
    return api_pb2.VolumePutFiles2Request.File(path=_wire(file.path), size=file.size, blocks=blocks)


_KINDS: Final = {kind.value: kind for kind in NativeKind if kind is not NativeKind.OTHER}
