"""Editor format -> prompt.

That the conversion agrees with ComfyUI's front end was found out by drawing thousands of random graphs and asking the
front ends 1.27, 1.35 and 1.58 for their prompts. These tests hold on to what was learnt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from canvas import PLAIN, SEND, Canvas, inputs, plan, read, refused, run_all, sub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.workflow.prompt import WorkflowError


@pytest.fixture
def canvas() -> Canvas:
    return Canvas()


# ---- fields ----


@pytest.mark.parametrize("version", [0.4, 1])
def test_fields_and_links_are_read_from_both_versions(canvas: Canvas, version: float) -> None:
    shot = canvas.node("Shot", "a wave", 3)
    board = canvas.node("Board")
    send = canvas.node("Send", *SEND)
    canvas.wire(shot, board, "shot_1")
    canvas.wire(board, send, "board")
    data = canvas.saved(version=version)
    assert inputs(data, 1) == {"text": "a wave", "seconds": 3}
    assert inputs(data, 2) == {"shot_1": ["1", 0]}
    assert inputs(data, 3) == {**PLAIN, "board": ["2", 0]}


def test_the_extra_value_of_a_control_widget_shifts_nothing(canvas: Canvas) -> None:
    node = canvas.node("Send", "v1", "text", 5, "randomize", 0.75, False)
    assert inputs(canvas.saved(), node["id"]) == {
        "model": "v1",
        "text": "text",
        "seed": 5,
        "strength": 0.75,
        "loud": False,
    }


def test_field_values_may_stand_by_name(canvas: Canvas) -> None:
    canvas.node("Send", widgets_values={"text": "named", "model": "v1", "videopreview": {}})
    canvas.node("Send", widgets_values_named={"text": "beside"})
    assert inputs(canvas.saved(), 1) == {"model": "v1", "text": "named", "seed": 0, "strength": 0.5, "loud": False}
    assert inputs(canvas.saved(), 2)["text"] == "beside"


def test_fields_that_the_file_does_not_know_stand_at_their_default(canvas: Canvas) -> None:
    canvas.node("Send", "v1", "short")
    canvas.node("Shot")
    assert inputs(canvas.saved(), 1) == {"model": "v1", "text": "short", "seed": 0, "strength": 0.5, "loud": False}
    assert inputs(canvas.saved(), 2) == {"text": "once", "seconds": 5}


def test_a_link_into_a_field_replaces_its_value(canvas: Canvas) -> None:
    text = canvas.node("PrimitiveString", "wired")
    send = canvas.node("Send", *SEND)
    canvas.wire(text, send, "text")
    assert inputs(canvas.saved(), send["id"])["text"] == ["1", 0]


def test_files_without_unlinked_field_slots_read_the_same(canvas: Canvas) -> None:
    text = canvas.node("PrimitiveString", "wired")
    send = canvas.node("Send", *SEND)
    canvas.wire(text, send, "text")
    send["inputs"] = [slot for slot in send["inputs"] if slot["link"]]  # as in the metadata of an image
    assert inputs(canvas.saved(), send["id"]) == {**PLAIN, "text": ["1", 0]}


def test_a_list_in_a_field_does_not_read_as_a_link(canvas: Canvas) -> None:
    canvas.node("Send", ["1", 0], "text", 5, "fixed", 0.75, False)
    assert inputs(canvas.saved(), 1)["model"] == {"__value__": ["1", 0]}


# ---- nodes that are not run ----


def test_a_chain_of_reroutes_hands_on_its_first_input(canvas: Canvas) -> None:
    before = canvas.node("Shot", "a", 1)
    last = before
    for _ in range(3000):  # longer than Python's stack
        reroute = canvas.node("Reroute")
        canvas.wire(last, reroute, "")
        last = reroute
    board = canvas.node("Board")
    canvas.wire(last, board, "shot_1")
    assert inputs(canvas.saved(), board["id"]) == {"shot_1": ["1", 0]}


def test_an_unconnected_reroute_leaves_the_field_as_it_is(canvas: Canvas) -> None:
    send = canvas.node("Send", *SEND)
    canvas.wire(canvas.node("Reroute"), send, "text")
    assert inputs(canvas.saved(), send["id"]) == PLAIN


@pytest.mark.parametrize("mode", [0, 2, 4])
def test_a_primitive_node_writes_its_value_whatever_its_mode(canvas: Canvas, mode: int) -> None:
    send = canvas.node("Send", *SEND)
    canvas.wire(canvas.node("PrimitiveNode", 42, "randomize", mode=mode), send, "seed")
    assert inputs(canvas.saved(), send["id"]) == {**PLAIN, "seed": 42}


def test_a_primitive_node_reaches_through_reroutes_and_into_subgraphs(canvas: Canvas) -> None:
    inner = sub()
    send = inner.node("Send", *SEND)
    inner.enter("words", "STRING", (send, "text"))
    use = canvas.use(inner, "on the face")
    reroute = canvas.node("Reroute")
    canvas.wire(canvas.node("PrimitiveNode", "constant"), reroute, "")
    canvas.wire(reroute, use, "words")
    assert inputs(canvas.saved(inner), "1:1")["text"] == "constant"


def test_a_primitive_node_that_never_had_a_value_changes_nothing(canvas: Canvas) -> None:
    send = canvas.node("Send", *SEND)
    canvas.wire(canvas.node("PrimitiveNode"), send, "text")
    assert inputs(canvas.saved(), send["id"]) == PLAIN


def test_notes_and_virtual_nodes_are_no_part_of_the_prompt(canvas: Canvas) -> None:
    canvas.node("Note", "read me")
    canvas.node("MarkdownNote", "# read me")
    canvas.node("Reroute")
    canvas.node("PrimitiveNode", 1)
    send = canvas.node("Send", *SEND)
    assert list(read(canvas.saved()).prompt.nodes) == [str(send["id"])]


def test_comfyui_s_own_constants_are_evaluated(canvas: Canvas) -> None:
    send = canvas.node("Send", *SEND)
    wires: dict[str, tuple[Any, ...]] = {
        "text": ("PrimitiveStringMultiline", "two\nlines"),
        "seed": ("PrimitiveInt", 9, "fixed"),
        "strength": ("PrimitiveFloat", 0.5),
        "loud": ("PrimitiveBoolean", False),
    }
    for name, (kind, *values) in wires.items():
        canvas.wire(canvas.node(kind, *values), send, name)
    outcome, _ = run_all(canvas.saved())
    assert outcome.inputs["1"] == {
        "model": "v3",
        "text": "two\nlines",
        "seed": 9,
        "strength": 0.5,
        "loud": False,
    }


# ---- bypassed and muted ----


def test_a_bypassed_node_hands_on_the_input_in_the_same_place_if_it_fits(canvas: Canvas) -> None:
    texts = [canvas.node("PrimitiveString", text) for text in "ab"]
    join = canvas.node("JoinText", "", "", mode=4)
    canvas.wire(texts[0], join, "first")
    canvas.wire(texts[1], join, "second")
    send = canvas.node("Send", *SEND)
    canvas.wire(join, send, "text")
    assert inputs(canvas.saved(), send["id"])["text"] == ["1", 0]


def test_else_the_first_input_of_exactly_that_type(canvas: Canvas) -> None:
    seed, text = canvas.node("PrimitiveInt", 3), canvas.node("PrimitiveString", "x")
    first = canvas.node("Send", *SEND, mode=4)  # inputs: board, model, text, seed ...; output 0 is a text
    canvas.wire(text, first, "text")
    canvas.wire(seed, first, "seed")
    film = canvas.node("Film", "own")
    canvas.wire(first, film, "task_id")
    assert inputs(canvas.saved(), film["id"]) == {"task_id": ["2", 0]}


def test_else_the_first_that_takes_anything(canvas: Canvas) -> None:
    shot, first = canvas.node("Shot", "a", 1), canvas.node("AnyThing", mode=4)
    canvas.wire(shot, first, "anything")
    board = canvas.node("Board")
    canvas.wire(first, board, "shot_1")
    assert inputs(canvas.saved(), board["id"]) == {"shot_1": ["1", 0]}


def test_a_receiver_that_takes_anything_gets_the_same_place_or_the_first(canvas: Canvas) -> None:
    texts = [canvas.node("PrimitiveString", text) for text in "ab"]
    shot = canvas.node("Shot", "", 1, mode=4)
    canvas.wire(texts[0], shot, "text")
    sink = canvas.node("AnyThing")
    canvas.wire(shot, sink, "anything")
    assert inputs(canvas.saved(), sink["id"]) == {"anything": ["1", 0]}
    send = canvas.node("Send", *SEND, mode=4)
    other = canvas.node("AnyThing")
    canvas.wire(texts[1], send, "model")  # input 1, as board is input 0
    canvas.wire(send, other, "anything", output=1)
    assert inputs(canvas.saved(), other["id"]) == {"anything": ["2", 0]}


def test_when_nothing_fits_the_receiver_keeps_its_value(canvas: Canvas) -> None:
    shot = canvas.node("Shot", "a", 1)
    board = canvas.node("Board", mode=4)
    canvas.wire(shot, board, "shot_1")
    send = canvas.node("Send", *SEND)
    canvas.wire(board, send, "board")
    canvas.wire(canvas.node("Board", mode=4), send, "text")
    assert inputs(canvas.saved(), send["id"]) == PLAIN


def test_bypassed_nodes_in_a_row_hand_on_and_do_not_run(canvas: Canvas) -> None:
    text = canvas.node("PrimitiveString", "x")
    joins = [canvas.node("JoinText", "", "", mode=4) for _ in range(2)]
    canvas.wire(text, joins[0], "first")
    canvas.wire(joins[0], joins[1], "second")
    send = canvas.node("Send", *SEND)
    canvas.wire(joins[1], send, "text")
    # Output 0 stands beside input "first", which has no wire: the field keeps its value, as in the front end.
    assert inputs(canvas.saved(), send["id"])["text"] == "hello"
    joins[1]["inputs"].reverse()
    assert inputs(canvas.saved(), send["id"])["text"] == ["1", 0]
    assert set(read(canvas.saved()).prompt.nodes) == {"1", "4"}


@pytest.mark.parametrize(("one", "other"), [("STRING,INT", "INT"), ("string", "STRING"), ("*", "INT"), ("0", "INT")])
def test_types_meet_as_the_front_end_lets_them(canvas: Canvas, one: str, other: str) -> None:
    number = canvas.node("PrimitiveInt", 3)
    node = canvas.node("AnyThing", mode=4)
    node["inputs"][0]["type"] = one
    node["outputs"][0]["type"] = one
    canvas.wire(number, node, "anything")
    sink = canvas.node("AnyThing")
    sink["inputs"][0]["type"] = other
    canvas.wire(node, sink, "anything")
    assert inputs(canvas.saved(), sink["id"]) == {"anything": ["1", 0]}


def test_a_muted_source_takes_an_optional_input_away_and_this_is_said(canvas: Canvas) -> None:
    board = canvas.node("Board", mode=2, title="Story")
    send = canvas.node("Send", *SEND)
    canvas.wire(board, send, "board")
    made = plan(canvas.saved())
    assert made.order[0].inputs == PLAIN
    assert 'Send (2): board is not connected, its source Board "Story" (1) is muted' in made.notes
    assert 'skipped: Board "Story" (1) is muted' in made.notes


def test_a_muted_source_of_a_field_is_a_problem_and_not_the_value_saved_last(canvas: Canvas) -> None:
    send = canvas.node("Send", *SEND)
    canvas.wire(canvas.node("PrimitiveString", "x", mode=2), send, "text")
    assert "Send (1): text has no value; its source PrimitiveString (2) is muted" in refused(canvas.saved())


# ---- subgraphs ----


def test_a_subgraph_is_taken_apart(canvas: Canvas) -> None:
    inner = sub()
    board = inner.node("Board", id=7)
    send = inner.node("Send", *SEND, id=8)
    inner.wire(board, send, "board")
    inner.enter("shot", "SHOT", (board, "shot_1"), (board, "shot_3"))
    inner.leave("task", "STRING", send)
    shot = canvas.node("Shot", "a", 1)
    use = canvas.use(inner, id=12)
    film = canvas.node("Film", "")
    canvas.wire(shot, use, "shot")
    canvas.wire(use, film, "task_id")
    data = canvas.saved(inner)
    assert set(read(data).prompt.nodes) == {"1", "12:7", "12:8", "3"}
    assert inputs(data, "12:7") == {"shot_1": ["1", 0], "shot_3": ["1", 0]}
    assert inputs(data, "12:8")["board"] == ["12:7", 0]
    assert inputs(data, 3) == {"task_id": ["12:8", 0]}


@pytest.mark.parametrize("side_by_side", [True, False])
def test_a_subgraph_in_a_subgraph(canvas: Canvas, side_by_side: bool) -> None:
    deep, middle = sub("deep"), sub("middle")
    send = deep.node("Send", *SEND)
    deep.enter("words", "STRING", (send, "text"))
    deep.leave("task", "STRING", send)
    inner = middle.use(deep, "deep face", id=5)
    middle.enter("words", "STRING", (inner, "words"))
    middle.leave("task", "STRING", inner)
    text = canvas.node("PrimitiveString", "x")
    linked, free = canvas.use(middle, "unused", id=20), canvas.use(middle, "outer face", id=21)
    film = canvas.node("Film", "")
    canvas.wire(text, linked, "words")
    canvas.wire(free, film, "task_id")
    data = canvas.saved(deep, middle) if side_by_side else canvas.saved()
    if not side_by_side:  # as older front ends did
        data["definitions"] = {"subgraphs": [middle.definition(deep)]}
    assert inputs(data, "20:5:1")["text"] == ["1", 0]
    assert inputs(data, "21:5:1")["text"] == "outer face"
    assert inputs(data, film["id"]) == {"task_id": ["21:5:1", 0]}


def test_two_uses_of_one_subgraph_have_their_own_values(canvas: Canvas) -> None:
    inner = sub()
    send = inner.node("Send", *SEND)
    inner.enter("words", "STRING", (send, "text"))
    inner.enter("choice", "COMBO", (send, "model"))
    canvas.use(inner, "first", "v1")
    canvas.use(inner, "second", "v2")
    canvas.use(inner)
    data = canvas.saved(inner)
    assert [inputs(data, f"{k}:1")["text"] for k in (1, 2, 3)] == ["first", "second", "hello"]
    assert [inputs(data, f"{k}:1")["model"] for k in (1, 2, 3)] == ["v1", "v2", "v3"]


def test_a_value_on_the_face_does_not_count_while_the_input_is_wired(canvas: Canvas) -> None:
    inner = sub()
    send = inner.node("Send", *SEND)
    inner.enter("words", "STRING", (send, "text"))
    use = canvas.use(inner, "face")
    canvas.wire(canvas.node("Reroute"), use, "words")
    assert inputs(canvas.saved(inner), "1:1")["text"] == "hello"


def test_faces_skip_inputs_without_a_field_and_control_widgets(canvas: Canvas) -> None:
    inner = sub()
    send = inner.node("Send", *SEND)
    inner.enter("story", "BOARD", (send, "board"))
    inner.enter("seed", "INT", (send, "seed"))
    inner.enter("words", "STRING", (send, "text"))
    canvas.use(inner, 55, "after")
    canvas.use(inner, 55, "randomize", "after")
    data = canvas.saved(inner)
    for use in (1, 2):
        assert (inputs(data, f"{use}:1")["seed"], inputs(data, f"{use}:1")["text"]) == (55, "after")


def test_proxy_widgets_name_the_values_of_a_face(canvas: Canvas) -> None:
    inner = sub()
    send = inner.node("Send", *SEND)
    shot = inner.node("Shot", "inside", 3)
    inner.enter("words", "STRING", (send, "text"))
    inner.enter("seed", "INT", (send, "seed"))
    by_input = [["-1", "seed"], ["2", "text"], ["-1", "words"]]
    by_node = [["1", "seed"], ["2", "text"], ["1", "text"]]
    canvas.use(inner, 11, None, "first", properties={"proxyWidgets": by_input})
    canvas.use(inner, 12, "reaches in", "second", properties={"proxyWidgets": by_node})
    canvas.use(inner, 13, None, "third", properties={"proxyWidgets": json.dumps(by_input)})
    data = canvas.saved(inner)
    assert [inputs(data, f"{k}:1")["seed"] for k in (1, 2, 3)] == [11, 12, 13]
    assert [inputs(data, f"{k}:1")["text"] for k in (1, 2, 3)] == ["first", "second", "third"]
    assert [inputs(data, f"{k}:{shot['id']}")["text"] for k in (1, 2, 3)] == ["inside", "reaches in", "inside"]


def test_an_outer_proxy_reaches_into_a_nested_subgraph(canvas: Canvas) -> None:
    deep, middle = sub("deep"), sub("middle")
    send = deep.node("Send", *SEND)
    deep.enter("words", "STRING", (send, "text"))
    middle.use(deep, "deep face", id=5)
    canvas.use(middle, "from above", properties={"proxyWidgets": [["5", "words"]]})
    assert inputs(canvas.saved(deep, middle), "1:5:1")["text"] == "from above"


def test_faces_may_be_saved_by_name(canvas: Canvas) -> None:
    inner = sub()
    send = inner.node("Send", *SEND)
    inner.enter("words", "STRING", (send, "text"))
    canvas.use(inner, widgets_values_named={"words": "named"})
    assert inputs(canvas.saved(inner), "1:1")["text"] == "named"


def test_a_wire_may_run_straight_through_a_subgraph(canvas: Canvas) -> None:
    inner = sub()
    inner.enter("in", "SHOT")
    inner.leave("out", "SHOT")
    shot, use, board = canvas.node("Shot", "a", 1), canvas.use(inner), canvas.node("Board")
    canvas.wire(shot, use, "in")
    canvas.wire(use, board, "shot_1")
    assert inputs(canvas.saved(inner), board["id"]) == {"shot_1": ["1", 0]}


def test_an_output_that_nothing_inside_leads_to_is_no_source(canvas: Canvas) -> None:
    inner = sub()
    inner.outputs.append({"id": "x", "name": "out", "type": "STRING", "linkIds": []})
    send = canvas.node("Send", *SEND)
    canvas.wire(canvas.use(inner), send, "text")
    assert inputs(canvas.saved(inner), send["id"]) == PLAIN


@pytest.mark.parametrize("mode", [2, 4])
def test_nothing_inside_a_muted_or_bypassed_subgraph_runs(canvas: Canvas, mode: int) -> None:
    inner = sub()
    inner.node("Send", *SEND)
    canvas.use(inner, mode=mode, title="Part two")
    canvas.node("Send", *SEND)
    loaded = read(canvas.saved(inner))
    assert list(loaded.prompt.nodes) == ["2"]
    assert any('"Part two" (1) is ' in note for note in loaded.prompt.notes)


def test_a_bypassed_subgraph_hands_on_like_any_node(canvas: Canvas) -> None:
    inner = sub()
    board = inner.node("Board")
    inner.enter("number", "INT")
    inner.enter("shot", "SHOT", (board, "shot_1"))
    inner.leave("out", "SHOT")
    shot, use, target = canvas.node("Shot", "a", 1), canvas.use(inner, mode=4), canvas.node("Board")
    canvas.wire(shot, use, "shot")
    canvas.wire(use, target, "shot_1")
    assert inputs(canvas.saved(inner), target["id"]) == {"shot_1": ["1", 0]}


# ---- files that contradict themselves ----


def broken(canvas: Canvas, **changes: Any) -> dict[str, Any]:
    shot, board = canvas.node("Shot", "a", 1), canvas.node("Board")
    send = canvas.node("Send", *SEND)
    canvas.wire(shot, board, "shot_1")
    canvas.wire(board, send, "board")
    return canvas.saved(**changes)


def test_a_wire_that_is_not_in_the_file(canvas: Canvas) -> None:
    data = broken(canvas)
    data["links"] = data["links"][1:]
    assert "Board (2): shot_1 is linked by wire 1, which is not in the file" in refused(data)


def test_a_wire_from_a_node_that_is_not_in_the_file(canvas: Canvas) -> None:
    data = broken(canvas)
    del data["nodes"][0]
    assert "Board (2): shot_1 comes from node 1, which is not in the file" in refused(data)


def test_what_is_not_needed_may_be_broken(canvas: Canvas) -> None:
    board = canvas.node("Board")
    canvas.node("Send", *SEND)
    board["inputs"][0]["link"] = 99
    assert [node.id for node in plan(canvas.saved()).order] == ["2"]


def test_reroutes_in_a_circle(canvas: Canvas) -> None:
    one, two, send = canvas.node("Reroute"), canvas.node("Reroute"), canvas.node("Send", *SEND)
    canvas.wire(one, two, "")
    canvas.wire(two, one, "")
    canvas.wire(one, send, "text")
    assert "Send (3): text is linked by wires that form a loop" in refused(canvas.saved())


def test_nodes_that_need_each_other_in_a_circle(canvas: Canvas) -> None:
    one, two = canvas.node("Send", *SEND, title="One"), canvas.node("Send", *SEND, title="Two")
    canvas.wire(one, two, "text")
    canvas.wire(two, one, "text")
    text = refused(canvas.saved())
    assert text == 'these nodes form a loop: Send "One" (1) -> Send "Two" (2) -> Send "One" (1)'


def test_a_node_that_needs_itself() -> None:
    api = {"1": {"class_type": "Send", "inputs": {**PLAIN, "text": ["1", 0]}}}
    assert "form a loop: Send (1) -> Send (1)" in refused(api)


def test_two_nodes_with_one_id(canvas: Canvas) -> None:
    canvas.node("Send", *SEND, id=3)
    canvas.node("Send", *SEND, id="3")
    assert "the workflow has two nodes with the id 3" in refused(canvas.saved())


def test_two_links_with_one_id(canvas: Canvas) -> None:
    data = broken(canvas)
    data["links"][1][0] = 1
    assert "the workflow has two links with the id 1" in refused(data)


@pytest.mark.parametrize("link", [[1, 2, 3], "x", {"id": 1}, [1, 1, "0", 2, 0], [None, 1, 0, 2, 0], [1, 1, True, 2, 0]])
def test_a_link_that_cannot_be_read(canvas: Canvas, link: object) -> None:
    data = broken(canvas)
    data["links"].append(link)
    assert "the workflow has a link that cannot be read" in refused(data)


@pytest.mark.parametrize(
    "node", [{"type": "Send"}, {"id": 5}, {"id": None, "type": "Send"}, {"id": 1, "type": 3}, 7, None]
)
def test_a_node_without_id_or_type(canvas: Canvas, node: object) -> None:
    assert "a node without an id or a type" in refused(canvas.saved(nodes=[node]))


def test_a_subgraph_inside_itself(canvas: Canvas) -> None:
    one, two = sub("one"), sub("two")
    one.use(two, id=4)
    two.use(one, id=5)
    canvas.use(one, id=3)
    assert 'the subgraph "one" contains itself through node 3:4:5' in refused(canvas.saved(one, two))


def test_subgraphs_that_unfold_beyond_all_measure(canvas: Canvas) -> None:
    layers = [sub(f"layer {k}") for k in range(40)]
    for k, layer in enumerate(layers):
        for _ in range(2):
            if k:
                layer.use(layers[k - 1])
            else:
                layer.node("Send", *SEND)
    canvas.use(layers[-1])
    assert "more than 20000 nodes" in refused(canvas.saved(*layers))


def test_a_subgraph_without_its_definition(canvas: Canvas) -> None:
    inner = sub()
    inner.leave("out", "STRING", inner.node("Send", *SEND))
    send = canvas.node("Send", *SEND)
    canvas.wire(canvas.use(inner), send, "text")
    assert "is a subgraph whose definition is not in the file" in refused(canvas.saved())


def test_an_input_boundary_with_no_such_input(canvas: Canvas) -> None:
    inner = sub()
    send = inner.node("Send", *SEND)
    inner.enter("words", "STRING", (send, "text"))
    inner.inputs.clear()
    canvas.nodes.append({"id": 1, "type": inner.id, "inputs": [], "outputs": []})
    assert 'text comes from input 0 of the subgraph "sub", which has no such input' in refused(canvas.saved(inner))


def test_a_boundary_outside_of_any_subgraph(canvas: Canvas) -> None:
    send = canvas.node("Send", *SEND)
    canvas.enter("words", "STRING", (send, "text"))
    assert "text comes from input 0 of the workflow, which has no such input" in refused(canvas.saved(inputs=[]))


@pytest.mark.parametrize("version", [2, -1, "1.0", None, float("nan")])
def test_an_unknown_version(canvas: Canvas, version: Any) -> None:
    assert "this runner reads 0.4 and 1.0" in refused(canvas.saved() | {"version": version})


def test_a_group_node_of_the_old_kind_is_named_when_it_is_needed(canvas: Canvas) -> None:
    send = canvas.node("Send", *SEND)
    canvas.wire(canvas.node("LoadText", "x", type="workflow>Texts"), send, "text")
    text = refused(canvas.saved(extra={"groupNodes": {"Texts": {"nodes": [{"type": "LoadText"}]}}}))
    assert "workflow>Texts (2)" in text
    assert "old-style group node" in text
    assert "ungroup" in text


def test_a_group_node_of_the_old_kind_with_our_nodes_inside_is_never_skipped(canvas: Canvas) -> None:
    canvas.node("Send", *SEND)
    canvas.node("LoadText", "x", type="workflow/Mine")
    text = refused(canvas.saved(extra={"groupNodes": {"Mine": {"nodes": [{"type": "Send"}]}}}))
    assert "workflow/Mine (2) is an old-style group node with nodes of this pack inside" in text


def rich() -> dict[str, Any]:
    """A workflow with something of everything."""
    canvas, middle, deep = Canvas(), sub("middle"), sub("deep")
    send = deep.node("Send", *SEND)
    deep.enter("words", "STRING", (send, "text"))
    deep.leave("task", "STRING", send)
    inner = middle.use(deep, "deep face")
    middle.node("Shot", "inside", 3, mode=4)
    middle.enter("words", "STRING", (inner, "words"))
    middle.leave("task", "STRING", inner)
    use = canvas.use(middle, "face", properties={"proxyWidgets": [["-1", "words"]]})
    shot, reroute, board, film = (
        canvas.node("Shot", "a", 1),
        canvas.node("Reroute"),
        canvas.node("Board"),
        canvas.node("Film"),
    )
    send = canvas.node("Send", *SEND)
    join = canvas.node("JoinText", mode=4)
    canvas.wire(shot, reroute, "")
    canvas.wire(reroute, board, "shot_1")
    canvas.wire(board, send, "board")
    canvas.wire(canvas.node("PrimitiveNode", 7, "fixed"), send, "seed")
    canvas.wire(canvas.node("PrimitiveString", "x"), join, "first")
    canvas.wire(join, send, "text")
    canvas.wire(use, film, "task_id")
    canvas.wire(film, canvas.node("SaveVideo"), "video")
    return canvas.saved(deep, middle, extra={"groupNodes": {}})


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value with every key or index in it."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-21, 12)
    | st.floats()
    | st.sampled_from(["", "-10", "Reroute", "Send", "workflow>x", "a"]),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["id", "link", "name", "nodes", "__value__"]), inner)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_is_changed_in_a_file_it_is_planned_or_refused(data: st.DataObject) -> None:
    workflow_ = rich()
    if data.draw(st.booleans()):
        prompt = read(workflow_).prompt
        workflow_ = {node.id: {"class_type": node.class_type, "inputs": node.inputs} for node in prompt.nodes.values()}
    for _ in range(data.draw(st.integers(1, 3))):
        spots = list(places(workflow_))
        if spots:
            container, key = spots[data.draw(st.integers(0, len(spots) - 1))]
            container[key] = data.draw(JUNK)
    try:
        made = plan(workflow_, all_videos=True)
    except WorkflowError as refusal:
        assert str(refusal).replace("\n", "").isprintable()
    else:
        assert {node.class_type for node in made.order} & {"Send", "Film"}


def test_a_workflow_with_something_of_everything_is_planned() -> None:
    assert [node.id for node in plan(rich()).order] == ["1:1:1", "5", "9", "2", "4", "6"]
