"""The design in docs/ and CONTRIBUTING.md names nothing that does not exist, and leaves out no outcome and no state."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from nodes.api.gateway.outcome import Outcome
from nodes.api.ledger.row import State

ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
STATES = {value for name, value in vars(State).items() if name.isupper()}

_FILE = re.compile(r"[\w./-]+\.(py|js|mjs|json|md|toml|txt|yml)")


def _words() -> set[str]:
    """All words of the source that a code name may consist of."""
    files = [ROOT / "pyproject.toml", ROOT / "dev.py"]
    for folder in ("nodes", "web/js", "benchmarks", "tests"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".js")]
    files.remove(Path(__file__))  # it holds names that do not exist
    return {word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}


WORDS = _words()


def exists(path: str) -> bool:
    """Whether there is such a file or folder; a bare file name may be anywhere in the pack or its tests."""
    if "/" in path:
        return (ROOT / path).exists()
    folders = ("nodes", "web", "tests", "benchmarks", "docs")
    return (ROOT / path).exists() or any(any((ROOT / folder).rglob(path)) for folder in folders)


def is_known(span: str) -> bool:
    """Whether a code span names something that exists: a path, a route, or names that the source uses."""
    path, placeholder, _ = span.partition("<")
    if placeholder:
        path = path.rpartition("/")[0]
    if _FILE.fullmatch(path) or placeholder or ("/" in path and not path.startswith("/") and " " not in path):
        return exists(path)
    return WORDS.issuperset(re.findall(r"\w+", span))


def spans(text: str) -> list[str]:
    """The code spans of a page, without its drawings and commands."""
    prose = re.sub(r"^```[\s\S]*?^```$|^    \S.*$", "", text, flags=re.MULTILINE)
    return re.findall(r"`([^`]+)`", prose)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_everything_that_is_named_exists(page: Path) -> None:
    named = spans(page.read_text(encoding="utf-8"))
    assert named
    assert [span for span in named if not is_known(span)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(
    "span",
    ["nodes/api/attempt.py", "attempt.py", "Outcome.MISLAID", "nodes/api/client/", "/kling/wallet", "KLING_HOME"],
)
def test_a_name_that_does_not_exist_is_noticed(span: str) -> None:
    assert not is_known(span)


def first_cells(heading: str, column: str) -> list[str]:
    """What stands in backticks in the first column of the table under a heading."""
    section = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", ARCHITECTURE.read_text(encoding="utf-8"), re.M | re.S
    )
    assert section, heading
    table = re.search(rf"^\| {column} \|.*?(?=\n\n|\Z)", section[1], re.M | re.S)
    assert table, column
    return re.findall(r"^\| `(\w+)` \|", table[0], re.MULTILINE)


def test_the_table_of_outcomes_is_complete() -> None:
    named = first_cells("What a POST came to, and what is done", "outcome")
    assert sorted(named) == sorted(outcome.name for outcome in Outcome)


def test_the_table_of_states_is_complete() -> None:
    assert sorted(first_cells("The ledger", "state")) == sorted(STATES)


def test_the_drawing_of_states_is_complete() -> None:
    drawing = re.search(r"stateDiagram-v2\n(.*?)```", ARCHITECTURE.read_text(encoding="utf-8"), re.DOTALL)
    assert drawing
    assert set(re.findall(r"\b[a-z]+\b(?= -->|:)", drawing[1])) == STATES
    settled = {name for label in re.findall(r": (.+)", drawing[1]) for name in re.findall(r"\b[A-Z_]{4,}\b", label)}
    assert settled - {"POST"} == {outcome.name for outcome in Outcome}
