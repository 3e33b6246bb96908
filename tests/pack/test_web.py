"""The script for ComfyUI's page, as far as it can be tested without a browser."""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import ROOT

from nodes.api.request.wording import is_blank

SCRIPT = ROOT / "web" / "js"
MODULES = {path.relative_to(SCRIPT).as_posix(): path for path in sorted(SCRIPT.rglob("*.js"))}
ENTRY = "kling.js"
# Node comes with the development dependencies, beside the Python that runs this.
node = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
needs_node = pytest.mark.skipif(node is None, reason="Node is not installed")


@needs_node
def test_the_scripts_own_tests_pass() -> None:
    tests = [str(path) for path in sorted((ROOT / "tests" / "js").glob("*.test.mjs"))]
    assert tests and node
    done = subprocess.run(
        [node, "--test", *tests], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_node
@pytest.mark.parametrize("module", [name for name in MODULES if name != ENTRY])
def test_a_module_does_nothing_by_being_loaded(module: str) -> None:
    # ComfyUI loads every .js file as if it were an extension of its own; here there is no page to do anything with.
    assert node
    script = f"import({MODULES[module].as_uri()!r}).then((all) => console.log(Object.keys(all).length))"
    done = subprocess.run([node, "-e", script], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


@needs_node
def test_the_page_and_the_server_take_the_same_texts_for_blank() -> None:
    assert node
    script = f"""
        const {{ isBlank }} = await import({MODULES["graph/timeline.js"].as_uri()!r});
        const codes = Array.from({{ length: 0x110000 }}, (_, code) => code);
        console.log(JSON.stringify(codes.filter((code) => isBlank(String.fromCodePoint(code)))));
    """
    done = subprocess.run(
        [node, "--input-type=module", "-e", script], capture_output=True, encoding="utf-8", check=True
    )
    # Python and Node have Unicode tables of different years, but both know what Unicode 3.2 had.
    old = [code for code in range(0x110000) if unicodedata.ucd_3_2_0.category(chr(code)) != "Cn"]
    blank = {code for code in old if is_blank(chr(code))}
    assert {0x85, 0x200B, 0x3000, 0xFEFF} < blank
    assert set(json.loads(done.stdout)) & set(old) == blank


def imports(module: str) -> set[str]:
    """What a module imports: paths inside web/js, or as written if they lead out of it."""
    named = re.findall(r'from "([^"]+)"', MODULES[module].read_text(encoding="utf-8"))
    paths = {name: posixpath.normpath(posixpath.join(posixpath.dirname(module), name)) for name in named}
    return {path if path in MODULES else name for name, path in paths.items()}


def test_only_the_entry_names_the_front_end() -> None:
    for module in MODULES:
        outside = imports(module) - set(MODULES)
        assert outside == ({"../../../scripts/api.js", "../../../scripts/app.js"} if module == ENTRY else set()), module


# What each room may import besides itself; a module beside the entry is a room of its own.
ROOMS: dict[str, tuple[str, ...]] = {
    "page": (),
    "graph": (),
    "nodes": ("graph/", "page/dom.js"),
    "key_panel.js": ("page/",),
    "spending": ("graph/", "page/"),
}


def test_the_rooms_import_only_what_they_may() -> None:
    assert {module.split("/")[0] for module in MODULES} == {*ROOMS, ENTRY}
    for module in set(MODULES) - {ENTRY}:
        room = module.split("/")[0]
        assert all(other.startswith((f"{room}/", *ROOMS[room])) for other in imports(module)), module


def test_what_reads_the_graph_knows_no_page() -> None:
    for module in MODULES:
        if module.startswith("graph/"):
            code = re.sub(r"/\*.*?\*/", "", MODULES[module].read_text(encoding="utf-8"), flags=re.DOTALL)
            assert not re.search(r"\b(document|window|navigator|globalThis|fetch\w*)\b", code), module


def test_the_script_fetches_nothing_from_elsewhere() -> None:
    for path in (ROOT / "web").rglob("*"):
        if path.suffix in (".js", ".css"):
            assert not re.search(r"https?://|//[a-z]", path.read_text(encoding="utf-8")), path.name


def test_the_script_has_no_copy_of_what_python_knows() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in MODULES.values())
    assert not re.search(r"kling-v\d|\b(512|2500)\b", text)
