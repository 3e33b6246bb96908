"""The owner's limits: where they come from, what they allow, and what the error says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from environment import Environment

from nodes.api.errors import LimitError, SetupError
from nodes.api.spending import limits
from nodes.api.spending.limits import DAY, HOUR, Limits, Spent

NOW = 1_800_000_000.0


def spent(*minutes: float, units: float = 1) -> list[Spent]:
    """A submission at each of these minutes before now."""
    return [Spent(NOW - 60 * minute, units) for minute in minutes]


def refused(allowed: Limits, before: list[Spent], units: float = 1, *, is_guess: bool = False) -> str:
    with pytest.raises(LimitError) as caught:
        allowed.check(before, units, NOW, is_guess=is_guess)
    return str(caught.value)


def clock(moment: float) -> str:
    return time.strftime("%H:%M", time.localtime(moment))


def test_as_many_tasks_in_sixty_minutes_as_the_limit_says():
    Limits(3).check(spent(5, 59), 1, NOW)
    Limits(3).check(spent(5, 30, 60, 61), 1, NOW)
    said = refused(Limits(3), spent(5, 30, 59))
    assert said.startswith("The limit of 3 new tasks in 60 minutes is reached: 3 were sent.")
    assert f"The next one may be sent in 1 min (at {clock(NOW + 60)})." in said
    assert "Nothing was sent and nothing was paid." in said
    assert "KLING_MAX_TASKS_PER_HOUR" in said and "Settings > Kling > Limits" in said


def test_a_limit_lowered_below_what_is_used_frees_its_place_when_enough_have_expired():
    # Five were sent and two are allowed: the fourth has to expire.
    assert "in 50 min" in refused(Limits(2), spent(5, 10, 20, 30, 40))
    assert refused(Limits(1), spent(1)).startswith("The limit of 1 new task in 60 minutes")


def test_units_in_a_day():
    day = Limits(0, 10)
    day.check(spent(60, 120, units=4), 2, NOW)
    day.check(spent(25 * 60, 120, units=9), 1, NOW)
    said = refused(day, spent(60, 22 * 60, units=4.5), 2.5)
    assert said.startswith("The limit of 10 units in 24 hours does not allow this request: 9 units were spent, and it")
    assert "takes about 2.5 more." in said
    assert f"in 2 h (at {clock(NOW + 2 * HOUR)})" in said and "KLING_MAX_UNITS_PER_DAY" in said
    assert "It alone is more than the limit." in refused(day, [], 10.5)
    assert "its price is not in Kling's list" in refused(day, spent(1, units=9), 5, is_guess=True)


def test_zero_is_no_limit():
    Limits(0, 0).check(spent(*range(500)), 1e6, NOW)
    assert (Limits(0, 0).window, Limits(1, 0).window, Limits(0, 1).window, Limits(1, 1).window) == (0, HOUR, DAY, DAY)


@pytest.fixture
def directory(tmp_path: Path, environment: Environment) -> Path:
    environment.unset("KLING_MAX_TASKS_PER_HOUR")
    return tmp_path


def test_twenty_tasks_by_default(directory: Path):
    assert limits.load(directory) == Limits(20, 0)


def test_the_environment_wins_over_the_file(directory: Path, environment: Environment):
    limits.save(directory, 5, 70)
    assert limits.load(directory) == Limits(5, 70)
    environment.set("KLING_MAX_TASKS_PER_HOUR", " 7 ")
    assert limits.load(directory) == Limits(7, 70)
    environment.set("KLING_MAX_UNITS_PER_DAY", "0")
    assert limits.load(directory) == Limits(7, 0)
    # The panel shows 7 and 0 then. Saving them must not change what was saved.
    limits.save(directory, 7, 0)
    environment.unset("KLING_MAX_TASKS_PER_HOUR")
    environment.unset("KLING_MAX_UNITS_PER_DAY")
    assert limits.load(directory) == Limits(5, 70)


@pytest.mark.parametrize("wrong", ["-1", "1.5", "twenty", "1e3", "٣", "1" * 13, "0x10", "20 tasks"])
@pytest.mark.parametrize("variable", ["KLING_MAX_TASKS_PER_HOUR", "KLING_MAX_UNITS_PER_DAY"])
def test_a_value_that_is_not_a_whole_number_is_an_error(
    directory: Path, environment: Environment, variable: str, wrong: str
):
    environment.set(variable, wrong)
    with pytest.raises(SetupError, match=f"{variable} must be a whole number, 0 or more; 0 means no limit."):
        limits.load(directory)


@pytest.mark.parametrize("wrong", [-1, 1.5, None, True, "", "many", [3], 10**12])
def test_what_the_panel_cannot_save(directory: Path, wrong: object):
    limits.save(directory, 3, 0)
    for tasks, units in ((wrong, 0), (3, wrong)):
        with pytest.raises(SetupError, match="must be a whole number"):
            limits.save(directory, tasks, units)
    assert limits.load(directory) == Limits(3, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"tasks_per_hour": 5}',
        b'{"tasks_per_hour": -5, "units_per_day": 0}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_stops_the_run_instead_of_lifting_the_limit(directory: Path, content: bytes):
    (directory / "limits.json").write_bytes(content)
    with pytest.raises(SetupError, match="file with the limits cannot be read, so nothing was sent"):
        limits.load(directory)
    limits.save(directory, 4, 0)
    assert json.loads((directory / "limits.json").read_text(encoding="utf-8")) == {
        "tasks_per_hour": 4,
        "units_per_day": 0,
    }


def test_the_environment_helps_when_the_file_is_damaged(directory: Path, environment: Environment):
    (directory / "limits.json").write_bytes(b"{")
    environment.set("KLING_MAX_TASKS_PER_HOUR", "7")
    with pytest.raises(SetupError, match="or set both KLING_MAX_TASKS_PER_HOUR and KLING_MAX_UNITS_PER_DAY"):
        limits.load(directory)
    environment.set("KLING_MAX_UNITS_PER_DAY", "0")
    assert limits.load(directory) == Limits(7, 0)
