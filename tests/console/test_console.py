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
@pytest.mark.parametrize("found", ["nothing", "open to all", "a link"])
def test_videos_go_to_a_directory_that_no_other_user_can_reach(tmp_path: Path, found: str):
    if sys.platform == "win32":
        raise NotImplementedError
    usual = tmp_path / f"kling-{os.getuid()}"
    if found == "open to all":
        usual.mkdir()
        usual.chmod(0o777)
    if found == "a link":
        (tmp_path / "elsewhere").mkdir()
        usual.symlink_to(tmp_path / "elsewhere")
    ask = "from nodes.host import ConsoleHost; print(ConsoleHost().temp_dir())"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, env=environment, capture_output=True, text=True)
    directory = Path(told.stdout.strip())
    assert directory.parent == tmp_path
    assert (directory == usual) is (found == "nothing")
    assert stat.S_IMODE(directory.lstat().st_mode) == 0o700


@pytest.mark.parametrize("inside", [True, False])
def test_a_pack_inside_comfyui_shares_the_record_of_what_is_paid_there(tmp_path: Path, inside: bool):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "kling"
    shutil.copytree(ROOT / "nodes", pack / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    if inside:
        (tmp_path / "ComfyUI" / "main.py").touch()
    home = {name: str(tmp_path) for name in ("HOME", "USERPROFILE")}
    environment = {name: value for name, value in os.environ.items() if name != "KLING_STATE_DIR"} | home
    subprocess.run([sys.executable, "-m", "nodes", "tasks"], cwd=pack, env=environment, check=True, capture_output=True)
    assert (tmp_path / "ComfyUI" / "user" / "__kling" / "ledger.db").exists() is inside
    assert (tmp_path / ".kling" / "ledger.db").exists() is not inside
