"""How much the owner of this installation lets it spend: tasks in any 60 minutes, units in any 24 hours.

No workflow can change a limit. The environment comes first, then the file that Settings > Kling > Limits writes, then
the default. The ledger checks the limits in the transaction that claims a row, so that threads and processes together
never exceed them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .. import environment, private_files
from ..errors import LimitError, SetupError
from ..settings import write_private

TASKS_VARIABLE = "KLING_MAX_TASKS_PER_HOUR"
UNITS_VARIABLE = "KLING_MAX_UNITS_PER_DAY"
TASKS_DEFAULT = 20
LIMITS_FILE = "limits.json"

HOUR = 3600.0
DAY = 24 * HOUR

_MOST = 1_000_000_000
_WAY_OUT = (
    "To allow more, raise {variable} in the environment and restart ComfyUI, or raise the limit under"
    " Settings > Kling > Limits; 0 means no limit."
)


class Spent(NamedTuple):
    """A submission that may have been paid.

    Attributes:
        at: Unix time in seconds.
        units: what it cost as far as is known, 0 if its task failed.
    """

    at: float
    units: float


@dataclass(frozen=True)
class Limits:
    """The limits in force. 0 stands for no limit.

    Attributes:
        new_in_run: how many new tasks this process may make, None for any number.
    """

    tasks_per_hour: int = TASKS_DEFAULT
    units_per_day: int = 0
    new_in_run: int | None = None

    @property
    def window(self) -> float:
        """How many seconds back the submissions count, 0 without a limit."""
        return DAY if self.units_per_day else HOUR if self.tasks_per_hour else 0

    def check_run(self, made: int) -> None:
        """Allow one more task after this process has made some, or raise LimitError."""
        if self.new_in_run is not None and made >= self.new_in_run:
            raise LimitError(
                f"--max-new: this run would make more than {_tasks(self.new_in_run)}. Nothing was sent for this node."
                " Raise --max-new, or leave out what you do not need."
            )

    def check(self, spent: Sequence[Spent], units: float, now: float, *, is_guess: bool = False) -> None:
        """Allow one more submission or raise.

        Args:
            spent: all that count, in any order.
            units: what the new one costs.
            is_guess: whether its price is not in the list, so that ``units`` is the dearest price for its length.

        Raises:
            LimitError: it would exceed a limit.
        """
        in_hour = sorted(one.at for one in spent if one.at > now - HOUR)
        if self.tasks_per_hour and len(in_hour) >= self.tasks_per_hour:
            free_at = in_hour[-self.tasks_per_hour] + HOUR
            raise LimitError(
                f"The limit of {_tasks(self.tasks_per_hour)} in 60 minutes is reached: {len(in_hour)} were sent."
                f" {_when(free_at, now)} Nothing was sent and nothing was paid."
                f" {_WAY_OUT.format(variable=TASKS_VARIABLE)}"
            )
        if not self.units_per_day:
            return
        in_day = sorted((one for one in spent if one.at > now - DAY), key=lambda one: one.at)
        used = sum(one.units for one in in_day)
        if used + units <= self.units_per_day:
            return
        guess = " (its price is not in Kling's list, so the dearest one for its length counts)" if is_guess else ""
        raise LimitError(
            f"The limit of {self.units_per_day} units in 24 hours does not allow this request: {used:g} units were"
            f" spent, and it takes about {units:g} more{guess}."
            f" {self._when_units(in_day, used, units, now)} Nothing was sent and nothing was paid."
            f" {_WAY_OUT.format(variable=UNITS_VARIABLE)}"
        )

    def _when_units(self, in_day: Sequence[Spent], used: float, units: float, now: float) -> str:
        for one in in_day:
            used -= one.units
            if used + units <= self.units_per_day:
                return _when(one.at + DAY, now)
        return "It alone is more than the limit."


NO_LIMITS = Limits(tasks_per_hour=0, units_per_day=0)


def load(directory: Path) -> Limits:
    """The limits in force.

    Args:
        directory: the state directory.

    Raises:
        SetupError: one of them is not a whole number, or their file is needed and cannot be read.
    """
    all_in_environment = in_environment(TASKS_VARIABLE) and in_environment(UNITS_VARIABLE)
    saved = NO_LIMITS if all_in_environment else _read(directory)
    return Limits(
        _from_environment(TASKS_VARIABLE, saved.tasks_per_hour), _from_environment(UNITS_VARIABLE, saved.units_per_day)
    )


def save(directory: Path, tasks_per_hour: object, units_per_day: object) -> None:
    """Save limits for this installation. A limit that the environment sets keeps its saved value.

    Raises:
        SetupError: a value is not a whole number from 0 up, or the file cannot be written.
    """
    limits = {
        "tasks_per_hour": _whole(tasks_per_hour, "Tasks per hour"),
        "units_per_day": _whole(units_per_day, "Units per day"),
    }
    try:
        before = _read(directory)
    except SetupError:
        before = Limits()  # a damaged file is replaced
    if in_environment(TASKS_VARIABLE):
        limits["tasks_per_hour"] = before.tasks_per_hour
    if in_environment(UNITS_VARIABLE):
        limits["units_per_day"] = before.units_per_day
    write_private(directory / LIMITS_FILE, json.dumps(limits), "The limits")


def _read(directory: Path) -> Limits:
    try:
        saved = json.loads(private_files.read(directory / LIMITS_FILE))
        return Limits(
            _whole(saved["tasks_per_hour"], "Tasks per hour"), _whole(saved["units_per_day"], "Units per day")
        )
    except (FileNotFoundError, NotADirectoryError):  # without a state directory the ledger stops the run
        return Limits()
    except (OSError, ValueError, TypeError, KeyError, RecursionError, SetupError):
        raise SetupError(
            "The file with the limits cannot be read, so nothing was sent. Enter the limits again under"
            f" Settings > Kling > Limits, or set both {TASKS_VARIABLE} and {UNITS_VARIABLE} and restart ComfyUI."
        ) from None


def in_environment(variable: str) -> bool:
    """Whether the environment sets this limit."""
    return bool(environment.get(variable))


def _from_environment(variable: str, saved: int) -> int:
    text = environment.get(variable)
    return _whole(text, variable, "restart ComfyUI") if text else saved


def _whole(value: object, name: str, then: str = "run again") -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise SetupError(
            f"{name} must be a whole number, 0 or more; 0 means no limit. Nothing was sent. Correct it and {then}."
        )
    return value


def _tasks(number: int) -> str:
    return "1 new task" if number == 1 else f"{number} new tasks"


def _when(moment: float, now: float) -> str:
    minutes = max(1, math.ceil((moment - now) / 60))
    clock = time.strftime("%H:%M", time.localtime(moment))
    wait = f"{minutes} min" if minutes < 120 else f"{math.ceil(minutes / 60)} h"
    return f"The next one may be sent in {wait} (at {clock})."
