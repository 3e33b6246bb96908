"""What each model can do in text-to-video: dated facts, kept apart from the code that uses them.

As of 2026-09, for the six models that the gateway lists. Sources: Kling's capability map and its series 3.0
specification (durations, sound, multi-shot), Kling's own refusal texts (camera_control), the gateway's
page (the list of models). Where they disagree, the newest source and what was observed count.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .. import environment
from ..errors import SetupError
from .wording import quoted

_NAME = re.compile(r"[^/\\?#%\s\x00-\x20\x7f-\U0010ffff]{1,64}")


class Model(NamedTuple):
    """The limits of one model.

    Attributes:
        durations: allowed lengths of the whole video, in seconds.
        sound: whether ``sound`` may be ``on``.
        multi_shot: whether ``multi_shot`` may be true.
        camera_control: ``yes`` with ``std`` and 5 s only, ``no``, or ``disputed`` where sources disagree.
        cfg_scale: whether the value has an effect; other models ignore it.
    """

    durations: tuple[int, ...]
    sound: bool = False
    multi_shot: bool = False
    camera_control: str = "no"
    cfg_scale: bool = False


_FIVE_OR_TEN = (5, 10)

MODELS: dict[str, Model] = {
    "kling-v1": Model(_FIVE_OR_TEN, camera_control="yes", cfg_scale=True),
    "kling-v1-6": Model(_FIVE_OR_TEN, cfg_scale=True),
    "kling-v2-master": Model(_FIVE_OR_TEN),
    "kling-v2-1-master": Model(_FIVE_OR_TEN),
    "kling-v2-5-turbo": Model(_FIVE_OR_TEN),
    "kling-v3": Model(tuple(range(3, 16)), sound=True, multi_shot=True, camera_control="disputed"),
}

EXTRA_VARIABLE = "KLING_EXTRA_MODELS"


def extra_models() -> tuple[str, ...]:
    """Names of further models, from the environment. Nothing is known about what these models can do.

    Raises:
        SetupError: a name cannot be one.
    """
    found = dict.fromkeys(name.strip() for name in environment.get(EXTRA_VARIABLE).split(","))
    names = tuple(name for name in found if name and name not in MODELS)
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong:
        raise SetupError(
            f"{EXTRA_VARIABLE}: {quoted(wrong[0])} cannot be the name of a model. Up to 64 visible ASCII characters are"
            " allowed, without / \\ ? # %, and commas between the names. Correct it and restart ComfyUI."
        )
    return names


DURATIONS = sorted({seconds for model in MODELS.values() for seconds in model.durations})
"""Every length that some model can make, in seconds."""

CAMERA_MODE = "std"
"""The only mode in which kling-v1 supports a camera_control."""

CAMERA_DURATION = 5
"""The only length, in seconds, at which kling-v1 supports a camera_control."""


def with_ability(name: str) -> list[str]:
    """The models whose flag ``name`` (``sound``, ``multi_shot`` or ``cfg_scale``) is set."""
    return [model for model, facts in MODELS.items() if getattr(facts, name)]
