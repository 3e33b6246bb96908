"""Load the pack once, as ComfyUI does, and print as JSON what that took. A script: nothing else may be loaded."""

import sys
import time

began = time.process_time()

import pydantic  # noqa: E402
import requests  # noqa: E402, F401


class Model(pydantic.BaseModel):
    """Whoever has pydantic has built a model, which loads the half of it."""

    number: int = pydantic.Field(1, ge=0)


others = time.process_time() - began

import importlib.util  # noqa: E402
from pathlib import Path  # noqa: E402

PACK = Path(__file__).resolve().parents[1]
CODE = (".py", ".pyc", ".pyd", ".so")
"""Files that importing itself reads."""

events: list[str] = []
watching = False


def watch(event: str, values: tuple[object, ...]) -> None:
    """Note what leaves the process, or is read into it, other than code."""
    if not watching or (event == "open" and str(values[0]).endswith(CODE)):
        return
    if event == "open" or event.startswith(("socket.", "sqlite3.", "os.mk", "os.re", "subprocess.", "shutil.")):
        events.append(f"{event} {values[0]}")


def memory() -> int | None:
    """Bytes of this process in memory, by Python's own count if that is on; None where the system does not tell."""
    if "--trace" in sys.argv:
        return tracemalloc.get_traced_memory()[0]
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * 4096


name = str(PACK).replace(".", "_x_")


def load() -> None:
    """The way of ComfyUI: from the file, under a name made of the path."""
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if "--as-in-comfyui" in sys.argv:
    import asyncio  # noqa: F401
    import sqlite3  # noqa: F401
    import uuid  # noqa: F401
if "--trace" in sys.argv:
    import tracemalloc

    tracemalloc.start()
if "--watch" in sys.argv:
    sys.addaudithook(watch)
at_first = memory()
watching = "--watch" in sys.argv
start = time.process_time()
load()
seconds = time.process_time() - start
watching = False
after = memory()
start = time.process_time()
for module in ("jobs", "wait", "download"):
    importlib.import_module(f"{name}.nodes.api.{module}")
with_page = time.process_time() - start
at_last = memory()
import json  # noqa: E402


def grown(earlier: int | None, since: int | None) -> int | None:
    return None if earlier is None or since is None else since - earlier


print(
    json.dumps(
        {
            "seconds": seconds,
            "others": others,
            "with_page": with_page,
            "memory": grown(at_first, after),
            "memory_with_page": grown(after, at_last),
            "events": events,
        }
    )
)
