"""What a benchmark reports: figures with their baselines and targets, as a table and as JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

RESULTS = Path(__file__).with_name("results")

Clock = Callable[[], float]
T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        measured, baseline: medians, as text with a unit.
        ratio: the one by the other, by the median of the repetitions; None where there is nothing to compare with.
        target: what it should be; empty for a row that only shows where the time goes.
        met: None for a row without a target.
        samples: every repetition behind the medians.
    """

    name: str
    measured: str
    baseline: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    samples: Mapping[str, Sequence[float]] | None = None


def compared(
    name: str,
    measured: Sequence[float],
    baseline: Sequence[float],
    *,
    unit: str,
    of: str,
    limit: float | None = None,
    strict: bool = False,
) -> Figure:
    """A figure whose target is a ratio.

    Args:
        unit: ``s`` or ``ms``; the samples are in seconds.
        of: what the baseline is.
        limit: the largest ratio that meets the target; None for a row without a target.
        strict: the ratio must be below the limit.
    """
    ours, theirs = statistics.median(measured), statistics.median(baseline)
    # Of each repetition by itself: its two halves met the same weather, and the next one may meet another.
    ratio = statistics.median(one / other for one, other in zip(measured, baseline, strict=True))
    met = None if limit is None else ratio < limit if strict else ratio <= limit
    target = "" if limit is None else f"{'<' if strict else '<='} {limit:g}"
    samples = {"measured": list(measured), "baseline": list(baseline)}
    return Figure(name, with_unit(ours, unit), f"{of}: {with_unit(theirs, unit)}", ratio, target, met, samples)


def with_unit(seconds: float, unit: str) -> str:
    """A time for the table."""
    return f"{seconds * 1000:.2f} ms" if unit == "ms" else f"{seconds:.3f} s"


def apart(function: Callable[[int], T], repetitions: int) -> T:
    """Call ``function`` in a new process, so that it meets no threads and no memory that another measure has left."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, repetitions).result()


def side_by_side(
    repetitions: int, calls: Mapping[str, Callable[[], object]], clock: Clock, *, block: int = 1
) -> dict[str, list[float]]:
    """Time each call ``repetitions`` times, in turns and in changing order, so that all meet the same weather.

    Args:
        block: how often a call does what is measured; the times are for doing it once.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(repetitions):
        for name in list(calls) if repetition % 2 else reversed(list(calls)):
            start = clock()
            calls[name]()
            taken[name].append((clock() - start) / block)
    return taken


def table(figures: Sequence[Figure]) -> str:
    """All rows as a Markdown table, ready for README.md."""
    rows = [("figure", "measured", "baseline", "ratio", "target", "met")]
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        met = {True: "yes", False: "NO", None: ""}[figure.met]
        rows.append((figure.name, figure.measured, figure.baseline, ratio, figure.target, met))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    return "\n".join([lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]])


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        "load": load,
    }


def write_json(figures: Sequence[Figure], before: Mapping[str, object]) -> Path:
    """Everything, with all samples, into the untracked folder ``results``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    content = {
        "machine": {**before, "load_after": machine()["load"]},
        "figures": [asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
