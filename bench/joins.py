"""Rivals that answer a batch of keys by a join: column libraries, which get columns and hand back columns.

They keep no table between two questions: each join hashes one side anew. That is what using them costs.
"""

import numpy as np

from .groupers import Grouper
from .rivals import DEFAULT_THREADS, Rival


class Joiner(Rival):
    """Common part: the columns' names."""

    columns = staticmethod(Grouper.columns)


def polars_joins():
    """polars: join."""
    import polars

    class PolarsJoin(Joiner):
        """`queries.join(table, on="key", how="left", maintain_order="left")`."""

        name = "polars join"

        @classmethod
        def build(cls, keys, rows):
            made = cls()
            made.table = polars.DataFrame(cls.columns(keys.copy(), rows))
            return made

        def get_many(self, keys):
            queries = polars.DataFrame({"key": keys})
            return queries.join(self.table, on="key", how="left", maintain_order="left").drop("key")

        def get_many_default(self, keys, default):
            return self.get_many(keys).fill_null(default)

        @staticmethod
        def rows_of(result):
            return result.to_numpy()

    return [PolarsJoin]


def arrow_joins():
    """pyarrow: index_in."""
    import pyarrow
    from pyarrow import compute

    class ArrowIndexIn(Joiner):
        """`compute.index_in(queries, value_set=keys)`, then `Table.take`."""

        name = "pyarrow index_in"

        @classmethod
        def build(cls, keys, rows):
            made = cls()
            columns = cls.columns(keys, rows)
            made.keys = pyarrow.array(columns.pop("key").copy())
            made.table = pyarrow.table(columns)
            return made

        def find(self, keys):
            return compute.index_in(pyarrow.array(keys), value_set=self.keys)

        def get_many(self, keys):
            return self.table.take(self.find(keys))

        def contains_many(self, keys):
            return compute.is_in(pyarrow.array(keys), value_set=self.keys)

        @staticmethod
        def rows_of(result):
            return np.column_stack([column.to_numpy() for column in result.columns])

    return [ArrowIndexIn]


def duckdb_connection():
    """A database in memory of its own, on one thread unless threads are left to it."""
    import duckdb

    connection = duckdb.connect()
    if not DEFAULT_THREADS:
        connection.execute("SET threads = 1")
    return connection


def duckdb_joins():
    """duckdb: LEFT JOIN."""
    import duckdb  # noqa: F401 (whether it is there)
    import pyarrow

    class DuckdbJoin(Joiner):
        """`queries LEFT JOIN rows USING (key) ORDER BY place` over tables in memory."""

        name = "duckdb join"

        @classmethod
        def build(cls, keys, rows):
            made = cls()
            made.connection = duckdb_connection()
            made.connection.register("given", pyarrow.table(cls.columns(keys, rows)))
            made.connection.execute("CREATE TABLE stored AS SELECT * FROM given")
            made.connection.unregister("given")
            items = ", ".join(f"item{i}" for i in range(rows.shape[1]))
            made.query = f"SELECT {items} FROM queries LEFT JOIN stored USING (key) ORDER BY place"
            return made

        def get_many(self, keys):
            queries = pyarrow.table({"key": keys, "place": np.arange(keys.size)})
            self.connection.register("queries", queries)
            return self.connection.execute(self.query).fetchnumpy()

        @staticmethod
        def rows_of(result):
            return np.column_stack(list(result.values()))

    return [DuckdbJoin]
