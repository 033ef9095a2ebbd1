"""The core against absl::flat_hash_map, boost::unordered_flat_map and Go's map, with no Python between.

The programs of `bench/native` (`make bench-native` builds them) hold their tables and wait; each round asks them in
rotating order for one batch of a million keys, on huge pages on all sides, then with none on any. Steps are counted by
a third program: see native/steps.c.
"""

import subprocess

from .child import failures
from .machine import ROOT
from .record import Finding
from .report import say_outcome
from .runner import Case, Outcome, Target, Timing

PROGRAMS = ROOT / "build" / "bench-native"
QUERY_COUNT = 1_000_000
OURS, ONE = "intarraymap", "intarraymap, one at a time"
NEEDED = {"absl": "libabsl-dev", "boost": "boost 1.81: libboost1.81-dev", "Go map": "golang"}
JUDGED = ("absl", "Go map")  # as their users write them, without tricks


class Program:
    """A program that answers `NAME<tab>hit or miss<tab>SET` with nanoseconds per key."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.names = self.process.stdout.readline().rstrip("\n").split("\t")

    def ask(self, name, what, query_set):
        self.process.stdin.write(f"{name}\t{what}\t{query_set}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{name} stopped: a wrong answer, or out of memory")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def timed(asked, what, rounds):
    """`{name: {round: ns}}` of every contestant, interleaved."""
    times = {name: {} for name in asked}
    names = list(asked)
    for name in names:
        asked[name].ask(name, what, 0)  # warms up
    for number in range(rounds):
        turn = number % len(names)
        for place, name in list(enumerate(names))[turn:] + list(enumerate(names))[:turn]:
            times[name][number] = asked[name].ask(name, what, 1 + number * len(names) + place)
    return times


def outcomes_of(times, what, count, pages):
    """Batched against all of them, and one key at a time against those that work so."""
    everyone = {"floor": "floor", OURS: "map"} | {name: "rival" for name in times if name not in ("floor", OURS, ONE)}
    single = {"floor": "floor", ONE: "map"} | {name: "rival" for name in ("absl", "boost", "Go map") if name in times}
    targets = (Target("rival", 1.3, JUDGED),) if (what, pages) == ("hit", "huge") else ()
    words = "huge pages" if pages == "huge" else "4 KiB pages"
    for operation, roles, wanted in ((f"batched {what}", everyone, targets), (f"single {what}", single, ())):
        timings = {name: Timing(role, times[name]) for name, role in roles.items()}
        case = Case(f"{operation} in C, {words}", count, QUERY_COUNT, [], wanted, group="native")
        yield Outcome(case, timings)


def measure(count, pages, rounds):
    """Yields the outcomes at `count` keys; `pages` is huge or plain."""
    paths = [PROGRAMS / name for name in ("tables", "gomap") if (PROGRAMS / name).exists()]
    programs = [Program(path, str(count), pages) for path in paths]
    try:
        asked = {name: program for program in programs for name in program.names}
        for what in ("hit", "miss"):
            yield from outcomes_of(timed(asked, what, rounds), what, count, pages)
    finally:
        for program in programs:
            program.close()


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


def tell_missing(outcome, suite):
    """Says once who could take part and is not built."""
    for name, needed in NEEDED.items():
        words = f"left out: {name} at the C level (needs {needed}, then make bench-native)"
        if name not in outcome.timings and words not in suite.record.notes:
            suite.tell(words)


def measure_all(suite):
    """The part `native` of a run."""
    if not (PROGRAMS / "tables").exists():
        suite.tell("left out: the C level (make bench-native builds it)")
        return
    for count in suite.profile.native_keys:
        for pages in ("huge", "plain"):
            try:
                for outcome in measure(count, pages, suite.rounds):
                    tell_missing(outcome, suite)
                    suite.record.add(outcome)
                    say_outcome(outcome)
            except RuntimeError as error:
                failures.append(f"FAILED: the C level, {count:,} keys, {pages} pages: {error}")
                suite.take_failures()
    suite.find([steps(suite.profile.step_keys)])
