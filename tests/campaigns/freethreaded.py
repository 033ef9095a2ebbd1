"""The whole Python suite on an interpreter without a GIL: `make check-freethreaded`.

The interpreter is the first there is of: INTARRAYMAP_FREETHREADED=/path/to/python, python3.14t or python3.13t on the
path, what the last run built in build/freethreaded. Where there is none, Debian's source package of Python is fetched
by apt (which checks it; into folders of its own, so that the system's lists stay as they are) and built there, which
takes about eleven minutes of two cores; `make clean` takes it away again.

Then the package is built for it, in an environment of its own with NumPy, and the suite runs twice with the GIL off:
once as always, and once with each test in several threads at a time (pytest-run-parallel). Tests that can't are marked
thread_unsafe, with the reason. Packages that have no wheel for it are missing, and what needs them is skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.campaigns.counts import record
from tests.run import BIN, ROOT, WORKERS, Light, Red, Skip, group, junit_counts, make_environment, run, say

FOLDER = ROOT / "build" / "freethreaded"
PREFIX = FOLDER / "python"
ENVIRONMENT = FOLDER / "venv"
PYTHON = ENVIRONMENT / "bin" / "python"
NAMES = ("python3.14t", "python3.13t")
#: Debian's release with a Python that can do without its GIL, the source package, and headers without which pip or the
#: tests would miss a module.
RELEASE, PACKAGE = "trixie", "python3.13"
HEADERS = {"zlib.h": "zlib1g-dev", "openssl/ssl.h": "libssl-dev", "ffi.h": "libffi-dev"}
OPTIONS = ("--quiet", "--disable-gil", "--disable-test-modules", "--without-ensurepip", f"--prefix={PREFIX}")

NO_TESTS = 5  # pytest's exit code for a file of which nothing is left
ASK = "import sys, sysconfig; print(sysconfig.get_config_var('Py_GIL_DISABLED'), sys.version)"
#: Importing must not bring the GIL back, whatever PYTHON_GIL says: an extension that does not declare that it can do
#: without makes the interpreter switch it on, with a warning.
DECLARED = """
import sys, warnings
warnings.simplefilter("error")
import intarraymap, intarraymap._image, intarraymap._producer
assert not sys._is_gil_enabled(), "importing intarraymap brought the GIL back"
print(f"NumPy {__import__('numpy').__version__}, the GIL is off, also without PYTHON_GIL")
"""


# ---- The interpreter -------------------------------------------------------------------------------------------------


def ask(python: str | Path) -> str:
    """Its version if it is an interpreter that can do without a GIL, else an empty string."""
    try:
        said = subprocess.run([str(python), "-c", ASK], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    able, version = said.split(maxsplit=1)
    return " ".join(version.split()) if able == "1" else ""


def interpreter() -> Path:
    """One that is there, or a new one."""
    chosen = os.environ.get("INTARRAYMAP_FREETHREADED")
    if chosen:
        if not ask(chosen):
            raise Red(f"INTARRAYMAP_FREETHREADED={chosen} is not an interpreter without a GIL")
        return Path(chosen)
    for name in NAMES:
        found = shutil.which(name) or PREFIX / "bin" / name
        if ask(found):
            return Path(found)
    build_interpreter()
    return PREFIX / "bin" / f"{PACKAGE}t"


def archive() -> str:
    """Where the machine's own sources have Debian from."""
    form = "$(REPO_URI) $(ORIGIN) $(LABEL)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for line in found.splitlines():
        uri, origin, label = (line.split() + ["", ""])[:3]
        if (origin, label) == ("Debian", "Debian") or (origin.startswith("$") and uri.endswith("/debian/")):
            return uri
    raise Skip("apt knows no Debian archive; set INTARRAYMAP_FREETHREADED to an interpreter without a GIL")


def build_interpreter() -> None:
    for tool in ("apt-get", "dpkg-source", "make", "cc"):
        if not shutil.which(tool):
            raise Skip(f"no interpreter without a GIL, and no {tool} to make one")
    probe = "".join(f"#include <{header}>\n" for header in HEADERS)
    looked = subprocess.run(
        ["cc", "-E", "-o", os.devnull, "-"], input=probe, capture_output=True, text=True, check=False
    )
    if looked.returncode:
        raise Skip(f"headers are missing to build an interpreter: install {' '.join(HEADERS.values())}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    apt = FOLDER / "apt"
    for folder in (apt / "lists" / "partial", apt / "cache" / "archives" / "partial", FOLDER / "made"):
        folder.mkdir(parents=True)
    (apt / "sources.list").write_text(f"deb-src {archive()} {RELEASE} main\n")
    places = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",  # the folders are ours
    }
    get = ["apt-get", "--quiet", *(f"--option={name}={place}" for name, place in places.items())]
    if run(*get, "update", check=False) or run(*get, "source", "--download-only", PACKAGE, folder=FOLDER, check=False):
        raise Skip(f"apt can't fetch the source of {PACKAGE} of {RELEASE}")
    (described,) = FOLDER.glob("*.dsc")
    # apt has compared every file with the signed lists; the packager's own signature needs keys that few machines have.
    # Without Debian's patches: they move packages to where an environment without a GIL does not find them.
    run("dpkg-source", "--no-check", "--skip-patches", "--extract", described, FOLDER / "source", quiet=True)
    log = FOLDER / "build.log"
    say(f"building {described.stem} without its GIL: about eleven minutes; see {log}")
    with log.open("w") as output:
        for step in ([FOLDER / "source" / "configure", *OPTIONS], ["make", "-s", "-j2"], ["make", "-s", "install"]):
            words = [str(word) for word in step]
            done = subprocess.run(words, cwd=FOLDER / "made", stdout=output, stderr=output, stdin=subprocess.DEVNULL)
            if done.returncode:
                raise Red(f"{words[0]} exited with {done.returncode}: see {log}")
    for folder in (FOLDER / "source", FOLDER / "made"):
        shutil.rmtree(folder)


# ---- The environment -------------------------------------------------------------------------------------------------


def pip(*words: str | Path, check: bool = True) -> int:
    return run(PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *words, check=check, quiet=True)


def make_own_environment(python: Path) -> int:
    """With everything that has a wheel for such an interpreter; returns how many of the optional packages have none."""
    wanted, optional = group("freethreaded"), group("exchange")
    stamp = ENVIRONMENT / "installed.txt"
    text = "\n".join([str(python), *wanted, *optional])
    if stamp.exists() and stamp.read_text().startswith(text + "\n\n"):
        say("the environment of the last run is used again")
        return int(stamp.read_text().rsplit("\n", 1)[1])
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    run(python, "-m", "venv", "--without-pip", ENVIRONMENT)
    # A pip of its own, brought by another one: those of before 24.1 take wheels for an interpreter with a GIL.
    run(BIN / "python", "-m", "pip", "--python", PYTHON, "install", "-qq", "--disable-pip-version-check", "pip>=25.1")
    pip("install", "--only-binary", ":all:", *wanted)
    missing = [each for each in optional if pip("install", "--only-binary", ":all:", each, check=False)]
    if missing:
        say(f"NO WHEELS FOR THIS INTERPRETER, THEIR TESTS ARE SKIPPED: {', '.join(missing)}")
    stamp.write_text(f"{text}\n\n{len(missing)}")
    return len(missing)


# ---- The suite -------------------------------------------------------------------------------------------------------


def files_of(tests: list[str]) -> list[str]:
    found: list[str] = []
    for each in tests:
        path = ROOT / each.partition("::")[0]
        found += [str(file) for file in sorted(path.rglob("test_*.py"))] if path.is_dir() else [each]
    return found


def suite(name: str, tests: list[str], *arguments: str) -> Light:
    """Each file in a process of its own, two at a time.

    Without a GIL the interpreter's collector has no generations: in a process that holds all of the tests each
    collection takes so long that the suite takes an hour.
    """
    reports = FOLDER / name
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir()
    # NumPy's pools are kept out of it: the threads are ours.
    environ = {**os.environ, "PYTHON_GIL": "0", "OMP_NUM_THREADS": "1", "INTARRAYMAP_SECONDS_PER_TEST": "1800"}

    def one(file: str) -> Light:
        report = reports / f"{Path(file).stem}.xml"
        words = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:xdist", f"--junitxml={report}", *arguments, file]
        start = time.perf_counter()
        done = subprocess.run(
            words, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        try:
            found = Light() if done.returncode == NO_TESTS else junit_counts(report, done.returncode)
        except Red as reason:
            found = Light(failed=1)
            say(f"{Path(file).name}: {reason}")
        in_threads = re.search(r"Collected (\d+) items? to run in parallel", done.stdout)
        found.told["in threads"] = int(in_threads[1]) if in_threads else 0
        say(f"{name:<9} {Path(file).name:<28} {found.passed:6} passed {found.failed:3} failed {seconds:7.1f} s")
        if found.failed:
            say(done.stdout[-20_000:] + done.stderr[-4000:])
        return found

    # The largest first, so that the last of them does not run alone.
    order = sorted(files_of(tests), key=lambda file: -Path(file.partition("::")[0]).stat().st_size)
    light = Light()
    with ThreadPoolExecutor(WORKERS) as pool:
        for found in pool.map(one, order):
            light.passed += found.passed
            light.failed += found.failed
            light.skipped += found.skipped
            light.told["in threads"] = light.told.get("in threads", 0) + found.told["in threads"]
    return light


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make check-freethreaded", description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=4, help="in which each test runs at a time (4)")
    parser.add_argument("--iterations", type=int, default=1, help="of each test in each thread (1)")
    parser.add_argument("--only", choices=["plain", "parallel"], help="one of the two runs")
    parser.add_argument("tests", nargs="*", default=["tests/python"], help="files or folders (tests/python)")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    counts: dict[str, int | float | str] = {}
    failed = False
    try:
        make_environment(fresh=False)
        python = interpreter()
        counts["interpreter"] = ask(python).split()[0]
        say(f"{python}: {ask(python)}")
        missing = make_own_environment(python)
        pip("install", "--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall", ROOT)
        run(PYTHON, "-c", DECLARED, folder=FOLDER)
        runs: dict[str, tuple[str, ...]] = {
            "plain": (),
            "parallel": (f"--parallel-threads={options.threads}", f"--iterations={options.iterations}"),
        }
        for name, words in runs.items():
            if options.only in (None, name):
                light = suite(name, options.tests, *words)
                way = "one thread" if name == "plain" else f"{options.threads} threads where they can"
                counts[f"tests passed, in {way}"] = light.passed
                counts[f"tests failed, in {way}"] = light.failed
                counts[f"tests skipped, in {way}"] = light.skipped
                if name == "parallel":  # the plugin, or a mark, says of the others that they can't
                    counts[f"of these in {options.threads} threads at a time"] = light.told["in threads"]
                failed = failed or light.failed > 0
        counts["optional packages without a wheel"] = missing
    except Skip as reason:
        say(f"SKIPPED: {str(reason).upper()}")
        return 0
    except Red as reason:
        say(f"FAILED: {reason}")
        counts["failed before the end"] = str(reason)
        failed = True
    record("freethreaded", counts, time.perf_counter() - start, failed)
    for what, count in counts.items():
        say(f"{what:<54} {count}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
