"""What the runner needs to know about a node class, read from the attributes that ComfyUI itself reads.

Node classes follow ComfyUI's V1 interface: INPUT_TYPES, RETURN_TYPES, RETURN_NAMES, FUNCTION, OUTPUT_NODE.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PLAIN = ("INT", "FLOAT", "STRING", "BOOLEAN")
_ZERO: dict[str, object] = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}


@dataclass(frozen=True)
class InputSpec:
    """One input of a node class. ``kind`` is its type; a list of choices reads as COMBO."""

    name: str
    kind: str
    required: bool
    options: Mapping[str, Any]
    choices: tuple[Any, ...] = ()

    @property
    def is_widget(self) -> bool:
        """Whether the front end draws a field, whose value is saved, or only a socket."""
        return (self.kind in _PLAIN or self.kind == "COMBO") and not self.options.get("forceInput")

    @property
    def companions(self) -> int:
        """How many values of control widgets (control_after_generate) the front end saves after this one."""
        if self.kind == "INT":
            return int(bool(self.options.get("control_after_generate", self.name in ("seed", "noise_seed"))))
        if self.kind == "COMBO" and self.options.get("control_after_generate"):
            return 2  # a combo also has a filter field
        return 0

    @property
    def default(self) -> object:
        """What a new node shows in this field."""
        if "default" in self.options:
            return self.options["default"]
        return next(iter(self.choices), None) if self.kind == "COMBO" else _ZERO.get(self.kind)


@dataclass(frozen=True)
class NodeClass:
    """A node class with its inputs in the order of its widgets."""

    cls: type[Any]
    inputs: Mapping[str, InputSpec]
    outputs: tuple[Any, ...]
    output_names: tuple[str, ...]
    is_output: bool
    ours: bool

    @property
    def makes_video(self) -> bool:
        """Whether it outputs a video. Such a node is wanted as soon as another node uses the video."""
        return "VIDEO" in self.outputs

    def output_named(self, name: str) -> int | None:
        """The number of the output with this name, None if there is none."""
        return self.output_names.index(name) if name in self.output_names else None


Classes = Mapping[str, NodeClass]


def read_class(cls: type[Any], *, ours: bool = True) -> NodeClass:
    """Read one V1 node class."""
    described: dict[str, dict[str, Any]] = cls.INPUT_TYPES()
    inputs: dict[str, InputSpec] = {}
    for group in ("required", "optional"):
        for name, entry in described.get(group, {}).items():
            kind, options = entry[0], entry[1] if len(entry) > 1 else {}
            choices = tuple(kind) if isinstance(kind, (list, tuple)) else tuple(options.get("options", ()))
            kind = kind if isinstance(kind, str) else "COMBO"
            inputs[name] = InputSpec(name, kind, group == "required", options, choices)
    outputs = tuple(getattr(cls, "RETURN_TYPES", ()))
    names = tuple(getattr(cls, "RETURN_NAMES", None) or outputs)
    return NodeClass(cls, inputs, outputs, names, getattr(cls, "OUTPUT_NODE", False) is True, ours)


def read_classes(catalogue: Mapping[str, type[Any]]) -> dict[str, NodeClass]:
    """The pack's own classes by name, plus ComfyUI's constant nodes."""
    core = {name: read_class(cls, ours=False) for name, cls in PRIMITIVES.items()}
    return core | {name: read_class(cls) for name, cls in catalogue.items()}


class _Constant:
    """A ComfyUI node that outputs the value of its only field."""

    FUNCTION = "hand_on"

    def hand_on(self, value: object) -> tuple[object]:
        return (value,)


def _constant(kind: str, **options: object) -> type[Any]:
    def input_types() -> dict[str, object]:
        return {"required": {"value": (kind, options)}}

    return type(f"Constant{kind}", (_Constant,), {"INPUT_TYPES": staticmethod(input_types), "RETURN_TYPES": (kind,)})


PRIMITIVES: Mapping[str, type[Any]] = {
    "PrimitiveInt": _constant("INT", min=-sys.maxsize, max=sys.maxsize, control_after_generate=True),
    "PrimitiveFloat": _constant("FLOAT", min=-sys.maxsize, max=sys.maxsize),
    "PrimitiveString": _constant("STRING"),
    "PrimitiveStringMultiline": _constant("STRING", multiline=True),
    "PrimitiveBoolean": _constant("BOOLEAN"),
}
"""ComfyUI's constant nodes by registered name: the only nodes from outside the pack that the runner can run."""
