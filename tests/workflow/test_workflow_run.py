"""Running a plan: side by side, as ComfyUI does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import pytest
from canvas import PLAIN, SEND, Canvas, Send, plan, run_all

from nodes import workflow
from nodes.api.errors import GraphError
from nodes.workflow.prompt import PromptNode
from nodes.workflow.run import Ended, Results, run


@pytest.fixture
def canvas() -> Canvas:
    return Canvas()


def test_results_flow_along_the_wires(canvas: Canvas) -> None:
    shot, board, send, film = (
        canvas.node("Shot", "a", 3),
        canvas.node("Board"),
        canvas.node("Send", *SEND),
        canvas.node("Film", ""),
    )
    canvas.wire(shot, board, "shot_1")
    canvas.wire(shot, board, "shot_3")
    canvas.wire(board, send, "board")
    canvas.wire(send, film, "task_id")
    outcome, done = run_all(canvas.saved(), all_videos=True)
    assert done == ["1", "2", "3", "4"]
    assert outcome.outputs["2"] == ((("a", 3), ("a", 3)),)
    assert outcome.outputs["4"] == ("film of id-hello", "https://example.com")
    assert not outcome.errors


def waiting_class() -> tuple[type[Any], dict[str, asyncio.Event], list[str]]:
    """A class whose nodes wait for each other: each sets its own event and waits for the one it was told to."""
    events: dict[str, asyncio.Event] = {}
    log: list[str] = []

    class Wait:
        RETURN_TYPES = ("STRING",)
        RETURN_NAMES = ("task_id",)
        FUNCTION = "wait"
        OUTPUT_NODE = True

        @classmethod
        def INPUT_TYPES(cls):
            return {
                "required": {"sets": ("STRING", {}), "waits": ("STRING", {}), "fails": ("BOOLEAN", {})},
                "optional": {"after": ("STRING", {"forceInput": True})},
            }

        async def wait(self, sets, waits, fails, after=None):
            log.append(f"start {sets}")
            events.setdefault(sets, asyncio.Event()).set()
            await events.setdefault(waits, asyncio.Event()).wait()
            log.append(f"end {sets}")
            if fails:
                raise GraphError(f"{sets} failed")
            return (sets,)

    return Wait, events, log


def waits(sets: str, waits: str, fails: bool = False, after: list[Any] | None = None) -> dict[str, Any]:
    more = {"after": after} if after else {}
    return {"class_type": "Wait", "inputs": {"sets": sets, "waits": waits, "fails": fails, **more}}


def test_independent_nodes_run_side_by_side() -> None:
    cls, _, log = waiting_class()
    # One after another, the first would wait forever.
    outcome, _ = run_all({str(k): waits(str(k), str((k + 1) % 32)) for k in range(32)}, {"Wait": cls})
    assert len(outcome.outputs) == 32
    assert sorted(log[:32]) == sorted(f"start {k}" for k in range(32))


def test_a_node_that_fails_stops_only_what_needs_it() -> None:
    cls, _, log = waiting_class()
    data = {
        "bad": waits("bad", "bad", fails=True),
        "slow": waits("slow", "go"),  # still under way when "bad" has failed
        "next": waits("next", "next", after=["bad", 0]),
        "last": waits("last", "last", after=["next", 0]),
        "go": waits("go", "bad"),
        "also bad": waits("also bad", "slow", fails=True),
    }
    outcome, done = run_all(data, {"Wait": cls})
    assert {node: str(error) for node, error in outcome.errors.items()} == {
        "bad": "bad failed",
        "also bad": "also bad failed",
    }
    assert outcome.left_out == {"next": "bad", "last": "bad"}
    assert set(done) == {"slow", "go"}
    assert log.index("end bad") < log.index("end slow")


def test_a_node_that_was_ended_is_no_error() -> None:
    class Stop(Send):
        def send(self, **inputs):
            raise Ended

    outcome, done = run_all({"1": {"class_type": "Stop", "inputs": dict(PLAIN)}}, {"Stop": Stop})
    assert (outcome.errors, done, outcome.outputs) == ({}, [], {})


def test_a_run_that_is_ended_keeps_what_it_has() -> None:
    cls, _, _ = waiting_class()
    data = {
        "quick": waits("quick", "quick"),
        "never": waits("never", "nothing"),
        "bad": waits("bad", "quick", fails=True),
    }
    made = workflow.make_plan(workflow.read(data, {"Wait": cls}))
    outcome = Results()

    async def end_soon() -> None:
        task = asyncio.ensure_future(run(made, lambda node: nullcontext(), outcome, done=lambda node: None))
        while "quick" not in outcome.outputs:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(end_soon())
    assert outcome.outputs == {"quick": ("quick",)}
    assert list(outcome.errors) == ["bad"]


def test_hidden_inputs_are_filled_and_a_file_cannot_fill_them() -> None:
    class Nosy(Send):
        seen: ClassVar[dict[str, Any]] = {}

        @classmethod
        def INPUT_TYPES(cls):
            return {
                "required": {"text": ("STRING", {})},
                "hidden": {
                    "unique_id": "UNIQUE_ID",
                    "key": "API_KEY_COMFY_ORG",
                },
            }

        def send(self, **inputs):
            self.seen.update(inputs)
            return ("id", "")

    run_all({"5": {"class_type": "Nosy", "inputs": {"text": "", "unique_id": "9", "key": "sk-x"}}}, {"Nosy": Nosy})
    assert (Nosy.seen["unique_id"], Nosy.seen["key"]) == ("5", None)


def test_every_node_runs_in_a_host_of_its_own(canvas: Canvas) -> None:
    entered: list[str] = []

    @contextmanager
    def host_for(node: PromptNode) -> Iterator[None]:
        entered.append(node.id)
        yield
        entered.append(f"{node.id} left")

    shot, board, send = canvas.node("Shot", "a", 1), canvas.node("Board"), canvas.node("Send", *SEND)
    canvas.wire(shot, board, "shot_1")
    canvas.wire(board, send, "board")
    asyncio.run(run(plan(canvas.saved()), host_for, Results(), done=lambda node: None))
    assert entered == ["1", "1 left", "2", "2 left", "3", "3 left"]
