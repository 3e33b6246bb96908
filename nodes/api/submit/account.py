"""What all submissions to one gateway share: settings, client, ledger, sender and finder."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from ..gateway.client import Client
from ..ledger.record import Ledger
from ..pace import Pace
from ..running.threads import WORKERS
from ..settings import Settings
from .lookup import Finder
from .step import Sender


class Account:
    """One gateway, one key and one state directory.

    Args:
        settings: where to send and where to keep the ledger.
        pace: the waiting times; tests shorten them.
        client: used instead of one made from ``settings``.
        ledger: used instead of opening the one in the state directory.

    Attributes:
        under_way: the event loop of each submission of this process that has begun and not ended, and a token.

    Raises:
        SetupError: the ledger cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        pace: Pace | None = None,
        client: Client | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.settings = settings
        self.pace = pace or Pace()
        self.client = client or Client(settings, connections=WORKERS)
        self.ledger = ledger or Ledger(settings.state_dir)
        self.sender = Sender(settings.base_url, self.client, self.ledger)
        self.finder = Finder(settings.base_url, self.client, self.ledger)
        # A set: two threads that change a number at once can lose a change, and others would wait for it.
        self.under_way: set[tuple[asyncio.AbstractEventLoop, object]] = set()


_ledgers: dict[Path, Ledger] = {}
_accounts: dict[tuple[str, Path, bool], Account] = {}
_lock = threading.Lock()


def open_account(settings: Settings) -> Account:
    """The account for these settings, shared by all nodes of this process.

    A new key makes a new account, and nodes that run keep the old one. Both use one ledger, which knows what this
    process is sending and what it could not write yet.

    Raises:
        SetupError: the ledger cannot be used.
    """
    place = settings.base_url, settings.state_dir, bool(settings.key)
    with _lock:
        account = _accounts.get(place)
        if account is None or account.settings != settings:
            account = _accounts[place] = Account(settings, ledger=_open_ledger(settings.state_dir))
        return account


def _open_ledger(directory: Path) -> Ledger:
    if directory not in _ledgers:
        _ledgers[directory] = Ledger(directory)
    return _ledgers[directory]


def failures_so_far() -> int:
    """How many tasks this process has seen fail. It grows whenever some graph has to run again."""
    return sum(ledger.failures for ledger in list(_ledgers.values()))
