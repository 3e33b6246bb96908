"""The body of ``POST {base}/v1/videos/text2video``: every field, its limits, and what is wrong with a value.

Limits and help texts are written here once; the nodes' widgets and tooltips are made from them. Sources: the
gateway's page (names, types, 2500 and 512 characters, shots), Kling's documents for what that page leaves open
(ranges of cfg_scale and camera axes, aspect ratios), capabilities.py for what depends on the model.

``Text2VideoRequest`` reports all problems of a body at once, as pydantic line errors in plain words. ``rules.py`` holds
the rules that span several fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import InitErrorDetails, PydanticCustomError

from . import callback, rules, wording
from .capabilities import EXTRA_VARIABLE, MODELS, extra_models

PROMPT_MAX = 2500
SHOT_PROMPT_MAX = 512
SHOTS_MAX = rules.SHOTS_MAX
EXTERNAL_TASK_ID_MAX = 64

Mode = Literal["std", "pro"]
Sound = Literal["on", "off"]
AspectRatio = Literal["16:9", "9:16", "1:1"]
CameraType = Literal["simple", "down_back", "forward_up", "right_turn_forward", "left_turn_forward"]

_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_EXTERNAL_TASK_ID = re.compile(r"(?!\.+$)[!-~]*")
_PATH_CHARACTERS = "/\\?#%"


def _writable(text: str) -> str:
    """Refuse what JSON text cannot carry (lone surrogates) and what does not belong in a prompt (controls)."""
    found = _UNWRITABLE.search(text)
    if found:
        raise PydanticCustomError(
            "unwritable",
            "has the character U+{code} at position {position}, which cannot be sent. Delete it.",
            {"code": f"{ord(found[0]):04X}", "position": found.start() + 1},
        )
    return text


def _known_model(name: object) -> object:
    known = [*MODELS, *extra_models()]
    if name not in known:
        raise PydanticCustomError(
            "unknown_model",
            "is {value}; allowed: {models}. Choose one of these. If the gateway offers the other one, add its name to"
            " {variable} in the environment and restart ComfyUI.",
            {"value": wording.quoted(name), "models": ", ".join(known), "variable": EXTRA_VARIABLE},
        )
    return name


def _http_url(text: str) -> str:
    if not text:
        return text
    try:
        host = callback.host_of(text)
    except ValueError:
        raise PydanticCustomError(
            "http_url",
            "is {value}; it must be an http or https URL that Kling can reach, or empty. Correct or clear it.",
            {"value": wording.quoted(text)},
        ) from None
    hosts = callback.allowed_hosts()
    if hosts is not None and not callback.is_allowed(host, hosts):
        raise PydanticCustomError(
            "callback_host",
            "would report the task and its video to {host}; allowed: {hosts}. Clear it. If you know this host, add it"
            " to {variable} in the environment and restart ComfyUI.",
            {
                "host": wording.quoted(callback.spelled(host)),
                "hosts": ", ".join(hosts) or "none",
                "variable": callback.HOSTS_VARIABLE,
            },
        )
    return text


def _path_segment(text: str) -> str:
    """Refuse what a URL would change: the id is one segment of the path when the task is looked up."""
    if not _EXTERNAL_TASK_ID.fullmatch(text) or any(c in text for c in _PATH_CHARACTERS):
        raise PydanticCustomError(
            "path_segment",
            "is {value}; only visible ASCII characters other than / \\ ? # % are allowed, no spaces and"
            " not only dots. Change it, or leave it empty to have one made.",
            {"value": wording.quoted(text)},
        )
    return text


Writable = AfterValidator(_writable)
Prompt = Annotated[str, Field(max_length=PROMPT_MAX), Writable]
ShotPrompt = Annotated[str, Field(min_length=1, max_length=SHOT_PROMPT_MAX), Writable]
Axis = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]


class _Part(BaseModel):
    """Strict and frozen, without unknown keys: a typo must not cost money."""

    # Older versions of pydantic protect names that begin with ``model_`` and would warn at every start.
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=()
    )


class Shot(_Part):
    """One shot of a storyboard, the output of ``KlingShot``: a prompt, and a duration in whole seconds."""

    prompt: ShotPrompt = Field(description=f"What happens in this shot. 1 to {SHOT_PROMPT_MAX} characters.")
    duration: int = Field(
        5, ge=1, le=15, description="Length of this shot in whole seconds. The shots add up to the whole video."
    )


class MultiShot(_Part):
    """A storyboard, the output of ``KlingMultiShot``.

    Attributes:
        shots: 1 to 6 shots in playing order.
        sockets: for each shot, the number of the input that it is connected to, so messages can name the input.
    """

    shots: tuple[Shot, ...] = Field(min_length=1, max_length=SHOTS_MAX)
    sockets: tuple[int, ...]


class CameraConfig(_Part):
    """The six axes of a camera move, each from -10 to 10.

    Pan and tilt follow Kling's Chinese table; an older English page swaps the two.
    """

    horizontal: Axis = Field(0, description="Slide the camera: negative to the left, positive to the right.")
    vertical: Axis = Field(0, description="Slide the camera: negative down, positive up.")
    pan: Axis = Field(0, description="Turn the camera about its vertical axis: negative left, positive right.")
    tilt: Axis = Field(0, description="Turn the camera about its horizontal axis: negative down, positive up.")
    roll: Axis = Field(0, description="Roll the picture: negative counter-clockwise, positive clockwise.")
    zoom: Axis = Field(0, description="Change the field of view: negative narrower (longer lens), positive wider.")


_STILL = CameraConfig()


class CameraControl(_Part):
    """A camera move. Only ``simple`` uses ``config``. The gateway requires one, so a preset sends six zeros."""

    type: CameraType = Field(
        "simple",
        description="simple: move along one axis below. The other four are ready-made moves and ignore the axes.",
    )
    config: CameraConfig = _STILL


class ShotItem(_Part):
    """One entry of ``multi_prompt``: index from 1, prompt of 1 to 512 characters, duration as text."""

    index: int
    prompt: ShotPrompt
    duration: str


class WatermarkInfo(_Part):
    """Whether Kling also makes a copy of the video with a watermark."""

    enabled: bool = Field(False, description="Also make a copy with a watermark. The video itself stays clean.")


class Text2VideoRequest(_Part):
    """One text-to-video request, exactly as it is sent.

    Build it with ``Text2VideoRequest.model_validate(body)``, which raises a ``pydantic.ValidationError`` that
    lists every problem of the body.
    """

    model_name: Annotated[str, BeforeValidator(_known_model)] = Field(
        description="The model. It decides which lengths, sound, camera moves and storyboards are possible."
    )
    prompt: Prompt | None = Field(
        None,
        description=f"What the video shows, up to {PROMPT_MAX} characters. Not used while a multi-shot is connected.",
    )
    multi_shot: bool = False
    shot_type: Literal["customize"] | None = None
    multi_prompt: Annotated[tuple[ShotItem, ...], Field(strict=False)] | None = None
    negative_prompt: Prompt | None = Field(
        None, description=f"What the video should not show, up to {PROMPT_MAX} characters. May be empty."
    )
    cfg_scale: float = Field(
        0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How closely the video follows the prompt, 0 to 1. Only the v1 models use it; others ignore it.",
    )
    mode: Mode = Field(
        description="std costs less; pro gives a better picture and costs more."
        " kling-v2-master and kling-v2-1-master have one tier only."
    )
    sound: Sound = Field("off", description="Make sound with the video, which costs more. Only kling-v3 can.")
    camera_control: CameraControl | None = Field(
        None, description="A camera move. Only kling-v1 with std and 5 s is known to support it."
    )
    aspect_ratio: AspectRatio = Field("16:9", description="Width to height of the video.")
    duration: str = Field(
        description="Length of the video in seconds: 3 to 15 for kling-v3, 5 or 10 for the others."
        " While a multi-shot is connected, the sum of its shots is used instead."
    )
    watermark_info: WatermarkInfo = WatermarkInfo()
    callback_url: Annotated[str, Writable, AfterValidator(_http_url)] | None = Field(
        None, description="An http(s) URL that Kling calls whenever the status of the task changes. May be empty."
    )
    external_task_id: Annotated[str, Field(max_length=EXTERNAL_TASK_ID_MAX), AfterValidator(_path_segment)] | None = (
        Field(
            None,
            description="Your own name for the task, unique in the account. Leave it empty to have one made,"
            f" which is safest. Up to {EXTERNAL_TASK_ID_MAX} visible ASCII characters.",
        )
    )

    @model_validator(mode="wrap")
    @classmethod
    def _report_all(cls, body: Any, handler: ModelWrapValidatorHandler[Text2VideoRequest]) -> Text2VideoRequest:
        """Report the problems of single fields together with the broken rules between the fields that are valid."""
        problems: list[InitErrorDetails] = []
        request = None
        try:
            request = handler(body)
        except ValidationError as error:
            problems = list(wording.line_errors(error))
        if isinstance(body, Mapping):
            problems += rules.broken(body, unsound=[problem["loc"] for problem in problems])
        if problems or request is None:
            raise ValidationError.from_exception_data(cls.__name__, problems, hide_input=True)
        return request

    def body(self) -> dict[str, Any]:
        """The JSON object to send: what the gateway requires and what is set. Never null, never an empty text."""
        sent = self.model_dump(exclude_none=True)
        if self.camera_control:
            # Relays disagree on whether an axis may be a float, so whole numbers are sent as integers.
            config = (self.camera_control.config if self.camera_control.type == "simple" else _STILL).model_dump()
            sent["camera_control"]["config"] = {
                axis: int(value) if value == int(value) else value for axis, value in config.items()
            }
        if self.multi_prompt:
            sent["multi_prompt"] = list(sent["multi_prompt"])
        return {name: value for name, value in sent.items() if value != ""}
