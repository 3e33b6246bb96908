"""One try at downloading a video: streamed into a file, checked, and continued where the last try stopped.

An incomplete download is two files: ``.part`` with the bytes so far, and ``.part.json`` with what identifies this
version of the file on the server. The next try continues from them, even in a later run. The complete file gets its
name in one step, and is reused as long as it exists.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from .. import environment, private_files
from ..errors import KlingError, SetupError, UnavailableError
from ..gateway.foreign_text import first_words
from ..gateway.network_errors import what_broke
from ..gateway.outcome import retry_after
from ..ledger.filelock import acquire
from ..pace import Pace
from ..settings import Settings
from . import untrusted
from .mp4 import is_video, missing_bytes

MAX_VARIABLE = "KLING_MAX_VIDEO_MB"
MAX_DEFAULT = 2048

_MB = 1 << 20
_CHUNK = 1 << 14
_HEAD = 4096
_LOCKS = 256
_TEMP = "ComfyUI's temp directory"

_slots = threading.BoundedSemaphore(8)
"""Limits the downloads at the same time. The other threads of the pool stay free for queries and submissions."""


def max_bytes() -> int:
    """The largest video that is downloaded, in bytes.

    Raises:
        SetupError: KLING_MAX_VIDEO_MB is not a whole number of at least 1.
    """
    text = environment.get(MAX_VARIABLE) or str(MAX_DEFAULT)
    if not (text.isascii() and text.isdecimal() and len(text) < 13 and int(text) > 0):
        raise SetupError(
            f"{MAX_VARIABLE} must be a whole number of megabytes, 1 or more."
            f" Correct it, or unset it to use the default of {MAX_DEFAULT}, and restart ComfyUI."
        )
    return int(text) * _MB


class Broken(Exception):
    """The try failed; another one may succeed.

    Attributes:
        reason: what happened, in a few words without the address.
        retry_after: the pause in seconds that the server asked for, None if it asked for none.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        self.reason = reason
        self.retry_after = retry_after


class Gone(Exception):
    """The link does not work, or no longer works."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass(frozen=True)
class _Partial:
    """What an earlier try has left of a file.

    Attributes:
        size: bytes on disk.
        validator: the server's ETag or date for this exact version, "" if the download cannot be continued.
        total: bytes of the whole file, None if unknown.
    """

    size: int = 0
    validator: str = ""
    total: int | None = None


class Transfer:
    """The download of one video. ``run`` is for worker threads, the rest for the event loop.

    Args:
        task_id: names the file, together with the gateway. The URL does not, because a stranger chose its text.

    Attributes:
        stop: set it to end ``run`` soon.
        received: bytes so far.
        trouble: what the node shows until new bytes arrive.

    Raises:
        SetupError: KLING_MAX_VIDEO_MB is invalid.
    """

    def __init__(self, settings: Settings, task_id: str, directory: Path, pace: Pace) -> None:
        identity = hashlib.sha256(f"{settings.base_url}\0{task_id}".encode("utf-8", "replace")).hexdigest()
        name = f"kling-{re.sub(r'[^A-Za-z0-9_-]+', '_', task_id)[:48]}-{identity[:12]}.mp4"
        self.stop = threading.Event()
        self.received = 0
        self.trouble = ""
        self._total: int | None = None
        self._waits = False
        self._gateway = settings.base_url
        self._silence = pace.download_silence
        self._most = max_bytes()
        self._file = directory / name
        self._part = directory / f"{name}.part"
        self._notes = directory / f"{name}.part.json"
        # A lock file cannot be removed while somebody may be about to lock it, so their number is fixed. Beside the
        # ledger, locks are known to work.
        self._lock = settings.state_dir / "downloads" / f"{int(identity[:8], 16) % _LOCKS:02x}.lock"

    # On the node

    def line(self) -> str:
        """What the node should show now."""
        if self._waits:
            return "downloading, waiting for other downloads"
        size = f"{self.received / _MB:.1f}" + (f" of {self._total / _MB:.1f}" if self._total else "")
        return f"downloading, {size} MB" + (f" ({self.trouble}, trying again)" if self.trouble else "")

    def done(self) -> float:
        """How much of the file is here, from 0 to 1."""
        return min(1, self.received / self._total) if self._total else 0

    # In a worker thread

    def run(self, url: str) -> Path | None:
        """Download until the file is complete or ``stop`` is set.

        Returns:
            The file. None if it was stopped, if somebody else downloads this file, or if too many downloads run.

        Raises:
            Broken: another try may succeed.
            Gone: the link does not work.
            SetupError, UnavailableError: another try right away does not help.
        """
        with _on_disk(_TEMP):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if self._is_there():
                return self._file
        self._waits = not _slots.acquire(blocking=False)
        if self._waits:
            return None
        try:
            with _on_disk("the state directory"):
                private_files.make_subdirectory(self._lock.parents[1], self._lock.parent.name)
                lock = acquire(self._lock)
            self._waits = lock is None
            if lock is None:
                return None
            with closing(lock):
                return self._file if self._is_there() or self._download(url) else None
        finally:
            _slots.release()

    def _is_there(self) -> bool:
        with suppress(FileNotFoundError):
            self.received = self._total = self._file.stat().st_size
            return self.received > 0
        return False

    def _download(self, url: str) -> bool:
        """One exchange with the server. False if it was stopped."""
        partial = self._read_part()
        headers = {"Accept-Encoding": "identity"}
        if partial.size:
            headers |= {"Range": f"bytes={partial.size}-", "If-Range": partial.validator}
        try:
            with untrusted.opened(url, self._gateway, headers, self._silence) as response:
                partial = (
                    self._resumed(response, partial) if response.status_code == 206 else self._from_start(response)
                )
                self._total, self.received = partial.total, partial.size
                if not self._receive(response, partial):
                    return False
                self._finish(response.headers.get("Content-Type", ""))
                return True
        except OSError as error:
            # Exceptions of requests are OSErrors. A plain OSError means that the CA bundle is missing.
            raise Broken(what_broke(error)) from None
        except KlingError:
            # The bytes so far are useless after these errors, and a full disk needs the space.
            self._discard()
            raise

    def _from_start(self, response: requests.Response) -> _Partial:
        """Check an answer that should contain the whole file."""
        status = response.status_code
        if status == 416:
            self._discard()
            raise Broken("the file on the server is shorter now")
        if status in (408, 425, 429) or status >= 500:
            headers = {name.lower(): value for name, value in response.headers.items()}
            raise Broken(f"HTTP {status}", retry_after(headers))
        if status != 200:
            raise Gone(status)
        length = response.headers.get("Content-Length", "")
        # The length counts the bytes on the wire. With an encoding, that is not the size of the file.
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        total = int(length[:18]) if plain and length.isascii() and length.isdecimal() else None
        self._check_size(total or 0)
        return _Partial(0, _validator(response) if plain else "", total)

    def _resumed(self, response: requests.Response, partial: _Partial) -> _Partial:
        """Check an answer that should contain the rest of the file."""
        found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", response.headers.get("Content-Range", "").strip())
        same = _validator(response) in ("", partial.validator)
        if not found or not same or int(found[1]) != partial.size or partial.total not in (None, int(found[2])):
            self._discard()
            raise Broken("the file on the server has changed")
        self._check_size(int(found[2]))
        return _Partial(partial.size, partial.validator, int(found[2]))

    def _receive(self, response: requests.Response, partial: _Partial) -> bool:
        """Write the body to the file. False if it was stopped."""
        head = b""
        with _on_disk(_TEMP), self._part.open("ab" if partial.size else "wb") as file:
            if not partial.size:
                # Notes on a new version must never go with bytes of an old one, so the file is emptied first.
                self._notes.write_text(json.dumps([partial.validator, partial.total]), encoding="utf-8")
            for chunk in _chunks(response):
                if self.stop.is_set():
                    return False
                if not partial.size and len(head) < _HEAD:
                    head += chunk
                    if len(head) >= _HEAD:
                        _check_kind(head, response.headers.get("Content-Type", ""))
                self._check_size(self.received + len(chunk))
                file.write(chunk)
                self.received += len(chunk)
                self.trouble = ""
        # urllib3 before version 2 does not notice this.
        if partial.total is not None and self.received < partial.total:
            raise Broken("the connection broke")
        return True

    def _finish(self, content_type: str) -> None:
        """Check the complete file and give it its name."""
        with _on_disk(_TEMP):
            with self._part.open("rb") as file:
                _check_kind(file.read(_HEAD), content_type)
                missing = missing_bytes(file)
            if missing:
                self._discard()
                raise Broken(f"the file on the server is incomplete, {missing} bytes are missing")
            self._part.replace(self._file)
            self._notes.unlink(missing_ok=True)

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise SetupError(
                f"The video is larger than the {self._most // _MB} MB that are allowed. Raise {MAX_VARIABLE}, restart"
                " ComfyUI and run again; nothing is paid again."
            )

    def _read_part(self) -> _Partial:
        """What an earlier try has left; nothing if it cannot be continued."""
        try:
            validator, total = json.loads(self._notes.read_text(encoding="utf-8"))
            size = self._part.stat().st_size
        except (OSError, ValueError, TypeError):
            return _Partial()
        usable = isinstance(validator, str) and validator and isinstance(total, (int, type(None)))
        return _Partial(size, validator, total) if usable else _Partial()

    def _discard(self) -> None:
        # On Windows a virus scanner may hold one of them open. Without its notes, a part is not used again.
        for leftover in (self._notes, self._part):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _check_kind(head: bytes, content_type: str) -> None:
    if not is_video(head, content_type):
        raise UnavailableError(
            f"The file behind the gateway's link is not a video: {first_words(head)}. Run again later; nothing is paid"
            " again. If this keeps happening, contact the gateway's support."
        )


@contextmanager
def _on_disk(place: str) -> Iterator[None]:
    """Turn an error of the file system into one for the user, without the path that the system's text contains."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        cause, advice = str(error), "Fix this"
        if isinstance(error, OSError):
            cause = error.strerror or type(error).__name__
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                cause, advice = "its disk is full", "Free some space"
        raise SetupError(
            f"The video cannot be saved in {place}: {cause}. {advice} and run again; nothing is paid again."
        ) from None


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_CHUNK)
    except OSError as error:  # exceptions of requests are OSErrors
        raise Broken(what_broke(error)) from None


def _validator(response: requests.Response) -> str:
    """What identifies this exact version of the file, "" if nothing does. A weak ETag may cover other bytes, too."""
    tag = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
