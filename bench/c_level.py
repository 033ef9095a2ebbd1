"""The core against absl::flat_hash_map and Go's map, with no Python between: `python -m bench native`.

The programs of `bench/native` (built first by `make -C bench/native`) hold their tables and wait; each round asks them
in rotating order for one batch of a million hits. Steps are counted by a third program: see native/steps.c.
"""

import subprocess
import sys
from pathlib import Path

from .report import print_table, spread
from .runner import Case, Entry, Outcome, Target, Timing

PROGRAMS = Path(__file__).parent.parent / "build" / "bench-native"
OURS = "intarraymap"
STEP = "a step is a basic block (about five instructions) or 32 bytes moved"


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
    targets = (Target("rival", 1.3),)
    return Outcome(Case("batched hit in C", count, 1_000_000, entries, targets), timings)


def print_outcomes(outcomes, stream=sys.stdout):
    """The map against each of them; the target names absl and Go's map, as their users write them."""
    headings = ("keys", "contestant", "ns per hit", "× floor", "÷ intarraymap", "target", "")
    rows = []
    for outcome in outcomes:
        for name in outcome.timings:
            slower = outcome.ratio(name, OURS)
            judged = name in ("absl", "Go map")
            verdict = ("met" if slower[0] >= 1.3 else "MISSED") if judged else ""
            timed = spread(outcome.spread(name)), spread(outcome.ratio(name, "floor")), spread(slower)
            rows.append((f"{outcome.case.key_count:,}", name, *timed, "≥ 1.3 ×" if judged else "–", verdict))
    print("\nC level: a batch of a million hits, 64-byte rows copied out, huge pages on all sides\n", file=stream)
    print_table(headings, rows, stream)


def print_steps(count, stream=sys.stdout):
    """The longest insert and delete, counted."""
    done = subprocess.run([PROGRAMS / "steps", str(count)], stdout=subprocess.PIPE, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()[1:]]
    rows = [(line[0], line[1], *(f"{int(line[place]):,}" for place in (3, 4, 5, 2))) for line in lines]
    print(f"\nSteps of single operations on the way to {count:,} keys and back ({STEP})\n", file=stream)
    print_table(
        ("operation", "mean steps", "most steps", "of them blocks", "bytes moved", "at operation"), rows, stream
    )


def run(arguments):
    """`python -m bench native`."""
    if not (PROGRAMS / "tables").exists():
        print("build the programs first: make -C bench/native", file=sys.stderr)
        return 1
    from .runner import pin_to_one_core

    pin_to_one_core()
    counts = arguments.keys or ((1_000_000,) if arguments.quick else (1_000_000, 10_000_000))
    rounds = arguments.rounds or 9
    print_outcomes([measure(count, rounds) for count in counts])
    print_steps(300_000 if arguments.quick else 10_000_000)
    return 0
