"""The way to change a variable in a test: the pack reads the environment once, when it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest


class Environment:
    """Variables for one test, in this process, its children, and every copy of the pack that is loaded.

    The fixture ``environment`` gives one and undoes all changes. A child reads the environment for itself.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def set(self, name: str, value: str) -> None:
        self.change({name: value})

    def unset(self, name: str) -> None:
        self.change({name: None})

    def change(self, values: Mapping[str, str | None]) -> None:
        """Set all of these, or unset those that are None. The pack reads them again once."""
        for name, value in values.items():
            if value is None:
                self._patch.delenv(name, raising=False)
            else:
                self._patch.setenv(name, value)
        reread()


def reread() -> None:
    """As if the pack was loaded only now. There are two copies: ``nodes``, and the one as ComfyUI loads it."""
    for name, module in list(sys.modules.items()):
        if name.endswith("nodes.api.environment"):
            module.reread()
