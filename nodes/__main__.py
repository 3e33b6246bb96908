"""The command line, which needs no ComfyUI: ``python -m nodes run | sandbox | tasks``.

Results go to standard output and messages to standard error, so that a script can read the results alone.
Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

from . import NODE_CLASS_MAPPINGS
from .api.errors import GraphError, KlingError
from .api.printable import printable
from .console.output import ExitCode, say
from .console.run import run_file
from .console.tasks import list_tasks, recover_tasks, show_task, sum_tasks
from .sandbox import FAMILIES, serve
from .workflow.prompt import WorkflowError

_STOPPED = (
    "stopped. Tasks that were submitted are not lost. Run the same command again to continue without paying twice; "
    "`python -m nodes tasks` lists them."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the console lacks must not end the program
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
        # The reader closed the pipe. Without this, Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def run_command(options: argparse.Namespace) -> int:
    """Run the Kling part of a workflow file."""
    return run_file(
        options.file,
        NODE_CLASS_MAPPINGS,
        values=options.set,
        dry_run=options.dry_run,
        in_sandbox=options.sandbox,
        output=options.output,
        max_new=options.max_new,
    )


def sandbox_command(options: argparse.Namespace) -> int:
    """Run a gateway on this computer until Ctrl-C."""
    try:
        serve(options.port, host=options.host, latency=options.latency, family=options.family)
    except OSError as error:
        say(f"error: cannot listen on port {options.port} of {options.host}: {error.strerror or error}")
        return ExitCode.FAILED
    return ExitCode.DONE


def tasks_command(options: argparse.Namespace) -> int:
    """List the submissions in the ledger, recover them, or show one."""
    if options.action == "recover":
        return recover_tasks()
    if options.action == "show":
        return show_task(options.id)
    if options.sum:
        return sum_tasks(options.since, as_json=options.json)
    return list_tasks(options.since, as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m nodes", description="Kling text to video without ComfyUI.", allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="run | sandbox | tasks")

    command = commands.add_parser(
        "run", help="run the Kling part of a workflow and print the task_id", allow_abbrev=False
    )
    command.add_argument("file", metavar="FILE.json", help="a workflow saved or exported by ComfyUI")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--sandbox", action="store_true", help="use a built-in test gateway; costs nothing")
    how.add_argument("--dry-run", action="store_true", help="print the request and a curl command; send nothing")
    value = "change the value of an input; NODE is an id or a title"
    command.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help=value)
    command.add_argument("--output", metavar="DIR", help="wait for the videos and save them there as MP4")
    most = "stop before anything is sent if the run would make more new tasks"
    command.add_argument("--max-new", type=_count, metavar="N", help=most)
    command.set_defaults(command=run_command)

    command = commands.add_parser("sandbox", help="run a test gateway on this computer", allow_abbrev=False)
    command.add_argument("--port", type=_port, required=True, metavar="N", help="0 picks a free port")
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: this computer only")
    command.add_argument("--latency", type=_seconds, default=0.0, metavar="S", help="seconds before a POST is answered")
    family = "kling knows a task by its external_task_id; new-api is a relay that does not, with books (default: kling)"
    command.add_argument("--family", choices=list(FAMILIES), default="kling", help=family)
    command.set_defaults(command=sandbox_command)

    command = commands.add_parser("tasks", help="list what was submitted from this computer", allow_abbrev=False)
    command.add_argument("--json", action="store_true", help="print as JSON")
    command.add_argument("--sum", action="store_true", help="print sums per model and in all: tasks, units")
    command.add_argument("--since", type=_day, metavar="DATE", help="only submissions from this day on: 2026-11-25")
    command.set_defaults(command=tasks_command, action="list")
    actions = command.add_subparsers(title="actions", metavar="recover | show")
    action = actions.add_parser("recover", help="look up every submission whose answer was lost")
    action.set_defaults(action="recover")
    action = actions.add_parser("show", help="show one task with its request")
    action.add_argument("id", metavar="ID", help="a task_id or an external_task_id")
    action.set_defaults(action="show")
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with a message. It may quote a file name that a pattern of the shell has found."""
        super().error(printable(message))


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if 0 <= number <= 65535:
        return number
    raise argparse.ArgumentTypeError(f"{text} is not a valid port; allowed: 0 to 65535")


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a whole number; allowed: 0 or more")


def _day(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d").timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text} is not a date; write it as 2026-11-25") from None


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if number >= 0 and math.isfinite(number):
        return number
    raise argparse.ArgumentTypeError(f"{text} is not a valid time; allowed: 0 or more seconds")


if __name__ == "__main__":
    sys.exit(main())
