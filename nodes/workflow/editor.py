"""Converts the editor format to a prompt, as ComfyUI's front end does when the user presses Run.

The rules follow the behaviour of ``graphToPrompt`` in the front ends 1.27, 1.35 and 1.58:

- A widget's value comes from ``widgets_values``, by position or by name. A link into the widget replaces it.
- A reroute passes its input on. Notes and groups are ignored.
- A bypassed node passes on its first input of a matching type. If none matches, the receiver keeps its own value.
- A muted node counts as absent: an input that is linked to it has no value.
- Subgraphs are unfolded. The id of a node inside is the path of ids, ``12:3``. A wire from the input boundary continues
  outside the subgraph. If nothing is connected there, the value on the subgraph's face is used, or else the one inside.

In one place this follows the drawing instead of the front end: a PrimitiveNode's value also passes through reroutes and
subgraph inputs. The front end would silently use the value that was last saved in the receiver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from . import graph as drawn
from .classes import Classes
from .graph import BYPASSED, INPUT_BOUNDARY, MUTED, Drawing, Node, NodePath, Place
from .prompt import Prompt, PromptNode, WorkflowError, shown, wrapped

_NOTES = ("Note", "MarkdownNote")
_VIRTUAL = (*_NOTES, "Reroute", "PrimitiveNode")
_SUBGRAPH_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_UNGROUP = "Open the workflow in ComfyUI, right-click the group, ungroup it (or make it a subgraph) and save."


class _Slot(NamedTuple):
    """An input as the front end sees it after loading: declared by the class, linked by the file."""

    name: str
    kind: str
    link: str | None


@dataclass(frozen=True)
class _From:
    """Where an input's value comes from: an output of a node that runs, or a value."""

    link: tuple[str, int] | None = None
    value: object = None


@dataclass(frozen=True)
class _Nothing:
    """No source. The receiver keeps its own value, unless the source is ``muted``: then it has none."""

    muted: str = ""


class _Fault(Exception):
    """An input is wired in a way that makes no sense."""


def to_prompt(workflow: Node, classes: Classes) -> Prompt:
    """Convert a workflow in editor format, version 0.4 or 1.0.

    Raises:
        WorkflowError: the version is unknown, or the file contradicts itself.
    """
    version = workflow.get("version", 0.4)
    if not isinstance(version, (int, float)) or not 0 <= version < 2:
        raise WorkflowError(
            f"the workflow has version {shown(version, 20)}; this runner reads 0.4 and 1.0. "
            "Open it in ComfyUI and save it again."
        )
    drawing = Drawing(workflow, classes)
    groups = drawn.mapping(drawn.mapping(workflow.get("extra")).get("groupNodes"))
    converter = _Converter(drawing, classes, groups)
    nodes = (converter.convert(*entry) for entry in drawing.nodes if drawn.node_type(entry[2]) not in _VIRTUAL)
    return Prompt({node.id: node for node in nodes}, drawing.notes)


class _Converter:
    def __init__(self, drawing: Drawing, classes: Classes, old_groups: Node) -> None:
        self._drawing = drawing
        self._classes = classes
        self._old_groups = old_groups

    def convert(self, place: Place, node_id: str, node: Node) -> PromptNode:
        found = PromptNode(place.id(node_id), drawn.node_type(node), drawn.title(node), {})
        found.inputs.update({k: wrapped(v) for k, v in self._widgets(place, node_id, node).items()})
        self._check_type(found)
        for slot in self._slots(place, node):
            try:
                source = self._source(place, slot)
            except _Fault as fault:
                found.faults[slot.name] = str(fault)
                found.inputs.pop(slot.name, None)
                continue
            if isinstance(source, _From):
                found.inputs[slot.name] = list(source.link) if source.link else wrapped(source.value)
            elif source.muted:
                found.inputs.pop(slot.name, None)
                found.cut[slot.name] = f"its source {source.muted} is muted"
        return found

    def _check_type(self, found: PromptNode) -> None:
        if _SUBGRAPH_ID.fullmatch(found.class_type):
            found.faults[""] = "is a subgraph whose definition is not in the file. Export the workflow again."
        if not found.class_type.startswith(("workflow>", "workflow/")):
            return
        found.faults[""] = f"is an old-style group node, which this runner cannot read. {_UNGROUP}"
        group = drawn.mapping(self._old_groups.get(found.class_type[len("workflow>") :]))
        for inner in drawn.dicts(group.get("nodes")):
            known = self._classes.get(drawn.node_type(inner))
            if known is not None and known.ours:
                raise WorkflowError(f"{found} is an old-style group node with nodes of this pack inside. {_UNGROUP}")

    def _widgets(self, place: Place, node_id: str, node: Node) -> dict[str, object]:
        """The values of a node's own fields. A field without a value in the file has its default."""
        known = self._classes.get(drawn.node_type(node))
        if known is None:
            return {}
        fields = [spec for spec in known.inputs.values() if spec.is_widget]
        values = {spec.name: spec.default for spec in fields}
        saved = node.get("widgets_values")
        if isinstance(saved, list):
            at = 0
            for spec in fields:
                if at < len(saved):
                    values[spec.name] = saved[at]
                at += 1 + spec.companions
        else:
            by_name = drawn.mapping(saved) or drawn.mapping(node.get("widgets_values_named"))
            values.update({name: by_name[name] for name in values if name in by_name})
        values.update(self._drawing.overrides.get((*place.path, node_id), {}))
        return values

    def _slots(self, place: Place, node: Node) -> list[_Slot]:
        """A node's inputs in the front end's order, which decides what a bypassed node passes on."""
        saved = [
            _Slot(drawn.name(entry), drawn.kind(entry), drawn.identifier(entry.get("link")))
            for entry in drawn.dicts(node.get("inputs"))
        ]
        kinds = self._declared_inputs(node)
        links = {slot.name: slot.link for slot in reversed(saved)}
        declared = [_Slot(name, kind, links.get(name)) for name, kind in kinds.items()]
        return declared + [slot for slot in saved if slot.name not in kinds]

    def _declared_inputs(self, node: Node) -> dict[str, str]:
        definition = self._drawing.definitions.get(drawn.node_type(node))
        if definition is not None:
            return {drawn.name(slot): drawn.kind(slot) for slot in definition.inputs}
        known = self._classes.get(drawn.node_type(node))
        specs = known.inputs.values() if known is not None else ()
        # The front end puts sockets before fields.
        return {spec.name: spec.kind for spec in sorted(specs, key=lambda spec: spec.is_widget)}

    # ---- where a value comes from ----

    def _source(self, place: Place, slot: _Slot) -> _From | _Nothing:
        """Follow an input's wire back to an output of a node that runs, or to a value.

        This is a loop, not a recursion, because a chain of reroutes may exceed Python's stack.
        """
        kind = slot.kind
        face: _From | None = None  # the value on the face of the outermost subgraph left so far
        seen: set[tuple[NodePath, str, int]] = set()
        while slot.link is not None:
            wire = place.graph.wires.get(slot.link)
            if wire is None:
                raise _Fault(f"is linked by wire {shown(slot.link, 20)}, which is not in the file")
            if (place.path, wire.origin, wire.origin_slot) in seen:
                raise _Fault("is linked by wires that form a loop")
            seen.add((place.path, wire.origin, wire.origin_slot))
            if wire.origin == INPUT_BOUNDARY:
                place, slot, face = self._outside(place, wire.origin_slot, face)
                kind = slot.kind
                if slot.link is None:
                    return face or _Nothing()
                continue
            found = self._through(place, wire.origin, wire.origin_slot, kind)
            if not isinstance(found, tuple):
                return found
            place, slot, kind = found
        return _Nothing()

    def _outside(self, place: Place, number: int, face: _From | None) -> tuple[Place, _Slot, _From | None]:
        """Step from a subgraph's input boundary to the same input outside, with the value shown there."""
        if place.outer is None or not 0 <= number < len(place.graph.inputs):
            raise _Fault(f"comes from input {number} of {place.graph.name}, which has no such input")
        name = drawn.name(place.graph.inputs[number])
        if name in place.promoted:
            face = _From(value=place.promoted[name])
        elif name not in place.faces:  # no field holds a value, not even in a nested subgraph
            face = None
        slot = next(slot for slot in self._slots(place.outer, place.host) if slot.name == name)
        return place.outer, slot, face

    def _through(
        self, place: Place, origin: str, output: int, kind: str
    ) -> _From | _Nothing | tuple[Place, _Slot, str]:
        """Step from a node's output to its source: the node itself, a value, or another input to follow."""
        while True:
            node = place.graph.nodes.get(origin)
            if node is None:
                raise _Fault(f"comes from node {shown(place.id(origin), 40)}, which is not in the file")
            node_type = drawn.node_type(node)
            if node_type == "PrimitiveNode":  # in any mode, the front end writes its value into the receiver
                return self._constant(place, origin, node)
            if drawn.mode(node) == MUTED:
                return _Nothing(place.describe(origin, node))
            if drawn.mode(node) == BYPASSED:
                passed = self._passed(place, node, output, kind)
                return (place, passed, passed.kind) if passed is not None else _Nothing()
            if node_type == "Reroute":
                slots = self._slots(place, node)
                return (place, slots[0], kind) if slots else _Nothing()
            if node_type in _NOTES:
                return _Nothing()
            definition = self._drawing.definitions.get(node_type)
            if definition is None:
                return _From(link=(place.id(origin), output))
            inner = (*place.path, origin)
            place = self._drawing.places[inner]
            wire = definition.wire_out(output)
            if wire is None:
                return _Nothing()
            if wire.origin == INPUT_BOUNDARY:  # straight through the subgraph
                return place, _Slot("", kind, wire.id), kind
            origin, output = wire.origin, wire.origin_slot

    def _passed(self, place: Place, node: Node, output: int, kind: str) -> _Slot | None:
        """The input that a bypassed node passes on to a receiver of type ``kind``."""
        slots = self._slots(place, node)
        if kind in ("*", ""):
            return slots[output] if output < len(slots) else next(iter(slots), None)
        made = self._output_kind(node, output)
        fits = [_connects(slot.kind, made) and _connects(slot.kind, kind) for slot in slots]
        if output < len(slots) and fits[output]:
            return slots[output]
        exact = next((slot for slot in slots if slot.kind == kind), None)
        return exact or next((slot for slot, fit in zip(slots, fits, strict=True) if fit), None)

    def _output_kind(self, node: Node, output: int) -> str:
        definition, known = (
            self._drawing.definitions.get(drawn.node_type(node)),
            self._classes.get(drawn.node_type(node)),
        )
        if known is not None:
            kinds = [kind if isinstance(kind, str) else "COMBO" for kind in known.outputs]
        else:
            kinds = [
                drawn.kind(slot) for slot in (definition.outputs if definition else drawn.dicts(node.get("outputs")))
            ]
        if not 0 <= output < len(kinds):
            raise _Fault(
                f"comes from output {output} of a {shown(drawn.node_type(node), 40)}, which has no such output"
            )
        return kinds[output]

    def _constant(self, place: Place, node_id: str, node: Node) -> _From | _Nothing:
        override = self._drawing.overrides.get((*place.path, node_id), {})
        values = [*override.values(), *drawn.listed(node.get("widgets_values"))]
        return _From(value=values[0]) if values else _Nothing()


def _connects(one: str, other: str) -> bool:
    """Whether the front end connects these types: one accepts anything, or they have a type in common."""
    if one in ("", "*", "0") or other in ("", "*", "0"):
        return True
    first, second = (set(kind.lower().split(",")) for kind in (one, other))
    return bool(first & second) or "*" in first | second
