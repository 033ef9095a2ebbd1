"""Fuzzes the core by libFuzzer and the Python surface by atheris: `make fuzz`, five minutes in all.

    python3 -m tests.campaigns fuzz [target ...] [--minutes 5] [--keep]

A target starts from its corpus in the repository and from what earlier runs left in build/fuzz. What crashes is copied
to tests/fuzz/crashes/TARGET under a name that says what went wrong; from then on it is a test (tests/core/replay.c,
tests/python/test_fuzz_replay.py). --keep brings what was found into the repository's corpus: the few dozen inputs that
reach most of all that was reached.

The seed of each run is printed; libFuzzer's -seed is the first of it that one would want again. (Hypothesis, where
there is no atheris, draws its own, and shows the input that fails.)
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns.asan import library as runtime_library
from tests.campaigns.counts import record
from tests.run import BIN, ROOT, Red, group, make_environment, run, say

WORK = ROOT / "build" / "fuzz"
KEPT = ROOT / "tests" / "fuzz"
ATHERIS = ROOT / "build" / "venv-fuzz"
SITE = WORK / "site"
CORE = ROOT / "build" / "core" / "fuzz"
#: Targets, how much of the time each gets, and how long an input may be.
TARGETS = {
    "fuzz_ops": (4, 400),
    "fuzz_image": (2, 400),
    "fuzz_python_ops": (2, 400),
    "fuzz_files": (1, 400),
    "fuzz_coerce": (1, 300),
}
IN_PYTHON = ("fuzz_python_ops", "fuzz_files", "fuzz_coerce")
#: Of the corpus of a target in the repository: five of them are 200 KB at most.
KEPT_FILES, KEPT_BYTES = 48, 38_000
OPTIONS = (
    "-timeout=300",
    "-report_slow_units=300",
    "-rss_limit_mb=4096",
    "-print_final_stats=1",
    "-use_value_profile=1",
    "-len_control=20",
)
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=32:handle_sigbus=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


@dataclass
class Found:
    """What one run of one target counted."""

    steps: int = 0
    edges: int = 0
    features: int = 0
    crashes: int = 0


# ---- Getting ready ---------------------------------------------------------------------------------------------------


def build_core(targets: list[str]) -> str:
    """Empty, or why not."""
    if not targets:
        return ""
    if not shutil.which("clang"):
        return "clang with libFuzzer is not installed"
    run("cmake", "-S", "cmake", "--preset", "fuzz", quiet=True)
    run("cmake", "--build", CORE, "--target", *targets, quiet=True)
    return ""


@dataclass
class Python:
    """How the fuzzers of the Python surface are started."""

    program: Path
    environ: dict[str, str]
    is_guided: bool


def with_atheris() -> Python:
    """An environment with atheris, and in it a build that tells libFuzzer which edges of the C code were reached."""
    if not (ATHERIS / "ready").exists():
        shutil.rmtree(ATHERIS, ignore_errors=True)
        venv.create(ATHERIS, with_pip=True)
        pip: list[str | Path] = [
            ATHERIS / "bin" / "python",
            "-m",
            "pip",
            "install",
            "-qq",
            "--disable-pip-version-check",
        ]
        if run(*pip, *group("fuzz"), *group("build"), check=False):
            raise Red("atheris cannot be installed for this Python")
        (ATHERIS / "ready").touch()
    python = ATHERIS / "bin" / "python"
    library = next((ATHERIS / "lib").glob("python*/site-packages/asan_with_fuzzer.so"))
    preloaded = f"{library} {runtime_library('libstdc++.so.6')}"  # which asan.py explains
    flags = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,fuzzer-no-link"
    environ = {"CC": "clang", "LDSHARED": "clang -shared", "CFLAGS": flags, "LDFLAGS": flags}
    install: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
    ]
    run(*install, "--no-build-isolation", "--upgrade", "--target", SITE, ROOT, environ=environ, quiet=True)
    found = Python(
        python, {"PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}", "LD_PRELOAD": preloaded, **SANITIZERS}, is_guided=True
    )
    run(python, "-c", "import atheris, intarraymap", environ=found.environ)
    return found


def get_python_ready() -> Python:
    try:
        if not shutil.which("clang"):
            raise Red("clang with libFuzzer is not installed")
        return with_atheris()
    except Red as reason:
        say(f"SKIPPED: FUZZING PYTHON BY COVERAGE: {str(reason).upper()}; HYPOTHESIS GUESSES INSTEAD")
    make_environment(fresh=False)
    install: list[str | Path] = [
        BIN / "python",
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
    ]
    run(*install, "--no-build-isolation", "--upgrade", "--target", SITE, ROOT, quiet=True)
    return Python(BIN / "python", {"PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}"}, is_guided=False)


# ---- One target ------------------------------------------------------------------------------------------------------


def command(target: str, python: Python | None) -> tuple[list[str], dict[str, str]]:
    if python is None or target not in IN_PYTHON:
        return [str(CORE / target)], SANITIZERS
    return [str(python.program), "-m", "tests.fuzz", target], python.environ


def folders(target: str) -> list[Path]:
    """Where new inputs go, and the repository's."""
    found = [WORK / target / "corpus", KEPT / "corpus" / target]
    for folder in found:
        folder.mkdir(parents=True, exist_ok=True)
    return found


def fuzz(target: str, seconds: int, seed: int, python: Python | None) -> Found:
    words, environ = command(target, python)
    artifacts = WORK / target / "artifacts"
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.mkdir(parents=True)
    options = [f"-max_total_time={seconds}", f"-max_len={TARGETS[target][1]}", f"-artifact_prefix={artifacts}{os.sep}"]
    options += [*OPTIONS, f"-seed={seed}", *map(str, folders(target))]
    log = WORK / target / "log.txt"
    say(f"$ {target} {' '.join(options)}")
    with log.open("w") as output:
        code = subprocess.run(
            [*words, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environ},
            cwd=ROOT,
            check=False,
        ).returncode
    said = log.read_text(errors="replace")
    found = Found(
        steps=last_number(r"number_of_executed_units: *(\d+)|^#(\d+)\s", said),
        edges=last_number(r" cov: (\d+)", said),
        features=last_number(r" ft: (\d+)", said),
    )
    crashed = sorted(path for path in artifacts.iterdir() if not path.name.startswith("slow-unit"))
    found.crashes = len(crashed) or int(code != 0)
    for path in crashed:
        keep_crash(target, path, said)
    if found.crashes:
        say(said[-6000:])
    return found


def last_number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text, re.MULTILINE)
    if not found:
        return 0
    words = found[-1] if isinstance(found[-1], tuple) else found[-1:]
    return int(next((word for word in words if word), "0"))


def keep_crash(target: str, path: Path, said: str) -> None:
    """Into the repository, named after what was said when it came."""
    patterns = (r"expected (.+)", r"SUMMARY: \w+: (.+)", r"^(\w+Error: .+)$", r"runtime error: (.+)")
    words = next((found[1] for each in patterns if (found := re.search(each, said, re.MULTILINE))), path.name)
    name = re.sub(r"[^a-z0-9]+", "-", words.lower().replace(str(ROOT).lower(), "")).strip("-")[:60]
    kept = KEPT / "crashes" / target / f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:6]}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, kept)
    say(f"CRASH: {kept.relative_to(ROOT)}: find the bug, then give the file a name that says what went wrong")


# ---- The corpus in the repository ------------------------------------------------------------------------------------


def keep_corpus(target: str, python: Python | None) -> None:
    """The inputs that reach the most, each time the one that adds most to those chosen before (Chvátal, 1979)."""
    words, environ = command(target, python)
    control, empty = WORK / target / "merge.txt", WORK / target / "merged"
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    control.unlink(missing_ok=True)
    options = ["-merge=1", f"-merge_control_file={control}", str(empty), *map(str, folders(target))]
    subprocess.run(
        [*words, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **environ},
        cwd=ROOT,
        check=True,
    )
    lines = control.read_text().splitlines()
    paths = [Path(line) for line in lines[2 : 2 + int(lines[0])]]
    reached: dict[int, set[str]] = {}
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "FT":
            number, *features = rest.split()
            reached[int(number)] = set(features)
    chosen: list[Path] = []
    total, covered = 0, set[str]()
    while len(chosen) < KEPT_FILES and reached:
        best = max(reached, key=lambda number: len(reached[number] - covered))
        gain = reached.pop(best) - covered
        size = paths[best].stat().st_size
        if not gain:
            break
        if total + size <= KEPT_BYTES:
            chosen.append(paths[best])
            covered |= gain
            total += size
    contents = [path.read_bytes() for path in chosen]
    kept = KEPT / "corpus" / target
    shutil.rmtree(kept)
    kept.mkdir()
    for content in contents:
        (kept / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    say(f"{target}: {len(contents)} inputs of {total} bytes kept, of {len(paths)}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--minutes", type=float, default=5.0, help="in all (default 5)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "little") + 1)
    parser.add_argument("--keep", action="store_true", help="bring what was found into the repository's corpus")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    targets: list[str] = options.targets or list(TARGETS)
    start = time.perf_counter()
    counts: dict[str, int | float | str] = {}
    crashes = 0
    try:
        make_environment(fresh=False)
        if why_not := build_core([target for target in targets if target not in IN_PYTHON]):
            say(f"SKIPPED: FUZZING THE CORE: {why_not.upper()}")
            targets = [target for target in targets if target in IN_PYTHON]
        python = get_python_ready() if set(targets) & set(IN_PYTHON) else None
    except Red as reason:
        say(f"FAILED: {reason}")
        return 1
    shares = sum(TARGETS[target][0] for target in targets)
    say(f"seed {options.seed}")
    for target in targets:
        found = fuzz(target, max(int(options.minutes * 60 * TARGETS[target][0] / shares), 1), options.seed, python)
        crashes += found.crashes
        say(f"{target}: {found.steps:,} inputs, {found.edges:,} edges reached, {found.crashes} crashed")
        counts[f"{target}: inputs"] = found.steps
        counts[f"{target}: edges reached"] = found.edges
        if options.keep and not found.crashes and (target not in IN_PYTHON or (python and python.is_guided)):
            keep_corpus(target, python)
    counts["crashes"] = crashes
    counts["crashes ever found, kept as tests"] = sum(path.is_file() for path in (KEPT / "crashes").rglob("*"))
    record("fuzz", counts, time.perf_counter() - start, failed=crashes > 0)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
