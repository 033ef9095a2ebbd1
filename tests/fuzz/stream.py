"""Bytes read as choices: what all fuzzers of the Python surface share. Bytes that are not there are zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: All that a call may raise, whatever it is given ("Raises" in the docstrings).
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
