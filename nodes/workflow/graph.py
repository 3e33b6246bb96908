"""The graph in a workflow file in editor format: nodes, wires, and subgraphs, unfolded where they are used.

Reads version 0.4 (links are lists) and 1.0 (links are objects, as they are inside every subgraph).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .classes import Classes
from .prompt import PromptNode, WorkflowError, shown

MOST_NODES = 20_000
"""The most nodes that a file may unfold into. Nested subgraphs turn a few hundred bytes into millions of nodes."""

INPUT_BOUNDARY, OUTPUT_BOUNDARY = "-10", "-20"
"""The ids that wires inside a subgraph use for its input side and its output side."""

MUTED, BYPASSED = 2, 4

NodePath = tuple[str, ...]
"""The ids of the subgraph nodes around a graph, outermost first; () for the root."""

Node = Mapping[str, Any]


class Wire(NamedTuple):
    """A link. All ids are strings, because files contain both numbers and strings."""

    id: str
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass
class Graph:
    """The root graph or the definition of one subgraph, with the slots on its two boundaries."""

    nodes: dict[str, Node]
    wires: dict[str, Wire]
    inputs: list[Node]
    outputs: list[Node]
    name: str

    def wire_out(self, output: int) -> Wire | None:
        """The wire that ends at one output of this subgraph."""
        ends = (w for w in self.wires.values() if w.target == OUTPUT_BOUNDARY and w.target_slot == output)
        return next(ends, None)


@dataclass
class Place:
    """One use of a graph: the root, or a subgraph on a node (``host``, inside ``outer``)."""

    path: NodePath
    graph: Graph
    host: Node
    outer: Place | None
    promoted: dict[str, object] = field(default_factory=dict)
    """The field values that this use of the subgraph shows on its face, by input name."""
    faces: frozenset[str] = frozenset()
    """The inputs that lead to a field, which the subgraph then shows on its face."""

    def id(self, node_id: str) -> str:
        """A node's id in the prompt: the ids of all subgraph nodes around it, then its own."""
        return ":".join((*self.path, node_id))

    def describe(self, node_id: str, node: Node) -> str:
        """A node as messages name it."""
        return str(PromptNode(self.id(node_id), node_type(node), title(node), {}))


class Drawing:
    """A whole workflow, unfolded.

    Attributes:
        nodes: every node that would run or pass something on, with its place and id, in the order of the file.
        places: every use of a subgraph by its path; () is the root.
        definitions: the subgraphs by their type.
        overrides: values that a subgraph's face sets on widgets of nodes inside, by the path of the node.
        notes: which nodes of this pack are muted or bypassed.

    Raises:
        WorkflowError: the file contradicts itself: duplicate ids, unreadable links, a subgraph inside itself.
    """

    def __init__(self, workflow: Node, classes: Classes) -> None:
        self._classes = classes
        self.definitions = dict(_definitions(workflow))
        self.overrides: dict[NodePath, dict[str, object]] = {}
        self.notes: list[str] = []
        root = Place((), _read_graph(workflow, "the workflow"), {}, None)
        self.places: dict[NodePath, Place] = {(): root}
        self.nodes = list(self._unfold(root))

    def _unfold(self, root: Place) -> Iterator[tuple[Place, str, Node]]:
        count = 0
        stack = [(root, iter(root.graph.nodes.items()))]
        while stack:
            place, rest = stack[-1]
            entry = next(rest, None)
            if entry is None:
                stack.pop()
                continue
            count += 1
            if count > MOST_NODES:
                raise WorkflowError(f"the workflow unfolds into more than {MOST_NODES} nodes. Check its subgraphs.")
            node_id, node = entry
            definition = self.definitions.get(node_type(node))
            if mode(node) in (MUTED, BYPASSED):
                self._note_skipped(place, node_id, node)
            elif definition is not None:
                inner = self._enter(place, node_id, node, definition)
                stack.append((inner, iter(definition.nodes.items())))
            else:
                yield place, node_id, node

    def _enter(self, place: Place, node_id: str, node: Node, definition: Graph) -> Place:
        at: Place | None = place
        while at is not None:
            if at.graph is definition:
                raise WorkflowError(f"{definition.name} contains itself through node {shown(place.id(node_id), 40)}.")
            at = at.outer
        inner = Place((*place.path, node_id), definition, node, place)
        self.places[inner.path] = inner
        self._read_promoted(inner)
        return inner

    def _note_skipped(self, place: Place, node_id: str, node: Node) -> None:
        known = self._classes.get(node_type(node))
        if (known is not None and known.ours) or node_type(node) in self.definitions:
            state = "muted" if mode(node) == MUTED else "bypassed"
            self.notes.append(f"skipped: {place.describe(node_id, node)} is {state}")

    def _read_promoted(self, place: Place) -> None:
        """Find the values that this use of a subgraph holds for fields inside it.

        ``properties.proxyWidgets`` names them, as [inner node, widget] or as ["-1", input]. Without it, the saved
        values belong, in order, to the inputs that lead to a widget.
        """
        values, named = place.host.get("widgets_values"), place.host.get("widgets_values_named")
        leads = {name(slot): self._leads_to(place.graph, k) for k, slot in enumerate(place.graph.inputs)}
        place.faces = frozenset(face for face, lead in leads.items() if lead is not None)
        proxies = _pairs(mapping(place.host.get("properties")).get("proxyWidgets"))
        if not isinstance(values, list):
            by_name = mapping(values) or mapping(named)
            place.promoted.update({k: v for k, v in by_name.items() if k in leads and v is not None})
        elif proxies:
            for (inner, widget), value in zip(proxies, values, strict=False):
                if value is not None:  # None is a placeholder: the node inside has the value
                    self._promote(place, leads, inner, widget, value)
        else:
            faces = [(face, lead) for face, lead in leads.items() if lead is not None]
            companions = len(values) > len(faces)
            rest = iter(values)
            for face, lead in faces:
                value = next(rest, None)
                if value is not None:
                    place.promoted[face] = value
                for _ in range(self._companions(place.graph, lead) if companions else 0):
                    next(rest, None)
        place.promoted.update(self.overrides.get(place.path, {}))

    def _promote(
        self, place: Place, leads: Mapping[str, tuple[str, str] | None], inner: str, widget: str, value: object
    ) -> None:
        face = widget if inner == "-1" else next((n for n, lead in leads.items() if lead == (inner, widget)), None)
        if face is not None:
            place.promoted[face] = value
        else:  # a widget of a nested subgraph is named "<inner id>: <widget>"
            self.overrides.setdefault((*place.path, inner), {}).setdefault(widget.rsplit(": ", 1)[-1], value)

    def _leads_to(self, graph: Graph, slot: int) -> tuple[str, str] | None:
        """The (node, widget) that an input of a subgraph leads to, None if it leads only to sockets."""
        for wire in graph.wires.values():
            if wire.origin != INPUT_BOUNDARY or wire.origin_slot != slot:
                continue
            node = graph.nodes.get(wire.target, {})
            known = self._classes.get(node_type(node))
            for entry in dicts(node.get("inputs")):
                spec = known.inputs.get(name(entry)) if known else None
                is_widget = isinstance(entry.get("widget"), dict) or (spec is not None and spec.is_widget)
                if identifier(entry.get("link")) == wire.id and is_widget:
                    return wire.target, name(entry)
        return None

    def _companions(self, graph: Graph, lead: tuple[str, str]) -> int:
        known = self._classes.get(node_type(graph.nodes[lead[0]]))
        spec = known.inputs.get(lead[1]) if known else None
        return spec.companions if spec is not None else 0


def _definitions(workflow: Node) -> Iterator[tuple[str, Graph]]:
    """All subgraphs. They are listed side by side, but older files nest some inside others."""
    waiting = [workflow]
    while waiting:
        for definition in dicts(mapping(waiting.pop().get("definitions")).get("subgraphs")):
            called = shown(definition.get("name") or definition.get("id"), 40)
            yield str(definition.get("id")), _read_graph(definition, f'the subgraph "{called}"')
            waiting.append(definition)


def _read_graph(data: Node, called: str) -> Graph:
    again = "Open it in ComfyUI and save it again."
    nodes: dict[str, Node] = {}
    for node in listed(data.get("nodes")):
        node_id = identifier(node.get("id")) if isinstance(node, dict) else None
        if not isinstance(node, dict) or node_id is None or not node_type(node):
            raise WorkflowError(f"{called} has a node without an id or a type: {shown(node)}.")
        if node_id in nodes:
            raise WorkflowError(f"{called} has two nodes with the id {shown(node_id, 40)}. {again}")
        nodes[node_id] = node
    wires: dict[str, Wire] = {}
    for link in listed(data.get("links")):
        wire = _read_wire(link)
        if wire is None:
            raise WorkflowError(f"{called} has a link that cannot be read: {shown(link)}.")
        if wire.id in wires:
            raise WorkflowError(f"{called} has two links with the id {shown(wire.id, 20)}. {again}")
        wires[wire.id] = wire
    return Graph(nodes, wires, dicts(data.get("inputs")), dicts(data.get("outputs")), called)


def _read_wire(link: object) -> Wire | None:
    if isinstance(link, list):
        parts = link[:5]
    elif isinstance(link, dict):
        parts = [link.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    else:
        return None
    if len(parts) < 5:
        return None
    wire_id, origin, target = (identifier(parts[k]) for k in (0, 1, 3))
    slots = [s for s in (parts[2], parts[4]) if isinstance(s, int) and not isinstance(s, bool)]
    if wire_id is None or origin is None or target is None or len(slots) < 2:
        return None
    return Wire(wire_id, origin, slots[0], target, slots[1])


def _pairs(value: object) -> list[tuple[str, str]]:
    if isinstance(value, str):  # one version saved the list as text
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return [(str(row[0]), str(row[1])) for row in listed(value) if isinstance(row, list) and len(row) >= 2]


def identifier(value: object) -> str | None:
    """An id (a number or a string) as a string, None if it is neither."""
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def node_type(node: Node) -> str:
    """The registered name of a node's class, or the id of the subgraph that it stands for."""
    found = node.get("type")
    return found if isinstance(found, str) else ""


def mode(node: Node) -> object:
    """MUTED or BYPASSED. With 0 or anything else, the node runs."""
    return node.get("mode", 0)


def title(node: Node) -> str:
    """The node's title in the file, "" if there is none."""
    found = node.get("title")
    return found if isinstance(found, str) else ""


def name(slot: Node) -> str:
    """The name of an input or output."""
    return str(slot.get("name", ""))


def kind(slot: Node) -> str:
    """The type of an input or output; a list of choices reads as COMBO."""
    found = slot.get("type", "*")
    return "COMBO" if isinstance(found, list) else str(found)


def mapping(value: object) -> Node:
    """``value`` if it is an object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[Any]:
    """``value`` if it is a list, the values of an object, otherwise an empty list."""
    return value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []


def dicts(value: object) -> list[Node]:
    """The objects of a list."""
    return [entry for entry in listed(value) if isinstance(entry, dict)]
