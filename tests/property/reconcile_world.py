"""Two trees in dictionaries, and an executor that follows a plan to the letter or raises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from mountsync.model.base import Agreed, agree
from mountsync.model.entry import DIRECTORY, Digest, Entry, Kind, Problem, Token
from mountsync.model.listing import Scan
from mountsync.model.plan import (
    Action,
    Delete,
    MakeDirectory,
    MakeSymlink,
    Move,
    Plan,
    Put,
    SetAttributes,
)
from mountsync.model.side import Side
from mountsync.paths import RelPath, is_within, parent_of, relocate
from mountsync.reconcile import Settings, SideRules, reconcile

Tree = dict[str, str]
"""Path to `/` (a directory), `@target` (a link) or any other text (a file with that content)."""

KEEP = Settings(when="2026-11-20 11-30-00", host="host")


def digest_of(content: str) -> Digest:
    return Digest(hashlib.sha256(content.encode()).hexdigest())


def entry_of(value: str, *, token: str | None = None, mtime_ns: int | None = None) -> Entry:
    if value == "/":
        return DIRECTORY
    if value.startswith("@"):
        return Entry(Kind.SYMLINK, target=value[1:])
    return Entry(
        Kind.FILE,
        size=len(value),
        mtime_ns=mtime_ns,
        digest=digest_of(value),
        token=None if token is None else Token(token),
    )


class StrictError(AssertionError):
    """The plan does not fit the trees."""


class World:
    """Sides, base and contents. `tokens` gives every file a token of its side."""

    def __init__(
        self, base: Tree, a: Tree, b: Tree, settings: Settings = KEEP, *, tokens: bool = True
    ) -> None:
        self.settings = settings
        self.contents: dict[Digest, str] = {}
        self.tokens = tokens
        self.count = 0
        self.sides = {Side.A: self._side(Side.A, a), Side.B: self._side(Side.B, b)}
        self.base: dict[RelPath, Agreed] = {}
        for path, value in base.items():
            one, two = self.make(Side.A, value), self.make(Side.B, value)
            self.base[RelPath(path)] = agree(one, two)
        self.done: list[Action] = []

    def _side(self, side: Side, tree: Tree) -> dict[RelPath, Entry]:
        return {RelPath(path): self.make(side, value) for path, value in tree.items()}

    def make(self, side: Side, value: str) -> Entry:
        if value != "/" and not value.startswith("@"):
            self.contents[digest_of(value)] = value
        token = f"{side.value}:{value}" if self.tokens else None
        return entry_of(value, token=token)

    def tree(self, side: Side) -> Tree:
        return {path: self.value(entry) for path, entry in sorted(self.sides[side].items())}

    def value(self, entry: Entry) -> str:
        if entry.kind is Kind.DIRECTORY:
            return "/"
        if entry.kind is Kind.SYMLINK:
            return f"@{entry.target}"
        assert entry.digest is not None
        return self.contents[entry.digest]

    def scan(self, side: Side, problems: Mapping[RelPath, Problem] | None = None) -> Scan:
        problems = problems or {}
        hidden = tuple(problems)
        entries = self.sides[side]
        if hidden:
            entries = {p: e for p, e in entries.items() if not any(is_within(p, h) for h in hidden)}
        return Scan(entries, problems)

    def plan(
        self,
        moves_a: Iterable[tuple[str, str]] = (),
        moves_b: Iterable[tuple[str, str]] = (),
        problems_a: Mapping[RelPath, Problem] | None = None,
        problems_b: Mapping[RelPath, Problem] | None = None,
    ) -> Plan:
        return reconcile(
            self.scan(Side.A, problems_a),
            self.scan(Side.B, problems_b),
            self.base,
            settings=self.settings,
            moves_a=tuple((RelPath(s), RelPath(t)) for s, t in moves_a),
            moves_b=tuple((RelPath(s), RelPath(t)) for s, t in moves_b),
        )

    def apply(self, plan: Plan, *, b_first: bool = False) -> None:
        for path, row in plan.to_base.items():
            if row is None:
                self.base.pop(path, None)
            else:
                self.base[path] = row
        rest = {}
        for side in Side:
            actions = plan.of(side)
            end = max((i + 1 for i, x in enumerate(actions) if isinstance(x, Move)), default=0)
            for action in actions[:end]:
                self.act(side, action)
            rest[side] = actions[end:]
        for side in (Side.B, Side.A) if b_first else (Side.A, Side.B):
            for action in rest[side]:
                self.act(side, action)

    def sync(self, **moves: Iterable[tuple[str, str]]) -> Plan:
        plan = self.plan(**moves)  # type: ignore[arg-type]  # only the two move arguments are passed
        self.apply(plan)
        return plan

    def act(self, side: Side, action: Action) -> None:
        self.done.append(action)
        {
            Put: self._put,
            MakeDirectory: self._make_directory,
            MakeSymlink: self._make_symlink,
            Delete: self._delete,
            Move: self._move,
            SetAttributes: self._set_attributes,
        }[type(action)](side, action)
        if not isinstance(action, Move):
            self._record(action.path)

    def _record(self, path: RelPath) -> None:
        a, b = self.sides[Side.A].get(path), self.sides[Side.B].get(path)
        flat = [not self.settings.rules(side).empty_directories for side in Side]
        if a is None and b is None:
            self.base.pop(path, None)
        elif a is not None and b is not None and self.settings.comparator.same(a, b):
            self.base[path] = agree(a, b)
        elif any(flat) and DIRECTORY.kind in (getattr(a, "kind", None), getattr(b, "kind", None)):
            one = a or b
            assert one is not None
            self.base[path] = agree(one, one)

    def _rules(self, side: Side) -> SideRules:
        return self.settings.rules(side)

    def _check_parent(self, side: Side, path: RelPath) -> None:
        parent = parent_of(path)
        if not parent:
            return
        found = self.sides[side].get(parent)
        if found is None and not self._rules(side).empty_directories:
            self._check_parent(side, parent)
        elif found is None or found.kind is not Kind.DIRECTORY:
            raise StrictError(f"{side}: no directory for {path}")

    def _check(self, side: Side, path: RelPath, expect: Entry | None) -> None:
        found = self.sides[side].get(path)
        if found != expect and not (found and expect and found.with_digest(None) == expect.with_digest(None)):
            raise StrictError(f"{side}: {path} is {found}, expected {expect}")

    def _check_no_children(self, side: Side, path: RelPath) -> None:
        if any(is_within(p, path) and p != path for p in self.sides[side]):
            raise StrictError(f"{side}: {path} is not empty")

    def _put(self, side: Side, x: Put) -> None:
        self._check(side, x.path, x.expect)
        self._check_no_children(side, x.path)
        self._check_parent(side, x.path)
        self._check(side.other, x.origin, x.entry)
        if x.expect is not None and x.expect.kind is Kind.DIRECTORY:
            raise StrictError("put over a directory")
        found = self.sides[side.other][x.origin]
        if found.kind is not Kind.FILE:
            raise StrictError("put of something else than a file")
        made = self.make(side, self.value(found))
        self.sides[side][x.path] = replace(made, mtime_ns=found.mtime_ns, mode=found.mode)

    def _make_directory(self, side: Side, x: MakeDirectory) -> None:
        self._check(side, x.path, None)
        self._check_no_children(side, x.path)
        self._check_parent(side, x.path)
        if x.entry.kind is not Kind.DIRECTORY:
            raise StrictError("no directory")
        self.sides[side][x.path] = x.entry

    def _make_symlink(self, side: Side, x: MakeSymlink) -> None:
        self._check(side, x.path, x.expect)
        self._check_no_children(side, x.path)
        self._check_parent(side, x.path)
        if x.expect is not None and x.expect.kind is Kind.DIRECTORY:
            raise StrictError("link over a directory")
        assert x.entry.kind is Kind.SYMLINK
        self.sides[side][x.path] = replace(x.entry, token=None)

    def _delete(self, side: Side, x: Delete) -> None:
        self._check(side, x.path, x.expect)
        self._check_no_children(side, x.path)
        del self.sides[side][x.path]

    def _set_attributes(self, side: Side, x: SetAttributes) -> None:
        self._check(side, x.path, x.expect)
        found = self.sides[side][x.path]
        self.sides[side][x.path] = replace(found, mtime_ns=x.entry.mtime_ns, mode=x.entry.mode)

    def _move(self, side: Side, x: Move) -> None:
        self._check(side, x.source, x.expect)
        self._check(side, x.target, x.replace)
        self._check_no_children(side, x.target)
        self._check_parent(side, x.target)
        if not self._rules(side).can_move and x.base is not None:
            raise StrictError("the side cannot move")
        if not self._rules(side).moves_directories and x.expect.kind is Kind.DIRECTORY:
            raise StrictError("the side cannot move directories")
        if is_within(x.target, x.source):
            raise StrictError("moved into itself")
        rekey(self.sides[side], x.source, x.target)
        if x.base is not None:
            rekey(self.base, x.base, x.target)


def rekey(tree: dict, source: RelPath, target: RelPath) -> None:
    if source == target:
        return
    moved = {p: tree[p] for p in tree if is_within(p, source)}
    for path in [p for p in tree if is_within(p, target)] + list(moved):
        tree.pop(path, None)
    for path, value in moved.items():
        tree[relocate(path, source, target)] = value


def well_formed(tree: Tree) -> bool:
    return all(not (parent := parent_of(RelPath(p))) or tree.get(parent) == "/" for p in tree)


def leaves(tree: Tree) -> dict[str, str]:
    return {p: v for p, v in tree.items() if v != "/"}


def describe(world: World, plan: Plan) -> str:
    lines: list[str] = [f"A {world.tree(Side.A)}", f"B {world.tree(Side.B)}"]
    show: Callable[[Action], str] = repr
    lines += [f"  to {side.value}: {show(x)}" for side in Side for x in plan.of(side)]
    return "\n".join(lines)
