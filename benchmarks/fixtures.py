"""What the measures start from: a gateway, inputs that nobody has used before, and the plain POST to compare with."""

from __future__ import annotations

import io
import itertools
import multiprocessing
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import requests

from nodes import host
from nodes.api import environment
from nodes.sandbox import Sandbox
from nodes.text2video import KlingText2Video

KEY = "sk-benchmark-0123456789"

_SHARED: dict[str, Any] = {
    "model_name": "kling-v3",
    "prompt": "A fox runs through fresh snow at dawn, seen from above, long shadows, calm",
    "negative_prompt": "text, blur",
    "mode": "std",
    "aspect_ratio": "16:9",
    "sound": "off",
    "cfg_scale": 0.5,
}
_INPUTS = {**_SHARED, "duration": 5, "watermark": False, "callback_url": "", "external_task_id": ""}
_BODY = {**_SHARED, "duration": "5", "multi_shot": False, "watermark_info": {"enabled": False}}

_takes = itertools.count(1)


def inputs() -> dict[str, Any]:
    """The inputs of a KlingText2Video that makes a new task."""
    return {**_INPUTS, "take": next(_takes)}


def graph(count: int) -> dict[str, dict[str, Any]]:
    """Independent nodes in ComfyUI's API format, each with a new task."""
    return {str(n): {"class_type": "KlingText2Video", "inputs": inputs()} for n in range(count)}


async def submit() -> str:
    """Make a new task; gives its task_id."""
    return str((await KlingText2Video().submit(unique_id="1", **inputs()))["result"][0])


def body() -> dict[str, Any]:
    """The same request as ``inputs``, as the pack sends it."""
    return {**_BODY, "external_task_id": f"comfyui-{uuid.uuid4().hex}"}


def plain_post(base_url: str, sent: dict[str, Any]) -> Any:
    """One POST in the shortest way that requests offers: what a submission is compared with."""
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = requests.post(f"{base_url}/v1/videos/text2video", json=sent, headers=headers, timeout=30).json()
    assert answer["data"]["task_id"]
    return answer


@contextmanager
def gateway(*, big_file: int = 0, **options: float) -> Iterator[str]:
    """The sandbox in a process of its own, so that only the client is measured; gives its base URL.

    Meanwhile the pack has the gateway's address, a key, an empty state directory, and a host that shows nothing.

    Args:
        big_file: the size of the first task's video in bytes; 0 for the small clip.
        options: as ``Sandbox``, for example ``latency``.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, big_file, options))
    process.start()
    base_url = here.recv()
    try:
        with tempfile.TemporaryDirectory(prefix="kling-benchmark-", ignore_cleanup_errors=True) as state_dir:
            ours = {"KLING_BASE_URL": base_url, "KLING_API_KEY": KEY, "KLING_STATE_DIR": state_dir}
            ours["KLING_MAX_TASKS_PER_HOUR"] = "0"  # the measures make more tasks than the default allows
            with environment.replaced(ours), host.use(host.ConsoleHost(out=io.StringIO())):
                yield base_url
    finally:
        here.close()
        process.join()


def _serve(pipe: Connection, big_file: int, options: dict[str, float]) -> None:
    """Send the base URL, then serve until the other end of the pipe is closed."""
    with Sandbox(queued_for=0, **options) as sandbox:  # type: ignore[arg-type]
        if big_file:
            sandbox.big_file(big_file)
        pipe.send(sandbox.base_url)
        with suppress(EOFError, ConnectionError):
            pipe.recv()
