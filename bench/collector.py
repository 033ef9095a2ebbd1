"""Pauses of Python's garbage collector while a million rows are alive, by gc.callbacks.

The collector walks containers: lists, tuples that are young, objects. Arrays of numbers it does not track, so a dict of
arrays costs it one dict; the map costs it nothing at all. Two figures each: one full collection, and the longest pause
while the program goes on making containers of its own (300,000 short lists, kept).
"""

import gc
import json
import sys
import time

from . import workloads
from .child import ask
from .record import Finding

MADE_COUNT = 300_000


class Sample:
    """A row as an object of a class."""

    def __init__(self, values):
        self.first, self.second, self.third, self.fourth = values[:4]
        self.fifth, self.sixth, self.seventh, self.eighth = values[4:]


def dict_of(make):
    """A dict from key to whatever `make` makes of a row."""

    def build(keys, rows):
        return {key: make(row) for key, row in zip(keys.tolist(), rows, strict=True)}

    return build


def the_map(keys, rows):
    from intarraymap import IntArrayMap

    return IntArrayMap.from_arrays(keys, rows)


SHAPES = {
    "nothing alive": lambda keys, rows: None,
    "IntArrayMap": the_map,
    "dict of arrays": dict_of(lambda row: row.copy()),
    "dict of tuples": dict_of(lambda row: tuple(row.tolist())),
    "dict of lists": dict_of(lambda row: row.tolist()),
    "dict of objects": dict_of(lambda row: Sample(row.tolist())),
}


def measure(name, count):
    """Microseconds of a full collection and of the longest pause while containers are made."""
    gc.disable()
    keys, rows = workloads.random_keys(count), workloads.make_rows(count)
    gc.collect()
    gc.freeze()  # what the interpreter and its modules have made is left out of every collection
    alive = SHAPES[name](keys, rows)
    del keys, rows
    pauses, began = [], 0

    def watch(phase, info):
        nonlocal began
        if phase == "start":
            began = time.perf_counter_ns()
        else:
            pauses.append((time.perf_counter_ns() - began) / 1e3)

    gc.collect()  # what is young becomes old, and tuples of numbers are untracked
    gc.callbacks.append(watch)
    for _ in range(3):
        gc.collect()
    full = sorted(pauses)[1]
    pauses.clear()
    gc.enable()
    mine = [[number] for number in range(MADE_COUNT)]
    gc.disable()
    gc.callbacks.remove(watch)
    del mine
    answer = {"full": full, "longest": max(pauses, default=0.0), "pauses": len(pauses), "total": sum(pauses)}
    answer["size"] = len(alive) if alive is not None else 0
    return answer


def measure_all(contestants, count):
    """Yields the findings of each shape, every one in a child process."""
    for name in SHAPES:
        if name == "IntArrayMap" and not contestants.map:
            continue
        found = ask("collector", name, count)
        if found:
            while_making = f"longest pause while {MADE_COUNT:,} lists are made"
            total = f"all {found['pauses']:,} pauses while {MADE_COUNT:,} lists are made"
            yield [
                Finding("gc", "a full collection", count, found["full"], "µs", None, name, found),
                Finding("gc", while_making, count, found["longest"], "µs", None, name, {}),
                Finding("gc", total, count, found["total"], "µs", None, name, {}),
            ]


if __name__ == "__main__":
    json.dump(measure(sys.argv[1], int(sys.argv[2])), sys.stdout)
