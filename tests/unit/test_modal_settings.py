"""Which credentials, profile, environment and server hold, and that secrets stay out of sight."""

from __future__ import annotations

import pytest

from mountsync.errors import AccessRefused, ConfigError
from mountsync.storage.modal import OPTIONS
from mountsync.storage.modal.settings import (
    DEFAULT_SERVERS,
    Credentials,
    config_path,
    load_profiles,
    settings_from,
)

WORK = {"token_id": "ak-work", "token_secret": "as-work", "environment": "dev", "server_url": "http://work:1"}
HOME = {"token_id": "ak-home", "token_secret": "as-home"}
ENV = {"MODAL_TOKEN_ID": "ak-env", "MODAL_TOKEN_SECRET": "as-env"}


def settle(environ, profiles, profile=None, environment=None):
    return settings_from(environ, profiles, profile=profile, environment=environment)


def who(*arguments, **more):
    return settle(*arguments, **more).credentials.token_id


def test_the_environment_alone():
    settings = settle(ENV, {})
    assert settings.credentials == Credentials("ak-env", "as-env")
    assert ",".join(settings.servers) == DEFAULT_SERVERS
    assert settings.environment == ""
    assert settings.proxies


def test_the_profile_option_then_the_variable_then_the_active_one():
    profiles = {"work": WORK, "home": HOME | {"active": True}}
    assert who({}, profiles) == "ak-home"
    assert who({"MODAL_PROFILE": "work"}, profiles) == "ak-work"
    assert who({"MODAL_PROFILE": "work"}, profiles, profile="home") == "ak-home"
    assert who({}, {"only": HOME | {"active": True}}) == "ak-home"
    assert who({}, {"default": HOME, "work": WORK}) == "ak-home"


def test_tokens_of_the_environment_win_over_all_but_a_named_profile():
    profiles = {"work": WORK, "home": HOME | {"active": True}}
    assert who(ENV, profiles) == "ak-env"
    assert who(ENV | {"MODAL_PROFILE": "work"}, profiles) == "ak-env"
    assert who(ENV, profiles, profile="work") == "ak-work"
    assert who(ENV, {"bare": {"environment": "x"}}, profile="bare") == "ak-env"


def test_the_environment_option_then_the_variable_then_the_profile():
    profiles = {"work": WORK}
    assert settle({}, profiles, profile="work").environment == "dev"
    assert settle({"MODAL_ENVIRONMENT": "e"}, profiles, profile="work").environment == "e"
    assert settle({"MODAL_ENVIRONMENT": "e"}, profiles, profile="work", environment="o").environment == "o"


def test_the_server():
    assert settle({}, {"work": WORK}, profile="work").servers == ("http://work:1",)
    several = settle(ENV | {"MODAL_SERVER_URL": "http://a:1, https://b"}, {})
    assert several.servers == ("http://a:1", "https://b")
    assert settle(ENV | {"MODAL_SERVER_URL": "unix:/run/modal"}, {}).servers == ("unix:/run/modal",)
    assert settle(ENV | {"MODAL_SERVER_URL": "http://[::1]:5"}, {}).servers == ("http://[::1]:5",)


@pytest.mark.parametrize(
    "bad",
    [
        "ftp://x",
        "nonsense",
        ",",
        "http://x:abc",
        "http://x:99999",
        "http://x:0",
        "http://[::1",
        "http:///x",
        "http://a..b",
        f"http://{'a' * 64}.example",
        f"https://ok,http://{'é' * 64}",
        "http://x\udcff",
        "unix:/run/\0",
    ],
)
def test_a_server_that_is_none(bad):
    with pytest.raises(ConfigError, match=r"(https://HOST|unset)"):
        settle(ENV | {"MODAL_SERVER_URL": bad}, {})


@pytest.mark.parametrize("half", ["MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"])
def test_half_a_pair(half):
    with pytest.raises(AccessRefused, match="half"):
        settle({half: "as-secret"}, {})
    mixed = settle({half: "from-env"}, {"home": HOME | {"active": True}})
    assert "from-env" in (mixed.credentials.token_id, mixed.credentials.token_secret)


@pytest.mark.parametrize("odd", [" {}", "{}\n", "\t{}\r\n"])
def test_space_around_a_token_is_no_part_of_it(odd):
    environ = {name: odd.format(value) for name, value in ENV.items()}
    assert settle(environ, {}).credentials == Credentials("ak-env", "as-env")
    table = {name: odd.format(value) for name, value in HOME.items()}
    assert settle({}, {"default": table}).credentials == Credentials("ak-home", "as-home")
    assert settle({}, {"p": table}, profile="p").credentials == Credentials("ak-home", "as-home")
    with pytest.raises(AccessRefused, match="no Modal credentials"):
        settle(dict.fromkeys(ENV, " \n"), {})


@pytest.mark.parametrize(
    "odd", ["as-TOP\rSECRET", "as-TOP SECRET", "as-TOPSECRETé", "as-TOPSECRET\udcff", "a\0"]
)
@pytest.mark.parametrize("half", ["token_id", "token_secret"])
@pytest.mark.parametrize("place", ["environment", "profile", "named profile"])
def test_a_token_that_no_header_carries_is_refused_without_being_told(half, odd, place):
    table = HOME | {half: odd}
    environ = {f"MODAL_{name.upper()}": value for name, value in table.items()}
    with pytest.raises(AccessRefused, match=half.replace("_", " ")) as caught:
        if place == "environment":
            settle(environ, {})
        else:
            settle({}, {"default": table}, profile="default" if place == "named profile" else None)
    assert "TOP" not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_environment_that_is_no_text():
    for environ, option in ((ENV | {"MODAL_ENVIRONMENT": "e\udcff"}, None), (ENV, "e\udcff")):
        with pytest.raises(ConfigError, match=r"environment .* UTF-8: e\\xff"):
            settle(environ, {}, environment=option)


def test_nothing_at_all():
    with pytest.raises(AccessRefused, match="no Modal credentials"):
        settle({}, {})


def test_ambiguous_profiles():
    with pytest.raises(ConfigError, match="several Modal profiles are active: home, work"):
        settle(ENV, {"work": WORK | {"active": True}, "home": HOME | {"active": True}})
    with pytest.raises(ConfigError, match="none of the Modal profiles"):
        settle({}, {"work": WORK, "home": HOME})
    with pytest.raises(ConfigError, match="no Modal profile 'wrk'"):
        settle(ENV, {"work": WORK}, profile="wrk")
    with pytest.raises(ConfigError, match="no Modal profile"):
        settle({"MODAL_PROFILE": "wrk"}, {"work": WORK})


def test_oauth_is_refused():
    with pytest.raises(AccessRefused, match="OAuth"):
        settle({}, {"o": {"oauth_refresh_token": "as-secret", "active": True}})


def test_the_file(tmp_path):
    path = tmp_path / "modal.toml"
    assert config_path({"MODAL_CONFIG_PATH": str(path)}) == path
    assert config_path({"HOME": "/home/x"}).as_posix() == "/home/x/.modal.toml"
    assert load_profiles(path) == {}
    path.write_text('[a]\ntoken_id = "ak-1"\nactive = true\n')
    assert load_profiles(path) == {"a": {"token_id": "ak-1", "active": True}}
    for bad in ("not = [valid", 'token_id = "ak"\n', "\xff"):
        path.write_bytes(bad.encode("latin-1"))
        with pytest.raises(ConfigError, match=r"modal\.toml"):
            load_profiles(path)


def test_secrets_are_in_no_repr_and_no_option():
    settings = settle(ENV, {})
    assert "ak-env" not in repr(settings) + str(settings)
    assert "as-env" not in repr(settings) + str(settings)
    assert {option.name for option in OPTIONS} == {
        "profile",
        "environment",
        "sidecar_metadata",
        "create_volumes",
    }


def test_proxies_can_be_turned_off():
    assert not settle(ENV | {"MODAL_DISABLE_API_PROXY": "1"}, {}).proxies
