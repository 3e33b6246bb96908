"""What was spent, what may be spent, and what a graph would buy: for the node, and for Settings > Kling > Limits.

The limits are guarded like the key: a workflow cannot reach these routes, and other websites may not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..api import settings
from ..api.errors import SetupError
from ..api.running.threads import call
from ..api.spending import limits
from ..api.submit.account import open_account
from ..rehearsal import rehearse
from ..workflow import WorkflowError, make_plan, read
from ..workflow.prompt import Catalogue
from .guard import guarded, json_body

_PROMPT_MAX = 16 << 20
"""The most bytes that a prompt may have."""


def add_routes(routes: Any, directory: Callable[[], Path], catalogue: Catalogue) -> None:
    """Add ``/kling/limits``, ``/kling/spending`` and ``/kling/rehearsal`` to an aiohttp ``RouteTableDef``.

    Args:
        directory: gives the state directory; called for each request.
        catalogue: the pack's node classes by registered name.
    """

    async def read_limits(request: Any) -> dict[str, Any]:
        return await call(describe_limits, directory())

    async def save_limits(request: Any) -> dict[str, Any]:
        body = await json_body(request, 4096)
        await call(limits.save, directory(), body.get("tasks_per_hour"), body.get("units_per_day"))
        return await call(describe_limits, directory())

    async def spending(request: Any) -> dict[str, Any]:
        return await call(describe_spending, directory())

    async def rehearsal(request: Any) -> dict[str, Any]:
        prompt = (await json_body(request, _PROMPT_MAX)).get("prompt")
        return await call(describe_run, prompt, catalogue)

    routes.get("/kling/limits")(guarded(read_limits))
    routes.post("/kling/limits")(guarded(save_limits))
    routes.get("/kling/spending")(guarded(spending))
    routes.post("/kling/rehearsal")(guarded(rehearsal))


def describe_limits(directory: Path) -> dict[str, Any]:
    """The limits in force, and which of them the environment sets."""
    allowed = limits.load(directory)
    return {
        "tasks_per_hour": allowed.tasks_per_hour,
        "units_per_day": allowed.units_per_day,
        "environment": [name for name in (limits.TASKS_VARIABLE, limits.UNITS_VARIABLE) if limits.in_environment(name)],
    }


def describe_spending(directory: Path) -> dict[str, Any]:
    """What counts towards the limits now, and what was last charged for each tariff.

    Returns:
        ``tasks_per_hour`` and ``units_per_day``: the limits, 0 for none; ``tasks`` in the last 60 minutes; ``units`` in
        the last 24 hours, None without a limit on them; ``last_paid``: a list of tariffs with their ``units``.
    """
    allowed = limits.load(directory)
    now = time.time()
    ledger = open_account(settings.without_key(directory)).ledger
    spent = ledger.spent(allowed) if allowed.window else []
    last_paid = ledger.last_charges()
    return {
        "tasks_per_hour": allowed.tasks_per_hour,
        "units_per_day": allowed.units_per_day,
        "tasks": sum(one.at > now - limits.HOUR for one in spent),
        "units": round(sum(one.units for one in spent), 4) if allowed.units_per_day else None,
        "last_paid": [{**tariff._asdict(), "units": units} for tariff, units in last_paid.items()],
    }


def describe_run(prompt: object, catalogue: Catalogue) -> dict[str, Any]:
    """What a run of a prompt would buy.

    Args:
        prompt: in ComfyUI's API format.

    Returns:
        ``new`` and ``reused`` tasks; ``units`` by Kling's list price, None if a price is unknown; ``unsure``: how many
        sending nodes could not be looked at, because they need other packs' nodes or have mistakes.
    """
    senders = _senders(prompt)
    try:
        # On an event loop of its own, because a rehearsal opens and reads the ledger.
        found = asyncio.run(rehearse(make_plan(read(prompt, catalogue), submit_only=True)))
    except WorkflowError:
        return {"new": 0, "reused": 0, "units": 0, "unsure": senders}
    new = len(found.new())
    known = len({preview.body["external_task_id"] for preview, _ in found.in_order()})
    return {
        "new": new,
        "reused": known - new,
        "units": found.units(),
        "unsure": senders - len(found.requests),
    }


def _senders(prompt: object) -> int:
    if not isinstance(prompt, Mapping):
        raise SetupError('The request must be a JSON object with a "prompt" in ComfyUI\'s API format.')
    nodes = [node for node in prompt.values() if isinstance(node, Mapping)]
    return sum(node.get("class_type") == "KlingText2Video" for node in nodes)
