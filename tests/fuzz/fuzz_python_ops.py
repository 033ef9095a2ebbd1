"""Any method in any order, beside a dict[int, ndarray] that is told the same.

After each step the two have the same keys and numbers; a call that raises has changed nothing; the map keeps its
invariants. Views follow their key's row for as long as it is there, and never show another key's afterwards.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from intarraymap import IntArrayMap
from tests.fuzz.stream import DOCUMENTED, Stream

DTYPES = ("int64", "int16", "uint8", "float32", "complex64", "bool", "datetime64[s]", "float16")
SHAPES = (1, 3, (2, 2), 9)
OPERATORS = ("set", "add", "sub", "mul", "min", "max", "and", "or", "xor")
STEPS = 60


class Model(dict[int, np.ndarray]):
    """What the map should hold. A key that it has not and the map has is no KeyError that somebody documented."""

    def __missing__(self, key: int) -> np.ndarray:
        raise AssertionError(f"the map has {key}, which the model has not")


def alike(*columns: Collection[Any]) -> Iterator[tuple[Any, ...]]:
    """Their items side by side. As an assertion: the ValueError of zip could be one of the map's."""
    assert len({len(column) for column in columns}) == 1, [len(column) for column in columns]
    return zip(*columns, strict=True)


class Fuzzed:
    """A map, its model, and what is held of it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.shape = stream.choice(SHAPES)
        self.dtype = np.dtype(stream.choice(DTYPES))
        index = stream.choice(("auto", "hash", "direct"))
        capacity = stream.byte() if stream.chance(4) else 0
        self.m: IntArrayMap[Any] = IntArrayMap(self.shape, self.dtype, index=index, capacity=capacity, seed=5)
        self.model = Model()
        self.views: list[tuple[int, np.ndarray]] = []
        self.ghosts: list[tuple[int, np.ndarray, bytes]] = []
        self.held: list[Any] = []
        self.steps = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]

    # -- choices -------------------------------------------------------------------------------------------------------

    def key(self) -> int:
        if self.model and self.stream.chance(2):
            return list(self.model)[self.stream.byte() % len(self.model)]
        return self.stream.integer()

    def keys(self) -> np.ndarray:
        count = self.stream.byte() % 40 if self.stream.chance(2) else self.stream.below(6)
        if self.stream.chance(3):
            first, step = self.stream.byte(), self.stream.choice((1, -1, 2, 129, 4096, 2**40))
            return np.arange(count * 4, dtype=np.int64) * step + first
        inside = [key if -(2**63) <= key < 2**63 else 7 for key in (self.key() for _ in range(count))]
        return np.array(inside, np.int64)

    def row(self) -> np.ndarray:
        return self.rows(1)[0]

    def rows(self, count: int) -> np.ndarray:
        salt = self.stream.byte()
        numbers = (np.arange(count * self.items) * 7 + salt) % 113
        return numbers.astype("int64").astype(self.dtype).reshape((count, *self.m.row_shape))

    @property
    def items(self) -> int:
        return int(np.prod(self.m.row_shape))

    # -- the model -----------------------------------------------------------------------------------------------------

    def gone(self, *keys: int) -> None:
        for key, view in [pair for pair in self.views if pair[0] in keys]:
            self.ghosts.append((key, view, view.tobytes()))
        self.views = [pair for pair in self.views if pair[0] not in keys]

    def put(self, key: int, row: np.ndarray) -> None:
        if key not in self.model:
            self.ghosts = [ghost for ghost in self.ghosts if ghost[0] != key]  # they may come back to life
            self.model[key] = np.zeros(self.m.row_shape, self.dtype)
        self.model[key][...] = row

    def remove(self, key: int) -> None:
        self.gone(key)
        assert self.model.pop(key, None) is not None, f"the map had {key}, which the model has not"

    def compare(self) -> None:
        assert self.m._check() is None
        assert len(self.m) == len(self.model)
        keys, rows = self.m.to_arrays()
        found = dict(alike(keys.tolist(), rows))
        assert found.keys() == self.model.keys(), "other keys than the model's"
        for key, row in self.model.items():
            assert found[key].tobytes() == row.tobytes(), f"another row than the model's at {key}"
        for key, view in self.views:
            assert view.tobytes() == self.model[key].tobytes(), f"the view of {key} does not show its row"
        for key, view, bytes_then in self.ghosts:
            assert view.tobytes() == bytes_then, f"the view of {key}, which is gone, shows something else now"

    # -- what can be done ----------------------------------------------------------------------------------------------

    def do_set(self) -> None:
        key, row = self.key(), self.row()
        self.m[key] = row
        self.put(key, row)

    def do_set_scalar(self) -> None:
        key = self.key()
        number = self.row().reshape(-1)[0]
        self.m[key] = number
        self.put(key, number)

    def do_set_own(self) -> None:
        source, target = self.key(), self.key()
        self.m[target] = self.m[source]
        self.put(target, self.model[source].copy())

    def do_get(self) -> None:
        key = self.key()
        assert (key in self.m) == (key in self.model)
        if self.m.get(key) is not None:
            assert self.m[key].tobytes() == self.model[key].tobytes()

    def do_view(self) -> None:
        key = self.key()
        view = self.m[key]
        if len(self.views) < 8:
            self.views.append((key, view))

    def do_view_write(self) -> None:
        for key, view in self.views[:2]:
            view[...] = self.row()
            self.model[key][...] = view

    def do_view_drop(self) -> None:
        (self.views or self.ghosts or [None]).pop()

    def do_setdefault(self) -> None:
        key = self.key()
        row = self.m.setdefault(key)
        if key not in self.model:
            self.put(key, np.zeros(self.m.row_shape, self.dtype))
        assert row.tobytes() == self.model[key].tobytes()

    def do_delete(self) -> None:
        key = self.key()
        del self.m[key]
        self.remove(key)

    def do_pop(self) -> None:
        key = self.key()
        row = self.m.pop(key)
        assert row.tobytes() == self.model[key].tobytes()
        self.remove(key)

    def do_popitem(self) -> None:
        last = next(reversed(self.m), None)
        key, row = self.m.popitem()
        assert key == last and row.tobytes() == self.model[key].tobytes()
        self.remove(key)

    def do_set_many(self) -> None:
        keys = self.keys()
        rows = self.rows(len(keys))
        self.m.set_many(keys, rows)
        for key, row in alike(keys.tolist(), rows):
            self.put(key, row)

    def do_update_many(self) -> None:
        keys, op = self.keys(), self.stream.choice(OPERATORS)
        rows = self.rows(len(keys))
        self.m.update_many(keys, rows, op)
        # What each operation computes is the matter of test_ops.py: here it is what one key at a time gives.
        alone: IntArrayMap[Any] = IntArrayMap(self.shape, self.dtype, index="hash", seed=1)
        for key in set(keys.tolist()) & self.model.keys():
            alone[key] = self.model[key]
        for key, row in alike(keys.tolist(), rows):
            alone.update_many([key], row[None], op)
        for key in dict.fromkeys(keys.tolist()):
            self.put(key, alone[key])

    def do_add_at(self) -> None:
        keys = self.keys()
        items = [self.stream.byte() % (self.items + 1) for _ in keys]
        values = self.rows(1).reshape(-1)[0]
        self.m.add_at(keys, items, values)
        for key, item in alike(keys.tolist(), items):
            if key not in self.model:
                self.put(key, np.zeros(self.m.row_shape, self.dtype))
            self.model[key].reshape(-1)[item] += values

    def do_ensure_many(self) -> None:
        keys, fill = self.keys(), self.row()
        numbers, created = self.m.ensure_many(keys, fill)
        for key, fresh in alike(keys.tolist(), created.tolist()):
            assert fresh == (key not in self.model)
            if fresh:
                self.put(key, fill)
        assert (self.m.index_many(keys) == numbers).all()

    def do_get_many(self) -> None:
        keys = self.keys()
        assert self.m.contains_many(keys).tolist() == [key in self.model for key in keys.tolist()]
        default = self.row()
        rows, found = self.m.get_many(keys, default, return_mask=True)
        for key, row, there in alike(keys.tolist(), rows, found.tolist()):
            assert there == (key in self.model)
            assert row.tobytes() == self.model.get(key, default).tobytes()
        self.m.get_many(keys)

    def do_delete_many(self) -> None:
        keys = self.keys()
        for key, removed in alike(keys.tolist(), self.m.delete_many(keys).tolist()):
            assert removed == (key in self.model)
            if removed:
                self.remove(key)

    def do_pop_many(self) -> None:
        keys = self.keys()
        rows = self.m.pop_many(keys)
        for key, row in alike(keys.tolist(), rows):
            assert row.tobytes() == self.model[key].tobytes()
            self.remove(key)

    def do_update(self) -> None:
        pairs = [(self.key(), self.row()) for _ in range(self.stream.below(4))]
        self.m.update(pairs if self.stream.chance(2) else dict(pairs))
        for key, row in pairs:
            self.put(key, row)

    def do_merge_self(self) -> None:
        self.m.merge(self.m, "set")

    def do_clear(self) -> None:
        self.m.clear()
        self.gone(*self.model)
        self.model.clear()

    def do_compact(self) -> None:
        self.m.compact()

    def do_reserve(self) -> None:
        self.m.reserve(self.stream.byte() * 8)

    def do_blocks(self) -> None:
        blocks = self.m.blocks()
        present = 0
        for first, keys, rows, bits in blocks:
            mask = np.unpackbits(bits, bitorder="little")[: len(rows)].astype(bool)
            present += int(mask.sum())
            assert first % 8 == 0
            for key, row in alike(keys[mask].tolist(), rows[mask]):
                assert row.tobytes() == self.model[key].tobytes()
        assert present == len(self.model)
        if len(self.held) < 3:
            self.held.append(blocks)

    def do_drop_held(self) -> None:
        if self.held:
            self.held.pop(self.stream.byte() % len(self.held))

    def do_scan(self) -> None:
        seen = set()
        for key, row in self.m.scan():
            assert key not in seen and row.tobytes() == self.model[key].tobytes()
            seen.add(key)
        assert seen == self.model.keys()
        scan = self.m.scan()
        next(scan, None)
        if len(self.held) < 3:
            self.held.append(scan)

    def do_iterate(self) -> None:
        assert list(self.m) == list(reversed(list(reversed(self.m))))
        assert set(self.m.keys()) == self.model.keys()
        for (key, row), other in alike(self.m.items(), self.m.values()):
            assert row.tobytes() == other.tobytes() == self.model[key].tobytes()

    def do_copy(self) -> None:
        ways = (copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m, self.stream.below(4) + 2)))
        other = self.stream.choice(ways)(self.m)
        assert (other == self.m) or self.dtype.kind in "fcM"
        self.gone(*self.model)
        self.held.clear()
        self.m = other

    def do_stats(self) -> None:
        stats = self.m.stats()
        assert stats.count == len(self.model) and stats.index == self.m.index
        assert len(repr(self.m)) < 2000 and self.m.nbytes >= 0

    def do_wrong(self) -> None:
        """Nothing of it may change the map."""
        wrong = self.stream.choice((None, 1.5, "1", b"1", 2**64, [], {}, np.float64(3), [[1]], object()))
        call = self.stream.choice((self.m.__setitem__, self.m.set_many, self.m.get_many, self.m.add_many, self.m.pop))
        call(wrong, wrong)


def one_input(data: bytes) -> None:
    stream = Stream(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzzed = Fuzzed(stream)
        for _ in range(STEPS):
            if not stream:
                break
            try:
                stream.choice(fuzzed.steps)()
            except DOCUMENTED:
                pass  # and nothing has changed: compared below
            fuzzed.compare()
