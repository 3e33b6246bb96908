"""``python -m nodes`` as a user meets it: a process of its own, started in the repository, with real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import cli, command, node, submit
from conftest import KEY, ROOT
from graph import PLAIN

from nodes.__main__ import main
from nodes.console.run import copy_new
from nodes.sandbox import Sandbox
from nodes.workflow.prompt import WorkflowError

POSIX = pytest.mark.skipif(
    os.name != "posix" or signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="POSIX signals and descriptors; a job in the background of a script does not hear Ctrl-C",
)

CAMERA = {"type": "simple", "horizontal": 0, "vertical": 0, "pan": 0, "tilt": 0, "roll": 0, "zoom": 5}


def bodies(stdout: str) -> list[dict[str, Any]]:
    """The requests that a dry run prints, each followed by its curl line."""
    found, rest = [], stdout
    while rest:
        body, end = json.JSONDecoder().raw_decode(rest)
        found.append(body)
        curl, _, rest = rest[end + 1 :].partition("\n")
        assert curl.startswith("curl -X POST ")
        assert '"Authorization: Bearer $KLING_API_KEY"' in curl
    return found


@pytest.fixture
def save(tmp_path: Path) -> Any:
    def write(**nodes: dict[str, Any]) -> Path:
        file = tmp_path / "workflow.json"
        file.write_text(json.dumps({name.removeprefix("n"): entry for name, entry in nodes.items()}), "utf-8")
        return file

    return write


# ---- a dry run ----


def test_a_dry_run_prints_body_and_curl_and_needs_neither_key_nor_gateway(save: Any) -> None:
    done = cli("run", save(n1=submit()), "--dry-run", KLING_BASE_URL="http://127.0.0.1:9/kling")
    assert done.returncode == 0
    (body,) = bodies(done.stdout)
    assert (body["prompt"], body["duration"], body["multi_shot"]) == (PLAIN["prompt"], "5", False)
    assert "curl -X POST http://127.0.0.1:9/kling/v1/videos/text2video -H" in done.stdout


def test_a_dry_run_sends_nothing_and_shows_no_key(save: Any, gateway: Sandbox) -> None:
    file = save(
        n1=submit(), n2=node("KlingVideo", task_id="815", timeout_minutes=1), n3=node("SaveVideo", video=["2", 0])
    )
    done = cli("run", file, "--dry-run", "--output", file.parent / "videos")
    assert done.returncode == 0
    assert gateway.received == []
    assert KEY not in done.stdout + done.stderr
    assert not (file.parent / "videos").exists()


def test_the_curl_line_of_a_dry_run_makes_the_same_task(save: Any, gateway: Sandbox) -> None:
    if os.name != "posix":
        pytest.skip("quoted for a POSIX shell")
    done = cli("run", save(n1=submit(prompt='It\'s a "boat"\n100 % `$HOME` 船 🎬')), "--dry-run")
    curl = done.stdout.rstrip("\n").rpartition("\n")[2]
    sent = subprocess.run(["sh", "-c", f"{curl} --silent --noproxy '*'"], capture_output=True, timeout=60, check=False)
    if sent.returncode == 127:
        pytest.skip("there is no curl here")
    assert gateway.creates() == bodies(done.stdout)


def test_several_requests_are_printed_in_the_order_of_the_file(save: Any) -> None:
    done = cli("run", save(**{f"n{k}": submit(prompt=f"Number {k}") for k in range(9)}), "--dry-run")
    assert [body["prompt"] for body in bodies(done.stdout)] == [f"Number {k}" for k in range(9)]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp936", "ascii"])
def test_any_console_gets_valid_json_of_any_prompt(save: Any, encoding: str) -> None:
    prompt = "一只猫 naïve 🎬 \u200b"
    done = subprocess.run(
        command("run", save(n1=submit(prompt=prompt, _unknown_猫=1)), "--dry-run"),
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert bodies(done.stdout.decode(encoding))[0]["prompt"] == prompt
    assert b"ignored" in done.stderr


# ---- a run against a gateway ----


def test_only_the_task_id_goes_to_stdout(save: Any, gateway: Sandbox) -> None:
    done = cli("run", save(n1=submit()))
    assert done.returncode == 0
    assert done.stdout == f"{next(iter(gateway.tasks))}\n"
    assert f"[1/1] KlingText2Video (1): task_id {done.stdout.strip()}" in done.stderr


def test_running_again_gives_the_same_task(save: Any, gateway: Sandbox) -> None:
    file = save(n1=submit())
    assert cli("run", file).stdout == cli("run", file).stdout
    assert len(gateway.tasks) == 1
    cli("run", file, "--set", "1.take=2")
    assert len(gateway.tasks) == 2


def test_task_ids_come_in_the_order_of_the_file(save: Any, gateway: Sandbox) -> None:
    done = cli("run", save(**{f"n{k}": submit(prompt=f"Number {k}") for k in range(5)}))
    prompts = [gateway.tasks[task_id].body["prompt"] for task_id in done.stdout.split()]
    assert prompts == [f"Number {k}" for k in range(5)]


def test_values_can_be_set(save: Any, gateway: Sandbox) -> None:
    file = save(n1=submit())
    settings = ("--set", "1.prompt=A = b", "--set", "KlingText2Video.duration=10", "--set", "1.watermark=yes")
    assert cli("run", file, *settings).returncode == 0
    (body,) = gateway.creates()
    assert (body["prompt"], body["duration"], body["watermark_info"]) == ("A = b", "10", {"enabled": True})


def test_a_request_that_is_refused_leaves_the_others_alone(save: Any, gateway: Sandbox) -> None:
    gateway.misbehave("create", "code:1102")
    done = cli("run", save(n1=submit(prompt="One"), n2=submit(prompt="Two"), n3=submit(prompt="Three")))
    assert done.returncode == 1
    assert sorted(done.stdout.split()) == sorted(gateway.tasks)
    assert len(gateway.tasks) == 2
    assert done.stderr.count("error: KlingText2Video") == 1


def test_what_needs_a_refused_request_is_named(save: Any, gateway: Sandbox) -> None:
    gateway.misbehave("create", "code:1102")
    video, taker = node("KlingVideo", task_id=["1", 0], timeout_minutes=1), node("SaveVideo", video=["2", 0])
    done = cli("run", save(n1=submit(), n2=video, n3=taker))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "KlingVideo (2): not run, because it needs KlingText2Video (1)" in done.stderr


def test_without_a_key_it_says_where_to_put_one(save: Any, sandbox: Sandbox) -> None:
    done = cli("run", save(n1=submit()), KLING_BASE_URL=sandbox.base_url)
    assert done.returncode == 1
    assert "KLING_API_KEY" in done.stderr
    assert sandbox.received == []


def test_the_key_is_in_nothing_that_a_failing_run_says(save: Any, gateway: Sandbox) -> None:
    gateway.misbehave("create", "echo-key", "echo-key:kling")
    for take in (1, 2):
        done = cli("run", save(n1=submit(take=take)))
        assert done.returncode == 1
        assert KEY not in done.stdout + done.stderr


# ---- mistakes, before anything is sent ----


def test_all_problems_are_told_at_once_and_nothing_is_sent(save: Any, gateway: Sandbox) -> None:
    shot, board = node("KlingShot", prompt="", duration=99), node("KlingMultiShot", shot_1=["1", 0])
    done = cli("run", save(n1=shot, n2=board, n3=submit(multi_shot=["2", 0], mode="best"), n4=submit(model_name="v9")))
    assert done.returncode == 2
    assert done.stdout == ""
    assert gateway.received == []
    for said in (
        "KlingShot (1): prompt",
        "KlingShot (1): duration",
        "KlingText2Video (3): mode",
        "KlingText2Video (4): model_name",
    ):
        assert said in done.stderr


def test_what_only_the_nodes_together_can_tell_stops_the_other_requests_too(save: Any, gateway: Sandbox) -> None:
    still = node("KlingCameraControl", **(CAMERA | {"zoom": 0}))
    storyboard = {
        "n5": node("KlingShot", prompt="A wave.", duration=15),
        "n6": node("KlingShot", prompt="A boat.", duration=15),
    }
    board = node("KlingMultiShot", shot_1=["5", 0], shot_2=["6", 0])
    done = cli("run", save(n1=submit(), n3=submit(multi_shot=["7", 0]), **storyboard, n7=board))
    assert done.returncode == 2
    assert "error: KlingText2Video (3):\n- KlingMultiShot, sum of the shots' durations: is 30 s;" in done.stderr
    assert gateway.received == []
    done = cli("run", save(n1=submit(), n2=still, n3=submit(model_name="kling-v1", camera_control=["2", 0])))
    assert done.returncode == 2
    assert gateway.received == []


def test_a_foreign_node_that_is_needed_is_named_and_one_behind_is_skipped(save: Any, gateway: Sandbox) -> None:
    done = cli("run", save(n1=submit(prompt=["2", 0]), n2=node("LoadText", name="x")))
    assert done.returncode == 2
    assert "KlingText2Video (1): prompt needs LoadText (2), which is not a node of this pack" in done.stderr
    done = cli("run", save(n1=submit(), n2=node("PreviewAny", source=["1", 1])))
    assert done.returncode == 0
    assert "skipped, not from this pack: PreviewAny (2)" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.json", None, "the file does not exist"),
        (".", None, "this is a directory"),
        ("image.png", b"\x89PNG\r\n\x1a\n\0\0", "this is a PNG image, not JSON. Open it in ComfyUI"),
        ("text.json", b"a boat on the sea", "this is not JSON"),
        ("latin.json", b'{"a": "\xe9"}', "this is not UTF-8 text"),
        ("deep.json", b"[" * 200_000, "nested too deeply"),
        ("list.json", b"[]", "this JSON is a list, not a workflow"),
        ("other.json", b'{"name": "x"}', "this JSON is not a workflow"),
        ("version.json", b'{"nodes": [], "links": [], "version": 7}', "this runner reads 0.4 and 1.0"),
        ("empty.json", b'{"nodes": [], "links": []}', "has none of this pack's nodes"),
        ("escape.json", b'{"1": {"class_type": "\\u001b[2J", "inputs": 3}}', "have no class_type"),
    ],
)
def test_a_bad_file_gets_one_clear_line(
    tmp_path: Path, name: str, content: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    assert main(["run", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_bad_file_ends_a_process_in_the_same_way(tmp_path: Path) -> None:
    done = cli("run", tmp_path / "流程\x1b.json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "流程\\u001b.json: the file does not exist" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["run"], ["run", "a.json", "--sandbox", "--dry-run"], ["run", "a.json", "--san"], ["fly"], ["sandbox"]]
    + [["sandbox", "--port", port] for port in ("x", "-1", "65536")]
    + [["sandbox", "--port", "0", "--family", "one-hub"]]
    + [["sandbox", "--port", "0", "--latency", seconds] for seconds in ("-1", "nan", "inf", "x")],
)
def test_a_command_line_that_means_nothing_is_bad_input(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: python -m nodes" in capsys.readouterr().err


def test_a_workflow_cannot_choose_gateway_key_or_path(save: Any, gateway: Sandbox, tmp_path: Path) -> None:
    inputs = PLAIN | {
        "base_url": "http://example.com",
        "KLING_API_KEY": "sk-theirs",
        "output": "/etc",
        "unique_id": "9",
    }
    file = save(n1=node("KlingText2Video", **inputs))
    shared = {"prompt": json.loads(file.read_text("utf-8")), "extra_data": {"KLING_BASE_URL": "http://example.com"}}
    file.write_text(json.dumps(shared), "utf-8")
    assert cli("run", file, "--output", tmp_path / "videos").returncode == 0
    assert {request.bearer for request in gateway.received} == {KEY}
    assert list((tmp_path / "videos").iterdir()) == []


# ---- the embedded sandbox, and videos ----


def test_the_embedded_sandbox_touches_nothing_real(save: Any, gateway: Sandbox, tmp_path: Path) -> None:
    done = cli("run", save(n1=submit(prompt="船")), "--sandbox")
    assert done.returncode == 0
    assert done.stdout.strip().isdecimal()
    assert '"prompt": "船"' in done.stderr
    assert gateway.received == []
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("example", sorted((ROOT / "example_workflows").glob("*.json")), ids=lambda path: path.stem)
def test_every_example_runs_in_the_embedded_sandbox(example: Path, tmp_path: Path) -> None:
    done = cli("run", example, "--sandbox", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    (task_id,) = done.stdout.split()
    wants_video = '"type": "KlingVideo"' in json.dumps(json.loads(example.read_text("utf-8")))
    assert [file.name for file in tmp_path.glob("*.mp4")] == ([f"kling-{task_id}.mp4"] if wants_video else [])


def test_videos_get_names_of_their_own_and_overwrite_nothing(save: Any, gateway: Sandbox, tmp_path: Path) -> None:
    gateway.queued_for = gateway.runs_for = 0
    file = save(n1=submit(), n2=node("KlingVideo", task_id=["1", 0], timeout_minutes=1))
    videos = tmp_path / "new" / "vidéos"
    for _ in range(3):
        assert cli("run", file, "--output", videos).returncode == 0
    task_id = next(iter(gateway.tasks))
    names = [f"kling-{task_id}-2.mp4", f"kling-{task_id}-3.mp4", f"kling-{task_id}.mp4"]
    assert sorted(entry.name for entry in videos.iterdir()) == names
    assert {(videos / name).stat().st_size for name in names} == {gateway.file_size(task_id)}


@pytest.mark.parametrize(
    ("task_id", "name"),
    [
        ("../../etc/passwd", "kling-_etc_passwd.mp4"),
        ("C:\\Windows\\x", "kling-C_Windows_x.mp4"),
        ("Cj/+A==", "kling-Cj_A_.mp4"),
        ("..", "kling-_.mp4"),
        ("", "kling-video.mp4"),
        ("\0\n猫", "kling-_.mp4"),
        ("x" * 500, f"kling-{'x' * 80}.mp4"),
    ],
)
def test_a_task_id_cannot_lead_a_video_elsewhere(tmp_path: Path, task_id: str, name: str) -> None:
    video = tmp_path / "video"
    video.write_bytes(b"film")
    written = copy_new(video, tmp_path, task_id)
    assert written == tmp_path / name
    assert written.read_bytes() == b"film"


def test_a_video_that_cannot_be_copied_says_where_it_is(tmp_path: Path) -> None:
    video = tmp_path / "video"
    video.write_bytes(b"film")
    with pytest.raises(WorkflowError) as error:
        copy_new(video, tmp_path / "gone", "815")
    assert f"The video is at {video}" in str(error.value)


def test_an_output_that_cannot_be_written_is_told_before_anything_is_paid(save: Any, gateway: Sandbox) -> None:
    file = save(n1=submit(), n2=node("KlingVideo", task_id=["1", 0], timeout_minutes=1))
    done = cli("run", file, "--output", file)
    assert done.returncode == 2
    assert "--output" in done.stderr
    assert gateway.received == []


# ---- streams and signals ----


@POSIX
@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_it_runs_with_streams_closed(save: Any, gateway: Sandbox, closed: str) -> None:
    script = " ".join([*(f"exec {number}>&-;" for number in closed.split()), 'exec "$@"'])
    done = subprocess.run(
        ["sh", "-c", script, "-", *command("run", save(n1=submit()))], cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0
    assert len(gateway.tasks) == 1


@POSIX
def test_a_reader_that_leaves_early_gets_no_traceback(save: Any) -> None:
    file = save(**{f"n{k}": submit(prompt="x" * 2000, take=k) for k in range(1, 40)})
    process = subprocess.Popen(
        command("run", file, "--dry-run"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert said == b""


@POSIX
def test_ctrl_c_says_that_nothing_is_lost(save: Any, sandbox: Sandbox) -> None:
    sandbox.latency = 600
    environment = {**os.environ, "KLING_BASE_URL": sandbox.base_url, "KLING_API_KEY": KEY}
    process = subprocess.Popen(
        command("run", save(n1=submit())), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    lines = [process.stderr.readline()]  # the request is on its way once the gateway has it
    while not sandbox.tasks:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    while b"stopped" not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    sandbox.stop()  # the answer that the worker still waits for
    assert process.wait(60) == 130
    assert b"Run the same command again" in lines[-1]
    assert b"Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


@POSIX
@pytest.mark.parametrize("family", ["kling", "new-api"])
def test_the_sandbox_command_serves_until_ctrl_c(save: Any, family: str) -> None:
    process = subprocess.Popen(
        command("sandbox", "--port", 0, "--latency", 0.01, "--family", family),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    url = process.stdout.readline().split()[-1]
    done = cli("run", save(n1=submit()), KLING_BASE_URL=url, KLING_API_KEY=KEY)
    assert done.returncode == 0
    assert done.stdout.startswith("task_") == (family == "new-api")
    process.send_signal(signal.SIGINT)
    told = process.stdout.read()
    assert done.stdout.strip() in told
    assert told.endswith("Stopped. Tasks made at no cost: 1\n")
    assert process.wait(60) == 0
    process.stdout.close()


def test_the_sandbox_command_says_when_a_port_is_taken(sandbox: Sandbox) -> None:
    port = sandbox.origin.rpartition(":")[2]
    done = cli("sandbox", "--port", port)
    assert done.returncode == 1
    assert f"error: cannot listen on port {port} of 127.0.0.1" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--port", "abc", "abc is not a valid port; allowed: 0 to 65535"),
        ("--port", "65536", "65536 is not a valid port; allowed: 0 to 65535"),
        ("--latency", "soon", "soon is not a valid time; allowed: 0 or more seconds"),
        ("--latency", "-1", "-1 is not a valid time; allowed: 0 or more seconds"),
        ("--latency", "nan", "nan is not a valid time; allowed: 0 or more seconds"),
    ],
)
def test_the_sandbox_command_names_what_it_takes(option: str, value: str, told: str) -> None:
    done = cli("sandbox", "--port=0", f"{option}={value}")
    assert done.returncode == 2
    assert told in done.stderr


# ---- tasks ----


def test_tasks_lists_what_was_sent(save: Any, gateway: Sandbox) -> None:
    shots = {"n1": node("KlingShot", prompt="海浪 rolls in", duration=3), "n2": node("KlingMultiShot", shot_1=["1", 0])}
    board, plain = (
        cli("run", save(**shots, n3=submit(multi_shot=["2", 0]))),
        cli("run", save(n3=submit(prompt="B" * 99))),
    )
    done = cli("tasks", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    newest, oldest = done.stdout.splitlines()
    assert oldest.endswith("\\u6d77\\u6d6a rolls in")
    for line, task_id in ((newest, plain.stdout.strip()), (oldest, board.stdout.strip())):
        assert "kling-v3" in line
        assert "accepted" in line
        assert f" {task_id} " in line
        assert gateway.tasks[task_id].external_task_id in line
    assert "B" * 30 in newest
    assert len(newest) < 200


def test_tasks_for_scripts(save: Any, gateway: Sandbox) -> None:
    assert json.loads(cli("tasks", "--json").stdout) == []
    task_id = cli("run", save(n1=submit())).stdout.strip()
    (task,) = json.loads(cli("tasks", "--json").stdout)
    assert task["task_id"] == task_id
    assert task["external_task_id"] == gateway.tasks[task_id].external_task_id
    assert (task["state"], task["model_name"], task["take"]) == ("accepted", "kling-v3", 1)
    assert (task["prompt"], task["gateway"]) == (PLAIN["prompt"], gateway.base_url)
    assert task["created_at"].endswith("+00:00")


def test_tasks_show_gives_the_request_by_either_id(save: Any, gateway: Sandbox) -> None:
    task_id = cli("run", save(n1=submit())).stdout.strip()
    task = gateway.tasks[task_id]
    for any_id in (task_id, task.external_task_id):
        assert json.loads(cli("tasks", "show", any_id).stdout)["request"] == task.body
    done = cli("tasks", "show", "nothing\x1b")
    assert done.returncode == 2
    assert "no task nothing\\u001b" in done.stderr


def test_tasks_says_when_there_are_none(gateway: Sandbox) -> None:
    done = cli("tasks")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing has been submitted yet" in done.stderr
    done = cli("tasks", "recover")
    assert (done.returncode, done.stdout) == (0, "")
    assert "There is no submission to look up" in done.stderr


@POSIX
def test_tasks_recover_finds_a_task_whose_answer_was_lost(save: Any, gateway: Sandbox) -> None:
    gateway.latency = 600
    process = subprocess.Popen(command("run", save(n1=submit())), cwd=ROOT, stderr=subprocess.DEVNULL)
    while not gateway.tasks:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait(60)
    gateway.latency = 0
    (task,) = gateway.tasks.values()
    assert json.loads(cli("tasks", "--json").stdout)[0]["state"] == "sending"
    gateway.misbehave("query", "status:502")
    done = cli("tasks", "recover")
    assert done.returncode == 1
    assert task.external_task_id in done.stdout
    done = cli("tasks", "recover")
    assert (done.returncode, done.stdout) == (0, f"{task.external_task_id}: found: task_id {task.task_id}\n")
    assert len(gateway.tasks) == 1


def test_tasks_recover_needs_a_key(sandbox: Sandbox) -> None:
    done = cli("tasks", "recover", KLING_BASE_URL=sandbox.base_url)
    assert done.returncode == 1
    assert "KLING_API_KEY" in done.stderr
