"""What all tests share: the pack as ComfyUI loads it, a sandbox gateway, and a clean environment."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from body_schema import assert_all_bodies_fit
from environment import Environment, reread
from graph import Graph

from nodes.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
PYTHONPATH = os.pathsep.join(str(path) for path in (ROOT, TESTS, TESTS / "support"))
"""For a process of its own that imports the pack and what the tests share."""

KEY = "sk-test-0123456789abcdef"
OTHER_KEY = "sk-other-9876543210fedcba"


class _RootIsNoPackage:
    """Keeps pytest from importing the pack's ``__init__.py``, which only ComfyUI can name in every checkout."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kling")
    group.addoption("--fault-runs", type=int, default=100, metavar="N", help="random sequences in the fault matrix")
    group.addoption("--fault-seed", type=int, default=1, metavar="SEED", help="their seed")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_RootIsNoPackage())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests inside ComfyUI in one process: each process would start a ComfyUI and a browser of its own."""
    for item in items:
        if "host_gateway" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("comfyui"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the fault matrix came to, whichever processes ran it."""
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                total.update(dict(report.user_properties).get("fault matrix", {}))
    if total:
        terminalreporter.section("fault matrix")
        terminalreporter.write_line(", ".join(f"{name}: {count}" for name, count in total.items()))


def unmeasured() -> dict[str, str]:
    """The environment for a child process that coverage is to leave alone.

    Coverage opens files when a process ends, and leaves half a file if the process is killed while it does.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


@pytest.fixture
def environment() -> Iterator[Environment]:
    """The only way to change a variable that the pack reads."""
    with pytest.MonkeyPatch.context() as patch:
        yield Environment(patch)
    reread()


@pytest.fixture(autouse=True)
def clean_environment(environment: Environment, tmp_path: Path) -> None:
    """No test sees the developer's key, gateway, proxy or ledger."""
    names = ("KLING_API_KEY", "KLING_BASE_URL", "http_proxy", "https_proxy", "all_proxy")
    unset: dict[str, str | None] = {spelled: None for name in names for spelled in (name, name.upper())}
    # Most tests send more tasks than the default limit allows; those of the limits set their own.
    environment.change({**unset, "KLING_STATE_DIR": str(tmp_path / "state"), "KLING_MAX_TASKS_PER_HOUR": "0"})


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A gateway of this test's own, on a free port. An independent schema checks every body that reached it."""
    with Sandbox() as running:
        yield running
    assert_all_bodies_fit(running)


@pytest.fixture
def gateway(sandbox: Sandbox, environment: Environment) -> Sandbox:
    """The sandbox, with the pack pointed at it."""
    environment.set("KLING_BASE_URL", sandbox.base_url)
    environment.set("KLING_API_KEY", KEY)
    return sandbox


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """The whole pack under a module name like those that ComfyUI gives: a path with dots replaced."""
    name = str(ROOT).replace(".", "_x_") + "_as_loaded"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def graph(pack: ModuleType) -> Graph:
    """The pack's nodes, ready to run."""
    return Graph(pack)
