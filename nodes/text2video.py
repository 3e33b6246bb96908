"""KlingText2Video: turns the graph into one request, submits it once, and returns the task_id."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from inspect import cleandoc
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError

from . import host as hosts
from .api import settings
from .api.errors import SetupError
from .api.request.body import (
    PROMPT_MAX,
    CameraConfig,
    CameraControl,
    MultiShot,
    Shot,
    Text2VideoRequest,
    WatermarkInfo,
)
from .api.request.callback import reported_to
from .api.request.capabilities import DURATIONS, MODELS, extra_models
from .api.spending import limits, prices
from .api.submit.account import failures_so_far, open_account
from .api.submit.loop import Submission, submit
from .camera_control import CAMERA_CONTROL
from .multi_shot import MULTI_SHOT
from .problems import graph_error
from .widgets import Widget, widget


def _field(name: str, kind: str | None = None, **options: Any) -> Widget:
    return widget(Text2VideoRequest, name, kind, **options)


def _socket(kind: str, name: str, tooltip: str | None = None) -> Widget:
    return kind, {"tooltip": tooltip or Text2VideoRequest.model_fields[name].description}


class Unsent(BaseModel):
    """The inputs that are not sent as they are."""

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)

    take: int = Field(
        1,
        ge=1,
        le=999_999,
        description="The same graph with the same take is one task and is paid once."
        " Another take is another paid video.",
    )
    camera_control: InstanceOf[CameraControl] | None = None
    multi_shot: InstanceOf[MultiShot] | None = None


class KlingText2Video:
    """
    Sends one text-to-video request to the Kling gateway and returns the task_id.

    The same graph with the same take is one task. Running it again costs nothing, even after an error or a restart.
    To get another video, raise take. The API key is never saved in the workflow: enter it under Settings > Kling, or
    set KLING_API_KEY.
    """

    DESCRIPTION = cleandoc(__doc__)
    CATEGORY = "Kling"
    SEARCH_ALIASES = ["kling", "text to video", "t2v", "可灵", "文生视频"]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("task_id", "receipt")
    OUTPUT_TOOLTIPS = (
        "The id of the task, for Kling Gateway Video.",
        "JSON text: task_id, external_task_id, request_id, created_at, reused, estimate, charged, notes and the request"
        " body. It does not contain the key.",
    )
    FUNCTION = "submit"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        # With dynamic prompts, every click would pick another text and buy another video.
        prose = {"multiline": True, "dynamicPrompts": False, "default": ""}
        return {
            "required": {
                "model_name": ([*MODELS, *_extra_models()], _field("model_name", default="kling-v3")[1]),
                "prompt": _field("prompt", "STRING", **prose),
                "negative_prompt": _field("negative_prompt", "STRING", **prose),
                "mode": _field("mode"),
                "aspect_ratio": _field("aspect_ratio"),
                "duration": _field("duration", "INT", default=5, min=DURATIONS[0], max=DURATIONS[-1]),
                "sound": _field("sound"),
                "cfg_scale": _field("cfg_scale", "FLOAT", step=0.05),
                "take": widget(Unsent, "take", "INT", control_after_generate=False),
                "watermark": widget(WatermarkInfo, "enabled", "BOOLEAN"),
                "callback_url": _field("callback_url", "STRING", default=""),
                "external_task_id": _field("external_task_id", "STRING", default=""),
            },
            "optional": {
                "camera_control": _socket(CAMERA_CONTROL, "camera_control"),
                "multi_shot": _socket(
                    MULTI_SHOT,
                    "multi_shot",
                    "A storyboard. Only kling-v3 supports it. The prompt and duration are then not used.",
                ),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, **inputs: Any) -> bool:
        """Report bad widget values before the run; None means that an input is linked.

        Raises:
            GraphError: it lists every problem. ComfyUI would show a returned text once for each input.
        """
        wired = {name for name, value in inputs.items() if value is None}
        assumed = {name: value for name, value in _ASSUMED.items() if name in wired}
        _checked({**inputs, **assumed}, ignored=wired - assumed.keys())
        return True

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> int:
        """Change with every failed task, so that ComfyUI does not keep returning a failed task's cached task_id.

        Running again costs nothing while the task exists, because the ledger knows it.
        """
        return failures_so_far()

    async def submit(self, unique_id: str | None = None, **inputs: Any) -> dict[str, Any]:
        """Build the request, check it, and submit it once.

        Returns:
            ``result``: task_id and receipt (JSON text); ``ui``: what the node shows of them.

        Raises:
            KlingError: its class says what the user can do.
        """
        here = hosts.current(unique_id)
        request, take = _checked(inputs)
        assert request
        if here.dry_run:
            account = open_account(settings.without_key(here.state_dir()))
            here.take_preview(account.sender.preview(request, take), settings.base_url() + settings.ENDPOINT)
        setup = settings.load(here.state_dir())
        allowed = replace(limits.load(setup.state_dir), new_in_run=here.max_new)
        submission = await submit(open_account(setup), request, take, here, allowed)
        paid = "already submitted, nothing was paid this time" if submission.reused else "submitted"
        here.show(f"{paid}: {submission.task_id}")
        return _shown(submission, _notes(request))


_ASSUMED: dict[str, Any] = {
    "prompt": "wired",
    "camera_control": CameraControl(config=CameraConfig(zoom=1)),
    "multi_shot": MultiShot(shots=(Shot(prompt="wired"),), sockets=(1,)),
}
"""Valid values in place of linked ones, so that the rules between the other inputs can be checked."""


def _checked(inputs: Mapping[str, Any], ignored: Collection[str] = ()) -> tuple[Text2VideoRequest | None, int]:
    """The request that the inputs describe, and the take.

    Args:
        ignored: inputs whose problems do not count. If one of them has a problem, the request is None.

    Raises:
        GraphError: it lists every problem.
    """
    errors, request = [], None
    given = {name: inputs[name] for name in Unsent.model_fields if name in inputs}
    try:
        unsent = Unsent.model_validate(given)
    except ValidationError as error:
        errors.append(error)
        wrong = {detail["loc"][0] for detail in error.errors()}
        unsent = Unsent.model_construct(**{name: value for name, value in given.items() if name not in wrong})
    storyboard = unsent.multi_shot
    body = _body(inputs, storyboard, unsent.camera_control)
    try:
        request = Text2VideoRequest.model_validate(body)
    except ValidationError as error:
        errors.append(error)
    if storyboard and "duration" not in body:
        ignored = {*ignored, "duration"}  # The total is unknown, because the shots have problems of their own.
    problems = graph_error(*errors, sockets=storyboard.sockets if storyboard else None, ignored=ignored)
    if problems:
        raise problems
    return request, unsent.take


def _body(inputs: Mapping[str, Any], storyboard: MultiShot | None, camera: CameraControl | None) -> dict[str, Any]:
    """The request body that the inputs describe; inputs without a value are left out."""
    direct = ("model_name", "negative_prompt", "cfg_scale", "mode", "sound", "aspect_ratio")
    body = {name: inputs.get(name) for name in direct}
    for name in ("callback_url", "external_task_id"):
        text = inputs.get(name)
        body[name] = text.strip() if isinstance(text, str) else text
    if inputs.get("watermark") is not None:
        body["watermark_info"] = {"enabled": inputs["watermark"]}
    if camera:
        body["camera_control"] = {"type": camera.type, "config": dict(camera.config)}
    if storyboard:
        body |= {"multi_shot": True, "shot_type": "customize", "duration": _total(storyboard)}
        body["multi_prompt"] = [_item(index, shot) for index, shot in enumerate(storyboard.shots, 1)]
    else:
        body |= {"multi_shot": False, "prompt": inputs.get("prompt"), "duration": _seconds(inputs.get("duration"))}
    return {name: value for name, value in body.items() if value is not None}


def _item(index: int, shot: object) -> object:
    if not isinstance(shot, Shot):
        return shot
    return {"index": index, "prompt": shot.prompt, "duration": _seconds(shot.duration)}


def _total(storyboard: MultiShot) -> str | None:
    """The length of the whole video in seconds, None if a shot has no valid length."""
    lengths = [_seconds(shot.duration) if isinstance(shot, Shot) else None for shot in storyboard.shots]
    known = [int(length) for length in lengths if length and length.isdecimal()]
    return str(sum(known)) if known and len(known) == len(lengths) and all(known) else None


def _seconds(value: object) -> str | None:
    return None if value is None else str(value)


def _extra_models() -> tuple[str, ...]:
    """Further models for the menu. If their variable is wrong, the run says so; the menu only lacks them."""
    try:
        return extra_models()
    except SetupError:
        return ()


def _notes(request: Text2VideoRequest) -> list[str]:
    """What the user should know, even though nothing is wrong."""
    notes = []
    if request.multi_shot:
        notes.append("The storyboard is used. The prompt and duration of KlingText2Video are not.")
    if request.callback_url:
        host = reported_to(request.callback_url)
        notes.append(f"callback_url: Kling reports the status of this task and the link to its video to {host}.")
    for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if text and len(text.encode()) > PROMPT_MAX:
            notes.append(
                f"The {name} has more than {PROMPT_MAX} bytes. Some relays count bytes and may cut or refuse it."
            )
    known = MODELS.get(request.model_name)
    if known is None:
        notes.append(f"No facts are known about the model {request.model_name}. The gateway decides what it can do.")
    elif request.camera_control and known.camera_control == "disputed":
        notes.append(f"Sources disagree on whether {request.model_name} supports camera_control. It may be ignored.")
    return notes


def _shown(submission: Submission, notes: list[str]) -> dict[str, Any]:
    """The node's outputs and what it shows."""
    receipt = {
        "task_id": submission.task_id,
        "external_task_id": submission.external_task_id,
        "request_id": submission.request_id,
        "created_at": submission.created_at,
        "reused": submission.reused,
        "estimate": _estimate(submission.body),
        "charged": submission.charged,
        "notes": [*notes, *submission.notes],
        "request": submission.body,
    }
    shown = {name: receipt[name] for name in ("task_id", "external_task_id", "reused", "estimate", "charged", "notes")}
    shown["reported_to"] = reported_to(submission.body.get("callback_url"))
    text = json.dumps(receipt, ensure_ascii=False, indent=2)
    return {"ui": {"kling": [shown]}, "result": (submission.task_id, text)}


def _estimate(body: Mapping[str, Any]) -> dict[str, Any]:
    """What Kling's price list says of a request; units and USD are None if it says nothing."""
    units = prices.estimate(body)
    return {
        "units": units,
        "list_price_usd": None if units is None else prices.in_usd(units),
        "price_list_of": prices.DATE,
    }
