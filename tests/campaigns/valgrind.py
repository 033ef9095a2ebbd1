"""View tests and the core's own tests under valgrind's memcheck: `make check-valgrind`.

    python3 -m tests.campaigns valgrind [--core-only | --python-only] [what pytest takes]

What the sanitizers do not see: memory that was never written to and is looked at. Python runs one test process with
PYTHONMALLOC=malloc, the core's programs run one by one (release preset, so that what is looked at is what users get).
valgrind is some thirty times slower than the machine: a chosen few tests, and of the core all but those that measure or
fill gigabytes.

Leaks are not asked for in Python (asan.py says why); in the core they are errors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.campaigns.counts import record
from tests.run import BIN, BUILD, ROOT, Light, Red, junit_counts, make_environment, run, say

SITE = ROOT / "build" / "valgrind" / "site"
CORE = ROOT / "build" / "core" / "valgrind"
SUPPRESSIONS = Path(__file__).with_name("python.supp")
ERROR_CODE = 99
MEMCHECK = ("valgrind", "--quiet", f"--error-exitcode={ERROR_CODE}", "--num-callers=25")

#: Rows, views and what lets go of them.
CHOSEN = (
    "tests/python/test_views.py",
    "tests/python/test_iteration.py",
    "tests/python/test_batches.py",
)
#: Without the kinds of map that differ from others by where keys stand, and not by who owns what.
WORDS = "(view or scan or block or compact or delete or clear) and not (auto or colliding or all-zero or all-ones)"
#: Tests that cannot run so, with the reason.
LEFT_OUT = {
    "test_views.py::TestAfterDelete::test_collected[mapped]": "six opened maps at a time, which each want 29 GiB of "
    "addresses to grow into: valgrind has 128 GiB",
}
CORE_LEFT_OUT = {
    "test_lock": "threads that wait for each other by the clock: valgrind runs one at a time",
    "test_poison": "of the address sanitizer",
    "test_system": "an mmap of its own, which valgrind does not let the core call",
    "test_hash": "statistics over 1e8 hashes, no memory",
}


def build_package() -> None:
    command: list[str | Path] = [BIN / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "--upgrade", "--target", SITE, ROOT]
    run(*command, environ={"CFLAGS": "-O1 -g", "INTARRAYMAP_CHECKED": "0"}, quiet=True)


def python(wanted: list[str]) -> Light:
    report = BUILD / "valgrind.xml"
    report.unlink(missing_ok=True)
    for name, reason in LEFT_OUT.items():
        say(f"left out: {name}: {reason}")
    left_out = [f"--deselect=tests/python/{name}" for name in LEFT_OUT]
    chosen = wanted or [*CHOSEN, "-k", WORDS]
    code = run(
        *MEMCHECK,
        f"--suppressions={SUPPRESSIONS}",
        BIN / "python",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        f"--junitxml={report}",
        *left_out,
        *chosen,
        environ={
            "PYTHONPATH": str(SITE),
            "PYTHONMALLOC": "malloc",
            "INTARRAYMAP_SECONDS_PER_TEST": "3600",
            "OPENBLAS_NUM_THREADS": "1",
        },
        check=False,
    )
    if code == ERROR_CODE:
        raise Red("valgrind has found errors in the Python tests: see above")
    return junit_counts(report, code)


def core() -> Light:
    run("cmake", "-S", "cmake", "--preset", "valgrind", quiet=True)
    run("cmake", "--build", CORE, quiet=True)
    light = Light(unit="programs")
    for program in sorted(CORE.glob("test_*")):
        if not os.access(program, os.X_OK) or program.is_dir():
            continue
        if program.name in CORE_LEFT_OUT:
            say(f"left out: {program.name}: {CORE_LEFT_OUT[program.name]}")
            light.skipped += 1
            continue
        start = time.perf_counter()
        done = subprocess.run(
            [*MEMCHECK, "--leak-check=full", "--show-leak-kinds=definite,possible", str(program)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        say(f"{program.name:<24} {'ok' if done.returncode == 0 else 'FAILED':<8} {time.perf_counter() - start:7.1f} s")
        if done.returncode == 0:
            light.passed += 1
        else:
            light.failed += 1
            say(done.stdout[-2000:] + done.stderr[-8000:])
    return light


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make check-valgrind", description=__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--core-only", action="store_true")
    only.add_argument("--python-only", action="store_true")
    options, wanted = parser.parse_known_args(arguments)
    if not shutil.which("valgrind"):
        say("SKIPPED: VALGRIND IS NOT INSTALLED")
        return 0
    start = time.perf_counter()
    counts: dict[str, int | float | str] = {}
    failed = False
    try:
        BUILD.mkdir(parents=True, exist_ok=True)
        make_environment(fresh=False)
        if not options.python_only:
            light = core()
            counts["programs of the core under memcheck"] = light.passed
            counts["programs left out, with a reason each"] = light.skipped
            failed |= light.failed > 0
        if not options.core_only:
            build_package()
            light = python(wanted)
            counts["Python tests under memcheck"] = light.passed
            failed |= light.failed > 0
    except Red as reason:
        say(f"FAILED: {reason}")
        failed = True
    if not (wanted or options.core_only or options.python_only):
        record("valgrind", counts, time.perf_counter() - start, failed)
    for what, count in counts.items():
        say(f"{what}: {count}")
    return 1 if failed else 0
