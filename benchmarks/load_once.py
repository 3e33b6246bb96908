"""Load the pack once, as ComfyUI does, and print as JSON what that took. Run as a script, so nothing else is loaded."""

# ruff: noqa: E402, F401
import sys
import time

began = time.process_time()

import asyncio
import sqlite3

import pydantic
import requests


class Model(pydantic.BaseModel):
    """Half of pydantic is loaded only when the first model is built."""

    number: int = pydantic.Field(1, ge=0)


others = time.process_time() - began

import importlib.util
import json
import os
from pathlib import Path

PACK = Path(__file__).resolve().parents[1]
CODE = (".py", ".pyc", ".pyd", ".so")
"""Files that importing itself reads."""

touched: list[str] = []


def watch(event: str, values: tuple[object, ...]) -> None:
    """Note files, connections and processes, other than the reading of code."""
    if event == "open" and str(values[0]).endswith(CODE):
        return
    if event == "open" or event.startswith(("socket.", "sqlite3.", "os.mk", "os.re", "subprocess.", "shutil.")):
        touched.append(f"{event} {values[0]}")


def memory() -> int | None:
    """Bytes of this process in memory; None where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else None


def load() -> None:
    """From the file, under a name made of the path."""
    name = str(PACK).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


before = memory()
if "--watch" in sys.argv:
    sys.addaudithook(watch)
start = time.process_time()
load()
seconds = time.process_time() - start
found = list(touched)
after = memory()
grown = None if before is None or after is None else after - before
print(json.dumps({"seconds": seconds, "others": others, "memory": grown, "touched": found}))
