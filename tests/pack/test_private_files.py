"""The state directory: nobody else can open its files, and none leads out of it."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY
from fault_process import modes
from fault_tools import PATIENT, Process, opened, submit

from nodes.api import settings
from nodes.api.errors import SetupError
from nodes.api.ledger.filelock import acquire
from nodes.api.ledger.record import Ledger
from nodes.api.spending import limits
from nodes.sandbox import Sandbox

pytest_plugins = ["fault_fixtures"]

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has access lists instead of modes")
LINKS = pytest.mark.skipif(sys.platform == "win32", reason="on Windows only administrators can make links")
ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
NOBODY = 65534
PRECIOUS = b"not a database, and precious" * 100
COMPANIONS = ["ledger.db-wal", "ledger.db-shm", "ledger.db-journal"]


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that every user can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def use_all(sandbox: Sandbox, state: Path, umask: int, user: int = 0) -> list[dict[str, Any]]:
    with Process("use_all", base_url=sandbox.base_url, state=str(state), umask=umask, user=user) as process:
        process.go()
        return process.results()


def assert_private(found: dict[str, str]) -> None:
    directories = {".", "processes"}
    assert {name: mode for name, mode in found.items() if mode != ("0o700" if name in directories else "0o600")} == {}


# Permissions


@POSIX
@pytest.mark.parametrize("umask", [0, 0o022, 0o277, 0o777], ids=oct)
def test_whatever_the_umask_only_the_owner_can_open_the_files(sandbox: Sandbox, state: Path, umask: int) -> None:
    result, during, after = use_all(sandbox, state, umask)
    assert result["task_id"] in sandbox.tasks
    assert {"api_key", "limits.json", "installation_id", "files.lock", "ledger.db", *COMPANIONS[:2]} < set(during)
    assert any(name.startswith("processes/") for name in during)
    assert_private(during)
    assert_private(after)


@POSIX
def test_what_an_older_release_has_left_open_is_closed_to_others(sandbox: Sandbox, state: Path) -> None:
    with opened(sandbox.base_url, state, PATIENT) as account:
        task_id = submit(account).task_id
    (state / "ledger.db").replace(state / "ledger-damaged-20261101-000000-abcd.db")
    (state / "downloads").mkdir()
    # A ledger of today that another process still has open.
    with closing(sqlite3.connect(state / "ledger.db")) as older:
        older.execute("PRAGMA journal_mode = WAL")
        older.execute("CREATE TABLE of_somebody_else (x)")
        settings.write_private(state / "api_key", KEY, "The key")
        limits.save(state, 20, 0)
        for path in state.rglob("*"):
            path.chmod(0o777)
        state.chmod(0o777)
        with opened(sandbox.base_url, state, PATIENT) as account:
            assert submit(account).task_id == task_id
            found = modes(state)
    assert set(COMPANIONS[:2]) < set(found)
    # Locks of other processes are empty, and their directory is closed.
    assert_private({name: mode for name, mode in found.items() if "/" not in name and name != "downloads"})
    assert found["downloads"] == "0o700"


@POSIX
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777], ids=oct)
def test_a_directory_with_files_of_others_that_they_may_write_is_refused_and_left_alone(
    sandbox: Sandbox, state: Path, mode: int
) -> None:
    state.mkdir()
    (state / "shared.txt").write_bytes(b"of somebody else")
    state.chmod(mode)
    with pytest.raises(SetupError, match=r"may write to the state directory.* \(chmod go-w\).* set KLING_STATE_DIR"):
        Ledger(state)
    with pytest.raises(SetupError, match="may write to the state directory"):
        settings.write_private(state / "api_key", KEY, "The key")
    assert modes(state) == {".": oct(mode), "shared.txt": "0o644"}


@POSIX
def test_a_directory_that_others_may_only_read_keeps_its_mode_if_it_holds_their_files(state: Path) -> None:
    state.mkdir(mode=0o755)
    (state / "shared.txt").write_bytes(b"of somebody else")
    with closing(Ledger(state)):
        found = modes(state)
    assert found.pop(".") == "0o755" and found.pop("shared.txt") == "0o644"
    assert_private(found)


@POSIX
@ROOT
def test_a_directory_of_another_user_that_all_may_write_is_refused(sandbox: Sandbox, open_to_all: Path) -> None:
    state = open_to_all / "state"
    state.mkdir()
    state.chmod(0o777)
    (result,) = use_all(sandbox, state, 0o022, user=NOBODY)
    assert result["error"] == "SetupError" and "may write to the state directory" in result["message"]
    assert sandbox.received == [] and list(state.iterdir()) == []


@POSIX
@ROOT
def test_root_may_use_the_directory_of_the_user_who_mounted_it(sandbox: Sandbox, state: Path) -> None:
    state.mkdir()
    state.chmod(0o777)
    os.chown(state, NOBODY, NOBODY)
    with opened(sandbox.base_url, state, PATIENT) as account:
        assert submit(account).task_id in sandbox.tasks
    assert state.stat().st_uid == NOBODY and modes(state)["."] == "0o700"


# Links


@LINKS
@pytest.mark.parametrize("name", ["ledger.db", *COMPANIONS, "files.lock", "installation_id", "processes"])
def test_no_link_is_followed_out_of_the_state_directory(sandbox: Sandbox, state: Path, name: str) -> None:
    precious = state.parent / "precious"
    precious.write_bytes(PRECIOUS)
    for target in (precious, state.parent / "new"):
        Ledger(state).close()
        if name == "processes":
            shutil.rmtree(state / name)
        else:
            (state / name).unlink(missing_ok=True)
        (state / name).symlink_to(target)
        with pytest.raises(SetupError, match=rf"{name} is a symbolic link.*so nothing may be sent"):
            submit_once(sandbox, state)
        (state / name).unlink()
    assert precious.read_bytes() == PRECIOUS and not (state.parent / "new").exists()
    assert sandbox.received == []
    assert submit_once(sandbox, state) in sandbox.tasks


def submit_once(sandbox: Sandbox, state: Path) -> str:
    with opened(sandbox.base_url, state, PATIENT) as account:
        return submit(account).task_id


@LINKS
def test_links_to_directories_of_locks_are_not_swept(state: Path) -> None:
    stale = state.parent / "of somebody else" / "stale.lock"
    stale.parent.mkdir()
    stale.write_bytes(b"")
    os.utime(stale, (1_000_000_000, 1_000_000_000))
    state.mkdir()
    (state / "processes").symlink_to(stale.parent)
    with pytest.raises(SetupError, match="processes is a symbolic link"):
        Ledger(state)
    assert stale.exists()


@LINKS
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_garbled_lock_is_not_emptied_if_it_is_a_link(tmp_path: Path, link: str) -> None:
    (tmp_path / "precious").write_bytes(PRECIOUS)
    getattr(tmp_path / "files.lock", link)(tmp_path / "precious")
    with pytest.raises(OSError, match="link"):
        acquire(tmp_path / "files.lock")
    assert (tmp_path / "precious").read_bytes() == PRECIOUS


@LINKS
def test_a_key_and_limits_behind_a_link_are_not_read_and_are_replaced_when_saved(state: Path) -> None:
    precious = state.parent / "precious"
    precious.write_text("ssh-key-of-somebody-else", encoding="utf-8")
    state.mkdir()
    for name in ("api_key", "limits.json"):
        (state / name).symlink_to(precious)
    with pytest.raises(SetupError, match="The saved key cannot be read"):
        settings.find_key(state)
    with pytest.raises(SetupError, match="The file with the limits cannot be read"):
        limits.load(state)
    settings.write_private(state / "api_key", KEY, "The key")
    limits.save(state, 3, 0)
    assert settings.find_key(state).get_secret_value() == KEY and limits.load(state).units_per_day == 0
    assert precious.read_text(encoding="utf-8") == "ssh-key-of-somebody-else"


@LINKS
def test_the_state_directory_itself_may_be_a_link_and_lie_behind_one(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "volume" / "kling").mkdir(parents=True)
    (tmp_path / "user").symlink_to(tmp_path / "volume", target_is_directory=True)
    (tmp_path / "volume" / "__kling").symlink_to(tmp_path / "volume" / "kling", target_is_directory=True)
    task_id = submit_once(sandbox, tmp_path / "user" / "__kling")
    assert submit_once(sandbox, tmp_path / "volume" / "kling") == task_id
    assert len(sandbox.creates()) == 1


# What others see


def test_a_run_leaves_nothing_that_the_pack_takes_for_files_of_others(sandbox: Sandbox, state: Path) -> None:
    settings.write_private(state / "api_key", KEY, "The key")
    limits.save(state, 20, 0)
    submit_once(sandbox, state)
    (state / "ledger.db").write_bytes(PRECIOUS)
    submit_once(sandbox, state)
    if sys.platform != "win32":
        state.chmod(0o777)
    Ledger(state).close()
    if sys.platform != "win32":
        assert modes(state)["."] == "0o700"


def test_nothing_is_said_about_permissions_while_all_is_well(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kling"):
        Ledger(state).close()
    assert caplog.text == ""
