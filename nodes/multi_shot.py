"""KlingMultiShot: a storyboard of up to six shots."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from .api.request import SHOTS_MAX, MultiShot
from .shot import SHOT

MULTI_SHOT = "KLING_MULTI_SHOT"


class KlingMultiShot:
    """
    Puts one to six shots in order, to be made as one video.

    Inputs that are not connected are left out and the others move up. Only kling-v3 makes storyboards, of 3 to 15
    seconds in all. Connect it to multi_shot; the prompt and the duration of KlingText2Video are then not used.
    """

    DESCRIPTION = cleandoc(__doc__)
    CATEGORY = "Kling"
    SEARCH_ALIASES = ["kling multi shot", "storyboard", "multi prompt", "多镜头"]
    RETURN_TYPES = (MULTI_SHOT,)
    RETURN_NAMES = ("multi_shot",)
    OUTPUT_TOOLTIPS = ("The storyboard, for KlingText2Video.",)
    FUNCTION = "collect"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        optional = {f"shot_{i}": (SHOT, {"tooltip": f"Shot {i}, if there is one."}) for i in range(2, SHOTS_MAX + 1)}
        return {"required": {"shot_1": (SHOT, {"tooltip": "The first shot."})}, "optional": optional}

    def collect(self, **shots: Any) -> tuple[MultiShot]:
        """A draft, unchecked, with gaps closed."""
        sockets = [i for i in range(1, SHOTS_MAX + 1) if shots.get(f"shot_{i}") is not None]
        connected = tuple(shots[f"shot_{i}"] for i in sockets)
        return (MultiShot.model_construct(shots=connected, sockets=tuple(sockets)),)
