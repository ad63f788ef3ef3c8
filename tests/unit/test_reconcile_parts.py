"""The parts of reconciliation one by one: comparing, attributes, names, limits, order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountsync.errors import UsageError
from mountsync.model.base import Agreed, agree
from mountsync.model.entry import DIRECTORY, Digest, Entry, Kind, Problem, Token
from mountsync.model.listing import Scan
from mountsync.model.plan import (
    ConflictPolicy,
    Delete,
    MakeDirectory,
    Move,
    Plan,
    Put,
    SetAttributes,
    path_of,
)
from mountsync.model.side import Side
from mountsync.model.status import SessionState
from mountsync.paths import RelPath, is_within, relocate
from mountsync.reconcile import (
    Comparator,
    Comparison,
    DeleteLimit,
    Direction,
    Evidence,
    Settings,
    SideRules,
    Verdict,
    delete_limit,
    emptied,
    infer_moves,
    reconcile,
    too_many_deletes,
    wanted_digests,
)
from mountsync.reconcile.order import sequence
from mountsync.reconcile.resolve import conflict_path, winner

SECOND = 1_000_000_000
SETTINGS = Settings(when="2026-11-20 11-30-00", host="host")
P, Q = RelPath("p"), RelPath("q")


def file(
    size: int = 3,
    digest: str | None = None,
    token: str | None = None,
    mtime: float | None = None,
    mode: int | None = None,
) -> Entry:
    return Entry(
        Kind.FILE,
        size,
        None if mtime is None else int(mtime * SECOND),
        mode,
        None if digest is None else Digest(digest),
        None if token is None else Token(token),
    )


def link(target: str) -> Entry:
    return Entry(Kind.SYMLINK, target=target)


HASH, MTIME, SIZE = (Comparator(c, SECOND) for c in (Comparison.HASH, Comparison.MTIME, Comparison.SIZE))


@pytest.mark.parametrize(
    ("comparator", "x", "y", "verdict"),
    [
        (HASH, None, None, Verdict.SAME),
        (HASH, file(), None, Verdict.DIFFERENT),
        (HASH, DIRECTORY, DIRECTORY, Verdict.SAME),
        (HASH, DIRECTORY, file(0), Verdict.DIFFERENT),
        (HASH, link("t"), link("t"), Verdict.SAME),
        (HASH, link("t"), link("u"), Verdict.DIFFERENT),
        (HASH, file(3, "d"), file(3, "d"), Verdict.SAME),
        (HASH, file(3, "d", mtime=5), file(3, "e", mtime=5), Verdict.DIFFERENT),
        (HASH, file(3), file(4), Verdict.DIFFERENT),
        (HASH, file(3, "d"), file(3), Verdict.UNKNOWN),
        (replace(HASH, fallback=Comparison.SIZE), file(3, "d"), file(3), Verdict.SAME),
        (replace(HASH, fallback=Comparison.MTIME), file(3, mtime=9), file(3, mtime=5), Verdict.DIFFERENT),
        (MTIME, file(3, mtime=5), file(3, mtime=5.9), Verdict.SAME),
        (MTIME, file(3, mtime=5), file(3, mtime=6.1), Verdict.DIFFERENT),
        (MTIME, file(3, mtime=5), file(3), Verdict.UNKNOWN),
        (MTIME, file(3, "d", mtime=5), file(3, "d", mtime=9), Verdict.SAME),
        (MTIME, file(3, "d", mtime=5), file(3, "e", mtime=5), Verdict.DIFFERENT),
        (SIZE, file(3), file(3), Verdict.SAME),
    ],
)
def test_comparing_two_entries(
    comparator: Comparator, x: Entry | None, y: Entry | None, verdict: Verdict
) -> None:
    assert comparator.verdict(x, y) is verdict
    assert comparator.verdict(y, x) is verdict
    assert comparator.same(x, y) is (verdict is Verdict.SAME)


def test_a_token_belongs_to_one_side() -> None:
    row = Agreed(file(3, "d"), Token("ta"), Token("tb"))
    assert HASH.since(row, file(3, token="ta"), Side.A) is Verdict.SAME
    assert HASH.since(row, file(3, token="ta"), Side.B) is Verdict.UNKNOWN
    assert HASH.since(row, file(3, "d", token="other"), Side.A) is Verdict.SAME
    assert HASH.since(row, file(3, "e", token="other"), Side.A) is Verdict.DIFFERENT


def test_a_new_token_counts_as_an_edit_where_no_digest_could_tell() -> None:
    row = Agreed(file(3), Token("ta"), Token("tb"))
    assert HASH.since(row, file(3, token="new"), Side.A) is Verdict.DIFFERENT
    assert HASH.since(replace(row, a=None), file(3), Side.A) is Verdict.DIFFERENT


def test_each_side_is_compared_with_its_own_time() -> None:
    row = Agreed(file(3, mtime=5), a_mtime_ns=5 * SECOND, b_mtime_ns=90 * SECOND)
    assert MTIME.since(row, file(3, mtime=90), Side.B) is Verdict.SAME
    assert MTIME.since(row, file(3, mtime=90), Side.A) is Verdict.DIFFERENT


# Digests that are wanted


def want(a: dict, b: dict, base: dict, settings: Settings = SETTINGS) -> set[tuple[Side, str]]:
    return set(wanted_digests(Scan(a), Scan(b), base, settings=settings))


EXPENSIVE = replace(SETTINGS, b=SideRules(cheap_digests=False))


def test_unchanged_tokens_want_nothing() -> None:
    a, b = {P: file(3, token="ta")}, {P: file(3, token="tb")}
    base = {P: Agreed(file(3), Token("ta"), Token("tb"))}
    assert want(a, b, base) == set()
    assert reconcile(Scan(a), Scan(b), base, settings=SETTINGS) == Plan()


def test_a_touched_file_is_hashed_on_its_own_side_only() -> None:
    a, b = {P: file(3, token="new")}, {P: file(3, token="tb")}
    base = {P: Agreed(file(3, "d"), Token("ta"), Token("tb"))}
    assert want(a, b, base) == {(Side.A, P)}
    plan = reconcile(Scan(a), Scan(b), base, settings=SETTINGS)
    assert plan.is_empty and P in plan.problems and not plan.to_base
    touched = {P: file(3, "d", token="new")}
    plan = reconcile(Scan(touched), Scan(b), base, settings=SETTINGS)
    assert plan.is_empty and plan.to_base[P] == Agreed(file(3, "d"), Token("new"), Token("tb"))


def test_two_files_of_one_size_are_hashed_and_of_two_sizes_are_not() -> None:
    assert want({P: file(3)}, {P: file(3)}, {}) == {(Side.A, P), (Side.B, P)}
    assert want({P: file(3, "d")}, {P: file(3)}, {}) == {(Side.B, P)}
    assert want({P: file(3)}, {P: file(4)}, {}) == set()


def test_an_expensive_side_is_only_hashed_for_a_conflict() -> None:
    base = {P: Agreed(file(3, "d"), Token("ta"), Token("tb"))}
    edited = {P: file(3, token="new")}
    assert want({P: file(3, token="ta")}, edited, base, EXPENSIVE) == set()
    plan = reconcile(Scan({P: file(3, token="ta")}), Scan(edited), base, settings=EXPENSIVE)
    assert [type(x) for x in plan.to_a] == [Put] and not plan.to_b
    assert want({P: file(3, "e", token="na")}, edited, base, EXPENSIVE) == {(Side.B, P)}


@pytest.mark.parametrize("on_a", [{P: file(7, "e", token="na")}, {}, {P: file(3, "d", token="ta")}])
@pytest.mark.parametrize("agreed", [None, Token("tb~")], ids=["no token", "a provisional one"])
def test_a_file_in_doubt_is_hashed_at_any_price(on_a: dict[RelPath, Entry], agreed: Token | None) -> None:
    """No token was agreed that lasts, because it might have changed in the same moment: no change yet."""
    base = {P: Agreed(file(3, "d"), Token("ta"), agreed)}
    assert want(on_a, {P: file(3, token="tb")}, base, EXPENSIVE) == {(Side.B, P)}
    same, edited = {P: file(3, "d", token="tb")}, {P: file(3, "x", token="tb")}
    plan = reconcile(Scan(on_a), Scan(same), base, settings=EXPENSIVE)
    assert not plan.to_a and not plan.conflicts
    assert [type(x) for x in plan.to_b] == ([Delete] if not on_a else [Put] if on_a[P].size == 7 else [])
    plan = reconcile(Scan(on_a), Scan(edited), base, settings=EXPENSIVE)
    assert not any(isinstance(x, Delete) for x in plan.to_b)


def test_a_new_file_of_a_vanished_size_is_hashed_to_find_a_move() -> None:
    base = {P: Agreed(file(3, "d"), Token("ta"), Token("tb"))}
    a, b = {Q: file(3, token="ta")}, {P: file(3, token="tb")}
    settings = replace(SETTINGS, evidence=Evidence.DIGEST)
    assert want(a, b, base, settings) == {(Side.A, Q)}
    plan = reconcile(Scan({Q: file(3, "d")}), Scan(b), base, settings=settings)
    assert plan.to_b == (Move(P, Q, b[P], None, P),) and not plan.to_a


def test_a_missing_digest_holds_only_its_own_path() -> None:
    a = {P: file(3), Q: file(4, "q")}
    plan = reconcile(Scan(a), Scan({P: file(3)}), {}, settings=SETTINGS)
    assert [x.path for x in plan.to_b if isinstance(x, Put)] == [Q]
    assert set(plan.problems) == {P} and not plan.to_a


def test_equal_new_files_never_conflict_by_their_times() -> None:
    settings = replace(SETTINGS, comparator=MTIME)
    a, b = {P: file(3, mtime=1)}, {P: file(3, mtime=99)}
    assert want(a, b, {}, settings) == {(Side.A, P), (Side.B, P)}
    plan = reconcile(
        Scan({P: file(3, "d", mtime=1)}), Scan({P: file(3, "d", mtime=99)}), {}, settings=settings
    )
    assert [type(x) for x in plan.to_a] == [SetAttributes] and not plan.to_b and not plan.resolved


# Attributes


def attributes(a: Entry, b: Entry, base: Entry | None, settings: Settings = SETTINGS) -> tuple:
    rows = {} if base is None else {P: agree(base, base)}
    settings = replace(settings, comparator=replace(settings.comparator, tolerance_ns=SECOND))
    plan = reconcile(Scan({P: a}), Scan({P: b}), rows, settings=settings)
    assert all(isinstance(x, SetAttributes) for x in plan.to_a + plan.to_b)

    def changes(side: Side) -> object:
        found = [
            ((x.entry.mtime_ns or 0) // SECOND, x.entry.mode)
            for x in plan.of(side)
            if isinstance(x, SetAttributes)
        ]
        return found[0] if found else None

    return changes(Side.A), changes(Side.B)


@pytest.mark.parametrize(
    ("a", "b", "base", "wanted"),
    [
        ((5, 0o644), (5, 0o644), (5, 0o644), (None, None)),
        ((9, 0o644), (5, 0o644), (5, 0o644), (None, (9, 0o644))),
        ((5, 0o644), (9, 0o600), (5, 0o644), ((9, 0o600), None)),
        ((9, 0o644), (5, 0o600), (5, 0o644), ((9, 0o600), (9, 0o600))),
        ((9, 0o744), (7, 0o640), (5, 0o644), ((9, 0o640), (9, 0o640))),
        ((9, 0o644), (7, 0o644), None, (None, (9, 0o644))),
        ((9, 0o644), (None, None), (9, 0o644), (None, None)),
        ((5, 0o644), (5.8, 0o644), (5, 0o644), (None, None)),
    ],
)
def test_attributes_are_merged_one_by_one(a: tuple, b: tuple, base: tuple | None, wanted: tuple) -> None:
    entries = [None if x is None else file(3, "d", mtime=x[0], mode=x[1]) for x in (a, b, base)]
    assert entries[0] is not None and entries[1] is not None
    assert attributes(entries[0], entries[1], entries[2]) == wanted


def test_what_a_side_cannot_set_is_left_alone() -> None:
    fixed = replace(SETTINGS, b=SideRules(mtimes=False, modes=False))
    a, b = file(3, "d", mtime=9, mode=0o600), file(3, "d", mtime=5, mode=0o644)
    assert attributes(a, b, b, fixed) == (None, None)


def test_times_of_directories_do_not_travel_but_their_modes_do() -> None:
    a = Entry(Kind.DIRECTORY, mtime_ns=9, mode=0o700)
    b = Entry(Kind.DIRECTORY, mtime_ns=5, mode=0o755)
    plan = reconcile(Scan({P: a}), Scan({P: b}), {P: agree(b, b)}, settings=SETTINGS)
    assert plan.to_b == (SetAttributes(P, replace(b, mode=0o700), b),) and not plan.to_a


def test_a_closed_directory_is_open_while_it_is_filled() -> None:
    closed = Entry(Kind.DIRECTORY, mode=0o555)
    inside = RelPath("p/f")
    plan = reconcile(Scan({P: closed, inside: file(1, "d")}), Scan({}), {}, settings=SETTINGS)
    made, put, shut = plan.to_b
    assert isinstance(made, MakeDirectory) and made.entry.mode == 0o755
    assert isinstance(put, Put)
    assert isinstance(shut, SetAttributes) and shut.entry.mode == 0o555


# Conflicts


@pytest.mark.parametrize(
    ("policy", "a", "b", "side"),
    [
        (ConflictPolicy.NEWER, file(1, mtime=9), file(1, mtime=5), Side.A),
        (ConflictPolicy.NEWER, file(1, mtime=5), file(1, mtime=5), None),
        (ConflictPolicy.NEWER, file(1, mtime=5), file(1), None),
        (ConflictPolicy.OLDER, file(1, mtime=9), file(1, mtime=5), Side.B),
        (ConflictPolicy.OLDER, file(1, mtime=0), file(1, mtime=5), Side.A),
        (ConflictPolicy.LARGER, file(0), file(1), Side.B),
        (ConflictPolicy.SMALLER, file(0), file(1), Side.A),
        (ConflictPolicy.LARGER, file(1), file(1), None),
        (ConflictPolicy.LARGER, link("t"), file(9), None),
        (ConflictPolicy.A, link("t"), file(9), Side.A),
        (ConflictPolicy.B, link("t"), file(9), Side.B),
        (ConflictPolicy.KEEP_BOTH, file(1, mtime=9), file(2, mtime=5), None),
    ],
)
def test_who_wins(policy: ConflictPolicy, a: Entry, b: Entry, side: Side | None) -> None:
    assert winner(policy, a, b) is side


def named(name: str, taken: frozenset[str] = frozenset(), host: str = "host", limit: int = 255) -> str:
    return conflict_path(
        RelPath(name),
        when="2026-11-20 11-30-00",
        host=host,
        taken=lambda p: p in taken,
        max_name_bytes=limit,
    )


MARK = "conflict 2026-11-20 11-30-00 host"


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("d/report.txt", f"d/report ({MARK}).txt"),
        ("name", f"name ({MARK})"),
        (".bashrc", f".bashrc ({MARK})"),
        ("archive.tar.gz", f"archive.tar ({MARK}).gz"),
        ("Mr. Smith", f"Mr. Smith ({MARK})"),
        ("dot.", f"dot. ({MARK})"),
    ],
)
def test_names_of_copies(name: str, copy: str) -> None:
    assert named(name) == copy
    assert named(name, frozenset({copy})) == copy.replace("host)", "host 2)")


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=300),
    st.text(max_size=90),
    st.integers(1, 5),
)
def test_names_of_copies_fit_and_are_free(name: str, host: str, number: int) -> None:
    taken: set[str] = set()
    for _ in range(number):
        found = named(name[:80], frozenset(taken), host)
        assert found not in taken and "/" not in found
        assert len(found.encode("utf-8", "surrogateescape")) <= 255
        taken.add(found)


def test_a_long_name_keeps_its_extension_and_whole_characters() -> None:
    found = named("é" * 126 + ".md")
    assert found.endswith(f" ({MARK}).md") and found.startswith("éé")
    assert 250 < len(found.encode()) <= 255


def test_keeping_both_moves_ours_aside_and_brings_theirs() -> None:
    a, b = file(3, "da"), file(4, "db")
    plan = reconcile(Scan({P: a}), Scan({P: b}), {}, settings=SETTINGS)
    copy = RelPath(f"p ({MARK})")
    assert plan.to_a == (Move(P, copy, a), Put(P, P, b, None))
    assert plan.to_b == (Put(copy, copy, a, None),)
    assert [(r.path, r.winner, r.copy) for r in plan.resolved] == [(P, Side.B, copy)]


# Limits of a side


def test_a_refused_name_is_a_problem_of_its_path_only() -> None:
    refusing = replace(
        SETTINGS, b=SideRules(refusal=lambda p: "no colons" if ":" in p.rpartition("/")[2] else None)
    )
    a = {RelPath("x:y"): DIRECTORY, RelPath("x:y/f"): file(1, "f"), Q: file(1, "q")}
    plan = reconcile(Scan(a), Scan({}), {}, settings=refusing)
    assert [x.path for x in plan.to_b if isinstance(x, Put)] == [Q] and len(plan.to_b) == 1
    assert plan.problems[RelPath("x:y")].reason == "no colons"
    assert not plan.to_a


def test_what_a_side_does_not_show_was_not_deleted_there() -> None:
    hiding = replace(SETTINGS, b=SideRules(refusal=lambda p: "kept" if p == P else None))
    entry = file(1, "f")
    base = {P: agree(entry, entry), Q: agree(entry, entry)}
    plan = reconcile(Scan({P: entry, Q: entry}), Scan({}), base, settings=hiding)
    assert [path_of(action) for action in plan.to_a] == [Q] and not plan.to_b
    assert plan.problems[P].reason == "kept"


@pytest.mark.parametrize(
    ("rules", "one", "two"),
    [
        (SideRules(case_sensitive=False), "Name", "name"),
        (SideRules(unicode_normalizing=True), "\u00e9", "e\u0301"),
        (SideRules(case_sensitive=False), "D/f", "d/f"),
    ],
)
def test_names_that_a_side_cannot_tell_apart_are_never_merged(rules: SideRules, one: str, two: str) -> None:
    settings = replace(SETTINGS, b=rules)
    a = {RelPath(one): file(1, "1"), RelPath(two): file(2, "2")}
    for path in list(a):
        if "/" in path:
            a[RelPath(path[0])] = DIRECTORY
    plan = reconcile(Scan(a), Scan({}), {}, settings=settings)
    assert len([x for x in plan.to_b if isinstance(x, Put)]) == 1
    assert len({p.casefold() for p in plan.problems}) >= 1 and not plan.to_a
    held = {RelPath(one): file(1, "1")} | ({RelPath(one[0]): DIRECTORY} if "/" in one else {})
    plan = reconcile(Scan(a), Scan(held), {}, settings=settings)
    assert not plan.to_b and not plan.to_a and RelPath(two) in plan.problems


def test_a_side_may_give_names_back_in_another_form() -> None:
    given, back = RelPath("caf\u00e9"), RelPath("cafe\u0301")
    settings = replace(SETTINGS, b=SideRules(unicode_normalizing=True))
    base = {given: Agreed(file(3, "d"), Token("ta"), Token("tb"))}
    a, b = {given: file(3, "d", token="ta")}, {back: file(3, "d", token="tb")}
    assert reconcile(Scan(a), Scan(b), base, settings=settings) == Plan()
    edited = {back: file(4, "e", token="new")}
    plan = reconcile(Scan(a), Scan(edited), base, settings=settings)
    assert plan.to_a == (Put(given, given, edited[back], a[given]),) and not plan.to_b
    plan = reconcile(Scan({}), Scan(b), base, settings=settings)
    assert plan.to_b == (Delete(given, b[back]),) and not plan.to_a
    strict = reconcile(Scan(a), Scan(b), base, settings=SETTINGS)
    assert strict.to_a


def test_a_change_of_case_is_followed_on_a_side_without_case() -> None:
    settings = replace(SETTINGS, b=SideRules(case_sensitive=False))
    upper, lower = RelPath("Name"), RelPath("name")
    base = {upper: Agreed(file(3, "d"))}
    plan = reconcile(
        Scan({lower: file(3, "d")}),
        Scan({upper: file(3, "d")}),
        base,
        settings=settings,
        moves_a=[(upper, lower)],
    )
    assert [(x.source, x.target) for x in plan.to_b if isinstance(x, Move)] == [(upper, lower)]


def test_one_way_runs_never_change_the_source() -> None:
    for direction in (Direction.MIRROR, Direction.ADD):
        settings = replace(SETTINGS, direction=direction)
        plan = reconcile(Scan({}), Scan({P: file(1, "1")}), {}, settings=settings)
        assert not plan.to_a
        assert bool(plan.to_b) is (direction is Direction.MIRROR)


# Safety


def listing(count: int) -> dict[RelPath, Entry]:
    return {RelPath(f"f{i:03}"): file(1, f"{i}") for i in range(count)}


def rows(entries: dict[RelPath, Entry]) -> dict[RelPath, Agreed]:
    return {p: agree(e, e) for p, e in entries.items()}


def test_an_emptied_side_halts() -> None:
    halt = emptied(Scan({}), Side.B, 2)
    assert halt is not None and halt.state is SessionState.HALTED_EMPTIED and halt.side is Side.B
    assert emptied(Scan({}), Side.B, 1) is None
    assert emptied(Scan({P: file()}), Side.B, 9) is None
    assert emptied(Scan({}, {RelPath(""): Problem("unreadable")}), Side.B, 9) is None


@pytest.mark.parametrize(
    ("total", "kept", "limit", "halts"),
    [
        (100, 49, DeleteLimit(), True),
        (100, 50, DeleteLimit(), False),
        (30, 10, DeleteLimit(), False),
        (30, 9, DeleteLimit(), True),
        (100, 89, delete_limit("10"), True),
        (100, 90, delete_limit("10"), False),
        (10, 4, delete_limit("50%"), True),
        (10, 5, delete_limit("50%"), False),
        (100, 0, delete_limit("off"), False),
        (1, 0, delete_limit("0"), True),
    ],
)
def test_too_many_deletes_halt(total: int, kept: int, limit: DeleteLimit, halts: bool) -> None:
    before = listing(total)
    after = dict(list(before.items())[:kept])
    for scans in ((after, before), (before, after)):
        plan = reconcile(Scan(scans[0]), Scan(scans[1]), rows(before), settings=SETTINGS)
        halt = too_many_deletes(plan, total, limit)
        assert (halt is not None) is halts
        if halt is not None:
            assert halt.state is SessionState.HALTED_DELETES
            assert halt.side is (Side.B if scans[0] is after else Side.A)


def test_moves_and_overwrites_are_no_deletes() -> None:
    before = {RelPath("d"): DIRECTORY} | {
        relocate(p, p, RelPath(f"d/{p}")): e for p, e in listing(50).items()
    }
    moved = {relocate(p, RelPath("d"), RelPath("e")): e for p, e in before.items()}
    for rules in (SideRules(), SideRules(moves_directories=False)):
        settings = replace(SETTINGS, b=rules, evidence=Evidence.DIGEST)
        plan = reconcile(Scan(moved), Scan(before), rows(before), settings=settings)
        assert plan.to_b and too_many_deletes(plan, 51, DeleteLimit(0, None)) is None
    edited = {p: file(2, f"x{p}") for p in listing(50)}
    plan = reconcile(Scan(edited), Scan(listing(50)), rows(listing(50)), settings=SETTINGS)
    assert too_many_deletes(plan, 50, DeleteLimit(0, None)) is None


@pytest.mark.parametrize("text", ["many", "-1", "5 %%", "nan%", ""])
def test_a_limit_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        delete_limit(text)


# Renames and order


def inferred(base: dict[str, str], now: dict[str, str]) -> list[tuple[str, str]]:
    def entry(value: str) -> Entry:
        return DIRECTORY if value == "/" else file(len(value), value)

    table = rows({RelPath(p): entry(v) for p, v in base.items()})
    entries = {RelPath(p): entry(v) for p, v in now.items()}
    changed = table.keys() | entries.keys()
    return [*infer_moves(Side.A, entries, table, changed, evidence=Evidence.DIGEST)]


@pytest.mark.parametrize(
    ("base", "now", "moves"),
    [
        ({"p": "1"}, {"q": "1"}, [("p", "q")]),
        ({"p": "1", "q": "2"}, {"p": "2", "q": "1"}, [("p", "q"), ("q", "p")]),
        ({"p": "1", "q": "2"}, {"q": "1", "r": "2"}, [("p", "q"), ("q", "r")]),
        ({"p": "1", "q": "2"}, {"q": "1"}, [("p", "q")]),
        ({"p": "1"}, {"p": "1", "q": "1"}, []),
        ({"p": "1"}, {"p": "edited", "q": "1"}, []),
        ({"p": ""}, {"q": ""}, []),
        ({"x/p": "1", "y/q": "1"}, {"x/q": "1", "z/p": "1"}, [("x/p", "z/p"), ("y/q", "x/q")]),
        ({"d": "/", "d/f": "1"}, {"e": "/", "e/f": "1"}, [("d", "e")]),
        (
            {"d": "/", "d/f": "1", "d/g": "2", "d/h": "3"},
            {"e": "/", "e/f": "1", "e/g": "2", "h": "3"},
            [("d", "e"), ("d/h", "h")],
        ),
        (
            {"d": "/", "d/f": "1", "d/s": "/", "d/s/g": "2"},
            {"e": "/", "e/f": "1", "e/t": "/", "e/t/g": "2"},
            [("d", "e"), ("d/s", "e/t")],
        ),
    ],
)
def test_moves_are_inferred(base: dict[str, str], now: dict[str, str], moves: list) -> None:
    assert inferred(base, now) == moves


@given(st.permutations(range(6)), st.integers(0, 6))
def test_permutations_of_files_are_renamed_over_nothing(order: list[int], shift: int) -> None:
    table = {RelPath(f"f{i}"): RelPath(f"f{j + shift}") for i, j in enumerate(order)}
    table = {old: new for old, new in table.items() if old != new}
    tree = {old: old for old in table}
    for step in sequence(table, "aside"):
        assert step.target not in tree
        tree[step.target] = tree.pop(step.source)
    assert tree == {new: old for old, new in table.items()}


def test_a_directory_can_move_into_one_that_takes_its_name() -> None:
    table = {P: RelPath("p/p")}
    steps = sequence(table, "aside")
    assert [(s.source, s.target, s.last) for s in steps] == [
        ("p", "aside-1", False),
        ("aside-1", "p/p", True),
    ]


def test_deletes_go_from_the_bottom_and_directories_are_made_from_the_top() -> None:
    paths = [RelPath(p) for p in ("d", "d/e", "d/e/f")]
    tree = dict.fromkeys(paths, DIRECTORY)
    plan = reconcile(Scan({}), Scan(tree), rows(tree), settings=SETTINGS)
    assert [x.path for x in plan.to_b if isinstance(x, Delete)] == paths[::-1]
    plan = reconcile(Scan(tree), Scan({}), {}, settings=SETTINGS)
    assert [x.path for x in plan.to_b if isinstance(x, MakeDirectory)] == paths
    assert not any(is_within(x.path, paths[1]) for x in plan.to_a if isinstance(x, Delete))


def test_two_sides_that_did_not_change_agree_without_any_digest() -> None:
    base = {P: Agreed(file(3, mtime=5), Token("ta"), Token("tb"))}
    touched = file(3, token="ta", mtime=9)
    b = file(3, token="tb", mtime=5)
    plan = reconcile(Scan({P: touched}), Scan({P: b}), base, settings=SETTINGS)
    assert [type(x) for x in plan.to_b] == [SetAttributes] and not plan.to_a and not plan.problems
    assert want({P: touched}, {P: b}, base) == set()


def test_what_differs_for_sure_is_no_agreement_whatever_the_comparison_says() -> None:
    settings = replace(SETTINGS, comparator=SIZE)
    a, b = {P: file(3, "da")}, {P: file(3, "db")}
    plan = reconcile(Scan(a), Scan(b), {P: Agreed(file(3))}, settings=settings)
    assert [x.path for x in plan.resolved] == [P] and not plan.to_base
