"""How a job waits: on the event loop, in slices short enough that Cancel ends it at once.

Only calls that are under way hold a thread, from a pool of our own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Protocol, TypeVar

from ..pace import Pace

T = TypeVar("T")

WORKERS = 64
"""Threads for calls under way at the same moment, and connections kept for them."""


class Watcher(Protocol):
    """What a job needs of the program around it."""

    def show(self, line: str) -> None:
        """Show the user one line about what is going on."""

    def progress(self, value: float, total: float) -> None:
        """Show how far the job has come."""

    def raise_if_cancelled(self) -> None:
        """Raise the host's own interrupt if the user has cancelled."""


@cache
def _pool() -> ThreadPoolExecutor:
    # asyncio's own pool has six threads on two cores, which would send six requests at a time.
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="kling")


async def in_thread(watcher: Watcher, pace: Pace, function: Callable[..., T], *args: object) -> T:
    """Run ``function`` in a worker thread; the user's Cancel ends the waiting, never the work that has begun.

    Raises:
        whatever ``function`` raises, and the host's interrupt.
    """
    watcher.raise_if_cancelled()
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake(_: Future[T]) -> None:
        with suppress(RuntimeError):  # ComfyUI may have closed the loop while the thread was at work.
            loop.call_soon_threadsafe(done.set_result, None)

    future = _pool().submit(function, *args)
    future.add_done_callback(wake)
    try:
        while not future.done():
            # Not wait_for: before Python 3.12 it can swallow the cancellation of a closing loop.
            await asyncio.wait({done}, timeout=pace.slice)
            if not future.done():
                watcher.raise_if_cancelled()
    finally:
        # Work that still waits for a thread is dropped: a cancelled node must not start to send.
        future.cancel()
    return future.result()


async def sleep(seconds: float, watcher: Watcher, pace: Pace, line: str = "", *, aligned: bool = False) -> None:
    """Wait on the event loop, counting down on the node, until the time is over or the user cancels.

    Args:
        line: what the node shows, before the seconds that are left; empty to leave that to the watcher.
        aligned: wait up to a slice longer, for one of the moments at which all waiting nodes wake.
    """
    end = time.monotonic() + seconds
    if aligned:
        end += -end % pace.slice
    shown = None
    while (left := end - time.monotonic()) > 0:
        watcher.raise_if_cancelled()
        whole = math.ceil(left)
        if line and whole != shown:
            watcher.show(f"{line} in {whole} s")
            shown = whole
        # At moments that are the same for all: a hundred waiting nodes wake the event loop once, not a hundred times.
        await asyncio.sleep(min(pace.slice - time.monotonic() % pace.slice, left))
