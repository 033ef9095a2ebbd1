"""The lights themselves: a run that broke off, or that counted nothing, is red whatever its report says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

if not (ROOT / "tests" / "run.py").is_file():
    pytest.skip("THE SOURCES ARE NOT HERE: the lights are checked in a checkout", allow_module_level=True)

sys.path.insert(0, str(ROOT))
try:
    from tests.run import Red, junit_counts
finally:
    sys.path.remove(str(ROOT))


def counted(folder: Path, tests: str):
    """What a real run of these tests is counted as."""
    (folder / "test_some.py").write_text(f"import pytest\n\n{tests}")
    report = folder / "report.xml"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--junitxml={report}"]
    done = subprocess.run([*words, str(folder)], cwd=folder, capture_output=True, text=True, check=False)
    return junit_counts(report, done.returncode)


def test_each_outcome_is_counted(tmp_path):
    light = counted(
        tmp_path,
        "def test_passes(record_property):\n    record_property('key_patterns', 3)\n\n"
        "def test_fails():\n    assert False\n\n"
        "@pytest.fixture\ndef broken():\n    raise ValueError\n\n"
        "def test_has_an_error(broken):\n    pass\n\n"
        "def test_is_skipped():\n    pytest.skip('WHY')\n",
    )
    assert (light.passed, light.failed, light.skipped, light.told) == (1, 2, 1, {"key patterns": 3})


def test_an_interrupted_run_is_red(tmp_path):
    tests = (
        "def test_passes():\n    pass\n\ndef test_stops():\n    raise KeyboardInterrupt\n\ndef test_last():\n    pass\n"
    )
    with pytest.raises(Red, match="broke off: exit code 2"):
        counted(tmp_path, tests)


def test_a_run_that_died_is_red(tmp_path):
    with pytest.raises(Red, match="broke off: exit code 7"):
        counted(tmp_path, "import os\n\ndef test_ends_it():\n    os._exit(7)\n")


def test_a_run_of_nothing_is_red(tmp_path):
    with pytest.raises(Red, match="broke off: exit code 5"):
        counted(tmp_path, "")
    with pytest.raises(Red, match="no test ran"):
        counted(tmp_path, "def test_is_skipped():\n    pytest.skip('WHY')\n")
