"""Tokens of files on a volume. Pure.

Modal tells a size and an mtime in whole seconds, no version. A token is `SIZE:MTIME`, then
`:VARIANT` where we know that several contents had that size and second, then `~` while a foreign file
is so young that it may still be rewritten within its second (see `seconds`): when that time is over the
token changes, and so the file is compared again. An expectation ignores the `~`.
"""

from __future__ import annotations

import hashlib
from typing import Final

from mountsync.model.entry import PROVISIONAL, Token
from mountsync.storage.modal.transport import NativeEntry

YOUNG: Final = 12.0
"""Seconds after its mtime for which a foreign file may change unseen, while nothing is known of Modal's
clock: that second, one more, and as many as clocks that nobody looks after may be apart."""


def token_of(native: NativeEntry, variant: str, *, young: bool) -> Token:
    """The token of what is there now."""
    core = f"{native.size}:{native.mtime}"
    return Token(core + (f":{variant}" if variant else "") + (PROVISIONAL if young else ""))


def mtime_in(token: Token | None) -> int | None:
    """Modal's mtime that a token of ours holds."""
    return None if token is None else int(token.removesuffix(PROVISIONAL).split(":")[1])


def accepts(expect: Token, native: NativeEntry, variant: str) -> bool:
    """Whether what is there now is what `expect` names."""
    return expect.removesuffix(PROVISIONAL) == token_of(native, variant, young=False)


def fingerprint(*parts: bytes | str) -> str:
    """A short text that tells contents apart."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:12]
