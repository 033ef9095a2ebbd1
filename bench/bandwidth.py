"""What the memory allows: the four kernels of STREAM (McCalpin, 1995), and a gather of rows at known positions.

Bytes are counted as STREAM counts them: what a kernel reads and writes, a read before a write not included. Numba runs
the loops where it is installed; NumPy does else, with two passes for triad.
"""

import time

import numpy as np

from .record import Finding
from .workloads import ROW_ITEMS

ARRAY_BYTES = 256 << 20  # each of three; larger than most caches
GATHERED = 1_000_000


def numba_kernels():
    """`{name: (kernel(a, b, c), bytes per item)}` compiled for one core."""
    from numba import njit

    @njit
    def copy(a, b, c):
        for i in range(a.size):
            c[i] = a[i]

    @njit
    def scale(a, b, c):
        for i in range(a.size):
            b[i] = 3.0 * c[i]

    @njit
    def add(a, b, c):
        for i in range(a.size):
            c[i] = a[i] + b[i]

    @njit
    def triad(a, b, c):
        for i in range(a.size):
            a[i] = b[i] + 3.0 * c[i]

    return {"copy": (copy, 16), "scale": (scale, 16), "add": (add, 24), "triad": (triad, 24)}


def numpy_kernels():
    """The same as far as NumPy can."""
    return {
        "copy": (lambda a, b, c: np.copyto(c, a), 16),
        "scale": (lambda a, b, c: np.multiply(c, 3.0, out=b), 16),
        "add": (lambda a, b, c: np.add(a, b, out=c), 24),
        "triad": (lambda a, b, c: np.add(b, np.multiply(c, 3.0, out=a), out=a), 24),
    }


def fastest(call, rounds):
    """Seconds of the best of some calls, after one that warms up."""
    call()
    best = float("inf")
    for _ in range(max(rounds, 3)):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def measure_all(rounds, keys):
    """Yields gigabytes per second of each kernel, and nanoseconds of a gathered row."""
    try:
        kernels, by = numba_kernels(), "numba"
    except ImportError:
        kernels, by = numpy_kernels(), "NumPy"
    count = max(keys) if keys else ARRAY_BYTES // 8
    a, b, c = np.full(count, 1.0), np.full(count, 2.0), np.full(count, 0.0)
    for name, (kernel, item_bytes) in kernels.items():
        seconds = fastest(lambda kernel=kernel: kernel(a, b, c), rounds)
        each = item_bytes * count / seconds / 1e9
        yield [Finding("bandwidth", f"STREAM {name}, {by}", count, each, "GB/s", None, "memory")]
    rows = a[: count // ROW_ITEMS * ROW_ITEMS].reshape(-1, ROW_ITEMS)
    where = np.random.default_rng(0).integers(0, rows.shape[0], GATHERED)
    out = np.zeros((GATHERED, ROW_ITEMS))
    seconds = fastest(lambda: np.take(rows, where, axis=0, out=out, mode="clip"), rounds)
    what = f"np.take of {ROW_ITEMS} × float64 into a warm array"
    yield [Finding("bandwidth", what, rows.shape[0], seconds / GATHERED * 1e9, "ns a row", None, "memory")]
