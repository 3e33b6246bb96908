"""Every waiting time in seconds: time-outs, pauses, and how long Kling keeps a result."""

from __future__ import annotations

import math
from dataclasses import dataclass

CONNECT_TIMEOUT = 10.0
"""The longest time to connect to a server."""

CREATE_TIMEOUT = 120.0
"""The longest that a POST may take, from connecting to the last byte of its answer."""

QUERY_TIMEOUT = 30.0
"""The longest that a GET may take, from connecting to the last byte of its answer."""

KEY_TEST = 20.0
"""How long the settings panel waits for the gateway when it tests the key."""

LONGEST_POST = CONNECT_TIMEOUT + 2 * CREATE_TIMEOUT
"""No POST takes longer. A row that is ``sending`` after this time is looked up, even if its process is still alive.

It is longer than CREATE_TIMEOUT because the last step begun within that time may end after it: connecting to one
address, a TLS handshake or sending, each with a time-out of its own.
"""

IDLE_MAX = 20.0
"""A connection that was idle for longer is not used again.

A router or proxy may have dropped it silently, and a POST over it would look like a lost answer.
"""

RESULT_LIFE = 30 * 86_400.0
"""Kling deletes results this long after they were made."""


@dataclass(frozen=True)
class Pace:
    """The pauses and limits of waiting nodes. Tests shorten all of them together.

    Attributes:
        connect_tries, connect_pause: how many times a failed connection is retried, and the first pause; it doubles.
        slot_pause, slot_pause_most, slot_wait: the first and the longest pause for a free slot, and the total wait.
        closed_tries: how many times a request is sent again during maintenance.
        look_for, look_pause: how long to look up a task whose answer was lost, and the first pause; it doubles.
        log_looks: how long after a lost answer a relay's log is looked into.
        settle: how long after the POST an unknown id begins to prove that no task was made.
        slice: the time between two checks for Cancel.
        poll: the pauses between two queries, each with the waiting time up to which it applies.
        missing: how long a task may be unknown to the gateway after it was made or last seen.
        url_for, url_pause: how long to wait for the link of a finished task, and the pause between queries meanwhile.
        download_tries: how many tries in a row may deliver nothing new.
        download_pause, download_pause_most: the first and the longest pause between tries; it doubles.
        download_silence: how long a download may deliver nothing before its connection counts as broken.
    """

    connect_tries: int = 3
    connect_pause: float = 1.0
    slot_pause: float = 2.0
    slot_pause_most: float = 60.0
    slot_wait: float = 600.0
    closed_tries: int = 3
    look_for: float = 30.0
    look_pause: float = 1.0
    log_looks: tuple[float, ...] = (2.0, 8.0, 25.0)
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
