"""Starts a fuzzer of the Python surface: `python -m tests.fuzz fuzz_coerce [what libFuzzer takes]`."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable


def main() -> None:
    """Hands the process to libFuzzer; without atheris to Hypothesis, for as long."""
    name = sys.argv.pop(1)
    try:
        import atheris
    except ImportError:
        by_hypothesis(importlib.import_module(f"tests.fuzz.{name}").one_input)
        return
    # Edges of our Python only: those of the C code are counted by the build, and NumPy's are not ours.
    with atheris.instrument_imports(include=["intarraymap"]):
        module = importlib.import_module(f"tests.fuzz.{name}")
    atheris.Setup(sys.argv, module.one_input)
    atheris.Fuzz()


def by_hypothesis(one_input: Callable[[bytes], None]) -> None:
    """Not guided by coverage, so worth less; says what libFuzzer says at its end."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    options = dict(word.lstrip("-").split("=") for word in sys.argv[1:] if "=" in word)
    end = time.monotonic() + float(options.get("max_total_time", 10))
    count = 0

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=int(options.get("max_len", 300))))
    def run(data: bytes) -> None:
        nonlocal count
        count += 1
        one_input(data)

    while time.monotonic() < end:
        run()
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)


if __name__ == "__main__":
    main()
