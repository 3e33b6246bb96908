"""The only door to ComfyUI. Nothing else in the pack names a module of the host.

A node asks ``current(unique_id)`` for its host: ComfyUI if the code runs inside it, a console otherwise, or
whatever the headless runner has put in place with ``use``.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

from .api.running.threads import Watcher

_NUMBER = re.compile(r"\d+")


class Host(Watcher, Protocol):
    """What nodes need of the program that they run in, beyond what a job needs (``Watcher``)."""

    dry_run: bool

    def state_dir(self) -> Path:
        """Where the ledger lies unless the environment says otherwise."""

    def temp_dir(self) -> Path:
        """Where downloads go: a directory that the host empties by itself."""

    def dry_run_body(self, body: Mapping[str, Any], url: str) -> NoReturn:
        """Take the request that would have been sent, and end the node. Only for a host with ``dry_run``."""

    def video(self, path: Path) -> Any:
        """The file as a value of the host's type VIDEO."""


class ComfyHost:
    """A node inside ComfyUI.

    Args:
        unique_id: the node's id, as the hidden input UNIQUE_ID gives it.
    """

    dry_run = False

    def __init__(self, unique_id: str) -> None:
        self._node = unique_id

    def show(self, line: str) -> None:
        """Show one line on the node, by the host's progress text: it is neither saved nor makes the node dirty."""
        from server import PromptServer  # type: ignore[import-not-found]

        PromptServer.instance.send_progress_text(line, self._node)

    def progress(self, value: float, total: float) -> None:
        """Move the node's progress bar."""
        from comfy_execution.progress import get_progress_state  # type: ignore[import-not-found]

        get_progress_state().update_progress(self._node, value, total)

    def raise_if_cancelled(self) -> None:
        """Raise the host's own interrupt when the user has pressed Cancel.

        The flag is left as it is, so that every node that runs at the moment sees it.
        """
        from comfy import model_management  # type: ignore[import-not-found]

        if model_management.processing_interrupted():
            raise model_management.InterruptProcessingException

    def state_dir(self) -> Path:
        """ComfyUI's system user directory for ``kling``, which none of its HTTP routes serves."""
        import folder_paths  # type: ignore[import-not-found]

        if hasattr(folder_paths, "get_system_user_directory"):
            return Path(folder_paths.get_system_user_directory("kling"))
        # Before 0.4 there was no such directory; a name that is no user's is not served either.
        return Path(folder_paths.get_user_directory()) / "__kling"

    def temp_dir(self) -> Path:
        import folder_paths

        return Path(folder_paths.get_temp_directory())

    def dry_run_body(self, body: Mapping[str, Any], url: str) -> NoReturn:
        raise AssertionError("ComfyUI has no dry run")

    def video(self, path: Path) -> Any:
        from comfy_api.input_impl import VideoFromFile  # type: ignore[import-not-found]

        return VideoFromFile(str(path))


class ConsoleHost:
    """A node outside ComfyUI: lines go to a text stream, a video is its path.

    Args:
        label: what to call the node in front of its lines.
        out: where the lines go; standard error if left out.
        repeat: seconds after which a line is written again of which only the numbers have changed.
    """

    dry_run = False

    def __init__(self, label: str = "", out: TextIO | None = None, repeat: float = 30.0) -> None:
        self._label = f"{label}: " if label else ""
        self._out = out
        self._repeat = repeat
        self._last, self._written_at = "", 0.0

    def show(self, line: str) -> None:
        # Every line stays on a console, so a clock or a countdown is not written each second.
        out = self._out or sys.stderr
        gist, now = _NUMBER.sub("", line), time.monotonic()
        if out is None or (gist == self._last and now - self._written_at < self._repeat):
            return  # pythonw on Windows has no standard error
        self._last, self._written_at = gist, now
        out.write(f"{self._label}{line}\n")
        out.flush()

    def progress(self, value: float, total: float) -> None:
        """A console shows the line alone."""

    def raise_if_cancelled(self) -> None:
        """Ctrl-C ends the whole program, so there is nothing to ask."""

    def state_dir(self) -> Path:
        """That of the ComfyUI that the pack lies in, used there or not: two records would mean paying twice."""
        comfyui = _comfyui_around()
        return comfyui / "user" / "__kling" if comfyui else Path.home() / ".kling"

    def temp_dir(self) -> Path:
        """A directory of this user alone, also where all users share the system's."""
        if not hasattr(os, "getuid"):
            return Path(tempfile.gettempdir()) / "kling"  # on Windows that is the user's own
        directory = Path(tempfile.gettempdir()) / f"kling-{os.getuid()}"
        with suppress(OSError):
            directory.mkdir(mode=0o700)
        try:
            found = directory.lstat()
        except OSError:
            return directory  # the download will say what is wrong with the disk
        mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        # Somebody else may have made it, to put links into it that lead to this user's files.
        return directory if mine else Path(tempfile.mkdtemp(prefix="kling-"))

    def dry_run_body(self, body: Mapping[str, Any], url: str) -> NoReturn:
        raise AssertionError("this is no dry run")

    def video(self, path: Path) -> Any:
        return path


@cache
def _comfyui_around() -> Path | None:
    """The folder of the ComfyUI in whose custom_nodes the pack lies, if it does."""
    custom_nodes = Path(__file__).resolve().parents[2]
    comfyui = custom_nodes.parent
    return comfyui if custom_nodes.name == "custom_nodes" and (comfyui / "main.py").is_file() else None


_placed: ContextVar[Host | None] = ContextVar("kling_host", default=None)


@contextmanager
def use(host: Host) -> Iterator[Host]:
    """Make ``host`` the current one for the nodes that run inside."""
    token = _placed.set(host)
    try:
        yield host
    finally:
        _placed.reset(token)


def current(unique_id: str | None = None) -> Host:
    """The host of the node that runs now."""
    placed = _placed.get()
    if placed is not None:
        return placed
    # ComfyUI has loaded its server long before any node runs; asking for it here would load a stranger's.
    return ComfyHost(unique_id or "") if hasattr(sys.modules.get("server"), "PromptServer") else ConsoleHost()


def routes() -> Any:
    """The table that ComfyUI's HTTP routes are added to; None outside ComfyUI."""
    server = getattr(sys.modules.get("server"), "PromptServer", None)
    return getattr(getattr(server, "instance", None), "routes", None)
