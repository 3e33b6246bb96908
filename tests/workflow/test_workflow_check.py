"""Checks before a run: all problems of all nodes in one message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
from canvas import CATALOGUE, PLAIN, Canvas, Send, Shot, plan, refused

from nodes import workflow
from nodes.api.errors import GraphError
from nodes.workflow.prompt import WorkflowError


@pytest.fixture
def canvas() -> Canvas:
    return Canvas()


def problem(**changes: Any) -> str:
    """What is said about an API file with one node whose inputs are wrong; None leaves an input out."""
    given = {name: value for name, value in {**PLAIN, **changes}.items() if value is not ...}
    return refused(
        {
            "1": {"class_type": "Send", "inputs": given},
            "2": {"class_type": "Shot", "inputs": {"text": "", "seconds": 1}},
        }
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("text", ..., "text has no value; enter one"),
        ("seed", ..., "seed has no value; enter 0 to 99"),
        ("seed", -1, "seed is -1; allowed: 0 to 99"),
        ("seed", 100, "seed is 100; allowed: 0 to 99"),
        ("seed", "many", "seed is the text 'many'; allowed: a whole number, 0 to 99"),
        ("seed", 1.5, "seed is 1.5; allowed: a whole number, 0 to 99"),
        ("seed", float("nan"), "seed is nan; allowed: a whole number"),
        ("seed", float("inf"), "seed is inf; allowed: a whole number"),
        ("seed", None, "seed is nothing; allowed: a whole number"),
        ("seed", "9" * 5000, "allowed: a whole number"),
        ("strength", 1.01, "strength is 1.01; allowed: 0.0 to 1.0"),
        ("strength", float("nan"), "strength is nan; allowed: 0.0 to 1.0"),
        ("strength", "strong", "strength is the text 'strong'; allowed: a number"),
        ("strength", 10**400, "allowed: a number"),
        ("loud", "false", "loud is the text 'false'; allowed: true or false"),
        ("loud", None, "loud is nothing; allowed: true or false"),
        ("text", None, "text is nothing; allowed: a text"),
        ("text", {"a": 1}, "text is {'a': 1}; allowed: a text"),
        ("text", {"__value__": ["a"]}, "text is ['a']; allowed: a text"),
        ("model", "v9", "model is 'v9'; allowed: v1, v2, v3"),
        ("model", 3, "model is '3'; allowed: v1, v2, v3"),
        ("model", {"__value__": ["v1"]}, "allowed: v1, v2, v3"),
        ("text", ["9", 0], "text comes from node 9, which is not in the file"),
        ("text", ["1"], "a link must be a list of a node id and an output number"),
        ("text", ["2", 0.5], "a link must be a list of a node id and an output number"),
        ("text", ["2", -1], "a link must be a list of a node id and an output number"),
        ("text", ["2", 0], "text takes STRING, but Shot (2) outputs SHOT"),
        ("text", [2, 0], "text takes STRING, but Shot (2) outputs SHOT"),
        ("text", ["2", 1], "text comes from output 1 of Shot (2), which has only 1 (counting from 0)"),
        ("board", ["2", 0], "board takes BOARD, but Shot (2) outputs SHOT"),
        (
            "bord",
            ["2", 0],
            "bord is linked, but Send has no such input; it has model, text, seed, strength, loud, board",
        ),
    ],
)
def test_values_that_comfyui_would_refuse_or_bend(name: str, value: Any, said: str) -> None:
    text = problem(**{name: value})
    assert text.startswith("1 problem; nothing was sent.\n  Send (1): ")
    assert said in text


@pytest.mark.parametrize(
    ("name", "value", "becomes"),
    [
        ("seed", "12", 12),
        ("seed", 12.0, 12),
        ("seed", True, 1),
        ("strength", "0.5", 0.5),
        ("strength", 1, 1.0),
        ("loud", 0, False),
        ("text", 5, "5"),
        ("text", {"__value__": "boxed"}, "boxed"),
    ],
)
def test_values_that_comfyui_converts(name: str, value: Any, becomes: Any) -> None:
    made = plan({"1": {"class_type": "Send", "inputs": {**PLAIN, name: value}}})
    found = made.order[0].inputs[name]
    assert (found, type(found)) == (becomes, type(becomes))


def test_all_problems_of_all_nodes_come_in_one_message(canvas: Canvas) -> None:
    shot = canvas.node("Shot", "a", 99, title="Too long")
    board, send = canvas.node("Board"), canvas.node("Send", "v9", None, 7, "fixed", 2, "x")
    canvas.wire(shot, board, "shot_2")
    canvas.wire(board, send, "board")
    canvas.wire(canvas.node("LoadText", "x"), shot, "text")
    lines = refused(canvas.saved()).splitlines()
    assert lines[0] == "7 problems; nothing was sent."
    assert [line.split(":")[0].strip() for line in lines[1:]] == ['Shot "Too long" (1)'] * 2 + ["Board (2)"] + [
        "Send (3)"
    ] * 4


def test_an_input_that_no_longer_exists_is_ignored_and_this_is_said() -> None:
    made = plan({"1": {"class_type": "Send", "inputs": {**PLAIN, "negativ": "x"}}})
    assert "Send (1): ignored unknown inputs: negativ" in made.notes


class Picky(Send):
    """Answers as it was told to."""

    answer: ClassVar[Any] = True
    asked: ClassVar[list[Any]] = []

    @classmethod
    def VALIDATE_INPUTS(cls, seed, text):
        cls.asked.append((seed, text))
        if isinstance(cls.answer, Exception):
            raise cls.answer
        return cls.answer


class Greedy(Send):
    """Takes every input for itself."""

    asked: ClassVar[list[Any]] = []

    @classmethod
    def VALIDATE_INPUTS(cls, **inputs):
        cls.asked.append(inputs)
        return True


@pytest.fixture
def choosy() -> Iterator[dict[str, type[Any]]]:
    yield {**CATALOGUE, "Picky": Picky, "Greedy": Greedy}
    Picky.answer = True
    for cls in (Picky, Greedy):
        cls.asked.clear()


def check(catalogue: dict[str, type[Any]], kind: str, **changes: Any) -> Any:
    data = {
        "1": {"class_type": kind, "inputs": {**PLAIN, **changes}},
        "2": {"class_type": "Shot", "inputs": {"text": "", "seconds": 1}},
    }
    return workflow.make_plan(workflow.read(data, catalogue))


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        ("add up to nothing", ["text, seed add up to nothing"]),
        (False, ["text, seed is refused"]),
        (
            GraphError("2 problems:\n- Picky, text: too dull\n- Picky, seed: too odd"),
            ["text: too dull", "seed: too odd"],
        ),
        (GraphError("no more today"), ["no more today"]),
    ],
)
def test_a_class_may_refuse_by_itself(choosy: dict[str, type[Any]], answer: Any, lines: list[str]) -> None:
    Picky.answer = answer
    with pytest.raises(WorkflowError) as error:
        check(choosy, "Picky")
    assert str(error.value).splitlines()[1:] == [f"  Picky (1): {line}" for line in lines]


def test_a_field_that_the_class_asks_for_is_left_to_it(choosy: dict[str, type[Any]]) -> None:
    check(choosy, "Picky", seed="500", text="x")
    assert Picky.asked == [(500, "x")]
    with pytest.raises(WorkflowError, match="strength is 2"):
        check(choosy, "Picky", strength=2)
    check(choosy, "Greedy", seed=500, strength=2, model="v9")
    assert Greedy.asked[-1]["model"] == "v9"


def test_links_and_broken_values_are_handed_over_as_none(choosy: dict[str, type[Any]]) -> None:
    with pytest.raises(WorkflowError) as error:
        check(choosy, "Picky", seed="odd", text=["2", 0])
    assert Picky.asked == [(None, None)]
    assert len(str(error.value).splitlines()) == 3


def test_a_class_that_asks_for_a_missing_field_is_asked_without_it(choosy: dict[str, type[Any]]) -> None:
    given = {name: value for name, value in PLAIN.items() if name != "seed"}
    loaded = workflow.read({"1": {"class_type": "Picky", "inputs": given}}, choosy)
    with pytest.raises(WorkflowError, match="seed has no value"):
        workflow.make_plan(loaded)
    assert Picky.asked == [(None, "hello")]


@pytest.mark.parametrize(
    ("given", "taken", "fits"),
    [("*", "INT", 1), ("INT,STRING", "STRING", 1), ("INT", "STRING", 0), (["a"], "COMBO", 1), (["a"], "STRING", 0)],
)
def test_link_types_meet_as_in_comfyui(given: Any, taken: str, fits: int) -> None:
    class Source(Shot):
        RETURN_TYPES = (given,)

    class Sink(Send):
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"value": (taken,)}}

    data = {
        "1": {"class_type": "Source", "inputs": {"text": "", "seconds": 1}},
        "2": {"class_type": "Sink", "inputs": {"value": ["1", 0]}},
    }
    loaded = workflow.read(data, {"Source": Source, "Sink": Sink})
    with nullcontext() if fits else pytest.raises(WorkflowError, match="value takes"):
        workflow.make_plan(loaded)
