"""Two contents of ours never have one token, however many were written within a second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mountsync.storage.modal.recent import Recent
from mountsync.storage.modal.tokens import accepts, token_of
from mountsync.storage.modal.transport import NativeEntry, NativeKind

START = 1_700_000_000
writes = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "c", "ab", "cd"]), st.booleans()))


@given(writes)
def test_own_writes_with_one_token_have_one_content(steps):
    """A step is: seconds since the last one, a content, and whether the process is started anew before."""
    clock = [float(START)]
    recent = Recent(lambda: clock[0])
    contents: dict[str, str] = {}
    before = None
    for pause, content, restart in steps:
        clock[0] += pause
        if restart:
            recent = Recent(lambda: clock[0])
        native = NativeEntry("f", NativeKind.FILE, len(content), int(clock[0]))
        variant = recent.note("f", native, f"fp-{content}", before)
        token = token_of(native, variant, young=False)
        assert contents.setdefault(token, content) == content
        assert recent.variant_of(native) == variant
        assert accepts(token, native, variant)
        before = native


def test_most_writes_need_no_variant():
    clock = float(START)
    recent = Recent(lambda: clock)
    clock += 10
    native = NativeEntry("f", NativeKind.FILE, 5, int(clock))
    assert recent.note("f", native, "one", None) == ""
    assert recent.note("f", native, "one", native) == ""
    assert recent.note("f", native, "two", native) == "two"
    assert recent.note("f", native, "one", native) == ""


def test_the_same_size_again_after_another_one():
    clock = float(START)
    recent = Recent(lambda: clock)
    clock += 10
    short, long = (NativeEntry("f", NativeKind.FILE, size, int(clock)) for size in (5, 6))
    assert recent.note("f", short, "one", None) == ""
    assert recent.note("f", long, "two", short) == ""
    assert recent.note("f", short, "three", long) == "three"
