"""Reads a workflow file, in any of the forms that ComfyUI writes, into a prompt.

The file is untrusted. It can choose the values of node inputs and nothing else: no host, no key, no path.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from .classes import Classes, read_classes
from .editor import to_prompt
from .prompt import Catalogue, Prompt, WorkflowError, from_api, shown

LARGEST_FILE = 64 * 2**20

_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a WebP image or another RIFF file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF file",
    b"\x1aE\xdf\xa3": "a video",
}
_EXPORT = 'Open it in ComfyUI, choose "File > Export", and give the JSON file.'


@dataclass
class Workflow:
    """A workflow that was read."""

    prompt: Prompt
    classes: Classes


def load(path: Path, catalogue: Catalogue) -> Workflow:
    """Read a workflow file in any of the forms that ComfyUI writes.

    Args:
        catalogue: the pack's node classes by registered name.

    Raises:
        WorkflowError: the file does not exist or contains no workflow; the text names the file.
    """
    try:
        return read(parse(_content(path)), catalogue)
    except WorkflowError as error:
        raise WorkflowError(f"{shown(str(path), 200)}: {error}") from None


def parse(content: bytes) -> object:
    """Parse the JSON in a file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        WorkflowError: the content is not JSON, or is JSON that cannot be a workflow.
    """
    kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)
    kind = "a video" if content[4:8] == b"ftyp" else kind
    if kind is not None:
        raise WorkflowError(f"this is {kind}, not JSON. {_EXPORT}")
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not marked and b"\0" in content:
        raise WorkflowError(f"this is a binary file, not JSON. {_EXPORT}")
    try:
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        raise WorkflowError("this is not UTF-8 text. Save the file as UTF-8.") from None
    if not text.strip():
        raise WorkflowError("the file is empty.")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise WorkflowError(
            f"this is not JSON: {error.msg} at line {error.lineno}, column {error.colno}. {_EXPORT}"
        ) from None
    except ValueError as error:  # a number with thousands of digits
        raise WorkflowError(f"this JSON cannot be read: {error}.") from None
    except RecursionError:
        raise WorkflowError("this JSON is nested too deeply to be a workflow.") from None


def read(data: object, catalogue: Catalogue) -> Workflow:
    """Detect the format, unwrap what people share, and convert.

    Raises:
        WorkflowError: the data is not a workflow, or is a damaged one.
    """
    classes = read_classes(catalogue)
    if not isinstance(data, dict):
        raise WorkflowError(f"this JSON is {_called(data)}, not a workflow. {_EXPORT}")
    wrapped = [_unwrapped(data.get(key)) for key in ("prompt", "output", "workflow")]
    # The API format is what ComfyUI runs, so it takes precedence over the drawing next to it.
    candidates: tuple[object, ...] = (data, *wrapped)
    for candidate in candidates:
        if _is_api(candidate):
            return Workflow(from_api(candidate), classes)
    for candidate in candidates:
        if _is_editor(candidate):
            return Workflow(to_prompt(candidate, classes), classes)
    if not data:
        raise WorkflowError("the workflow is empty.")
    raise WorkflowError(
        'this JSON is not a workflow: it has neither "nodes" and "links" (a saved or exported workflow) '
        f'nor entries with a "class_type" (the API format). It has: {", ".join(shown(k, 30) for k in list(data)[:8])}. '
        + _EXPORT
    )


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise WorkflowError("this is a directory. Give the path of a workflow file.")
        if path.stat().st_size > LARGEST_FILE:
            raise WorkflowError(f"the file is too large to be a workflow; at most {LARGEST_FILE >> 20} MB are allowed.")
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkflowError("the file does not exist. Check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL
        raise WorkflowError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. A duplicate key is an error, because it would silently drop a node."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WorkflowError(f"this JSON has '{shown(twice, 40)}' twice in one object, so one of them would be lost.")
    return made


def _unwrapped(value: object) -> object:
    """The content of a wrapper. ComfyUI's images contain both formats as JSON inside a string."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return parse(value.encode("utf-8", "surrogatepass"))
    return value


def _is_api(data: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(data, dict) and any(isinstance(entry, dict) and "class_type" in entry for entry in data.values())


def _is_editor(data: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def _called(data: object) -> str:
    return {list: "a list", str: "a text", type(None): "null"}.get(type(data), "a single value")
