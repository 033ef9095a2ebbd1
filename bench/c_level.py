"""The core against absl::flat_hash_map and Go's map, with no Python between: `python -m bench native`.

The programs of `bench/native` (built first by `make -C bench/native`) hold their tables and wait; each round asks them
in rotating order for one batch of a million hits. Steps are counted by a third program: see native/steps.c.
"""

import subprocess

from .machine import ROOT
from .record import Finding
from .report import say_outcome
from .runner import Case, Entry, Outcome, Target, Timing

PROGRAMS = ROOT / "build" / "bench-native"
OURS = "intarraymap"


class Program:
    """A program that answers `NAME<tab>SET` with nanoseconds per hit."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.names = self.process.stdout.readline().rstrip("\n").split("\t")

    def ask(self, name, query_set):
        self.process.stdin.write(f"{name}\t{query_set}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{name} stopped: a wrong answer, or out of memory")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(count, rounds):
    """One Outcome: batched hits at `count` keys, huge pages on all sides."""
    programs = [Program(PROGRAMS / name, str(count)) for name in ("tables", "gomap") if (PROGRAMS / name).exists()]
    asked = {name: program for program in programs for name in program.names}
    names = list(asked)
    roles = {"floor": "floor", OURS: "map"}
    timings = {name: Timing(roles.get(name, "rival")) for name in names}
    for name in names:
        asked[name].ask(name, 0)  # warms up
    for round_number in range(rounds):
        turn = round_number % len(names)
        for place, name in list(enumerate(names))[turn:] + list(enumerate(names))[:turn]:
            timings[name].wall[round_number] = asked[name].ask(name, 1 + round_number * len(names) + place)
    for program in programs:
        program.close()
    entries = [Entry(name, timing.role, lambda s: lambda: None) for name, timing in timings.items()]
    targets = (Target("rival", 1.3, ("absl", "Go map")),)
    return Outcome(Case("batched hit in C", count, 1_000_000, entries, targets, group="native"), timings)


def steps(count):
    """Findings: the longest insert and delete, counted."""
    done = subprocess.run([PROGRAMS / "steps", str(count)], stdout=subprocess.PIPE, text=True, check=True)
    findings = []
    for line in done.stdout.splitlines()[1:]:
        what, mean, operation, most, blocks, moved = line.split("\t")[:6]
        detail = {"mean": float(mean), "operation": int(operation), "blocks": int(blocks), "bytes": int(moved)}
        findings.append(Finding("steps", f"most steps of a single {what}", count, int(most), "steps", detail=detail))
        findings.append(Finding("steps", f"mean steps, {what}", count, float(mean), "steps"))
    return findings


def measure_all(suite):
    """The part `native` of a run."""
    if not (PROGRAMS / "tables").exists():
        suite.record.note("left out: the C level (make bench-native builds it)")
        print(suite.record.notes[-1], flush=True)
        return
    for count in suite.profile.native_keys:
        outcome = measure(count, suite.rounds)
        suite.record.add(outcome)
        say_outcome(outcome)
    if (PROGRAMS / "steps").exists():
        suite.find([steps(suite.profile.step_keys)])
