"""One command for each thing that a newcomer or a developer does; sets up all that it needs in ``.venv``.

    python dev.py demo      run the multi-shot example against the embedded sandbox
    python dev.py check     lint, format, types and imports
    python dev.py test      the same, then all tests on all cores, with their coverage
    python dev.py test ...  the same, then pytest with these arguments
    python dev.py python    the Python of .venv with the arguments that follow

Standard library only: it runs before anything is installed. On Linux and macOS the command may be ``python3``.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def run(*command: str | Path) -> None:
    """Run a command at the root of the checkout; end with its exit code if it fails."""
    code = subprocess.call([str(part) for part in command], cwd=ROOT)
    if code:
        raise SystemExit(code)


def set_up(*requirements: str) -> None:
    """Make ``.venv`` if it is missing, and install the requirements. This is quick if they are installed already."""
    pip: tuple[str | Path, ...] = (PYTHON, "-m", "pip")
    if not PYTHON.exists():
        print("Setting up .venv (once)", flush=True)
        try:
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
        except subprocess.CalledProcessError:
            # Debian packages ensurepip separately. The pip of this Python can fill the environment instead.
            venv.create(ENVIRONMENT, with_pip=False, clear=True)
            run(sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet", "pip>=25.1")
    quiet = ("--quiet", "--disable-pip-version-check")
    if "--group" in requirements:
        run(*pip, "install", *quiet, "pip>=25.1")
    run(*pip, "install", *quiet, *requirements)


def demo() -> None:
    set_up("-r", "requirements.txt")
    run(PYTHON, "-m", "nodes", "run", "example_workflows/multi_shot.json", "--sandbox")


def check() -> None:
    set_up("-r", "requirements.txt", "--group", "dev")
    run(PYTHON, "-m", "ruff", "check", ".")
    run(PYTHON, "-m", "ruff", "format", "--check", ".")
    run(PYTHON, "-m", "mypy")
    run(PYTHON.with_name("lint-imports" + PYTHON.suffix), "--no-logo")


def test(*arguments: str) -> None:
    check()
    # A part of the tests would not reach the floor of coverage, and would take longer to start on several cores.
    run(PYTHON, "-m", "pytest", *(arguments or ("-n", "auto", "--dist", "loadgroup", "--cov")))


def python(*arguments: str) -> None:
    set_up("-r", "requirements.txt", "--group", "dev")
    run(PYTHON, *arguments)


if __name__ == "__main__":
    commands = {"demo": demo, "check": check, "test": test, "python": python}
    if sys.version_info < (3, 10):
        raise SystemExit("Python 3.10 or newer is needed.")
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
