"""The examples that users open: each runs as it is, sends what was written down by hand, and can be shared safely."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from body_schema import check
from canvas import run_all
from conftest import ROOT
from example_bodies import EXAMPLES

from nodes import NODE_CLASS_MAPPINGS
from nodes.sandbox import Sandbox

FOLDER = ROOT / "example_workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def test_every_example_is_known_and_has_a_thumbnail() -> None:
    assert sorted(EXAMPLES) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.jpg")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_sends_what_it_shows(name: str, gateway: Sandbox) -> None:
    workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    outcome, _ = run_all(workflow, NODE_CLASS_MAPPINGS)
    assert outcome.errors == {}
    (body,) = gateway.creates()
    assert check(body) == []
    assert re.fullmatch(r"comfyui-[0-9a-f]{32}", body.pop("external_task_id"))
    assert body == EXAMPLES[name]
    assert list(gateway.tasks) == [outcome.outputs[node][0] for node in submitting(workflow)]


def submitting(workflow: dict[str, Any]) -> list[str]:
    return [str(node["id"]) for node in workflow["nodes"] if node["type"] == "KlingText2Video"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_holds_no_key_host_or_path(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert re.findall(r"sk-\w+|https?://|file:|[A-Za-z]:\\\\|/(?:home|root|Users|tmp)/", text) == []
