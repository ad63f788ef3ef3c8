"""The pure parts of the S3 remote: times, settings, keys, refusals, parts, listings."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from mountsync.errors import (
    AccessRefused,
    ConfigError,
    NotFound,
    PermissionDenied,
    Stale,
    Throttled,
    Unreachable,
)
from mountsync.model.entry import Kind, Problem, sayable
from mountsync.paths import RelPath
from mountsync.storage.s3 import mtimes
from mountsync.storage.s3.keys import Keys
from mountsync.storage.s3.listing import Folding
from mountsync.storage.s3.refusals import NoBucket, StaleAfterRetry, refusal
from mountsync.storage.s3.settings import is_amazon, read_settings
from mountsync.storage.s3.upload import part_length, whole_token


@given(st.integers(-(10**20), 10**20))
def test_times_survive(when):
    assert mtimes.from_text(mtimes.to_text(when)) == sayable(when)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("1700000123.456789123", 1_700_000_123_456_789_123),
        ("1700000123.5", 1_700_000_123_500_000_000),
        ("0", 0),
        ("-1.25", -1_250_000_000),
        ("1.0000000001", 1_000_000_000),
        ("soon", None),
        ("", None),
        ("1e9", None),
        (None, None),
    ],
)
def test_times_are_read(text, when):
    assert mtimes.from_text(text) == when


def test_times_have_no_zeros_at_the_end():
    assert mtimes.to_text(1_500_000_000) == "1.5"
    assert mtimes.to_text(2_000_000_000) == "2"
    assert mtimes.to_text(-500_000_000) == "-0.5"


@pytest.mark.parametrize(
    "endpoint", ["http://me:hush@host", "ftp://host", "host:9000", "https://h/?key=hush"]
)
def test_an_endpoint_is_an_address_without_secrets(endpoint):
    with pytest.raises(ConfigError) as caught:
        read_settings({"endpoint": endpoint}, "bucket")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("path", ["-bad", "bucket/a//b", "bucket/../other", "b"])
def test_paths_that_cannot_be(path):
    with pytest.raises(ConfigError):
        read_settings({}, path)


def test_whose_server_it_is():
    assert is_amazon(None)
    assert is_amazon("https://s3.eu-west-1.amazonaws.com")
    assert not is_amazon("https://amazonaws.com.example.org")
    assert not is_amazon("http://127.0.0.1:9000")


def test_keys_and_paths():
    keys = Keys("pre/fix")
    assert keys.key(RelPath("a/b")) == "pre/fix/a/b"
    assert keys.below(RelPath("")) == "pre/fix/"
    assert keys.path("pre/fix/a/b") == "a/b"
    for key in ("pre/fix/", "pre/fix/a/", "pre/fix/a//b", "pre/fix/./a", "pre/fix/" + "n" * 256):
        assert keys.path(key) is None
    assert keys.rules.refusal(RelPath("/".join(["n" * 200] * 6))) is not None
    assert Keys("").below(RelPath("")) == ""


def failed(code: str, status: int, retries: int = 0) -> ClientError:
    meta = {"HTTPStatusCode": status, "RetryAttempts": retries}
    return ClientError({"Error": {"Code": code, "Message": "hush"}, "ResponseMetadata": meta}, "X")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failed("NoSuchKey", 404), NotFound),
        (failed("404", 404), NotFound),
        (failed("NoSuchBucket", 404), NoBucket),
        (failed("PreconditionFailed", 412), Stale),
        (failed("412", 412, retries=1), StaleAfterRetry),
        (failed("SlowDown", 503), Throttled),
        (failed("TooManyRequests", 429), Throttled),
        (failed("InternalError", 500), Unreachable),
        (failed("AccessDenied", 403), PermissionDenied),
        (failed("403", 403), PermissionDenied),
        (failed("InvalidAccessKeyId", 403), AccessRefused),
        (failed("SignatureDoesNotMatch", 403), AccessRefused),
        (failed("PermanentRedirect", 301), ConfigError),
        (ConnectTimeoutError(endpoint_url="http://x"), Unreachable),
        (ConnectionResetError(), Unreachable),
        (NoCredentialsError(), AccessRefused),
    ],
)
def test_refusals(error, kind):
    made = refusal(error, "bucket", "p")
    assert type(made) is kind
    assert "hush" not in str(made)


def test_a_missing_bucket_is_no_missing_file():
    assert not isinstance(refusal(failed("NoSuchBucket", 404), "b", "p"), NotFound)


def test_parts():
    assert part_length(100 << 20, 8 << 20) == 8 << 20
    huge = 5 << 40
    assert -(-huge // part_length(huge, 8 << 20)) <= 10_000
    inner = b"".join(hashlib.md5(data).digest() for data in (b"a", b"b"))
    etags = [f'"{hashlib.md5(data).hexdigest()}"' for data in (b"a", b"b")]
    assert whole_token(etags) == f"{hashlib.md5(inner).hexdigest()}-2"
    assert whole_token(["not hex"]) == ""


class _Objects:
    keys = Keys("")


def item(key: str) -> dict:
    return {"Key": key, "Size": 1, "ETag": '"e"', "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}


def test_folding_makes_directories_once_over_pages():
    folding = Folding(_Objects(), RelPath(""))
    first = [path for path, _ in folding.fold([item("a/b/1"), item("a/b/2")])]
    assert first == ["a", "a/b", "a/b/1", "a/b/2"]
    assert [path for path, _ in folding.fold([item("a/b/3"), item("a/c/"), item("x//y")])] == ["a/b/3"]


def test_an_object_that_is_a_directory_too_is_a_problem():
    folding = Folding(_Objects(), RelPath(""))
    found = dict(folding.fold([item("a"), item("a-b"), item("a/c"), item("ab")]))
    assert isinstance(found["a"], Problem)
    assert "a/c" not in found
    assert found["a-b"].kind is Kind.FILE
    assert found["ab"].kind is Kind.FILE
