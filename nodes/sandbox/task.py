"""A task of the sandbox, and the bytes of its result."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .wire import CHUNK

PERIOD = 65521


@dataclass
class SandboxTask:
    """One task, which a real gateway would have charged for. Tests may change `ends` while it runs."""

    task_id: str
    external_task_id: str
    body: dict[str, Any] = field(repr=False)
    created_at: int  # Unix milliseconds
    born: float  # on the sandbox's clock
    ends: str = "succeed"  # or "failed"
    status_msg: str = ""
    file_size: int | None = None  # bytes of a generated file; None: the clip
    file_version: int = 0

    def size(self) -> int:
        """Bytes of the result."""
        return len(_clip()) if self.file_size is None else self.file_size

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a result, a piece at a time. Versions of a file differ in content, not in length."""
        clip = _clip()
        if self.file_size is None:
            # The clip ends in a padding box. The version goes there, so that the clip stays playable.
            yield (clip[:-8] + self.file_version.to_bytes(8, "big"))[start:stop]
            return
        kind = clip[: int.from_bytes(clip[:4], "big")]
        head = kind + struct.pack(">I4sQ", 1, b"mdat", self.file_size - len(kind))
        while start < stop:
            offset = (start - len(head) + self.file_version) % PERIOD
            film = _filler()[offset : offset + min(CHUNK, stop - start)]
            piece = head[start:stop] if start < len(head) else film
            yield piece
            start += len(piece)


@cache
def _clip() -> bytes:
    return Path(__file__).with_name("clip.mp4").read_bytes()


@cache
def _filler() -> bytes:
    """A block of random bytes, repeated. Its length is a prime, so that a misplaced piece is noticed."""
    return random.Random(PERIOD).randbytes(PERIOD) * (CHUNK // PERIOD + 2)
