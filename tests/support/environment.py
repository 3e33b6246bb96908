"""The way to change a variable in a test: the pack reads the environment once, when it is loaded."""

from __future__ import annotations

import sys

import pytest


class Environment:
    """Variables for one test, in this process, its children, and every copy of the pack that is loaded.

    The fixture ``environment`` gives one and undoes all changes. A child reads the environment for itself.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def set(self, name: str, value: str) -> None:
        self._patch.setenv(name, value)
        reread()

    def unset(self, name: str) -> None:
        self._patch.delenv(name, raising=False)
        reread()


def reread() -> None:
    """As if the pack was loaded only now. There are two copies: ``nodes``, and the one as ComfyUI loads it."""
    for name, module in list(sys.modules.items()):
        if name.endswith("nodes.api.environment"):
            module.reread()
