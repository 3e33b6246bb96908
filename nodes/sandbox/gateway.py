"""A local gateway: Kling's text-to-video service on this computer, for demos, tests and offline work.

    with Sandbox() as sandbox:
        ...  # KLING_BASE_URL is sandbox.base_url, any key will do
        sandbox.misbehave("create", "drop-after")
        assert len(sandbox.tasks) == 1

It judges bodies as strictly as the service does (rules.py), records what it receives, moves tasks through
their states, serves a small real MP4, and fails in every way that has been seen or is to be expected
(faults.py). One thread with one event loop serves all connections, so a hundred hanging ones cost nothing.
A benchmark that runs it in a separate process measures only the client.
"""

from __future__ import annotations

import random
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, unquote

from . import rules
from .bodies import flat, id_style, invalid_token, invalid_url, refusal, to_json
from .faults import KINDS, Fault, Kind, read_faults
from .task import SandboxTask
from .wire import BACKLOG, Answer, Received, Server, html, ranged

S = TypeVar("S", bound="Sandbox")
ROUTE = "/kling/v1/videos/text2video"
FILES = "/files/"
RISK = "Failure to pass the risk control system"


class Sandbox:
    """An embedded gateway for use from any thread, as a context manager or with start() and stop().

    Args:
        host: address to listen on.
        port: 0 picks a free one, which is kept when the sandbox is stopped and started again.
        key: the only key that is accepted; None accepts any.
        latency: seconds before a create is answered. The task exists from the start.
        queued_for, runs_for: seconds that a task is `submitted`, then `processing`.
        knows_external_ids: False behaves like a plain New-API relay: it answers no query by external_task_id,
            and accepts one that is already in use.
        slots: how many tasks may run at once; more are refused with 1303. None: no limit.
        clock: the time in seconds, which decides the age of tasks. Delays of answers always take real time.
        log: called with one line for every request, from the sandbox's thread. No line contains the key.
    """

    kinds: ClassVar[Mapping[str, Mapping[str, Kind]]] = KINDS

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
        latency: float = 0.0,
        queued_for: float = 0.2,
        runs_for: float = 0.6,
        knows_external_ids: bool = True,
        slots: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.latency = latency
        self.queued_for = queued_for
        self.runs_for = runs_for
        self.knows_external_ids = knows_external_ids
        self.slots = slots
        self.received: list[Received] = []
        self.warnings: list[str] = []
        self._host, self._port, self._key = host, port, key
        self._clock, self._log = clock, log
        self._epoch = time.time() - clock()
        self._lock = threading.Lock()
        self._tasks: dict[str, SandboxTask] = {}
        self._by_external_id: dict[str, SandboxTask] = {}
        self._faults: dict[str, deque[Fault]] = {on: deque() for on in self.kinds}
        self._failures: deque[str] = deque()
        self._sizes: deque[int] = deque()
        self._ids = random.SystemRandom().randrange(8 * 10**17, 9 * 10**17)
        self._server: Server | None = None

    # -- running

    def start(self: S) -> S:
        """Start listening. Raises OSError if the port is in use."""
        if self._server is None:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            listener = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
            self._port = listener.getsockname()[1]
            self._server = Server(self._answer, listener)
        return self

    def stop(self) -> None:
        """Close every connection, even hanging ones. What was received and made stays readable."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def __enter__(self: S) -> S:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def origin(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/kling"

    # -- what it has received, and what it is told to do

    @property
    def tasks(self) -> dict[str, SandboxTask]:
        """All tasks by task_id, in order of creation. The dict is a copy, the tasks are not."""
        with self._lock:
            return dict(self._tasks)

    def creates(self) -> list[dict[str, Any]]:
        """Copies of the JSON objects of all POSTs, in order of arrival."""
        posts = [request for request in self.received if request.method == "POST"]
        return [deepcopy(request.json) for request in posts if isinstance(request.json, dict)]

    def misbehave(self, on: str, *kinds: str) -> None:
        """Queue faults, one for each coming request, on "create", "query", "list" or "download".

        Raises ValueError, listing what is known, if a fault does not exist; then none is queued.
        """
        faults = read_faults(on, kinds, self.kinds)
        with self._lock:
            self._faults[on].extend(faults)

    def clear_faults(self) -> None:
        with self._lock:
            for queue in self._faults.values():
                queue.clear()

    def fail_next(self, message: str = RISK) -> None:
        """Let the next new task end as `failed`, with this task_status_msg."""
        with self._lock:
            self._failures.append(message)

    def big_file(self, size_bytes: int) -> None:
        """Give the next new task a result of this size, which is generated while it is sent."""
        if size_bytes < 64:
            raise ValueError(f"a big file has at least 64 bytes, not {size_bytes}")
        with self._lock:
            self._sizes.append(size_bytes)

    def file_size(self, task_id: str) -> int:
        """Bytes of a task's result. Raises KeyError for an unknown task."""
        return self.tasks[task_id].size()

    def file_part(self, task_id: str, start: int, stop: int) -> bytes:
        """Bytes start to stop of a task's result, to compare a download with. Raises KeyError like file_size."""
        task = self.tasks[task_id]
        return b"".join(task.pieces(start, min(stop, task.size())))

    # -- answering; all of this runs in the server's thread

    def _answer(self, request: Received) -> Answer:
        """Record one request and decide what to send. It never waits."""
        on, honest = self._route(request.method, request.path.partition("?")[0])
        with self._lock:
            queue = self._faults.get(on)
            wrong = queue.popleft() if queue else None
        if request.method == "POST":
            with suppress(ValueError):
                request.json = rules.read(request.body)
        if wrong is None:
            answer = honest(request, "")
        else:
            request.fault = wrong.kind
            answer = wrong.turn(honest(request, wrong.kind) if wrong.reaches else self._blank(), request)
        if on == "create" and self.latency and not answer.silent:
            answer = replace(answer, wait=answer.wait + self.latency)
        request.status = None if answer.silent else answer.status
        self.received.append(request)
        if self._log is not None:
            self._log(_line(request))
        return answer

    def _route(self, method: str, path: str) -> tuple[str, Callable[[Received, str], Answer]]:
        """The name under which faults are queued, and the method that answers."""
        name = path.removeprefix(f"{ROUTE}/")
        if path == ROUTE:
            routes = {"POST": ("create", self._create), "GET": ("list", _no_route)}
        elif path != name and name and "/" not in name:
            routes = {"GET": ("query", self._query)}
        elif path.startswith(FILES):
            routes = {"GET": ("download", self._download), "HEAD": ("", self._download)}
        else:
            return "", _no_route
        return routes.get(method, ("", _wrong_method))

    def _blank(self) -> Answer:
        """What a fault cuts short or changes, if the create never reached the service."""
        return to_json(BLANK)

    def _is_stranger(self, request: Received) -> bool:
        return not request.bearer or self._key not in (None, request.bearer)

    def _create(self, request: Received, wrong: str) -> Answer:
        if self._is_stranger(request):
            return invalid_token()
        verdict = rules.judge(request.json)
        self._warn(request, *verdict.warnings)
        if verdict.refusal is not None:
            return refusal(*verdict.refusal)
        body = self._as_billed(request.json)
        own_id = body.get("external_task_id", "")
        now = self._clock()
        with self._lock:
            if own_id and self.knows_external_ids and own_id in self._by_external_id:
                return refusal(1201, f"External_task_id {own_id} already exists")
            if self.slots is not None and self._running(now) >= self.slots:
                return refusal(1303)
            task = SandboxTask(self._new_id(wrong), own_id, body, self._milliseconds(now), now)
            if self._failures:
                task.ends, task.status_msg = "failed", self._failures.popleft()
            if self._sizes:
                task.file_size = self._sizes.popleft()
            self._tasks[task.task_id] = task
            if own_id:
                self._by_external_id.setdefault(own_id, task)
        request.task_id = task.task_id
        return _envelope(
            {
                "task_id": task.task_id,
                "task_status": "submitted",
                "task_info": {"external_task_id": own_id} if own_id else {},
                "created_at": task.created_at,
                "updated_at": task.created_at,
            }
        )

    def _as_billed(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body from which the task is made."""
        return body

    def _new_id(self, wrong: str) -> str:
        self._ids += 1 + self._ids % 97
        digits = str(self._ids)
        style = id_style(wrong)
        if style == "task":
            return f"task_{uuid.uuid4().hex}"
        if style == "base64":  # with the two characters that must be escaped in a path
            return f"Cj/{digits}+A=="
        return f"kling-v1{digits}" if style == "prefixed" else digits

    def _running(self, now: float) -> int:
        return sum(now < task.born + self.queued_for + self.runs_for for task in self._tasks.values())

    def _milliseconds(self, moment: float) -> int:
        return int((self._epoch + moment) * 1000)

    def _query(self, request: Received, wrong: str) -> Answer:
        if self._is_stranger(request):
            return invalid_token()
        asked = unquote(request.path.partition("?")[0].rpartition("/")[2])
        task = self._find(asked)
        if task is None:
            if not self.knows_external_ids:
                return flat(400, "task_not_exist", "task_not_exist")
            return refusal(1201, f"Task not found by id/external id: {asked}")
        return _envelope(self._report(task))

    def _find(self, asked: str) -> SandboxTask | None:
        with self._lock:
            by_external_id = self._by_external_id if self.knows_external_ids else {}
            return self._tasks.get(asked) or by_external_id.get(asked)

    def _status(self, task: SandboxTask) -> tuple[str, float]:
        """The status now and when it began, on the sandbox's clock."""
        now, starts = self._clock(), task.born + self.queued_for
        if now < starts:
            return "submitted", task.born
        return ("processing", starts) if now < starts + self.runs_for else (task.ends, starts + self.runs_for)

    def _report(self, task: SandboxTask) -> dict[str, Any]:
        status, since = self._status(task)
        own_id = task.external_task_id
        report: dict[str, Any] = {
            "task_id": task.task_id,
            "task_status": status,
            "task_status_msg": task.status_msg if status == "failed" else "",
            "task_info": {"external_task_id": own_id} if own_id else {},
            "created_at": task.created_at,
            "updated_at": self._milliseconds(since),
        }
        if "watermark_info" in task.body:
            report["watermark_info"] = task.body["watermark_info"]
        if status == "failed":
            report["final_unit_deduction"] = "0"
        if status == "succeed":
            url = f"{self.origin}{FILES}{quote(task.task_id, safe='')}.mp4"
            video = {"id": f"v-{task.task_id}", "url": url, "duration": f"{task.body['duration']}.041"}
            if report.get("watermark_info", {}).get("enabled"):
                video["watermark_url"] = f"{url}?watermark=1"
            report["task_result"] = {"videos": [video]}
            report["final_unit_deduction"] = rules.units(task.body)
        return report

    def _download(self, request: Received, wrong: str) -> Answer:
        if "authorization" in request.headers:
            self._warn(request, "the key was sent to a result URL")
        name = request.path.partition("?")[0].removeprefix(FILES)
        with self._lock:
            task = self._tasks.get(unquote(name.removesuffix(".mp4")))
        if task is None or self._status(task)[0] != "succeed":
            return html(404, "Not Found")
        if wrong == "changed":
            task.file_version += 1
        size = task.size() // (2 if wrong == "short" else 1)
        tag = f'"{quote(task.task_id, safe="")}-{task.file_version}"'
        headers = (("ETag", tag), ("Accept-Ranges", "bytes"))
        whole = Answer(200, b"", "video/mp4", headers, source=task.pieces, size=size)
        if wrong == "ignore-range" or request.headers.get("if-range", tag) != tag:
            return whole
        return ranged(whole, request.headers.get("range", ""))

    def _warn(self, request: Received, *warnings: str) -> None:
        request.warnings += warnings
        self.warnings.extend(warning for warning in warnings if warning not in self.warnings)


BLANK: dict[str, Any] = {"code": 0, "message": "SUCCEED", "request_id": "", "data": {"task_status": "submitted"}}


def _envelope(data: dict[str, Any]) -> Answer:
    return to_json({"code": 0, "message": "SUCCEED", "request_id": str(uuid.uuid4()), "data": data})


def _no_route(request: Received, wrong: str) -> Answer:
    return invalid_url(request.method, request.path)


def _wrong_method(request: Received, wrong: str) -> Answer:
    return refusal(1202)


def _line(request: Received) -> str:
    parts = [request.method, request.path, "->", str(request.status or "no answer")]
    parts += [f"task {request.task_id}"] if request.task_id else []
    parts += [f"[{request.fault}]"] if request.fault else []
    line = "\n    note: ".join([" ".join(parts), *request.warnings])
    return line.replace(request.bearer, "***") if request.bearer else line
