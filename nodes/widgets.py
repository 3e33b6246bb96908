"""ComfyUI widgets made from pydantic fields, so that limits and help texts are written once."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

Widget = tuple[Any, dict[str, Any]]


def widget(model: type[BaseModel], name: str, kind: str | None = None, **options: Any) -> Widget:
    """The entry for ``INPUT_TYPES`` that edits one field.

    Args:
        kind: ComfyUI's type, for example ``INT``. A field with fixed choices becomes a combo and needs none.
        options: further widget options. They override those from the field.
    """
    field = model.model_fields[name]
    made: dict[str, Any] = {"tooltip": field.description, **_limits(field)}
    if field.default not in (PydanticUndefined, None):
        made["default"] = field.default
    made.update(options)
    if get_origin(field.annotation) is Literal:
        choices = list(get_args(field.annotation))
        return choices, {"default": choices[0], **made}
    return kind, made


def _limits(field: FieldInfo) -> dict[str, float]:
    found = {}
    for constraint in field.metadata:
        for ours, theirs in (("ge", "min"), ("le", "max")):
            if hasattr(constraint, ours):
                found[theirs] = getattr(constraint, ours)
    return found
