"""How a node waits: on the event loop, in slices so short that Cancel takes effect at once.

Only a call in progress occupies a thread, from a pool of our own.
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
"""The most calls in progress at the same time: the size of the thread pool and of the connection pool."""


class Watcher(Protocol):
    """What a waiting node needs from its host."""

    def show(self, line: str) -> None:
        """Show the user one line about what is happening."""

    def progress(self, value: float, total: float) -> None:
        """Show how much of the work is done."""

    def raise_if_cancelled(self) -> None:
        """Raise the host's own interrupt if the user has cancelled."""


@cache
def _pool() -> ThreadPoolExecutor:
    # asyncio's own pool has six threads on two cores, so only six requests could run at a time.
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="kling")


@cache
def _route_pool() -> ThreadPoolExecutor:
    # Apart from the nodes' pool, which 64 requests to a silent gateway can fill for minutes.
    return ThreadPoolExecutor(4, thread_name_prefix="kling-route")


async def call(function: Callable[..., T], *args: object) -> T:
    """Run ``function`` in a thread for a route. The host's event loop and threads stay free, whatever it waits for."""
    return await asyncio.wrap_future(_route_pool().submit(function, *args))


async def in_thread(watcher: Watcher, pace: Pace, function: Callable[..., T], *args: object) -> T:
    """Run ``function`` in a worker thread. Cancel ends the wait, but never a call that has begun.

    Raises:
        whatever ``function`` raises, and the host's interrupt.
    """
    watcher.raise_if_cancelled()
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake(_: Future[T]) -> None:
        with suppress(RuntimeError):  # ComfyUI may have closed the loop while the thread was working.
            loop.call_soon_threadsafe(done.set_result, None)

    future = _pool().submit(function, *args)
    future.add_done_callback(wake)
    try:
        while not future.done():
            # Before Python 3.12, wait_for can swallow the cancellation of a closing loop.
            await asyncio.wait({done}, timeout=pace.slice)
            if not future.done():
                watcher.raise_if_cancelled()
    finally:
        # A cancelled node must not start to send, so a call that is still queued for a thread is dropped.
        future.cancel()
    return future.result()


async def sleep(seconds: float, watcher: Watcher, pace: Pace, line: str = "", *, aligned: bool = False) -> None:
    """Wait on the event loop until the time is over or the user cancels, with a countdown on the node.

    Args:
        line: what the node shows in front of the remaining seconds; empty to leave the line to the watcher.
        aligned: wait up to one slice longer, until a moment at which all waiting nodes wake.
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
        # All nodes wake at the same moments: a hundred of them wake the event loop once, not a hundred times.
        await asyncio.sleep(min(pace.slice - time.monotonic() % pace.slice, left))
