"""The price list, estimates, and what an answer says was charged."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.api.request.capabilities import MODELS
from nodes.api.spending import prices
from nodes.sandbox.rules import units as by_the_sandbox


def bodies() -> list[dict[str, Any]]:
    """Every combination that some model makes."""
    return [
        {"model_name": name, "mode": mode, "sound": sound, "duration": str(seconds)}
        for name, model in MODELS.items()
        for mode in ("std", "pro")
        for sound in (("off", "on") if model.sound else ("off",))
        for seconds in model.durations
    ]


def test_every_video_that_a_model_makes_has_a_price_and_the_sandbox_charges_the_same():
    assert len(bodies()) > 60
    for body in bodies():
        assert prices.estimate(body) == pytest.approx(float(by_the_sandbox(body))), body


def test_the_figures_of_the_list():
    def price(model: str, mode: str, seconds: int, sound: str = "off") -> float | None:
        return prices.estimate({"model_name": model, "mode": mode, "duration": str(seconds), "sound": sound})

    assert price("kling-v3", "std", 12) == 7.2
    assert price("kling-v3", "pro", 15, "on") == 18
    assert price("kling-v2-5-turbo", "pro", 10) == 5
    assert price("kling-v1", "std", 5) == 1
    assert prices.in_words(7.2) == "about 7.2 units (list price about USD 1.01)"
    assert prices.in_words(None) == "an unknown price (not in Kling's list)"


@pytest.mark.parametrize(
    "changes",
    [
        {"model_name": "kling-v9"},
        {"mode": "4k"},
        {"model_name": "kling-v1", "sound": "on"},
        {"model_name": "kling-v1", "duration": "7"},
        {"duration": "five"},
        {"duration": 5},
        {"duration": None},
        {"model_name": ["kling-v3"]},
    ],
)
def test_what_the_list_does_not_have_is_unknown_and_counts_as_the_dearest(changes: dict[str, Any]):
    body = {"model_name": "kling-v3", "mode": "std", "sound": "off", "duration": "5", **changes}
    assert prices.estimate(body) is None
    assert prices.at_most(body) >= 10  # kling-v2-master for 5 s
    assert prices.at_most({}) >= 20


@pytest.mark.parametrize(
    ("said", "units"), [("1.01", 1.01), ("10", 10), (7, 7), (0.5, 0.5), ("0", 0), ("1e2", 100), (" 3 ", 3)]
)
def test_a_charge_is_read(said: object, units: float):
    assert prices.charge(said) == units


@pytest.mark.parametrize(
    "said",
    [
        *("", "ten", "-1", "nan", "inf", "1" * 400, "9" * 19, "1,01", b"1", None, True, [1], {"quota": 1}),
        *(-0.5, float("nan"), float("inf"), 10**400, 1_000_001),
    ],
)
def test_what_cannot_be_a_charge_is_none(said: object):
    assert prices.charge(said) is None
