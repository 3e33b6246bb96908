"""KlingMultiShot: a storyboard of up to six shots."""

from __future__ import annotations

import re
from inspect import cleandoc
from typing import Any

from .api.request.body import SHOTS_MAX, MultiShot
from .shot import SHOT

MULTI_SHOT = "KLING_MULTI_SHOT"

_SOCKET = re.compile(r"shot_([1-9][0-9]?)")


class KlingMultiShot:
    """
    Puts one to six shots in order. Kling makes one video from them.

    Inputs that are not connected are skipped. Only kling-v3 supports storyboards, and the shots must add up to 3 to 15
    seconds. Connect the output to multi_shot of Kling Gateway Text to Video. The prompt and duration of that node are
    then not used.
    """

    DESCRIPTION = cleandoc(__doc__)
    CATEGORY = "Kling"
    SEARCH_ALIASES = ["kling multi shot", "storyboard", "multi prompt", "多镜头"]
    RETURN_TYPES = (MULTI_SHOT,)
    RETURN_NAMES = ("multi_shot",)
    OUTPUT_TOOLTIPS = ("The storyboard, for Kling Gateway Text to Video.",)
    FUNCTION = "collect"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        optional = {f"shot_{i}": (SHOT, {"tooltip": f"Shot {i} (optional)."}) for i in range(2, SHOTS_MAX + 1)}
        return {"required": {"shot_1": (SHOT, {"tooltip": "The first shot."})}, "optional": optional}

    def collect(self, **shots: Any) -> tuple[MultiShot]:
        """Return an unchecked draft without gaps.

        A workflow edited by hand may connect a seventh shot. It is kept, so that it is refused instead of ignored.
        """
        numbers = (_SOCKET.fullmatch(name) for name, shot in shots.items() if shot is not None)
        sockets = sorted(int(number[1]) for number in numbers if number)
        connected = tuple(shots[f"shot_{number}"] for number in sockets)
        return (MultiShot.model_construct(shots=connected, sockets=tuple(sockets)),)
