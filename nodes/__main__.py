"""The pack without ComfyUI: ``python -m nodes run | sandbox | tasks``.

Results go to standard output, everything said on the way to standard error, so that a script can read the one.
Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Callable, Sequence

from . import NODE_CLASS_MAPPINGS
from .api.errors import GraphError, KlingError
from .console.output import ExitCode, say
from .console.run import run_file
from .console.tasks import list_tasks, recover_tasks, show_task
from .sandbox import serve
from .workflow.prompt import WorkflowError

_STOPPED = (
    "stopped. What was sent is not lost: run the same command again to go on with it without paying twice; "
    "`python -m nodes tasks` lists it."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no character that a console lacks may end the program
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except WorkflowError as error:
        say(f"error: {error}")
        return ExitCode.BAD_INPUT
    except KlingError as error:
        say(f"error: {error}")
        return ExitCode.BAD_INPUT if isinstance(error, GraphError) else ExitCode.FAILED
    except KeyboardInterrupt:
        say(_STOPPED)
        return ExitCode.STOPPED
    except BrokenPipeError:
        # Whoever read the output has left. Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def run_command(options: argparse.Namespace) -> int:
    """Run the Kling part of a workflow file."""
    return run_file(
        options.file,
        NODE_CLASS_MAPPINGS,
        settings=options.set,
        dry_run=options.dry_run,
        in_sandbox=options.sandbox,
        output=options.output,
    )


def sandbox_command(options: argparse.Namespace) -> int:
    """Run a gateway on this computer until Ctrl-C."""
    try:
        serve(options.port, host=options.host, latency=options.latency)
    except OSError as error:
        say(f"error: port {options.port} of {options.host} cannot be used: {error.strerror or error}")
        return ExitCode.FAILED
    return ExitCode.DONE


def tasks_command(options: argparse.Namespace) -> int:
    """List, recover or show what the ledger holds."""
    if options.action == "recover":
        return recover_tasks()
    return show_task(options.id) if options.action == "show" else list_tasks(as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nodes", description="Kling text to video without ComfyUI.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="run | sandbox | tasks")

    command = commands.add_parser(
        "run", help="run the Kling part of a workflow and print the task_id", allow_abbrev=False
    )
    command.add_argument("file", metavar="FILE.json", help="a workflow as saved or exported by ComfyUI")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--sandbox", action="store_true", help="use a gateway inside this program; costs nothing")
    how.add_argument("--dry-run", action="store_true", help="print the request and a curl command; send nothing")
    value = "change a value of the file; NODE is an id or a title"
    command.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help=value)
    command.add_argument("--output", metavar="DIR", help="wait for the videos and write them there as MP4")
    command.set_defaults(command=run_command)

    command = commands.add_parser("sandbox", help="a gateway on this computer, to try things out", allow_abbrev=False)
    command.add_argument("--port", type=_port, required=True, metavar="N", help="0 takes a free one")
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: this computer alone")
    command.add_argument("--latency", type=_seconds, default=0.0, metavar="S", help="seconds before it answers")
    command.set_defaults(command=sandbox_command)

    command = commands.add_parser("tasks", help="what was sent from this computer", allow_abbrev=False)
    command.add_argument("--json", action="store_true", help="the list as JSON")
    command.set_defaults(command=tasks_command, action="list")
    actions = command.add_subparsers(title="actions", metavar="recover | show")
    action = actions.add_parser("recover", help="look up every task whose fate is unknown")
    action.set_defaults(action="recover")
    action = actions.add_parser("show", help="one task with its request")
    action.add_argument("id", metavar="ID", help="a task_id or an external_task_id")
    action.set_defaults(action="show")
    return parser


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if 0 <= number <= 65535:
        return number
    raise argparse.ArgumentTypeError(f"{text} is no port; allowed: 0 to 65535")


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if number >= 0 and math.isfinite(number):
        return number
    raise argparse.ArgumentTypeError(f"{text} is no time; allowed: 0 or more seconds")


if __name__ == "__main__":
    sys.exit(main())
