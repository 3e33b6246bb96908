"""Request bodies that several tests start from, written down by hand."""

from __future__ import annotations

from typing import Any

SEED_EXAMPLE: dict[str, Any] = {
    "model_name": "kling-v1",
    "prompt": "Generate a video of a person dancing by the seaside.",
    "negative_prompt": "",
    "cfg_scale": 0.5,
    "mode": "std",
    "sound": "off",
    "camera_control": {
        "type": "simple",
        "config": {"horizontal": 1.0, "vertical": 0, "pan": 0, "tilt": 0, "roll": 0, "zoom": 0},
    },
    "aspect_ratio": "16:9",
    "duration": "5",
    "callback_url": "",
    "external_task_id": "",
}

GIVEN: dict[str, Any] = {"model_name": "kling-v3", "prompt": "A boat.", "mode": "std", "duration": "5"}
"""The least that a request has to be made of."""

SENT: dict[str, Any] = {
    "model_name": "kling-v3",
    "prompt": "A boat.",
    "multi_shot": False,
    "cfg_scale": 0.5,
    "mode": "std",
    "sound": "off",
    "aspect_ratio": "16:9",
    "duration": "5",
    "watermark_info": {"enabled": False},
}
"""What goes over the wire for it, external_task_id aside."""

SMALL: dict[str, Any] = {
    "model_name": "kling-v1",
    "multi_shot": False,
    "prompt": "A boat.",
    "mode": "std",
    "aspect_ratio": "16:9",
    "duration": "5",
}
"""The least that the sandbox accepts."""

STILL = dict.fromkeys(("horizontal", "vertical", "pan", "tilt", "roll", "zoom"), 0)


def story(*shots: Any, **changes: Any) -> dict[str, Any]:
    """The least for a storyboard of 5 s."""
    fixed = {"model_name": "kling-v3", "mode": "std", "duration": "5", "multi_shot": True, "shot_type": "customize"}
    return {**fixed, "multi_prompt": list(shots), **changes}
