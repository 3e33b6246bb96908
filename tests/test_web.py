"""The script for ComfyUI's page, as far as it can be tested without a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

MODULES = sorted((ROOT / "web" / "js").glob("*.js"))
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
@pytest.mark.parametrize("module", [path for path in MODULES if path.name != "kling.js"], ids=lambda path: path.name)
def test_a_module_does_nothing_by_being_loaded(module: Path) -> None:
    # ComfyUI loads every .js file as if it were an extension of its own; here there is no page to do anything with.
    assert node
    script = f"import({str(module.as_uri())!r}).then((all) => console.log(Object.keys(all).length))"
    done = subprocess.run([node, "-e", script], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_only_the_entry_names_the_front_end() -> None:
    for module in MODULES:
        named = re.findall(r'from "([^"]+)"', module.read_text(encoding="utf-8"))
        outside = {name for name in named if not name.startswith("./")}
        assert outside == (
            {"../../../scripts/api.js", "../../../scripts/app.js"} if module.name == "kling.js" else set()
        )


def test_the_script_fetches_nothing_from_elsewhere() -> None:
    for path in (ROOT / "web").rglob("*"):
        if path.suffix in (".js", ".css"):
            assert not re.search(r"https?://|//[a-z]", path.read_text(encoding="utf-8")), path.name


def test_the_script_has_no_copy_of_what_python_knows() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in MODULES)
    assert not re.search(r"kling-v\d|\b(512|2500)\b", text)
