"""Where the key, the base URL and the state directory come from.

Read whenever they are needed and never at import, so that a change takes effect with the next run. The key
comes from the environment, else from the file that ComfyUI's settings panel writes into the state directory.
The base URL comes from the environment alone: a setting that anyone on the network can write must not choose
where the key goes.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from .errors import SetupError

KEY_VARIABLE = "KLING_API_KEY"
BASE_URL_VARIABLE = "KLING_BASE_URL"
STATE_DIR_VARIABLE = "KLING_STATE_DIR"

DEFAULT_BASE_URL = "https://www.kkiai.com/kling"
ENDPOINT = "/v1/videos/text2video"
KEY_FILE = "api_key"

_PASTED_ALONG = re.compile(r"\s*(authorization:\s*)?bearer(\s+|$)", re.IGNORECASE)

_HOW_TO_SET_A_KEY = (
    f"Make a key on the gateway's website, then put it into the environment variable {KEY_VARIABLE} and restart"
    " ComfyUI, or enter it under Settings > Kling. Never put it into a workflow."
)


@dataclass(frozen=True)
class Settings:
    """What a call needs. Its repr shows neither the key nor the host nor a path, wherever it is printed."""

    base_url: str = field(repr=False)
    state_dir: Path = field(repr=False)
    key: SecretStr


def load(default_state_dir: Path) -> Settings:
    """Read all settings.

    Raises:
        SetupError: one of them is missing or cannot be used; the message says what to do.
    """
    directory = state_dir(default_state_dir)
    return Settings(base_url(), directory, find_key(directory))


def without_key(default_state_dir: Path) -> Settings:
    """The settings for what needs no key, such as showing a request.

    Raises:
        SetupError: the base URL cannot be used.
    """
    return Settings(base_url(), state_dir(default_state_dir), SecretStr(""))


def state_dir(default: Path) -> Path:
    """The directory of the ledger and of the key file: KLING_STATE_DIR, else ``default``.

    Raises:
        SetupError: it is not a whole path. Relative to wherever ComfyUI is started, there would be a record of paid
            tasks for each place, and every graph would be paid once in each.
    """
    named = _variable(STATE_DIR_VARIABLE)
    if not named:
        return default
    try:
        directory = Path(named).expanduser()
    except RuntimeError:
        directory = Path()
    if not directory.is_absolute():
        raise SetupError(
            f"{STATE_DIR_VARIABLE} must be a whole path from the root or from ~, so that it is the same wherever"
            " ComfyUI is started. Correct it, or unset it to use the default."
        )
    return directory


def _variable(name: str) -> str:
    """An environment variable without the spaces and quotes that people set along with it."""
    return os.environ.get(name, "").strip().strip("\"'").strip()


def base_url() -> str:
    """The gateway's address without a slash at the end, for example ``https://www.kkiai.com/kling``.

    However it is spelled, one gateway has one address: it is part of what makes two submissions the same.

    Raises:
        SetupError: it is no https URL (plain http is for this computer alone), or carries more than a path.
    """
    url = _variable(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
    hint = f"Correct {BASE_URL_VARIABLE}, or unset it to use the default."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        raise SetupError(f"{BASE_URL_VARIABLE} is not a URL. {hint}") from None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise SetupError(f"{BASE_URL_VARIABLE} must look like https://host/path. {hint}")
    if any(c in url for c in "@?#\\"):
        raise SetupError(f"{BASE_URL_VARIABLE} may hold a host and a path only. {hint}")
    if parts.scheme == "http" and not is_loopback(host):
        raise SetupError(
            f"{BASE_URL_VARIABLE} is plain http, which would show the key to everyone on the way."
            f" Use https; http is only for this computer. {hint}"
        )
    address = f"[{host}]" if ":" in host else host
    if port not in (None, {"http": 80, "https": 443}[parts.scheme]):
        address = f"{address}:{port}"
    path = parts.path.rstrip("/").removesuffix(ENDPOINT).rstrip("/")
    return f"{parts.scheme}://{address}{path}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) can only be this computer."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_key(directory: Path) -> SecretStr:
    """The key, from the environment or else from the file.

    Raises:
        SetupError: there is none, it cannot be read, or it cannot be a key.
    """
    from_environment = os.environ.get(KEY_VARIABLE, "").strip()
    if from_environment:
        return clean_key(from_environment, KEY_VARIABLE)
    try:
        from_file = (directory / KEY_FILE).read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        from_file = ""
    except (OSError, UnicodeDecodeError):
        raise SetupError(
            f"The file with the key cannot be read. Enter the key again under Settings > Kling, or set {KEY_VARIABLE}."
        ) from None
    if not from_file:
        raise SetupError(f"No API key is set. {_HOW_TO_SET_A_KEY}")
    return clean_key(from_file, "The saved key")


def clean_key(text: str, origin: str) -> SecretStr:
    """The key in ``text``, without what people paste along with it: spaces around it, quotes, ``Bearer``.

    Args:
        origin: what to call the place that it came from.

    Raises:
        SetupError: what is left holds spaces, line breaks or characters that a header cannot carry.
    """
    key = _PASTED_ALONG.sub("", text.strip().strip("\"'")).strip().strip("\"'").strip()
    if not key:
        raise SetupError(f"{origin} is empty. {_HOW_TO_SET_A_KEY}")
    wrong = next((i for i, c in enumerate(key, 1) if not "!" <= c <= "~"), None)
    if wrong is not None:
        kind = "a space or line break" if key[wrong - 1].isspace() else "a character that no key has"
        raise SetupError(f"{origin} has {kind} at position {wrong}. Copy the key again, whole and alone.")
    return SecretStr(key)
