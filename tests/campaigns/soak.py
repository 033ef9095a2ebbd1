"""Minutes of random operations with fresh seeds, on the release and the checked build by turns: `make soak`.

    make soak SOAK=30                       half an hour instead of ten minutes
    make soak SOAK="--seed 123456"          one round again, on both builds

A round is the stateful machines (every kind of map, every dtype) under the deep profile; after each pair of rounds come
the hostile and the thread suites, and those of other properties. Each round has a seed of its own and prints the
command that repeats it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import time
from dataclasses import dataclass, field

from tests.campaigns.counts import record
from tests.run import (
    BIN,
    BUILD,
    CHECKED,
    WORKERS,
    Red,
    build_package,
    expect_build,
    junit_counts,
    make_environment,
    run,
    say,
)

STATEFUL = ("tests/python/test_stateful.py",)
OTHERS = (
    "tests/python/test_hostile.py",
    "tests/python/test_mischief.py",
    "tests/python/test_operations.py",
    "tests/python/test_threads.py",
    # Examples that `make test` draws in the same way each time.
    "tests/python/test_arrow.py",
    "tests/python/test_batches.py",
    "tests/python/test_iteration.py",
    "tests/python/test_ops.py",
)
BUILDS = ("release", "checked")
#: A round of the machines is made about this long by its number of examples: some rounds of each build in ten minutes.
ROUND_SECONDS = 60.0
FIRST_EXAMPLES, LEAST_EXAMPLES, MOST_EXAMPLES = 20, 5, 500


@dataclass
class Soak:
    """What was done, and what failed."""

    counts: dict[str, int | float | str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, what: str, count: int) -> None:
        self.counts[what] = int(self.counts.get(what, 0)) + count

    def round(self, build: str, seed: int, examples: int, files: tuple[str, ...]) -> None:
        """Run these test files once."""
        report = BUILD / "soak.xml"
        report.unlink(missing_ok=True)
        environ = {
            "HYPOTHESIS_PROFILE": "deep",
            "INTARRAYMAP_EXAMPLES": str(examples),
            "INTARRAYMAP_SEED": str(seed),
            "PYTHONPATH": str(CHECKED) if build == "checked" else "",
        }
        repeat = f'make soak SOAK="--seed {seed} --examples {examples} --build {build}"'
        say(f"\n---- {build}, {', '.join(name.rsplit('/')[-1] for name in files)}: again by {repeat}")
        options = ("-q", f"--hypothesis-seed={seed}", f"--junitxml={report}", f"--numprocesses={WORKERS}")
        expect_build(build == "checked", environ)
        code = run(BIN / "python", "-m", "pytest", *options, *files, environ=environ, check=False)
        try:
            light = junit_counts(report, code)
        except Red as reason:
            self.failures.append(f"{repeat}   ({reason})")
            return
        steps = light.told.get("steps", 0)
        if steps:
            self.add(f"stateful steps, {build}", steps)
            self.add("machines run", light.passed + light.failed)
        else:
            self.add(f"hostile, thread and property cases, {build}", light.passed + light.failed)
        self.add("rounds", 1)
        if light.failed:
            self.failures.append(repeat)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("--seed", type=int, help="of one round, to repeat it")
    parser.add_argument("--examples", type=int, default=FIRST_EXAMPLES, help="of each machine, in the first round")
    parser.add_argument("--build", choices=BUILDS, help="only this one")
    parser.add_argument("--fresh", action="store_true", help="make environment and builds anew")
    options = parser.parse_args(arguments)
    builds = (options.build,) if options.build else BUILDS

    make_environment(options.fresh)
    build_package(options.fresh)
    start = time.monotonic()
    soak = Soak()
    if options.seed is not None:
        for build in builds:
            soak.round(build, options.seed, options.examples, STATEFUL)
            soak.round(build, options.seed, options.examples, present(OTHERS))
    else:
        examples = dict.fromkeys(builds, options.examples)
        end = start + 60 * options.minutes
        turn = 0
        while time.monotonic() < end:
            build = builds[turn % len(builds)]
            begun = time.monotonic()
            soak.round(build, secrets.randbits(32), examples[build], STATEFUL)
            seconds = time.monotonic() - begun
            wanted = round(examples[build] * min(ROUND_SECONDS, max(10.0, end - time.monotonic())) / seconds)
            examples[build] = min(max(wanted, LEAST_EXAMPLES), MOST_EXAMPLES, 4 * examples[build])
            turn += 1
            if turn % (2 * len(builds)) == len(builds) and time.monotonic() < end:
                turned = builds[turn // (2 * len(builds)) % len(builds)]
                soak.round(turned, secrets.randbits(32), examples[turned], present(OTHERS))
    seconds = time.monotonic() - start
    say("")
    for failure in soak.failures:
        say(f"FAILED: {failure}")
    for what, count in soak.counts.items():
        say(f"{what:<40} {count:>12,}")
    record("soak", soak.counts, seconds, bool(soak.failures))
    return 1 if soak.failures else 0


def present(files: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in files if os.path.exists(name))
