"""Workloads to be looked at by a profiler: `python -m bench.workload NAME SECONDS KEYS` runs one for so long.

Everything is made before the loop begins, so that a profile shows the work and little else.
"""

import os
import sys
import time

import numpy as np

from . import workloads

BATCH = 100_000
SEGMENTS = "BENCH_SEGMENTS"  # in the environment: no reserved address space


def fresh():
    """An empty map. Under a heap profiler it takes segments: it would see gigabytes of addresses, all of them empty."""
    from intarraymap import IntArrayMap

    options = {"reserve": False} if os.environ.get(SEGMENTS) else None
    return IntArrayMap(workloads.ROW_ITEMS, _options=options)


def made(key_count, keys=workloads.random_keys):
    table = fresh()
    table.set_many(keys(key_count), workloads.make_rows(key_count))
    return table


def get_many(key_count):
    """Batches of hits on random keys."""
    table, keys = made(key_count), workloads.random_keys(key_count)
    queries = [workloads.hits(keys, seed, BATCH).keys for seed in range(16)]
    return lambda turn: table.get_many(queries[turn % 16])


def get_many_dense(key_count):
    """Batches of hits on dense keys."""
    table, keys = made(key_count, workloads.dense_keys), workloads.dense_keys(key_count)
    queries = [workloads.hits(keys, seed, BATCH).keys for seed in range(16)]
    return lambda turn: table.get_many(queries[turn % 16])


def build(key_count):
    """One batch into an empty map, again and again."""
    keys, rows = workloads.random_keys(key_count), workloads.make_rows(key_count)
    return lambda turn: fresh().set_many(keys, rows)


def grow(key_count):
    """A map that grows in batches of a hundredth, then is dropped."""
    keys, rows = workloads.random_keys(key_count), workloads.make_rows(max(1, key_count // 100))

    def turn_once(turn):
        table = fresh()
        for start in range(0, key_count, rows.shape[0]):
            piece = keys[start : start + rows.shape[0]]
            table.set_many(piece, rows[: piece.size])

    return turn_once


def add_many(key_count):
    """Updates by Zipf's law in live batches."""
    table, rows = fresh(), workloads.make_rows(BATCH)
    updates = [workloads.zipf_updates(seed, BATCH) for seed in range(16)]
    return lambda turn: table.add_many(updates[turn % 16], rows)


def scalar(key_count):
    """m[k], m[k] = row and k in m, one key at a time."""
    table = made(key_count)
    keys = workloads.hits(workloads.random_keys(key_count), 0, 10_000).keys.tolist()
    row = np.arange(workloads.ROW_ITEMS, dtype=np.float64)

    def turn_once(turn):
        for key in keys:
            table[key]
            table[key] = row
            key in table

    return turn_once


def insert_delete(key_count):
    """Churn at constant size, one key at a time."""
    table = made(key_count)
    keys = workloads.random_keys(10_000, key_count).tolist()
    row = np.arange(workloads.ROW_ITEMS, dtype=np.float64)

    def turn_once(turn):
        for key in keys:
            table[key] = row
        for key in keys:
            del table[key]

    return turn_once


def dict_of_arrays(key_count):
    """The same counting as add_many, in a dict of arrays: for comparison."""
    from .rivals import DictOfArrays

    table, rows = DictOfArrays(workloads.ROW_ITEMS), workloads.make_rows(BATCH)
    updates = [workloads.zipf_updates(seed, BATCH) for seed in range(16)]
    return lambda turn: table.add_many(updates[turn % 16], rows)


WORKLOADS = {
    one.__name__: one
    for one in (get_many, get_many_dense, build, grow, add_many, scalar, insert_delete, dict_of_arrays)
}


def main(name, seconds, key_count):
    """Runs the workload; prints how many turns it made."""
    work = WORKLOADS[name](key_count)
    end, turns = time.perf_counter() + seconds, 0
    while turns == 0 or time.perf_counter() < end:
        work(turns)
        turns += 1
    print(f"{name}: {turns:,} turns")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
