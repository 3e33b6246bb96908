"""KlingShot: one shot of a storyboard."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from pydantic import ValidationError

from .api.request.body import Shot
from .api.request.wording import is_blank
from .problems import listed
from .widgets import widget

SHOT = "KLING_SHOT"


class KlingShot:
    """
    One shot of a storyboard: what happens and how long it lasts.

    Connect up to six shots to Kling Gateway Multi-Shot. The video is as long as all shots together.
    """

    DESCRIPTION = cleandoc(__doc__)
    CATEGORY = "Kling"
    SEARCH_ALIASES = ["kling shot", "storyboard", "scene", "分镜"]
    RETURN_TYPES = (SHOT,)
    RETURN_NAMES = ("shot",)
    OUTPUT_TOOLTIPS = ("The shot, for Kling Gateway Multi-Shot.",)
    FUNCTION = "describe"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                # With dynamic prompts, every click would pick another text and buy another video.
                "prompt": widget(Shot, "prompt", "STRING", default="", multiline=True, dynamicPrompts=False),
                "duration": widget(Shot, "duration", "INT"),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, prompt: str | None = None) -> bool | str:
        """Report a bad prompt before the run; None means that the input is linked."""
        if prompt is None:
            return True
        try:
            Shot(prompt=prompt)
        except ValidationError as error:
            return listed(error)
        return "is blank. Write what happens in this shot." if is_blank(prompt) else True

    def describe(self, prompt: str, duration: int) -> tuple[Shot]:
        """Return an unchecked draft. KlingText2Video knows the shot's position and reports every problem at once."""
        return (Shot.model_construct(prompt=prompt, duration=duration),)
