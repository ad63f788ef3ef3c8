"""What a server's refusals, and failures on the way to it, mean. Pure."""

from __future__ import annotations

from typing import Any, Final

from botocore import exceptions as boto

from mountsync.errors import (
    AccessRefused,
    Busy,
    ConfigError,
    MountsyncError,
    NameRefused,
    NameTooLong,
    NoSpace,
    NotFound,
    PathError,
    PermissionDenied,
    Stale,
    Throttled,
    TooLarge,
    Unreachable,
    Unsupported,
)


class StaleAfterRetry(Stale):
    """The expectation failed on a second attempt: what is there may be what the first one made."""


class NoSuchUpload(PathError):
    """The upload in parts is unknown: it was finished or given up."""


class RangeRefused(PathError):
    """The range begins at or after the end."""


class NoBucket(Unreachable):
    """The bucket is not there. No path of it may be taken for deleted."""


_CREDENTIALS: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
        "InvalidSecurity",
        "AccountProblem",
        "NotSignedUp",
        "AuthorizationHeaderMalformed",
    }
)
_BY_CODE: Final[dict[str, tuple[type[PathError], str]]] = {
    "NoSuchKey": (NotFound, "nothing is there"),
    "NoSuchUpload": (NoSuchUpload, "the upload is not known any more"),
    "PreconditionFailed": (Stale, "it is not the version that was expected"),
    "ConditionalRequestConflict": (Stale, "another writer changes it at this moment"),
    "OperationAborted": (Busy, "another operation on it is under way"),
    "InvalidRange": (RangeRefused, "the range is beyond its end"),
    "EntityTooLarge": (TooLarge, "it is larger than the bucket can hold"),
    "KeyTooLongError": (NameTooLong, "the path is longer than the bucket can hold"),
    "InvalidObjectName": (NameRefused, "the server cannot hold this name"),
    "XMinioInvalidObjectName": (NameRefused, "the server cannot hold this name"),
    "XMinioStorageFull": (NoSpace, "the server is full"),
    "QuotaExceeded": (NoSpace, "the quota of the bucket is used up"),
    "InvalidObjectState": (PermissionDenied, "it is archived and must be restored before it can be read"),
    "MethodNotAllowed": (Unsupported, "the server does not do this"),
    "NotImplemented": (Unsupported, "the server does not do this"),
}
_THROTTLES: Final = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
)
_BY_STATUS: Final = {
    404: "NoSuchKey",
    412: "PreconditionFailed",
    409: "OperationAborted",
    416: "InvalidRange",
    405: "MethodNotAllowed",
    501: "NotImplemented",
}
_CREDENTIALS_HINT: Final = "check AWS_ACCESS_KEY_ID, AWS_PROFILE and the files in ~/.aws"

_SET_UP_HINT: Final = "check the options endpoint and region, AWS_PROFILE and the files in ~/.aws"
_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
)
_WRONG_SET_UP: Final = (
    boto.ProfileNotFound,
    boto.ConfigParseError,
    boto.ConfigNotFound,
    boto.ParamValidationError,
    boto.InvalidRegionError,
    boto.NoRegionError,
    ValueError,
)


def refusal(error: Exception, bucket: str, path: str | None) -> MountsyncError:
    """The error for a failed call about `path` of `bucket`. Texts of the server are not repeated."""
    if isinstance(error, boto.ClientError):
        return _answer(error, bucket, path)
    if isinstance(error, _NO_CREDENTIALS):
        return AccessRefused("there are no usable credentials for S3", hint=_CREDENTIALS_HINT)
    if isinstance(error, _WRONG_SET_UP):
        return ConfigError(f"S3 cannot be asked this way ({type(error).__name__})", hint=_SET_UP_HINT)
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError):
        return Unreachable("the server of the bucket does not answer", path=path)
    return Unreachable(f"the connection to the bucket failed: {type(error).__name__}", path=path)


def _answer(error: boto.ClientError, bucket: str, path: str | None) -> MountsyncError:
    response: Any = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    meta = response.get("ResponseMetadata", {})
    status = int(meta.get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return NoBucket(f"there is no bucket {bucket!r}", path=path)
    if code in _THROTTLES or status == 429 or (status == 503 and code != "ServiceUnavailable"):
        return Throttled("the server of the bucket asks to slow down", path=path)
    if code in _CREDENTIALS:
        return AccessRefused(
            f"the server of the bucket refuses the credentials ({code})", hint=_CREDENTIALS_HINT
        )
    if status in (301, 307, 308) or code in ("PermanentRedirect", "IllegalLocationConstraintException"):
        return ConfigError(f"bucket {bucket!r} is in another region", hint="set the option region")
    known = _BY_CODE.get(code) or _BY_CODE.get(_BY_STATUS.get(status, ""))
    if known is not None:
        kind, reason = known
        if kind is Stale and meta.get("RetryAttempts", 0):
            kind = StaleAfterRetry
        return kind(reason, path=path)
    return _other(status, code, path)


def _other(status: int, code: str, path: str | None) -> MountsyncError:
    if status in (401, 403):
        return PermissionDenied("the server of the bucket refuses access", path=path, hint=_CREDENTIALS_HINT)
    if status >= 500 or code in ("RequestTimeout", "InternalError"):
        return Unreachable(f"the server of the bucket failed ({code or status})", path=path)
    return PathError(f"the server of the bucket refuses ({code or status})", path=path)
