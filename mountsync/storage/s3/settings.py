"""The options of an S3 remote, checked. Pure; credentials are not here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from mountsync.errors import ConfigError

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{1,254}")
_KNOWN_HOSTS: Final = ("amazonaws.com", "amazonaws.com.cn")


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes are in bytes."""

    bucket: str
    """Empty for the list of buckets."""
    prefix: str = ""
    """Without slashes at its ends."""
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials: str | None = None
    """The file that holds them; None: AWS's own."""
    path_style: bool | None = None
    create_bucket: bool = False
    part_size: int = 8 << 20
    concurrency: int = 4
    times_from_metadata: bool = True

    @property
    def host(self) -> str:
        """Names the server in identities."""
        return urlsplit(self.endpoint).netloc if self.endpoint else "aws"


def read_settings(options: Mapping[str, object], path: str) -> Settings:
    """The settings for `bucket/prefix`. Raises ConfigError."""
    bucket, _, prefix = path.strip("/").partition("/")
    if bucket and not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"{bucket!r} cannot be the name of a bucket", hint="write s3:BUCKET/PREFIX")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise ConfigError(f"{prefix!r} cannot be a prefix: it has an empty part, `.` or `..`")
    part_size, concurrency = options.get("upload_part_size"), options.get("concurrency")
    path_style = options.get("path_style")
    return Settings(
        bucket=bucket,
        prefix=prefix,
        endpoint=_endpoint(options.get("endpoint")),
        region=str(options["region"]) if options.get("region") else None,
        profile=str(options["profile"]) if options.get("profile") else None,
        credentials=str(options["credentials"]) if options.get("credentials") else None,
        path_style=path_style if isinstance(path_style, bool) else None,
        create_bucket=options.get("create_bucket") is True,
        part_size=part_size if isinstance(part_size, int) else 8 << 20,
        concurrency=concurrency if isinstance(concurrency, int) else 4,
        times_from_metadata=options.get("mtime", "metadata") == "metadata",
    )


def _endpoint(value: object) -> str | None:
    if not value:
        return None
    text = str(value).rstrip("/")
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigError(
            "the endpoint of an s3 remote is no address", hint="write http://HOST:PORT or https://HOST"
        )
    if address.username is not None or address.password is not None or address.query:
        raise ConfigError(
            "the endpoint of an s3 remote must not hold credentials",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    return text


def is_amazon(endpoint: str | None) -> bool:
    """Whether an address is Amazon's own, whose abilities are known; none given means it is."""
    host = (urlsplit(endpoint).hostname or "") if endpoint else _KNOWN_HOSTS[0]
    return any(host == known or host.endswith("." + known) for known in _KNOWN_HOSTS)
