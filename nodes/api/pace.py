"""Every waiting time, in seconds: time-outs, pauses, and how long Kling keeps a result."""

from __future__ import annotations

import math
from dataclasses import dataclass

CONNECT_TIMEOUT = 10.0
"""To connect to a server."""

CREATE_TIMEOUT = 120.0
"""Until the answer to a POST begins, and as long again for its body."""

QUERY_TIMEOUT = 30.0
"""The same for a GET."""

LONGEST_POST = CONNECT_TIMEOUT + 2 * CREATE_TIMEOUT
"""After this time a row that is still ``sending`` is looked up, even if its process lives. It is not sent again."""

IDLE_MAX = 20.0
"""A kept connection that was idle for longer is not used again.

A device on the way may have dropped it silently, and a POST over it would look like a lost answer.
"""

RESULT_LIFE = 30 * 86_400.0
"""Kling deletes results this long after they were made. An older task is not worth reusing."""


@dataclass(frozen=True)
class Pace:
    """The pauses that nodes make. Tests shorten all of them together.

    Attributes:
        connect_tries, connect_pause: how often a failed connection is tried again, and the first pause; it doubles.
        slot_pause, slot_pause_most, slot_wait: the first and the longest pause for a free slot, and the whole wait.
        closed_tries: how often a request is sent again during maintenance.
        look_for, look_pause: how long a lost answer is looked up, and the first pause; it doubles.
        settle: how long after the POST an unknown id is taken as proof that no task was made.
        slice: how often a waiting node checks for Cancel.
        poll: pauses between two questions about a task, each with the waiting time up to which it applies.
        missing: how long a task may be unknown to the gateway after it was made or last seen.
        url_for, url_pause: how long a finished task may lack the link to its video, and the pause meanwhile.
        download_tries: how many tries in a row may bring nothing new.
        download_pause, download_pause_most: the first and the longest pause between them; it doubles.
        download_silence: how long a download may bring nothing before its connection counts as broken.
    """

    connect_tries: int = 3
    connect_pause: float = 1.0
    slot_pause: float = 2.0
    slot_pause_most: float = 60.0
    slot_wait: float = 600.0
    closed_tries: int = 3
    look_for: float = 30.0
    look_pause: float = 1.0
    settle: float = 60.0
    slice: float = 0.5
    poll: tuple[tuple[float, float], ...] = ((1, 1), (3, 2), (6, 3), (60, 5), (180, 10), (math.inf, 15))
    missing: float = 60.0
    url_for: float = 30.0
    url_pause: float = 3.0
    download_tries: int = 5
    download_pause: float = 1.0
    download_pause_most: float = 30.0
    download_silence: float = 30.0
