"""Finds every mistake that can be detected before a node runs, as ComfyUI's ``validate_inputs`` does.

There are two differences. The problems of all nodes come in one list, not only those of the first branch that fails.
And where ComfyUI would silently change the meaning of a value ("false" to true, 5.7 to 5, null to the text "None"),
this reports a problem, because the next step costs money.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..api.errors import KlingError
from .classes import Classes, InputSpec
from .prompt import PromptNode, is_link, shown

_WORDS = {"INT": "a whole number", "FLOAT": "a number", "STRING": "a text", "BOOLEAN": "true or false"}
_FAILED = object()


def problems(nodes: Mapping[str, PromptNode], needed: Iterable[PromptNode], classes: Classes) -> list[str]:
    """Check the nodes that would run and convert their values in place, as ComfyUI does.

    Args:
        nodes: all nodes of the workflow, by id.
        needed: the nodes that would run; the class of each is in ``classes``.

    Returns:
        One line for each problem: node, input, value, what is allowed. Empty if there are none.
    """
    return [f"{node}: {text}" for node in needed for text in _Check(node, nodes, classes).run()]


class _Check:
    """The check of one node against its class."""

    def __init__(self, node: PromptNode, nodes: Mapping[str, PromptNode], classes: Classes) -> None:
        self._node, self._nodes, self._classes = node, nodes, classes
        self._known = classes[node.class_type]
        self._validate: Callable[..., object] | None = getattr(self._known.cls, "VALIDATE_INPUTS", None)
        self._named, self._takes_all = _arguments(self._validate) if self._validate else (frozenset[str](), False)
        self._found: list[str] = []
        self._values: dict[str, object] = {}  # for VALIDATE_INPUTS; None means a link or an invalid value

    def run(self) -> list[str]:
        """One line for each problem."""
        node, known = self._node, self._known
        self._found = [f"{shown(name, 40)} {text}".strip() for name, text in node.faults.items()]
        for spec in known.inputs.values():
            self._check_input(spec)
        for name in node.inputs:
            if name not in known.inputs and isinstance(node.inputs[name], list):
                self._add(name, f"is linked, but {node.class_type} has no such input; it has {', '.join(known.inputs)}")
        if self._validate:
            self._ask(self._validate)
        return self._found

    def _check_input(self, spec: InputSpec) -> None:
        """Check the value of one input and convert it."""
        node, name = self._node, spec.name
        if spec.required or name in node.inputs:
            self._values[name] = None
        if name not in node.inputs:
            if spec.required and name not in node.faults:
                self._add(name, f"has no value; {node.cut.get(name, _how_to_give(spec))}")
            return
        value = node.inputs[name]
        if isinstance(value, list):
            self._check_link(spec, value)
            return
        converted = self._convert(spec, value)
        if converted is not _FAILED:
            node.inputs[name] = self._values[name] = converted
            if name not in self._named and not self._takes_all:
                self._check_limits(spec, converted)

    def _check_link(self, spec: InputSpec, link: list[Any]) -> None:
        kind = self._source_type(spec.name, link)
        if kind is None:
            return
        if not _may_meet(kind, spec.kind):
            self._add(spec.name, f"takes {spec.kind}, but {self._nodes[str(link[0])]} outputs {shown(kind)}")

    def _add(self, name: str, text: str) -> None:
        self._found.append(f"{shown(name, 40)} {text}")

    def _source_type(self, name: str, link: list[Any]) -> object:
        """The type that a link carries. If it carries none, add a problem and return None."""
        if not is_link(link):
            self._add(name, f"is {shown(link)}; a link must be a list of a node id and an output number")
            return None
        source = self._nodes.get(str(link[0]))
        if source is None:
            self._add(name, f"comes from node {shown(link[0], 40)}, which is not in the file")
            return None
        known = self._classes.get(source.class_type)
        if known is None:
            where = f"--set {shown(self._node.id, 40)}.{name}=..."
            self._add(
                name,
                f"needs {source}, which is not a node of this pack, so it cannot run here. Set the value directly "
                f"({where}) or run the workflow in ComfyUI",
            )
            self._found += [f"{source} {fault}" for name, fault in source.faults.items() if not name]
            return None
        if link[1] >= len(known.outputs):
            self._add(
                name, f"comes from output {link[1]} of {source}, which has only {len(known.outputs)} (counting from 0)"
            )
            return None
        return known.outputs[link[1]]

    def _convert(self, spec: InputSpec, value: object) -> object:
        if isinstance(value, dict) and "__value__" in value:
            value = value["__value__"]
        if spec.kind not in _WORDS:
            return value
        allowed = _WORDS[spec.kind]
        try:
            if spec.kind == "STRING" and isinstance(value, (str, int, float)):
                return str(value)
            if spec.kind == "BOOLEAN" and isinstance(value, (bool, int, float)):
                return bool(value)
            if spec.kind == "FLOAT" and isinstance(value, (str, int, float)):
                return float(value)
            if spec.kind == "INT" and isinstance(value, (str, int)):
                return int(value)
            if spec.kind == "INT" and isinstance(value, float) and value.is_integer():
                return int(value)
        except (ValueError, OverflowError):
            pass
        was = f"the text '{shown(value)}'" if isinstance(value, str) else "nothing" if value is None else shown(value)
        limits = f", {_range(spec)}" if _range(spec) else ""
        self._add(spec.name, f"is {was}; allowed: {allowed}{limits}")
        return _FAILED

    def _check_limits(self, spec: InputSpec, value: Any) -> None:
        if spec.kind == "COMBO":
            if value not in spec.choices:
                listed = ", ".join(shown(choice, 40) for choice in spec.choices[:20])
                more = ", ..." if len(spec.choices) > 20 else ""
                self._add(spec.name, f"is '{shown(value)}'; allowed: {listed}{more}")
            return
        low, high = spec.options.get("min", -math.inf), spec.options.get("max", math.inf)
        if spec.kind in ("INT", "FLOAT") and not low <= value <= high:
            self._add(spec.name, f"is {shown(value)}; allowed: {_range(spec)}")

    def _ask(self, validate: Callable[..., object]) -> None:
        """Run the class's own check. It returns True or a message, or raises."""
        values = {name: value for name, value in self._values.items() if self._takes_all or name in self._named}
        try:
            answer = validate(**values)
        except KlingError as error:
            lines = str(error).splitlines()
            # A list of problems has a summary of its own. It is dropped, because one summary covers all nodes.
            listed = [line[2:] for line in lines if line.startswith("- ")] or [" ".join(lines)]
            self._found += [line.removeprefix(f"{self._node.class_type}, ") for line in listed]
            return
        if answer is not True:
            said = "is refused" if answer is False else str(answer)
            # ComfyUI shows the text at every input that was checked. A text about many inputs names them itself.
            self._found.append(f"{', '.join(values)} {said}" if len(values) < 3 else said)


def _arguments(function: Callable[..., object]) -> tuple[frozenset[str], bool]:
    """The inputs that a VALIDATE_INPUTS names, and whether it takes all inputs as keywords."""
    spec = inspect.getfullargspec(function)
    return frozenset((*spec.args, *spec.kwonlyargs)), spec.varkw is not None


def _may_meet(given: object, taken: str) -> bool:
    """Whether an output of type ``given`` fits an input of type ``taken``: they have a type in common."""
    if given == taken or "*" in (given, taken):
        return True
    if not isinstance(given, str):
        return taken == "COMBO"
    first, second = ({part.strip() for part in kind.split(",")} for kind in (given, taken))
    return bool(first & second) or "*" in first | second


def _how_to_give(spec: InputSpec) -> str:
    return f"enter {_range(spec) or 'one'}" if spec.is_widget else f"connect a node that outputs {spec.kind}"


def _range(spec: InputSpec) -> str:
    low, high = spec.options.get("min"), spec.options.get("max")
    if low is None and high is None:
        return f"one of {', '.join(shown(choice, 40) for choice in spec.choices[:20])}" if spec.choices else ""
    return f"{low} to {high}" if None not in (low, high) else f"at least {low}" if high is None else f"at most {high}"
