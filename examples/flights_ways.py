"""Three ways to keep statistics under integer keys: dict of arrays, pandas groupby, IntArrayMap.

Each way has the same three verbs. `add(keys, measures)` takes one batch, `finish()` ends the work, `table()` gives
sorted keys and, for each, counts, sums, minima and maxima of every measure, for comparing. NaN means "not measured" and
counts for nothing.

All numbers of the flights are whole, so that sums of them are exact in any order, and three ways can be asked to agree
to the last bit.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas
from numpy.typing import NDArray

from intarraymap import IntArrayMap

Keys = NDArray[np.int64]
Rows = NDArray[np.float64]

STATISTICS = ("count", "sum", "min", "max")


class Way(Protocol):
    """What the three have in common."""

    def add(self, keys: Keys, measures: Rows) -> None: ...
    def finish(self) -> None: ...
    def table(self) -> tuple[Keys, Rows]: ...


class IntArrayMaps:
    """Three maps from key to row: one adds, one keeps the smallest, one keeps the largest."""

    def __init__(self, measure_count: int = 4) -> None:
        self.totals = IntArrayMap((2, measure_count))  # counts and sums
        self.lows = IntArrayMap(measure_count)
        self.highs = IntArrayMap(measure_count)

    def add(self, keys: Keys, measures: Rows) -> None:
        known = ~np.isnan(measures)
        self.totals.add_many(keys, np.stack([known, np.where(known, measures, 0.0)], axis=1))
        self.lows.update_many(keys, np.where(known, measures, np.inf), "min")
        self.highs.update_many(keys, np.where(known, measures, -np.inf), "max")

    def finish(self) -> None:
        pass  # a map is always up to date

    def table(self) -> tuple[Keys, Rows]:
        keys = np.sort(self.totals.to_arrays()[0])
        totals = self.totals.get_many(keys)
        lows, highs = self.lows.get_many(keys), self.highs.get_many(keys)
        lows[np.isinf(lows)] = highs[np.isinf(highs)] = np.nan  # nothing was measured
        return keys, np.stack([totals[:, 0], totals[:, 1], lows, highs], axis=1)


class DictOfArrays:
    """What one writes without any of them: a dict, and an array for each key."""

    def __init__(self, measure_count: int = 4) -> None:
        self.empty = np.array([[0.0], [0.0], [np.nan], [np.nan]]).repeat(measure_count, axis=1)
        self.rows: dict[int, Rows] = {}

    def add(self, keys: Keys, measures: Rows) -> None:
        known = ~np.isnan(measures)
        amounts = np.where(known, measures, 0.0)
        for key, seen, amount, values in zip(keys.tolist(), known, amounts, measures, strict=True):
            row = self.rows.get(key)
            if row is None:
                row = self.rows[key] = self.empty.copy()
            count, total, low, high = row
            count += seen
            total += amount
            np.fmin(low, values, out=low)
            np.fmax(high, values, out=high)

    def finish(self) -> None:
        pass

    def table(self) -> tuple[Keys, Rows]:
        keys = sorted(self.rows)
        return np.array(keys), np.array([self.rows[key] for key in keys])


class PandasGroupby:
    """pandas wants to see all flights at once: batches are kept until the end."""

    def __init__(self) -> None:
        self.batches: list[tuple[Keys, Rows]] = []

    def add(self, keys: Keys, measures: Rows) -> None:
        self.batches.append((keys, measures))

    def finish(self) -> None:
        keys, measures = (np.concatenate(column) for column in zip(*self.batches, strict=True))
        self.batches.clear()
        self.groups = pandas.DataFrame(measures).groupby(keys).agg(list(STATISTICS))

    def table(self) -> tuple[Keys, Rows]:
        rows = self.groups.to_numpy(dtype=np.float64).reshape(len(self.groups), -1, len(STATISTICS))
        return self.groups.index.to_numpy(), rows.swapaxes(1, 2)


def agree(one: Way, other: Way) -> bool:
    """Whether two ways found the same keys and the same numbers, each of them, exactly."""
    (keys, rows), (other_keys, other_rows) = one.table(), other.table()
    return np.array_equal(keys, other_keys) and np.array_equal(rows, other_rows, equal_nan=True)
