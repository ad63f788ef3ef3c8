"""Buckets of S3 and of servers that speak as it does: `s3:bucket/prefix`; the buckets at `s3:`.

A token is an object's ETag. Expectations travel with the request (`If-Match`, `If-None-Match`), so
that the server itself compares and swaps, where it can; what it can is found out once. Large bodies go
in parts that are sent at once. The mtime is kept in the object's metadata, in rclone's form. Needs
the extra `mountsync[s3]`, whose packages are imported when a bucket is opened and not before.

Credentials come from where the tools of AWS take them (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`,
`~/.aws/credentials`, the machine's role), never from options; `profile` and `credentials` only say where
they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from mountsync.storage.api import Storage
from mountsync.storage.extras import extra
from mountsync.storage.options import OpenContext, Option, OptionKind

OPTIONS: tuple[Option, ...] = (
    Option(
        "endpoint", help="address of the server, http://… or https://…; default: AWS_ENDPOINT_URL, then AWS"
    ),
    Option("region", help="region of the bucket; default: AWS_REGION, then the profile's, then us-east-1"),
    Option(
        "profile", help="profile of AWS's files to take credentials and region from; default: AWS_PROFILE"
    ),
    Option(
        "credentials",
        help="file with the credentials, in the form of ~/.aws/credentials; default: that one",
    ),
    Option(
        "path_style",
        OptionKind.BOOL,
        help="the bucket is in the path of addresses, not in the host's name; default: with an endpoint",
    ),
    Option("create_bucket", OptionKind.BOOL, default=False, help="make a missing bucket when it is opened"),
    Option(
        "upload_part_size",
        OptionKind.SIZE,
        default=8 << 20,
        minimum=5 << 20,
        help="larger bodies go in parts of this size; each transfer holds `concurrency` parts in memory",
    ),
    Option("concurrency", OptionKind.INT, default=4, minimum=1, help="parts of one body sent at once"),
    Option(
        "mtime",
        OptionKind.CHOICE,
        default="metadata",
        choices=("metadata", "upload"),
        help="where times come from: the metadata (one request more for each object that is new in a "
        "listing), or the time of the upload (none more; source times are written but not shown)",
    ),
)

_EXTRA = ("botocore", "urllib3", "jmespath", "dateutil", "six")


async def open_storage(options: Mapping[str, object], path: str, context: OpenContext) -> Storage:
    """Opens `bucket/prefix` (the list of buckets for an empty path). Raises what `open_s3` says."""
    with extra("s3", _EXTRA):
        from mountsync.storage.s3.opening import open_s3  # noqa: PLC0415 - heavy, and an extra
    return await open_s3(options, path, context.state_dir)
