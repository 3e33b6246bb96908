"""One try at bringing a video into a file: streamed, checked, and begun where the last try broke off.

Until it is complete a download is two files: ``.part`` with the bytes so far, and ``.part.json`` with what tells
whether the server still has the same file. So the next try goes on with it, also one of a later run. The complete
file gets its name in one step, and is used again as long as it is there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from ..errors import KlingError, SetupError, UnavailableError
from ..gateway.answer import first_words
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
"""Downloads at the same time. The other threads of the pool stay free for questions and submissions."""


def max_bytes() -> int:
    """The most bytes that a video may have.

    Raises:
        SetupError: KLING_MAX_VIDEO_MB is no whole number from 1 up.
    """
    text = os.environ.get(MAX_VARIABLE, "").strip() or str(MAX_DEFAULT)
    if not (text.isascii() and text.isdecimal() and len(text) < 13 and int(text) > 0):
        raise SetupError(
            f"{MAX_VARIABLE} must be a whole number of megabytes, 1 or more."
            f" Correct it, or unset it to use the default of {MAX_DEFAULT}."
        )
    return int(text) * _MB


class Broken(Exception):
    """The try broke off; another one may get on.

    Attributes:
        reason: what happened, in a few words without the address.
        retry_after: the pause in seconds that the server asked for, None if it did not.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        self.reason = reason
        self.retry_after = retry_after


class Gone(Exception):
    """The link leads to no file, or not any more."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass(frozen=True)
class _Begun:
    """What there is of a file.

    Attributes:
        size: bytes on disk.
        validator: the server's ETag or date of this very version, "" if it cannot be gone on with.
        total: bytes of the whole file, None if unknown.
    """

    size: int = 0
    validator: str = ""
    total: int | None = None


class Transfer:
    """A video on its way into one file. ``run`` is for worker threads, the rest for the event loop.

    Args:
        task_id: names the file, together with the gateway; the URL never does, because it is a stranger's text.

    Attributes:
        stop: set it to end ``run`` soon.
        received: bytes so far.
        trouble: what to say on the node until new bytes come.

    Raises:
        SetupError: KLING_MAX_VIDEO_MB cannot be used.
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
        # A fixed number of lock files, so that none has to be removed while somebody is about to take it; beside the
        # ledger, because there locks are known to work.
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
            The file. None if it was stopped, somebody else is at this file, or too many are at theirs.

        Raises:
            Broken, Gone: as they say.
            SetupError, UnavailableError: trying again right away does not help.
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
                self._lock.parent.mkdir(parents=True, exist_ok=True)
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
        """One exchange with the server; False if it was stopped."""
        begun = self._read_part()
        headers = {"Accept-Encoding": "identity"}
        if begun.size:
            headers |= {"Range": f"bytes={begun.size}-", "If-Range": begun.validator}
        try:
            with untrusted.opened(url, self._gateway, headers, self._silence) as response:
                begun = self._resumed(response, begun) if response.status_code == 206 else self._anew(response)
                self._total, self.received = begun.total, begun.size
                if not self._receive(response, begun):
                    return False
                self._finish(response.headers.get("Content-Type", ""))
                return True
        except OSError as error:
            # Every exception of requests is one; a bare one says, with its path, that the CA bundle is not there.
            raise Broken(what_broke(error)) from None
        except KlingError:
            # None of these gets better by going on with what there is. A full disk gets it back.
            self._discard()
            raise

    def _anew(self, response: requests.Response) -> _Begun:
        """Judge an answer that brings a file from its beginning, or none."""
        status = response.status_code
        if status == 416:
            self._discard()
            raise Broken("the file has become shorter")
        if status in (408, 425, 429) or status >= 500:
            headers = {name.lower(): value for name, value in response.headers.items()}
            raise Broken(f"HTTP {status}", retry_after(headers))
        if status != 200:
            raise Gone(status)
        length = response.headers.get("Content-Length", "")
        # A length counts what goes over the wire, which is not the file if that was packed on the way.
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        total = int(length[:18]) if plain and length.isascii() and length.isdecimal() else None
        self._check_size(total or 0)
        return _Begun(0, _validator(response) if plain else "", total)

    def _resumed(self, response: requests.Response, begun: _Begun) -> _Begun:
        """Judge an answer that brings the rest of a file."""
        found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", response.headers.get("Content-Range", "").strip())
        same = _validator(response) in ("", begun.validator)
        if not found or not same or int(found[1]) != begun.size or begun.total not in (None, int(found[2])):
            self._discard()
            raise Broken("the file has changed")
        self._check_size(int(found[2]))
        return _Begun(begun.size, begun.validator, int(found[2]))

    def _receive(self, response: requests.Response, begun: _Begun) -> bool:
        """Write the body to the file; False if it was stopped."""
        head = b""
        with _on_disk(_TEMP), self._part.open("ab" if begun.size else "wb") as file:
            if not begun.size:
                # Not before the file was emptied: notes on a new version must never stand beside bytes of an old one.
                self._notes.write_text(json.dumps([begun.validator, begun.total]), encoding="utf-8")
            for chunk in _chunks(response):
                if self.stop.is_set():
                    return False
                if not begun.size and len(head) < _HEAD:
                    head += chunk
                    if len(head) >= _HEAD:
                        _check_kind(head, response.headers.get("Content-Type", ""))
                self._check_size(self.received + len(chunk))
                file.write(chunk)
                self.received += len(chunk)
                self.trouble = ""
        # urllib3 notices by itself only from version 2 on.
        if begun.total is not None and self.received < begun.total:
            raise Broken("the connection broke")
        return True

    def _finish(self, content_type: str) -> None:
        """Check the whole file and give it its name."""
        with _on_disk(_TEMP):
            with self._part.open("rb") as file:
                _check_kind(file.read(_HEAD), content_type)
                missing = missing_bytes(file)
            if missing:
                self._discard()
                raise Broken(f"the server's file is cut off, {missing} bytes are missing")
            self._part.replace(self._file)
            self._notes.unlink(missing_ok=True)

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise SetupError(
                f"The video has more than the {self._most // _MB} MB that are allowed. Set {MAX_VARIABLE} to more"
                " megabytes, restart ComfyUI and run again; nothing is paid again."
            )

    def _read_part(self) -> _Begun:
        """What an earlier try has left; nothing if that cannot be gone on with."""
        try:
            validator, total = json.loads(self._notes.read_text(encoding="utf-8"))
            size = self._part.stat().st_size
        except (OSError, ValueError, TypeError):
            return _Begun()
        usable = isinstance(validator, str) and validator and isinstance(total, (int, type(None)))
        return _Begun(size, validator, total) if usable else _Begun()

    def _discard(self) -> None:
        # A scanner may hold one of them open on Windows. Without its notes a part is not used again.
        for leftover in (self._notes, self._part):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _check_kind(head: bytes, content_type: str) -> None:
    if not is_video(head, content_type):
        raise UnavailableError(
            f"The gateway's link leads to no video: {first_words(head)}. Run again later, nothing is paid again; if it"
            " stays so, ask the gateway's support."
        )


@contextmanager
def _on_disk(place: str) -> Iterator[None]:
    """Turn what the file system refuses into an error for the user, without the path that the system's text holds."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        cause, advice = str(error), "Mend it"
        if isinstance(error, OSError):
            cause = error.strerror or type(error).__name__
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                cause, advice = "its disk is full", "Free space"
        raise SetupError(
            f"The video cannot be kept in {place}: {cause}. {advice}, then run again; nothing is paid again."
        ) from None


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_CHUNK)
    except OSError as error:  # every exception of requests is one
        raise Broken(what_broke(error)) from None


def _validator(response: requests.Response) -> str:
    """What names this very version of the file, "" without it. A weak ETag may stand for other bytes."""
    tag = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
