"""HTTP/1.1 for the sandbox: one event loop in a thread, which can also break connections on purpose."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

LARGEST_BODY = 1 << 20
BACKLOG = 1024
CHUNK = 1 << 18
REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass
class Received:
    """One request as it arrived. Headers and body may contain a key, so its repr leaves them out.

    `headers` have lower-case names. `json` is the parsed body of a POST, None if it is not JSON. `status` is
    the status of the answer, None without one. `task_id` is the task that it made. `fault` is the fault it met.
    `request_id` is the id that a relay gave it, "" for a gateway that gives none.
    """

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False, default=b"")
    json: Any = field(repr=False, default=None)
    status: int | None = None
    task_id: str | None = None
    fault: str | None = None
    request_id: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def bearer(self) -> str:
        """The token of the Authorization header, "" if there is none."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True)
class Answer:
    """What is sent, and what happens to the connection.

    `ending`: "" keeps it open; "close" announces that it closes; "drop" closes without notice; "reset" sends a
    TCP reset; "hang" sends nothing more for `hang` seconds (None: until the client leaves or the sandbox stops).
    With `silent`, nothing is sent at all; `sends` is how many bytes of the body are sent (None: all).
    With a `source(start, stop)`, the body is its `size` bytes from `offset` on. `rate` is in bytes per second.
    `native` is what Kling said, if a relay has changed its shape with `dress`. Faults change what Kling said.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    wait: float = 0.0
    ending: str = ""
    hang: float | None = None
    silent: bool = False
    sends: int | None = None
    has_length: bool = True
    source: Callable[[int, int], Iterable[bytes]] | None = None
    offset: int = 0
    size: int = 0
    rate: float | None = None
    native: Any = field(default=None, repr=False)
    dress: Callable[[Any], Any] | None = field(default=None, repr=False)

    @property
    def length(self) -> int:
        return self.size if self.source else len(self.body)


def html(status: int, title: str = "") -> Answer:
    text = title or f"{status}: the server did not answer in time"
    page = f"<!DOCTYPE html>\n<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>\n"
    return Answer(status, page.encode("utf-8"), "text/html; charset=utf-8")


class Server:
    """HTTP/1.1 on one event loop in a daemon thread."""

    def __init__(self, answer: Callable[[Received], Answer], listener: socket.socket) -> None:
        self._answer, self._listener = answer, listener
        self._talks: set[asyncio.Task[None]] = set()  # the loop has only weak references to tasks
        self._writers: set[asyncio.StreamWriter] = set()
        self._ended = asyncio.Event()
        # The default loop on Windows is the proactor, which cannot send a reset.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._run, name="kling-sandbox", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._listen())
        finally:
            self._loop.close()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listener, backlog=BACKLOG)
        await self._ended.wait()
        # A closed server leaks connections that it has begun to accept. So accept no more, and let the loop finish.
        self._loop.remove_reader(self._listener)
        await asyncio.sleep(0)
        server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.sleep(0)  # lets the aborted connections close their sockets

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        talk = self._loop.create_task(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            going_on = True
            while going_on:
                request = await _read(reader, writer)
                if isinstance(request, Received):
                    going_on = await _send(self._answer(request), request, reader, writer)
                else:
                    going_on = await _send(request, Received("", "", {}), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        except asyncio.CancelledError:
            writer.transport.abort()  # the sandbox stops
        finally:
            writer.close()
            self._writers.discard(writer)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Received | Answer:
    """The next request, or the answer to bytes that are not one. Raises IncompleteReadError at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, path, version = first.split(" ")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        length = int(headers.get("content-length", "0"))
    except (ValueError, asyncio.LimitOverrunError):
        return replace(html(400, "Bad Request"), ending="close")
    if "transfer-encoding" in headers:
        return replace(html(411, "Length Required"), ending="close")
    if not 0 <= length <= LARGEST_BODY:
        return replace(html(413, "Content Too Large"), ending="close")
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(length) if length else b""
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return Received(method, path, headers, body)


async def _send(answer: Answer, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send an answer as it specifies. True if the connection stays open."""
    if answer.wait:
        await asyncio.sleep(answer.wait)
    closes = answer.ending == "close" or request.headers.get("connection", "").lower() == "close"
    if not answer.silent:
        await _write(answer, request.method == "HEAD", closes, writer)
    if answer.ending == "hang":
        # Until the time is up or the client leaves, whichever comes first.
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), answer.hang)
    elif answer.ending == "reset":
        writer.transport.set_write_buffer_limits(0)
        await writer.drain()
        # A socket with a linger time of 0 closes with RST instead of FIN. On Windows the struct has shorts.
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    return not answer.ending and not closes


async def _write(answer: Answer, head_only: bool, closes: bool, writer: asyncio.StreamWriter) -> None:
    lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}"]
    if answer.length or answer.status == 200:
        lines.append(f"Content-Type: {answer.content_type}")
    if answer.has_length:
        lines.append(f"Content-Length: {answer.length}")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if closes:
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    leaves = 0 if head_only else answer.length if answer.sends is None else min(answer.sends, answer.length)
    if answer.source is None:
        writer.write(head + answer.body[:leaves])
        await writer.drain()
        return
    writer.write(head)
    step = CHUNK if answer.rate is None else max(1, int(answer.rate / 20))
    for piece in answer.source(answer.offset, answer.offset + leaves):
        for start in range(0, len(piece), step):
            part = piece[start : start + step]
            writer.write(part)
            await writer.drain()
            if answer.rate is not None:
                await asyncio.sleep(len(part) / answer.rate)


def ranged(whole: Answer, header: str) -> Answer:
    """Answer one byte range, as in RFC 9110. Anything but a single range gets the whole file."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip(), re.ASCII)
    if match is None or match.group(0) == "bytes=-":
        return whole
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return whole
    start = int(first) if first else max(0, whole.size - int(last))
    stop = min(int(last) + 1, whole.size) if first and last else whole.size
    if start >= stop:
        return Answer(416, headers=(*whole.headers, ("Content-Range", f"bytes */{whole.size}")))
    headers = (*whole.headers, ("Content-Range", f"bytes {start}-{stop - 1}/{whole.size}"))
    return replace(whole, status=206, headers=headers, offset=start, size=stop - start)
