"""The least that can be done: what a submission is compared with."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from .gateway import KEY, Gateway
from .graphs import INPUTS

AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}


BODY: dict[str, Any] = {
    **{name: INPUTS[name] for name in ("model_name", "prompt", "negative_prompt", "mode", "sound", "aspect_ratio")},
    "cfg_scale": 0.5,
    "duration": "5",
    "multi_shot": False,
    "watermark_info": {"enabled": False},
}
"""What the pack makes of the benchmark's inputs."""


def body() -> dict[str, Any]:
    """A request that is new."""
    return {**BODY, "external_task_id": f"comfyui-{uuid.uuid4().hex}"}


def post(gateway: Gateway) -> None:
    """One answer, by the shortest way that requests offers."""
    answer = requests.post(gateway.url, json=body(), headers=AUTHORIZATION, timeout=30).json()
    assert answer["data"]["task_id"]


class Record:
    """A table with one row for each submission, written twice, each time down to the disk."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(Path(os.environ["KLING_STATE_DIR"]) / "bare.db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        columns = "base_url, id, fingerprint, attempt, take, state, body, owner, created_at, sent_at, accepted_at"
        self._db.execute(f"CREATE TABLE row ({columns}, task_id, task_created_at, request_id, PRIMARY KEY (id))")

    def post(self, gateway: Gateway, sent: dict[str, Any]) -> None:
        """Write, ask, write."""
        now, name = time.time(), sent["external_task_id"]
        self._db.execute(
            "INSERT INTO row VALUES (?, ?, ?, 1, 1, 'sending', ?, ?, ?, ?, 0, NULL, NULL, NULL)",
            (gateway.base_url, name, name + name, json.dumps(sent), name, now, now),
        )
        answer = requests.post(gateway.url, json=sent, headers=AUTHORIZATION, timeout=30).json()
        self._db.execute(
            "UPDATE row SET state = 'accepted', accepted_at = ?, task_id = ?, task_created_at = ?, request_id = ?"
            " WHERE id = ?",
            (time.time(), answer["data"]["task_id"], answer["data"]["created_at"], answer["request_id"], name),
        )


def flood(gateway: Gateway, count: int) -> None:
    """That many POSTs at once with next to no work on this side: shows what the gateway itself takes."""
    asyncio.run(_flood(gateway.url, [json.dumps(body()).encode() for _ in range(count)]))


async def _flood(url: str, bodies: list[bytes]) -> None:
    address = urlsplit(url)
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {KEY}\r\n"

    async def one(sent: bytes) -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*map(one, bodies))
