"""Native against patched: each mechanism of the map switched off (or on) by itself, on the same core.

Besides the time of an operation it says what the operation allocates, as Go's -benchmem does: requests to the core's
allocator, bytes of memory committed, and blocks of Python's own allocator. The dict of arrays stands beside them.
"""

import sys
from dataclasses import dataclass, field

import numpy as np

from . import workloads
from .cases import Plan, expect
from .rivals import DictOfArrays
from .runner import Case, Entry
from .workloads import ROW_ITEMS

INSERTED_COUNT = 100_000  # small maps are filled again and again up to so many keys
BATCH_QUERIES = 1_000_000
DEFAULTS = "release defaults"


@dataclass(frozen=True)
class Variant:
    """How a map is made."""

    name: str
    arguments: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)

    def make(self, key_count):
        from intarraymap import IntArrayMap

        arguments = dict(self.arguments)
        if arguments.get("capacity") == "all":
            arguments["capacity"] = key_count
        return IntArrayMap(ROW_ITEMS, **arguments, _options=self.options or None)


CAPACITY = Variant("capacity=n (preallocation)", {"capacity": "all"})
HASH = Variant("index=hash (no direct index)", {"index": "hash"})
HASH_CAPACITY = Variant("index=hash, capacity=n", {"index": "hash", "capacity": "all"})
DIRECT = Variant("index=direct", {"index": "direct"})
STOP = Variant("growth by stop-the-world doubling", {"index": "hash"}, {"growth": "stop"})
NO_HUGE = Variant("huge pages off", {}, {"huge_pages": False})
NO_PIPELINE = Variant("pipeline off", {"index": "hash"}, {"pipeline": False})
PIPELINE = Variant("pipeline on", {"index": "hash"}, {"pipeline": True})
NO_RESERVE = Variant("reserved address space off (segments)", {}, {"reserve": False})
NO_SPARE = Variant("pages of former maps not kept", {}, {"spare": False})
SCALAR = Variant("SIMD off", {"index": "hash"}, {"simd": "scalar"})
BASELINE = Variant("SIMD baseline", {"index": "hash"}, {"simd": "baseline"})
PATCHLESS = Variant(
    "all of them off",
    {"index": "hash"},
    {"growth": "stop", "huge_pages": False, "pipeline": False, "reserve": False, "simd": "scalar", "spare": False},
)
RELEASE = Variant(DEFAULTS)


def counted(table, work, operation_count):
    """What `work` allocates, per operation. The result is alive when blocks are counted."""
    core = table.stats().allocations, table.nbytes
    blocks = sys.getallocatedblocks()
    kept = work()
    blocks = sys.getallocatedblocks() - blocks
    after = table.stats().allocations, table.nbytes
    del kept
    names = ("allocations", "bytes")
    counts = {name: (now - then) / operation_count for name, now, then in zip(names, after, core, strict=True)}
    return counts | {"blocks": blocks / operation_count}


def insert(keys_name, key_count, variants, in_quick=True):
    """`m[key] = row`, one key at a time into an empty map."""
    operation = f"insert, {keys_name}"
    repeats = max(1, INSERTED_COUNT // key_count)

    def make(contestants, sets):
        keys = (workloads.dense_keys if keys_name.startswith("dense") else workloads.random_keys)(key_count)
        row = np.arange(ROW_ITEMS, dtype=np.float64)
        orders = [keys.tolist() for _ in range(sets)]

        def fill(table, order):
            for key in order:
                table[key] = row

        def entry(variant):
            def prepare(s):
                made = [variant.make(key_count) for _ in range(repeats)]

                def call():
                    for table in made:
                        fill(table, orders[s])
                    return made[-1]

                return call

            def count():
                table = variant.make(key_count)
                order = keys.tolist()
                return counted(table, lambda: fill(table, order), key_count)

            def check(table, s):
                expect(table.get_many(keys), np.tile(row, (key_count, 1)), f"{operation}, {variant.name}")

            return Entry(variant.name, "map" if variant is RELEASE else "rival", prepare, check, count)

        def native(s):
            tables = [DictOfArrays(ROW_ITEMS) for _ in range(repeats)]

            def call():
                for table in tables:
                    table.loop_insert(orders[s], row)
                return tables

            return call

        def native_count():
            table, order = DictOfArrays(ROW_ITEMS), keys.tolist()
            blocks = sys.getallocatedblocks()
            table.loop_insert(order, row)
            return {"blocks": (sys.getallocatedblocks() - blocks) / key_count}

        entries = [entry(variant) for variant in variants] if contestants.map else []
        entries.append(Entry("native: dict of arrays", "rival", native, None, native_count))
        return Case(operation, key_count, repeats * key_count, entries, keep_result=True, group="mechanisms")

    return Plan(operation, key_count, make, in_quick, "mechanisms")


def get_many(keys_name, key_count, variants, in_quick=True, query_count=BATCH_QUERIES):
    """One batch of hits."""
    operation = f"get_many, {keys_name}"

    def make(contestants, sets):
        keys = (workloads.dense_keys if keys_name.startswith("dense") else workloads.random_keys)(key_count)
        rows = workloads.make_rows(key_count)
        queries = [workloads.hits(keys, seed, query_count) for seed in range(sets)]

        def entry(variant):
            table = variant.make(key_count)
            table.set_many(keys, rows)

            def check(answer, s):
                expect(answer, rows[queries[s].positions], f"{operation}, {variant.name}")

            def count():
                return counted(table, lambda: table.get_many(queries[0].keys), query_count)

            role = "map" if variant is RELEASE else "rival"
            return Entry(variant.name, role, lambda s: lambda: table.get_many(queries[s].keys), check, count)

        entries = [Entry("floor", "floor", lambda s: lambda: np.take(rows, queries[s].positions, axis=0))]
        entries += [entry(variant) for variant in variants] if contestants.map else []
        return Case(operation, key_count, query_count, entries, group="mechanisms")

    return Plan(operation, key_count, make, in_quick, "mechanisms")


def set_many(keys_name, key_count, variants, in_quick=True):
    """One batch into an empty map."""
    operation = f"set_many into an empty map, {keys_name}"
    repeats = max(1, INSERTED_COUNT // key_count)

    def make(contestants, sets):
        keys = (workloads.dense_keys if keys_name.startswith("dense") else workloads.random_keys)(key_count)
        rows = workloads.make_rows(key_count)

        def entry(variant):
            def prepare(s):
                made = [variant.make(key_count) for _ in range(repeats)]

                def call():
                    for table in made:
                        table.set_many(keys, rows)
                    return made[-1]

                return call

            def count():
                table = variant.make(key_count)
                return counted(table, lambda: table.set_many(keys, rows), key_count)

            def check(table, s):
                expect(table.get_many(keys), rows, f"{operation}, {variant.name}")

            return Entry(variant.name, "map" if variant is RELEASE else "rival", prepare, check, count)

        entries = [entry(variant) for variant in variants] if contestants.map else []
        return Case(operation, key_count, repeats * key_count, entries, keep_result=True, group="mechanisms")

    return Plan(operation, key_count, make, in_quick, "mechanisms")


def plans():
    """Dense keys in [0, 10000), and the large cases."""
    dense, scattered = "dense keys", "random keys"
    yield insert(dense, 10_000, (RELEASE, CAPACITY, DIRECT, HASH, HASH_CAPACITY, STOP, NO_RESERVE, PATCHLESS))
    yield set_many(dense, 10_000, (RELEASE, CAPACITY, DIRECT, HASH, HASH_CAPACITY, NO_RESERVE, NO_SPARE, PATCHLESS))
    yield get_many(dense, 10_000, (RELEASE, DIRECT, HASH, PIPELINE, NO_PIPELINE, SCALAR, PATCHLESS))
    large = (RELEASE, CAPACITY, STOP, NO_HUGE, NO_RESERVE, SCALAR, BASELINE, PATCHLESS)
    yield insert(scattered, 1_000_000, large)
    built = (RELEASE, CAPACITY, STOP, NO_HUGE, NO_PIPELINE, NO_RESERVE, NO_SPARE, SCALAR, PATCHLESS)
    for count in (100_000, 1_000_000):
        yield set_many(scattered, count, built)
    for count in (1_000_000, 10_000_000):
        variants = (RELEASE, NO_PIPELINE, NO_HUGE, NO_RESERVE, SCALAR, BASELINE, PATCHLESS)
        yield get_many(scattered, count, variants, in_quick=count == 1_000_000)
        yield get_many(dense, count, (RELEASE, HASH, NO_HUGE, PATCHLESS), in_quick=False)
