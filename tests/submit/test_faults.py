"""Never pay twice, never lose a task, never exceed the limit, whatever a gateway does that it knows.

A longer run: pytest tests/submit/test_faults.py --fault-runs 5000 --fault-seed 7
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import fault_matrix
import pytest
from conftest import KEY
from environment import Environment
from fault_matrix import Case, Figures, ended_with, most_common, run_all
from fault_tools import Gate, Process, Watch, opened, wait_until
from fault_tools import request as graph
from graph import PLAIN

from nodes.api.errors import GraphError, OutcomeUnknown
from nodes.api.ledger.row import State
from nodes.api.submit.loop import Submission
from nodes.api.submit.loop import submit as submit_request
from nodes.host import ConsoleHost, use
from nodes.sandbox import Relay, Sandbox
from nodes.text2video import KlingText2Video

pytest_plugins = ["fault_fixtures"]


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Iterator[Figures]:
    """What a test came to; the summary at the end of the run adds it up."""
    total = Figures()
    yield total
    record_property("fault matrix", total.counts())


def test_every_misbehaviour_of_the_sandbox_is_tried() -> None:
    assert fault_matrix.untried() == set()


def test_every_fault_of_a_post_alone(tmp_path: Path, figures: Figures) -> None:
    found = run_all(fault_matrix.every_fault_alone(tmp_path))
    figures.add(found)
    assert not found.complaints, most_common(found.complaints)
    assert (found.paid_twice, found.lost) == (0, 0)


def test_every_fault_of_a_lookup_after_a_lost_answer(tmp_path: Path, figures: Figures) -> None:
    found = run_all(fault_matrix.every_fault_of_a_lookup(tmp_path))
    figures.add(found)
    assert not found.complaints, most_common(found.complaints)
    assert (found.paid_twice, found.lost) == (0, 0)


def test_every_fault_of_the_books_of_a_relay(tmp_path: Path, figures: Figures) -> None:
    found = run_all(fault_matrix.every_fault_of_the_books(tmp_path))
    figures.add(found)
    assert not found.complaints, most_common(found.complaints)
    assert (found.paid_twice, found.lost) == (0, 0)


@pytest.mark.timeout(0)  # --fault-runs says how long it takes
def test_random_sequences_of_faults(tmp_path: Path, figures: Figures, request: pytest.FixtureRequest) -> None:
    count = request.config.getoption("--fault-runs", default=100)
    seed = request.config.getoption("--fault-seed", default=1)
    found = run_all(fault_matrix.random_sequences(tmp_path, seed, count))
    figures.add(found)
    assert not found.complaints, most_common(found.complaints)
    assert (found.paid_twice, found.lost) == (0, 0)
    assert found.tasks > 0


def assert_kept(case: Case, figures: Figures, faults: int) -> Figures:
    """One more run of every graph of ``case`` gives its task, and nothing was paid twice."""
    case.other_faults += faults
    found = ended_with(case)
    figures.add(found)
    assert not found.complaints, most_common(found.complaints)
    return found


# A process that is killed. What kill() sends is SIGKILL, or TerminateProcess on Windows.


@pytest.mark.parametrize("fault", ["hang-after", "hang-before"])
@pytest.mark.parametrize("family", [Sandbox, Relay])
def test_a_process_killed_while_the_post_is_in_flight(
    tmp_path: Path, figures: Figures, fault: str, family: type[Sandbox]
) -> None:
    prompts = ["The first.", "The second.", "The third."]
    with family() as gateway:
        knows_external_ids = gateway.knows_external_ids
        case = Case(f"kill -9 in {fault}", gateway, tmp_path / "state", prompts)
        gateway.misbehave("create", "slow:0", fault, fault)
        with Process("submit", base_url=gateway.base_url, state=str(case.state), prompts=prompts) as process:
            process.go()
            wait_until(lambda: len(gateway.received) == 3, "all three are sent")
            with opened(gateway.base_url, case.state) as onlooker:
                wait_until(lambda: onlooker.ledger.rows(State.ACCEPTED), "the first answer is recorded")
                process.kill()
                assert len(onlooker.ledger.rows(State.SENDING)) == 2
        assert_kept(case, figures, faults=1)
        made = 3 if knows_external_ids or fault == "hang-after" else 1
        assert len(gateway.tasks) == made
        assert len(gateway.creates()) == 3 + (2 if knows_external_ids and fault == "hang-before" else 0)


def test_a_process_killed_while_another_one_waits_for_its_answer(tmp_path: Path, figures: Figures) -> None:
    with Sandbox() as gateway:
        case = Case("kill -9 of the one that sends", gateway, tmp_path / "state", ["The same."])
        gateway.misbehave("create", "hang-after")
        arguments = {"base_url": gateway.base_url, "state": str(case.state), "prompts": case.prompts}
        with Process("submit", **arguments) as one, Process("submit", **arguments) as other:
            one.go()
            wait_until(lambda: gateway.tasks, "the task is made")
            other.go()
            one.kill()
            (result,) = other.results()
        assert result["task_id"] in gateway.tasks and result["reused"]
        assert_kept(case, figures, faults=1)
        assert len(gateway.creates()) == 1


@pytest.mark.parametrize("fault", ["drop-after", "status-after:502", "slow:0.1"])
def test_two_processes_that_submit_the_same_graph_at_once(tmp_path: Path, figures: Figures, fault: str) -> None:
    with Sandbox() as gateway:
        case = Case(f"two processes and {fault}", gateway, tmp_path / "state", ["The same."])
        gateway.misbehave("create", fault)
        arguments = {"base_url": gateway.base_url, "state": str(case.state), "prompts": case.prompts * 3}
        with Process("submit", **arguments) as one, Process("submit", **arguments) as other:
            one.go()
            other.go()
            results = one.results() + other.results()
        (made,) = gateway.tasks
        assert [result.get("task_id", result) for result in results] == [made] * 6
        assert_kept(case, figures, faults=0)
        assert len(gateway.creates()) == 1


@pytest.mark.parametrize("fault", ["drop-before", "hang-before:0.1", "code:1303", "code:1301"])
def test_two_ledgers_on_one_directory_when_nothing_was_made(tmp_path: Path, figures: Figures, fault: str) -> None:
    with Sandbox() as gateway:
        case = Case(f"two ledgers and {fault}", gateway, tmp_path / "state", ["The same."])
        gateway.misbehave("create", fault)
        with opened(gateway.base_url, case.state) as one, opened(gateway.base_url, case.state) as other:

            async def both() -> list[object]:
                tries = [
                    submit_request(account, graph("The same."), 1, Watch())
                    for account in (one, other)
                    for _ in range(4)
                ]
                return await asyncio.gather(*tries, return_exceptions=True)

            kinds = {type(result) for result in asyncio.run(both())}
        assert kinds <= {Submission, OutcomeUnknown, GraphError}
        assert_kept(case, figures, faults=0)
        assert len(gateway.creates()) == 2


# Eight nodes in one prompt, as ComfyUI runs them: one event loop, closed by the first error


class Comfy(ConsoleHost):
    """Runs nodes side by side like ComfyUI, with a Cancel button."""

    class Interrupted(Exception):
        pass

    cancelled = False

    def raise_if_cancelled(self) -> None:
        if self.cancelled:
            raise self.Interrupted

    def prompt(self, prompts: list[str], *also: Callable[[], Awaitable[None]]) -> list[str]:
        """One click on Run. Gives the task_ids; the first error cancels all other nodes and is raised."""

        async def nodes() -> list[str]:
            runs = [KlingText2Video().submit(str(n), **{**PLAIN, "prompt": prompt}) for n, prompt in enumerate(prompts)]
            results = await asyncio.gather(*runs, *(one() for one in also))
            return [result["result"][0] for result in results[: len(prompts)]]

        with use(self):
            return asyncio.run(nodes())


@pytest.fixture
def gated(gate: Gate, environment: Environment) -> Iterator[Sandbox]:
    with Sandbox(log=gate) as gateway:
        environment.set("KLING_BASE_URL", gateway.base_url)
        environment.set("KLING_API_KEY", KEY)
        yield gateway
        gate.open()


def test_eight_nodes_of_which_one_is_refused(tmp_path: Path, figures: Figures, gated: Sandbox) -> None:
    host, state = Comfy(out=io.StringIO()), tmp_path / "state"
    prompts = [f"Scene {n}." for n in range(8)]
    case = Case("eight nodes, one refused", gated, state, prompts)
    gated.misbehave("create", *["slow:0.3"] * 4, "code:1301", *["slow:0.3"] * 3)
    with pytest.raises(GraphError, match="content"):
        host.prompt(prompts)
    # The loop is closed. Whatever had been sent by then is on its way, and its answer is still recorded.
    with opened(gated.base_url, state) as onlooker:
        wait_until(lambda: not onlooker.ledger.rows(State.SENDING), "the threads have recorded their answers")
        assert {row.task_id for row in onlooker.ledger.rows(State.ACCEPTED)} == set(gated.tasks)
    assert set(host.prompt(prompts)) == set(gated.tasks)
    assert len(gated.tasks) == 8 and len(gated.creates()) == 9
    assert_kept(case, figures, faults=1)


def test_cancel_while_eight_posts_are_in_flight(tmp_path: Path, figures: Figures, gated: Sandbox, gate: Gate) -> None:
    host, state = Comfy(out=io.StringIO()), tmp_path / "state"
    prompts = [f"Scene {n}." for n in range(8)]
    case = Case("eight nodes, Cancel", gated, state, prompts)
    gate.shut()

    async def cancel() -> None:
        await asyncio.to_thread(wait_until, lambda: gated.tasks, "the first task is made")
        host.cancelled = True

    with pytest.raises(Comfy.Interrupted):
        host.prompt(prompts, cancel)
    gate.open()
    with opened(gated.base_url, state) as onlooker:
        wait_until(lambda: not onlooker.ledger.rows(State.SENDING), "the threads have recorded their answers")
        assert {row.task_id for row in onlooker.ledger.rows(State.ACCEPTED)} == set(gated.tasks)
    host.cancelled = False
    assert set(host.prompt(prompts)) == set(gated.tasks)
    assert len(gated.tasks) == len(gated.creates()) == 8
    assert_kept(case, figures, faults=1)
