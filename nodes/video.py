"""KlingVideo: waits for a task and downloads its video."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from . import host as hosts
from .api import settings
from .api.errors import GraphError
from .api.submit.account import open_account
from .api.video.download import download
from .api.video.poll import wait_for_video
from .api.video.transfer import max_bytes

_ID_MAX = 512


class KlingVideo:
    """
    Waits until a Kling task is done and downloads its video.

    Connect task_id of Kling Gateway Text to Video, or type a task_id or an external_task_id. Waiting and downloading
    cost nothing. The task keeps running whatever happens here. After Cancel, an error or a restart, run the graph
    again to pick it up. Kling deletes videos after 30 days, so save yours.
    """

    DESCRIPTION = cleandoc(__doc__)
    CATEGORY = "Kling"
    SEARCH_ALIASES = ["kling", "kling video", "download video", "task_id", "可灵", "视频"]
    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "url")
    OUTPUT_TOOLTIPS = (
        "The video, as a file in ComfyUI's temp directory. Connect a Save Video node to keep it.",
        "The gateway's link to the video. Anyone who has the link can open it until it expires.",
    )
    FUNCTION = "fetch"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "task_id": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "The task to wait for. Connect task_id of Kling Gateway Text to Video, or type a"
                        " task_id or an external_task_id.",
                    },
                ),
                "timeout_minutes": (
                    "INT",
                    {
                        "default": 30,
                        "min": 1,
                        "max": 1440,
                        "tooltip": "How many minutes one run waits. The task keeps running after that. Run again to"
                        " keep waiting, at no cost.",
                    },
                ),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, task_id: str | None = None) -> bool | str:
        """Report an impossible id before the run; None means that the input is linked."""
        try:
            return task_id is None or bool(_clean_id(task_id))
        except GraphError as error:
            return error.message

    async def fetch(self, task_id: str, timeout_minutes: int, unique_id: str | None = None) -> Any:
        """Wait and download.

        Returns:
            ``result``: the host's video and its URL; ``ui``: the task_id.

        Raises:
            KlingError: its class says what the user can do.
        """
        here = hosts.current(unique_id)
        asked = _clean_id(task_id)
        max_bytes()  # Report an invalid limit now, not after the wait.
        account = open_account(settings.load(here.state_dir()))
        task = await wait_for_video(account, asked, timeout_minutes * 60, here)
        path, url = await download(account, task, here.temp_dir(), here)
        here.progress(1, 1)
        charged = "" if task.charged is None else f", {task.charged:g} units charged"
        here.show(f"done: {task.task_id}, {path.stat().st_size / (1 << 20):.1f} MB{charged}")
        # The URL is left out: anyone who has it can open the video, and ComfyUI shows this part in /history.
        return {
            "ui": {"kling": [{"task_id": task.task_id, "charged": task.charged}]},
            "result": (here.video(path), url),
        }


def _clean_id(text: str) -> str:
    """The id in ``text``, without surrounding spaces.

    Raises:
        GraphError: it cannot be an id.
    """
    task_id = str(text or "").strip()
    wrong = ""
    if not task_id:
        wrong = "is empty. Connect task_id of KlingText2Video, or type the id of a task."
    elif len(task_id) > _ID_MAX:
        wrong = f"has {len(task_id)} characters; at most {_ID_MAX} are allowed. Enter only the id."
    elif not task_id.isprintable():
        position = next(i for i, c in enumerate(task_id, 1) if not c.isprintable())
        wrong = f"has a line break or another control character at position {position}. Enter only the id."
    elif set(task_id) == {"."}:
        wrong = "has only dots, so it cannot be an id. Enter the id of a task."
    if wrong:
        raise GraphError(f"KlingVideo, task_id: {wrong}")
    return task_id
