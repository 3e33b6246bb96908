"""A run that sends nothing: finds every mistake, and tells what the real run would buy.

Only what comes before a request is run. Videos are left out, because asking for them needs the gateway.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from . import host
from .api.request.callback import reported_to
from .api.spending import prices
from .api.spending.limits import Limits, Spent
from .api.submit.step import Preview
from .workflow.prompt import PromptNode
from .workflow.run import Ended, Plan, Results, run


@dataclass
class Rehearsal:
    """What came of a plan without sending anything.

    Attributes:
        results: of the nodes; an error in it stops the real run.
        requests: every request that would be sent, with its URL, by the id of its node.
    """

    plan: Plan
    results: Results = field(default_factory=Results)
    requests: dict[str, tuple[Preview, str]] = field(default_factory=dict)

    def in_order(self) -> Iterator[tuple[Preview, str]]:
        """All requests and URLs, in the order of the plan."""
        return (self.requests[node.id] for node in self.plan.order if node.id in self.requests)

    def new(self) -> list[Preview]:
        """The requests that would make a new task. Nodes with the same request make one together."""
        by_id = {preview.body["external_task_id"]: preview for preview, _ in self.in_order() if preview.buys}
        return list(by_id.values())

    def units(self) -> float | None:
        """Kling's list price of all new tasks in units, None if one of them has no price."""
        units = [prices.estimate(preview.body) for preview in self.new()]
        return None if None in units else round(sum(filter(None, units)), 4)

    def summary(self) -> str:
        """What the real run would buy, in a sentence or two."""
        new = len(self.new())
        reused = len({preview.body["external_task_id"] for preview, _ in self.in_order()}) - new
        again = f" {_tasks(reused, '')} will be reused for free." if reused else ""
        bought = f"This run makes {_tasks(new, 'new ')}: {prices.in_words(self.units())}." if new else ""
        urls = (preview.body.get("callback_url") for preview, _ in self.in_order())
        hosts = sorted(set(filter(None, map(reported_to, urls))))
        reported = f" The results are reported to {', '.join(hosts)} (callback_url)." if hosts else ""
        return (bought + again + reported).strip()

    def check(self, limits: Limits, spent: list[Spent]) -> None:
        """Raise LimitError if the limits do not allow everything that the real run would buy."""
        now = time.time()
        for preview in self.new():
            units = prices.at_most(preview.body)
            limits.check(spent, units, now, is_guess=prices.estimate(preview.body) is None)
            spent = [*spent, Spent(now, units)]


async def rehearse(plan: Plan) -> Rehearsal:
    """Run the plan up to where it would send."""
    asking: set[str] = set()
    for node in plan.order:
        if plan.classes[node.class_type].makes_video or any(source in asking for source, _ in node.links().values()):
            asking.add(node.id)
    order = [node for node in plan.order if node.id not in asking]
    rehearsal = Rehearsal(Plan(plan.prompt, plan.classes, order))

    def host_for(node: PromptNode) -> AbstractContextManager[object]:
        return host.use(_DryRun(node.id, rehearsal))

    await run(rehearsal.plan, host_for, rehearsal.results, done=lambda node: None)
    return rehearsal


class _DryRun(host.ConsoleHost):
    """A host that takes the requests, so that they do not go to the gateway."""

    dry_run = True

    def __init__(self, node_id: str, rehearsal: Rehearsal) -> None:
        super().__init__(out=io.StringIO())
        self._node_id, self._rehearsal = node_id, rehearsal
        self._real = host.current()

    def state_dir(self) -> Path:
        return self._real.state_dir()

    def take_preview(self, preview: Preview, url: str) -> NoReturn:
        self._rehearsal.requests[self._node_id] = preview, url
        raise Ended


def _tasks(number: int, kind: str) -> str:
    return f"1 {kind}task" if number == 1 else f"{number} {kind}tasks"
