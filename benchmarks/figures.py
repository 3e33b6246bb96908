"""What a benchmark reports, and how it measures: side by side, and each measure in a process of its own."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One row of the table. The target is met if ``value`` is at most ``limit``, both in ``unit``."""

    name: str
    value: float
    limit: float
    unit: str = ""
    detail: str = ""

    @property
    def is_met(self) -> bool:
        return self.value <= self.limit


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], limit: float, baseline: str) -> Figure:
    """A figure that compares seconds. ``baseline`` says what ``theirs`` are."""
    # Both halves of a repetition ran under the same load; the next repetition may not.
    value = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    detail = f"{milliseconds(statistics.median(ours))}; {baseline}: {milliseconds(statistics.median(theirs))}"
    return Figure(name, value, limit, "times", detail)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms"


def apart(function: Callable[..., T], *arguments: object) -> T:
    """Call ``function`` in a new process: no threads, connections or memory left by another measure."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def clocked(clock: Callable[[], float], function: Callable[[], object], count: int = 1) -> Callable[[], float]:
    """Calls ``function`` and returns what ``clock`` counted, divided by how often the call does what is measured."""

    def call() -> float:
        start = clock()
        function()
        return (clock() - start) / count

    return call


def side_by_side(repetitions: int, calls: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The seconds that each call returns. The calls take turns in changing order, so that all run under one load."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(repetitions):
        for name in list(calls) if repetition % 2 else reversed(list(calls)):
            seconds[name].append(calls[name]())
    return seconds


def table(figures: Sequence[Figure]) -> str:
    """All rows as a Markdown table, ready for README.md."""
    lines = ["| figure | measured | target | met | detail |", "|---|---|---|---|---|"]
    for figure in figures:
        measured, target = (f"{number:.3g} {figure.unit}".strip() for number in (figure.value, figure.limit))
        met = "yes" if figure.is_met else "NO"
        lines.append(f"| {figure.name} | {measured} | at most {target} | {met} | {figure.detail} |")
    return "\n".join(lines)
