"""The books of a New-API relay: what it logs of each payment, and shows to the key that paid."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

PATH: Final = "/kling/v1/videos/text2video"


class Type(IntEnum):
    """What a row is about, as New-API numbers it."""

    TOP_UP = 1
    CONSUME = 2
    ERROR = 5
    REFUND = 6


@dataclass
class Row:
    """One row. `shown` has its fields without `other`, which is JSON text on the wire and a dict here.

    `key` is whose row it is, None for everybody's. `born` is when it was written, on the sandbox's clock, and
    `looks` how often the books had been read by then.
    """

    shown: dict[str, Any]
    other: dict[str, Any]
    key: str | None = field(repr=False)
    born: float
    looks: int


@dataclass
class Books:
    """How the books are kept. All fields may be changed while the relay runs.

    Args:
        logging: False: the relay writes no rows. What was written before, or with `Relay.add_row`, stays.
        task_ids: whether `other` has the task_id.
        request_ids: whether rows have the request_id of the answer.
        late_seconds: a row is shown so many seconds after it was written.
        late_looks: a row is left out of so many looks after it was written.
        most_rows: how many rows a look shows at most; the newest come first.
        of_every_key: the fault of showing the rows of all keys.
        refunds: whether a task that failed is paid back.
        calls: how many looks into log and usage together are allowed in `window` seconds; None: any number.
        granted: quota of each key.
        quota_per_unit: quota that makes up one USD.
        group_ratio: the factor on all prices.
    """

    logging: bool = True
    task_ids: bool = True
    request_ids: bool = True
    late_seconds: float = 0.0
    late_looks: int = 0
    most_rows: int = 100
    of_every_key: bool = False
    refunds: bool = True
    calls: int | None = 20
    window: float = 1200.0
    granted: int = 50_000_000
    quota_per_unit: int = 500_000
    group_ratio: float = 1.0
    rows: list[Row] = field(default_factory=list, init=False, repr=False)
    used: Counter[str | None] = field(default_factory=Counter, init=False, repr=False)
    looks: int = field(default=0, init=False)

    def quota(self, dollars: float) -> int:
        return round(dollars * self.group_ratio * self.quota_per_unit)

    def add(self, key: str | None, now: float, other: dict[str, Any], shown: dict[str, Any]) -> Row:
        """Write a row, whether or not logging is on. What is not given is as in a row about nothing."""
        usual = {
            "created_at": 0,
            "type": int(Type.CONSUME),
            "content": "",
            "token_name": "sandbox",
            "model_name": "",
            "quota": 0,
            "group": "default",
            "use_time": 1,
            "request_id": "",
        }
        row = Row(usual | shown, other, key, now, self.looks)
        self.rows.append(row)
        return row

    def charge(self, key: str | None, quota: int) -> None:
        """Count a payment of this key; less than 0 for a refund."""
        self.used[key] += quota

    def look(self, key: str, now: float) -> list[dict[str, Any]]:
        """What this key is shown. That counts as a look."""
        self.looks += 1
        seen = [
            self._shown(row)
            for row in reversed(self.rows)
            if (self.of_every_key or row.key in (None, key))
            and now >= row.born + self.late_seconds
            and self.looks - row.looks > self.late_looks
        ]
        seen.sort(key=lambda row: row["created_at"] if isinstance(row["created_at"], int) else 0, reverse=True)
        return seen[: self.most_rows]

    def _shown(self, row: Row) -> dict[str, Any]:
        hidden = () if self.request_ids else ("request_id",)
        other = {name: value for name, value in row.other.items() if self.task_ids or name != "task_id"}
        shown = {name: value for name, value in row.shown.items() if name not in hidden}
        # A row whose `other` was given as it is, for example as text that is no JSON.
        return {"other": json.dumps(other), **shown}

    def usage(self, key: str) -> dict[str, Any]:
        used = self.used[key] + self.used[None]
        return {
            "object": "token_usage",
            "name": "sandbox",
            "total_granted": self.granted,
            "total_used": used,
            "total_available": self.granted - used,
            "unlimited_quota": False,
            "model_limits": {},
            "model_limits_enabled": False,
            "expires_at": 0,
        }


def price_of(task_id: str, dollars: float, group_ratio: float, path: str = PATH) -> dict[str, Any]:
    """The `other` of a row about a task."""
    return {
        "is_task": True,
        "request_path": path,
        "model_price": dollars,
        "group_ratio": group_ratio,
        "task_id": task_id,
    }
