"""Everything that a run has measured, in memory and as JSON. The file is whole after every case: a run that is
interrupted leaves what it had. Tables, page and README are made from a record, never from anything else.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .machine import machine
from .runner import Outcome

FORMAT = 2


@dataclass(frozen=True)
class Finding:
    """One number that was measured by itself: a pause, a share of memory, a count."""

    group: str  # the table it stands in
    what: str
    keys: int
    value: float
    unit: str
    limit: float | None = None  # what is to be reached: at most this
    who: str = "IntArrayMap"
    detail: dict = field(default_factory=dict)

    def met(self):
        """Whether the limit is kept; None without one."""
        return None if self.limit is None else self.value <= self.limit


class Record:
    """Outcomes (timed against each other), findings (one number each), and what was said on the way."""

    def __init__(self, path=None, settings=None, about=None):
        self.path = Path(path) if path else None
        self.settings = settings or {}
        self.machine = about or machine()
        self.started = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        self.outcomes: list[Outcome] = []
        self.findings: list[Finding] = []
        self.notes: list[str] = []  # who was left out, what could not be measured
        self.wrong: list[str] = []  # answers that differed from NumPy's
        self.seconds: dict[str, float] = {}  # what each case and each part took
        self.complete = False

    def add(self, *outcomes):
        self.outcomes += outcomes
        self.save()

    def find(self, findings):
        self.findings += findings
        self.save()

    def note(self, *words):
        self.notes += words
        self.save()

    def group(self, name):
        """`(outcomes, findings)` of one table."""
        return [o for o in self.outcomes if o.case.group == name], [f for f in self.findings if f.group == name]

    def as_json(self):
        return {
            "format": FORMAT,
            "complete": self.complete,
            "started": self.started,
            "settings": self.settings,
            "machine": self.machine,
            "notes": self.notes,
            "wrong": self.wrong,
            "seconds": self.seconds,
            "timed": [outcome.as_json() for outcome in self.outcomes],
            "measured": [asdict(finding) for finding in self.findings],
        }

    def save(self):
        """Writes the file and puts it in the place of the last one."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n")
        os.replace(beside, self.path)

    def finish(self):
        self.complete = True
        self.save()


def load(path):
    """The record that was written to `path`."""
    told = json.loads(Path(path).read_text())
    if told.get("format") != FORMAT:
        raise ValueError(f"{path}: format {told.get('format')}, expected {FORMAT}: measure again")
    record = Record(None, told["settings"], told["machine"])
    record.started, record.complete = told["started"], told["complete"]
    record.notes, record.wrong, record.seconds = told["notes"], told["wrong"], told.get("seconds", {})
    record.outcomes = [Outcome.from_json(outcome) for outcome in told["timed"]]
    record.findings = [Finding(**finding) for finding in told["measured"]]
    return record
