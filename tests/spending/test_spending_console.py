"""What the console says of a run's price, its limits, and the sums of the ledger; further models by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import cli, node, submit
from conftest import KEY
from environment import Environment
from fault_tools import age

from nodes.sandbox import Sandbox


@pytest.fixture
def here(gateway: Sandbox, environment: Environment) -> Sandbox:
    """A gateway, and the limits as a user has them."""
    environment.unset("KLING_MAX_TASKS_PER_HOUR")
    return gateway


def workflow(tmp_path: Path, *nodes: dict[str, Any]) -> Path:
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps({str(number): each for number, each in enumerate(nodes, 1)}), encoding="utf-8")
    return file


def takes(*numbers: int) -> list[dict[str, Any]]:
    return [submit(take=number) for number in numbers]


def test_a_run_says_what_it_buys_before_the_first_request(here: Sandbox, tmp_path: Path) -> None:
    done = cli("run", workflow(tmp_path, *takes(1, 2, 2)))
    assert done.returncode == 0 and len(here.creates()) == 2
    first, *_ = done.stderr.splitlines()
    assert first == "This run makes 2 new tasks: about 6 units (list price about USD 0.84)."
    again = cli("run", workflow(tmp_path, *takes(1, 2, 3)))
    assert again.stderr.splitlines()[0] == (
        "This run makes 1 new task: about 3 units (list price about USD 0.42). 2 tasks will be reused for free."
    )
    assert len(here.creates()) == 3
    assert cli("run", workflow(tmp_path, *takes(1))).stderr.splitlines()[0] == "1 task will be reused for free."


def test_a_run_names_the_hosts_that_its_results_are_reported_to(here: Sandbox, tmp_path: Path) -> None:
    told = "This run makes 3 new tasks: about 9 units (list price about USD 1.26). The results are reported to"
    urls = ["https://b.example/in", "http://A.example/", "https://b.example/other"]
    file = workflow(tmp_path, *(submit(callback_url=url) for url in urls))
    for arguments in (["--dry-run"], []):
        assert f"{told} a.example, b.example (callback_url).\n" in cli("run", file, *arguments).stderr
    assert len(here.creates()) == 3


def test_a_run_above_the_limit_stops_before_any_request(
    here: Sandbox, tmp_path: Path, environment: Environment
) -> None:
    done = cli("run", workflow(tmp_path, *takes(*range(1, 22))))
    assert done.returncode == 1 and here.received == [] and done.stdout == ""
    assert "The limit of 20 new tasks in 60 minutes is reached" in done.stderr
    environment.set("KLING_MAX_TASKS_PER_HOUR", "0")
    environment.set("KLING_MAX_UNITS_PER_DAY", "5")
    done = cli("run", workflow(tmp_path, *takes(1, 2)))
    assert done.returncode == 1 and here.received == []
    assert "The limit of 5 units in 24 hours" in done.stderr


def test_max_new_also_holds_for_what_the_rehearsal_cannot_see(here: Sandbox, tmp_path: Path) -> None:
    here.queued_for = here.runs_for = 0.1
    chain = [*takes(1), node("KlingVideo", task_id=["1", 0], timeout_minutes=5), submit(prompt=["2", 1])]
    done = cli("run", workflow(tmp_path, *chain), "--max-new", 1)
    assert done.returncode == 1 and len(here.creates()) == 1
    assert "--max-new: this run would make more than 1 new task" in done.stderr


def test_max_new_also_holds_for_a_request_that_is_sent_again(here: Sandbox, tmp_path: Path) -> None:
    """It was lost, the rehearsal takes it for a task that exists, and then it is proven that it does not."""
    here.misbehave("create", "drop-before")
    here.misbehave("query", *["not-found", "code:1000"])
    file = workflow(tmp_path, *takes(1))
    assert cli("run", file).returncode == 1
    here.clear_faults()
    age(tmp_path / "state", 300)  # long enough ago for an unknown id to be a proof
    done = cli("run", file, "--max-new", 0)
    assert done.returncode == 1 and len(here.creates()) == 1 and here.tasks == {}
    assert cli("run", file, "--max-new", 1).returncode == 0 and len(here.creates()) == 2


def test_max_new_is_a_limit_for_one_run_and_never_above_the_owners(
    here: Sandbox, tmp_path: Path, environment: Environment
) -> None:
    done = cli("run", workflow(tmp_path, *takes(1, 2, 3)), "--max-new", 2)
    assert done.returncode == 1 and here.received == []
    assert "--max-new: this run would make 3 new tasks; 2 are allowed. Nothing was sent" in done.stderr
    assert cli("run", workflow(tmp_path, *takes(1, 2)), "--max-new", 2).returncode == 0
    # Reused tasks are not new.
    assert cli("run", workflow(tmp_path, *takes(1, 2)), "--max-new", 0).returncode == 0
    environment.set("KLING_MAX_TASKS_PER_HOUR", "2")
    assert cli("run", workflow(tmp_path, *takes(3)), "--max-new", 50).returncode == 1
    assert len(here.creates()) == 2
    assert cli("run", workflow(tmp_path, *takes(3)), "--max-new", "many").returncode == 2


def test_the_sandbox_is_exempt(tmp_path: Path, environment: Environment) -> None:
    environment.set("KLING_MAX_TASKS_PER_HOUR", "1")
    done = cli("run", workflow(tmp_path, *takes(1, 2, 3)), "--sandbox")
    assert done.returncode == 0 and len(done.stdout.split()) == 3


def test_a_limit_that_cannot_be_read_stops_the_run(here: Sandbox, tmp_path: Path, environment: Environment) -> None:
    environment.set("KLING_MAX_TASKS_PER_HOUR", "lots")
    done = cli("run", workflow(tmp_path, *takes(1)))
    assert done.returncode == 1 and here.received == []
    assert "KLING_MAX_TASKS_PER_HOUR must be a whole number" in done.stderr


def test_a_dry_run_estimates_each_request_and_the_sum(here: Sandbox, tmp_path: Path) -> None:
    both = [submit(), submit(model_name="kling-v2-master", duration=10)]
    done = cli("run", workflow(tmp_path, *both), "--dry-run")
    assert done.returncode == 0 and here.received == []
    estimates = [line for line in done.stderr.splitlines() if "units" in line]
    assert estimates == [
        "Estimate: about 3 units (list price about USD 0.42).",
        "Estimate: about 20 units (list price about USD 2.80).",
        "This run makes 2 new tasks: about 23 units (list price about USD 3.22).",
    ]


def test_sums_of_the_ledger(here: Sandbox, tmp_path: Path) -> None:
    film = node("KlingVideo", task_id=["1", 0], timeout_minutes=1)
    file = workflow(tmp_path, submit(), film, submit(model_name="kling-v1"))
    assert cli("run", file, "--output", tmp_path / "videos").returncode == 0
    told = json.loads(cli("tasks", "--sum", "--json").stdout)
    kling_v3 = {
        "tasks": 1,
        "failed": 0,
        "estimated_units": 3,
        "unpriced": 0,
        "charged_units": 3,
        "not_charged_yet": 0,
    }
    assert told["models"]["kling-v3"] == kling_v3
    assert told["all"]["tasks"] == 2 and told["all"]["estimated_units"] == 4
    table = cli("tasks", "--sum").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["model", "kling-v1", "kling-v3", "all"]
    assert table[-1].split() == ["all", "2", "0", "4", "0", "3", "1"]
    assert json.loads(cli("tasks", "--sum", "--json", "--since", "2999-01-01").stdout)["all"]["tasks"] == 0
    assert cli("tasks", "--since", "yesterday").returncode == 2
    rows = json.loads(cli("tasks", "--json").stdout)
    assert {(row["model_name"], row["estimated_units"], row["charged_units"]) for row in rows} == {
        ("kling-v3", 3, 3),
        ("kling-v1", 1, None),
    }


# Further models


def test_a_model_that_is_not_known_here_says_how_to_add_it(here: Sandbox, tmp_path: Path) -> None:
    done = cli("run", workflow(tmp_path, submit(model_name="kling-v9")))
    assert done.returncode == 2 and here.received == []
    assert "is 'kling-v9'; allowed: kling-v1, " in done.stderr
    assert "add its name to KLING_EXTRA_MODELS in the environment and restart ComfyUI" in done.stderr


def test_an_added_model_is_sent_with_the_rules_of_the_gateway_and_no_facts(
    here: Sandbox, tmp_path: Path, environment: Environment
) -> None:
    environment.set("KLING_EXTRA_MODELS", " kling-v9, kling-v3-turbo ,,kling-v3")
    shown = cli("run", workflow(tmp_path, submit(model_name="kling-v9", sound="on", duration=7)), "--dry-run")
    assert shown.returncode == 0
    assert json.loads(shown.stdout.partition("\ncurl")[0])["model_name"] == "kling-v9"
    assert "an unknown price (not in Kling's list)" in shown.stderr
    blank = cli("run", workflow(tmp_path, submit(model_name="kling-v9", prompt="")), "--dry-run")
    assert blank.returncode == 2 and "is blank" in blank.stderr


def test_a_name_that_cannot_be_a_model_is_an_error(here: Sandbox, tmp_path: Path, environment: Environment) -> None:
    for wrong in ("kling v9", "klïng", "a/b", "x" * 65, "a?b"):
        environment.set("KLING_EXTRA_MODELS", f"kling-v8,{wrong}")
        done = cli("run", workflow(tmp_path, submit()))
        assert done.returncode in (1, 2) and here.received == []
        assert "KLING_EXTRA_MODELS: " in done.stderr and "cannot be the name of a model" in done.stderr


def test_no_key_in_any_of_it(here: Sandbox, tmp_path: Path) -> None:
    done = cli("run", workflow(tmp_path, *takes(1, 2)))
    assert KEY not in done.stdout + done.stderr + cli("tasks", "--sum").stdout
