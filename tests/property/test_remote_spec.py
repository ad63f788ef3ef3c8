"""Remote specs are read as rclone users write them, and survive a round trip."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mountsync.errors import UsageError
from mountsync.formats.remote_spec import RemoteSpec, format_spec, is_local_path, is_remote_name, parse_spec

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,8}", fullmatch=True)
KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12)
OPTIONS = st.dictionaries(KEYS, TEXT | st.text("a,:=\"'\\ ", max_size=8), max_size=3)


@given(NAMES, st.booleans(), OPTIONS, TEXT)
@example("local", True, {}, "")
@example("local", True, {}, "/x")
@example("local", True, {}, "~")
@example("n", False, {"a": '"', "b": "'", "c": ""}, ":,=")
def test_round_trip(head, on_the_fly, options, path):
    spec = RemoteSpec(None if on_the_fly else head, head if on_the_fly else None, options, path)
    assert parse_spec(format_spec(spec)) == spec


@given(TEXT)
def test_every_text_is_read_or_refused_with_a_usage_error(text):
    try:
        spec = parse_spec(text)
    except UsageError:
        return
    assert parse_spec(format_spec(spec)) == spec
    assert (spec.name is None) != (spec.type is None)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("work:", RemoteSpec("work")),
        ("work:a/b:c", RemoteSpec("work", None, {}, "a/b:c")),
        ("my remote:x", RemoteSpec("my remote", None, {}, "x")),
        ("/data/a:b,c", RemoteSpec(None, "local", {}, "/data/a:b,c")),
        ("./x", RemoteSpec(None, "local", {}, "./x")),
        ("~/x", RemoteSpec(None, "local", {}, "~/x")),
        (".", RemoteSpec(None, "local", {}, ".")),
        ("../up", RemoteSpec(None, "local", {}, "../up")),
        (":modal:volume/path", RemoteSpec(None, "modal", {}, "volume/path")),
        (":memory:", RemoteSpec(None, "memory")),
        (
            ":chunker,remote=/data,chunk_size=4M:",
            RemoteSpec(None, "chunker", {"remote": "/data", "chunk_size": "4M"}),
        ),
        (":chunker,chunk-size=4M:", RemoteSpec(None, "chunker", {"chunk_size": "4M"})),
        ("work,flag:", RemoteSpec("work", None, {"flag": "true"})),
        ("work,flag,empty=:p", RemoteSpec("work", None, {"flag": "true", "empty": ""}, "p")),
        (
            'c,remote=":chunker,remote=""/a,b"":":x',
            RemoteSpec("c", None, {"remote": ':chunker,remote="/a,b":'}, "x"),
        ),
        ("c,a='it''s':x", RemoteSpec("c", None, {"a": "it's"}, "x")),
    ],
)
def test_examples(text, spec):
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "::",
        "name",
        "a/b:c",
        "-x:y",
        " x:y",
        "a,b",
        "a,:",
        "a,=1:",
        'a,b="x:',
        'a,b="x"y:',
        "a,b=1,b=2:",
        "a,b c=1:",
        "x\0:y",
    ],
)
def test_refused(text):
    with pytest.raises(UsageError, match="is not a remote"):
        parse_spec(text)


def test_below():
    assert format_spec(parse_spec("/data").below("x/y")) == "/data/x/y"
    assert format_spec(parse_spec("work:").below("x")) == "work:x"
    assert format_spec(parse_spec("work:a").below("x")) == "work:a/x"
    assert format_spec(parse_spec("work:a/").below("")) == "work:a/"


def test_names_and_local_paths_differ():
    assert is_remote_name("work")
    assert not is_remote_name("a:b")
    assert not is_remote_name("")
    assert not is_remote_name("..")
    assert is_local_path("/x")
    assert not is_local_path("x/y")
