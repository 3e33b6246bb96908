"""Workflow files: reading every form of them, values from the command line, and what of them is to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from canvas import CATALOGUE, PLAIN, SEND, Canvas, inputs, plan, read, refused, sub

from nodes import workflow
from nodes.workflow.prompt import WorkflowError, shown


@pytest.fixture
def canvas() -> Canvas:
    return Canvas()


# ---- formats ----

API = {"4": {"class_type": "Send", "inputs": dict(PLAIN), "_meta": {"title": "Mine"}}}


@pytest.mark.parametrize(
    "data",
    [
        API,
        {"prompt": API},
        {"prompt": json.dumps(API), "workflow": "{}"},
        {"output": API, "workflow": {"nodes": [], "links": []}},
        {"client_id": "x", "prompt": API, "extra_data": {}},
    ],
)
def test_the_api_format_and_its_wrappers(data: dict[str, Any]) -> None:
    loaded = read(data)
    assert str(loaded.prompt.nodes["4"]) == 'Send "Mine" (4)'
    assert loaded.prompt.nodes["4"].inputs == PLAIN


def test_the_editor_format_in_a_wrapper(canvas: Canvas) -> None:
    canvas.node("Send", *SEND)
    assert inputs({"workflow": canvas.saved()}, 1) == PLAIN
    assert inputs({"workflow": json.dumps(canvas.saved())}, 1) == PLAIN


def test_what_would_run_counts_more_than_the_drawing_beside_it(canvas: Canvas) -> None:
    canvas.node("Send", "v1", "older")
    loaded = read({"output": API, "workflow": canvas.saved()})
    assert list(loaded.prompt.nodes) == ["4"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "this JSON is a list"),
        ("x", "this JSON is a text"),
        (None, "this JSON is null"),
        (3, "this JSON is a single value"),
        ({}, "the workflow is empty"),
        ({"a": 1, "b": {}}, "this JSON is not a workflow"),
        ({"nodes": {}}, "this JSON is not a workflow"),
        ({"prompt": "a cat"}, "this JSON is not a workflow"),
        ({"1": {"class_type": "Send", "inputs": {}}, "2": {"inputs": {}}}, "the entries 2 have no class_type"),
        ({"1": {"class_type": 5, "inputs": {}}}, "the entries 1 have no class_type"),
        ({"1": {"class_type": "Send", "inputs": []}}, "the entries 1 have no class_type"),
        ({"nodes": [], "links": []}, "the workflow has none of this pack's nodes (Shot, Board, Send, Film)"),
        ({"1": {"class_type": "Other", "inputs": {}}}, "the workflow has none of this pack's nodes"),
        ({"1": {"class_type": "Shot", "inputs": {}}}, "the workflow has no output node of this pack. Add one of: Send"),
    ],
)
def test_json_that_is_no_workflow(data: object, said: str) -> None:
    text = refused(data)
    assert said in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"  \n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "this is a PNG image, not JSON. Open it in ComfyUI"),
        (b"RIFF\0\0\0\0WEBP", "a WebP image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"\0\0\0\x20ftypisom", "this is a video"),
        (b"\x1aE\xdf\xa3", "this is a video"),
        (b"PK\x03\x04", "a zip archive"),
        (b"{\0}", "this is a binary file"),
        ('{"a": "\u00e9"}'.encode("latin-1"), "this is not UTF-8 text"),
        (b"\xff\xfe{", "this is not UTF-8 text"),
        (b"hello", "this is not JSON: Expecting value at line 1, column 1"),
        (b'{"a": 1\n x}', "at line 2, column 2"),
        (b'{"a": 1, "a": 2}', "this JSON has 'a' twice in one object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"9" * 5000, "this JSON cannot be read"),
    ],
)
def test_bytes_that_are_no_json(content: bytes, said: str) -> None:
    with pytest.raises(WorkflowError) as error:
        workflow.parse(content)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_editors_write(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "流程.json"
    file.write_text(json.dumps({"1": {"class_type": "Send", "inputs": {"text": "猫"}}}, ensure_ascii=False), encoding)
    assert workflow.load(file, CATALOGUE).prompt.nodes["1"].inputs == {"text": "猫"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(workflow.LARGEST_FILE + 1)
    for path, said in (
        (tmp_path / "none.json", "the file does not exist"),
        (tmp_path, "this is a directory"),
        (huge, "too large to be a workflow; at most 64 MB are allowed"),
        (Path("a\0b.json"), "the file cannot be read"),
    ):
        with pytest.raises(WorkflowError) as error:
            workflow.load(path, CATALOGUE)
        assert said in str(error.value)
        assert shown(str(path), 200) in str(error.value)


def test_what_a_file_holds_cannot_drive_the_terminal() -> None:
    text = refused(
        {"1": {"class_type": "Send", "inputs": {"model": "\x1b[2J\u202e\x9b"}, "_meta": {"title": "\x07\ud800"}}}
    )
    assert "\\u001b[2J\\u202e\\u009b" in text
    assert "\\u0007\\ud800" in text
    assert text.replace("\n", "").isprintable()
    assert len(shown("x" * 500)) == 80


# ---- values from the command line ----


def test_set_finds_nodes_by_id_title_and_class(canvas: Canvas) -> None:
    inner = sub()
    inner.node("Shot", "a", 1, title="Opening v1.5")
    canvas.use(inner)
    canvas.node("Send", *SEND)
    loaded = read(canvas.saved(inner))
    workflow.set_values(
        loaded, ["1:1.seconds=9", "Opening v1.5.text=a = b", "Send.model=v1", "2.strength=0.75", "2.loud=no"]
    )
    assert loaded.prompt.nodes["1:1"].inputs == {"text": "a = b", "seconds": 9}
    assert loaded.prompt.nodes["2"].inputs == {**PLAIN, "model": "v1", "strength": 0.75, "loud": False}


def test_set_replaces_a_link_and_what_was_wrong_with_it(canvas: Canvas) -> None:
    send = canvas.node("Send", *SEND)
    canvas.wire(canvas.node("LoadText", "x"), send, "text")
    canvas.wire(canvas.node("PrimitiveInt", 3, mode=2), send, "seed")
    send["inputs"][1]["link"] = 77
    made = plan(canvas.saved(), "1.text=mine", "1.seed=4", "1.model=v1")
    assert made.order[0].inputs == {**PLAIN, "text": "mine", "seed": 4, "model": "v1"}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("5", "write it as NODE.INPUT=VALUE"),
        ("5=3", "write it as NODE.INPUT=VALUE"),
        ("=3", "write it as NODE.INPUT=VALUE"),
        (".text=3", "write it as NODE.INPUT=VALUE"),
        ("9.text=x", "no node '9' can run here. There are: Send (1); Shot (2); Shot (3)"),
        ("Shot.text=x", "2 nodes are called 'Shot'; use the id. There are: Send (1); Shot (2); Shot (3)"),
        ("1.txt=x", "Send (1) has no field 'txt'. It has: model, text, seed, strength, loud"),
        ("1.board=x", "Send (1) has no field 'board'"),
        ("1.seed=many", "'many' is not a whole number"),
        ("1.seed=1.5", "'1.5' is not a whole number"),
        ("1.strength=x", "'x' is not a number"),
        ("1.loud=maybe", "'maybe' is neither true nor false"),
    ],
)
def test_set_that_means_nothing(canvas: Canvas, setting: str, said: str) -> None:
    canvas.node("Send", *SEND)
    canvas.node("Shot", "a", 1)
    canvas.node("Shot", "a", 1)
    text = refused(canvas.saved(), setting)
    assert text.startswith("--set ")
    assert said in text


@pytest.mark.parametrize("setting", ["1.seed=100", "1.model=v9", "1.strength=2"])
def test_set_keeps_to_the_limits(canvas: Canvas, setting: str) -> None:
    canvas.node("Send", *SEND)
    assert "allowed: " in refused(canvas.saved(), setting)


# ---- what runs ----


def test_only_what_an_output_node_needs_runs(canvas: Canvas) -> None:
    shot, board, send = canvas.node("Shot", "a", 1), canvas.node("Board"), canvas.node("Send", *SEND)
    canvas.wire(shot, board, "shot_1")
    canvas.wire(board, send, "board")
    canvas.node("Shot", "idle", 1)
    canvas.node("LoadText", "x", title="Not ours")
    made = plan(canvas.saved())
    assert [node.id for node in made.order] == ["1", "2", "3"]
    assert "skipped, not needed for this run: Shot (4)" in made.notes
    assert 'skipped, not from this pack: LoadText "Not ours" (5)' in made.notes


def test_a_video_is_wanted_when_somebody_s_node_takes_it(canvas: Canvas) -> None:
    send, film, save = canvas.node("Send", *SEND), canvas.node("Film", ""), canvas.node("SaveVideo")
    canvas.wire(send, film, "task_id")
    data = canvas.saved()
    assert [node.id for node in plan(data).order] == ["1"]
    assert [node.id for node in plan(data, all_videos=True).order] == ["1", "2"]
    canvas.wire(film, save, "video")
    data = canvas.saved()
    assert [node.id for node in plan(data).order] == ["1", "2"]
    assert [node.id for node in plan(data, submit_only=True).order] == ["1"]
    save["mode"] = 2
    assert [node.id for node in plan(canvas.saved()).order] == ["1"]


def test_a_foreign_node_that_is_needed_is_named_with_the_input(canvas: Canvas) -> None:
    load, send = canvas.node("LoadText", "x", title="My text"), canvas.node("Send", *SEND)
    canvas.wire(load, send, "text")
    text = refused(canvas.saved())
    assert 'Send (2): text needs LoadText "My text" (1), which is not a node of this pack' in text
    assert "--set 2.text=..." in text


def test_a_workflow_whose_nodes_are_all_muted(canvas: Canvas) -> None:
    canvas.node("Send", *SEND, mode=2)
    canvas.node("Send", *SEND, mode=4)
    text = refused(canvas.saved())
    assert "every node of this pack is muted or bypassed" in text
    assert "Send (1) is muted" in text
    assert "Send (2) is bypassed" in text
