"""What each file in example_workflows has to send, external_task_id aside: written down by hand from the pictures."""

from __future__ import annotations

from typing import Any

EXAMPLES: dict[str, dict[str, Any]] = {
    "text_to_video": {
        "model_name": "kling-v3",
        "multi_shot": False,
        "prompt": "A paper boat drifts along a rain-filled street at dusk, neon signs trembling in the water."
        " The camera glides beside it, low and slow.",
        "negative_prompt": "text, logo, people",
        "mode": "std",
        "sound": "off",
        "aspect_ratio": "16:9",
        "cfg_scale": 0.5,
        "duration": "5",
        "watermark_info": {"enabled": False},
    },
    "camera_control": {
        "model_name": "kling-v1",
        "multi_shot": False,
        "prompt": "A lighthouse on a black cliff, storm clouds tearing open, first sunlight on the wet rocks.",
        "negative_prompt": "text, logo, people",
        "camera_control": {
            "type": "simple",
            "config": {"horizontal": 0, "vertical": 0, "pan": 0, "tilt": 0, "roll": 0, "zoom": -5},
        },
        "mode": "std",
        "sound": "off",
        "aspect_ratio": "16:9",
        "cfg_scale": 0.5,
        "duration": "5",
        "watermark_info": {"enabled": False},
    },
    "multi_shot": {
        "model_name": "kling-v3",
        "multi_shot": True,
        "shot_type": "customize",
        "multi_prompt": [
            {
                "index": 1,
                "prompt": "Close-up: an old watchmaker lifts a small brass bird out of a drawer, lamplight on his"
                " hands.",
                "duration": "3",
            },
            {
                "index": 2,
                "prompt": "He turns the key. The bird opens its eyes, beats its wings once, twice, and rises from"
                " the bench.",
                "duration": "5",
            },
            {
                "index": 3,
                "prompt": "Wide shot: the bird circles out of the window, over a sleeping city in the first snow.",
                "duration": "4",
            },
        ],
        "negative_prompt": "text, logo",
        "mode": "std",
        "sound": "off",
        "aspect_ratio": "16:9",
        "cfg_scale": 0.5,
        "duration": "12",
        "watermark_info": {"enabled": False},
    },
    "text_to_video_to_file": {
        "model_name": "kling-v3",
        "multi_shot": False,
        "prompt": "A hot-air balloon rises out of morning mist over terraced rice fields, a heron crosses the frame."
        " Slow aerial shot.",
        "negative_prompt": "text, logo",
        "mode": "std",
        "sound": "off",
        "aspect_ratio": "16:9",
        "cfg_scale": 0.5,
        "duration": "5",
        "watermark_info": {"enabled": False},
    },
    "storyboard_to_file": {
        "model_name": "kling-v3",
        "multi_shot": True,
        "shot_type": "customize",
        "multi_prompt": [
            {
                "index": 1,
                "prompt": "Night forest, heavy fog. A fox carries a small glowing lantern between its teeth.",
                "duration": "4",
            },
            {
                "index": 2,
                "prompt": "Close-up: the fox sets the lantern down beside a frozen pond; fireflies wake inside it.",
                "duration": "4",
            },
            {
                "index": 3,
                "prompt": "The lantern opens. The fireflies rise, the fog turns to gold, the fox looks up.",
                "duration": "5",
            },
        ],
        "negative_prompt": "text, logo",
        "mode": "std",
        "sound": "on",
        "aspect_ratio": "16:9",
        "cfg_scale": 0.5,
        "duration": "13",
        "watermark_info": {"enabled": False},
    },
}
