"""Bytes read as choices: what all fuzzers of the Python surface share. Bytes that are not there are zeros."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

#: All that a call may raise, whatever it is given (README, "Errors").
DOCUMENTED = (TypeError, ValueError, OverflowError, KeyError, MemoryError, RuntimeError, BufferError, OSError)
EDGES = (-(2**63), -(2**63) + 1, -(2**31) - 1, -1, 0, 1, 2**31, 2**40, 2**63 - 2, 2**63 - 1, 2**63, 2**64 - 1, 2**64)


class Stream:
    """Reads an input from its first byte to its last."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def below(self, most: int) -> int:
        return self.byte() % most

    def chance(self, one_in: int) -> bool:
        """False where there are no bytes left."""
        return self.byte() % one_in == one_in - 1

    def choice(self, choices: Sequence[Any]) -> Any:
        return choices[self.byte() % len(choices)]

    def bytes(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at].ljust(count, b"\0")

    def rest(self) -> bytes:
        found, self.at = self.data[self.at :], len(self.data)
        return found

    def integer(self) -> int:
        """Small ones mostly; edges; any of 64 bits."""
        kind = self.below(8)
        if kind < 4:
            return self.byte()
        if kind == 4:
            return self.byte() - 128
        if kind == 5:
            return int(self.choice(EDGES))
        if kind == 6:
            return (self.byte() - 128) << self.below(57)
        return int.from_bytes(self.bytes(8), "little", signed=True)


def main(one_input: Callable[[bytes], None]) -> None:
    """Hands the process to libFuzzer; the arguments are its own. Without atheris: to Hypothesis, as long."""
    try:
        import atheris
    except ImportError:
        by_hypothesis(one_input)
        return
    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
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
