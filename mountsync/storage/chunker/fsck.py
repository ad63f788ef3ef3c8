"""Looks at every file through a chunker and tells what is wrong with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from mountsync.errors import MountsyncError, PathError, Unreachable
from mountsync.paths import ROOT, RelPath
from mountsync.storage.chunker.layout import Layout
from mountsync.storage.chunker.overlay import ChunkerStorage
from mountsync.storage.chunker.replace import unfinished

Fault = Literal["damaged", "unfinished", "newer", "unreadable", "wrong content"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One file with which something is wrong.

    `damaged`: chunks are missing, double or short. `unfinished`: a valid version of which some chunks
    do not have their final names; `repair` gives them. `newer`: made by a newer chunker. `unreadable`:
    could not be looked at. `wrong content`: the bytes are not those of which the metadata has the hash.
    """

    path: RelPath
    fault: Fault
    reason: str


async def check(storage: ChunkerStorage, folder: RelPath = ROOT, *, contents: bool = False) -> list[Finding]:
    """All findings below `folder`, by path; `contents` reads every file that has a hash in its metadata.

    Raises as `list` does.
    """
    found: list[Finding] = []
    waiting = [folder]
    while waiting:
        survey = await storage.survey(waiting.pop(), recursive=False)
        found += [Finding(path, "unreadable", problem.reason) for path, problem in survey.problems.items()]
        for layout in survey.layouts.values():
            if layout.is_directory:
                waiting.append(layout.path)
            elif layout.exists:
                found += await _findings(storage, layout, contents=contents)
    return sorted(found, key=lambda finding: finding.path)


async def repair(storage: ChunkerStorage, findings: list[Finding]) -> list[Finding]:
    """Finishes what is `unfinished`; gives back what is still wrong. Damaged files are left alone."""
    left = []
    for finding in findings:
        if finding.fault != "unfinished":
            left.append(finding)
            continue
        try:
            await storage.attempts.ready(finding.path)
        except PathError as error:
            left.append(Finding(finding.path, "unfinished", error.reason))
    return left


async def _findings(storage: ChunkerStorage, layout: Layout, *, contents: bool) -> list[Finding]:
    try:
        layout = await storage.view.described(layout)
    except Unreachable:
        raise
    except MountsyncError as error:
        return [Finding(layout.path, "unreadable", error.reason)]
    if layout.future is not None:
        return [Finding(layout.path, "newer", layout.future)]
    if layout.damage is not None:
        return [Finding(layout.path, "damaged", layout.damage)]
    if unfinished(layout):
        return [Finding(layout.path, "unfinished", "a replacement was not finished")]
    reason = await _wrong_content(storage, layout) if contents else None
    return [Finding(layout.path, "wrong content", reason)] if reason is not None else []


async def _wrong_content(storage: ChunkerStorage, layout: Layout) -> str | None:
    """How the bytes differ from the hash in the metadata, None when they do not or there is none."""
    described = layout.metadata
    if described is None or not (described.md5 or described.sha1):
        return None
    name, wanted = ("md5", described.md5) if described.md5 else ("sha1", described.sha1)
    digest = hashlib.new(name, usedforsecurity=False)
    async with storage.read(layout.path, expect=layout.entry().token) as pieces:
        async for piece in pieces:
            digest.update(piece)
    return None if digest.hexdigest() == wanted else f"its {name} is {digest.hexdigest()}, not {wanted}"
