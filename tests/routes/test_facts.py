"""What the page is told about the models, and that there are no routes outside ComfyUI."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT
from served import call

from nodes.api.request.capabilities import MODELS

pytest_plugins = ["served"]


def test_facts_are_those_that_the_program_checks_by(server: str) -> None:
    facts = call(server, "GET", "/kling/models").json()
    assert {name: tuple(model["durations"]) for name, model in facts["models"].items()} == {
        name: model.durations for name, model in MODELS.items()
    }
    assert facts["models"]["kling-v3"]["multi_shot"] is True
    assert facts["shots"] == {"max": 6, "prompt_max": 512, "shortest": 3, "longest": 15}


def test_outside_comfyui_nothing_is_registered_and_aiohttp_is_not_loaded() -> None:
    code = "import sys, nodes; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "False"
