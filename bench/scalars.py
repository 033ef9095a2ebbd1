"""One key at a time: whole loops over Python ints, where the interpreter's own share is part of the price."""

import numpy as np

from . import workloads
from .cases import Plan, expect
from .runner import Case, Entry
from .workloads import QUERY_COUNT, ROW_ITEMS

CONSUMING = ("insert", "delete")  # each loop needs a table of its own
CONSUMED_COUNT = 200_000  # small tables are filled or emptied again and again up to so many keys


def questions_for(verb, keys, missing, sets, count):
    """Lists of Python ints, one per query set: fresh objects, not the ones inside a dict."""
    if verb in CONSUMING:
        return [workloads.every_key(keys, seed).keys.tolist() for seed in range(sets)]
    if missing:
        return [workloads.random_keys(count, keys.size + s * count).tolist() for s in range(sets)]
    return [workloads.hits(keys, seed, count).keys.tolist() for seed in range(sets)]


def scalar(
    verb, key_count, *, targets=(), missing=False, note="", group="operations", in_quick=True, query_count=QUERY_COUNT
):
    """`verb` is get, copy, set, insert, contains or delete; the contestants' `loop_<verb>` does it for each key."""
    name = f"scalar {verb}" + (" miss" if missing else " hit" if verb == "contains" else "")
    consumes = verb in CONSUMING
    repeats = max(1, CONSUMED_COUNT // key_count) if consumes else 1
    operation_count = repeats * key_count if consumes else query_count

    def make(contestants, sets):
        keys, rows = workloads.random_keys(key_count), workloads.make_rows(key_count)
        questions = questions_for(verb, keys, missing, sets, query_count)
        row = np.arange(ROW_ITEMS, dtype=np.float64)
        extra = (row,) if verb in ("set", "insert") else ()

        def entry(role, cls):
            shared = None if consumes else cls.build(keys, rows)

            def tables():
                if not consumes:
                    return [shared]
                return [cls(ROW_ITEMS) if verb == "insert" else cls.build(keys, rows) for _ in range(repeats)]

            def prepare(s):
                made = tables()
                loops = [getattr(table, f"loop_{verb}") for table in made]

                def call():
                    for loop in loops:
                        loop(questions[s], *extra)
                    return made[-1]

                return call

            def check(table, s):
                asked = np.array(questions[s][:1000])
                if verb == "delete" or missing:
                    if table.can("contains_many"):
                        expect(table.contains_many(asked), np.zeros(asked.size, np.bool_), f"{name}, {cls.name}")
                elif extra:
                    expect(table.get_many(asked), np.tile(row, (asked.size, 1)), f"{name}, {cls.name}")

            return Entry(cls.name, role, prepare, check)

        def nothing(s):
            def call():
                for _ in range(repeats):
                    for _key in questions[s]:
                        pass

            return call

        entries = [Entry("empty loop", "floor", nothing)]
        entries += [entry(role, cls) for role, cls in contestants.able(f"loop_{verb}")]
        return Case(name, key_count, operation_count, entries, targets, keep_result=True, note=note, group=group)

    return Plan(name, key_count, make, in_quick, group)


def iterate_items(key_count):
    """`for key, row in m.items()`."""
    repeats = max(1, CONSUMED_COUNT // key_count)

    def make(contestants, sets):
        keys, rows = workloads.random_keys(key_count), workloads.make_rows(key_count)

        def entry(role, cls):
            built = cls.build(keys, rows)

            def call():
                for _ in range(repeats):
                    built.loop_items()

            return Entry(cls.name, role, lambda s: call)

        entries = [entry(role, cls) for role, cls in contestants.able("loop_items")]
        return Case("iterate items", key_count, repeats * key_count, entries, note="no target: dict wins here")

    return Plan("iterate items", key_count, make)
