"""Kling's list prices in units, and the estimate for a request.

As of 2026-09. Sources: the price list of Kling's series 3.0 specification for kling-v3, Kling's general price list for
the others; prepaid, one unit is USD 0.14. A gateway bills by a table of its own, so an estimate is never called the
gateway's price. What the table does not have is unknown and is not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..request.capabilities import DURATIONS

DATE = "2026-09"
USD_PER_UNIT = 0.14

CHARGE_MAX = 1_000_000.0
"""No task costs more units. A larger number in an answer is a mistake of the gateway."""


class Price(NamedTuple):
    """The units of one model, mode and sound: by the second, or for the lengths that the model makes."""

    second: float | None = None
    lengths: Mapping[int, float] = {}

    def of(self, seconds: int) -> float | None:
        """Units for a video of this length, None if the list has no price for it."""
        return self.lengths.get(seconds) if self.second is None else round(self.second * seconds, 4)


def _clips(five: float, ten: float) -> Price:
    return Price(lengths={5: five, 10: ten})


PRICES: dict[tuple[str, str, str], Price] = {
    ("kling-v1", "std", "off"): _clips(1, 2),
    ("kling-v1", "pro", "off"): _clips(3.5, 7),
    ("kling-v1-6", "std", "off"): _clips(2, 4),
    ("kling-v1-6", "pro", "off"): _clips(3.5, 7),
    ("kling-v2-master", "std", "off"): _clips(10, 20),
    ("kling-v2-master", "pro", "off"): _clips(10, 20),
    ("kling-v2-1-master", "std", "off"): _clips(10, 20),
    ("kling-v2-1-master", "pro", "off"): _clips(10, 20),
    ("kling-v2-5-turbo", "std", "off"): _clips(1.5, 3),
    ("kling-v2-5-turbo", "pro", "off"): _clips(2.5, 5),
    ("kling-v3", "std", "off"): Price(second=0.6),
    ("kling-v3", "pro", "off"): Price(second=0.8),
    ("kling-v3", "std", "on"): Price(second=0.9),
    ("kling-v3", "pro", "on"): Price(second=1.2),
}
"""By model_name, mode and sound."""


class Tariff(NamedTuple):
    """Everything in a request that decides what it costs."""

    model_name: str
    mode: str
    sound: str
    seconds: int


def tariff(body: Mapping[str, Any]) -> Tariff | None:
    """The tariff of a request body; None for a body that is damaged."""
    seconds = body.get("duration")
    if not isinstance(seconds, str) or not (seconds.isascii() and seconds.isdecimal() and len(seconds) < 4):
        return None
    model, mode, sound = body.get("model_name"), body.get("mode"), body.get("sound", "off")
    if isinstance(model, str) and isinstance(mode, str) and isinstance(sound, str):
        return Tariff(model, mode, sound, int(seconds))
    return None


def estimate(body: Mapping[str, Any]) -> float | None:
    """Units by Kling's list price for a request body, None if the list has no price for it."""
    known = tariff(body)
    if known is None:
        return None
    price = PRICES.get((known.model_name, known.mode, known.sound))
    return price.of(known.seconds) if price else None


def at_most(body: Mapping[str, Any]) -> float:
    """Units to count for a request: the estimate, or the dearest price of the list for a video at least as long."""
    known = estimate(body)
    if known is not None:
        return known
    found = tariff(body)
    seconds = found.seconds if found else 0
    lengths = [length for length in DURATIONS if length >= seconds] or [DURATIONS[-1]]
    return max(price.of(length) or 0 for price in PRICES.values() for length in lengths)


def charge(value: object) -> float | None:
    """Units in an answer's ``final_unit_deduction``; None for anything that cannot be an amount."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and len(value) > 20:
        return None
    try:
        units = float(value)
    except (ValueError, OverflowError):
        return None
    return units if math.isfinite(units) and 0 <= units <= CHARGE_MAX else None


def in_usd(units: float) -> float:
    """Units at Kling's prepaid list price, in USD."""
    return round(units * USD_PER_UNIT, 4)


def in_words(units: float | None) -> str:
    """An estimate for the user, such as ``about 7.2 units (list price about USD 1.01)``."""
    if units is None:
        return "an unknown price (not in Kling's list)"
    amount = "1 unit" if units == 1 else f"{units:g} units"
    return f"about {amount} (list price about USD {in_usd(units):.2f})"
