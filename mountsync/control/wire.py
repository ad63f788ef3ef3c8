"""JSON for names that are not Unicode.

A name of a Unix disk that is not UTF-8 is carried by surrogateescape. msgspec refuses such text; then
the standard library writes and reads it, as `\\udcXX`, which is JSON all the same.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")


def encode(message: Any) -> bytes:
    """`message` as one line of JSON, without its end."""
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(message)).encode("ascii")


def decode(line: bytes, kind: type[_T]) -> _T:
    """The message in a line. Raises msgspec.DecodeError, which says what is wrong with it."""
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        return _decode_slowly(line, kind, error)


def _decode_slowly(line: bytes, kind: type[_T], first: msgspec.DecodeError) -> _T:
    if b"\\ud" not in line.lower():
        raise first
    try:
        return msgspec.convert(json.loads(line), type=kind)
    except (ValueError, RecursionError) as error:
        raise first from error
