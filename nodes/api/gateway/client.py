"""One HTTP call to the gateway: headers, time-outs, and what is known if it fails.

The key goes to the gateway's address and nowhere else. Redirects are not followed, ``.netrc`` cannot replace the key,
and the key is removed from everything that the gateway says. Nothing is retried here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.utils import default_headers

from .. import environment
from ..errors import KlingError, UnavailableError
from ..pace import CONNECT_TIMEOUT, CREATE_TIMEOUT, IDLE_MAX, QUERY_TIMEOUT
from ..settings import ENDPOINT, Settings
from ..version import VERSION
from . import answer
from .answer import Task, Unreadable
from .bounds import BoundedAdapter, Bounds, bounded
from .foreign_text import usable_id
from .log_filter import quiet
from .network_errors import what_broke
from .outcome import Outcome, PostResult, RawAnswer, classify
from .proxies import proxies_for

ANSWER_MAX = 1 << 20
"""The largest answer that is read, in bytes, with its headers as well as unpacked."""

_PIECE = 1 << 14

_KEY_SHORTEST = 16

_KEY_LIKE = r"\bsk-[\w*.-]{4,}"
"""What looks like a key or a part of one, because gateways quote parts of the key in their errors."""


REQUEST_ID = "X-Oneapi-Request-Id"
"""The header in which New-API relays tell the id of a call in their log. Some take over the id that the call has."""

_RELAY_HEADERS = {REQUEST_ID.lower(), "x-new-api-version"}


class Session(requests.Session):
    """Keeps the bounds of each exchange, ignores redirects and ``.netrc``, and takes proxies and certificates from
    ``environment.py``.
    """

    def __init__(self, adapter: BoundedAdapter | None = None) -> None:
        super().__init__()
        self.trust_env = False
        adapter = adapter or BoundedAdapter()
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Always None. Even if it follows no redirect, requests would parse the Location, and some make it fail."""

    def merge_environment_settings(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """What ``send`` needs. requests would read the environment again, which a workflow may have changed."""
        settings = super().merge_environment_settings(url, *args, **kwargs)
        return {**settings, "proxies": proxies_for(url), "verify": environment.certificates() or True}


class _Body(io.BytesIO):
    """A request body that knows what became of it when there is no answer.

    The exception does not tell. A TLS error, for example, may come before the first byte or after the last.

    Attributes:
        begun: whether any part of it was handed to the network.
        request_id: the id of the call in the gateway's log, if at least the headers of an answer came.
    """

    begun = False
    request_id: str | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        self.begun = True
        return super().read(size)


class Client:
    """Calls one gateway with one key. Safe to use from many threads.

    Args:
        settings: address and key.
        connections: how many connections are kept for reuse; more are opened if needed.
        create_timeout: seconds that a POST may take, from connecting to the last byte of its answer.
        idle_max: seconds after which an idle connection is not used again.

    Attributes:
        is_relay: whether an answer has come through software of the New-API family, which has books.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        connections: int = 64,
        create_timeout: float = CREATE_TIMEOUT,
        idle_max: float = IDLE_MAX,
    ) -> None:
        self._url = settings.base_url + ENDPOINT
        self._key = settings.key
        self._clean = _cleaner(settings)
        self._without_key = _key_eraser(settings.key.get_secret_value())
        self._connections = connections
        self._create_timeout = create_timeout
        self._idle_max = idle_max
        self.is_relay = False
        self._lock = threading.Lock()
        self._sessions: dict[str, tuple[Session, float]] = {}

    def create(self, body: Mapping[str, Any]) -> PostResult:
        """POST ``body`` once and return the outcome. No failure of the network or the gateway raises an error."""
        sending = _Body(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
        try:
            request = self._post.copy()
            request.prepare_body(sending, None)
            request.headers[REQUEST_ID] = own_request_id(str(body.get("external_task_id", "")))
            raw = self._call(request, self._create_timeout)
        except (OSError, ValueError, Unreadable) as error:
            # Exceptions of requests are OSErrors. Those of urllib3 that it lets through are ValueErrors.
            outcome = Outcome.LOST if sending.begun else Outcome.NOT_SENT
            return PostResult(outcome, reason=_reason(error), request_id=sending.request_id)
        result = classify(raw, body)
        if result.error:
            self._redact(result.error)
        return replace(result, reason=self._clean(result.reason), request_id=sending.request_id)

    def get(self, path: str, *, with_key: bool = True, most: int = ANSWER_MAX) -> RawAnswer:
        """GET an address of the gateway's host: ``/api/status``, for example.

        Args:
            most: the largest answer that is read, in bytes.

        Raises:
            UnavailableError: no complete answer. A refusal is an answer.
        """
        parts = urlsplit(self._url)
        try:
            request = self._prepared("GET", f"{parts.scheme}://{parts.netloc}{path}")
            if not with_key:
                del request.headers["Authorization"]
            return self._call(request, QUERY_TIMEOUT, most)
        except (OSError, ValueError, Unreadable) as broken:
            raise UnavailableError(f"The query to the gateway failed: {_reason(broken)}.") from None

    def query(self, task_id: str) -> Task:
        """Query a task by its task_id or external_task_id.

        Raises:
            TaskNotFound: the gateway does not know the id.
            UnavailableError: no readable answer; asking again may help.
            KlingError: another error that the gateway reports; asking again will not help.
        """
        try:
            request = self._prepared("GET", f"{self._url}/{quote(task_id, safe='', errors='replace')}")
            raw = self._call(request, QUERY_TIMEOUT)
        except (OSError, ValueError, Unreadable) as broken:
            raise UnavailableError(f"The query to the gateway failed: {_reason(broken)}.") from None
        try:
            body = answer.parse(raw.body)
            refusal = answer.read_refusal(body)
            if refusal:
                error = answer.not_found(refusal, raw.status) or answer.as_error(refusal, raw.status)
                raise self._redact(error)
            task = answer.read_task(body)
        except Unreadable as unreadable:
            raise self._redact(answer.as_unreadable(str(unreadable), raw.status)) from None
        if raw.status >= 300:
            raise self._redact(answer.as_unreadable(answer.message_in(body), raw.status))
        return replace(task, reason=self._clean(task.reason))

    @cached_property
    def _post(self) -> requests.PreparedRequest:
        """The part that all POSTs share: everything but the body."""
        return self._prepared("POST", self._url, {"Content-Type": "application/json"})

    def _prepared(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> requests.PreparedRequest:
        """A request with the key, without a body.

        A session would replace the key with a password from ``.netrc`` and would send cookies, so none is used here.
        """
        own = {
            "Accept": "application/json",
            "User-Agent": f"ComfyUI-Kling/{VERSION}",
            "Authorization": f"Bearer {self._key.get_secret_value()}",
        }
        return requests.Request(method, url, {**default_headers(), **own, **(headers or {})}).prepare()

    @quiet()
    def _call(self, request: requests.PreparedRequest, timeout: float, most: int = ANSWER_MAX) -> RawAnswer:
        """One exchange, read to its end within ``timeout`` seconds, however slowly the server sends.

        Raises:
            requests.RequestException: the exchange failed.
            Unreadable: the answer is cut off or too long.
        """
        session = self._open_session(str(request.method))
        merged = session.merge_environment_settings(request.url, {}, stream=True, verify=None, cert=None)
        timeouts = (min(CONNECT_TIMEOUT, timeout), timeout)
        with (
            bounded(Bounds(timeout, most)),
            session.send(request, timeout=timeouts, allow_redirects=False, **merged) as response,
        ):
            headers = {name.lower(): value for name, value in response.headers.items()}
            self.is_relay = self.is_relay or bool(_RELAY_HEADERS & headers.keys())
            if isinstance(request.body, _Body):
                request.body.request_id = usable_id(headers.get(REQUEST_ID.lower()))
            content = self._without_key(_read(response, most))
            return RawAnswer(response.status_code, headers, content)

    def _open_session(self, method: str) -> Session:
        """A session whose connections have not been idle for long.

        For a POST, the whole session is no older than ``idle_max``: while one of its connections is in use, others may
        have been idle for minutes. A GET that fails for this reason is simply sent again.
        """
        with self._lock:
            now = time.monotonic()
            session, since = self._sessions.get(method, (None, now))
            if session is None or now - since > self._idle_max:
                session = Session(BoundedAdapter(pool_maxsize=self._connections))
                since = now
            self._sessions[method] = session, since if method == "POST" else now
            return session

    def _redact(self, error: KlingError) -> KlingError:
        error.args = (self._clean(error.message),)
        if isinstance(error.code, str):
            error.code = self._clean(error.code)
        error.request_id = error.request_id and self._clean(error.request_id)
        return error


def _key_eraser(key: str) -> Callable[[bytes], bytes]:
    """A function that removes the key from an answer before it is parsed, however JSON spells the key.

    Later, half a key in a shortened message would no longer be found. A very short key might be part of an id or a
    link, so it is removed only from messages.
    """
    if len(key) < _KEY_SHORTEST:
        return lambda content: content
    characters = (rf"(?:\\?{re.escape(c)}|\\u00{ord(c):02x})" for c in key)
    spelled = re.compile("".join(characters).encode("ascii"), re.IGNORECASE)
    return lambda content: spelled.sub(b"***", content)


def _cleaner(settings: Settings) -> Callable[[str], str]:
    """A function that removes the key, anything that looks like one, and the gateway's host from a text."""
    parts = urlsplit(settings.base_url)
    literal = (settings.key.get_secret_value(), parts.netloc, parts.hostname or "")
    found = re.compile("|".join([*(re.escape(text) for text in literal if text), _KEY_LIKE]), re.IGNORECASE)
    # The repr of a pattern would show the key; that of a function does not.
    return lambda text: found.sub("***", text)


def own_request_id(external_task_id: str) -> str:
    """The id that a POST asks a relay to use in its log, so that its row can be told from all others."""
    return hashlib.sha256(f"request of {external_task_id}".encode()).hexdigest()[:32]


def _read(response: requests.Response, most: int) -> bytes:
    """The whole body."""
    content = bytearray()
    for piece in response.iter_content(_PIECE):
        content += piece
        if len(content) > most:
            raise Unreadable(f"the answer is longer than {most >> 20} MB")
    announced = response.headers.get("Content-Length", "")
    encoded = "Content-Encoding" in response.headers
    if announced.isdecimal() and not encoded and len(content) < int(announced):
        raise Unreadable("the answer was cut off")
    return bytes(content)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, Unreadable) else what_broke(error)
