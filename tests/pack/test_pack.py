"""The pack as a whole: names that saved workflows depend on, what imports what, and that loading it does nothing."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT, unmeasured

from nodes.api.version import VERSION

# Python 3.10 has no tomllib; pytest brings tomli there.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

NODES = ROOT / "nodes"
SOURCES = sorted(NODES.rglob("*.py"))
MODELS = ["kling-v1", "kling-v1-6", "kling-v2-master", "kling-v2-1-master", "kling-v2-5-turbo", "kling-v3"]
MOVES = ["simple", "down_back", "forward_up", "right_turn_forward", "left_turn_forward"]
AXIS = ("FLOAT", {"default": 0.0, "min": -10, "max": 10, "step": 0.1})

# An interface: order is one too, because the front end saves the values of widgets by position.
CATALOGUE: dict[str, dict[str, Any]] = {
    "KlingShot": {
        "inputs": {
            "prompt": ("STRING", {"default": "", "multiline": True, "dynamicPrompts": False}),
            "duration": ("INT", {"default": 5, "min": 1, "max": 15}),
        },
        "outputs": {"shot": "KLING_SHOT"},
    },
    "KlingMultiShot": {
        "inputs": dict.fromkeys([f"shot_{number}" for number in range(1, 7)], ("KLING_SHOT", {})),
        "optional": ["shot_2", "shot_3", "shot_4", "shot_5", "shot_6"],
        "outputs": {"multi_shot": "KLING_MULTI_SHOT"},
    },
    "KlingCameraControl": {
        "inputs": {
            "type": (MOVES, {"default": "simple"}),
            **dict.fromkeys(("horizontal", "vertical", "pan", "tilt", "roll", "zoom"), AXIS),
        },
        "outputs": {"camera_control": "KLING_CAMERA_CONTROL"},
    },
    "KlingText2Video": {
        "inputs": {
            "model_name": (MODELS, {"default": "kling-v3"}),
            "prompt": ("STRING", {"default": "", "multiline": True, "dynamicPrompts": False}),
            "negative_prompt": ("STRING", {"default": "", "multiline": True, "dynamicPrompts": False}),
            "mode": (["std", "pro"], {"default": "std"}),
            "aspect_ratio": (["16:9", "9:16", "1:1"], {"default": "16:9"}),
            "duration": ("INT", {"default": 5, "min": 3, "max": 15}),
            "sound": (["on", "off"], {"default": "off"}),
            "cfg_scale": ("FLOAT", {"default": 0.5, "min": 0, "max": 1, "step": 0.05}),
            "take": ("INT", {"default": 1, "min": 1, "max": 999_999, "control_after_generate": False}),
            "watermark": ("BOOLEAN", {"default": False}),
            "callback_url": ("STRING", {"default": ""}),
            "external_task_id": ("STRING", {"default": ""}),
            "camera_control": ("KLING_CAMERA_CONTROL", {}),
            "multi_shot": ("KLING_MULTI_SHOT", {}),
        },
        "optional": ["camera_control", "multi_shot"],
        "hidden": {"unique_id": "UNIQUE_ID"},
        "outputs": {"task_id": "STRING", "receipt": "STRING"},
        "is_output": True,
    },
    "KlingVideo": {
        "inputs": {
            "task_id": ("STRING", {"default": ""}),
            "timeout_minutes": ("INT", {"default": 30, "min": 1, "max": 1440}),
        },
        "hidden": {"unique_id": "UNIQUE_ID"},
        "outputs": {"video": "VIDEO", "url": "STRING"},
    },
}

# What ComfyUI's own nodes for Kling were called in its versions 0.3.64 and 0.8.0. They bill another account.
PARTNER_NAMES = [
    "Kling Camera Controls",
    "Kling Dual Character Video Effects",
    "Kling Image Generation",
    "Kling Image to Video",
    "Kling Image to Video (Camera Control)",
    "Kling Image(First Frame) to Video",
    "Kling Image(First Frame) to Video with Audio",
    "Kling Lip Sync Video with Audio",
    "Kling Lip Sync Video with Text",
    "Kling Motion Control",
    "Kling Omni Edit Video (Pro)",
    "Kling Omni First-Last-Frame to Video (Pro)",
    "Kling Omni Image (Pro)",
    "Kling Omni Image to Video (Pro)",
    "Kling Omni Text to Video (Pro)",
    "Kling Omni Video to Video (Pro)",
    "Kling Start-End Frame to Video",
    "Kling Text to Video",
    "Kling Text to Video (Camera Control)",
    "Kling Text to Video with Audio",
    "Kling Video Effects",
    "Kling Video Extend",
    "Kling Virtual Try On",
]
PARTNER_IDS = [
    "KlingCameraControlI2VNode",
    "KlingCameraControlT2VNode",
    "KlingCameraControls",
    "KlingDualCharacterVideoEffectNode",
    "KlingImage2VideoNode",
    "KlingImageGenerationNode",
    "KlingImageToVideoWithAudio",
    "KlingLipSyncAudioToVideoNode",
    "KlingLipSyncTextToVideoNode",
    "KlingMotionControl",
    "KlingOmniProEditVideoNode",
    "KlingOmniProFirstLastFrameNode",
    "KlingOmniProImageNode",
    "KlingOmniProImageToVideoNode",
    "KlingOmniProTextToVideoNode",
    "KlingOmniProVideoToVideoNode",
    "KlingSingleImageVideoEffectNode",
    "KlingStartEndFrameNode",
    "KlingTextToVideoNode",
    "KlingTextToVideoWithAudio",
    "KlingVideoExtendNode",
    "KlingVirtualTryOnNode",
]


# The catalogue


def test_the_catalogue_holds_these_nodes(pack: ModuleType):
    assert set(pack.NODE_CLASS_MAPPINGS) == set(CATALOGUE) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)
    assert all(node.__name__ == name for name, node in pack.NODE_CLASS_MAPPINGS.items())


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_order_types_limits_and_defaults_of_inputs_stay(pack: ModuleType, name: str):
    types = pack.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()
    expected = CATALOGUE[name]
    inputs = {**types["required"], **types.get("optional", {})}
    bare = {
        input: (kind, {option: value for option, value in options.items() if option != "tooltip"})
        for input, (kind, options) in inputs.items()
    }
    assert list(bare) == list(expected["inputs"])
    assert bare == expected["inputs"]
    assert list(types.get("optional", {})) == expected.get("optional", [])
    assert types.get("hidden", {}) == expected.get("hidden", {})


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_order_and_types_of_outputs_stay(pack: ModuleType, name: str):
    node = pack.NODE_CLASS_MAPPINGS[name]
    assert dict(zip(node.RETURN_NAMES, node.RETURN_TYPES, strict=True)) == CATALOGUE[name]["outputs"]
    assert getattr(node, "OUTPUT_NODE", False) is CATALOGUE[name].get("is_output", False)


def test_no_node_can_be_mistaken_for_one_of_comfyuis_own(pack: ModuleType):
    for ours in pack.NODE_DISPLAY_NAME_MAPPINGS.values():
        assert ours.startswith("Kling Gateway ")
        for theirs in PARTNER_NAMES:
            assert not ours.lower().startswith(theirs.lower())
            assert not theirs.lower().startswith(ours.lower())
    assert len(set(pack.NODE_DISPLAY_NAME_MAPPINGS.values())) == len(CATALOGUE)


def test_no_node_takes_the_id_of_one_of_comfyuis_own(pack: ModuleType):
    assert not {name.lower() for name in pack.NODE_CLASS_MAPPINGS} & {name.lower() for name in PARTNER_IDS}


# What imports what


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, anywhere in it, with the number of dots in front."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_what_is_not_ours_or_pythons_is_required_by_the_pack_or_brought_by_comfyui(path: Path):
    ours = {"pydantic", "pydantic_core", "requests", "urllib3"}
    brought = {"aiohttp"} if path.parent.name == "routes" else set()
    tops = {module.partition(".")[0] for module, dots in imports(path) if dots == 0}
    strangers = tops - set(sys.stdlib_module_names) - ours - brought
    assert not strangers or path == NODES / "host.py"


def test_no_module_is_too_long_to_be_read_in_one_sitting():
    long = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_every_module_says_what_it_is(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


# Loading

_NOTHING_HAPPENS = """
import importlib.util, os, sys
import pydantic, requests, asyncio, sqlite3, concurrent.futures, logging
root, name = sys.argv[1:]

# With the first model of a process pydantic looks for its plugins, in files that may lie below the checkout.
class First(pydantic.BaseModel):
    pass

def watch(event, args):
    if event == "open":
        path, mode, flags = args
        writes = isinstance(mode, str) and set(mode) & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        ours = isinstance(path, str) and os.path.abspath(path).startswith(root) and not path.endswith((".py", ".pyc"))
        if writes or ours:
            raise SystemExit(f"{event} {args}")
    elif event.startswith(("socket.", "sqlite3.", "subprocess.", "urllib.", "http.", "os.mkdir", "os.remove",
                           "os.rename", "os.putenv", "os.system", "shutil.", "tempfile.", "_thread.start")):
        raise SystemExit(f"{event} {args}")

before = dict(os.environ), list(sys.path), os.getcwd()
sys.addaudithook(watch)
spec = importlib.util.spec_from_file_location(name, os.path.join(root, "__init__.py"))
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert (dict(os.environ), list(sys.path), os.getcwd()) == before
print(*module.NODE_CLASS_MAPPINGS)
"""

_BESIDE_A_FOREIGN_NODES = """
import importlib.util, os, sys, types
root, name = sys.argv[1:]
foreign = types.ModuleType("nodes")
foreign.NODE_CLASS_MAPPINGS = {}
sys.modules["nodes"] = foreign
spec = importlib.util.spec_from_file_location(name, os.path.join(root, "__init__.py"))
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert sys.modules["nodes"] is foreign
assert vars(foreign)["NODE_CLASS_MAPPINGS"] == {}
assert not [other for other in sys.modules if other.startswith("nodes.")]
assert sys.modules[name + ".nodes.api.errors"].KlingError.__module__ == "kling"
print(*module.NODE_CLASS_MAPPINGS)
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -W error: a warning at import would stand in ComfyUI's log.
    return subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", code, *arguments],
        env=unmeasured(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_loading_the_pack_opens_no_file_no_socket_and_no_database():
    ran = python(_NOTHING_HAPPENS, str(ROOT), "pack_under_watch")
    assert (ran.stdout.split(), ran.stderr) == (list(CATALOGUE), "")


def test_the_watch_over_loading_would_notice(tmp_path: Path):
    for line in ("open('x', 'w')", "import sqlite3; sqlite3.connect(':memory:')", "import socket; socket.socket()"):
        (tmp_path / "__init__.py").write_text(f"NODE_CLASS_MAPPINGS = {{}}\n{line}\n", encoding="utf-8")
        assert python(_NOTHING_HAPPENS, str(tmp_path), "pack_under_watch").returncode == 1


@pytest.mark.parametrize("folder", ["main", "ComfyUI-Kling", "kling.gateway-1.2", "1 Kling 可灵"])
def test_the_pack_loads_from_a_folder_of_any_name_beside_comfyuis_own_nodes(tmp_path: Path, folder: str):
    copy = tmp_path / folder
    copy.mkdir()
    shutil.copy(ROOT / "__init__.py", copy)
    shutil.copytree(NODES, copy / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    ran = python(_BESIDE_A_FOREIGN_NODES, str(copy), str(copy).replace(".", "_x_"))
    assert (ran.stdout.split(), ran.stderr) == (list(CATALOGUE), "")


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_one_module_reads_the_environment(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    read = named & {"environ", "getenv", "environb", "expandvars"}
    assert not read or path == NODES / "api" / "environment.py"


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_no_file_is_read_at_import(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for inner in ast.walk(node)
    }
    outside = [node for node in ast.walk(tree) if id(node) not in inside and isinstance(node, ast.Attribute)]
    assert not {node.attr for node in outside} & {"read_text", "read_bytes"}


# Metadata


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def test_pyproject_and_changelog_name_the_version_of_the_pack():
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    assert project()["project"]["version"] == newest[1] == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_what_pip_and_what_comfyui_install_is_the_same():
    required = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    assert required == project()["project"]["dependencies"] == ["requests>=2.32.4", "pydantic>=2.7"]


def test_the_registry_is_told_which_comfyui_is_needed():
    metadata = project()
    assert metadata["tool"]["comfy"]["requires-comfyui"] == ">=0.3.45"
    assert metadata["project"]["requires-python"] == ">=3.10"
