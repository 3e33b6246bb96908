"""The prompt: a workflow in the form that ComfyUI runs, whatever format the file has.

ComfyUI's front end calls it the API format: a mapping of node ids, each with a class, a title and its inputs.
An input is a plain value or a link: a list of the source node's id and its output number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..api.printable import printable

Catalogue = Mapping[str, type[Any]]
"""Node classes by registered name: ComfyUI's NODE_CLASS_MAPPINGS of one pack."""


class WorkflowError(Exception):
    """The workflow cannot be run as requested. The text is complete and meant for the user."""


@dataclass
class PromptNode:
    """One node that would run.

    Attributes:
        inputs: plain values and links, by input name.
        faults: problems that matter only if the node is needed, by input; "" is the node itself.
        cut: inputs that lost their link, with the reason.
    """

    id: str
    class_type: str
    title: str
    inputs: dict[str, Any]
    faults: dict[str, str] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        title = "" if self.title in ("", self.class_type) else f' "{shown(self.title, 40)}"'
        return f"{shown(self.class_type, 60)}{title} ({shown(self.id, 40)})"

    def links(self) -> dict[str, tuple[str, int]]:
        """Every linked input with its source: node id and output number. Malformed links are left out."""
        return {name: (str(v[0]), v[1]) for name, v in self.inputs.items() if is_link(v)}


@dataclass
class Prompt:
    """All nodes of one workflow by id, in the order of the file, and notes for the console."""

    nodes: dict[str, PromptNode]
    notes: list[str] = field(default_factory=list)


def is_link(value: object) -> bool:
    """Whether an input's value is a well-formed link: a node id and an output number."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], (str, int))
        and not isinstance(value[0], bool)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
        and value[1] >= 0
    )


def wrapped(value: object) -> object:
    """A widget's value as an input. A list is wrapped, because a bare list would read as a link."""
    return {"__value__": value} if isinstance(value, list) else value


def shown(value: object, limit: int = 80) -> str:
    """Any value from a file, safe to print: one line, nothing invisible, at most ``limit`` characters."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return printable(text)


def from_api(data: Mapping[str, Any]) -> Prompt:
    """Read the API format.

    Raises:
        WorkflowError: an entry is not a node. All such entries are named in one message.
    """
    nodes: dict[str, PromptNode] = {}
    wrong: list[str] = []
    for node_id, entry in data.items():
        inputs = entry.get("inputs", {}) if isinstance(entry, dict) else None
        class_type = entry.get("class_type") if isinstance(entry, dict) else None
        if not isinstance(class_type, str) or not isinstance(inputs, dict):
            wrong.append(shown(node_id, 40))
            continue
        meta = entry.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        nodes[node_id] = PromptNode(node_id, class_type, title if isinstance(title, str) else "", dict(inputs))
    if wrong:
        raise WorkflowError(
            f"not a workflow: the entries {', '.join(wrong[:8])} have no class_type or no inputs. "
            'Export the workflow again ("File > Export (API)" in ComfyUI).'
        )
    return Prompt(nodes)
