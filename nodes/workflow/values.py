"""Values that the user sets with ``--set`` instead of those in the file."""

from __future__ import annotations

from collections.abc import Iterable

from .classes import InputSpec
from .file import Workflow
from .prompt import PromptNode, WorkflowError, shown


def set_values(workflow: Workflow, settings: Iterable[str]) -> None:
    """Set values by hand: ``NODE.INPUT=VALUE``.

    NODE is an id (``5``, or ``12:3`` inside a subgraph), a title, or a class with only one node. A value for a linked
    input replaces the link.

    Raises:
        WorkflowError: NODE matches no node or several, or the value is not of the input's type.
    """
    for setting in settings:
        place, equals, text = setting.partition("=")
        wanted, dot, name = place.rpartition(".")
        if not (equals and dot and wanted and name):
            raise WorkflowError(f"--set {shown(setting)}: write it as NODE.INPUT=VALUE, for example 5.duration=10")
        node = _find(workflow, wanted.strip(), f"--set {shown(place)}")
        name = name.strip()
        fields = {k: spec for k, spec in workflow.classes[node.class_type].inputs.items() if spec.is_widget}
        if name not in fields:
            raise WorkflowError(
                f"--set {shown(place)}: {node} has no field '{shown(name, 40)}'. It has: {', '.join(fields) or 'none'}"
            )
        node.inputs[name] = _typed(fields[name], text, f"--set {shown(place)}")
        node.cut.pop(name, None)
        node.faults.pop(name, None)


def _find(workflow: Workflow, wanted: str, where: str) -> PromptNode:
    nodes = [node for node in workflow.prompt.nodes.values() if node.class_type in workflow.classes]
    there = "There are: " + "; ".join(str(node) for node in nodes[:12]) + ("; ..." if len(nodes) > 12 else "")
    for matches in (
        [node for node in nodes if node.id == wanted],
        [node for node in nodes if node.title == wanted],
        [node for node in nodes if node.class_type == wanted],
    ):
        if len(matches) > 1:
            raise WorkflowError(f"{where}: {len(matches)} nodes are called '{shown(wanted, 40)}'; use the id. {there}")
        if matches:
            return matches[0]
    raise WorkflowError(f"{where}: no node '{shown(wanted, 40)}' can run here. {there if nodes else ''}")


def _typed(spec: InputSpec, text: str, where: str) -> object:
    """A value from the command line, converted to the input's type. Its limits are checked with all others."""
    if spec.kind == "BOOLEAN":
        word = text.strip().lower()
        if word in ("true", "yes", "on", "1"):
            return True
        if word in ("false", "no", "off", "0"):
            return False
        raise WorkflowError(f"{where}: '{shown(text)}' is neither true nor false")
    if spec.kind == "COMBO":
        return next((choice for choice in spec.choices if str(choice) == text), text)
    try:
        return int(text) if spec.kind == "INT" else float(text) if spec.kind == "FLOAT" else text
    except ValueError:
        word = "whole number" if spec.kind == "INT" else "number"
        raise WorkflowError(f"{where}: '{shown(text)}' is not a {word}") from None
