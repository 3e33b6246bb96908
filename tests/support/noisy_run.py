"""A process in which everything fails at once, as noisily as possible: ``python noisy_run.py FAULT...``

The key and the state directory come from the environment. Each fault has a gateway of its own. Standard output
gets what a host would show of each failure and more, standard error all loggers at DEBUG.
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
import warnings
from contextlib import ExitStack
from typing import Any

from graph import PLAIN

from nodes import NODE_CLASS_MAPPINGS
from nodes.api import environment
from nodes.api.errors import KlingError
from nodes.api.submit import account as accounts
from nodes.sandbox import Sandbox

ECHOES = ["echo-key:html", "echo-key:gateway", "echo-key:kling"]
GONE = "gone"
FINE = "fine"


def show(error: BaseException) -> None:
    seen: BaseException | None = error
    while seen is not None:
        print(repr(seen), str(seen), seen.args, vars(seen))
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    print("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    logging.getLogger("test").error("it failed", exc_info=error)


async def submit(external_task_id: str) -> Any:
    node = NODE_CLASS_MAPPINGS["KlingText2Video"]()
    return await node.submit(**{**PLAIN, "external_task_id": external_task_id})


async def main(faults: list[str]) -> None:
    with ExitStack() as stack:
        runs = []
        for number, fault in enumerate(faults):
            sandbox = stack.enter_context(Sandbox())
            if fault == GONE:
                sandbox.stop()
            elif fault != FINE:
                sandbox.misbehave("create", fault)
                sandbox.misbehave("query", *ECHOES * 3)
            with environment.replaced({"KLING_BASE_URL": sandbox.base_url}):
                runs.append(asyncio.create_task(submit(f"boat-{number}")))
                await asyncio.sleep(0)  # the node reads its settings before it first waits
        for number, result in enumerate(await asyncio.gather(*runs, return_exceptions=True)):
            print(f"--- {number}")
            if isinstance(result, BaseException):
                show(result)
            else:
                print(json.dumps(result))
        for gateway in accounts._accounts.values():
            print(repr(gateway), repr(gateway.settings), repr(gateway.client), repr(gateway.ledger))
            try:
                print(gateway.client.query("boat-1"))
            except KlingError as error:
                show(error)
        print("--- insides")
        for gateway in accounts._accounts.values():
            print(vars(gateway), vars(gateway.client), vars(gateway.ledger))


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    warnings.simplefilter("always")
    asyncio.run(main(sys.argv[1:]))
    # Kept connections end with the process, and Python names their addresses where urllib3 1.26 has not closed them.
    warnings.simplefilter("ignore", ResourceWarning)
    print("--- end")
