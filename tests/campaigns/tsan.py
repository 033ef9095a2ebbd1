"""The C core's own tests under ThreadSanitizer: `make check-tsan`.

All programs once (most have one thread, and must not be slowed down for ever by the others), then those with threads
again and again: which thread comes first is another matter each time.
"""

from __future__ import annotations

import argparse
import subprocess
import time

from tests.campaigns.counts import record
from tests.run import ROOT, Light, Red, Skip, can_sanitize, core, make_environment, say

PRESET = "tsan"


def programs_with_threads() -> list[str]:
    sources = sorted((ROOT / "tests" / "core").glob("test_*.c"))
    return [source.stem for source in sources if "pthread_create" in source.read_text()]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make check-tsan", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=10, help="that each program with threads runs (10)")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    light = Light()
    runs = red = 0
    try:
        make_environment(fresh=False)
        can_sanitize("thread")
        light = core(PRESET)
        for name in programs_with_threads():
            program = ROOT / "build" / "core" / PRESET / name
            begin = time.perf_counter()
            for turn in range(options.times):
                done = subprocess.run(
                    [program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
                )
                runs += 1
                if done.returncode:
                    red += 1
                    say(f"{name}, run {turn + 1}: exited with {done.returncode}\n{done.stdout}")
            say(f"{name}: {options.times} runs, {time.perf_counter() - begin:.1f} s")
    except Skip as reason:
        say(f"SKIPPED: {str(reason).upper()}")
        return 0
    except Red as reason:
        say(f"FAILED: {reason}")
        red += 1
    failed = light.failed + red > 0
    counts: dict[str, int | float | str] = {
        "tests passed": light.passed,
        "tests failed": light.failed,
        "runs of programs with threads": runs,
        "of them with a report of the sanitizer or a failed check": red,
    }
    record("tsan", counts, time.perf_counter() - start, failed)
    for what, count in counts.items():
        say(f"{what:<60} {count}")
    return 1 if failed else 0
