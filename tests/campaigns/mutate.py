"""Mutation testing of the C core: one small change at a time, and do the C tests notice? `make mutate`.

A mutant is the core with one operator, constant, condition or statement changed (tests/campaigns/_mutants.py). A seeded
sample of them is built, checked and at -O1, from copies in build/mutants/, and meets the programs of tests/core, that
of its own room first and the slow ones last, until one of them fails, crashes or does not end: the mutant is killed.
One of which the compiler makes the same machine code as of the core itself is no mutant, nor is one that does not
compile.

Those that live are shown with their change. tests/campaigns/survivors.toml says of some why they may: they are run all
the same, and reported apart. Red: a kill rate below 90 % of those that are not explained.

    make mutate MUTATE="--minutes 5 --files table.c growth.c"
    make mutate MUTATE="--again"       those that lived the last time
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.campaigns._mutants import Mutant, mutants_of
from tests.campaigns.counts import record

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "mutants"
SURVIVORS = Path(__file__).with_name("survivors.toml")
LAST = BUILD / "last.json"
FLAGS = ["-std=c11", "-O1", "-w", "-DINTARRAYMAP_CHECKED=1", "-UNDEBUG"]
INCLUDES = ["-Isrc/intarraymap/core/include", "-Isrc/intarraymap/core/src", "-Itests/core"]
CORE = Path("src/intarraymap/core/src")
RATE_LEAST = 90.0
SAME = ("file", "function", "before", "after")  # by which a mutant is known again when lines have moved
MEMORY_MOST = 6 << 30  # bytes of one test program; a mutant that asks for more has failed
# Rooms whose test has another name, or that more than one test knows well.
ROOMS = {
    "alloc": ["segments", "spare", "memory"],
    "batch_read": ["batch", "image"],
    "batch_write": ["batch", "memory", "leaving"],
    "build": ["batch", "memory"],
    "bucket": ["bucket", "bucket_scalar", "table"],
    "direct": ["direct", "leaving", "invariants"],
    "growth": ["growth", "table"],
    "image_save": ["image"],
    "info": ["map", "growth", "segments", "leaving"],
    "map": ["map", "leaving", "batch", "memory"],
    "pipeline": ["batch", "image"],
    "rows": ["rows", "views", "invariants", "map"],
    "segments": ["segments", "invariants", "spare"],
    "table": ["table", "invariants", "growth"],
}


class Timeout(Exception):
    """A test program did not end in time, or wanted all memory."""


@dataclass
class Explanation:
    """Mutants that may live: one change, or all of a function."""

    file: str
    function: str
    reason: str
    before: str | None = None  # of a single change: the line, stripped, and what it becomes
    after: str | None = None

    def matches(self, mutant: Mutant) -> bool:
        if (self.file, self.function) != (mutant.file, mutant.function):
            return False
        return self.before in (None, mutant.before) and self.after in (None, mutant.after)


@dataclass
class Outcome:
    mutant: Mutant
    verdict: str  # killed, timed out, survived, no difference, does not compile
    by: str = ""


@dataclass
class Bench:
    """What is built once: objects of the core and of the tests, and how long each test takes."""

    files_of: dict[str, set[str]] = field(default_factory=dict)  # core files that a source includes, itself among them
    seconds: dict[str, float] = field(default_factory=dict)
    code: dict[str, bytes] = field(default_factory=dict)  # machine code of each object of the core


def compile_one(folder: Path, source: Path, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    words = ["gcc", *FLAGS, *INCLUDES, "-c", str(source), "-o", str(target)]
    return subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 0


def link(objects: list[Path], target: Path) -> bool:
    words = ["gcc", *map(str, objects), "-lm", "-pthread", "-o", str(target)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def run_test(program: Path, seconds_most: float) -> bool:
    """Whether it passes."""
    start = time.monotonic()
    process = subprocess.Popen(
        [str(program)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=BUILD
    )
    # Should memory run out before the loop below sees it, this is what the system ends.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    while True:
        try:
            return process.wait(timeout=0.1) in (0, 77)
        except subprocess.TimeoutExpired:
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            except (OSError, IndexError, ValueError):
                pages = 0
            if time.monotonic() - start > seconds_most or pages * os.sysconf("SC_PAGE_SIZE") > MEMORY_MOST:
                process.kill()
                process.wait()
                raise Timeout from None


def test_names() -> list[str]:
    return sorted(path.stem for path in (ROOT / "tests" / "core").glob("test_*.c"))


def copy_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "src" / "intarraymap" / "core", folder / "src" / "intarraymap" / "core")
    shutil.copytree(ROOT / "tests" / "core", folder / "tests" / "core")


def core_sources() -> list[str]:
    return sorted(path.name for path in (ROOT / CORE).glob("*.c"))


def prepare() -> Bench:
    """Build and run everything as it is; SystemExit if a test fails then."""
    bench = Bench()
    tree = BUILD / "as-it-is"
    copy_tree(tree)
    sources = [CORE / name for name in core_sources()] + [Path("tests/core") / f"{name}.c" for name in test_names()]
    for source in sources:
        if not compile_one(tree, source, tree / "objects" / f"{source.stem}.o"):
            sys.exit(f"{source} does not compile")
        words = ["gcc", *FLAGS, *INCLUDES, "-MM", str(source)]
        rule = subprocess.run(words, cwd=tree, capture_output=True, text=True, check=True).stdout
        bench.files_of[source.stem] = {Path(word).name for word in rule.split()[1:] if word.endswith((".c", ".h"))}
    for name in core_sources():
        bench.code[name] = (tree / "objects" / f"{Path(name).stem}.o").read_bytes()
    core_objects = [tree / "objects" / f"{Path(name).stem}.o" for name in core_sources()]
    for name in test_names():
        if not link([tree / "objects" / f"{name}.o", *core_objects], tree / name):
            sys.exit(f"{name} does not link")
        start = time.monotonic()
        if not run_test(tree / name, 300):
            sys.exit(f"{name} fails on the core as it is")
        bench.seconds[name] = time.monotonic() - start
    return bench


def in_order(bench: Bench, file: str) -> list[str]:
    """The tests: of the file's own room first, then the quick ones."""
    stem = Path(file).stem
    own = [f"test_{room}" for room in ROOMS.get(stem, [stem])]
    return sorted(bench.seconds, key=lambda name: (own.index(name) if name in own else 99, bench.seconds[name]))


class Worker:
    """A copy of the core in which one mutant lives at a time."""

    def __init__(self, number: int, bench: Bench) -> None:
        self.tree = BUILD / f"worker-{number}"
        self.bench = bench
        copy_tree(self.tree)

    def judge(self, mutant: Mutant) -> Outcome:
        place = self.tree / CORE / mutant.file
        source = place.read_text()
        place.write_text(mutant.applied(source))
        try:
            return self.meet_tests(mutant)
        finally:
            place.write_text(source)
            shutil.rmtree(self.tree / "objects", ignore_errors=True)

    def build(self, stem: str, source: Path, mutant: Mutant) -> Path | None:
        """The object of a source: that of the core as it is, if it does not know the file that was changed."""
        if mutant.file not in self.bench.files_of[stem]:
            return BUILD / "as-it-is" / "objects" / f"{stem}.o"
        target = self.tree / "objects" / f"{stem}.o"
        return target if compile_one(self.tree, source, target) else None

    def meet_tests(self, mutant: Mutant) -> Outcome:
        objects: list[Path] = []
        differs = False
        for name in core_sources():
            built = self.build(Path(name).stem, CORE / name, mutant)
            if built is None:
                return Outcome(mutant, "does not compile")
            differs = differs or built.read_bytes() != self.bench.code[name]
            objects.append(built)
        if not differs:
            return Outcome(mutant, "no difference")
        for name in in_order(self.bench, mutant.file):
            test = self.build(name, Path("tests/core") / f"{name}.c", mutant)
            program = self.tree / "objects" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            if test is None or not link([test, *objects], program):
                return Outcome(mutant, "does not compile")
            try:
                if not run_test(program, 5 + 6 * self.bench.seconds[name]):
                    return Outcome(mutant, "killed", name)
            except Timeout:
                return Outcome(mutant, "timed out", name)
        return Outcome(mutant, "survived")


def explanations() -> list[Explanation]:
    return [Explanation(**each) for each in tomllib.loads(SURVIVORS.read_text()).get("survivor", [])]


def show(outcome: Outcome, reason: str = "") -> None:
    mutant = outcome.mutant
    print(f"\n{mutant.file}:{mutant.line} in {mutant.function} ({mutant.operator})")
    print(f"  - {mutant.before}\n  + {mutant.after}")
    if reason:
        print(f"  {reason}")


def judged(mutants: list[Mutant], bench: Bench, jobs: int, until: float) -> Iterator[Outcome]:
    """What becomes of each, as it turns out, for as long as there is time."""
    workers = [Worker(number, bench) for number in range(jobs)]
    lock = threading.Lock()

    def judge(mutant: Mutant) -> Outcome | None:
        if time.monotonic() > until:
            return None
        with lock:
            worker = workers.pop()
        try:
            return worker.judge(mutant)
        finally:
            with lock:
                workers.append(worker)

    with ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(judge, mutant) for mutant in mutants]):
            outcome = done.result()
            if outcome is not None:
                yield outcome


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="make mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="stop then (60)")
    parser.add_argument("--count", type=int, help="no more mutants than this")
    parser.add_argument("--seed", type=int, help="of the sample; printed")
    parser.add_argument("--files", nargs="+", metavar="FILE", help="of core/src, such as table.c")
    parser.add_argument("--again", action="store_true", help="those that lived in the last run, and no others")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time (1)")
    options = parser.parse_args(arguments)

    start = time.monotonic()
    if shutil.which("gcc") is None:
        print("SKIPPED: MUTATION TESTING NEEDS GCC")
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    mutants: list[Mutant] = []
    for path in sorted((ROOT / CORE).glob("*.[ch]")):
        if path.name != "check.h" and (not options.files or path.name in options.files):
            mutants.extend(mutants_of(path.name, path.read_text()))
    population = len(mutants)
    random.Random(seed).shuffle(mutants)
    if options.again:
        lived = {tuple(each[name] for name in SAME) for each in json.loads(LAST.read_text())}
        mutants = [each for each in mutants if tuple(getattr(each, name) for name in SAME) in lived]
    mutants = mutants[: options.count]
    print(f"{population:,} mutants; seed {seed}; the core as it is first", flush=True)
    bench = prepare()
    print(f"tests/core: {len(bench.seconds)} programs, {sum(bench.seconds.values()):.1f} s in all", flush=True)

    explained = explanations()
    counts: Counter[str] = Counter()
    by: Counter[str] = Counter()
    survivors: list[Outcome] = []
    excused: list[tuple[Outcome, str]] = []
    until = start + 60 * options.minutes
    shown = time.monotonic()
    for outcome in judged(mutants, bench, options.jobs, until):
        counts[outcome.verdict] += 1
        by[outcome.by] += 1
        if outcome.verdict == "survived":
            reason = next((each.reason for each in explained if each.matches(outcome.mutant)), None)
            if reason is None:
                survivors.append(outcome)
                show(outcome)
            else:
                excused.append((outcome, reason))
        if time.monotonic() - shown > 30:
            shown = time.monotonic()
            told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
            print(f"[{(shown - start) / 60:.1f} min] {told}", flush=True)

    if excused:
        print(f"\n==== {len(excused)} that live and may (tests/campaigns/survivors.toml)")
        for outcome, reason in excused:
            show(outcome, reason)
    if survivors:
        print(f"\n==== {len(survivors)} that live")
        for outcome in survivors:
            show(outcome)
    LAST.write_text(json.dumps([asdict(outcome.mutant) for outcome in survivors], indent=1))

    dead = counts["killed"] + counts["timed out"]
    met = dead + len(survivors) + len(excused)
    rate = 100 * dead / max(dead + len(survivors), 1)
    raw_rate = 100 * dead / max(met, 1)
    print("\nkilled by: " + ", ".join(f"{name} {count}" for name, count in by.most_common() if name))
    result: dict[str, int | float | str] = {
        "mutants there are": population,
        "mutants that met the tests": met,
        "killed by a failing test": counts["killed"],
        "killed: did not end, or wanted all memory": counts["timed out"],
        "survived": len(survivors),
        "survived with a reason (survivors.toml)": len(excused),
        "not met: same machine code": counts["no difference"],
        "not met: do not compile": counts["does not compile"],
        "kill rate %, of those without a reason": round(rate, 1),
        "kill rate %, of all": round(raw_rate, 1),
        "seed of the sample": str(seed),
    }
    for what, count in result.items():
        print(f"{what:<44} {count}")
    failed = met == 0 or rate < RATE_LEAST
    if not options.again and not options.files:
        record("mutate", result, time.monotonic() - start, failed)
    return 1 if failed else 0
