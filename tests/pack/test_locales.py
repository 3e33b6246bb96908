"""The languages: complete, without stale keys, and in English the same words as the nodes'.

``python tests/pack/test_locales.py`` writes locales/en/nodeDefs.json anew from the nodes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402

from nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS  # noqa: E402

LANGUAGES = ("en", "zh")
FILES = ("main", "nodeDefs", "settings")


def load(language: str, name: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def english() -> dict[str, Any]:
    """The English words of every node, by the keys that the front end looks them up with."""
    return {name: _of_node(name, node) for name, node in NODE_CLASS_MAPPINGS.items()}


def _of_node(name: str, node: Any) -> dict[str, Any]:
    spec = node.INPUT_TYPES()
    inputs = {**spec.get("required", {}), **spec.get("optional", {})}
    outputs = zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True)
    return {
        "display_name": NODE_DISPLAY_NAME_MAPPINGS[name],
        "description": node.DESCRIPTION,
        "inputs": {field: {"name": field, "tooltip": entry[1]["tooltip"]} for field, entry in inputs.items()},
        "outputs": {str(i): {"name": output, "tooltip": tip} for i, (output, tip) in enumerate(outputs)},
    }


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(tree, dict):
        for key, part in tree.items():
            yield from leaves(part, (*path, key))
    else:
        yield path, tree


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_every_language_has_exactly_the_keys_of_english(language: str, name: str) -> None:
    assert {path for path, _ in leaves(load(language, name))} == {path for path, _ in leaves(load("en", name))}


def test_english_says_what_the_nodes_say() -> None:
    assert load("en", "nodeDefs") == english(), "run: python tests/pack/test_locales.py"


@pytest.mark.parametrize("name", FILES)
def test_every_text_is_translated(name: str) -> None:
    # What stays as it is: names that are the same in Chinese, and texts without a word.
    same = {("nodeCategories", "Kling"), ("settingsCategories", "Kling")}
    for (path, ours), (_, theirs) in zip(leaves(load("en", name)), _in_order(name), strict=True):
        if path in same or not re.search("[A-Za-z]{2}", re.sub(r"\{\w+\}", "", ours)):
            continue
        assert re.search("[一-鿿]", theirs), f"locales/zh/{name}.json: {'.'.join(path)} is not Chinese"


def _in_order(name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    chinese = dict(leaves(load("zh", name)))
    for path, _ in leaves(load("en", name)):
        yield path, chinese[path]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_no_text_holds_what_the_front_end_takes_for_syntax(language: str, name: str) -> None:
    # vue-i18n reads these as plural forms, links and values. Texts under "kling" are filled by our own script.
    for path, text in leaves(load(language, name)):
        if path[0] != "kling":
            assert not set("{}|@").intersection(text), f"{path}: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_texts_call_the_nodes_by_the_names_on_the_canvas(language: str, name: str) -> None:
    names = tuple(node["display_name"] for node in load(language, "nodeDefs").values())
    for path, text in leaves(load(language, name)):
        line = " ".join(text.split())
        assert not any(node in line for node in NODE_CLASS_MAPPINGS), f"{path}: {line}"
        for found in re.finditer(r"Kling (Gateway [A-Z]|网关 \w)", line):
            assert line[found.start() :].startswith(names), f"{path}: {line}"


def test_texts_are_filled_with_the_same_values_in_every_language() -> None:
    chinese = dict(leaves(load("zh", "main")))
    for path, text in leaves(load("en", "main")):
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", chinese[path])), path


def test_the_script_uses_every_text_and_no_other() -> None:
    script = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "web" / "js").rglob("*.js")))
    patterns = [re.escape(text) for text in re.findall(r'text\(\s*"([a-z_.]+)"', script)]
    for template in re.findall(r"text\(\s*`([^`]+)`", script):
        # A part such as ${problem} stands for whatever comes there.
        patterns.append(".+?".join(re.escape(part) for part in re.split(r"\$\{.*?\}+", template)))
    patterns += [re.escape(text) for text in re.findall(r'"((?:panel|timeline|marks|task)\.[a-z_0-9]+)"', script)]
    texts = {".".join(path) for path, _ in leaves(load("en", "main")["kling"])}
    unused = {text for text in texts if not any(re.fullmatch(pattern, text) for pattern in patterns)}
    missing = {pattern for pattern in patterns if not any(re.fullmatch(pattern, text) for text in texts)}
    assert (unused, missing) == (set(), set())


def test_the_settings_are_those_that_the_script_adds() -> None:
    script = (ROOT / "web" / "js" / "kling.js").read_text(encoding="utf-8")
    ids = re.findall(r'\n      id: "([^"]+)"', script)
    assert ids and set(load("en", "settings")) == {setting.replace(".", "_") for setting in ids}
    categories = re.findall(r'category: \["([^"]+)", "([^"]+)"', script)
    assert {part for pair in categories for part in pair} == set(load("en", "main")["settingsCategories"])


def test_every_category_of_the_node_library_is_named() -> None:
    categories = {vars(node)["CATEGORY"] for node in NODE_CLASS_MAPPINGS.values()}
    assert categories == set(load("en", "main")["nodeCategories"])


if __name__ == "__main__":
    written = json.dumps(english(), ensure_ascii=False, indent=2) + "\n"
    (ROOT / "locales" / "en" / "nodeDefs.json").write_text(written, encoding="utf-8", newline="\n")
