"""Problems with a request, in terms of the graph: which node, which input, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import ValidationError

from .api.errors import GraphError
from .api.request.wording import reworded

Location = tuple[int | str, ...]

_ELSEWHERE = {
    "multi_prompt": ("KlingMultiShot", "shots"),
    "shot_type": ("KlingMultiShot", "shots"),
    "watermark_info": ("KlingText2Video", "watermark"),
}
"""Fields that the user edits on another node or under another name."""


def listed(error: ValidationError) -> str:
    """The problems without node and input, for a caller that names those itself."""
    return " ".join(reworded(detail) for detail in error.errors(include_url=False))


def graph_error(
    *errors: ValidationError, sockets: Sequence[int] | None = None, ignored: Collection[str] = ()
) -> GraphError | None:
    """One error that lists every problem, None if there are none.

    Args:
        sockets: for each shot, the number of its input on KlingMultiShot; None without a storyboard.
        ignored: fields whose problems do not count, because their values come from links.
    """
    details = [detail for error in errors for detail in error.errors(include_url=False)]
    found = [(detail["loc"], reworded(detail)) for detail in details if detail["loc"][0] not in ignored]
    if not found:
        return None
    lines = [_line(location, text, sockets) for location, text in found]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    # The problems come first, because ComfyUI's newest front end shows only the beginning of a message.
    return GraphError("\n".join([*lines, f"The graph has {count}. Nothing was sent and nothing was paid."]))


def _line(location: Location, text: str, sockets: Sequence[int] | None) -> str:
    node, field = _place(location, sockets)
    return f"- {node}, {field}: {text}"


def _place(location: Location, sockets: Sequence[int] | None) -> tuple[str, str]:
    match location:
        case ("multi_prompt", int(position), *field) if sockets is not None:
            return f"KlingShot at shot_{sockets[position]} (shot {position + 1})", str(field[-1]) if field else "shot"
        case ("camera_control", "config", str(axis)):
            return "KlingCameraControl", axis
        case ("camera_control", "config"):
            return "KlingCameraControl", "type and axes"
        case ("camera_control", "type"):
            return "KlingCameraControl", "type"
        case ("duration",) if sockets is not None:
            return "KlingMultiShot", "sum of the shots' durations"
        case (str(name), *_):
            return _ELSEWHERE.get(name, ("KlingText2Video", name))
        case _:
            return "KlingText2Video", "request"
