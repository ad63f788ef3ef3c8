"""Names that a side gives back in another Unicode form than they were given to it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from mountsync.model.entry import Entry
from mountsync.model.listing import Scan
from mountsync.paths import RelPath
from mountsync.reconcile.settings import SideRules


def respelled(scan: Scan, rules: SideRules, *others: Mapping[RelPath, object]) -> Scan:
    """The scan of a side that normalizes names, with the spellings that base and the other side use.

    Such a side finds an object under either spelling, so a plan may use the other's. Only a path that
    has exactly one counterpart is respelled; on any other side the scan is returned as it is.
    """
    if not rules.unicode_normalizing:
        return scan
    strange = [path for path in scan.entries if not any(path in other for other in others)]
    known = _by_form(path for other in others for path in other if path not in scan.entries)
    names = {path: known[form] for path in strange if (form := _form(path)) in known}
    if not names:
        return scan
    entries: dict[RelPath, Entry] = {names.get(path, path): entry for path, entry in scan.entries.items()}
    return Scan(entries, scan.problems)


def _by_form(paths: Iterable[RelPath]) -> dict[str, RelPath]:
    """Paths by their composed form, without those forms that several paths share."""
    found: dict[str, RelPath] = {}
    shared: set[str] = set()
    for path in set(paths):
        form = _form(path)
        if form in found:
            shared.add(form)
        found[form] = path
    return {form: path for form, path in found.items() if form not in shared}


def _form(path: RelPath) -> str:
    return unicodedata.normalize("NFC", path)
