"""The HTTP routes that the browser calls. Each does its own work; ``guard.py`` decides who may call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import host
from ..api import settings
from ..workflow.prompt import Catalogue
from . import facts, key, spending


def register(catalogue: Catalogue) -> None:
    """Add all routes to ComfyUI's server. Do nothing outside ComfyUI.

    Args:
        catalogue: the pack's node classes by registered name.
    """
    table = host.routes()
    if table is not None:
        add_routes(table, lambda: settings.state_dir(host.current().state_dir()), catalogue)


def add_routes(table: Any, directory: Callable[[], Path], catalogue: Catalogue) -> None:
    """Add all routes to an aiohttp ``RouteTableDef``.

    Args:
        directory: returns the state directory; called for each request.
        catalogue: the pack's node classes by registered name.
    """
    key.add_routes(table, directory)
    facts.add_routes(table)
    spending.add_routes(table, directory, catalogue)
