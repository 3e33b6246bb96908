"""What all submissions to one gateway share: settings, client, ledger, and the sender."""

from __future__ import annotations

import asyncio
import threading

from ..gateway.client import Client
from ..ledger.record import Ledger
from ..pace import Pace
from ..running.threads import WORKERS
from ..settings import Settings
from .step import Sender


class Account:
    """One gateway, one key and one state directory.

    Args:
        settings: where to send and where to keep the ledger.
        pace: the waiting times; tests shorten them.
        client: used instead of one made from ``settings``.

    Attributes:
        under_way: the event loop of each submission of this process that has begun and not ended, and a token.

    Raises:
        SetupError: the ledger cannot be used.
    """

    def __init__(self, settings: Settings, *, pace: Pace | None = None, client: Client | None = None) -> None:
        self.settings = settings
        self.pace = pace or Pace()
        self.client = client or Client(settings, connections=WORKERS)
        self.ledger = Ledger(settings.state_dir)
        self.sender = Sender(settings.base_url, self.client, self.ledger)
        # A set: two threads that change a number at once can lose a change, and others would wait for it.
        self.under_way: set[tuple[asyncio.AbstractEventLoop, object]] = set()


_accounts: dict[Settings, Account] = {}
_lock = threading.Lock()


def open_account(settings: Settings) -> Account:
    """The account for these settings, shared by all nodes of this process.

    Raises:
        SetupError: the ledger cannot be used.
    """
    with _lock:
        if settings not in _accounts:
            _accounts[settings] = Account(settings)
        return _accounts[settings]


def failures_so_far() -> int:
    """How many tasks this process has seen fail. It grows whenever some graph has to run again."""
    return sum(account.ledger.failures for account in list(_accounts.values()))
