"""Remote specs, as users of rclone write them.

    SPEC     = "/" … | "./" … | "../" … | "~/" … | "." | ".." | "~"      a local path
             | NAME OPTIONS ":" PATH                                      a configured remote
             | ":" TYPE OPTIONS ":" PATH                                  one made on the fly
    OPTIONS  = { "," KEY [ "=" VALUE ] }
    VALUE    = text without `,` and `:`, not beginning with a quote
             | `"` text with each `"` doubled `"`  (or the same with `'`)

An option without a value is `true`. A value that holds `,` or `:`, or begins with a quote, must be
quoted: in `:chunker,remote=work:x:` the first colon ends the options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mountsync.errors import UsageError

_NAME: Final = re.compile(r"[\w+@.-]([\w+@. -]*[\w+@.-])?")
_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)
_PLAIN_VALUE: Final = re.compile(r"[^,:\"'][^,:]*|")
_LOCAL_STARTS: Final = ("/", "./", "../", "~/")
_LOCAL_WORDS: Final = frozenset({".", "..", "~"})
LOCAL: Final = "local"
"""The type of a spec that is just a path."""


@dataclass(frozen=True, slots=True)
class RemoteSpec:
    """A parsed spec. Exactly one of `name` (configured) and `type` (on the fly, or `local`) is set.

    `options` are texts by name (with underscores) that go before those of the configuration. `path`
    is as written; what it means is up to the type.
    """

    name: str | None = None
    type: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    path: str = ""

    @property
    def is_local_path(self) -> bool:
        """Whether it was, or can be, written as a bare local path."""
        return self.type == LOCAL and not self.options and is_local_path(self.path)

    def below(self, path: str) -> RemoteSpec:
        """The same remote, from the relative `path` on: what an overlay opens for its own path."""
        if not path:
            return self
        own = self.path if not self.path or self.path.endswith("/") else self.path + "/"
        return RemoteSpec(self.name, self.type, self.options, own + path)


def is_local_path(text: str) -> bool:
    """Whether a text is a path of the local disk and not a remote's name."""
    return text.startswith(_LOCAL_STARTS) or text in _LOCAL_WORDS


def is_remote_name(text: str) -> bool:
    """Whether a text can name a remote in the configuration: letters, digits and `_ - . + @`, inner
    spaces; not a leading `-`, and not what would read as a local path."""
    return _NAME.fullmatch(text) is not None and not text.startswith("-") and text not in _LOCAL_WORDS


def parse_spec(text: str) -> RemoteSpec:
    """The parts of a spec. Raises UsageError with the place that could not be read."""
    if "\0" in text:
        raise UsageError(f"{text!r} is not a remote", hint="a path cannot hold a NUL byte")
    if is_local_path(text):
        return RemoteSpec(type=LOCAL, path=text)
    on_the_fly = text.startswith(":")
    at = int(on_the_fly)
    end = next((i for i in range(at, len(text)) if text[i] in ",:"), len(text))
    head = text[at:end]
    if end == len(text):
        raise _bad(text, "it has no colon", "write NAME:PATH, or ./PATH for a local folder")
    if not is_remote_name(head):
        raise _bad(text, f"{head!r} is not a remote's {'type' if on_the_fly else 'name'}")
    options, end = _options(text, end)
    path = text[end + 1 :]
    return RemoteSpec(None, head, options, path) if on_the_fly else RemoteSpec(head, None, options, path)


def _options(text: str, at: int) -> tuple[dict[str, str], int]:
    """The options from the comma at `at` on, and where the colon after them is."""
    options: dict[str, str] = {}
    while text[at : at + 1] == ",":
        key = _KEY.match(text, at + 1)
        if key is None:
            raise _bad(text, f"an option's name is missing after {text[: at + 1]!r}")
        name, at = key[0].replace("-", "_"), key.end()
        if name in options:
            raise _bad(text, f"option {name!r} is given twice")
        options[name] = "true"
        if text[at : at + 1] == "=":
            options[name], at = _value(text, at + 1)
    if text[at : at + 1] != ":":
        raise _bad(text, f"a colon is missing after {text[:at]!r}")
    return options, at


def _value(text: str, at: int) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote not in ('"', "'") or not quote:
        plain = _PLAIN_VALUE.match(text, at)
        assert plain is not None  # it matches the empty text
        return plain[0], plain.end()
    value, at = "", at + 1
    while True:
        close = text.find(quote, at)
        if close < 0:
            raise _bad(text, f"a closing {quote} is missing")
        value += text[at:close]
        at = close + 1
        if text[at : at + 1] != quote:
            return value, at
        value, at = value + quote, at + 1


def _bad(text: str, reason: str, hint: str | None = None) -> UsageError:
    return UsageError(f"{text!r} is not a remote: {reason}", hint=hint)


def format_spec(spec: RemoteSpec) -> str:
    """The text that `parse_spec` reads as `spec`; values are quoted where that is needed."""
    if spec.is_local_path:
        return spec.path
    head = spec.name if spec.name is not None else f":{spec.type}"
    return f"{head}{''.join(f',{key}={_quoted(value)}' for key, value in spec.options.items())}:{spec.path}"


def _quoted(value: str) -> str:
    if _PLAIN_VALUE.fullmatch(value):
        return value
    return '"' + value.replace('"', '""') + '"'
