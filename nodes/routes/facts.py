"""The models, limits and prices that the canvas shows. The front end has no copy of its own."""

from __future__ import annotations

from typing import Any

from ..api.request.body import SHOT_PROMPT_MAX, SHOTS_MAX
from ..api.request.capabilities import CAMERA_DURATION, CAMERA_MODE, MODELS
from ..api.spending import prices


def add_routes(routes: Any) -> None:
    """Add ``GET /kling/models`` to an aiohttp ``RouteTableDef``."""
    from aiohttp import web  # comes with ComfyUI; the console runs without it

    async def models(request: web.Request) -> web.Response:
        return web.json_response(facts())

    routes.get("/kling/models")(models)


def facts() -> dict[str, Any]:
    """What each model can do, the only settings that allow a camera move, the limits of a storyboard, the prices.

    ``prices.list`` has an entry for each model, mode and sound: units by the ``second``, or for certain ``lengths``.
    """
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
        "prices": {
            "date": prices.DATE,
            "usd_per_unit": prices.USD_PER_UNIT,
            "list": [
                {"model_name": model, "mode": mode, "sound": sound, "second": price.second, "lengths": price.lengths}
                for (model, mode, sound), price in prices.PRICES.items()
            ],
        },
    }
