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
    One shot of a storyboard: what happens, and for how many seconds.

    Connect up to six of them to a Kling Gateway Multi-Shot. Their lengths add up to the length of the video.
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
                # Dynamic prompts would draw another text, and so buy another video, with every click.
                "prompt": widget(Shot, "prompt", "STRING", default="", multiline=True, dynamicPrompts=False),
                "duration": widget(Shot, "duration", "INT"),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, prompt: str | None = None) -> bool | str:
        """Say before the run what this widget alone can tell; None stands for a wire."""
        if prompt is None:
            return True
        try:
            Shot(prompt=prompt)
        except ValidationError as error:
            return listed(error)
        return "is blank. Write what happens in this shot." if is_blank(prompt) else True

    def describe(self, prompt: str, duration: int) -> tuple[Shot]:
        """A draft, unchecked: KlingText2Video knows the shot's position and names every problem at once."""
        return (Shot.model_construct(prompt=prompt, duration=duration),)
