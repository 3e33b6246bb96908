"""The key in the settings panel, over real HTTP: saved, shown by its end, removed, tested, and never given back."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import KEY, OTHER_KEY
from environment import Environment
from fault_tools import wait_until
from served import JSON, call, save, serving

from nodes.api import settings
from nodes.api.errors import SetupError
from nodes.routes import key
from nodes.routes.key import save_key
from nodes.sandbox import Sandbox

pytest_plugins = ["served"]


# -- storing


def test_a_key_is_saved_shown_by_its_end_replaced_and_removed(server: str, directory: Path) -> None:
    nothing = {"set": False, "source": None, "last4": None, "problem": None}
    assert call(server, "GET", "/kling/key").json() == nothing
    there = {"set": True, "source": "file", "last4": "cdef", "problem": None}
    assert save(server, KEY).json() == there
    assert call(server, "GET", "/kling/key").json() == there
    assert settings.find_key(directory).get_secret_value() == KEY
    assert save(server, OTHER_KEY).json()["last4"] == "dcba"
    assert settings.find_key(directory).get_secret_value() == OTHER_KEY
    assert call(server, "DELETE", "/kling/key").json() == nothing
    assert call(server, "DELETE", "/kling/key").json() == nothing
    assert not (directory / settings.KEY_FILE).exists()


def test_what_people_paste_along_is_cut_off(server: str, directory: Path) -> None:
    assert save(server, f'  "Bearer {KEY}"\n').status_code == 200
    assert (directory / settings.KEY_FILE).read_text(encoding="utf-8") == KEY


@pytest.mark.parametrize("wrong", ["", "   ", "two words", "schlüssel", "a\nb", 5, None, ["x"]])
def test_what_cannot_be_a_key_is_refused_and_the_old_one_stays(server: str, directory: Path, wrong: object) -> None:
    save(server, KEY)
    answer = save(server, wrong)
    assert answer.status_code == 400 and answer.json()["error"].startswith("The key ")
    assert settings.find_key(directory).get_secret_value() == KEY


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}", b'"key"', b"\xff", b'{"key": "' + b"x" * 5000 + b'"}'])
def test_a_body_that_is_none_of_ours_is_refused(server: str, directory: Path, body: bytes) -> None:
    answer = requests.post(f"{server}/kling/key", data=body, headers=JSON, timeout=30)
    assert answer.status_code == 400 and answer.json()["error"]
    assert not (directory / settings.KEY_FILE).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_the_file_is_its_owners_alone_from_the_moment_it_exists(server: str, directory: Path) -> None:
    seen = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for path in directory.glob("*api_key*"):
                try:
                    seen.add(stat.S_IMODE(path.stat().st_mode))
                except FileNotFoundError:
                    continue

    before = os.umask(0)
    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for turn in range(50):
            assert save(server, f"{KEY}{turn}").status_code == 200
        wait_until(lambda: seen, "the file is seen")
    finally:
        done.set()
        watcher.join()
        os.umask(before)
    assert stat.S_IMODE((directory / settings.KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert seen == {0o600}


def test_many_saves_at_once_leave_one_whole_key_and_nothing_else(directory: Path) -> None:
    keys = [f"sk-{i:02}-" + str(i % 10) * 500 for i in range(20)]
    threads = [threading.Thread(target=save_key, args=(directory, key)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in directory.iterdir()] == [settings.KEY_FILE]
    assert (directory / settings.KEY_FILE).read_text(encoding="utf-8") in keys


def test_a_state_directory_that_cannot_be_written_is_named_without_its_path(server: str, directory: Path) -> None:
    directory.write_text("a file where the directory should be", encoding="utf-8")
    answer = save(server, KEY)
    assert answer.status_code == 400
    assert "could not be saved" in answer.json()["error"] and str(directory) not in answer.text


def test_a_saved_key_that_cannot_be_used_says_so(server: str, directory: Path) -> None:
    directory.mkdir()
    (directory / settings.KEY_FILE).write_text("two words", encoding="utf-8")
    state = call(server, "GET", "/kling/key").json()
    assert (state["set"], state["source"], state["last4"]) == (False, "file", None)
    assert "position 4" in state["problem"]


def test_of_a_short_key_nothing_is_shown(server: str) -> None:
    assert save(server, "sk-12345").json() == {"set": True, "source": "file", "last4": None, "problem": None}


def test_a_key_of_the_wrong_kind_never_reaches_the_disk(directory: Path) -> None:
    with pytest.raises(SetupError):
        save_key(directory, {"key": KEY})
    assert not directory.exists()


# -- the environment


def test_a_key_in_the_environment_wins_and_none_can_be_saved(
    server: str, directory: Path, environment: Environment
) -> None:
    save(server, OTHER_KEY)
    environment.set("KLING_API_KEY", KEY)
    there = {"set": True, "source": "environment", "last4": "cdef", "problem": None}
    assert call(server, "GET", "/kling/key").json() == there
    answer = save(server, "sk-third-000000000")
    assert answer.status_code == 400 and "KLING_API_KEY" in answer.json()["error"]
    assert (directory / settings.KEY_FILE).read_text(encoding="utf-8") == OTHER_KEY
    assert call(server, "DELETE", "/kling/key").json() == there
    assert not (directory / settings.KEY_FILE).exists()


# -- testing it


def test_a_good_key_is_told_from_a_bad_one_and_nothing_is_bought(
    server: str, strict: Sandbox, environment: Environment
) -> None:
    environment.set("KLING_BASE_URL", strict.base_url)
    missing = call(server, "POST", "/kling/key/test").json()
    assert (missing["ok"], missing["kind"]) == (False, "refused") and "No API key" in missing["message"]
    save(server, KEY)
    good = call(server, "POST", "/kling/key/test").json()
    assert (good["ok"], good["kind"]) == (True, "accepted")
    save(server, OTHER_KEY)
    bad = call(server, "POST", "/kling/key/test").json()
    assert (bad["ok"], bad["kind"]) == (False, "refused")
    assert {request.method for request in strict.received} == {"GET"}


def test_a_gateway_that_is_not_there_is_not_taken_for_a_bad_key(server: str, environment: Environment) -> None:
    with Sandbox(key=KEY) as gone:
        environment.set("KLING_BASE_URL", gone.base_url)
    save(server, KEY)
    found = call(server, "POST", "/kling/key/test")
    assert (found.json()["ok"], found.json()["kind"]) == (False, "unavailable")
    assert "127.0.0.1" not in found.text


# -- a gateway that says nothing


@pytest.fixture
def silent(environment: Environment) -> Iterator[list[socket.socket]]:
    """A gateway that takes connections and never answers. Gives those that it has taken."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            with suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        environment.set("KLING_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}/kling")
        yield taken
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    for talk in taken:
        talk.close()  # so that the thread of the test ends


def test_six_presses_are_one_test_and_the_host_keeps_its_threads(directory: Path, silent: list[socket.socket]) -> None:
    def press(server: str) -> Any:
        return call(server, "POST", "/kling/key/test").json()

    with (
        serving(lambda routes: key.add_routes(routes, lambda: directory, patience=3)) as server,
        ThreadPoolExecutor(6) as users,
    ):
        save(server, KEY)
        presses = [users.submit(press, server) for _ in range(6)]
        wait_until(lambda: silent, "the gateway is asked")
        assert requests.get(f"{server}/host", timeout=20).text == "free"
        assert call(server, "GET", "/kling/key").json()["set"]
        found = {json.dumps(one.result()) for one in presses}
        # Not what the gateway thinks of the old key: the new one was not tested.
        save(server, OTHER_KEY)
        assert press(server)["message"] == "Another key is still being tested. Test this one in a minute."
    late = {"ok": False, "kind": "unavailable", "message": "The gateway has not answered for 3 seconds."}
    assert found == {json.dumps(late)}
    assert len(silent) == 1


def test_once_a_test_has_ended_the_next_press_tests_again(
    server: str, strict: Sandbox, environment: Environment
) -> None:
    environment.set("KLING_BASE_URL", strict.base_url)
    save(server, KEY)
    for _ in range(2):
        assert call(server, "POST", "/kling/key/test").json()["ok"]
    assert len(strict.received) == 2
