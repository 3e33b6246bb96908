"""The help pages: one per node and language, where the front end looks, and complete."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from graph import Graph

import nodes
from nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from nodes.api.errors import GraphError, KlingError
from nodes.api.gateway.codes import CODES, GATEWAY_CODES
from nodes.api.request.capabilities import MODELS
from nodes.video import KlingVideo

PAGES = ROOT / "web" / "docs"
LANGUAGES = ("en", "zh")
EVERY_PAGE = [(name, language) for name in NODE_CLASS_MAPPINGS for language in LANGUAGES]

WORDS: dict[str, dict[str | bool, Any]] = {
    "en": {"inputs": "Inputs", "outputs": "Outputs", "models": "Which models", "wrong": "Common errors",
           "to": "{} to {}", "and": ", ", True: "yes", False: "no", "ignored": "ignored",
           "camera": {"no": "no", "yes": "yes, with std and 5 s", "disputed": "sources disagree"}},
    "zh": {"inputs": "输入", "outputs": "输出", "models": "支持的模型", "wrong": "常见错误",
           "to": "{} 到 {}", "and": "、", True: "是", False: "否", "ignored": "忽略",
           "camera": {"no": "否", "yes": "是，仅限 std、5 秒", "disputed": "资料不一致"}},
}  # fmt: skip


def page(name: str, language: str) -> str:
    return (PAGES / name / f"{language}.md").read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but headings and rulers."""
    found = []
    lines = text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|") and not line.startswith("|---") and not after.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def items(text: str) -> dict[str, tuple[str, str, str]]:
    """The list of a section: the id in front of each item to its label, what stands in brackets, and the rest."""
    found = re.findall(
        r"^- (?:\*\*(.+?)\*\* )?`(\w+)`(?: \(|（)(.+?)(?:\): |）：)(.+)$", _unwrapped(text), re.MULTILINE
    )
    return {name: (label, allowed, rest) for label, name, allowed, rest in found}


def _unwrapped(text: str) -> str:
    return re.sub(r"\n  (?=\S)", " ", text)


def inputs_of(node: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    spec = node.INPUT_TYPES()
    return {**spec.get("required", {}), **spec.get("optional", {})}


def label(name: str, kind: str, key: str, language: str) -> str:
    known = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    return known[name][kind][key]["name"]


@pytest.mark.parametrize(("name", "language"), EVERY_PAGE)
def test_every_input_is_explained_with_its_limits_and_its_default(name: str, language: str) -> None:
    explained = items(section(page(name, language), WORDS[language]["inputs"]))
    for field, (kind, options) in inputs_of(NODE_CLASS_MAPPINGS[name]).items():
        _, allowed, rest = explained[field]
        if isinstance(kind, list):
            # The models have a section of their own.
            wanted = [options["default"]] if field == "model_name" else [*kind, options["default"]]
        else:
            limits = [options[side] for side in ("min", "max") if side in options]
            wanted = [kind, *(f"{limit:g}" if kind == "FLOAT" else str(limit) for limit in limits)]
            if options.get("default") not in (None, ""):
                default = options["default"]
                wanted.append(str(default).lower() if isinstance(default, bool) else f"{default:g}")
        missing = [text for text in wanted if text not in allowed]
        assert not missing, f"{name}/{language}.md, {field}: {missing} not in: {allowed}"
        assert rest.strip()


@pytest.mark.parametrize(("name", "language"), EVERY_PAGE)
def test_every_output_is_explained(name: str, language: str) -> None:
    node: Any = NODE_CLASS_MAPPINGS[name]
    explained = items(section(page(name, language), WORDS[language]["outputs"]))
    kinds = dict(zip(node.RETURN_NAMES, node.RETURN_TYPES, strict=True))
    assert {output: kind for output, (_, kind, _) in explained.items()} == kinds


@pytest.mark.parametrize(("name", "language"), EVERY_PAGE)
def test_no_input_is_explained_that_the_node_does_not_have(name: str, language: str) -> None:
    text = section(page(name, language), WORDS[language]["inputs"])
    assert set(items(text)) == set(inputs_of(NODE_CLASS_MAPPINGS[name]))
    assert len(items(text)) == len(re.findall(r"^- ", text, re.MULTILINE))


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_chinese_pages_call_things_as_the_chinese_nodes_do(name: str) -> None:
    text = page(name, "zh")
    for field in inputs_of(NODE_CLASS_MAPPINGS[name]):
        shown = label(name, "inputs", field, "zh").replace(f" ({field})", "")
        assert items(section(text, "输入"))[field][0] == shown
    known = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    called = set(re.findall(r"Kling 网关 [一-鿿]+", re.sub("[”“*]", "|", text)))
    assert called <= {node["display_name"] for node in known.values()}


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_english_pages_call_nodes_by_their_names(name: str) -> None:
    text = " ".join(page(name, "en").split())
    names = sorted(NODE_DISPLAY_NAME_MAPPINGS.values(), key=len, reverse=True)
    for found in re.finditer(r"Kling Gateway [A-Z]", text):
        assert text[found.start() :].startswith(tuple(names)), text[found.start() :][:40]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_table_of_models_says_what_the_program_knows(language: str) -> None:
    words = WORDS[language]
    table = {cells[0]: cells[1:] for cells in rows(section(page("KlingText2Video", language), words["models"]))}
    assert set(table) == set(MODELS)
    for name, model in MODELS.items():
        few = len(model.durations) <= 2
        seconds = (
            words["and"].join(map(str, model.durations))
            if few
            else words["to"].format(*model.durations[:: len(model.durations) - 1])
        )
        cfg = words[True] if model.cfg_scale else words["ignored"]
        camera = words["camera"][model.camera_control]
        assert table[name] == [seconds, words[model.sound], words[model.multi_shot], camera, cfg]


@pytest.mark.parametrize(("name", "language"), EVERY_PAGE)
def test_every_page_says_which_models_what_it_costs_and_what_can_go_wrong(name: str, language: str) -> None:
    headings = re.findall(r"^## (.+)$", page(name, language), re.MULTILINE)
    cost = {"en": ("Cost", "What running again costs"), "zh": ("费用", "再次运行的费用")}[language]
    assert WORDS[language]["models"] in headings and WORDS[language]["wrong"] in headings
    assert any(heading in headings for heading in cost)


def test_there_is_no_page_of_a_node_that_does_not_exist() -> None:
    assert {path.relative_to(PAGES) for path in PAGES.rglob("*.md")} == {
        Path(name) / f"{language}.md" for name, language in EVERY_PAGE
    }


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_both_languages_say_the_same_number_of_things(name: str) -> None:
    def shape(language: str) -> list[int]:
        text = page(name, language)
        return [len(re.findall(mark, text, re.MULTILINE)) for mark in (r"^## ", r"^- ", r"^\|")]

    assert shape("en") == shape("zh")


# What the pages quote from the program

HOSTS_OWN = {"Required input is missing: shot_1"}
"""Errors that ComfyUI gives before any node of ours is asked."""


def errors_explained(name: str, language: str) -> list[str]:
    """The errors that a page quotes, without their Chinese meaning in brackets."""
    text = _unwrapped(section(page(name, language), WORDS[language]["wrong"]))
    return [re.sub("（[^（）]+）$", "", quoted) for quoted in re.findall(r"^- \*\*(.+?)\*\*", text, re.MULTILINE)]


def parts(quoted: str) -> list[str]:
    """An error as it is, or each of several that a page puts into one list with their codes."""
    if not re.search(r"code \d", quoted):
        return [quoted]
    return [re.sub(r"^(?=\d{4}$)", "code ", part) for part in re.split("、|, | to | 到 ", quoted)]


def is_said(quoted: str, texts: Collection[str]) -> bool:
    pattern = re.compile(".+?".join(re.escape(piece) for piece in quoted.split("…")))
    return any(pattern.search(text) for text in texts)


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """All that the program can say: as it stands in the source, and complete for graphs as the pages name them."""
    kinds = {kind.__name__ for kind in KlingError.__subclasses__()}
    known: list[int | str] = [*CODES, *GATEWAY_CODES]
    codes = {str(KlingError("", code=code)) for code in known}
    return kinds | codes | set(_in_the_source()) | set(_refusals())


def _in_the_source() -> Iterator[str]:
    """Every text but docstrings, whole, with … for each value that is filled in."""
    for path in (ROOT / "nodes").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        unsaid = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unsaid:
                yield node.value


def _refusals() -> Iterator[str]:
    graph = Graph(nodes)
    ten_seconds = graph.shot(duration=10)
    still, ready_made = graph.camera("simple"), graph.camera("down_back")
    for changes in (
        {"multi_shot": graph.storyboard(ten_seconds, ten_seconds)},
        {"multi_shot": graph.storyboard(graph.shot(prompt="A" * 520), graph.shot(prompt=" "))},
        {"multi_shot": graph.storyboard(ten_seconds), "model_name": "kling-v2-5-turbo"},
        {"camera_control": still},
        {"camera_control": ready_made, "model_name": "kling-v2-master"},
        {"camera_control": ready_made, "model_name": "kling-v1", "mode": "pro"},
    ):
        with pytest.raises(GraphError) as caught:
            graph.submit(**changes)
        yield str(caught.value)
    yield str(KlingVideo.VALIDATE_INPUTS(task_id=""))


@pytest.mark.parametrize(("name", "language"), EVERY_PAGE)
def test_every_error_on_a_page_is_one_that_the_program_gives(name: str, language: str, texts: set[str]) -> None:
    explained = errors_explained(name, language)
    assert len(explained) == len(re.findall(r"^- ", section(page(name, language), WORDS[language]["wrong"]), re.M)) > 0
    unsaid = [part for quoted in explained for part in parts(quoted) if not is_said(part, texts)]
    assert set(unsaid) <= HOSTS_OWN, f"{name}/{language}.md"


@pytest.mark.parametrize(
    "quoted",
    [
        "Nothing was sent and nothing was paid: the graph has … problems",
        "sum of the shots' durations: is '20' s; kling-v3 makes 3 to 15 s",
        "model_name with multi_shot: needs kling-v3",
        "its download does not get on",
        "code 1101, 1102, insufficient quota",
        "code 1300, 1399",
        "Waits until a Kling task is done",
    ],
)
def test_an_error_that_the_program_does_not_give_is_noticed(quoted: str, texts: set[str]) -> None:
    assert not all(is_said(part, texts) for part in parts(quoted))
