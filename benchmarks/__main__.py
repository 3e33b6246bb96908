"""Measure everything, or only what is named, and print the table. The exit code is 1 if a target is missed."""

from __future__ import annotations

import argparse
import os
import platform

from . import at_once, comfyui, download, growth, loading, submission, waiting
from .figures import Figure, apart, table

MEASURES = {
    module.__name__.rpartition(".")[2]: module.measure
    for module in (at_once, comfyui, submission, loading, waiting, growth, download)
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MEASURES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to try it out, not to be quoted")
    options = parser.parse_args()
    if unknown := set(options.names) - MEASURES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}, load {_load()}")
    figures: list[Figure] = []
    for name in options.names or MEASURES:
        print(f"measuring: {name}", flush=True)
        figures += apart(MEASURES[name], options.quick)
    print(f"load afterwards {_load()}\n\n{table(figures)}")
    raise SystemExit(not all(figure.is_met for figure in figures))


def _load() -> str:
    """The load average: other programs at work make the figures rough."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


if __name__ == "__main__":
    main()
