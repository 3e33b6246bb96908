"""Fixtures for the tests of submissions: ``pytest_plugins = ["fault_fixtures"]``. PYTEST_DONT_REWRITE: no asserts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_tools import PATIENT, Gate, opened

from nodes.api.submit.account import Account
from nodes.sandbox import Sandbox


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def account(sandbox: Sandbox, state: Path) -> Iterator[Account]:
    with opened(sandbox.base_url, state) as running:
        yield running


@pytest.fixture
def patient(sandbox: Sandbox, state: Path) -> Iterator[Account]:
    """A second process on the same ledger, that looks a task up for as long as it takes."""
    with opened(sandbox.base_url, state, PATIENT) as running:
        yield running


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def gated(gate: Gate) -> Iterator[Sandbox]:
    """A sandbox whose answers the gate can hold back."""
    with Sandbox(log=gate) as running:
        yield running
        gate.open()
