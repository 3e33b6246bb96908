"""A client that talks to a relay of the sandbox without the pack. PYTEST_DONT_REWRITE: no asserts."""

from __future__ import annotations

import json
from typing import Any

import requests
from bodies import SMALL

from nodes.sandbox import Sandbox

API = "/kling/v1/videos/text2video"
KEY = "sk-relay-test"
STORYBOARD: dict[str, Any] = {
    "model_name": "kling-v3",
    "multi_shot": True,
    "shot_type": "customize",
    "multi_prompt": [{"index": n, "prompt": f"Shot {n}.", "duration": "3"} for n in (1, 2)],
    "mode": "std",
    "aspect_ratio": "16:9",
    "duration": "6",
}


def fetch(method: str, url: str, **options: Any) -> requests.Response:
    """One request. Raises a RequestException without a whole answer, which old versions of urllib3 do not notice."""
    answer = requests.request(method, url, allow_redirects=False, timeout=20, **options)
    if len(answer.content) < int(answer.headers.get("Content-Length", 0)):
        raise requests.ConnectionError("the body was cut short")
    return answer


def ask(relay: Sandbox, path: str, *, key: str | None = KEY, body: Any = None, **headers: str) -> requests.Response:
    """A GET, or with a body a POST."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields |= {"Authorization": f"Bearer {key}"} if key else {}
    return fetch("GET" if body is None else "POST", f"{relay.origin}{path}", json=body, headers=fields)


def create(relay: Sandbox, key: str = KEY, **changes: Any) -> requests.Response:
    return ask(relay, API, key=key, body={**SMALL, **changes})


def made(relay: Sandbox, **changes: Any) -> str:
    """The id of a new task."""
    return str(create(relay, **changes).json()["id"])


def query(relay: Sandbox, task_id: str) -> requests.Response:
    return ask(relay, f"{API}/{task_id}")


def rows(relay: Sandbox, key: str = KEY) -> list[dict[str, Any]]:
    """What the books show to a key, newest first, with `other` read."""
    found = ask(relay, "/api/log/token", key=key).json()["data"]
    return [{**row, "other": json.loads(row["other"])} for row in found]


def task_ids(relay: Sandbox, key: str = KEY) -> list[str | None]:
    return [row["other"].get("task_id") for row in rows(relay, key)]
