"""The models and limits that the canvas shows. The front end has no copy of its own."""

from __future__ import annotations

from typing import Any

from ..api.request.body import SHOT_PROMPT_MAX, SHOTS_MAX
from ..api.request.capabilities import CAMERA_DURATION, CAMERA_MODE, MODELS


def add_routes(routes: Any) -> None:
    """Add ``GET /kling/models`` to an aiohttp ``RouteTableDef``."""
    from aiohttp import web  # comes with ComfyUI; the console runs without it

    async def models(request: web.Request) -> web.Response:
        return web.json_response(facts())

    routes.get("/kling/models")(models)


def facts() -> dict[str, Any]:
    """What each model can do, the only settings that allow a camera move, and the limits of a storyboard."""
    storyboards = [seconds for model in MODELS.values() if model.multi_shot for seconds in model.durations]
    return {
        "models": {name: model._asdict() for name, model in MODELS.items()},
        "camera": {"mode": CAMERA_MODE, "duration": CAMERA_DURATION},
        "shots": {
            "max": SHOTS_MAX,
            "prompt_max": SHOT_PROMPT_MAX,
            "shortest": min(storyboards),
            "longest": max(storyboards),
        },
    }
