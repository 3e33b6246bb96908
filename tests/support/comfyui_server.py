"""A real ComfyUI and a real browser for host tests.

    COMFYUI_PATH       the checkout whose main.py is started; without it host tests are skipped
    COMFYUI_PYTHON     its interpreter; this one if left out
    COMFYUI_FRONT_END  the root of another front end (the folder with index.html)
    CHROMIUM           the browser; otherwise looked for on the PATH

A test module takes the fixtures with ``pytest_plugins = ["comfyui_server"]``, and imports the rest
(PYTEST_DONT_REWRITE, or pytest would mind that these two come in this order or that). ComfyUI always runs in a process
of its own: its modules ``nodes`` and ``server`` must never meet ours.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest
import requests
from conftest import KEY, ROOT

from nodes.sandbox import Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page
    from websockets.sync.connection import Connection

PACK = "ComfyUI-Kling"
"""The folder in custom_nodes: with a hyphen, like most, so that no import may take it for a package's name."""

NOT_OURS = ("KLING_", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
SETTLED_IN = {"Comfy.TutorialCompleted": True}
"""The front end's settings: of somebody who has been there before, or a welcome would cover the page."""

TEXT_EVENT = 3  # the number of ComfyUI's binary message that carries progress text


class Refused(Exception):
    """ComfyUI did not take a prompt.

    Attributes:
        error: what is wrong with the prompt as a whole.
        node_errors: by node id, what is wrong with its inputs.
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(json.dumps(answer, indent=1, ensure_ascii=False))
        self.error: Mapping[str, Any] = answer["error"]
        self.node_errors: Mapping[str, Any] = answer["node_errors"]


class ComfyUI:
    """One ComfyUI with nothing but this pack, in a directory of its own that is deleted at the end.

    Args:
        sandbox: the gateway that the pack is pointed at.
        environment: more variables; an empty text removes one (KLING_API_KEY, for example).
    """

    def __init__(self, sandbox: Sandbox, environment: Mapping[str, str] | None = None) -> None:
        self._checkout = Path(os.environ["COMFYUI_PATH"]).resolve()
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(NOT_OURS) and k[-6:] != "_PROXY"}
        self._environment |= {"KLING_BASE_URL": sandbox.base_url, "KLING_API_KEY": KEY, "PYTHONUNBUFFERED": "1"}
        self._environment["KLING_MAX_TASKS_PER_HOUR"] = "0"  # a module that tests more than limits sends more than 20
        for name, value in (environment or {}).items():
            self._environment[name] = value
            if not value:
                del self._environment[name]
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy between a test and its own computer
        self._process: subprocess.Popen[bytes] | None = None

    # -- running

    def __enter__(self) -> ComfyUI:
        self._home = tempfile.TemporaryDirectory(prefix="comfyui-", ignore_cleanup_errors=True)
        self.directory = Path(self._home.name)
        try:
            _link(ROOT, self.directory / "custom_nodes" / PACK)
            settings = self.directory / "user" / "default" / "comfy.settings.json"
            settings.parent.mkdir(parents=True)
            settings.write_text(json.dumps(SETTLED_IN), encoding="utf-8")
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()
        self._http.close()
        self._home.cleanup()

    def start(self) -> None:
        """Start the process in the directory as it is, and wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        python = os.environ.get("COMFYUI_PYTHON") or sys.executable
        command = [python, "main.py", "--cpu", "--disable-api-nodes", "--port", str(port)]
        command += ["--base-directory", str(self.directory), "--database-url", "sqlite:///:memory:"]
        if front_end := os.environ.get("COMFYUI_FRONT_END"):
            command += ["--front-end-root", front_end]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._checkout, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                **_OWN_GROUP,
            )  # fmt: skip
        end = time.monotonic() + 180
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended while it started:\n{self.log()[-4000:]}")
            if time.monotonic() > end:
                raise TimeoutError(f"ComfyUI did not answer within 3 minutes:\n{self.log()[-4000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the process and everything that it started."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def kill(self) -> None:
        """End the process as a crash would: at once, without a word to it."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self._process = None

    def log(self) -> str:
        """Everything that it has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def state_dir(self) -> Path:
        """Where the pack keeps its ledger when nothing says otherwise."""
        return self.directory / "user" / "__kling"

    @property
    def _log(self) -> Path:
        return self.directory / "log.txt"

    def _answers(self) -> bool:
        try:
            return self._http.get(f"{self.url}/system_stats", timeout=10).ok
        except requests.ConnectionError:
            return False

    # -- talking to it

    def get(self, path: str) -> Any:
        """The JSON at a path such as ``/object_info/KlingShot``."""
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        """What is served at a path."""
        answer = self._http.get(self.url + path, timeout=30)
        answer.raise_for_status()
        return answer.content

    def queue(self, prompt: Mapping[str, Any], client_id: str | None = None) -> str:
        """Queue a graph in API format and give its prompt_id.

        Raises:
            Refused: it did not pass ComfyUI's validation.
        """
        body: dict[str, Any] = {"prompt": prompt} | ({"client_id": client_id} if client_id else {})
        answer = self._http.post(f"{self.url}/prompt", json=body, timeout=30)
        if answer.status_code == 400:
            raise Refused(answer.json())
        answer.raise_for_status()
        accepted = answer.json()
        if accepted["node_errors"]:
            raise Refused({"error": {}, **accepted})
        return str(accepted["prompt_id"])

    def wait(self, prompt_id: str, timeout: float = 60) -> dict[str, Any]:
        """The history entry of a prompt, as soon as it has ended in whatever way."""
        end = time.monotonic() + timeout
        while not (entry := self.get(f"/history/{prompt_id}")):
            if time.monotonic() > end:
                raise TimeoutError(f"prompt {prompt_id} did not end within {timeout:g} s:\n{self.log()[-4000:]}")
            time.sleep(0.05)
        return dict(entry[prompt_id])

    def run(self, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """Queue and wait."""
        return self.wait(self.queue(prompt))

    def interrupt(self) -> None:
        """What the Cancel button does."""
        self._http.post(f"{self.url}/interrupt", json={}, timeout=30).raise_for_status()

    @contextmanager
    def listen(self) -> Iterator[Events]:
        """What ComfyUI tells a browser: queue with ``client_id=events.client_id`` to be told everything."""
        from websockets.sync.client import connect

        client_id = uuid.uuid4().hex
        address = f"ws{self.url.removeprefix('http')}/ws?clientId={client_id}"
        with connect(address, proxy=None, max_size=None) as connection:
            yield Events(client_id, connection)


class Events:
    """The messages of one WebSocket. ``seen`` keeps all of them, as pairs of name and data."""

    def __init__(self, client_id: str, connection: Connection) -> None:
        self.client_id = client_id
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._connection = connection

    def until(self, name: str, timeout: float = 60, **values: object) -> dict[str, Any]:
        """Read on until a message of that name comes whose data has these values.

        Raises:
            TimeoutError: nothing like it came in time.
        """
        end = time.monotonic() + timeout
        while True:
            self.seen.append(_event(self._connection.recv(timeout=max(0.0, end - time.monotonic()))))
            kind, data = self.seen[-1]
            if kind == name and values.items() <= data.items():
                return data

    def lines(self, node: str) -> list[str]:
        """The progress texts of a node among the messages read so far."""
        return [data["text"] for kind, data in self.seen if kind == "progress_text" and data["node"] == node]


def _event(message: str | bytes) -> tuple[str, dict[str, Any]]:
    if isinstance(message, str):
        parsed = json.loads(message)
        return parsed["type"], parsed["data"]
    kind, length = struct.unpack_from(">II", message)
    if kind != TEXT_EVENT:
        return "binary", {"kind": kind}
    node, text = message[8 : 8 + length], message[8 + length :]
    return "progress_text", {"node": node.decode(), "text": text.decode()}


def _link(pack: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    try:
        folder.symlink_to(pack, target_is_directory=True)
    except OSError:  # Windows allows links to administrators and developers alone.
        shutil.copytree(pack, folder, ignore=shutil.ignore_patterns(".*", "node_modules", "__pycache__"))


_OWN_GROUP: dict[str, Any]
if sys.platform == "win32":
    _OWN_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def _end(process: subprocess.Popen[bytes]) -> None:
        subprocess.run(["taskkill", "/PID", str(process.pid), "/T", "/F"], check=False, capture_output=True)
        process.wait(30)

else:
    _OWN_GROUP = {"start_new_session": True}

    def _end(process: subprocess.Popen[bytes]) -> None:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sent)
                process.wait(10)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        process.wait(10)


# -- fixtures


def require() -> None:
    """Skip, by name, what needs a ComfyUI where none is given."""
    if not os.environ.get("COMFYUI_PATH"):
        pytest.skip("host test: set COMFYUI_PATH to a ComfyUI checkout to run it")


@pytest.fixture(scope="module")
def host_gateway() -> Iterator[Sandbox]:
    """The sandbox that the module's ComfyUI sends to. It wants the key, and keeps what it received."""
    require()
    with Sandbox(key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def comfyui(host_gateway: Sandbox) -> Iterator[ComfyUI]:
    """A real ComfyUI with this pack, pointed at ``host_gateway``; one for all tests of a module."""
    with ComfyUI(host_gateway) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Not for longer than a module: while it runs, this thread can have no event loop."""
    require()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("host tests drive a browser: install the dev dependencies (playwright)")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.fail("host tests drive a browser: install Chromium, or set CHROMIUM to its program")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=_CHROMIUM)
        yield running
        running.close()


_CHROMIUM = [
    "--no-sandbox",  # or it does not start as root, which is what a container has
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def page(browser: Browser, comfyui: ComfyUI) -> Iterator[Page]:
    """ComfyUI's front end as it comes up, cut off from the wide world."""
    with open_page(browser, comfyui.url) as opened:
        yield opened


@contextmanager
def open_page(browser: Browser, url: str, **context: Any) -> Iterator[Page]:
    """The front end at ``url``, in a browser profile of its own, once it is ready for use.

    What it writes to the console is in ``console(page)``.
    """
    options: dict[str, Any] = {"viewport": {"width": 1600, "height": 1000}, "locale": "en-US", **context}
    fresh: BrowserContext = browser.new_context(**options)
    try:
        fresh.route(lambda address: not address.startswith((url, "data:", "blob:")), lambda route: route.abort())
        page = fresh.new_page()
        lines: list[str] = []
        _consoles[page] = lines
        page.on("console", lambda message: lines.append(f"{message.type}: {message.text} ({message.location['url']})"))
        page.on("pageerror", lambda error: lines.append(f"error: uncaught {error}"))
        page.goto(url)
        # The first workflow opens last of all; before that, it would push aside whatever a test loads.
        page.wait_for_function("window.app?.extensionManager?.workflow?.activeWorkflow", timeout=60_000)
        page.wait_for_selector("#splash-loader", state="detached")
        yield page
        _consoles.pop(page, None)
    finally:
        fresh.close()


_consoles: dict[Page, list[str]] = {}


def console(page: Page) -> list[str]:
    """What the page has written to the console: one line each, beginning with its kind (``error``, ``warning``)."""
    return _consoles[page]


def load(page: Page, workflow: Mapping[str, Any]) -> None:
    """Open a workflow, as dropping its file on the canvas does."""
    page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)


def exported(page: Page) -> dict[str, Any]:
    """The workflow as the front end would save it now."""
    return dict(json.loads(page.evaluate("async () => JSON.stringify((await window.app.graphToPrompt()).workflow)")))


def press_run(page: Page) -> str:
    """Queue the graph on the canvas by the keyboard, and give its prompt_id.

    Raises:
        Refused: it did not pass ComfyUI's validation; the page shows so.
    """
    with page.expect_response(lambda r: r.request.method == "POST" and r.url.endswith("/api/prompt")) as answer:
        page.keyboard.press("Control+Enter")
    if answer.value.status == 400:
        raise Refused(answer.value.json())
    return str(answer.value.json()["prompt_id"])


def until(happens: Callable[[], bool], timeout: float = 30) -> None:
    end = time.monotonic() + timeout
    while not happens():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
