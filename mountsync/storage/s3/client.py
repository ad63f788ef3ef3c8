"""Calls to one bucket, each in a thread, with errors of ours.

botocore signs, finds the credentials and tries again for some seconds. What it logs may hold signed
headers, so it is kept quiet.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

import trio
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader
from botocore.session import Session

from mountsync.storage.s3.refusals import refusal
from mountsync.storage.s3.settings import Settings, is_amazon

_CONNECT_SECONDS: Final = 4
_READ_SECONDS: Final = 30
_ATTEMPTS: Final = 3
_THREADS: Final = 16
DEFAULT_REGION: Final = "us-east-1"
_LOADER: Final = create_loader()
"""Keeps the description of S3, which takes a tenth of a second to read."""

Answer = Mapping[str, Any]


class Client:
    """One bucket on one server. `call` may be used by many tasks at once."""

    def __init__(self, settings: Settings) -> None:
        """Connects to nothing yet; `start` must come first."""
        self.bucket = settings.bucket
        self._settings = settings
        self._client: Any = None
        self._threads = trio.CapacityLimiter(max(_THREADS, 2 * settings.concurrency))
        self.knows_amazon = False
        """Whether the server is Amazon's, whose abilities need no probe."""
        self.address = ""
        self.region = DEFAULT_REGION

    def __repr__(self) -> str:
        return f"Client({self.address}, {self.bucket})"

    async def start(self) -> None:
        """Reads the configuration of AWS. Raises ConfigError."""
        try:
            await trio.to_thread.run_sync(self._start)
        except (BotoCoreError, ValueError) as error:
            raise refusal(error, self.bucket, None) from None

    def _start(self) -> None:
        logging.getLogger("botocore").setLevel(logging.WARNING)
        settings = self._settings
        session = Session(profile=settings.profile)
        if settings.credentials is not None:
            session.set_config_variable("credentials_file", os.path.expanduser(settings.credentials))
        session.register_component("data_loader", _LOADER)
        region = settings.region or session.get_config_variable("region") or DEFAULT_REGION
        style = settings.path_style if settings.path_style is not None else settings.endpoint is not None
        self._client = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=settings.endpoint,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                max_pool_connections=2 * int(self._threads.total_tokens),
                s3={"addressing_style": "path" if style else "auto"},
                # Bodies carry their MD5, which every server knows; newer checksums not all do.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self.region = region
        self.address = self._client.meta.endpoint_url
        self.knows_amazon = is_amazon(self.address)

    async def call(self, operation: str, path: str | None, /, **parameters: Any) -> Answer:
        """The answer to an operation (by botocore's method name) on the bucket; `path` is for errors.

        None values are left out. A body gets its MD5. Looking can be cancelled at once; what changes
        something is waited for, so that its outcome is known.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        looks = operation.startswith(("head_", "list_"))
        return await trio.to_thread.run_sync(
            self._call, operation, path, given, abandon_on_cancel=looks, limiter=self._threads
        )

    def _call(self, operation: str, path: str | None, given: dict[str, Any]) -> Answer:
        if "Body" in given:
            made = hashlib.md5(given["Body"], usedforsecurity=False).digest()
            given["ContentMD5"] = base64.b64encode(made).decode("ascii")
        if operation != "list_buckets":
            given["Bucket"] = self.bucket
        try:
            answer: Answer = getattr(self._client, operation)(**given)
        except (BotoCoreError, ClientError, OSError) as error:
            raise refusal(error, self.bucket, path) from None
        return answer

    async def read(self, body: Any, length: int, path: str) -> bytes:
        """The next bytes of a body that is being received; none at its end."""
        return await trio.to_thread.run_sync(self._read, body, length, path, limiter=self._threads)

    def _read(self, body: Any, length: int, path: str) -> bytes:
        try:
            piece: bytes = body.read(length)
        except (BotoCoreError, ClientError, OSError) as error:
            raise refusal(error, self.bucket, path) from None
        return piece

    async def aclose(self) -> None:
        if self._client is not None:
            await trio.to_thread.run_sync(self._client.close)
