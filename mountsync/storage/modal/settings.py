"""Where Modal is and who we are there: the environment, `.modal.toml`, profiles.

The rules are those of Modal's own client but for one: a profile that is named explicitly (the option
`profile`) wins over tokens in the environment, because it is the more specific wish. Secrets never
appear in a repr or an error.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mountsync.errors import AccessRefused, ConfigError, printable
from mountsync.paths import is_text

_TOKEN: Final = ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")
DEFAULT_SERVERS: Final = "https://api.modal.com,https://api.modal2.com"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token pair. Its repr shows neither half. Raises AccessRefused for what no header can carry."""

    token_id: str = field(repr=False)
    token_secret: str = field(repr=False)

    def __post_init__(self) -> None:
        for half, name in ((self.token_id, "token id"), (self.token_secret, "token secret")):
            # Whoever sends it would name it in the error.
            if not all("!" <= character <= "~" for character in half):
                raise AccessRefused(
                    f"the {name} of Modal holds a character that no token has",
                    hint="copy it once more: letters, digits and signs of ASCII, without spaces",
                )


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a connection needs."""

    servers: tuple[str, ...]
    """URLs to try, in this order."""
    credentials: Credentials
    environment: str
    """Empty: the account's default one."""
    proxies: bool = True
    """Whether the usual proxy variables are honoured."""


def config_path(environ: Mapping[str, str]) -> Path:
    """The file that Modal's client would read."""
    named = environ.get("MODAL_CONFIG_PATH")
    return Path(named) if named else Path(environ.get("HOME") or Path.home()) / ".modal.toml"


def load_profiles(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of `.modal.toml`; none when there is no file. ConfigError when it cannot be understood."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {type(error).__name__}", hint="check the file") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}", hint="correct the file") from None
    if not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(
            f"{path}: holds settings outside of a profile", hint="put them below [profile-name]"
        )
    return tables


def settings_from(
    environ: Mapping[str, str],
    profiles: Mapping[str, Mapping[str, Any]],
    *,
    profile: str | None,
    environment: str | None,
) -> Settings:
    """The settings that hold, from the options, the environment and the file's profiles, in this order.

    Raises ConfigError when the profile is ambiguous or missing, AccessRefused without a whole token pair.
    """
    environ = dict(environ) | {name: environ[name].strip() for name in _TOKEN if name in environ}
    chosen = _choose(environ, profiles, profile)
    table = profiles.get(chosen, {})
    credentials = _credentials(environ, table, chosen, explicit=profile is not None)
    servers = str(environ.get("MODAL_SERVER_URL") or table.get("server_url") or DEFAULT_SERVERS)
    named = environment or environ.get("MODAL_ENVIRONMENT") or table.get("environment") or ""
    proxies = environ.get("MODAL_DISABLE_API_PROXY", "").lower() in ("", "0", "false")
    return Settings(_addresses(servers), credentials, _environment(str(named)), proxies)


def _environment(name: str) -> str:
    if not is_text(name):
        raise ConfigError(
            f"the name of Modal's environment is not valid UTF-8: {printable(name)}",
            hint="correct MODAL_ENVIRONMENT, or the option environment",
        )
    return name


def _choose(
    environ: Mapping[str, str], profiles: Mapping[str, Mapping[str, Any]], profile: str | None
) -> str:
    named = profile or environ.get("MODAL_PROFILE")
    if named:
        if named not in profiles and (profile or not _has_token(environ)):
            raise ConfigError(
                f"there is no Modal profile {named!r}", hint=f"known: {', '.join(sorted(profiles)) or 'none'}"
            )
        return named
    active = [name for name, table in profiles.items() if table.get("active") is True]
    if len(active) > 1:
        raise ConfigError(
            f"several Modal profiles are active: {', '.join(sorted(active))}",
            hint="choose one with `modal profile activate NAME` or the option profile",
        )
    if not active and len(profiles) > 1 and "default" not in profiles and not _has_token(environ):
        raise ConfigError(
            f"none of the Modal profiles {', '.join(sorted(profiles))} is active",
            hint="choose one with `modal profile activate NAME` or the option profile",
        )
    return active[0] if active else "default"


def _has_token(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("MODAL_TOKEN_ID") and environ.get("MODAL_TOKEN_SECRET"))


def _credentials(
    environ: Mapping[str, str], table: Mapping[str, Any], profile: str, *, explicit: bool
) -> Credentials:
    kept_id, kept_secret = (str(table.get(key) or "").strip() for key in ("token_id", "token_secret"))
    if explicit and kept_id and kept_secret:
        return Credentials(kept_id, kept_secret)
    if any(key.startswith("oauth_") for key in table) and not _has_token(environ):
        raise AccessRefused(
            f"the Modal profile {profile!r} signs in by OAuth, which mountsync does not do",
            hint="make a token with `modal token new`",
        )
    token_id = environ.get("MODAL_TOKEN_ID") or kept_id
    secret = environ.get("MODAL_TOKEN_SECRET") or kept_secret
    if not token_id and not secret:
        raise AccessRefused(
            "there are no Modal credentials",
            hint="set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or run `modal token new`",
        )
    if not token_id or not secret:
        missing = "MODAL_TOKEN_SECRET" if token_id else "MODAL_TOKEN_ID"
        raise AccessRefused("only half of a Modal token pair is set", hint=f"set {missing} too")
    return Credentials(token_id, secret)


def _addresses(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for url in found:
        _refuse_bad(url)
    if not found:
        raise ConfigError("the server of Modal (MODAL_SERVER_URL or server_url) is empty", hint="unset it")
    return found


def _refuse_bad(url: str) -> None:
    """Raises ConfigError for what is no address of a server; without the URL, which may hold secrets."""
    scheme = url.partition(":")[0].lower()
    try:
        split = urlsplit(url)
        is_server = bool(split.hostname) or (scheme == "unix" and bool(split.path))
        has_port = split.port != 0
        (split.hostname or "").encode("idna")
        is_server = is_server and url.isprintable()
    except ValueError:  # a bad port, half an IPv6 address, a part of the name that is empty or too long
        is_server = has_port = False
    if scheme not in ("http", "https", "unix") or not is_server or not has_port:
        raise ConfigError(
            f"MODAL_SERVER_URL or server_url: {printable(scheme)}://… is not a server",
            hint="use https://HOST[:PORT], with a port from 1 to 65535",
        )
