"""KlingCameraControl: a camera move."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from .api.request.body import CameraConfig, CameraControl
from .widgets import widget

CAMERA_CONTROL = "KLING_CAMERA_CONTROL"


class KlingCameraControl:
    """
    Describes how the camera moves.

    With type simple, the camera moves along one axis: set exactly one of the six. The other four types are ready-made
    moves and ignore the axes. Connect the output to camera_control. Only kling-v1 with mode std and 5 s is certain to
    support camera moves.
    """

    DESCRIPTION = cleandoc(__doc__)
    CATEGORY = "Kling"
    SEARCH_ALIASES = ["kling camera", "camera move", "pan", "tilt", "zoom", "运镜"]
    RETURN_TYPES = (CAMERA_CONTROL,)
    RETURN_NAMES = ("camera_control",)
    OUTPUT_TOOLTIPS = ("The camera move, for Kling Gateway Text to Video.",)
    FUNCTION = "describe"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        axes = {axis: widget(CameraConfig, axis, "FLOAT", step=0.1, default=0.0) for axis in CameraConfig.model_fields}
        return {"required": {"type": widget(CameraControl, "type"), **axes}}

    def describe(self, type: Any, **axes: Any) -> tuple[CameraControl]:
        """Return an unchecked draft. KlingText2Video checks the whole graph and reports every problem at once."""
        config = CameraConfig.model_construct(**axes) if type == "simple" else CameraConfig()
        return (CameraControl.model_construct(type=type, config=config),)
