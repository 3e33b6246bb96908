"""``python -m benchmarks``: measures everything, or the targets that are named, and prints the table."""

from __future__ import annotations

import argparse

from . import comfyui, cost, download, growth, loading, many, picture, waiting
from .figures import Figure, apart, machine, table, write_json

MEASURES = {
    "many": (many.measure, 7),
    "comfyui": (comfyui.measure, 7),
    "cost": (cost.measure, 25),
    "loading": (loading.measure, 21),
    "waiting": (waiting.measure, 1),
    "growth": (growth.measure, 61),
    "download": (download.measure, 1),
}
"""Each with the number of its repetitions."""


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MEASURES)} or picture; default: all")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to try it out, not to be quoted")
    options = parser.parse_args()
    names = options.names or [*MEASURES, "picture"]
    unknown = set(names) - {*MEASURES, "picture"}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    before = machine()
    print(f"{before['cores']} cores, Python {before['python']}, {before['system']}, load {before['load']}")
    if isinstance(load := before["load"], float) and load > 1:
        print("Other programs are at work: the figures will be rough.")
    figures: list[Figure] = []
    for name in names:
        print(f"measuring: {name}", flush=True)
        if name == "picture":
            print(f"wrote {picture.draw(many.curve(1 if options.quick else 3), many.LATENCY)}")
            continue
        measure, repetitions = MEASURES[name]
        figures += apart(measure, min(3, repetitions) if options.quick else repetitions)
    print(f"\n{table(figures)}\n\nall repetitions: {write_json(figures, before)}")


if __name__ == "__main__":
    main()
