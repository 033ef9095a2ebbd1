"""Resident and peak memory per row, and allocations per insert, each in a fresh child process.

Resident bytes are the growth of `Rss` in /proc/self/smaps_rollup since just before the table was made; the peak is
VmHWM, set back at the same moment through /proc/self/clear_refs. Keys to be inserted are in memory before that.
"""

import ctypes
import gc
import json
import sys
from pathlib import Path

import numpy as np

from . import workloads
from .child import ask, contestant_named
from .record import Finding

BATCH, FEW = 10_000, 1_000
CHECKPOINT_RATIO = 1.03  # memory per row is looked at whenever the table has grown by 3 %
FIRST_CHECKPOINT = 100_000
LIMIT_AT_A_MILLION, LIMIT_ANYWHERE, LIMIT_ALLOCATIONS = 98.0, 100.0, 0.001
RIVALS = ("dict of arrays", "dict of row numbers", "pandas khash", "cykhash", "numba table", "hirola", "arraymap")
SELF = Path("/proc/self")


def resident_bytes():
    """Resident set, exact (statm is rounded by per-thread batches)."""
    for line in (SELF / "smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Rss in smaps_rollup")


def peak_bytes():
    """Highest resident set since `forget_peak`."""
    for line in (SELF / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in status")


def forget_peak():
    """Gives free heap back, then sets the peak to what is resident now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    (SELF / "clear_refs").write_text("5")


def grow_by_inserts(table, keys, rows, look):
    """One key at a time, a thousand Python ints alive at most."""
    put = getattr(table, "table", table).__setitem__
    for start in range(0, keys.size, FEW):
        for key in keys[start : start + FEW].tolist():
            put(key, rows[0])
        look(start + FEW)


def grow_by_batches(table, keys, rows, look):
    """10,000 keys at a time, always the same rows."""
    for start in range(0, keys.size, BATCH):
        piece = keys[start : start + BATCH]
        table.add_many(piece, rows[: piece.size])
        look(start + BATCH)


def measure(name, how, count):
    """Bytes per row at the end, at the worst checkpoint, and at the peak; `nbytes` where there is one."""
    cls = contestant_named(name)
    grow = {"inserts": grow_by_inserts, "batches": grow_by_batches}.get(how)
    keys = workloads.random_keys(count)
    rows = workloads.make_rows(count if how == "whole" else BATCH)
    few = keys[:FEW]  # so few that neither malloc nor the map keeps their pages when they go
    warm = cls.build(few, np.zeros((few.size, workloads.ROW_ITEMS)))  # compiled code and arenas are there from now on
    warm.get_many(few)
    if grow:
        grow(cls(workloads.ROW_ITEMS), few, rows, lambda done: None)
    del warm
    forget_peak()
    before = resident_bytes()
    worst = {"bytes": 0.0, "keys": 0}
    next_look = FIRST_CHECKPOINT

    def look(done):
        nonlocal next_look
        if done >= next_look:
            next_look = done * CHECKPOINT_RATIO
            each = (resident_bytes() - before) / done
            if each > worst["bytes"]:
                worst.update(bytes=each, keys=done)

    if how == "whole":
        table = cls.build(keys, rows)
    else:
        table = cls(workloads.ROW_ITEMS)
        grow(table, keys, rows, look)
    after, peak = resident_bytes() - before, peak_bytes() - before
    answer = {"resident": after / count, "peak": peak / count, "worst": worst}
    inner = getattr(table, "table", None)
    if hasattr(inner, "nbytes"):
        answer["nbytes"] = inner.nbytes / count
        answer["nbytes_over_resident"] = inner.nbytes / after
    return answer


def allocations(count):
    """Requests to the allocator per insert, without and with `capacity`."""
    from intarraymap import IntArrayMap

    row = np.arange(workloads.ROW_ITEMS, dtype=np.float64)
    answer = {}
    for label, capacity in (("without capacity", 0), ("with capacity", count)):
        table = IntArrayMap(row.size, capacity=capacity)
        before = table.stats().allocations
        for key in workloads.random_keys(count).tolist():
            table[key] = row
        answer[label] = (table.stats().allocations - before) / count
    return answer


def findings_of_map(count):
    """The map at one size, grown in three ways."""
    findings = []
    limit = LIMIT_AT_A_MILLION if count == 1_000_000 else LIMIT_ANYWHERE
    limit = limit if count >= FIRST_CHECKPOINT else None  # promised from there on
    for how in ("inserts", "batches", "whole"):
        found = ask("memory", "IntArrayMap", how, count)
        if found is None:
            continue

        def finding(what, value, unit, at_most, how=how, found=found):
            return Finding("memory", f"built by {how}: {what}", count, value, unit, at_most, detail=found)

        findings.append(finding("resident", found["resident"], "bytes/row", limit))
        findings.append(finding("peak", found["peak"], "bytes/row", limit))
        if found["worst"]["keys"]:
            at = f"worst on the way (at {found['worst']['keys']:,})"
            findings.append(finding(at, found["worst"]["bytes"], "bytes/row", LIMIT_ANYWHERE))
        off = abs(found["nbytes_over_resident"] - 1) * 100
        findings.append(finding("nbytes off resident by", off, "%", 3.0 if limit else None))
    return findings


def measure_all(contestants, sizes, rival_size):
    """Yields the findings of each child process as it ends."""
    if contestants.map:
        for count in sizes:
            yield findings_of_map(count)
        counted = ask("memory", "allocations", rival_size) or {}
        promised = rival_size >= FIRST_CHECKPOINT  # a small map has few inserts to spread its requests over
        yield [
            Finding(
                "memory",
                f"allocations per insert {label}",
                rival_size,
                value,
                "",
                0.0 if label == "with capacity" else LIMIT_ALLOCATIONS if promised else None,
            )
            for label, value in counted.items()
        ]
    for name in RIVALS:
        if name in {rival.name for rival in contestants.rivals}:
            found = ask("memory", name, "whole", rival_size)
            yield [
                Finding("memory", f"built by whole: {part}", rival_size, found[part], "bytes/row", None, name, found)
                for part in (("resident", "peak") if found else ())
            ]


if __name__ == "__main__":
    if sys.argv[1] == "allocations":
        json.dump(allocations(int(sys.argv[2])), sys.stdout)
    else:
        json.dump(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])), sys.stdout)
