"""The picture: wall time against number of tasks, as an SVG that needs nothing to be drawn."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("wall_time.svg")

LEFT, RIGHT, TOP, BOTTOM = 70, 590, 60, 360
COLOURS = {"one after another": "#8a8f98", "this pack": "#0b6bcb", "ideal": "#2e8b57"}
SECONDS = (0.5, 1, 2, 4, 8, 16, 32, 64)


def draw(curves: Mapping[str, Mapping[int, float]], latency: float) -> Path:
    """Write the picture. Both axes double with each step, so that doubling the tasks is one step to the right."""
    counts = sorted(next(iter(curves.values())))
    across = (RIGHT - LEFT) / math.log2(counts[-1] / counts[0])
    low, high = math.log2(0.4), math.log2(90)

    def place(count: float, seconds: float) -> tuple[float, float]:
        x = LEFT + across * math.log2(count / counts[0])
        y = BOTTOM - (BOTTOM - TOP) * (math.log2(seconds) - low) / (high - low)
        return round(x, 1), round(y, 1)

    cores = os.cpu_count()
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 420" font-family="sans-serif" font-size="13">',
        '<rect width="780" height="420" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="28" font-size="16" fill="#1c1e21">Seconds until all tasks are accepted</text>',
        f'<text x="{LEFT}" y="46" fill="#5f6570">The gateway answers each after {latency:g} s; {cores} cores</text>',
    ]
    for seconds in SECONDS:
        _, y = place(counts[0], seconds)
        parts.append(f'<path d="M{LEFT} {y}H{RIGHT}" stroke="#e3e5e8"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#5f6570">{seconds:g} s</text>')
    for count in counts:
        x, _ = place(count, 1)
        parts.append(f'<text x="{x}" y="{BOTTOM + 20}" text-anchor="middle" fill="#5f6570">{count}</text>')
    middle = (LEFT + RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{BOTTOM + 42}" text-anchor="middle" fill="#5f6570">number of tasks</text>')
    for name, curve in curves.items():
        points = [place(count, curve[count]) for count in counts]
        line = " ".join(f"{x},{y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if name == "ideal" else ""
        colour = COLOURS[name]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        if not dashes:
            parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        label = f"{name}, {curve[counts[-1]]:.1f} s"
        # The two lower lines end close together: one label above its line's end, one below.
        shift = {"ideal": 16, "this pack": -4}.get(name, 4)
        parts.append(f'<text x="{x + 8}" y="{y + shift}" fill="{colour}">{label}</text>')
    FILE.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
    return FILE
