"""Four counters of allocations: the core's own, Python's blocks, tracemalloc, and memray's native ones.

Each sees another part: the core counts requests to its allocator; `sys.getallocatedblocks` counts Python's small
objects; tracemalloc is told the map's bytes in a domain of their own; memray sees every malloc and mmap of the process.
Where they see the same they must agree. For this measurement the map takes segments and no reserved address space:
memory that is reserved first and used later reaches nobody but the core.
"""

import json
import os
import sys
import tempfile
import tracemalloc

import numpy as np

from . import workloads
from .child import ask
from .mechanisms import counted
from .record import Finding

TRACE_DOMAIN = 0x1A3A9  # of the map in tracemalloc
OPTIONS = {"reserve": False}
CORE_LIBRARY = "intarraymap"


def filled(count, capacity=0):
    """`(map, a function that inserts count random keys)`."""
    from intarraymap import IntArrayMap

    table = IntArrayMap(workloads.ROW_ITEMS, index="hash", capacity=capacity, _options=OPTIONS)
    keys, row = workloads.random_keys(count).tolist(), np.arange(workloads.ROW_ITEMS, dtype=np.float64)

    def fill():
        for key in keys:
            table[key] = row

    return table, fill


def by_core(count):
    """Requests to the core's allocator, and Python blocks, of `count` inserts."""
    warm, fill = filled(1_000)
    fill()
    del warm
    table, fill = filled(count)
    counts = counted(table, fill, 1)
    return {"requests": counts["allocations"], "bytes": counts["bytes"], "blocks": counts["blocks"]}


def by_tracemalloc(count):
    """Bytes that tracemalloc knows of in the map's domain, beside `nbytes`."""
    tracemalloc.start()
    table, fill = filled(count)
    fill()
    shot = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, TRACE_DOMAIN)])
    return {"traced": sum(trace.size for trace in shot.traces), "nbytes": table.nbytes}


def by_memray(count):
    """Native allocations that have the core on their stack, of `count` inserts."""
    import memray

    table, fill = filled(count)
    before = table.stats().allocations
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "inserts.bin")
        with memray.Tracker(path, native_traces=True):
            fill()
        requests = table.stats().allocations - before
        native = sized = 0
        for record in memray.FileReader(path).get_allocation_records():
            if record.size and any(CORE_LIBRARY in str(frame) for frame in record.native_stack_trace(40)):
                native, sized = native + record.n_allocations, sized + record.size
    return {"requests": requests, "native": native, "bytes": sized}


COUNTERS = {"core": by_core, "tracemalloc": by_tracemalloc, "memray": by_memray}


def measure_all(contestants, count, note):
    """Yields what the counters say of `count` inserts into a growing map."""
    if not contestants.map:
        return

    def finding(what, value, unit, limit=None):
        return Finding("allocations", what, count, value, unit, limit)

    core = ask("allocations", "core", count)
    if core:
        yield [
            finding("the core's counter: requests", core["requests"], ""),
            finding("the core's counter: bytes per insert", core["bytes"] / count, "bytes"),
            finding("sys.getallocatedblocks: Python blocks per insert", abs(core["blocks"]) / count, "", 0.001),
        ]
    traced = ask("allocations", "tracemalloc", count)
    if traced:
        off = abs(traced["traced"] / traced["nbytes"] - 1) * 100
        yield [finding("tracemalloc: the map's domain off nbytes by", off, "%", 0.1)]
    try:
        import memray  # noqa: F401 (whether it is there)
    except ImportError as error:
        note(f"left out: memray's native allocations ({error})")
        return
    seen = ask("allocations", "memray", count)
    if seen:
        yield [
            finding("memray: native allocations with the core on their stack", seen["native"], ""),
            finding("memray off the core's counter by", abs(seen["native"] - seen["requests"]), "", 0),
        ]


if __name__ == "__main__":
    json.dump(COUNTERS[sys.argv[1]](int(sys.argv[2])), sys.stdout)
