"""What the layers and campaigns counted, kept in build/reports/ for `make test-report`."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REPORTS = ROOT / "build" / "reports"


@dataclass
class Report:
    """One run of one layer or campaign."""

    name: str
    counts: dict[str, int | float | str]  # in the order in which they are to be printed: "mutants killed": 812
    seconds: float
    failed: bool
    commit: str
    python: str
    finished: str  # ISO 8601, UTC


def commit() -> str:
    """The commit that is checked out, with a plus sign where files differ from it; empty outside a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def record(name: str, counts: dict[str, int | float | str], seconds: float, failed: bool = False) -> None:
    """Keep the counts of a run; the newest run of a name replaces the one before."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    report = Report(name, counts, round(seconds, 1), failed, commit(), platform.python_version(), finished)
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False)
    (REPORTS / f"{name.replace(' ', '-')}.json").write_text(text + "\n")


def reports() -> list[Report]:
    """All that was kept, the oldest first."""
    found = [Report(**json.loads(path.read_text())) for path in REPORTS.glob("*.json")]
    return sorted(found, key=lambda report: report.finished)
