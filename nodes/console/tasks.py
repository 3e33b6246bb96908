"""``python -m nodes tasks``: every submission in the ledger."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timezone
from typing import Any

from .. import host
from ..api import settings
from ..api.ledger.record import Ledger
from ..api.ledger.row import MAY_BE_PAID, Row, State
from ..api.spending import prices
from ..api.submit.account import open_account
from ..workflow.prompt import WorkflowError, shown
from .output import ExitCode, json_text, put, say

_PROMPT_SHOWN = 40


def list_tasks(since: float | None = None, *, as_json: bool) -> ExitCode:
    """Print all submissions, newest first: one line each, or all of them as JSON.

    Args:
        since: Unix time in seconds; older ones are left out.

    Raises:
        SetupError: the ledger cannot be read.
    """
    directory = settings.state_dir(host.current().state_dir())
    with closing(Ledger(directory)) as ledger:
        rows = [row for row in ledger.rows() if since is None or row.sent_at >= since]
    if as_json:
        put(json_text([_facts(row) for row in rows], sys.stdout))
        return ExitCode.DONE
    if not rows:
        say(f"Nothing has been submitted yet (state directory {directory}).")
    columns = [[_time(row), _model(row), row.state, row.task_id or "-", row.external_task_id] for row in rows]
    widths = [max(len(line[k]) for line in columns) for k in range(5)] if columns else []
    for row, line in zip(rows, columns, strict=True):
        cells = [shown(cell, 80).ljust(width) for cell, width in zip(line, widths, strict=True)]
        put("  ".join([*cells, shown(_prompt(row), _PROMPT_SHOWN)]))
    return ExitCode.DONE


def sum_tasks(since: float | None = None, *, as_json: bool) -> ExitCode:
    """Print what was spent per model and in all: tasks, failed ones, estimated and charged units.

    Args:
        since: Unix time in seconds; older ones are left out.

    Raises:
        SetupError: the ledger cannot be read.
    """
    with closing(Ledger(settings.state_dir(host.current().state_dir()))) as ledger:
        rows = [row for row in ledger.rows(*MAY_BE_PAID) if since is None or row.sent_at >= since]
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        by_model.setdefault(_model(row), []).append(row)
    sums = {model: _sum(by_model[model]) for model in sorted(by_model)}
    if as_json:
        put(json_text({"models": sums, "all": _sum(rows)}, sys.stdout))
        return ExitCode.DONE
    table = [["model", *_sum([])], *([model, *map(_cell, found.values())] for model, found in sums.items())]
    table.append(["all", *map(_cell, _sum(rows).values())])
    widths = [max(len(shown(line[k], 40)) for line in table) for k in range(len(table[0]))]
    for line in table:
        cells = [shown(cell, 40) for cell in line]
        put("  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]))
    return ExitCode.DONE


def _sum(rows: Sequence[Row]) -> dict[str, float]:
    """Failed tasks count as tasks, but cost nothing. ``unpriced`` tasks are missing in ``estimated_units``."""
    estimates = [prices.estimate(row.request()) for row in rows if row.state != State.FAILED]
    return {
        "tasks": len(rows),
        "failed": sum(row.state == State.FAILED for row in rows),
        "estimated_units": round(sum(units for units in estimates if units is not None), 4),
        "unpriced": estimates.count(None),
        "charged_units": round(sum(row.charged or 0 for row in rows), 4),
        "not_charged_yet": sum(row.charged is None and row.state != State.FAILED for row in rows),
    }


def _cell(number: float) -> str:
    return f"{number:g}"


def recover_tasks() -> ExitCode:
    """Look up every submission whose answer was lost. Nothing is sent again.

    Returns:
        ExitCode.DONE if every outcome is now known, otherwise ExitCode.FAILED.

    Raises:
        SetupError: the key, the base URL or the ledger cannot be used.
    """
    account = open_account(settings.load(host.current().state_dir()))
    count = 0
    for row, found in account.finder.recover():
        count += 1
        put(f"{shown(row.external_task_id)}: {shown(found, 500)}")
    if not count:
        say("There is no submission to look up.")
    return ExitCode.FAILED if account.ledger.rows(State.SENDING, State.UNKNOWN) else ExitCode.DONE


def show_task(any_id: str) -> ExitCode:
    """Print one submission with its request as JSON.

    Args:
        any_id: a task_id or an external_task_id, at any gateway.

    Raises:
        WorkflowError: the ledger has no such id.
        SetupError: the ledger cannot be read.
    """
    directory = settings.state_dir(host.current().state_dir())
    with closing(Ledger(directory)) as ledger:
        found = [row for row in ledger.rows() if any_id in (row.task_id, row.external_task_id)]
    if not found:
        raise WorkflowError(f"no task {shown(any_id)} in the state directory {directory}; `tasks` lists all tasks.")
    for row in found:
        put(json_text(_facts(row) | {"request": row.request()}, sys.stdout))
    return ExitCode.DONE


def _facts(row: Row) -> dict[str, Any]:
    return {
        "created_at": datetime.fromtimestamp(row.created_at, timezone.utc).isoformat(timespec="seconds"),
        "model_name": _model(row),
        "state": row.state,
        "task_id": row.task_id,
        "external_task_id": row.external_task_id,
        "request_id": row.request_id,
        "take": row.take,
        "attempt": row.attempt,
        "gateway": row.base_url,
        "estimated_units": prices.estimate(row.request()),
        "charged_units": row.charged,
        "error": row.error,
        "prompt": _prompt(row),
    }


def _time(row: Row) -> str:
    return datetime.fromtimestamp(row.created_at).strftime("%Y-%m-%d %H:%M")


def _model(row: Row) -> str:
    return str(row.request().get("model_name", "-"))


def _prompt(row: Row) -> str:
    """The prompt, or the prompts of all shots."""
    body = row.request()
    shots = body.get("multi_prompt") or [body]
    return " / ".join(str(shot.get("prompt", "")) for shot in shots)
