"""Which lines and branches the tests reach: branches of the C core, lines of the Python. `make coverage`.

The core is built by CMake under the preset `coverage` (gcc --coverage), its programs are run, and gcovr adds up. Three
kinds of branches are left out: those of CHECK, which states what cannot be otherwise and is not there in a release
build; those of functions that are always inlined are counted once (INTARRAYMAP_COVERAGE in pipeline.h makes them
functions), not for each of their callers; and those of other modes of compiling (gcov does not see them). What remains
uncovered is shown line by line with its function, and must be explained in DESIGN.md, "What the tests do not reach",
which says how many branches of which functions.

The Python is run by coverage.py under all of tests/python and tests/docs, child processes included.

Red: below 95 % of the core's branches or 98 % of the Python's lines, a function that is not explained or has a larger
gap than that, a failing test.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns.counts import record
from tests.run import BIN, BUILD, ENVIRONMENT, ROOT, WORKERS, Red, group, make_environment, run

PRESET = ROOT / "build" / "core" / "coverage"
CORE = "src/intarraymap/core/src"
BRANCHES_LEAST = 95.0
LINES_LEAST = 98.0

Counts = dict[str, int | float | str]


#: Tests that coverage.py itself disturbs, with the reason; `make test` runs them.
LEFT_OUT = {
    "test_no_memory.py": "the tracer asks for memory too, and is refused",
    "test_files.py::test_a_thread_without_memory_left_the_file_written_twice": "the same",
    "test_threads.py::TestSignals": "the tracer has a lock, and a handler may come while it is held",
}


@dataclass
class Uncovered:
    """What of one function nothing reaches."""

    lines: list[int] = field(default_factory=list)
    branches: int = 0
    source: list[str] = field(default_factory=list)


@dataclass
class Explained:
    """A row of the table in DESIGN.md: `alloc.c`: `alloc_reserve`, `alloc_give_back` | branches at most | why."""

    functions: list[tuple[str, str]]  # file and name
    branches: int


def explained() -> list[Explained]:
    design = (ROOT / "DESIGN.md").read_text()
    table = design.partition("What the tests do not reach\n")[2].partition("\n## ")[0]
    found: list[Explained] = []
    for names, branches in re.findall(r"^\| (`\w+\.[ch]`: [^|]+) \| (\d+) \|", table, flags=re.MULTILINE):
        file, *functions = re.findall(r"`([\w.]+)`", names)
        found.append(Explained([(file, function) for function in functions], int(branches)))
    return found


def run_core_tests() -> bool:
    """Build and run tests/core, counters fresh; whether all of them passed."""
    run("cmake", "-S", "cmake", "--preset", "coverage", quiet=True)
    run("cmake", "--build", PRESET)
    for counters in PRESET.rglob("*.gcda"):
        counters.unlink()
    return run("ctest", "--preset", "coverage", folder=ROOT / "cmake", check=False) == 0


def core() -> tuple[Counts, bool]:
    passed = run_core_tests()
    report = PRESET / "gcovr.json"
    objects = sorted((PRESET / "CMakeFiles").glob("*.dir"))
    options: list[str | Path] = [
        "--root",
        ROOT,
        "--filter",
        f"{CORE}/",
        "--exclude-branches-by-pattern",
        r"^\s*CHECK\(.*",
    ]
    run(BIN / "gcovr", *options, "--json", report, *objects, quiet=True)
    lines = covered_lines = branches = covered_branches = 0
    uncovered: dict[tuple[str, str], Uncovered] = defaultdict(Uncovered)
    for file in json.loads(report.read_text())["files"]:
        source = (ROOT / file["file"]).read_text().splitlines()
        file_branches = file_covered = 0
        for line in file["lines"]:
            if line.get("gcovr/excluded"):
                continue
            taken = [branch["count"] > 0 for branch in line.get("branches", []) if not branch.get("gcovr/excluded")]
            lines += 1
            covered_lines += line["count"] > 0
            file_branches += len(taken)
            file_covered += sum(taken)
            if line["count"] == 0 or not all(taken):
                where = uncovered[Path(file["file"]).name, line.get("function_name", "")]
                where.lines.append(line["line_number"])
                where.branches += taken.count(False)
                where.source.append(f"{line['line_number']:>5}  {source[line['line_number'] - 1].strip()}")
        branches += file_branches
        covered_branches += file_covered
        share = 100 * file_covered / max(file_branches, 1)
        print(f"{Path(file['file']).name:<16} {file_covered:>5} of {file_branches:>5} branches {share:6.1f} %")
    known = {function for row in explained() for function in row.functions}
    unknown = 0
    for (name, function), what in sorted(uncovered.items()):
        note = "" if (name, function) in known else "   NOT EXPLAINED IN DESIGN.md"
        unknown += bool(note)
        print(f"\n{name}, {function}: {what.branches} branches{note}")
        print("\n".join(what.source))
    larger = 0
    for row in explained():
        gap = sum(uncovered[function].branches for function in row.functions if function in uncovered)
        names = ", ".join(name for _, name in row.functions)
        if gap > row.branches:
            print(f"\nA LARGER GAP THAN DESIGN.md SAYS: {names}: {gap} branches and not {row.branches}")
            larger += 1
        elif not any(function in uncovered for function in row.functions):
            print(f"\nno gap this time, though DESIGN.md has one: {names}")
    rate = 100 * covered_branches / max(branches, 1)
    counts: Counts = {
        "C core: branches": branches,
        "C core: branches taken": covered_branches,
        "C core: branch coverage %": round(rate, 2),
        "C core: line coverage %": round(100 * covered_lines / max(lines, 1), 2),
        "C core: functions with a gap": len(uncovered),
        "C core: of them not explained in DESIGN.md": unknown,
        "C core: gaps larger than DESIGN.md says": larger,
    }
    return counts, passed and rate >= BRANCHES_LEAST and unknown == 0 and larger == 0


def python() -> tuple[Counts, bool]:
    """The suite under coverage.py, and the lines that nothing ran."""
    data = BUILD / "coverage"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    settings = data / "coveragerc"
    # Every process writes a file of its own: workers of pytest-xdist and the children that tests start alike.
    settings.write_text(
        "[run]\nbranch = true\nsource_pkgs = intarraymap\nparallel = true\npatch = subprocess\n"
        f"data_file = {data / 'data'}\n"
        "[report]\nexclude_also =\n    if TYPE_CHECKING:\n    @overload\n"
    )
    install: list[str | Path] = [BIN / "python", "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation"]
    run(*install, "--no-index", "--force-reinstall", ROOT, environ={"INTARRAYMAP_CHECKED": "0"})
    for name, reason in LEFT_OUT.items():
        print(f"left out: {name}: {reason}")
    coverage: list[str | Path] = [BIN / "python", "-m", "coverage"]
    rc = f"--rcfile={settings}"
    left_out = [f"--deselect=tests/python/{name}" for name in LEFT_OUT]
    suite = ["-m", "pytest", "-q", f"--numprocesses={WORKERS}", *left_out, "tests/python", "tests/docs"]
    passed = run(*coverage, "run", rc, *suite, check=False) == 0
    run(*coverage, "combine", rc, "--quiet", data)
    run(*coverage, "report", rc, "--skip-covered")
    run(*coverage, "json", rc, "--quiet", "-o", data / "report.json")
    totals = json.loads((data / "report.json").read_text())["totals"]
    rate = 100 * totals["covered_lines"] / max(totals["num_statements"], 1)
    counts: Counts = {
        "Python: lines": totals["num_statements"],
        "Python: lines run": totals["covered_lines"],
        "Python: line coverage %": round(rate, 2),
        "Python: branch coverage %": round(100 * totals["covered_branches"] / max(totals["num_branches"], 1), 2),
    }
    return counts, passed and rate >= LINES_LEAST


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="make coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=["core", "python", []], help="core, python; both if none is named")
    parts = parser.parse_args(arguments).parts or ["core", "python"]
    start = time.monotonic()
    counts: Counts = {}
    failed = False
    try:
        make_environment(fresh=False)
        run(ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "-qq", *group("measure"))
        for part in parts:
            if part == "core" and shutil.which("gcov") is None:
                print("SKIPPED: BRANCHES OF THE CORE, BECAUSE THERE IS NO GCOV; NOTHING IS RECORDED")
                parts = ["python"]
                continue
            found, is_enough = core() if part == "core" else python()
            counts.update(found)
            failed = failed or not is_enough
    except Red as reason:
        print(f"FAILED: {reason}")
        failed = True
    print()
    for what, count in counts.items():
        print(f"{what:<44} {count}")
    if len(parts) == 2:
        record("coverage", counts, time.monotonic() - start, failed)
    return 1 if failed else 0
