"""The settings panel's routes, over real HTTP: write-only, and for ComfyUI's own page alone."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import KEY, ROOT
from fault_tools import wait_until

from nodes.api import settings
from nodes.api.errors import SetupError
from nodes.api.request.capabilities import MODELS
from nodes.routes import add_routes
from nodes.routes.guard import refusal
from nodes.routes.key import save_key
from nodes.sandbox import Sandbox

OTHER_KEY = "sk-other-9876543210fedcba"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def server(directory: Path) -> Iterator[str]:
    """The routes on a server of their own, as ComfyUI would serve them. Gives its address."""
    from aiohttp import web

    routes = web.RouteTableDef()
    add_routes(routes, lambda: directory)
    app = web.Application()
    app.add_routes(routes)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def call(server: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    data = None if method == "GET" else json.dumps({} if body is None else body)
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, server + path, data=data, headers={**JSON, **(headers or {})}, timeout=30)


def save(server: str, key: object) -> Any:
    return call(server, "POST", "/kling/key", {"key": key})


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


# -- the environment


def test_a_key_in_the_environment_wins_and_none_can_be_saved(
    server: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(server, OTHER_KEY)
    monkeypatch.setenv("KLING_API_KEY", KEY)
    there = {"set": True, "source": "environment", "last4": "cdef", "problem": None}
    assert call(server, "GET", "/kling/key").json() == there
    answer = save(server, "sk-third-000000000")
    assert answer.status_code == 400 and "KLING_API_KEY" in answer.json()["error"]
    assert (directory / settings.KEY_FILE).read_text(encoding="utf-8") == OTHER_KEY
    assert call(server, "DELETE", "/kling/key").json() == there
    assert not (directory / settings.KEY_FILE).exists()


# -- testing it


@pytest.fixture
def strict() -> Iterator[Sandbox]:
    with Sandbox(key=KEY) as running:
        yield running


def test_a_good_key_is_told_from_a_bad_one_and_nothing_is_bought(
    server: str, strict: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLING_BASE_URL", strict.base_url)
    missing = call(server, "POST", "/kling/key/test").json()
    assert (missing["ok"], missing["kind"]) == (False, "refused") and "No API key" in missing["message"]
    save(server, KEY)
    good = call(server, "POST", "/kling/key/test").json()
    assert (good["ok"], good["kind"]) == (True, "accepted")
    save(server, OTHER_KEY)
    bad = call(server, "POST", "/kling/key/test").json()
    assert (bad["ok"], bad["kind"]) == (False, "refused")
    assert {request.method for request in strict.received} == {"GET"}


def test_a_gateway_that_is_not_there_is_not_taken_for_a_bad_key(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(key=KEY) as gone:
        monkeypatch.setenv("KLING_BASE_URL", gone.base_url)
    save(server, KEY)
    found = call(server, "POST", "/kling/key/test")
    assert (found.json()["ok"], found.json()["kind"]) == (False, "unavailable")
    assert "127.0.0.1" not in found.text


# -- secrets


def test_no_answer_ever_holds_the_key_or_the_gateways_host(
    server: str, strict: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLING_BASE_URL", strict.base_url)
    answers = [save(server, OTHER_KEY), call(server, "POST", "/kling/key/test")]
    answers += [call(server, "GET", path) for path in ("/kling/key", "/kling/models")]
    answers += [save(server, f"{OTHER_KEY} {KEY}"), call(server, "DELETE", "/kling/key")]
    for answer in answers:
        said = answer.text + repr(answer.headers)
        for secret in (KEY, OTHER_KEY, OTHER_KEY[:-4], strict.base_url.split("//")[1]):
            assert secret not in said
    assert all(answer.headers["Cache-Control"] == "no-store" for answer in answers if "/key" in answer.url)


def test_no_route_takes_an_address_for_the_gateway(server: str, directory: Path) -> None:
    answer = call(server, "POST", "/kling/key", {"key": KEY, "base_url": "https://evil.example", "url": "x"})
    assert answer.status_code == 200
    assert settings.load(directory).base_url == settings.DEFAULT_BASE_URL
    assert sorted(path.name for path in directory.iterdir()) == [settings.KEY_FILE]


# -- who may ask

HOST = "127.0.0.1:8188"
ALLOWED = [
    ("our page, in a browser of today", {"Sec-Fetch-Site": "same-origin", "Host": HOST, "Origin": f"http://{HOST}"}),
    ("our page, through https and a proxy that changes the host",
     {"Sec-Fetch-Site": "same-origin", "Host": "comfy:8188", "Origin": "https://comfy.example.com"}),
    ("our page by plain http in a home network", {"Host": "192.168.1.5:8188", "Origin": "http://192.168.1.5:8188"}),
    ("the same by IPv6", {"Host": "[fd00::5]:8188", "Origin": "http://[fd00::5]:8188"}),
    ("the same by the computer's name", {"Host": "mybox:8188", "Origin": "http://mybox:8188"}),
    ("the same by its mDNS name", {"Host": "MyBox.local:8188", "Origin": "http://mybox.local:8188"}),
    ("an old browser through https", {"Host": "comfy.example.com", "Origin": "https://comfy.example.com"}),
    ("an old browser through https and a proxy",
     {"Host": "127.0.0.1:8188", "X-Forwarded-Host": "comfy.example.com", "Origin": "https://comfy.example.com"}),
    ("curl on this computer", {"Host": HOST}),
]  # fmt: skip
REFUSED = [
    ("another site", {"Sec-Fetch-Site": "cross-site", "Host": HOST, "Origin": "https://evil.example"}),
    ("another port of this computer", {"Sec-Fetch-Site": "same-site", "Host": HOST, "Origin": "http://127.0.0.1:3000"}),
    ("another site, in an old browser", {"Host": HOST, "Origin": "https://evil.example"}),
    ("another port, in an old browser", {"Host": HOST, "Origin": "http://127.0.0.1:3000"}),
    ("a sandboxed frame", {"Host": HOST, "Origin": "null"}),
    ("DNS rebinding", {"Host": "evil.example:8188", "Origin": "http://evil.example:8188"}),
    ("DNS rebinding that pretends to be proxied",
     {"Host": "evil.example:8188", "X-Forwarded-Host": "localhost", "Origin": "http://evil.example:8188"}),
    ("DNS rebinding, without an Origin", {"Host": "evil.example:8188"}),
    ("DNS rebinding with a dot at the end", {"Host": "evil.example.:8188", "Origin": "http://evil.example.:8188"}),
    ("a host that is none", {"Host": "[::1", "Origin": "http://[::1"}),
    ("no host at all", {}),
]  # fmt: skip


@pytest.mark.parametrize("headers", [h for _, h in ALLOWED], ids=[name for name, _ in ALLOWED])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_our_own_page_may(method: str, headers: dict[str, str]) -> None:
    assert refusal(method, {**JSON, **headers}) is None


@pytest.mark.parametrize("headers", [h for _, h in REFUSED], ids=[name for name, _ in REFUSED])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_another_page_may_not(method: str, headers: dict[str, str]) -> None:
    refused = refusal(method, {**JSON, **headers})
    assert refused and refused.status == 403


def test_an_address_typed_into_the_browser_may_read_but_not_write() -> None:
    typed = {**JSON, "Sec-Fetch-Site": "none", "Host": HOST}
    assert refusal("GET", typed) is None
    assert refusal("POST", typed)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_is_refused(kind: str) -> None:
    refused = refusal("POST", {"Content-Type": kind, "Host": HOST})
    assert refused and refused.status == 415


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/kling/key"), ("POST", "/kling/key"), ("DELETE", "/kling/key"), ("POST", "/kling/key/test")],
)
def test_every_route_of_the_key_is_guarded(server: str, directory: Path, method: str, path: str) -> None:
    save_key(directory, KEY)
    answer = call(server, method, path, {"key": OTHER_KEY}, {"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "cdef" not in answer.text
    assert settings.find_key(directory).get_secret_value() == KEY


# -- the rest


def test_facts_are_those_that_the_program_checks_by(server: str) -> None:
    facts = call(server, "GET", "/kling/models").json()
    assert {name: tuple(model["durations"]) for name, model in facts["models"].items()} == {
        name: model.durations for name, model in MODELS.items()
    }
    assert facts["models"]["kling-v3"]["multi_shot"] is True
    assert facts["shots"] == {"max": 6, "prompt_max": 512, "shortest": 3, "longest": 15}


def test_outside_comfyui_nothing_is_registered_and_aiohttp_is_not_loaded() -> None:
    code = "import sys, nodes; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "False"


def test_a_key_of_the_wrong_kind_never_reaches_the_disk(directory: Path) -> None:
    with pytest.raises(SetupError):
        save_key(directory, {"key": KEY})
    assert not directory.exists()
