"""The fault matrix: every fault of a gateway alone, and in random sequences of everything that can go wrong.

Each case runs against a gateway and a state directory of its own, so that what one node met can be told. The
gateways are of both families, and no two relays in a row are alike. A case
ends with honest runs, and is then judged by three witnesses: the gateway's tasks, the ledger, and what the node
returned. What was promised and not kept is a complaint in words; a test asserts that there is none.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from body_schema import assert_all_bodies_fit
from fault_tools import FAST, LIMIT, PATIENT, Cancelled, Watch, opened, request

from nodes.api.errors import KlingError, LimitError, OutcomeUnknown
from nodes.api.ledger.row import State
from nodes.api.spending.limits import Limits
from nodes.api.submit.account import Account
from nodes.api.submit.loop import Submission
from nodes.api.submit.loop import submit as submit_request
from nodes.sandbox import Books, Relay, Sandbox
from nodes.sandbox.bodies import CREATE_SHAPES, GATEWAY, KLING, QUERY_SHAPES
from nodes.sandbox.book_faults import RELAY_KINDS
from nodes.sandbox.faults import ODD_IDS
from nodes.sandbox.relay import CREATE_SHAPES as RELAY_SHAPES

TIMEOUT = 1.0
"""Until an answer that never comes is given up; time enough, also on a busy machine, for the gateway to read a POST."""

# Everything that can be said instead of an answer. The suffixes of a POST are added below.
SILENT = ["drop", "reset", "truncated", "empty", "garbage", "object", "null", "no-task-id", "other-task"]
ODD = [f"odd-id:{name}" for name in ODD_IDS]
STATUSES = [f"status:{code}" for code in (200, 408, 500, 502, 503, 504, 520, 524)] + ["json-status:500"]
DOUBTFUL = ["code:5000", "code:5002"]
REFUSALS = [f"code:{code}" for code in KLING if code not in (1302, 1303, 5000, 5001, 5002)]
BUSY = [f"code:{code}:retry-after={pause}" for code in (1302, 1303, 5001) for pause in ("0", "date+0")]
SPOKEN = [
    *(f"gateway:{name}" for name in GATEWAY),
    *(f"gateway:fail_to_fetch_task:{code}" for code in (1102, 1301, 1303, 5000)),
    *(f"code:{code}" for code in (1302, 1303, 5001)),
    "code:1301:http=200",
    "code:1301:http=500",
    "unavailable",
    "unavailable:retry-after=0",
    "redirect:https://elsewhere.example/",
    *(f"echo-key:{shape}" for shape in ("gateway", "kling", "html")),
    "slow:0.05",
    "then-close",
]
HANGS = ["hang:0.05", "hang"]


def with_suffix(fault: str, suffix: str) -> str:
    name, colon, argument = fault.partition(":")
    return f"{name}-{suffix}{colon}{argument}"


BEFORE = [with_suffix(fault, "before") for fault in (*SILENT, *ODD, *STATUSES, *DOUBTFUL, *HANGS)]
AFTER = [with_suffix(fault, "after") for fault in (*SILENT, *ODD, *STATUSES, *DOUBTFUL, *HANGS)]
LIES = [with_suffix(fault, "after") for fault in (*REFUSALS, "code:1303", "code:5001")]
"""A refusal although the task was made. Only a gateway that knows external ids can be forgiven this."""

CREATE = [*BEFORE, *AFTER, *REFUSALS, *BUSY, *SPOKEN, *(f"shape:{name}" for name in CREATE_SHAPES)]
QUERY = [
    *SILENT,
    *ODD,
    *STATUSES,
    *DOUBTFUL,
    *REFUSALS,
    *BUSY,
    *SPOKEN,
    "hang:0.05",
    "processing",
    *(f"shape:{name}" for name in QUERY_SHAPES),
]
LYING_QUERY = ["not-found"]
"""As Kling says it of an id that was never used. Of a relay that knows only its own ids it would prove nothing."""

BOOKS = [
    *("drop", "reset", "truncated", "empty", "garbage", "object", "null", "hang:0.05", "html", "huge:5000000"),
    *("unauthorized", "unknown-key", "limited", "status:502", "json-status:500", "code:1002", "gateway:invalid_token"),
    *("unavailable:retry-after=0", "redirect:https://elsewhere.example/", "echo-key", "slow:0.05", "then-close"),
    *("data:null", "data:{}", "data:[]", 'data:[1, null, "text", [], {}]', "data:text"),
    *("row:quota=-5", "row:quota=many", "row:quota=null", "row:created_at=null", "row:created_at=soon"),
    *("row:type=6", "row:type=consume", "row:model_name=null", "row:model_name=kling-v9", "row:request_id=null"),
    *("row:other=no JSON", "row:other=[]", "row:other=null", 'row:other={"is_task": true}', "ahead:86400"),
    *(
        "other:task_id=null",
        "other:task_id=true",
        "other:task_id=",
        "other:task_id=task_of_nobody",
        "other:is_task=false",
    ),
    "other:request_path=/kling/v1/videos/image2video",
]
"""What a look into a relay's books can bring instead of true rows."""


def untried() -> set[str]:
    """The kinds of misbehaviour that the sandbox has and this matrix does not."""
    tries = {"create": [*CREATE, *LIES], "query": [*QUERY, *LYING_QUERY], "books": BOOKS}
    return {
        f"{on} {name}"
        for on, faults in tries.items()
        for name in RELAY_KINDS[on].keys() - {fault.partition(":")[0] for fault in faults}
    }


def relay_number(number: int) -> Relay:
    """A relay. Those of a few numbers in a row have, together, all that relays are known to differ in."""
    chance = random.Random(f"relay {number}")
    books = Books(
        logging=number % 9 != 8,
        task_ids=number % 7 != 6,
        request_ids=chance.random() < 0.6,
        late_looks=chance.choice([0, 0, 1]),
        late_seconds=chance.choice([0.0, 0.0, 0.05]),
        calls=chance.choice([20, 20, 3]),
    )
    relay = Relay(
        books=books,
        create_shape=RELAY_SHAPES[number % 2],
        inner_answer=number % 5 != 4,
        takes_request_ids=number % 3 == 2,
        version=chance.choice([None, "v0.9.23"]),
        clock_offset=chance.choice([0.0, 0.0, 3600.0, -86400.0]),
    )
    if relay.inner_answer and chance.random() < 0.3:
        # Only the inner answer tells such a task from ours.
        relay.sell_elsewhere("kling-v3", external_task_id="somebody-elses")
    return relay


@dataclass
class Figures:
    """What all cases came to together."""

    faults: int = 0
    submissions: int = 0
    runs: int = 0
    tasks: int = 0
    limited: int = 0
    paid_twice: int = 0
    lost: int = 0
    complaints: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, other: Figures) -> None:
        with self._lock:
            for name, count in other.counts().items():
                setattr(self, name, getattr(self, name) + count)
            self.complaints += other.complaints

    def counts(self) -> dict[str, int]:
        return {
            name: getattr(self, name)
            for name in ("submissions", "runs", "faults", "tasks", "limited", "paid_twice", "lost")
        }


class Case:
    """One gateway, one state directory, and the judgement on them.

    Args:
        name: says in a complaint what was tried.
        prompts: one graph each.
    """

    def __init__(self, name: str, gateway: Sandbox, state: Path, prompts: list[str]) -> None:
        self.name, self.gateway, self.state, self.prompts = name, gateway, state, prompts
        self.figures = Figures(submissions=len(prompts))
        self.other_faults = 0

    def complain(self, text: str) -> None:
        self.figures.complaints.append(f"{self.name}: {text}")

    def run(self, account: Account, prompt: str) -> Submission | KlingError:
        """One node as ComfyUI runs it: its own event loop. What else is raised than we promise ends the test."""
        self.figures.runs += 1
        try:
            return asyncio.run(submit_request(account, request(prompt), 1, Watch()))
        except KlingError as error:
            return error

    def made_for(self, prompt: str) -> list[str]:
        return [task_id for task_id, task in self.gateway.tasks.items() if task.body["prompt"] == prompt]

    def judge(self, prompt: str, result: Submission | KlingError) -> None:
        """After the last run, which was an honest one."""
        made = self.made_for(prompt)
        self.figures.tasks += len(made)
        if len(made) > 1:
            self.figures.paid_twice += 1
            self.complain(f"{len(made)} tasks for one submission")
        if isinstance(result, Submission):
            if result.task_id not in made:
                self.complain(f"returned {result.task_id}, but the gateway made {made}")
        elif self.gateway.knows_external_ids or not isinstance(result, OutcomeUnknown):
            self.figures.lost += len(made)
            self.complain(f"ended with {result!r}")
        if not self.gateway.knows_external_ids:
            # Nothing can be proven here, so a POST after which a task may exist has to be the last one.
            posts = [one for one in self.gateway.received if one.method == "POST" and one.json["prompt"] == prompt]
            for post in posts[:-1]:
                if post.task_id or post.fault in BEFORE:
                    self.complain(f"sent again after {post.fault}")

    def check_ledger(self) -> None:
        with closing(sqlite3.connect(self.state / "ledger.db")) as connection:
            rows = connection.execute("SELECT external_task_id, state, task_id FROM submissions").fetchall()
        known = {external_task_id: (state, task_id) for external_task_id, state, task_id in rows}
        tasks = self.gateway.tasks
        for external_task_id, (state, recorded) in known.items():
            if state == State.ACCEPTED and (
                recorded not in tasks or tasks[recorded].external_task_id != external_task_id
            ):
                self.complain(f"the ledger has {recorded} for {external_task_id}, which is another's or nobody's")
        for task_id, task in tasks.items():
            state, recorded = known.get(task.external_task_id, ("missing", None))
            unknown_to_us = state in (State.SENDING, State.UNKNOWN) and not self.gateway.knows_external_ids
            if not unknown_to_us and (state, recorded) != (State.ACCEPTED, task_id):
                self.figures.lost += 1
                self.complain(f"the ledger has {state} {recorded} for the task {task_id}")

    def close(self) -> Figures:
        self.check_ledger()
        assert_all_bodies_fit(self.gateway)
        self.figures.faults += sum(1 for received in self.gateway.received if received.fault) + self.other_faults
        return self.figures


def alone(fault: str, state: Path, *, on_query: str = "", on_books: str = "", relay: int | None = None) -> Figures:
    """One fault, then the same graph again: by the same process and by the next one.

    Args:
        on_query: what every look-up meets.
        on_books: what every look into the books meets.
        relay: its number; None: a gateway that knows external ids.
    """
    name = ", then ".join(filter(None, (fault, on_query and f"{on_query} for look-ups", on_books)))
    with Sandbox() if relay is None else relay_number(relay) as gateway:
        gateway.misbehave("create", fault)
        gateway.misbehave("query", *[on_query] * 200 * bool(on_query))
        if on_books:
            gateway.misbehave("books", *[on_books] * 20)
        case = Case(name if relay is None else f"{name} at relay {relay}", gateway, state, ["A lighthouse."])
        timeout = TIMEOUT if fault.startswith("hang") else LIMIT
        with opened(gateway.base_url, state, FAST, timeout) as account:
            first = case.run(account, "A lighthouse.")
        gateway.clear_faults()
        made = case.made_for("A lighthouse.")
        said = [first.task_id] if isinstance(first, Submission) else []
        if said != made and fault not in LIES and not isinstance(first, OutcomeUnknown):
            case.complain(f"said {first!r} while the gateway has {made}")
        with opened(gateway.base_url, state, PATIENT if gateway.knows_external_ids else FAST) as account:
            second = case.run(account, "A lighthouse.")
            third = case.run(account, "A lighthouse.")
        if isinstance(second, Submission) and (not isinstance(third, Submission) or third.task_id != second.task_id):
            case.complain(f"said {second!r}, then {third!r}")
        case.judge("A lighthouse.", second)
        return case.close()


def ended_with(case: Case) -> Figures:
    """After whatever has happened to the graphs of a case: one more run of each, by a new process."""
    case.gateway.clear_faults()
    pace = PATIENT if case.gateway.knows_external_ids else FAST
    with opened(case.gateway.base_url, case.state, pace) as account:
        for prompt in case.prompts:
            case.judge(prompt, case.run(account, prompt))
    return case.close()


# Random sequences

CALM = 0.4
"""The share of requests in a random sequence that meet no fault."""


class Sequence(Case):
    """One random story: some graphs, run again and again by processes that come and go, while everything fails.

    In half of them a small limit is in force, which is raised now and then.
    """

    def __init__(self, seed: int, number: int, gateway: Sandbox, state: Path) -> None:
        self.random = random.Random(f"{seed}/{number}")
        graphs = self.random.randint(1, 4)
        super().__init__(f"sequence {number} of seed {seed}", gateway, state, [f"Scene {n}." for n in range(graphs)])
        self.limit = self.random.choice([0, 0, 1, 2])
        gateway.slots = self.random.choice([None, None, 1, 2])
        gateway.queued_for = gateway.runs_for = 0.005
        knows = gateway.knows_external_ids
        creates, queries = (
            [*CREATE, *(LIES if knows and not self.limit else [])],
            [*QUERY, *(LYING_QUERY * 20 if knows else [])],
        )
        gateway.misbehave("create", *self.choose(creates, "slow:0", 12))
        gateway.misbehave("query", *self.choose(queries, "slow:0", 30))
        if isinstance(gateway, Relay):
            gateway.misbehave("books", *self.choose(BOOKS, "slow:0", 12))

    def choose(self, faults: list[str], none: str, most: int) -> list[str]:
        count = self.random.randint(0, most)
        return [none if self.random.random() < CALM else self.random.choice(faults) for _ in range(count)]

    def tell(self) -> Figures:
        for _ in range(self.random.randint(1, 4)):
            self.process()
            self.check_limit()
            if self.limit and self.random.random() < 0.3:
                self.limit += 1
            # What a damaged ledger has lost cannot count.
            if not self.limit and self.gateway.knows_external_ids and self.random.random() < 0.1:
                self.damage_the_ledger()
        self.check_limit()
        self.gateway.slots = None
        return ended_with(self)

    def check_limit(self) -> None:
        """All of this happens within an hour. A refusal that lies about its task is not among the faults here."""
        made = len(self.gateway.tasks)
        if self.limit and made > self.limit:
            self.complain(f"{made} tasks with a limit of {self.limit}")

    def process(self) -> None:
        """A process lives for one or two prompts. It ends without waiting for what is still on its way."""
        with opened(self.gateway.base_url, self.state, FAST, create_timeout=TIMEOUT) as account:
            for _ in range(self.random.randint(1, 2)):
                asyncio.run(self.prompt(account))

    async def prompt(self, account: Account) -> None:
        """All graphs side by side, some of them twice, ended by Cancel or by a sibling's error, or not at all."""
        chosen = [prompt for prompt in self.prompts for _ in range(self.random.choice([1, 1, 1, 2]))]
        watch = Watch()
        self.figures.runs += len(chosen)
        nodes = [asyncio.ensure_future(self.node(account, prompt, watch)) for prompt in chosen]
        end = self.random.choice(["none", "none", "cancel", "sibling"])
        if end != "none":
            self.other_faults += 1
            await asyncio.wait(nodes, timeout=self.random.random() * 0.1)
            if end == "sibling":
                return  # asyncio.run cancels what is left and closes the loop, as in ComfyUI
            watch.cancelled = True
        await asyncio.gather(*nodes)

    async def node(self, account: Account, prompt: str, watch: Watch) -> None:
        try:
            submission = await submit_request(account, request(prompt), 1, watch, Limits(self.limit))
        except (KlingError, Cancelled) as error:
            self.figures.limited += isinstance(error, LimitError)
            return
        if submission.task_id not in self.made_for(prompt):
            self.complain(f"returned {submission.task_id}, which is not the graph's")

    def damage_the_ledger(self) -> None:
        self.other_faults += 1
        for path in self.state.glob("ledger.db-*"):
            path.unlink()
        (self.state / "ledger.db").write_bytes(self.random.randbytes(5000))


def sequence(seed: int, number: int, state: Path) -> Figures:
    """Two of five are told at a relay."""
    with relay_number(seed + number) if number % 5 in (1, 3) else Sandbox() as gateway:
        return Sequence(seed, number, gateway, state).tell()


# Many at once


def every_fault_alone(root: Path) -> Iterator[Callable[[], Figures]]:
    for number, fault in enumerate([*CREATE, *LIES]):
        yield partial(alone, fault, root / f"alone-{number}")
    for number, fault in enumerate(CREATE):
        yield partial(alone, fault, root / f"relay-{number}", relay=number)


def every_fault_of_a_lookup(root: Path) -> Iterator[Callable[[], Figures]]:
    for number, fault in enumerate([*QUERY, *LYING_QUERY]):
        yield partial(alone, "drop-after", root / f"query-{number}", on_query=fault)
    for number, fault in enumerate(QUERY):
        lost = ("status-before:502", "drop-after")[number % 2]
        yield partial(alone, lost, root / f"relay-query-{number}", on_query=fault, relay=number)


def every_fault_of_the_books(root: Path) -> Iterator[Callable[[], Figures]]:
    for number, fault in enumerate(BOOKS):
        lost = ("drop-after", "status-after:502", "drop-before")[number % 3]
        yield partial(alone, lost, root / f"books-{number}", on_books=fault, relay=number)


def random_sequences(root: Path, seed: int, count: int) -> Iterator[Callable[[], Figures]]:
    for number in range(count):
        yield partial(sequence, seed, number, root / f"sequence-{number}")


def run_all(cases: Iterator[Callable[[], Figures]], side_by_side: int = 8) -> Figures:
    total = Figures()
    with ThreadPoolExecutor(side_by_side) as pool:
        for figures in pool.map(lambda case: case(), cases):
            total.add(figures)
    return total


def most_common(complaints: list[str]) -> str:
    return "\n".join(text for text, _ in Counter(complaints).most_common(20))
