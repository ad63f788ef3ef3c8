"""Remote specs become open storages; options are checked in one place, plug-ins cannot break us."""

import sys
import types
from importlib import metadata
from importlib.metadata import EntryPoint

import pytest

from mountsync.errors import ConfigError, NotFound, UsageError, exit_code_of
from mountsync.formats.remote_spec import parse_spec
from mountsync.paths import RelPath
from mountsync.storage import registry
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.options import Option, OptionKind, checked_options
from mountsync.storage.registry import BuiltIn, Remotes, load_type, loadable_types, state_name, type_names
from tests.parts.bodies import get, put

PLUG_OPTIONS = (
    Option("remote", required=True, help="what lies below"),
    Option("chunk_size", OptionKind.SIZE, 100, minimum=1),
    Option("hash_type", OptionKind.CHOICE, "md5", choices=("none", "md5")),
    Option("fail_hard", OptionKind.BOOL, False),
)
opened = []


class Overlay:
    """A plug-in's module."""

    OPTIONS = PLUG_OPTIONS

    @staticmethod
    async def open_storage(options, path, context):
        opened.append((dict(options), path, context))
        return await context.open_remote(options["remote"])


@pytest.fixture
def plug_ins(monkeypatch):
    module = types.ModuleType("some_plug_in")
    module.overlay = Overlay
    module.odd = object()
    monkeypatch.setitem(sys.modules, "some_plug_in", module)
    points = [
        EntryPoint("overlay", "some_plug_in:overlay", registry.GROUP),
        EntryPoint("broken", "no_such_module_at_all", registry.GROUP),
        EntryPoint("odd", "some_plug_in:odd", registry.GROUP),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: [p for p in points if p.group == group])
    opened.clear()


@pytest.fixture
def remotes(tmp_path, plug_ins):
    configured = {
        "over": {"type": "overlay", "remote": ":memory:below", "chunk_size": "4M", "watcher_interval": 30},
        "loop": {"type": "overlay", "remote": "loop2:"},
        "loop2": {"type": "overlay", "remote": "loop:x"},
        "bad": {"type": "overlay", "remote": "x:", "chunk_sise": 1},
        "disk": {"type": "local", "root": str(tmp_path)},
    }
    return Remotes(configured, tmp_path / "state", environment={})


async def test_memory_is_shared_by_name(remotes):
    first, second = (
        await remotes.open(":memory:shared-by-name"),
        await remotes.open(":memory:shared-by-name/d"),
    )
    other = await remotes.open(":memory:another")
    assert isinstance(first, MemoryStorage)
    await put(second, "f", b"x")
    assert await get(first, "d/f") == b"x"
    assert await other.stat(RelPath("d/f")) is None


async def test_local_paths(remotes, tmp_path):
    (tmp_path / "folder").mkdir()
    for text in (f"{tmp_path}/folder", f":local:{tmp_path}/folder", "disk:folder"):
        storage = await remotes.open(text)
        assert isinstance(storage, LocalStorage)
        assert storage.info.identity == f"local:{tmp_path}/folder"
        await storage.aclose()
    with pytest.raises(NotFound, match="mkdir"):
        await remotes.open(f"{tmp_path}/nothing")


async def test_an_overlay_gets_checked_options_and_opens_below(remotes):
    storage = await remotes.open("over,fail_hard:some/path")
    assert isinstance(storage, MemoryStorage)
    options, path, context = opened[0]
    assert options == {
        "remote": ":memory:below",
        "chunk_size": 4 << 20,
        "hash_type": "md5",
        "fail_hard": True,
    }
    assert path == "some/path"
    assert context.name == "over"
    assert context.state_dir.parent == remotes.state_root
    assert remotes.resolve("over:").common == {"watcher_interval": 30.0}


def test_precedence(remotes):
    def size(text, flags=None, environment=None):
        those = Remotes(remotes.configured, remotes.state_root, flags or {}, environment or {})
        return those.resolve(text).options["chunk_size"]

    flags, environment = {"overlay": {"chunk_size": "2M"}}, {"MOUNTSYNC_OVERLAY_CHUNK_SIZE": "3M"}
    assert size("over,chunk_size=1M:", flags, environment) == 1 << 20
    assert size("over:", flags, environment) == 2 << 20
    assert size("over:", None, environment) == 3 << 20
    assert size("over:") == 4 << 20
    assert size(":overlay,remote=x:") == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing:", "no remote 'nothing'"),
        ("ovre:", "did you mean 'over'"),
        (":chunkr:", "did you mean 'chunker'"),
        ("bad:", "no option 'chunk_sise'.*did you mean 'chunk_size'"),
        ("over,chunk_size=huge:", "overlay option chunk_size: 'huge' is not a size"),
        ("over,chunk_size=0:", "less than 1"),
        ("over,hash_type=crc:", "'crc' is not one of none, md5"),
        ("over,fail_hard=maybe:", "neither true nor false"),
        (":overlay:", "needs the option 'remote'"),
        (":broken:", "no_such_module_at_all"),
        (":odd:", "has no OPTIONS"),
        ("not-a-spec", "is not a remote"),
    ],
)
def test_refusals(remotes, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        remotes.resolve(text)
    assert exit_code_of(caught.value) == 2


async def test_a_remote_that_leads_to_itself(remotes):
    with pytest.raises(ConfigError, match="leads back to itself"):
        await remotes.open("loop:")


def test_plug_ins_that_fail_are_reported(plug_ins):
    types_, refused = loadable_types()
    assert {"overlay", "local", "memory"} <= {kind.name for kind in types_}
    assert {"broken", "odd"} <= set(refused)
    assert {"broken", "overlay", "local", "s3"} <= set(type_names())


def test_a_missing_library_names_the_extra(monkeypatch, tmp_path):
    (tmp_path / "needs_something.py").write_text("import a_library_that_is_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "BUILT_IN", {"s3": BuiltIn("needs_something", "s3")})
    with pytest.raises(ConfigError, match=r"a_library_that_is_missing.*pip install 'mountsync\[s3\]'"):
        load_type("s3")


def test_flags_of_a_type_are_checked(remotes):
    wrong = Remotes(remotes.configured, remotes.state_root, {"overlay": {"chunk_sze": "1"}}, {})
    with pytest.raises(ConfigError, match="chunk_sze"):
        wrong.resolve("over:")


def test_state_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert state_name(parse_spec("./x")) == state_name(parse_spec(f"{tmp_path}/x"))
    assert state_name(parse_spec("a:x")) != state_name(parse_spec("a:y"))
    assert "/" not in state_name(parse_spec(":modal:v/p"))
    secret = state_name(parse_spec(":s3,secret_key=hunter2:b"))
    assert "hunter2" not in secret


def test_option_names():
    option = Option("chunk_size", OptionKind.SIZE)
    assert option.flag("chunker") == "--chunker-chunk-size"
    assert option.variable("chunker") == "MOUNTSYNC_CHUNKER_CHUNK_SIZE"


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (OptionKind.TEXT, "x", "x"),
        (OptionKind.SIZE, 4, 4096),
        (OptionKind.SIZE, "off", None),
        (OptionKind.BOOL, True, True),
        (OptionKind.BOOL, "No", False),
        (OptionKind.INT, "-3", -3),
        (OptionKind.SECONDS, 1.5, 1.5),
        (OptionKind.SECONDS, "1m", 60.0),
    ],
)
def test_values(kind, given, value):
    assert checked_options("t", [Option("o", kind)], {"o": given}) == {"o": value}


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (OptionKind.TEXT, 5),
        (OptionKind.SIZE, True),
        (OptionKind.SIZE, 1.5),
        (OptionKind.BOOL, 2),
        (OptionKind.INT, "x"),
        (OptionKind.INT, 1.5),
        (OptionKind.SECONDS, "soon"),
        (OptionKind.SECONDS, True),
    ],
)
def test_wrong_values(kind, given):
    with pytest.raises(ConfigError, match="t option o"):
        checked_options("t", [Option("o", kind)], {"o": given})
