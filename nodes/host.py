"""The only module that uses ComfyUI. Nothing else in the pack names a ComfyUI module.

A node asks ``current(unique_id)`` for its host. That is the host that the headless runner has set with ``use``. If none
is set, it is ComfyUI when the code runs inside ComfyUI, and a console otherwise.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

from .api.printable import printable
from .api.running.threads import Watcher
from .api.submit.step import Preview

_NUMBER = re.compile(r"\d+")


class Host(Watcher, Protocol):
    """What nodes need from the program they run in, in addition to ``Watcher``."""

    dry_run: bool
    max_new: int | None

    def state_dir(self) -> Path:
        """The ledger's directory, unless the environment names another."""

    def temp_dir(self) -> Path:
        """Where downloads go: a directory that the host cleans up."""

    def take_preview(self, preview: Preview, url: str) -> NoReturn:
        """Take the request instead of sending it, and end the node. Called only if ``dry_run`` is true."""

    def video(self, path: Path) -> Any:
        """The file as a value of the host's VIDEO type."""


class ComfyHost:
    """The host of a node inside ComfyUI.

    Args:
        unique_id: the node's id, from the hidden input UNIQUE_ID.
    """

    dry_run = False
    max_new: int | None = None

    def __init__(self, unique_id: str) -> None:
        self._node = unique_id

    def show(self, line: str) -> None:
        """Show one line on the node as progress text, which is not saved and does not mark the node as changed."""
        from server import PromptServer  # type: ignore[import-not-found]

        PromptServer.instance.send_progress_text(line, self._node)

    def progress(self, value: float, total: float) -> None:
        """Move the node's progress bar."""
        from comfy_execution.progress import get_progress_state  # type: ignore[import-not-found]

        get_progress_state().update_progress(self._node, value, total)

    def raise_if_cancelled(self) -> None:
        """Raise ComfyUI's own interrupt if the user has pressed Cancel.

        The flag is not cleared, so that every running node sees it.
        """
        from comfy import model_management  # type: ignore[import-not-found]

        if model_management.processing_interrupted():
            raise model_management.InterruptProcessingException

    def state_dir(self) -> Path:
        """ComfyUI's system user directory for ``kling``. None of ComfyUI's HTTP routes serves it."""
        import folder_paths  # type: ignore[import-not-found]

        if hasattr(folder_paths, "get_system_user_directory"):
            return Path(folder_paths.get_system_user_directory("kling"))
        # ComfyUI before 0.4 has no such directory. It does not serve this one either, because it belongs to no user.
        return Path(folder_paths.get_user_directory()) / "__kling"

    def temp_dir(self) -> Path:
        import folder_paths

        return Path(folder_paths.get_temp_directory())

    def take_preview(self, preview: Preview, url: str) -> NoReturn:
        raise AssertionError("ComfyUI has no dry run")

    def video(self, path: Path) -> Any:
        from comfy_api.input_impl import VideoFromFile  # type: ignore[import-not-found]

        return VideoFromFile(str(path))


class ConsoleHost:
    """The host of a node outside ComfyUI: lines go to a text stream, and a video is a path.

    Args:
        label: the node's name, written before each of its lines.
        out: the stream for the lines; standard error by default.
        repeat: seconds before a line is written again if only its numbers have changed.
        max_new: how many new tasks this run may make, None for any number.
    """

    dry_run = False

    def __init__(
        self, label: str = "", out: TextIO | None = None, repeat: float = 30.0, max_new: int | None = None
    ) -> None:
        self.max_new = max_new
        self._label = f"{label}: " if label else ""
        self._out = out
        self._repeat = repeat
        self._last, self._written_at = "", 0.0

    def show(self, line: str) -> None:
        # A console keeps every line, so a clock or a countdown must not add one each second.
        out = self._out or sys.stderr
        gist, now = _NUMBER.sub("", line), time.monotonic()
        if out is None or (gist == self._last and now - self._written_at < self._repeat):
            return  # pythonw on Windows has no standard error
        self._last, self._written_at = gist, now
        out.write(printable(f"{self._label}{line}") + "\n")
        out.flush()

    def progress(self, value: float, total: float) -> None:
        """Do nothing: a console shows only the lines."""

    def raise_if_cancelled(self) -> None:
        """Do nothing: Ctrl-C ends the whole program."""

    def state_dir(self) -> Path:
        """The directory that the pack uses inside ComfyUI, if it is installed in one: two ledgers would pay twice."""
        comfyui = _comfyui_around()
        return comfyui / "user" / "__kling" if comfyui else Path.home() / ".kling"

    def temp_dir(self) -> Path:
        """A directory that only this user can open, even if all users share the system's temp directory."""
        if not hasattr(os, "getuid"):
            return Path(tempfile.gettempdir()) / "kling"  # on Windows each user has a temp directory
        directory = Path(tempfile.gettempdir()) / f"kling-{os.getuid()}"
        with suppress(OSError):
            directory.mkdir(mode=0o700)
        try:
            found = directory.lstat()
        except OSError:
            return directory  # the download reports what is wrong with the disk
        mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        # Another user may have made it, to plant links to this user's files.
        return directory if mine else Path(tempfile.mkdtemp(prefix="kling-"))

    def take_preview(self, preview: Preview, url: str) -> NoReturn:
        raise AssertionError("this is not a dry run")

    def video(self, path: Path) -> Any:
        return path


@cache
def _comfyui_around() -> Path | None:
    """The ComfyUI folder whose custom_nodes contains the pack, None if there is none."""
    custom_nodes = Path(__file__).resolve().parents[2]
    comfyui = custom_nodes.parent
    return comfyui if custom_nodes.name == "custom_nodes" and (comfyui / "main.py").is_file() else None


_placed: ContextVar[Host | None] = ContextVar("kling_host", default=None)


@contextmanager
def use(host: Host) -> Iterator[Host]:
    """Make ``host`` the current host inside the ``with`` block."""
    token = _placed.set(host)
    try:
        yield host
    finally:
        _placed.reset(token)


def current(unique_id: str | None = None) -> Host:
    """The host of the node that is running."""
    placed = _placed.get()
    if placed is not None:
        return placed
    # ComfyUI loads its server long before any node runs. Importing it here could load an unrelated module.
    return ComfyHost(unique_id or "") if hasattr(sys.modules.get("server"), "PromptServer") else ConsoleHost()


def routes() -> Any:
    """ComfyUI's table of HTTP routes, None outside ComfyUI."""
    server = getattr(sys.modules.get("server"), "PromptServer", None)
    return getattr(getattr(server, "instance", None), "routes", None)
