"""The console in the place of ComfyUI: which lines are written, and where videos go."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from nodes.host import ConsoleHost

COUNTDOWN = ["waiting for a free slot, try 2 in 4 s", "waiting for a free slot, try 2 in 3 s", "sending"]


def test_a_countdown_is_written_once_and_the_next_line_after_it():
    out = io.StringIO()
    host = ConsoleHost("3", out)
    for line in COUNTDOWN:
        host.show(line)
    assert out.getvalue().splitlines() == [f"3: {COUNTDOWN[0]}", "3: sending"]


def test_after_a_while_it_is_written_again():
    out = io.StringIO()
    host = ConsoleHost(out=out, repeat=0)
    for line in COUNTDOWN:
        host.show(line)
    assert out.getvalue().splitlines() == COUNTDOWN


@pytest.mark.skipif(sys.platform == "win32", reason="the temp directory of Windows belongs to one user already")
def test_videos_go_to_a_directory_that_no_other_user_can_read(tmp_path: Path):
    ask = "from nodes.host import ConsoleHost; print(ConsoleHost().temp_dir()); print(ConsoleHost().temp_dir())"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, env=environment, capture_output=True, text=True)
    first, second = map(Path, told.stdout.splitlines())
    assert first == second
    assert first.parent == tmp_path
    assert stat.S_IMODE(first.stat().st_mode) == 0o700


@pytest.mark.parametrize("has_run", [True, False])
def test_a_pack_inside_comfyui_shares_the_record_of_what_was_paid_there(tmp_path: Path, has_run: bool):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "kling"
    shutil.copytree(ROOT / "nodes", pack / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    record = tmp_path / "ComfyUI" / "user" / "__kling"
    if has_run:
        record.mkdir(parents=True)
    home = {name: str(tmp_path) for name in ("HOME", "USERPROFILE")}
    environment = {name: value for name, value in os.environ.items() if name != "KLING_STATE_DIR"} | home
    subprocess.run([sys.executable, "-m", "nodes", "tasks"], cwd=pack, env=environment, check=True, capture_output=True)
    assert (record / "ledger.db").exists() is has_run
    assert (tmp_path / ".kling" / "ledger.db").exists() is not has_run
