"""Who may ask the routes: ComfyUI's own page alone. What is said to anybody: neither the key nor the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import KEY, OTHER_KEY
from environment import Environment
from served import JSON, call, save

from nodes.api import settings
from nodes.routes.guard import refusal
from nodes.routes.key import save_key
from nodes.sandbox import Sandbox

pytest_plugins = ["served"]

# -- secrets


def test_no_answer_ever_holds_the_key_or_the_gateways_host(
    server: str, strict: Sandbox, environment: Environment
) -> None:
    environment.set("KLING_BASE_URL", strict.base_url)
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
