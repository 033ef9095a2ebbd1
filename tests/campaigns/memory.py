"""Memory refused at every request, for every operation on every kind of map: `make check-memory`.

`make test` does this for four combinations of injector, number of refusals and kind of map (test_no_memory.py); here
are all of them.
"""

from __future__ import annotations

import argparse
import time

from tests.campaigns.counts import record
from tests.run import Light, Red, build_package, expect_build, make_environment, pytest, say

TESTS = ("tests/python/test_no_memory.py", "tests/python/test_memory.py")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make check-memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--no-build", action="store_true", help="the build of the last run")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    light = Light()
    problem = 0
    try:
        make_environment(fresh=False)
        if not options.no_build:
            build_package(fresh=False)
        expect_build(False, {})
        light = pytest("memory", *TESTS, environ={"HYPOTHESIS_PROFILE": "deep"})
    except Red as reason:
        say(f"FAILED: {reason}")
        problem = 1
    counts: dict[str, int | float | str] = {
        "tests passed": light.passed,
        "tests failed": light.failed,
        "skipped by themselves": light.skipped,
        **light.told,
    }
    failed = light.failed + problem > 0
    record("memory", counts, time.perf_counter() - start, failed)
    for what, count in counts.items():
        say(f"{what:<40} {count}")
    return 1 if failed else 0
