"""Small node classes, and workflows of them drawn and saved the way ComfyUI's front end does it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest

from nodes import workflow
from nodes.workflow.prompt import WorkflowError
from nodes.workflow.run import Results, run

Node = dict[str, Any]

# Of nodes that are not in the catalogue: inputs as (name, type, has a field), and types of outputs.
FOREIGN: dict[str, tuple[list[tuple[str, str, bool]], list[str]]] = {
    "Reroute": ([("", "*", False)], ["*"]),
    "PrimitiveNode": ([], ["*"]),
    "Note": ([], []),
    "MarkdownNote": ([], []),
    "PrimitiveInt": ([("value", "INT", True)], ["INT"]),
    "PrimitiveFloat": ([("value", "FLOAT", True)], ["FLOAT"]),
    "PrimitiveString": ([("value", "STRING", True)], ["STRING"]),
    "PrimitiveStringMultiline": ([("value", "STRING", True)], ["STRING"]),
    "PrimitiveBoolean": ([("value", "BOOLEAN", True)], ["BOOLEAN"]),
    "LoadText": ([("name", "STRING", True)], ["STRING"]),
    "JoinText": ([("first", "STRING", True), ("second", "STRING", True)], ["STRING"]),
    "SaveVideo": ([("video", "VIDEO", False)], []),
    "AnyThing": ([("anything", "*", False)], ["*"]),
}


class Shot:
    """Two fields, and a type of its own."""

    RETURN_TYPES = ("SHOT",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": "once"}),
                "seconds": ("INT", {"default": 5, "min": 1, "max": 15}),
            }
        }

    def make(self, text, seconds):
        return ((text, seconds),)


class Board:
    """Sockets alone, one of them required."""

    RETURN_TYPES = ("BOARD",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"shot_1": ("SHOT",)}, "optional": {"shot_2": ("SHOT",), "shot_3": ("SHOT",)}}

    def make(self, **shots):
        return (tuple(shots[name] for name in sorted(shots)),)


class Send:
    """Every kind of field, a control widget in the middle, an optional socket; the end of a graph."""

    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("task_id", "receipt")
    FUNCTION = "send"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": (["v1", "v2", "v3"], {"default": "v2"}),
                "text": ("STRING", {"default": ""}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 99}),
                "strength": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "loud": ("BOOLEAN", {"default": False}),
            },
            "optional": {"board": ("BOARD",)},
        }

    def send(self, **inputs):
        return {"ui": {"text": [inputs["text"]]}, "result": (f"id-{inputs['text']}", json.dumps(sorted(inputs)))}


class Film:
    """Ends in a video and is no output node."""

    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "url")
    FUNCTION = "get"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"task_id": ("STRING", {"default": ""})}}

    def get(self, task_id):
        return (f"film of {task_id}", "https://example.com")


CATALOGUE: dict[str, type[Any]] = {cls.__name__: cls for cls in (Shot, Board, Send, Film)}
SEND = ("v3", "hello", 7, "fixed", 0.25, True)
PLAIN = {"model": "v3", "text": "hello", "seed": 7, "strength": 0.25, "loud": True}


class Canvas:
    """A graph that is being drawn: the root, or the inside of a subgraph."""

    def __init__(self, name: str = "sub", catalogue: Mapping[str, type[Any]] | None = None) -> None:
        self.id = str(uuid.uuid4())
        self.name = name
        self.nodes: list[Node] = []
        self.links: list[dict[str, Any]] = []
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []
        self._catalogue = catalogue or CATALOGUE

    def node(self, kind: str, *widgets: object, id: object = None, mode: int = 0, **more: Any) -> Node:
        """Put a node on the canvas; ``widgets`` are the values of its fields."""
        inputs, outputs = self._shape(kind)
        return self._put(kind, inputs, outputs, list(widgets) or None, id, mode, more)

    def use(self, subgraph: Canvas, *widgets: object, id: object = None, mode: int = 0, **more: Any) -> Node:
        """Put a subgraph on the canvas; ``widgets`` are the values on its face."""
        inputs = [(slot["name"], slot["type"], subgraph._leads_to_field(k)) for k, slot in enumerate(subgraph.inputs)]
        outputs = [slot["type"] for slot in subgraph.outputs]
        return self._put(subgraph.id, inputs, outputs, list(widgets) or None, id, mode, more)

    def wire(self, origin: Node, target: Node, name: str, output: int = 0) -> None:
        """Connect an output with an input."""
        link = self._link(origin["id"], output, origin["outputs"][output]["type"], target, name)
        origin["outputs"][output]["links"].append(link)

    def enter(self, name: str, kind: str, *targets: tuple[Node, str]) -> None:
        """Give this subgraph an input, connected with inputs inside."""
        number = len(self.inputs)
        links = [self._link(-10, number, kind, target, slot) for target, slot in targets]
        self.inputs.append({"id": str(uuid.uuid4()), "name": name, "type": kind, "linkIds": links})

    def leave(self, name: str, kind: str, origin: Node | None = None, output: int = 0) -> None:
        """Give this subgraph an output; without an origin it comes straight from input number ``output``."""
        number = len(self.outputs)
        link = {
            "id": len(self.links) + 1,
            "origin_id": origin["id"] if origin else -10,
            "origin_slot": output,
            "target_id": -20,
            "target_slot": number,
            "type": kind,
        }
        self.links.append(link)
        self.outputs.append({"id": str(uuid.uuid4()), "name": name, "type": kind, "linkIds": [link["id"]]})

    def definition(self, *inside: Canvas) -> dict[str, Any]:
        """This canvas as the definition of a subgraph."""
        made: dict[str, Any] = {
            "id": self.id,
            "version": 1,
            "revision": 0,
            "name": self.name,
            "inputNode": {"id": -10, "bounding": [0, 0, 100, 100]},
            "outputNode": {"id": -20, "bounding": [900, 0, 100, 100]},
            "inputs": self.inputs,
            "outputs": self.outputs,
            "widgets": [],
            "nodes": self.nodes,
            "groups": [],
            "links": self.links,
        }
        if inside:
            made["definitions"] = {"subgraphs": [canvas.definition() for canvas in inside]}
        return made

    def saved(self, *subgraphs: Canvas, version: float = 0.4, **more: Any) -> dict[str, Any]:
        """The workflow file."""
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        links = self.links if version >= 1 else [[link[key] for key in keys] for link in self.links]
        made: dict[str, Any] = {"nodes": self.nodes, "links": links, "groups": [], "extra": {}, "version": version}
        if subgraphs:
            made["definitions"] = {"subgraphs": [canvas.definition() for canvas in subgraphs]}
        return made | more

    def _shape(self, kind: str) -> tuple[list[tuple[str, str, bool]], list[str]]:
        if kind not in self._catalogue:
            return FOREIGN[kind]
        cls = self._catalogue[kind]
        described = cls.INPUT_TYPES()
        inputs = []
        for name, entry in {**described.get("required", {}), **described.get("optional", {})}.items():
            type_ = entry[0] if isinstance(entry[0], str) else "COMBO"
            inputs.append((name, type_, type_ in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")))
        # The front end puts sockets before fields.
        return sorted(inputs, key=lambda entry: entry[2]), list(cls.RETURN_TYPES)

    def _put(
        self,
        kind: str,
        inputs: list[tuple[str, str, bool]],
        outputs: list[str],
        widgets: list[object] | None,
        id: object,
        mode: int,
        more: dict[str, Any],
    ) -> Node:
        node: Node = {
            "id": len(self.nodes) + 1 if id is None else id,
            "type": kind,
            "pos": [0, 0],
            "size": [200, 100],
            "flags": {},
            "order": len(self.nodes),
            "mode": mode,
            "inputs": [
                {"name": name, "type": type_, "link": None, **({"widget": {"name": name}} if field else {})}
                for name, type_, field in inputs
            ],
            "outputs": [{"name": type_, "type": type_, "links": []} for type_ in outputs],
            "properties": {},
        }
        if widgets is not None:
            node["widgets_values"] = widgets
        self.nodes.append(node | more)
        return self.nodes[-1]

    def _link(self, origin: object, output: int, kind: str, target: Node, name: str) -> int:
        slot = next(k for k, entry in enumerate(target["inputs"]) if entry["name"] == name)
        number = len(self.links) + 1
        target["inputs"][slot]["link"] = number
        self.links.append(
            {
                "id": number,
                "origin_id": origin,
                "origin_slot": output,
                "target_id": target["id"],
                "target_slot": slot,
                "type": kind,
            }
        )
        return number

    def _leads_to_field(self, number: int) -> bool:
        for link in self.links:
            if link["origin_id"] == -10 and link["origin_slot"] == number and link["target_id"] != -20:
                target = next(node for node in self.nodes if node["id"] == link["target_id"])
                if "widget" in target["inputs"][link["target_slot"]]:
                    return True
        return False


def sub(name: str = "sub") -> Canvas:
    """The inside of a subgraph."""
    return Canvas(name)


def read(data: object) -> workflow.Workflow:
    return workflow.read(json.loads(json.dumps(data)), CATALOGUE)


def inputs(data: object, node_id: object) -> dict[str, Any]:
    return read(data).prompt.nodes[str(node_id)].inputs


def plan(data: object, *settings: str, **choices: bool) -> Any:
    loaded = read(data)
    workflow.set_values(loaded, settings)
    return workflow.make_plan(loaded, **choices)


def refused(data: object, *settings: str, **choices: bool) -> str:
    with pytest.raises(WorkflowError) as error:
        plan(data, *settings, **choices)
    return str(error.value)


def run_all(data: object, catalogue: dict[str, type[Any]] = CATALOGUE, **choices: bool) -> tuple[Results, list[str]]:
    """Run a workflow; gives what came of it, and the nodes in the order in which they were done."""
    made = workflow.make_plan(workflow.read(data, catalogue), **choices)
    outcome, done = Results(), []
    asyncio.run(run(made, lambda node: nullcontext(), outcome, done=lambda node: done.append(node.id)))
    return outcome, done
