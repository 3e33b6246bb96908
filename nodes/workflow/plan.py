"""Plans a run: the nodes that are wanted, the nodes that they need, and every mistake in them."""

from __future__ import annotations

from collections.abc import Sequence

from .check import problems
from .classes import Classes
from .file import Workflow
from .prompt import Prompt, PromptNode, WorkflowError, shown
from .run import Plan


def make_plan(workflow: Workflow, *, all_videos: bool = False, submit_only: bool = False) -> Plan:
    """Choose the nodes to run and check all of them.

    The pack's output nodes are wanted, and its video nodes if a node from outside the pack uses the video.

    Args:
        all_videos: video nodes are wanted even if no node uses the video.
        submit_only: video nodes are not wanted at all.

    Raises:
        WorkflowError: nothing is wanted, or something is wrong. The text lists all problems, a line each.
    """
    prompt, classes = workflow.prompt, workflow.classes
    ours = [n for n in prompt.nodes.values() if n.class_type in classes and classes[n.class_type].ours]
    if not ours:
        raise WorkflowError(_no_node_of_ours(prompt, classes))
    wanted = _wanted(ours, prompt, classes, all_videos, submit_only)
    if not wanted:
        ends = ", ".join(name for name, c in classes.items() if c.ours and c.is_output)
        raise WorkflowError(
            f"nothing to run: the workflow has no output node of this pack. Add one of: {ends}"
            + "".join(f"\n  {note}" for note in prompt.notes)
        )
    order = _ordered(wanted, prompt, classes)
    found = problems(prompt.nodes, order, classes)
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise WorkflowError("\n".join([f"{count}; nothing was sent.", *(f"  {text}" for text in found)]))
    return Plan(prompt, classes, order, _notes(workflow, order, ours))


def _no_node_of_ours(prompt: Prompt, classes: Classes) -> str:
    names = ", ".join(name for name, known in classes.items() if known.ours)
    skipped = "".join(f"\n  {note}" for note in prompt.notes)
    if skipped:
        return f"nothing to run: every node of this pack is muted or bypassed.{skipped}"
    return f"nothing to run: the workflow has none of this pack's nodes ({names})."


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
    """The wanted nodes and every node they need that can run here, each after those that it needs.

    Raises:
        WorkflowError: the nodes form a loop.
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
                raise WorkflowError(f"these nodes form a loop: {' -> '.join(map(str, circle))}")
            path.append((source, iter(source.links().values())))
            on_path[source_id] = source
    return list(order.values())


def _notes(workflow: Workflow, order: Sequence[PromptNode], ours: Sequence[PromptNode]) -> list[str]:
    """Notes for the user before the run: what does not run, and what is ignored."""
    runs = {node.id for node in order}
    notes = list(workflow.prompt.notes)
    others = [node for node in workflow.prompt.nodes.values() if node.class_type not in workflow.classes]
    if others:
        listed = ", ".join(map(str, others[:6])) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
        notes.append(f"skipped, not from this pack: {listed}")
    idle = [node for node in ours if node.id not in runs]
    if idle:
        notes.append(f"skipped, not needed for this run: {', '.join(map(str, idle))}")
    for node in order:
        known = workflow.classes[node.class_type]
        notes += [f"{node}: {name} is not connected, {why}" for name, why in node.cut.items() if name in known.inputs]
        unknown = [shown(name, 40) for name in node.inputs if name not in known.inputs]
        if unknown:
            notes.append(f"{node}: ignored unknown inputs: {', '.join(unknown)}")
    return notes
