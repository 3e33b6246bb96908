"""Where the key, the base URL and the state directory come from.

The key comes from the environment, or from the file that ComfyUI's settings panel writes into the state directory. The
base URL comes from the environment only: a setting that anyone on the network can change must not decide where the key
goes. The environment is the one that the pack was loaded with (``environment.py``); the file is read for each run.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from . import environment, private_files
from .errors import SetupError

KEY_VARIABLE = "KLING_API_KEY"
BASE_URL_VARIABLE = "KLING_BASE_URL"
STATE_DIR_VARIABLE = environment.STATE_DIR

DEFAULT_BASE_URL = "https://www.kkiai.com/kling"
ENDPOINT = "/v1/videos/text2video"
KEY_FILE = "api_key"

_AUTH_PREFIX = re.compile(r"\s*(authorization:\s*)?bearer(\s+|$)", re.IGNORECASE)

_HOW_TO_SET_A_KEY = (
    "Create a key on the gateway's website. Then enter it under Settings > Kling, or set the environment variable"
    f" {KEY_VARIABLE} and restart ComfyUI. Never put it into a workflow."
)


@dataclass(frozen=True)
class Settings:
    """What a call needs. The repr hides the key, the host and the path, so it is safe to print."""

    base_url: str = field(repr=False)
    state_dir: Path = field(repr=False)
    key: SecretStr


def load(default_state_dir: Path) -> Settings:
    """Read all settings.

    Raises:
        SetupError: one of them is missing or unusable; the message says what to do.
    """
    directory = state_dir(default_state_dir)
    return Settings(base_url(), directory, find_key(directory))


def without_key(default_state_dir: Path) -> Settings:
    """The settings for work that needs no key, such as showing a request.

    Raises:
        SetupError: the base URL cannot be used.
    """
    return Settings(base_url(), state_dir(default_state_dir), SecretStr(""))


def state_dir(default: Path) -> Path:
    """The directory of the ledger and the key file: KLING_STATE_DIR, or ``default`` if that is not set.

    Raises:
        SetupError: it is not an absolute path. A relative path would give each start directory of ComfyUI its own
            ledger, and every graph would be paid once for each.
    """
    named = _variable(STATE_DIR_VARIABLE)
    if not named:
        return default
    directory = Path(named)
    if not directory.is_absolute():
        raise SetupError(
            f"{STATE_DIR_VARIABLE} must be an absolute path (~ is allowed). Correct it, or unset it to use the default,"
            " and restart ComfyUI."
        )
    return directory


def _variable(name: str) -> str:
    """A variable without spaces and quotes around it."""
    return environment.get(name).strip("\"'").strip()


def base_url() -> str:
    """The gateway's address without a slash at the end, for example ``https://www.kkiai.com/kling``.

    Two spellings of one address give the same text, because the address is part of what identifies a submission.

    Raises:
        SetupError: it is not an https URL (plain http is only for this computer), or has more than a host and a path.
    """
    url = _variable(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
    hint = f"Correct {BASE_URL_VARIABLE}, or unset it to use the default, and restart ComfyUI."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        raise SetupError(f"{BASE_URL_VARIABLE} is not a URL. {hint}") from None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise SetupError(f"{BASE_URL_VARIABLE} must look like https://host/path. {hint}")
    if any(c in url for c in "@?#\\"):
        raise SetupError(f"{BASE_URL_VARIABLE} may contain only a host and a path. {hint}")
    if parts.scheme == "http" and not is_loopback(host):
        raise SetupError(
            f"{BASE_URL_VARIABLE} is plain http, which would send the key unencrypted."
            f" Use https; http is only allowed for this computer. {hint}"
        )
    address = f"[{host}]" if ":" in host else host
    if port not in (None, {"http": 80, "https": 443}[parts.scheme]):
        address = f"{address}:{port}"
    path = parts.path.rstrip("/").removesuffix(ENDPOINT).rstrip("/")
    return f"{parts.scheme}://{address}{path}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) always means this computer."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_key(directory: Path) -> SecretStr:
    """The key, from the environment or, if that has none, from the file.

    Raises:
        SetupError: no key is set, the file cannot be read, or the text cannot be a key.
    """
    from_environment = environment.get(KEY_VARIABLE)
    if from_environment:
        return clean_key(from_environment, KEY_VARIABLE)
    try:
        from_file = private_files.read(directory / KEY_FILE).decode("utf-8-sig").strip()
    except FileNotFoundError:
        from_file = ""
    except (OSError, UnicodeDecodeError):
        raise SetupError(
            f"The saved key cannot be read. Enter it again under Settings > Kling, or set {KEY_VARIABLE}."
        ) from None
    if not from_file:
        raise SetupError(f"No API key is set. {_HOW_TO_SET_A_KEY}")
    return clean_key(from_file, "The saved key")


def clean_key(text: str, origin: str) -> SecretStr:
    """The key in ``text``, without what people often paste with it: spaces, quotes, ``Bearer``.

    Args:
        origin: where the text came from, in words for the message.

    Raises:
        SetupError: nothing is left, or the rest contains spaces, line breaks or characters that a header cannot carry.
    """
    key = _AUTH_PREFIX.sub("", text.strip().strip("\"'")).strip().strip("\"'").strip()
    if not key:
        raise SetupError(f"{origin} is empty. {_HOW_TO_SET_A_KEY}")
    wrong = next((i for i, c in enumerate(key, 1) if not "!" <= c <= "~"), None)
    if wrong is not None:
        kind = "a space or line break" if key[wrong - 1].isspace() else "an invalid character"
        raise SetupError(f"{origin} has {kind} at position {wrong}. Copy the whole key again, and nothing else.")
    return SecretStr(key)


def write_private(path: Path, text: str, what: str) -> None:
    """Write a file of the state directory that only its owner can read, completely or not at all.

    Args:
        what: what to call the content in the error.

    Raises:
        SetupError: it cannot be written.
    """
    try:
        private_files.write(path, text)
    except OSError as error:
        raise SetupError(f"{what} could not be saved: {error.strerror}. Check the state directory.") from None
