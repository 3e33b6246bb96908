"""A workflow file, from the disk to a plan of what is to run: the Kling part of it, without ComfyUI.

    read -> editor or API format -> prompt -> values set by hand -> what is wanted -> what that needs -> checked plan

The file is data from strangers. It can choose values of node inputs and nothing else: no host, no key, no path.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from .check import problems
from .classes import Classes, InputSpec, read_classes
from .editor import to_prompt
from .prompt import Catalogue, Prompt, PromptNode, WorkflowError, from_api, shown
from .run import Plan

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
        WorkflowError: there is no such file, or it holds no workflow; the text names the file.
    """
    try:
        return read(parse(_content(path)), catalogue)
    except WorkflowError as error:
        raise WorkflowError(f"{shown(str(path), 200)}: {error}") from None


def parse(content: bytes) -> object:
    """JSON from the bytes of a file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        WorkflowError: it is something else, or JSON that no program would write.
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
            f"this is not JSON: {error.msg} in line {error.lineno}, column {error.colno}. {_EXPORT}"
        ) from None
    except ValueError as error:  # a number of thousands of digits
        raise WorkflowError(f"this JSON cannot be read: {error}.") from None
    except RecursionError:
        raise WorkflowError("this JSON is nested too deeply to be a workflow.") from None


def read(data: object, catalogue: Catalogue) -> Workflow:
    """Find out the format, look through wrappers that people share, and convert.

    Raises:
        WorkflowError: it is no workflow, or a damaged one.
    """
    classes = read_classes(catalogue)
    if not isinstance(data, dict):
        raise WorkflowError(f"this JSON is {_called(data)}, not a workflow. {_EXPORT}")
    wrapped = [_unwrapped(data.get(key)) for key in ("prompt", "output", "workflow")]
    # What ComfyUI would run counts more than the drawing beside it.
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
        'this JSON is no workflow: it has neither "nodes" and "links" (a saved or exported workflow) '
        f'nor entries with a "class_type" (the API format). It has: {", ".join(shown(k, 30) for k in list(data)[:8])}. '
        + _EXPORT
    )


def set_values(workflow: Workflow, settings: Iterable[str]) -> None:
    """Put values given by hand in place: ``NODE.INPUT=VALUE``.

    NODE is an id (``5``, or ``12:3`` inside a subgraph), a title, or a class if there is only one of it. A value given
    for a linked input replaces the link.

    Raises:
        WorkflowError: it names nothing, or several nodes; or the value is not of the input's type.
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


def make_plan(workflow: Workflow, *, all_videos: bool = False, submit_only: bool = False) -> Plan:
    """Choose what is to run and check all of it.

    Wanted are the pack's output nodes, and its video nodes whose result somebody else's node takes.

    Args:
        all_videos: video nodes are wanted even if nothing takes their result.
        submit_only: video nodes are not wanted at all.

    Raises:
        WorkflowError: nothing is wanted, or something is wrong. All problems are in one text, a line each.
    """
    prompt, classes = workflow.prompt, workflow.classes
    ours = [n for n in prompt.nodes.values() if n.class_type in classes and classes[n.class_type].ours]
    if not ours:
        raise WorkflowError(_no_node_of_ours(prompt, classes))
    wanted = _wanted(ours, prompt, classes, all_videos, submit_only)
    if not wanted:
        ends = ", ".join(name for name, c in classes.items() if c.ours and c.is_output)
        raise WorkflowError(
            f"nothing to run: no node of this pack ends in a result. Add one of: {ends}"
            + "".join(f"\n  {note}" for note in prompt.notes)
        )
    order = _ordered(wanted, prompt, classes)
    found = problems(prompt.nodes, order, classes)
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise WorkflowError("\n".join([f"{count}; nothing was sent.", *(f"  {text}" for text in found)]))
    return Plan(prompt, classes, order, _notes(workflow, order, ours))


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise WorkflowError("this is a directory. Name a workflow file in it.")
        if path.stat().st_size > LARGEST_FILE:
            raise WorkflowError(f"the file is larger than {LARGEST_FILE >> 20} MB, which no workflow is.")
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkflowError("there is no such file.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise WorkflowError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a doubled key, which would quietly drop a node, is an error."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WorkflowError(f"this JSON has '{shown(twice, 40)}' twice in one object, so one of them would be lost.")
    return made


def _unwrapped(value: object) -> object:
    """What a wrapper holds. ComfyUI's images carry both formats as JSON inside a text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return parse(value.encode("utf-8", "surrogatepass"))
    return value


def _is_api(data: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(data, dict) and any(isinstance(entry, dict) and "class_type" in entry for entry in data.values())


def _is_editor(data: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def _called(data: object) -> str:
    return {list: "a list", str: "a text", type(None): "null"}.get(type(data), "a single value")


def _find(workflow: Workflow, wanted: str, where: str) -> PromptNode:
    nodes = [node for node in workflow.prompt.nodes.values() if node.class_type in workflow.classes]
    there = "There are: " + "; ".join(str(node) for node in nodes[:12]) + ("; ..." if len(nodes) > 12 else "")
    for matches in (
        [node for node in nodes if node.id == wanted],
        [node for node in nodes if node.title == wanted],
        [node for node in nodes if node.class_type == wanted],
    ):
        if len(matches) > 1:
            raise WorkflowError(f"{where}: {len(matches)} nodes are called '{shown(wanted, 40)}'; give the id. {there}")
        if matches:
            return matches[0]
    raise WorkflowError(f"{where}: no node '{shown(wanted, 40)}' that could run here. {there if nodes else ''}")


def _typed(spec: InputSpec, text: str, where: str) -> object:
    """A value from the command line as the input's type; its limits are checked with all others."""
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


def _no_node_of_ours(prompt: Prompt, classes: Classes) -> str:
    names = ", ".join(name for name, known in classes.items() if known.ours)
    skipped = "".join(f"\n  {note}" for note in prompt.notes)
    if skipped:
        return f"nothing to run: every node of this pack is muted or bypassed.{skipped}"
    return f"nothing to run: the workflow has no node of this pack ({names})."


def _wanted(
    ours: Sequence[PromptNode], prompt: Prompt, classes: Classes, all_videos: bool, submit_only: bool
) -> list[PromptNode]:
    taken = {
        source
        for node in prompt.nodes.values()
        if node.class_type not in classes
        for source, output in node.links().values()
    }
    wanted = []
    for node in ours:
        known = classes[node.class_type]
        if known.makes_video:
            if not submit_only and (all_videos or known.is_output or node.id in taken):
                wanted.append(node)
        elif known.is_output:
            wanted.append(node)
    return wanted


def _ordered(wanted: Sequence[PromptNode], prompt: Prompt, classes: Classes) -> list[PromptNode]:
    """The wanted nodes and all that they need and that can run here, each behind what it needs.

    Raises:
        WorkflowError: they need each other in a circle.
    """
    order: dict[str, PromptNode] = {}
    for end in wanted:
        path = [(end, iter(end.links().values()))]
        on_path = {end.id: end}
        while path:
            node, sources = path[-1]
            source_id = next((source for source, _ in sources), None)
            if source_id is None:
                path.pop()
                on_path.pop(node.id)
                order[node.id] = node
                continue
            source = prompt.nodes.get(source_id)
            if source is None or source.class_type not in classes or source_id in order:
                continue
            if source_id in on_path:
                way = list(on_path.values())
                circle = [source, *reversed(way[way.index(source) :])]
                raise WorkflowError(f"these nodes need each other in a circle: {' -> '.join(map(str, circle))}")
            path.append((source, iter(source.links().values())))
            on_path[source_id] = source
    return list(order.values())


def _notes(workflow: Workflow, order: Sequence[PromptNode], ours: Sequence[PromptNode]) -> list[str]:
    """What the user should know before the run: what does not run, and what is ignored."""
    runs = {node.id for node in order}
    notes = list(workflow.prompt.notes)
    others = [node for node in workflow.prompt.nodes.values() if node.class_type not in workflow.classes]
    if others:
        listed = ", ".join(map(str, others[:6])) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
        notes.append(f"skipped, no nodes of this pack: {listed}")
    idle = [node for node in ours if node.id not in runs]
    if idle:
        notes.append(f"skipped, nothing wanted needs them: {', '.join(map(str, idle))}")
    for node in order:
        known = workflow.classes[node.class_type]
        notes += [f"{node}: {name} is not connected, {why}" for name, why in node.cut.items() if name in known.inputs]
        unknown = [shown(name, 40) for name in node.inputs if name not in known.inputs]
        if unknown:
            notes.append(f"{node}: ignored, there is no such input: {', '.join(unknown)}")
    return notes
