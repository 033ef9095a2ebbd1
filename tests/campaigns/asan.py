"""The whole Python suite on a build with the address and the undefined behaviour sanitizer: `make check-asan`.

    python3 -m tests.campaigns asan [what pytest takes]       default: tests/python

Freed rows are poisoned in such a build (core/src/poison.h), so that a stale pointer into the map ends the run, not only
one beyond it. The interpreter is the ordinary one: the sanitizer's library is preloaded, children inherit it, and
PYTHONMALLOC=malloc brings CPython's and NumPy's own blocks under it.

Leaks are not asked for here: CPython and NumPy keep blocks until the process ends, and each of ours is allocated
with their frames on the stack, so that a suppression for theirs would cover ours. They are found elsewhere: in the core
by the leak sanitizer (layer core-asan-ubsan), in the binding by test_operations.py and test_no_memory.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.campaigns.counts import record
from tests.run import BIN, BUILD, ROOT, Light, Red, make_environment, pytest, run, say

SITE = ROOT / "build" / "asan" / "site"
FLAGS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
ASAN_OPTIONS = {
    "detect_leaks": 0,  # see above
    "allocator_may_return_null": 1,  # a request for 2^40 bytes is answered as malloc answers it
    "handle_sigbus": 0,  # the package has a handler of its own for mapped files that become shorter
    "detect_stack_use_after_return": 1,
    "strict_string_checks": 1,
    "quarantine_size_mb": 64,  # 256 for each worker and child is more than small machines have
    "malloc_context_size": 10,
}
#: What the sanitizers say goes here, a file for each process: children are tests too, and pytest swallows much.
SAID = ROOT / "build" / "asan" / "said"
UBSAN_OPTIONS = {"print_stacktrace": 1, "halt_on_error": 1}

#: Tests that ask for what a sanitizer takes away, with the reason. Each is run by the layers `python` and, as far as it
#: concerns the core, `python-checked`.
RESIDENT = "resident memory: the sanitizer keeps what was freed for a while"
LEFT_OUT: dict[str, str] = {
    "test_memory.py::TestSaid::test_nbytes_and_resident_memory": RESIDENT,
    "test_memory.py::TestReleased::test_maps_come_and_go": RESIDENT,
    "test_memory.py::TestReleased::test_errors_leak_nothing": RESIDENT,
    "test_operations.py::test_no_operation_leaks": RESIDENT,
    "test_no_memory.py::test_every_request_refused[malloc": "a malloc of the test's own, which is the sanitizer's here",
}


#: A stale pointer into a map, as it would come of a view that does not hold its row.
STALE = """
import ctypes
from intarraymap import IntArrayMap
m = IntArrayMap.fromkeys(range(10), [1.0] * 3)
address = m[5].ctypes.data
del m[5]
ctypes.string_at(address, 24)
"""


def library(name: str) -> str:
    """Path of a runtime library of the compiler; empty where it has none."""
    compiler = os.environ.get("CC", "gcc").split()
    try:
        done = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    path = done.stdout.strip()
    return str(Path(path).resolve()) if os.sep in path else ""


def joined(options: dict[str, int]) -> str:
    return ":".join([*(f"{name}={value}" for name, value in options.items()), f"log_path={SAID / 'report'}"])


def environment(site: Path = SITE) -> dict[str, str]:
    """What a process needs to load the sanitized build."""
    return {
        "PYTHONPATH": str(site),
        # libstdc++ beside it: the sanitizer looks for __cxa_throw when it starts, and pyarrow brings C++ later.
        "LD_PRELOAD": " ".join(filter(None, (library("libasan.so"), library("libstdc++.so.6")))),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": joined(ASAN_OPTIONS),
        "UBSAN_OPTIONS": joined(UBSAN_OPTIONS),
        "INTARRAYMAP_SECONDS_PER_TEST": "1800",
    }


def build(site: Path = SITE) -> None:
    """The package with the sanitizers, into a folder of its own. setup.py keeps its object files apart by the flags."""
    command: list[str | Path] = [BIN / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "--upgrade", "--target", site, ROOT]
    flags = {"CC": os.environ.get("CC", "gcc"), "CFLAGS": FLAGS, "LDFLAGS": "-fsanitize=address,undefined"}
    run(*command, environ={**flags, "INTARRAYMAP_CHECKED": "0"}, quiet=True)


def expect_poison() -> None:
    """Red if reading a freed row goes unnoticed: then the suite would prove nothing."""
    words: list[str | Path] = [BIN / "python", "-c", STALE]
    environ = {**os.environ, **environment(), "ASAN_OPTIONS": joined({**ASAN_OPTIONS, "abort_on_error": 0})}
    done = subprocess.run(words, cwd=BUILD, env=environ, capture_output=True, text=True, check=False)
    reports = list(SAID.glob("*"))
    said = "".join(report.read_text(errors="replace") for report in reports)
    if done.returncode == 0 or "use-after-poison" not in said:
        raise Red(f"a freed row was read and nobody said so (exit code {done.returncode})")
    for report in reports:
        report.unlink()


def is_warning(report: Path) -> bool:
    """Whether it only says that a request was refused: tests ask for more memory than there is."""
    said = report.read_text(errors="replace").strip().splitlines()
    return all("WARNING: AddressSanitizer failed to allocate" in line for line in said)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make check-asan", description=__doc__)
    parser.add_argument("--no-build", action="store_true", help="the build of the last run")
    options, wanted = parser.parse_known_args(arguments)
    start = time.perf_counter()
    if not library("libasan.so"):
        say("SKIPPED: THE COMPILER (CC, OR GCC) HAS NO LIBASAN.SO TO PRELOAD")
        return 0
    light = Light()
    problem = ""
    try:
        BUILD.mkdir(parents=True, exist_ok=True)
        make_environment(fresh=False)
        if not options.no_build:
            build()
        run(BIN / "python", "-c", "import intarraymap._owner as o; assert 'asan' in o.__file__", environ=environment())
        shutil.rmtree(SAID, ignore_errors=True)
        SAID.mkdir(parents=True)
        expect_poison()
        for name, reason in LEFT_OUT.items():
            say(f"left out: {name}: {reason}")
        left_out = [f"--deselect=tests/python/{name}" for name in LEFT_OUT]
        light = pytest("asan", *left_out, *(wanted or ["tests/python"]), environ=environment())
    except Red as reason:
        problem = str(reason)
        say(f"FAILED: {problem}")
    reports = [path for path in sorted(SAID.glob("*")) if not is_warning(path)] if SAID.exists() else []
    for report in reports:
        say(f"---- {report.name}\n{report.read_text(errors='replace')[:8000]}")
    failed = bool(light.failed or problem or reports)
    seconds = time.perf_counter() - start
    if not wanted:
        counts: dict[str, int | float | str] = {
            "Python tests on the ASan and UBSan build": light.passed,
            "failed": light.failed,
            "reports of the sanitizers": len(reports),
            "skipped by themselves": light.skipped,
            "left out, with a reason each": len(LEFT_OUT),
        }
        record("asan", counts, seconds, failed)
    found = f"{len(LEFT_OUT)} left out, {len(reports)} reports of the sanitizers"
    say(f"{light.passed} passed, {light.failed} failed, {light.skipped} skipped, {found}")
    return 1 if failed else 0
