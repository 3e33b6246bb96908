"""``python -m nodes run``: rehearses a workflow before anything is paid, runs it, and saves its videos."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from .. import host, workflow
from ..api import environment, settings
from ..api.errors import GraphError, KlingError, LimitError
from ..api.ledger.record import Ledger
from ..api.printable import printable
from ..api.settings import BASE_URL_VARIABLE, KEY_VARIABLE, STATE_DIR_VARIABLE
from ..api.spending import limits, prices
from ..rehearsal import Rehearsal, rehearse
from ..sandbox import Sandbox
from ..workflow.prompt import Catalogue, PromptNode, WorkflowError, shown
from ..workflow.run import Plan, Results, run
from .output import ExitCode, can_show, json_text, put, say


def run_file(
    file: str,
    catalogue: Catalogue,
    *,
    values: Sequence[str] = (),
    dry_run: bool = False,
    in_sandbox: bool = False,
    output: str | None = None,
    max_new: int | None = None,
) -> ExitCode:
    """Run the Kling part of a workflow file. A run that sends prints only the task_ids to standard output.

    Args:
        values: they replace those in the file, each as NODE.INPUT=VALUE.
        dry_run: print what would be sent, and send nothing.
        in_sandbox: use a gateway inside this program.
        output: directory for the videos; None leaves them where they were downloaded.
        max_new: how many new tasks this run may make. The owner's limits hold as well.

    Returns:
        The exit code.

    Raises:
        WorkflowError: bad input; nothing was sent.
        LimitError: the run would make more new tasks than it may; nothing was sent.
    """
    loaded = workflow.load(Path(file), catalogue)
    workflow.set_values(loaded, values)
    plan = workflow.make_plan(loaded, all_videos=output is not None, submit_only=dry_run)
    for note in plan.notes:
        say(note)
    directory = _directory(output) if output is not None and not dry_run else None
    with _embedded_sandbox() if in_sandbox else nullcontext() as sandbox:
        # Some problems show only when the nodes run together. Find them before the first request is paid.
        rehearsal = asyncio.run(rehearse(plan))
        if rehearsal.results.errors or dry_run:
            for preview, url in rehearsal.in_order() if dry_run else ():
                _print_request(preview.body, url)
                say(f"Estimate: {prices.in_words(prices.estimate(preview.body))}.")
            if dry_run and rehearsal.requests:
                say(rehearsal.summary())
            return _end(plan, rehearsal.results, paid=False)
        if rehearsal.requests:
            say(rehearsal.summary())
            _check_limits(rehearsal, max_new)
        progress = _Progress(plan, directory)
        try:
            asyncio.run(run(plan, partial(_console, max_new=max_new), progress.results, done=progress.done))
        finally:
            for body in sandbox.creates() if sandbox else ():
                say(f"the sandbox received:\n{json_text(body, sys.stderr)}")
            for task_id in progress.task_ids():
                put(printable(task_id))
    return _end(plan, progress.results, paid=bool(progress.task_ids()))


def copy_new(video: Path, directory: Path, task_id: str) -> Path:
    """Copy a video to a free file name made from its task_id. Nothing is overwritten.

    Raises:
        WorkflowError: the directory cannot be written.
    """
    stem = "kling-" + (re.sub(r"[^A-Za-z0-9_-]+", "_", task_id)[:80] or "video")
    number = 1
    while True:
        target = directory / (f"{stem}.mp4" if number == 1 else f"{stem}-{number}.mp4")
        try:
            with video.open("rb") as original, target.open("xb") as copy:
                shutil.copyfileobj(original, copy, 1 << 20)
            return target
        except FileExistsError:
            number += 1
        except OSError as error:
            raise WorkflowError(f"{target} cannot be written: {error.strerror}. The video is at {video}.") from None


def _check_limits(rehearsal: Rehearsal, max_new: int | None) -> None:
    new = len(rehearsal.new())
    if max_new is not None and new > max_new:
        raise LimitError(
            f"--max-new: this run would make {new} new tasks; {max_new} are allowed. Nothing was sent and nothing was"
            " paid. Raise --max-new, or leave out what you do not need."
        )
    directory = settings.state_dir(host.current().state_dir())
    allowed = limits.load(directory)
    if allowed.window and new:
        with closing(Ledger(directory)) as ledger:
            rehearsal.check(allowed, ledger.spent(allowed))


class _Progress:
    """Reports the progress of a run and collects its results."""

    def __init__(self, plan: Plan, directory: Path | None) -> None:
        self.results = Results()
        self._plan = plan
        self._directory = directory
        self._count = 0

    def done(self, node: PromptNode) -> None:
        """Report that a node is done."""
        known = self._plan.classes[node.class_type]
        told = []
        for name, kind, value in zip(known.output_names, known.outputs, self.results.outputs[node.id], strict=True):
            if kind == "VIDEO":
                told.append(self._keep(node, value))
            elif name == "task_id":
                told.append(f"task_id {shown(value)}")
        self._count += 1
        say(f"[{self._count}/{len(self._plan.order)}] {node}: {', '.join(told) or 'done'}")

    def task_ids(self) -> list[str]:
        """Every task_id that was made or found, in the order of the file."""
        ids = []
        for node in self._plan.prompt.nodes.values():
            if node.id in self.results.outputs:
                number = self._plan.classes[node.class_type].output_named("task_id")
                if number is not None:
                    ids.append(str(self.results.outputs[node.id][number]))
        return ids

    def _keep(self, node: PromptNode, video: object) -> str:
        """Copy a video to the output directory. Its name comes from the task, never from the workflow file."""
        if self._directory is None or not isinstance(video, Path):
            return f"video {video}"
        return f"wrote {copy_new(video, self._directory, str(self.results.inputs[node.id]['task_id']))}"


def _console(node: PromptNode, max_new: int | None) -> AbstractContextManager[object]:
    return host.use(host.ConsoleHost(label=str(node), out=sys.stderr or io.StringIO(), max_new=max_new))


def _end(plan: Plan, results: Results, *, paid: bool) -> ExitCode:
    """Report the errors and choose the exit code."""
    # Nodes that were refused together, for example by a limit, share one message.
    alike: dict[str, list[PromptNode]] = {}
    for node in plan.order:
        if node.id in results.errors:
            alike.setdefault(_told(results.errors[node.id]), []).append(node)
    for told, nodes in alike.items():
        named = ", ".join(map(str, nodes[:3])) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
        say(f"error: {named}:\n{told}" if told.startswith("- ") else f"error: {named}: {told}")
    for node in plan.order:
        if results.left_out.get(node.id) in results.errors:
            say(f"{node}: not run, because it needs {plan.prompt.nodes[results.left_out[node.id]]}")
    if not results.errors:
        return ExitCode.DONE
    refused = all(isinstance(error, (GraphError, WorkflowError)) for error in results.errors.values())
    return ExitCode.BAD_INPUT if refused and not paid else ExitCode.FAILED


def _told(error: BaseException) -> str:
    if isinstance(error, (KlingError, WorkflowError)):
        return str(error)
    return f"{type(error).__name__}: {error}. This is a bug in the pack. Please report it."


def _directory(name: str) -> Path:
    directory = Path(name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Find out now, not after the video is paid, whether the directory can be written.
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WorkflowError(f"--output {shown(name, 200)}: cannot be written: {reason}") from None


@contextmanager
def _embedded_sandbox() -> Iterator[Sandbox]:
    """A gateway for this run only, with its own state directory, so that nothing real is touched."""
    with (
        tempfile.TemporaryDirectory(prefix="kling-sandbox-", ignore_cleanup_errors=True) as state,
        Sandbox() as sandbox,
    ):
        ours = {
            BASE_URL_VARIABLE: sandbox.base_url,
            KEY_VARIABLE: "sandbox",
            STATE_DIR_VARIABLE: state,
            limits.TASKS_VARIABLE: "0",
            limits.UNITS_VARIABLE: "0",
        }
        with environment.replaced(ours):
            yield sandbox


def _print_request(body: Mapping[str, Any], url: str) -> None:
    """Print a request as JSON and as a curl command. The key stays a shell variable."""
    data = json.dumps(body, ensure_ascii=not can_show(body, sys.stdout))
    put(json_text(body, sys.stdout))
    put(
        f'curl -X POST {shlex.quote(url)} -H "Authorization: Bearer ${KEY_VARIABLE}"'
        f" -H 'Content-Type: application/json' --data-raw {shlex.quote(printable(data))}"
    )
