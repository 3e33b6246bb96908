"""The files of the state directory: only their owner can open them, from the moment they exist.

The directory has the mode 0700 and its files 0600, whatever the umask. An older directory is tightened when it is used.
No file is opened or changed through a symbolic link; the state directory itself may be one.

Windows has no such modes. There a file inherits the access list of its folder, and a newer Python (3.13, and security
releases since 2024) makes a new directory that only its user and administrators can open.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import tempfile
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from itertools import takewhile
from pathlib import Path

from .errors import SetupError

_log = logging.getLogger("kling")

_OURS = (
    "ledger.db*",
    "ledger-*",
    "installation_id*",
    "files.lock*",
    "api_key",
    "limits.json",
    ".*-*",  # drafts
    ".nfs*",  # what NFS keeps of a deleted file that is open
    "processes",
    "downloads",
)
"""The names that the pack gives. A directory that holds others too is not the pack's to change."""

_PERMISSIONS = 0o077
_MAY_WRITE = 0o022


def make_directory(directory: Path) -> None:
    """Make the state directory, or make it private.

    Raises:
        SetupError: other users may write to it, and it is not the pack's to change.
        OSError: it cannot be made or read.
    """
    _make(directory)
    if sys.platform == "win32":
        return
    found = directory.stat()
    with os.scandir(directory) as scan:
        entries = list(scan)
    ours = [entry for entry in entries if any(fnmatchcase(entry.name, pattern) for pattern in _OURS)]
    mode = stat.S_IMODE(found.st_mode)
    # Others may need the permissions of a directory that the pack shares with them, such as /tmp.
    is_shared = len(ours) < len(entries) or bool(mode & stat.S_ISVTX)
    if mode & _PERMISSIONS and not is_shared:
        with suppress(OSError):
            directory.chmod(0o700)
        mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & _MAY_WRITE:
        if is_shared or found.st_uid != os.geteuid():
            raise SetupError(
                "Other users of this computer may write to the state directory, so it is not used: they could replace"
                " the saved key and the ledger of paid tasks. Take that permission away (chmod go-w), or move the"
                " pack's files into a directory of their own and set KLING_STATE_DIR to it."
            )
        _warn_of(directory)
    for entry in ours:
        _tighten(entry)


def make_subdirectory(directory: Path, name: str) -> Path:
    """Make a directory inside the state directory, and the state directory if need be.

    Raises:
        SetupError: as for ``make_directory``.
        OSError: it cannot be made, or is a link.
    """
    make_directory(directory)
    path = directory / name
    _make(path)
    refuse_link(path)
    return path


def prepare(path: Path) -> None:
    """Make a private file, empty if it is new, before somebody else's code opens it.

    An existing file is not opened: closing it would release the locks that SQLite holds on it in this process.

    Raises:
        OSError: it cannot be made, or is a link or no file.
    """
    try:
        number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        refuse_link(path)
        return
    _keep_for_owner(number)
    os.close(number)


def refuse_link(path: Path) -> None:
    """Raise OSError if ``path`` is a symbolic link. It may lead to any file of the user."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path.name} is a symbolic link, and the pack follows none there")


def read(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read, or is a link.
    """
    refuse_link(path)
    return path.read_bytes()


def write(path: Path, text: str) -> None:
    """Write a file completely or not at all. It is on the disk afterwards.

    Raises:
        SetupError: as for ``make_directory``.
        OSError: it cannot be written.
    """
    make_directory(path.parent)
    number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        _keep_for_owner(number)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            _sync(number)
        Path(name).replace(path)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise
    sync_directory(path.parent)


def empty(path: Path) -> None:
    """Take all content from a file that nobody has locked.

    Raises:
        OSError: it cannot be written, is a link, or has a second name outside the state directory.
    """
    refuse_link(path)
    if path.stat().st_nlink > 1:
        raise OSError(errno.EMLINK, f"{path.name} is a hard link, and the pack changes none there")
    path.write_bytes(b"")


def sync_directory(directory: Path) -> None:
    """Bring new and changed names in a directory to the disk. Windows cannot be told to, and keeps a journal."""
    if sys.platform != "win32":
        with suppress(OSError):  # some network file systems cannot
            number = os.open(directory, os.O_RDONLY)
            try:
                _sync(number)
            finally:
                os.close(number)


def _make(directory: Path) -> None:
    """Make a directory if there is none, and bring its name and those of new parents to the disk."""
    new = [directory, *takewhile(lambda parent: not parent.exists(), directory.parents)]
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        return
    directory.chmod(0o700)  # an odd umask takes permissions from the owner, too
    for path in new:
        sync_directory(path.parent)


def _keep_for_owner(number: int) -> None:
    if sys.platform != "win32":
        os.fchmod(number, 0o600)  # for an odd umask


def _sync(number: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # a network file system cannot
            fcntl.fcntl(number, fcntl.F_FULLFSYNC)  # fsync leaves data in the drive's cache there
            return
    os.fsync(number)


def _tighten(entry: os.DirEntry[str]) -> None:
    with suppress(OSError):  # gone meanwhile, or a file of another user: the directory keeps others out
        mode = entry.stat(follow_symlinks=False).st_mode
        if mode & _PERMISSIONS and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            Path(entry.path).chmod(0o700 if stat.S_ISDIR(mode) else 0o600)


@cache
def _warn_of(directory: Path) -> None:
    """Say once that the permissions cannot be changed, as on a mounted Windows drive."""
    _log.warning(
        "Kling: other users of this computer may write to the state directory, and its file system does not let the"
        " pack change that. If there are others, set KLING_STATE_DIR to a directory elsewhere and move the files there."
    )
