"""A New-API relay on this computer: Kling's service behind it, its own ids in front, and its books.

    with Relay(books=Books(task_ids=False)) as relay:
        relay.misbehave("create", "drop-after")
        relay.misbehave("books", "limited")
        relay.sell_elsewhere("kling-v1")

It knows a task by its own id only. All faults of the Kling family work here as well; those that change what an
answer says keep the relay's shape. Every answer but a file's has the headers by which the family is told.
"""

from __future__ import annotations

import json
import secrets
import string
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from email.utils import format_datetime
from functools import partial
from typing import Any, ClassVar, Final

from . import rules
from .bodies import (
    SATURATED,
    Body,
    dressed,
    flat,
    gateway_error,
    invalid_token,
    openai,
    to_json,
    with_,
    wrapper,
)
from .book_faults import RELAY_KINDS, UNKNOWN_KEY
from .books import PATH, Books, Row, Type, price_of
from .faults import Kind
from .gateway import BLANK, FILES, Sandbox
from .task import SandboxTask
from .wire import Answer, Received

DOLLARS_PER_UNIT: Final = 0.14
LETTERS: Final = string.ascii_letters + string.digits
STORYBOARD: Final = ("multi_shot", "shot_type", "multi_prompt")
STORYBOARDS: Final = ("refused", "dropped", "passed")
CREATE_SHAPES: Final = ("openai", "native")


class Relay(Sandbox):
    """A sandbox of the New-API family.

    Args:
        books: how its books are kept; later its attribute `books`.
        create_shape: what answers a create: "openai" is New-API's video object, "native" Kling's envelope with
            the relay's id.
        inner_answer: whether an answer to a query contains Kling's own, with Kling's id and the external_task_id.
        storyboards: "refused": a blank prompt is refused, and with one the storyboard is dropped. "dropped": the
            storyboard is dropped without a word, and a single shot is made and billed. "passed": passed on.
        takes_request_ids: whether an inbound X-Oneapi-Request-Id becomes the answer's.
        version: the header X-New-Api-Version; None leaves it out.
        clock_offset: seconds by which the relay's clock is wrong: in books, tasks and the Date header.
        models: what it has a channel for.
        settings: as for Sandbox, but knows_external_ids is False unless it is given.
    """

    kinds: ClassVar[Mapping[str, Mapping[str, Kind]]] = RELAY_KINDS

    def __init__(
        self,
        *,
        books: Books | None = None,
        create_shape: str = "openai",
        inner_answer: bool = True,
        storyboards: str = "refused",
        takes_request_ids: bool = False,
        version: str | None = "v0.9.23",
        clock_offset: float = 0.0,
        models: tuple[str, ...] = rules.MODELS,
        **settings: Any,
    ) -> None:
        if create_shape not in CREATE_SHAPES:
            raise ValueError(f"create_shape is {create_shape!r}; known: {', '.join(CREATE_SHAPES)}")
        if storyboards not in STORYBOARDS:
            raise ValueError(f"storyboards is {storyboards!r}; known: {', '.join(STORYBOARDS)}")
        super().__init__(**{"knows_external_ids": False, **settings})
        self.books = books or Books()
        self.create_shape = create_shape
        self.inner_answer = inner_answer
        self.storyboards = storyboards
        self.takes_request_ids = takes_request_ids
        self.version = version
        self.clock_offset = clock_offset
        self.models = models
        self._kling_ids: dict[str, str] = {}
        self._consumed: dict[str, Row] = {}  # the rows of tasks that may still be paid back
        self._elsewhere: dict[str, SandboxTask] = {}
        self._calls: deque[float] = deque()

    # -- what others do

    def sell_elsewhere(
        self,
        model_name: str = "kling-v1",
        *,
        at: float | None = None,
        task: bool = True,
        key: str | None = None,
        external_task_id: str = "",
        path: str = PATH,
        **row: Any,
    ) -> str:
        """Let another program buy a task. It is not among `tasks`, but can be asked for. Returns its task_id.

        Args:
            at: when it was bought, in Unix seconds as the books show them; None: now.
            task: False makes the row alone: the relay does not know the task_id.
            key: whose row it is; None: shown to every key.
            path: the `request_path` of the row.
            row: further fields of the row, such as quota=-5, request_id="..." or other="no JSON".
        """
        with self._lock:
            now = self._clock()
            created_at = self._milliseconds(now) if at is None else int(at * 1000)
            task_id = self._new_id("")
            body = {"model_name": model_name, "mode": "std", "duration": "5", "prompt": "Somebody else's."}
            if task:
                born = created_at / 1000 - self.clock_offset - self._epoch
                self._elsewhere[task_id] = SandboxTask(task_id, external_task_id, body, created_at, born)
            dollars = DOLLARS_PER_UNIT
            quota = self.books.quota(dollars)
            shown = {
                "created_at": created_at // 1000,
                "content": _calculated(body),
                "model_name": model_name,
                "quota": quota,
                "request_id": self._new_request_id(),
            }
            self.books.add(key, now, price_of(task_id, dollars, self.books.group_ratio, path), shown | row)
            self.books.charge(key, quota)
        return task_id

    def add_row(self, *, key: str | None = None, other: object = None, **fields: Any) -> None:
        """Write any row into the books, also while logging is off. `other` may be a dict, or what is sent as it is."""
        with self._lock:
            now = self._clock()
            shown = {"created_at": self._milliseconds(now) // 1000, "request_id": self._new_request_id(), **fields}
            if other is not None and not isinstance(other, dict):
                shown["other"] = other
            self.books.add(key, now, other if isinstance(other, dict) else {}, shown)

    # -- answering; all of this runs in the server's thread

    def _answer(self, request: Received) -> Answer:
        inbound = request.headers.get("x-oneapi-request-id", "") if self.takes_request_ids else ""
        request.request_id = inbound or self._new_request_id()
        answer = super()._answer(request)
        if request.path.startswith(FILES):  # from Kling's own server
            return answer
        version = () if self.version is None else (("X-New-Api-Version", self.version),)
        own = (("X-Oneapi-Request-Id", request.request_id), *version, ("Date", self._date()))
        return replace(answer, headers=(*answer.headers, *own))

    def _date(self) -> str:
        moment = self._milliseconds(self._clock()) / 1000
        return format_datetime(datetime.fromtimestamp(moment, timezone.utc), usegmt=True)

    def _milliseconds(self, moment: float) -> int:
        return super()._milliseconds(moment + self.clock_offset)

    def _new_id(self, wrong: str) -> str:
        task_id = "task_" + "".join(secrets.choice(LETTERS) for _ in range(32))
        self._kling_ids[task_id] = super()._new_id("")
        return task_id

    def _new_request_id(self) -> str:
        return time.strftime("%Y%m%d%H%M%S", time.gmtime()) + "".join(secrets.choice(LETTERS) for _ in range(17))

    def _route(self, method: str, path: str) -> tuple[str, Callable[[Received, str], Answer]]:
        routes = {
            "/api/log/token": ("books", self._log_of_key),
            "/api/usage/token/": ("usage", self._usage_of_key),
            "/api/status": ("status", self._server_status),
            "/v1/models": ("models", self._model_list),
        }
        return routes[path] if method == "GET" and path in routes else super()._route(method, path)

    def _blank(self) -> Answer:
        return dressed(BLANK, openai) if self.create_shape == "openai" else super()._blank()

    # -- tasks

    def _create(self, request: Received, wrong: str) -> Answer:
        if self._is_stranger(request):
            return invalid_token(request.request_id)
        refused = self._refused_by_relay(request)
        if refused is not None:
            return refused
        answer = super()._create(request, wrong)
        if answer.status != 200:
            self._write(request, Type.ERROR, request.json["model_name"], answer.body.decode("utf-8"), 0, {})
            if answer.status == 429:
                return flat(429, "fail_to_fetch_task", SATURATED)
            return flat(answer.status, "fail_to_fetch_task", answer.body.decode("utf-8"))
        task = self._tasks[str(request.task_id)]
        self._bill(request, task)
        if self.create_shape == "native":
            return answer
        return dressed(json.loads(answer.body), partial(openai, model_name=task.body["model_name"]))

    def _refused_by_relay(self, request: Received) -> Answer | None:
        """What the relay finds before it asks Kling."""
        suffix = f" (request id: {request.request_id})"
        body = request.json
        model_name = body.get("model_name") if isinstance(body, dict) else None
        if not (isinstance(model_name, str) and model_name):
            return gateway_error(400, f"Model name is not specified{suffix}")
        if model_name not in self.models:
            text = f"No available channel for model {model_name} under group default"
            return gateway_error(503, f"{text}{suffix}", "model_not_found")
        needs_prompt = self.storyboards == "refused" or not body.get("multi_shot")
        if needs_prompt and not str(body.get("prompt", "")).strip():
            return flat(400, "invalid_request", "prompt is required")
        return None

    def _as_billed(self, body: dict[str, Any]) -> dict[str, Any]:
        """The relay's struct lacks a storyboard, and its defaults are not Kling's."""
        lost = () if self.storyboards == "passed" else STORYBOARD
        kept = {name: value for name, value in body.items() if name not in lost}
        if kept.get("cfg_scale") == 0:
            del kept["cfg_scale"]
        return {"prompt": "", "aspect_ratio": "1:1", **kept}

    def _bill(self, request: Received, task: SandboxTask) -> None:
        dollars = round(DOLLARS_PER_UNIT * float(rules.units(task.body)), 4)
        quota = self.books.quota(dollars)
        self.books.charge(request.bearer, quota)
        other = price_of(task.task_id, dollars, self.books.group_ratio)
        row = self._write(request, Type.CONSUME, task.body["model_name"], _calculated(task.body), quota, other)
        if row is not None:
            self._consumed[task.task_id] = row

    def _write(
        self, request: Received, kind: Type, model_name: str, content: str, quota: int, other: Body
    ) -> Row | None:
        if not self.books.logging:
            return None
        now = self._clock()
        shown = {
            "created_at": self._milliseconds(now) // 1000,
            "type": int(kind),
            "content": content,
            "model_name": model_name,
            "quota": quota,
            "request_id": request.request_id,
        }
        with self._lock:
            return self.books.add(request.bearer, now, other, shown)

    def _find(self, asked: str) -> SandboxTask | None:
        return super()._find(asked) or self._elsewhere.get(asked)

    def _query(self, request: Received, wrong: str) -> Answer:
        if self._is_stranger(request):
            return invalid_token(request.request_id)
        answer = super()._query(request, wrong)
        if answer.status != 200:
            return answer
        body = json.loads(answer.body)
        kling_id = self._kling_ids[body["data"]["task_id"]]

        def dress(body: Body) -> Body:
            return wrapper(body, inner_answer=with_(body, task_id=kling_id) if self.inner_answer else None)

        return dressed(body, dress)

    # -- books

    def _log_of_key(self, request: Received, wrong: str) -> Answer:
        refused = self._unread(request)
        if refused is not None:
            return refused
        self._pay_back()
        with self._lock:
            rows = self.books.look(request.bearer, self._clock())
        return to_json({"success": True, "message": "", "data": rows})

    def _usage_of_key(self, request: Received, wrong: str) -> Answer:
        refused = self._unread(request)
        if refused is not None:
            return refused
        self._pay_back()
        return to_json({"code": True, "message": "ok", "data": self.books.usage(request.bearer)})

    def _unread(self, request: Received) -> Answer | None:
        """Why the books stay closed, or None. Each call counts for the limit, whatever its key."""
        now, books = self._clock(), self.books
        while self._calls and self._calls[0] <= now - books.window:
            self._calls.popleft()
        if books.calls is not None and len(self._calls) >= books.calls:
            return Answer(429)
        self._calls.append(now)
        if not request.bearer:
            return to_json({"success": False, "message": "No Authorization header"}, 401)
        return to_json(UNKNOWN_KEY) if self._is_stranger(request) else None

    def _pay_back(self) -> None:
        """Write the refunds of tasks that have failed."""
        if not self.books.refunds:
            return
        for task_id in [name for name in self._consumed if self._status(self._tasks[name])[0] == "failed"]:
            paid, (_, since) = self._consumed.pop(task_id), self._status(self._tasks[task_id])
            changes = {
                "created_at": self._milliseconds(since) // 1000,
                "type": int(Type.REFUND),
                "content": f"异步任务执行失败 {task_id}",
                "request_id": "",  # no request caused it
            }
            with self._lock:
                self.books.add(paid.key, since, {**paid.other, "reason": "task failed"}, paid.shown | changes)
                self.books.charge(paid.key, -paid.shown["quota"])

    def _server_status(self, request: Received, wrong: str) -> Answer:
        data = {
            "version": self.version or "",
            "system_name": "Sandbox",
            "quota_per_unit": self.books.quota_per_unit,
            "quota_display_type": "USD",
            "display_in_currency": True,
        }
        return to_json({"success": True, "message": "", "data": data})

    def _model_list(self, request: Received, wrong: str) -> Answer:
        if self._is_stranger(request):
            return invalid_token(request.request_id)
        models = [{"id": name, "object": "model", "created": 1626777600, "owned_by": "kling"} for name in self.models]
        return to_json({"object": "list", "data": models, "success": True})


def _calculated(body: Mapping[str, Any]) -> str:
    return f"操作 generate, 计算参数：seconds: {float(body['duration']):.2f}"
