"""Rivals for accumulation only: libraries that group a whole column at once.

Those that work on columns get their eight columns ready made, and hand back columns: no conversion is timed.
They have no live table: in the case of live batches they are left out, except factorize + csr, whose batch sums are
small enough to be added to a khash table after every batch.
"""

import numpy as np

from .rivals import DEFAULT_THREADS, Rival, doubled


class Grouper(Rival):
    """Common part: `group(frame)` is timed, `prepare(keys, rows)` is not."""

    @staticmethod
    def columns(keys, rows):
        """`key` and one contiguous column per item."""
        named = {"key": keys}
        named.update({f"item{i}": np.ascontiguousarray(rows[:, i]) for i in range(rows.shape[1])})
        return named


def scipy_rivals():
    """scipy: csr matrix after pandas.factorize."""
    import pandas
    from pandas._libs.hashtable import Int64HashTable
    from scipy import sparse

    def batch_sums(keys, rows):
        codes, uniques = pandas.factorize(keys)
        ones = np.ones(keys.size, rows.dtype)
        starts = np.arange(keys.size)
        return uniques, sparse.csr_matrix((ones, (codes, starts)), (uniques.size, keys.size)) @ rows

    class FactorizedCsr(Grouper):
        """`pandas.factorize`, then one sparse matrix product."""

        name = "factorize + csr"

        @staticmethod
        def prepare(keys, rows):
            return keys, rows

        @staticmethod
        def group(frame):
            return batch_sums(*frame)

    class LiveCsr(Rival):
        """The same for each batch, its sums added to a table that stays readable: khash and an ndarray."""

        name = "csr + khash, live"

        def __init__(self, row_items, dtype=np.float64):
            self.table, self.count = Int64HashTable(8), 0
            self.rows = np.zeros((8, row_items), dtype)

        def add_many(self, keys, rows):
            uniques, sums = batch_sums(keys, rows)
            positions = self.table.lookup(uniques)
            fresh = np.flatnonzero(positions < 0)
            positions[fresh] = np.arange(self.count, self.count + fresh.size)
            while self.rows.shape[0] < self.count + fresh.size:
                self.rows = doubled(self.rows)
            self.rows[self.count : self.count + fresh.size] = 0
            self.table.map_keys_to_values(uniques[fresh], positions[fresh])
            self.count += fresh.size
            self.rows[positions] += sums

        def get_many(self, keys):
            return np.take(self.rows, self.table.lookup(keys), axis=0)

    return [FactorizedCsr, LiveCsr]


def pandas_groupers():
    """pandas: groupby."""
    import pandas

    class PandasGroupby(Grouper):
        """`DataFrame.groupby("key", sort=False).sum()`."""

        name = "pandas groupby"

        @classmethod
        def prepare(cls, keys, rows):
            return pandas.DataFrame(cls.columns(keys, rows))

        @staticmethod
        def group(frame):
            return frame.groupby("key", sort=False).sum()

        @staticmethod
        def answer(grouped):
            return grouped.index.to_numpy(), grouped.to_numpy()

    return [PandasGroupby]


def polars_rivals():
    """polars: group_by."""
    import polars

    class PolarsGroupBy(Grouper):
        """`DataFrame.group_by("key").sum()`, on one thread unless threads are left to it."""

        name = "polars group_by"

        @classmethod
        def prepare(cls, keys, rows):
            return polars.DataFrame(cls.columns(keys, rows))

        @staticmethod
        def group(frame):
            return frame.group_by("key").sum()

        @staticmethod
        def answer(grouped):
            return grouped["key"].to_numpy(), grouped.drop("key").to_numpy()

    return [PolarsGroupBy]


def arrow_rivals():
    """pyarrow: group_by."""
    import pyarrow

    class ArrowGroupBy(Grouper):
        """`Table.group_by("key").aggregate(sum of each column)`, on one thread unless threads are left to it."""

        name = "pyarrow group_by"

        @classmethod
        def prepare(cls, keys, rows):
            return pyarrow.table(cls.columns(keys, rows))

        @staticmethod
        def group(table):
            sums = [(name, "sum") for name in table.column_names if name != "key"]
            return table.group_by("key", use_threads=DEFAULT_THREADS).aggregate(sums)

        @staticmethod
        def answer(grouped):
            names = [name for name in grouped.column_names if name != "key"]
            return grouped["key"].to_numpy(), np.column_stack([grouped[name].to_numpy() for name in names])

    return [ArrowGroupBy]


def duckdb_groupers():
    """duckdb: GROUP BY."""
    from .joins import duckdb_connection

    class DuckdbGroupBy(Grouper):
        """`SELECT key, sum(…) … GROUP BY key` over a table in memory, on one thread unless threads are left to it."""

        name = "duckdb group by"

        @classmethod
        def prepare(cls, keys, rows):
            import pyarrow

            connection = duckdb_connection()
            connection.register("given", pyarrow.table(cls.columns(keys, rows)))
            connection.execute("CREATE TABLE updates AS SELECT * FROM given")
            sums = ", ".join(f"sum(item{i}) AS item{i}" for i in range(rows.shape[1]))
            return connection, f"SELECT key, {sums} FROM updates GROUP BY key"

        @staticmethod
        def group(frame):
            connection, query = frame
            return connection.execute(query).fetchnumpy()

        @staticmethod
        def answer(grouped):
            return grouped["key"], np.column_stack([column for name, column in grouped.items() if name != "key"])

    return [DuckdbGroupBy]
