"""An exception at every point of ours at which a signal handler may raise one.

CPython looks for signals where a Python function is entered, where a call returns to Python, and at the end of a loop's
body. The first two are what a profiler is told of, and what it raises comes out there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import pytest

import intarraymap

PACKAGE = os.path.dirname(intarraymap.__file__)


def interrupt_everywhere(call: Callable[[], object], error: type[BaseException]) -> Iterator[int]:
    """Calls until no point is left: the n-th time it is interrupted at the n-th point. Yields n after each."""
    for n in range(10_000):
        points_left = n

        def profile(frame, event, argument):
            nonlocal points_left
            if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
                points_left -= 1
                if points_left == -1:
                    raise error("from a signal handler")

        def interrupted():
            sys.setprofile(profile)
            try:
                call()
            finally:
                sys.setprofile(None)

        try:
            with pytest.raises(error, match="from a signal handler"):
                interrupted()
        except pytest.fail.Exception:
            assert points_left >= 0, f"what was raised at point {n} did not come out"
            return
        yield n
    raise AssertionError("there is no end of points")
