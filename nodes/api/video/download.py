"""Downloads the video of a task, in as many tries as it takes, with a fresh link when the old one has expired."""

from __future__ import annotations

import random
from pathlib import Path

from ..errors import KlingError, UnavailableError
from ..gateway.answer import Task
from ..running.progress import Display, date
from ..running.threads import Watcher, in_thread, sleep
from ..submit.account import Account
from .poll import DOWNLOAD_SHARE
from .transfer import Broken, Gone, Transfer

_LONGEST_PAUSE = 60.0


async def download(account: Account, task: Task, directory: Path, watcher: Watcher) -> tuple[Path, str]:
    """Download the video of a task into ``directory``, which is created if it does not exist.

    Args:
        task: a task that has succeeded, with its URL.

    Returns:
        The file, and the URL that it came from.

    Raises:
        SetupError: the disk, KLING_MAX_VIDEO_MB or the address of the link does not allow it.
        UnavailableError: the download failed for now; running again is free and continues where this stopped.
        and the host's interrupt.
    """
    url = task.url or ""
    pace = account.pace
    transfer = Transfer(account.settings, task.task_id, directory, pace)
    fruitless, best, refreshed_at = 0, 0, -1
    parting = "stopped. Run again to continue the download for free"

    def done() -> float:
        return 1 - DOWNLOAD_SHARE + DOWNLOAD_SHARE * transfer.done()

    try:
        with Display(watcher, transfer.line, done, parting) as display:
            while True:
                try:
                    path = await in_thread(display, pace, transfer.run, url)
                except Gone as gone:
                    # Links often expire before the results do, and the gateway may have a fresh one. Keep asking for
                    # fresh links as long as the last one delivered data.
                    is_dead = transfer.received <= refreshed_at
                    fresh = None if is_dead else await in_thread(display, pace, _fresh_url, account, task)
                    if fresh is None:
                        raise _dead_link(gone, task) from None
                    if fresh == url:
                        await sleep(pace.download_pause, display, pace)
                    url, refreshed_at = fresh, transfer.received
                except Broken as broken:
                    fruitless = 0 if transfer.received > best else fruitless + 1
                    best = max(best, transfer.received)
                    if fruitless >= pace.download_tries:
                        raise _gave_up(broken) from None
                    transfer.trouble = broken.reason
                    pause = min(pace.download_pause * 2 ** min(fruitless, 16), pace.download_pause_most)
                    pause = max(pause, min(broken.retry_after or 0, _LONGEST_PAUSE))
                    await sleep(pause * (1 + random.random() / 8), display, pace)
                else:
                    if path:
                        return path, url
                    await sleep(pace.slice, display, pace)
    except KlingError as error:
        error.task_id = error.task_id or task.task_id
        raise
    finally:
        transfer.stop.set()


def _fresh_url(account: Account, task: Task) -> str | None:
    try:
        fresh = account.client.query(task.task_id)
    except KlingError:
        return None
    # A relay or a cache may answer with another task, and its video would be somebody else's.
    own_id = task.external_task_id
    return fresh.url if own_id is None or fresh.external_task_id in (None, own_id) else None


def _dead_link(gone: Gone, task: Task) -> UnavailableError:
    made = f" This one was made on {date(task.created_at / 1000)}." if task.created_at else ""
    return UnavailableError(
        "The link to the video does not work, and neither does a fresh one. Kling deletes results 30 days after they"
        f" were made.{made} If the video should still exist, run again later; nothing is paid again. To pay for a new"
        " video, raise take in KlingText2Video.",
        http_status=gone.status,
    )


def _gave_up(broken: Broken) -> UnavailableError:
    return UnavailableError(
        f"The video is ready, but its download keeps failing: {broken.reason}. Run again later. The download continues"
        " where it stopped, and nothing is paid again."
    )
