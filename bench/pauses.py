"""The longest single insert and the longest single delete, on the way to ten million keys.

A timer around every call sees the machine's own pauses too (interrupts, neighbours). They fall on other calls in every
run, a map's own work on the same ones: so each operation is given the *least* of its times over several runs with one
seed and one order of keys, and the longest of these is reported. A line that does nothing shows what noise is left.
"""

import gc
import json
import resource
import sys
import time

import numpy as np

from . import workloads
from .child import ask, contestant_named
from .record import Finding

CHUNK = 99_991  # Python ints alive at once; a prime, so that its borders fall on no border of a table
SETTLING = 1000  # readings of the clock before the first call of a chunk is timed
SEED = 20_240_229
NOTHING = "nothing (the timer)"
OURS, STOPPING = "IntArrayMap", "IntArrayMap, growth by stopping"
THRESHOLDS = {"10 µs": 10_000, "100 µs": 100_000, "1 ms": 1_000_000, "10 ms": 10_000_000}
HISTOGRAM_PARTS = 10  # of each power of ten
OWN_WORK_LIMIT, FAULTS_LIMIT = 50.0, 1000.0  # microseconds


def insert_order(pattern, count):
    """Keys in the order of insertion: `random`, or `leaving direct`: dense ones first, then scattered ones."""
    if pattern == "leaving direct":
        return np.concatenate([workloads.dense_keys(count // 2), workloads.random_keys(count - count // 2)])
    return workloads.random_keys(count)


def verbs(name):
    """`(put(key, row), drop(key))` of a fresh table; `drop` is None where there is none."""
    row_items = workloads.ROW_ITEMS
    if name == NOTHING:
        return (lambda key, row: None), (lambda key: None)
    if name in (OURS, STOPPING):
        from intarraymap import IntArrayMap

        options = {"growth": "stop"} if name == STOPPING else None
        table = IntArrayMap(row_items, seed=SEED, _options=options)
        return table.__setitem__, table.__delitem__
    if name == "dict of arrays":
        table = {}
        return (lambda key, row: table.__setitem__(key, row.copy())), table.__delitem__
    contestant = contestant_named(name)(row_items)
    loop_insert = contestant.loop_insert
    loop_delete = getattr(contestant, "loop_delete", None)
    drop = (lambda key: loop_delete((key,))) if loop_delete else None
    return (lambda key, row: loop_insert((key,), row)), drop


def time_each(call, keys, extra, times):
    """Nanoseconds of every single call, into `times`."""
    clock, place, few = time.perf_counter_ns, 0, []
    for start in range(0, keys.size, CHUNK):
        # The ints that are spent live on until the next ones are there: else the interpreter gives their memory back
        # to the system and asks for it anew in the first call of a chunk (50-120 µs, in a call that does nothing too).
        few, _spent = keys[start : start + CHUNK].tolist(), few
        for _ in range(SETTLING):
            clock() - clock()
        for key in few:
            began = clock()
            call(key, *extra)
            times[place] = clock() - began
            place += 1


def faults_of_each(call, keys, extra, faults):
    """Minor page faults of every single call, into `faults`."""
    usage, whose, place, few = resource.getrusage, resource.RUSAGE_SELF, 0, []
    for start in range(0, keys.size, CHUNK):
        few, _spent = keys[start : start + CHUNK].tolist(), few
        before = usage(whose).ru_minflt
        for key in few:
            call(key, *extra)
            after = usage(whose).ru_minflt
            faults[place] = after - before
            before = after
            place += 1


def summary(least, faults):
    """What is reported of one order of operations; microseconds."""
    worst = np.argsort(least)[-5:][::-1]
    calm = least[faults == 0]
    edges = np.logspace(1, 9, 8 * HISTOGRAM_PARTS + 1)  # 10 ns … 1 s
    return {
        "max": float(least.max()) / 1e3,
        "longest_without_fault": float(calm.max()) / 1e3 if calm.size else None,
        "percentiles": {str(p): float(np.percentile(least, p)) / 1e3 for p in (50, 99, 99.9, 99.99)},
        "above": {words: int((least > ns).sum()) for words, ns in THRESHOLDS.items()},
        "worst": [{"operation": int(i), "us": float(least[i]) / 1e3, "faults": int(faults[i])} for i in worst],
        "histogram": {"edges_us": (edges / 1e3).tolist(), "counts": np.histogram(least, edges)[0].tolist()},
    }


def measure(name, pattern, count, runs):
    """Inserts and deletes `count` keys `runs` times over; one more run counts page faults."""
    gc.disable()
    keys = insert_order(pattern, count)
    going = np.random.default_rng(SEED).permutation(keys)
    row = np.arange(workloads.ROW_ITEMS, dtype=np.float64)
    least = {"insert": np.full(count, 2**62, np.int64), "delete": np.full(count, 2**62, np.int64)}
    faults = {verb: np.zeros(count, np.int64) for verb in least}
    times = np.zeros(count, np.int64)
    view = memoryview(times)  # stores a Python int twice as fast as an ndarray does
    for run in range(runs + 1):
        put, drop = verbs(name)
        for verb, call, order, extra in (("insert", put, keys, (row,)), ("delete", drop, going, ())):
            if call is None:
                least.pop(verb, None)
            elif run == runs:
                faults_of_each(call, order, extra, memoryview(faults[verb]))
            else:
                time_each(call, order, extra, view)
                np.minimum(least[verb], times, out=least[verb])
        del put, drop, call
    return {verb: summary(values, faults[verb]) for verb, values in least.items()}


def measure_all(contestants, count):
    """Yields the findings of each contestant, every one in a child process."""
    names = [NOTHING] + ([OURS, STOPPING] if contestants.map else [])
    here = {rival.name for rival in contestants.rivals}
    names += [name for name in ("dict of arrays", "pandas khash", "cykhash") if name in here]
    for name in names:
        for pattern in ("random", "leaving direct") if name == OURS else ("random",):
            answer = ask("pauses", name, pattern, count, 5 if name in (OURS, NOTHING) else 2)
            findings = []
            for verb, found in (answer or {}).items():
                what = f"longest {verb}, {pattern} keys"
                detail = found | {"what": f"{verb}, {pattern} keys"}
                limit = FAULTS_LIMIT if name == OURS else None
                findings.append(Finding("pauses", what, count, found["max"], "µs", limit, name, detail))
                if name == OURS and found["longest_without_fault"] is not None:
                    own = f"{what}, of those without a page fault"
                    calm = found["longest_without_fault"]
                    findings.append(Finding("pauses", own, count, calm, "µs", OWN_WORK_LIMIT, name, {"shown": False}))
            yield findings


if __name__ == "__main__":
    asked, pattern_asked, count_asked, runs_asked = sys.argv[1:5]
    json.dump(measure(asked, pattern_asked, int(count_asked), int(runs_asked)), sys.stdout)
