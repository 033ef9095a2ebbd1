"""The map as a contestant: the same verbs as every rival, all of them the map's own."""

from .rivals import DictOfArrays, Rival


def map_contestant():
    """The contestant class, or ImportError where intarraymap is not installed."""
    from intarraymap import IntArrayMap

    class Map(Rival):
        """`intarraymap.IntArrayMap`."""

        name = "IntArrayMap"

        def __init__(self, row_items, dtype="float64"):
            self.table = IntArrayMap(row_items, dtype)

        @classmethod
        def build(cls, keys, rows):
            made = cls.__new__(cls)
            made.table = IntArrayMap.from_arrays(keys, rows)
            return made

        @classmethod
        def build_by_set_many(cls, keys, rows):
            made = cls(rows.shape[1], rows.dtype)
            made.table.set_many(keys, rows)
            return made

        def get_many(self, keys):
            return self.table.get_many(keys)

        def get_many_out(self, keys, out):
            return self.table.get_many(keys, out=out)

        def get_many_default(self, keys, default):
            return self.table.get_many(keys, default)

        def contains_many(self, keys):
            return self.table.contains_many(keys)

        def set_many(self, keys, rows):
            self.table.set_many(keys, rows)

        def add_many(self, keys, rows):
            self.table.add_many(keys, rows)

        def delete_many(self, keys):
            return self.table.delete_many(keys)

        def loop_set(self, keys, row):
            table = self.table
            for key in keys:
                table[key] = row

        loop_get = DictOfArrays.loop_get
        loop_copy = DictOfArrays.loop_copy
        loop_insert = loop_set
        loop_contains = DictOfArrays.loop_contains
        loop_delete = DictOfArrays.loop_delete
        loop_items = DictOfArrays.loop_items

    return Map
