"""Names of chunks, as rclone's chunker writes and reads them.

A file `NAME` in pieces lies as `NAME.rclone_chunk.001`, `NAME.rclone_chunk.002`, … A transaction that
is not finished, or that is never finished by design, adds `_` and its id: `NAME.rclone_chunk.001_sz8204`.
Control objects have `_` and a word instead of the number: `NAME.rclone_chunk._word`.
Source of the format: rclone's documentation of the chunker remote and runs of rclone 1.75.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mountsync.errors import ConfigError

DEFAULT_NAME_FORMAT: Final = "*.rclone_chunk.###"
MAX_CHUNKS: Final = 10_000_000
"""No file has more chunks, and no chunk a higher index."""

_MAX_NUMBER: Final = (1 << 63) - 1
_NUMBER_OR_CONTROL: Final = r"(?:([0-9]{DIGITS})|_([a-z][a-z0-9]{2,6}))"
_TRANSACTION: Final = r"(?:_([0-9a-z]{4,9})|\.\.tmp_([0-9]{10,13}))?"
_SECONDS_PERIOD: Final = 1_679_609
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
TRANSACTION_CHANCES: Final = 36 * 36
"""How many transaction ids one second has."""


@dataclass(frozen=True, slots=True)
class ChunkName:
    """What the name of a chunk says. Either `index` (from zero) or `control` is set."""

    base: str
    """The name of the file that it belongs to."""
    index: int | None = None
    control: str | None = None
    transaction: str = ""
    """Empty for a chunk that is in its final place."""


@dataclass(frozen=True, slots=True)
class NameFormat:
    """A checked name format. Make it with `name_format`."""

    text: str
    start_from: int
    middle: str
    digits: int
    tail: str
    pattern: re.Pattern[str] = field(compare=False, repr=False)
    """What follows the base's name, or the whole name where it cannot be told where that begins."""
    splits: bool = field(compare=False, repr=False)

    def chunk(self, base: str, index: int, transaction: str = "") -> str:
        """The name of chunk `index` (from zero) of the file named `base`."""
        return self._with(base, f"{index + self.start_from:0{self.digits}d}", transaction)

    def control(self, base: str, word: str, transaction: str = "") -> str:
        """The name of a control object: `word` has 3 to 7 characters of `a-z0-9`, a letter first."""
        return self._with(base, f"_{word}", transaction)

    def _with(self, base: str, number: str, transaction: str) -> str:
        suffix = f"_{transaction}" if transaction else ""
        return f"{base}{self.middle}{number}{self.tail}{suffix}"

    def parse(self, name: str) -> ChunkName | None:
        """What `name`, the last part of a path, says; None when it is not the name of a chunk."""
        base, found = self._matched(name)
        if found is None:
            return None
        number, control, transaction, old = found.groups()[-4:]
        base = base or found[1]
        if old is not None:
            transaction = _base36(int(old), 4)
        if control is not None:
            return ChunkName(base, control=control, transaction=transaction or "")
        if not self.start_from <= int(number) <= _MAX_NUMBER:
            return None
        return ChunkName(base, index=int(number) - self.start_from, transaction=transaction or "")

    def _matched(self, name: str) -> tuple[str, re.Match[str] | None]:
        """The base where it is told without the pattern, and the match."""
        if not self.splits:
            return "", self.pattern.fullmatch(name)
        base, _, rest = name.rpartition(self.middle)
        return base, self.pattern.fullmatch(rest) if base else None


def name_format(text: str = "", start_from: int = 1) -> NameFormat:
    """`text` as a name format; empty means the default. Raises ConfigError with the broken rule."""
    text = text or DEFAULT_NAME_FORMAT
    refusal = _refusal(text, start_from)
    if refusal is not None:
        raise ConfigError(f"{refusal}: {text!r}", hint=f"the usual format is {DEFAULT_NAME_FORMAT}")
    middle, hashes, tail = re.fullmatch(r"(?s)\*([^#]*)(#+)(.*)", text).groups()  # type: ignore[union-attr]  # checked by _refusal
    digits = len(hashes)
    numbers = _NUMBER_OR_CONTROL.replace("{DIGITS}", "+" if digits == 1 else f"{{{digits},}}")
    # The base ends where the last `middle` begins, if no `middle` can be in what follows it; this is
    # three times as fast as a search for the shortest base.
    splits = not tail and re.match(r"\.[a-su-z]", middle) is not None
    rest = f"{numbers}{re.escape(tail)}{_TRANSACTION}"
    pattern = rest if splits else f"(.+?){re.escape(middle)}{rest}"
    return NameFormat(text, start_from, middle, digits, tail, re.compile(pattern, re.DOTALL), splits)


def _refusal(text: str, start_from: int) -> str | None:
    """The rule that the format breaks."""
    rules = (
        (text.count("*") != 1, "a chunk name format needs exactly one asterisk"),
        ("#" not in text, "a chunk name format needs at least one # for the number"),
        (text.find("#") < text.find("*"), "in a chunk name format the asterisk comes before the number"),
        (re.search(r"#[^#]+#", text) is not None, "in a chunk name format all # must be consecutive"),
        ("/" in text, "a chunk name format must not hold a slash"),
        (not text.startswith("*"), "a chunk name format must start with the asterisk"),
        (start_from < 0, "start_from must not be negative"),
    )
    return next((reason for broken, reason in rules if broken), None)


def transaction_id(unix_seconds: int, chance: int) -> str:
    """The id of a transaction begun now; `chance` is random, 0 to `TRANSACTION_CHANCES` - 1."""
    return _base36(unix_seconds % _SECONDS_PERIOD, 4) + _base36(chance, 2)


def transaction_age(transaction: str, unix_seconds: float) -> float | None:
    """Seconds since a transaction began, as its id says; None for ids that are not made by the clock.

    Ids repeat after 19 days: the age is the least one possible. A beginning that seems to lie up to a
    day ahead, because clocks differ, counts as now.
    """
    if len(transaction) != 6 or not transaction.isascii() or not transaction.isalnum():
        return None
    begun = int(transaction[:4], 36)
    age = (unix_seconds - begun) % _SECONDS_PERIOD
    return 0.0 if age > _SECONDS_PERIOD - 86_400 else age


def _base36(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _BASE36[digit] + digits
    return digits.rjust(width, "0")
