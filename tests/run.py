"""Runs every layer of tests on a clean checkout: `make test`.

Needs python3 (3.11 or newer) with venv, gcc and make, and nothing that was installed by hand: a virtual environment is
made anew in build/, everything else comes into it by pip. The package is built from its own sdist, so that a file that
is missing there is missed here.

Each layer is a light of its own: green, red, or SKIPPED with the reason in capitals. Any red one makes the exit code 1.

    python3 tests/run.py                 all layers, everything fresh
    python3 tests/run.py lint types      these layers
    python3 tests/run.py --quick         C core and Python tests, with the environment and object files that are there
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import venv
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "test"
ENVIRONMENT = ROOT / "build" / "venv-test"
BIN = ENVIRONMENT / "bin"
CHECKED = BUILD / "checked"  # the package as a checked build, put in front of the release build by PYTHONPATH
GROUPS = ("build", "test", "exchange", "lint", "types")
WORKERS = min(os.cpu_count() or 1, 4)  # of pytest; more would starve the tests of threads
# Not run again in the checked build: large maps (a check walks all of the map), what ends above the core, and refused
# memory (of the check after a write, too).
UNCHECKED = (
    "test_floods.py",
    "test_memory.py",
    "test_no_memory.py",
    "test_keys.py",
    "test_rows.py",
    "test_ops.py",
    "test_errors.py",
    "test_sizes.py",
)


@dataclass
class Light:
    """What a layer found: counts of tests, or of files where it has no tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    unit: str = "tests"
    told: dict[str, int] = field(default_factory=dict)  # what the C programs count beside: "checks", "refusals" …


class Skip(Exception):
    """A layer cannot run here; the message says why."""


class Red(Exception):
    """A layer failed before it could count."""


def say(text: str) -> None:
    print(text, flush=True)


def run(
    *command: str | Path,
    folder: Path = ROOT,
    environ: dict[str, str] | None = None,
    check: bool = True,
    quiet: bool = False,
) -> int:
    """Run a command with the environment's programs first on the path. Quiet: what it says is shown if it fails."""
    words = [str(word) for word in command]
    say(f"$ {' '.join(Path(word).name if word.startswith(str(BIN)) else word for word in words)}")
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if quiet and done.returncode:
        say(done.stdout)
    if check and done.returncode:
        raise Red(f"{Path(words[0]).name} exited with {done.returncode}")
    return done.returncode


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml. (Older pips do not know groups.)"""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    found: list[str] = []
    for item in groups[name]:
        found.extend(group(item["include-group"]) if isinstance(item, dict) else [item])
    return found


def source_files(*patterns: str) -> list[Path]:
    return sorted(
        path for pattern in patterns for path in ROOT.glob(pattern) if "build" not in path.relative_to(ROOT).parts
    )


def junit_counts(report: Path, exit_code: int, usual: tuple[int, ...] = (0, 1)) -> Light:
    """Add up a JUnit report, as pytest and ctest both write it. Red if the program that wrote it did not end as usual.

    One that was interrupted, or that met an error of its own, leaves a report of what it had done until then.

    A C program says "ok NAME" for each of its tests, and "N checks passed" in the end. Others count in the same way, by
    lines "N THINGS counted"; tests of pytest by record_property("things", N).
    """
    if exit_code not in usual:
        raise Red(f"the tests broke off: exit code {exit_code}")
    if not report.exists():
        raise Red("the tests ended without a report")
    light = Light()
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            light.failed += 1
        elif case.find("skipped") is not None:
            light.skipped += 1
        else:
            said = case.findtext("system-out") or ""
            if "test output was removed" in said:
                raise Red(f"the counts of {case.get('name')} are cut off: see maxPassedTestOutputSize")
            light.passed += len(re.findall(r"^ok ", said, re.MULTILINE)) or 1
            for count, what in re.findall(r"^(\d+) (checks|[a-z ]+(?= counted$))", said, re.MULTILINE):
                light.told[what] = light.told.get(what, 0) + int(count)
            for each in case.iter("property"):
                what = str(each.get("name")).replace("_", " ")
                light.told[what] = light.told.get(what, 0) + int(each.get("value", "0"))
    if not light.passed and not light.failed:
        raise Red("no test ran")
    return light


# ---- Getting ready ---------------------------------------------------------------------------------------------------


def make_environment(fresh: bool) -> None:
    wanted = [requirement for name in GROUPS for requirement in group(name)]
    wanted += [each for each in group("core") if not shutil.which(re.split(r"\W", each)[0])]
    stamp = ENVIRONMENT / "installed.txt"
    if not fresh and stamp.exists() and stamp.read_text() == "\n".join(wanted):
        say("the environment of the last run is used again")
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    venv.create(ENVIRONMENT, with_pip=True)
    run(BIN / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", *wanted)
    stamp.write_text("\n".join(wanted))


def build_package(fresh: bool) -> None:
    """The release build into the environment, the checked build beside it; a fresh one from an unpacked sdist."""
    source = ROOT
    if fresh:
        shutil.rmtree(BUILD, ignore_errors=True)
        BUILD.mkdir(parents=True)
        make_sdist = f"from setuptools import build_meta; build_meta.build_sdist({str(BUILD)!r})"
        run(BIN / "python", "-c", make_sdist, quiet=True)
        (archive,) = BUILD.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(BUILD, filter="data")
        source = BUILD / archive.name.removesuffix(".tar.gz")
    pip_install: list[str | Path] = [BIN / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    pip_install += ["--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip_install, "--force-reinstall", source, environ={"INTARRAYMAP_CHECKED": "0"})
    run(*pip_install, "--upgrade", "--target", CHECKED, source, environ={"INTARRAYMAP_CHECKED": "1"})


# ---- The layers ------------------------------------------------------------------------------------------------------


def lint() -> Light:
    """Looks of every file: ruff, clang-format, cython-lint."""
    python_files = source_files("**/*.py", "**/*.pyi")
    c_files = source_files("src/**/*.[ch]", "tests/core/*.[ch]")
    cython_files = source_files("src/**/*.pyx", "src/**/*.pxd")
    red = run(BIN / "ruff", "check", ".", check=False)
    red += run(BIN / "ruff", "format", "--check", ".", check=False)
    if c_files:
        red += run(BIN / "clang-format", "--dry-run", "--Werror", *c_files, check=False)
    if cython_files:
        red += run(BIN / "cython-lint", *cython_files, check=False)
    if red:
        raise Red("see above; `make format` mends most of it")
    return Light(passed=len(python_files) + len(c_files) + len(cython_files), unit="files")


def core(preset: str) -> Light:
    """The C core alone, built and tested by CMake under one preset."""
    report = ROOT / "build" / "core" / f"{preset}.xml"
    report.unlink(missing_ok=True)
    run("cmake", "-S", "cmake", "--preset", preset, quiet=True)
    run("cmake", "--build", ROOT / "build" / "core" / preset)
    # ctest looks for its presets in the working directory, and exits with 8 when a test failed.
    code = run("ctest", "--preset", preset, "--output-junit", report, folder=ROOT / "cmake", check=False)
    return junit_counts(report, code, usual=(0, 8))


def core_checked() -> Light:
    """The C core with every invariant checked after each write."""
    return core("checked")


def can_sanitize(which: str) -> None:
    """Skip if the compiler has no such sanitizers."""
    probe = BUILD / "probe"
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.with_suffix(".c").write_text("int main(void) { return 0; }\n")
    compiler = os.environ.get("CC", "cc")
    words = [*compiler.split(), f"-fsanitize={which}", str(probe.with_suffix(".c")), "-o", str(probe)]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    if tried.returncode:
        raise Skip(f"{compiler} cannot build with sanitizers: {tried.stderr.strip().splitlines()[-1]}")


def core_asan_ubsan() -> Light:
    """The C core under the address, leak and undefined behaviour sanitizers."""
    can_sanitize("address,undefined")
    return core("asan-ubsan")


def pytest(name: str, *arguments: str, environ: dict[str, str] | None = None) -> Light:
    report = BUILD / f"{name}.xml"
    report.unlink(missing_ok=True)
    options = ("-q", "--durations=5", f"--junitxml={report}", f"--numprocesses={WORKERS}")
    code = run(BIN / "python", "-m", "pytest", *options, *arguments, environ=environ, check=False)
    return junit_counts(report, code)


def expect_build(checked: bool, environ: dict[str, str]) -> None:
    """Red if what is imported is not the build that is meant."""
    says = f"from intarraymap import _owner as o; assert o.IS_CHECKED is {checked}, o.__file__"
    run(BIN / "python", "-c", says, folder=BUILD, environ=environ)


def python() -> Light:
    """Unit, property and state-machine tests, threads and processes, against the release build."""
    expect_build(False, {})
    return pytest("python", "tests/python")


def python_checked() -> Light:
    """The same against a build that checks every invariant after writes; without large maps and coercion."""
    left_out = [f"--ignore=tests/python/{name}" for name in UNCHECKED]
    environ = {"PYTHONPATH": str(CHECKED)}
    expect_build(True, environ)
    return pytest("python-checked", *left_out, "tests/python", environ=environ)


def floors() -> Light:
    """The house rules that a machine can check: who includes whom, lengths, names, lists that must be complete."""
    return pytest("floors", "tests/floors")


def docs() -> Light:
    """Every example in README.md, docs/how-to and docstrings (and in DESIGN.md, should it have one)."""
    return pytest("docs", "tests/docs")


def types() -> Light:
    """mypy --strict over our own code, and the stubs against the compiled module."""
    run(BIN / "mypy")
    run(BIN / "stubtest", "intarraymap")  # as installed, so without our settings
    typed = source_files("src/intarraymap/*.py", "src/intarraymap/*.pyi", "examples/*.py")
    return Light(passed=len(typed), unit="files")


LAYERS: dict[str, Callable[[], Light]] = {
    "lint": lint,
    "core-checked": core_checked,
    "core-asan-ubsan": core_asan_ubsan,
    "python": python,
    "python-checked": python_checked,
    "floors": floors,
    "docs": docs,
    "types": types,
}
QUICK = ("core-checked", "python")
NEEDS_PACKAGE = {"python", "python-checked", "docs", "types"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layers", nargs="*", metavar="layer", help=f"of {', '.join(LAYERS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="use again what the last run left in build/")
    options = parser.parse_args()
    if unknown := set(options.layers) - set(LAYERS):
        parser.error(f"no such layer: {', '.join(sorted(unknown))}")
    layers = options.layers or (QUICK if options.quick else list(LAYERS))

    if not __package__:  # run as a script: only tests/ is on the path
        sys.path.insert(0, str(ROOT))
    from tests.campaigns.counts import record

    lines: list[str] = []
    total = Light()

    def show(name: str, work: Callable[[], Light | None]) -> bool:
        """Do one layer's work and note its line of the summary; False if it is red."""
        say(f"\n==== {name} {'=' * (114 - len(name))}")
        start = time.perf_counter()
        light: Light | None = None
        counts: dict[str, int | float | str] = {}
        try:
            light = work()
            verdict = "FAILED" if light and light.failed else "ok"
            count = "" if light is None else f"{light.passed} {light.unit}"
            if light and light.failed:
                count += f", {light.failed} failed"
            if light and light.skipped:
                count += f", {light.skipped} SKIPPED (reasons above)"
        except Skip as reason:
            verdict, count = "SKIPPED", str(reason).upper()
        except Red as reason:
            verdict, count = "FAILED", str(reason)
            counts = {"before it could count": count}
        seconds = time.perf_counter() - start
        if light:
            counts = {light.unit: light.passed, "failed": light.failed, "skipped": light.skipped, **light.told}
        if name in LAYERS and counts:
            record(f"layer {name}", counts, seconds, failed=verdict == "FAILED")
        lines.append(f"{name:<18} {verdict:<8} {seconds:7.1f} s   {count}")
        say(lines[-1])
        if light and light.unit == "tests":
            total.passed += light.passed
            total.failed += light.failed
            total.skipped += light.skipped
        elif verdict != "ok":
            total.failed += verdict == "FAILED"
            total.skipped += verdict == "SKIPPED"
        return verdict != "FAILED"

    def cannot_run() -> None:
        raise Skip(f"the {'package' if ready else 'environment'} could not be made")

    start = time.perf_counter()
    fresh = not options.quick
    ready = show("environment", lambda: make_environment(fresh))
    built: bool | None = None
    for name in layers:
        if ready and name in NEEDS_PACKAGE and built is None:
            built = show("package", lambda: build_package(fresh))
        if not ready or (name in NEEDS_PACKAGE and not built):
            show(name, cannot_run)
        else:
            show(name, LAYERS[name])
    say(f"\n==== summary {'=' * 107}")
    for line in lines:
        say(line)
    say(f"{'all':<18} {'FAILED' if total.failed else 'ok':<8} {time.perf_counter() - start:7.1f} s\n")
    say(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make test PYTHON=python3.11")
    sys.exit(main())
