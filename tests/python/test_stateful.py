"""A machine that does anything in any order, beside a dict[int, ndarray] that is told the same."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import FAR_KEY, KEY_MAX, KEY_MIN, KINDS, apply, bits, build_case, copy_of

ITEMS = 2
DENSE = st.one_of(st.integers(0, 40), st.integers(-100, 400))
ANY = st.one_of(
    DENSE,
    st.integers(0, 5000),
    st.sampled_from([FAR_KEY, FAR_KEY + 1, -FAR_KEY, KEY_MIN, KEY_MAX, KEY_MAX - 1]),
    st.integers(KEY_MIN, KEY_MAX),
)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
ROWS = st.one_of(NUMBERS, st.lists(NUMBERS, min_size=ITEMS, max_size=ITEMS))
RUNS = st.tuples(st.integers(-500, 3000), st.integers(1, 300))


class Machine(RuleBasedStateMachine):
    kind = "hash"
    keys_of = ANY

    @initialize(count=st.sampled_from([0, 1, 30, 100]))
    def begin(self, count):
        case = build_case(self.kind, (ITEMS,), "int64", count=count)
        self.m, self.model = case.map, case.model
        self.views = {}  # key -> view of a key that has been there ever since
        self.ghosts = []  # (key, view, what it showed when its key went)
        self.scan = None

    def draw_key(self, data):
        return data.draw(self.keys_of)

    def gone(self, *keys):
        """These keys have been deleted: views of them become ghosts."""
        for key in keys:
            if key in self.views:
                view = self.views.pop(key)
                self.ghosts.append((key, view, view.copy()))

    def born(self, *keys):
        """A key that is inserted again may bring its old views back to life: nothing more is said about them."""
        keys = set(keys)
        self.ghosts = [ghost for ghost in self.ghosts if ghost[0] not in keys]

    def write(self, keys, rows, op="set"):
        self.born(*(key for key in keys if key not in self.model))
        apply(self.model, keys, rows, op, (ITEMS,), "int64")

    # -- one key ------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), row=ROWS)
    def set_one(self, data, row):
        key = self.draw_key(data)
        self.m[key] = row
        self.write([key], row)

    @rule(data=st.data())
    def get_one(self, data):
        key = self.draw_key(data)
        if key in self.model:
            assert bits(self.m[key]) == bits(self.model[key])
            assert bits(self.m.get(key)) == bits(self.model[key])
            assert key in self.m
        else:
            with pytest.raises(KeyError):
                self.m[key]
            assert self.m.get(key, 5) == 5
            assert key not in self.m

    @rule(data=st.data())
    def delete_one(self, data):
        key = self.draw_key(data)
        if key in self.model:
            del self.m[key]
            del self.model[key]
            self.gone(key)
        else:
            with pytest.raises(KeyError):
                del self.m[key]

    @rule(data=st.data())
    def pop_one(self, data):
        key = self.draw_key(data)
        row = self.m.pop(key, None)
        expected = self.model.pop(key, None)
        assert (row is None) == (expected is None)
        if row is not None:
            assert bits(row) == bits(expected)
            self.gone(key)

    @precondition(lambda self: self.model)
    @rule(times=st.integers(1, 20))
    def popitems(self, times):
        for _ in range(min(times, len(self.model))):
            last = next(reversed(self.m))
            key, row = self.m.popitem()
            assert key == last
            assert bits(row) == bits(self.model.pop(key))
            self.gone(key)

    @rule(data=st.data(), row=ROWS, zeros=st.booleans())
    def setdefault(self, data, row, zeros):
        key = self.draw_key(data)
        view = self.m.setdefault(key) if zeros else self.m.setdefault(key, row)
        if key not in self.model:
            self.write([key], 0 if zeros else row)
        assert bits(view) == bits(self.model[key])

    # -- views --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def take_view(self, data):
        keys = list(self.model)
        key = keys[data.draw(st.integers(0, len(keys) - 1))]
        self.views[key] = self.m[key]

    @precondition(lambda self: self.views)
    @rule(data=st.data(), number=NUMBERS)
    def write_through_view(self, data, number):
        key = data.draw(st.sampled_from(sorted(self.views)))
        self.views[key][1] = number
        self.model[key][1] = number

    @precondition(lambda self: self.ghosts)
    @rule(data=st.data(), number=NUMBERS)
    def write_through_ghost(self, data, number):
        place = data.draw(st.integers(0, len(self.ghosts) - 1))
        key, view, _ = self.ghosts[place]
        view[0] = number
        self.ghosts[place] = (key, view, view.copy())

    @rule()
    def drop_views(self):
        self.views.clear()
        self.ghosts.clear()

    # -- many keys ----------------------------------------------------------------------------------------------------

    @rule(data=st.data(), op=st.sampled_from("set add sub mul min max and or xor".split()))
    def update_many(self, data, op):
        keys = data.draw(st.lists(self.keys_of, max_size=30))
        rows = [data.draw(st.lists(NUMBERS, min_size=ITEMS, max_size=ITEMS)) for _ in keys]
        rows = np.array(rows, "i8").reshape(len(keys), ITEMS)
        self.m.update_many(np.array(keys, "i8"), rows, op)
        self.write(keys, rows, op)

    @rule(run=RUNS, row=ROWS)
    def set_run(self, run, row):
        keys = np.arange(run[0], run[0] + run[1])
        self.m.set_many(keys, row)
        self.write(keys.tolist(), row)

    @rule(run=RUNS, step=st.integers(1, 4))
    def delete_run(self, run, step):
        keys = np.arange(run[0], run[0] + run[1], step)
        removed = self.m.delete_many(keys)
        assert removed.tolist() == [self.model.pop(key, None) is not None for key in keys.tolist()]
        self.gone(*keys.tolist())

    @rule(run=RUNS)
    def add_run(self, run):
        keys = np.arange(run[0], run[0] + run[1]) // 2
        self.m.add_many(keys, 3)
        self.write(keys.tolist(), 3, "add")

    @rule(run=RUNS)
    def get_run(self, run):
        keys = np.arange(run[0], run[0] + run[1])
        rows, found = self.m.get_many(keys, [-5, -6], return_mask=True)
        assert found.tolist() == [key in self.model for key in keys.tolist()]
        expected = [self.model.get(key, np.array([-5, -6])) for key in keys.tolist()]
        assert bits(rows) == bits(np.array(expected))

    @rule(run=RUNS)
    def pop_run(self, run):
        keys = np.arange(run[0], run[0] + run[1])
        if all(key in self.model for key in keys.tolist()):
            expected = np.array([self.model.pop(key) for key in keys.tolist()])
            assert bits(self.m.pop_many(keys)) == bits(expected)
            self.gone(*keys.tolist())
        else:
            with pytest.raises(KeyError):
                self.m.pop_many(keys)

    @rule(run=RUNS, fill=ROWS)
    def ensure_run(self, run, fill):
        keys = np.arange(run[0], run[0] + run[1])
        numbers, created = self.m.ensure_many(keys, fill)
        new = [key for key in keys.tolist() if key not in self.model]
        assert created.tolist() == [key not in self.model for key in keys.tolist()]
        self.write(new, fill)
        assert numbers.tolist() == self.m.index_many(keys).tolist()

    # -- whole map ----------------------------------------------------------------------------------------------------

    @rule()
    def compact(self):
        if self.views or self.ghosts or self.scan is not None:
            try:
                self.m.compact()
            except BufferError:
                return
            assert not self.views, "compact moves rows: not while a view lives"
        else:
            self.m.compact()

    @rule(count=st.integers(0, 5000))
    def reserve(self, count):
        self.m.reserve(count)

    @rule()
    def clear(self):
        self.m.clear()
        self.gone(*list(self.model))
        self.model.clear()
        self.scan = None

    @rule(way=st.sampled_from(["copy", "deepcopy", "pickle", "or"]))
    def copies_are_equal(self, way):
        other = {
            "copy": lambda m: m.copy(),
            "deepcopy": copy.deepcopy,
            "pickle": lambda m: pickle.loads(pickle.dumps(m, 5)),
            "or": lambda m: m | {},
        }[way](self.m)
        assert other == self.m
        assert other._check() is None
        if not self.views and not self.ghosts and self.scan is None:
            self.m = other  # and go on with the copy

    @rule()
    def merge_itself(self):
        self.m.merge(self.m, "add")
        for key, row in self.model.items():
            with np.errstate(over="ignore"):
                self.model[key] = row + row

    # -- walking ------------------------------------------------------------------------------------------------------

    @rule()
    def begin_scan(self):
        self.scan = self.m.scan()

    @precondition(lambda self: self.scan is not None)
    @rule(steps=st.integers(1, 10))
    def step_scan(self, steps):
        for _ in range(steps):
            step = next(self.scan, None)
            if step is None:
                self.scan = None
                return
            key, view = step
            assert key in self.model
            assert bits(view) == bits(self.model[key])

    @rule()
    def walk(self):
        keys = list(self.m)
        assert sorted(keys) == sorted(self.model)
        assert list(reversed(self.m)) == keys[::-1]

    # -- always -------------------------------------------------------------------------------------------------------

    @invariant()
    def sound(self):
        if not hasattr(self, "m"):
            return
        assert self.m._check() is None
        assert len(self.m) == len(self.model)
        for key, view in self.views.items():
            assert bits(view) == bits(self.model[key]), "a live view lost its row"
        for _, view, shown in self.ghosts:
            assert bits(view) == bits(shown), "the view of a deleted key shows something else"

    def teardown(self):
        if hasattr(self, "m"):
            self.ghosts.clear()
            self.views.clear()
            got = copy_of(self.m)
            assert got.keys() == self.model.keys()
            assert all(bits(got[key]) == bits(row) for key, row in self.model.items())


@pytest.mark.parametrize("kind", list(KINDS))
def test_machine(kind):
    keys = DENSE if KINDS[kind].dense_only else ANY
    machine = type(f"Machine_{kind.replace('-', '_')}", (Machine,), {"kind": kind, "keys_of": keys})
    run_state_machine_as_test(machine)
    assert machine.kind == kind
