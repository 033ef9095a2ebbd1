"""The table's rows: for each operation its floor, its rivals, its checks and its targets.

A plan is a name and a function that makes the case when its turn comes, so that one case's memory is gone before the
next one's is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import workloads
from .joins import Joiner
from .runner import Case, Entry, WrongAnswer
from .workloads import QUERY_COUNT, ROW_ITEMS

BUILT_COUNT = 20_000  # a call builds at least so many keys


@dataclass(frozen=True)
class Contestants:
    """Who is there: the map's class (or None where it is not installed) and the rivals' classes."""

    map: type | None
    rivals: list[type]

    def able(self, verb):
        """`(role, class)` of the map and of every rival that has `verb`."""
        everyone = [("map", self.map)] if self.map else []
        everyone += [("rival", rival) for rival in self.rivals]
        return [(role, cls) for role, cls in everyone if cls.can(verb)]


@dataclass(frozen=True)
class Plan:
    """A case to come."""

    name: str
    key_count: int
    make: Callable[[Contestants, int], Case]  # (contestants, query sets)
    in_quick: bool = True
    group: str = "operations"


def but_slow(able):
    """Without those that go through Python for every key, and those that hash a whole table for every call."""
    return [(role, cls) for role, cls in able if not cls.name.startswith("dict") and not issubclass(cls, Joiner)]


def named(operation, pattern, width, dtype):
    """The operation with whatever is not as usual."""
    more = [pattern] if pattern != "uniform" else []
    more += [f"{width} × {dtype}"] if (width, dtype) != (ROW_ITEMS, "float64") else []
    return ", ".join([operation, *more])


def expect(answer, wanted, what):
    """Raises WrongAnswer unless both arrays are equal."""
    answer = np.asarray(answer)
    if answer.shape != wanted.shape or not np.array_equal(answer, wanted):
        raise WrongAnswer(f"{what}: the answer differs from NumPy's")


def in_calls(verb, keys, size):
    """Calls `verb` for each piece of `size` keys, dropping each result: many small calls."""
    pieces = [keys[start : start + size] for start in range(0, keys.size, size)]

    def call():
        for piece in pieces:
            result = verb(piece)
        return result

    return call


# ---- Lookups ---------------------------------------------------------------------------------------------------------


def get_many_hits(
    key_count, *, targets=(), dense=False, call_size=None, out=False, slow=True, group="operations", in_quick=None,
    pattern="uniform", width=ROW_ITEMS, dtype="float64", query_count=QUERY_COUNT, threads="one each",
):  # fmt: skip
    """All keys there. `call_size`: queries per call. `out`: into an array that is reused. `slow`: dicts, joins too."""
    operation = "get_many dense keys" if dense else "get_many hits"
    operation += ", out=" if out else ""
    operation += f", calls of {call_size:,}" if call_size else ""
    at_once = call_size or query_count
    make_keys, draw = workloads.patterns()[pattern]
    name = named(operation, pattern, width, dtype)

    def make(contestants, sets):
        keys = workloads.dense_keys(key_count) if dense else make_keys(key_count)
        rows = workloads.make_rows(key_count, width, dtype)
        queries = [draw(keys, seed, query_count) for seed in range(sets)]

        def entry(role, cls):
            built = cls.build(keys, rows)
            verb = built.get_many
            if out and role == "map":
                warm = np.zeros((at_once, width), dtype)
                verb = lambda piece: built.get_many_out(piece, warm)  # noqa: E731

            def check(answer, s):
                last = queries[s].positions[-((query_count - 1) % at_once + 1) :]
                expect(cls.rows_of(answer), rows[last], f"{name}, {cls.name}")

            return Entry(cls.name, role, lambda s: in_calls(verb, queries[s].keys, at_once), check)

        gathered = np.zeros((at_once, width), dtype) if out else None
        mode = "clip" if out else "raise"
        floor = lambda where: np.take(rows, where, axis=0, out=gathered, mode=mode)  # noqa: E731
        entries = [Entry("floor", "floor", lambda s: in_calls(floor, queries[s].positions, at_once))]
        able = contestants.able("get_many")
        if not slow:  # dicts need a minute each at this size
            able = but_slow(able)
        if call_size:  # a join hashes its table anew in each call
            able = [(role, cls) for role, cls in able if not issubclass(cls, Joiner)]
        entries += [entry(role, cls) for role, cls in able if cls.can("build")]
        about = {"group": group, "width": width, "dtype": dtype, "pattern": pattern, "threads": threads}
        return Case(operation, key_count, query_count, entries, targets, **about)

    in_quick = key_count <= 1_000_000 if in_quick is None else in_quick
    return Plan(name, key_count, make, in_quick, group)


def get_many_half_missing(key_count, *, targets, slow=True):
    name = "get_many half missing"

    def make(contestants, sets):
        keys, rows = workloads.random_keys(key_count), workloads.make_rows(key_count)
        queries = [workloads.half_missing(keys, seed) for seed in range(sets)]

        def entry(role, cls):
            built = cls.build(keys, rows)

            def check(answer, s):
                wanted = rows[queries[s].positions]
                wanted[queries[s].positions < 0] = 0.0
                expect(cls.rows_of(answer), wanted, f"{name}, {cls.name}")

            return Entry(cls.name, role, lambda s: lambda: built.get_many_default(queries[s].keys, 0.0), check)

        entries = [Entry("floor", "floor", lambda s: lambda: np.take(rows, queries[s].positions, axis=0))]
        able = contestants.able("get_many_default")
        entries += [entry(role, cls) for role, cls in (able if slow else but_slow(able))]
        return Case(name, key_count, QUERY_COUNT, entries, targets)

    return Plan(name, key_count, make)


def contains_many(key_count, *, half, targets):
    name = "contains_many half missing" if half else "contains_many hits"

    def make(contestants, sets):
        keys, rows = workloads.random_keys(key_count), workloads.make_rows(key_count)
        draw = workloads.half_missing if half else workloads.hits
        queries = [draw(keys, seed) for seed in range(sets)]
        present = np.ones(key_count + 1, np.bool_)
        present[-1] = False

        def check(answer, s):
            expect(answer, queries[s].positions >= 0, name)

        def entry(role, cls):
            built = cls.build(keys, rows)
            return Entry(cls.name, role, lambda s: lambda: built.contains_many(queries[s].keys), check)

        entries = [Entry("floor", "floor", lambda s: lambda: np.take(present, queries[s].positions), check)]
        entries += [entry(role, cls) for role, cls in contestants.able("contains_many")]
        return Case(name, key_count, QUERY_COUNT, entries, targets)

    return Plan(name, key_count, make)


# ---- Writers ---------------------------------------------------------------------------------------------------------


def build(
    key_count, *, how, targets=(), group="operations", in_quick=None, pattern="uniform", width=ROW_ITEMS,
    dtype="float64", slow=True,
):  # fmt: skip
    """`how`: from_arrays, or set_many into an empty map. Small tables are built again and again within a call."""
    operation = f"build ({how})"
    name = named(operation, pattern, width, dtype)
    repeats = max(1, BUILT_COUNT // key_count)
    make_keys, _draw = workloads.patterns()[pattern]

    def make(contestants, sets):
        keys, rows = make_keys(key_count), workloads.make_rows(key_count, width, dtype)
        sample = workloads.hits(keys, 0, min(key_count, 100_000))

        def again(verb):
            for _ in range(repeats - 1):
                verb(keys, rows)
            return verb(keys, rows)

        def entry(role, cls):
            verb = cls.build_by_set_many if role == "map" and how == "set_many" else cls.build

            def check(answer, s):
                if cls.can("get_many"):
                    found = cls.rows_of(answer.get_many(sample.keys))
                    expect(found, rows[sample.positions], f"{name}, {cls.name}")

            return Entry(cls.name, role, lambda s: lambda: again(verb), check)

        copying = lambda keys, rows: (keys.copy(), rows.copy())  # noqa: E731
        entries = [Entry("floor", "floor", lambda s: lambda: again(copying))]
        able = [(role, cls) for role, cls in contestants.able("build") if not issubclass(cls, Joiner)]
        entries += [entry(role, cls) for role, cls in (able if slow and key_count <= 1_000_000 else but_slow(able))]
        about = {"group": group, "width": width, "dtype": dtype, "pattern": pattern}
        return Case(operation, key_count, repeats * key_count, entries, targets, keep_result=True, **about)

    in_quick = key_count <= 1_000_000 if in_quick is None else in_quick
    return Plan(name, key_count, make, in_quick, group)


def set_many_existing(key_count, *, targets):
    name = "set_many existing"

    def make(contestants, sets):
        keys, rows = workloads.random_keys(key_count), workloads.make_rows(key_count)
        queries = [workloads.every_key(keys, seed) for seed in range(sets)]
        new = -rows
        sample = slice(0, 100_000)

        def entry(role, cls):
            built = cls.build(keys, rows)

            def check(answer, s):
                expect(built.get_many(queries[s].keys[sample]), new[sample], name)

            return Entry(cls.name, role, lambda s: lambda: built.set_many(queries[s].keys, new), check)

        stored = rows.copy()

        def scatter(positions):
            stored[positions] = new

        entries = [Entry("floor", "floor", lambda s: lambda: scatter(queries[s].positions))]
        entries += [entry(role, cls) for role, cls in contestants.able("set_many")]
        return Case(name, key_count, key_count, entries, targets)

    return Plan(name, key_count, make)


def delete_many(key_count, *, targets):
    name = "delete_many"

    def make(contestants, sets):
        keys, rows = workloads.random_keys(key_count), workloads.make_rows(key_count)
        queries = [workloads.every_key(keys, seed) for seed in range(sets)]

        def check(answer, s):
            expect(answer, np.ones(key_count, np.bool_), name)

        def entry(role, cls):
            def prepare(s):
                built = cls.build(keys, rows)
                return lambda: built.delete_many(queries[s].keys)

            return Entry(cls.name, role, prepare, check)

        present = np.ones(key_count, np.bool_)

        def clear(positions):
            present[positions] = False

        entries = [Entry("floor", "floor", lambda s: lambda: clear(queries[s].positions))]
        entries += [entry(role, cls) for role, cls in contestants.able("delete_many")]
        return Case(name, key_count, key_count, entries, targets)

    return Plan(name, key_count, make)


def add_many(
    distribution, *, batch=None, targets=(), group="operations", in_quick=True, width=ROW_ITEMS, dtype="float64",
    threads="one each", update_count=QUERY_COUNT, slow=True,
):  # fmt: skip
    """Updates into an empty table; `batch`: handed over in live batches."""
    operation = f"add_many {distribution}" + (f", live batches of {batch:,}" if batch else "")
    name = named(operation, "uniform", width, dtype)

    def make(contestants, sets):
        draw = workloads.zipf_updates if distribution == "Zipf(1.2)" else workloads.uniform_updates
        updates = [draw(seed, update_count) for seed in range(sets)]
        rows = workloads.make_rows(update_count, width, dtype)
        step = batch or update_count
        pieces = [slice(start, start + step) for start in range(0, update_count, step)]

        def live(role, cls):
            def prepare(s):
                keys = updates[s]

                def call():
                    table = cls(width, dtype)
                    for piece in pieces:
                        table.add_many(keys[piece], rows[piece])
                    return table

                return call

            def check(answer, s):
                distinct, sums = workloads.summed(updates[s], rows)
                expect(answer.get_many(distinct), sums, f"{name}, {cls.name}")

            return Entry(cls.name, role, prepare, check)

        def grouped(cls):
            frames = {}

            def prepare(s):
                if s not in frames:
                    frames.clear()
                    frames[s] = cls.prepare(updates[s], rows)
                return lambda: cls.group(frames[s])

            def check(answer, s):
                keys, sums = cls.answer(answer) if cls.can("answer") else answer
                distinct, wanted = workloads.summed(updates[s], rows)
                order = np.argsort(keys)
                expect(np.asarray(keys)[order], distinct, f"{name}, {cls.name}")
                expect(np.asarray(sums)[order], wanted, f"{name}, {cls.name}")

            return Entry(cls.name, "rival", prepare, check)

        entries = floor_of_adding(updates, rows)
        able = contestants.able("add_many") if slow else but_slow(contestants.able("add_many"))
        entries += [live(role, cls) for role, cls in able if batch or "live" not in cls.name]
        if not batch:
            entries += [grouped(cls) for _role, cls in contestants.able("group")]
        about = {"group": group, "width": width, "dtype": dtype, "threads": threads}
        return Case(operation, update_count, update_count, entries, targets, keep_result=True, **about)

    return Plan(name, update_count, make, in_quick, group)


def floor_of_adding(updates, rows):
    """Adding at known positions, by a numba loop; no floor where numba is not installed (NumPy has no fast one)."""
    try:
        from .numba_table import add_at_positions
    except ImportError:
        return []
    positions = [np.unique(keys, return_inverse=True)[1] for keys in updates]
    totals = [np.zeros((where.max() + 1, rows.shape[1]), rows.dtype) for where in positions]
    return [Entry("floor", "floor", lambda s: lambda: add_at_positions(totals[s], positions[s], rows))]
