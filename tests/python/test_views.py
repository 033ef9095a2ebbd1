"""Promise §3: live views, and what becomes of them when the key goes."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import weakref

import numpy as np
import pytest
from model import DTYPES, FAR_KEY, bits, build_leaving, build_map, rows_for

from intarraymap import IntArrayMap

#: What an array that grows row by row commits at a time, at least (DESIGN §9).
COMMITTED_BYTES = 128 << 10


class TestLive:
    def test_view_of_the_row(self, make_case):
        case = make_case((2, 3))
        m = case.map
        view = m[5]
        assert type(view) is np.ndarray
        assert view.shape == (2, 3)
        assert view.dtype == m.dtype
        view[1, 2] = 42.0
        assert m[5][1, 2] == 42.0
        assert m.get_many([5])[0, 1, 2] == 42.0
        m[5] = 7.0
        assert (view == 7.0).all()
        m.add_many([5], 1.0)
        assert (view == 8.0).all()
        assert np.shares_memory(view, m[5])
        assert not np.shares_memory(view, m[6])

    @pytest.mark.parametrize("way", ["getitem", "get", "setdefault", "values", "items", "scan"])
    def test_every_way_to_get_one(self, make_map, way):
        m = make_map((4,), keys=[3])
        view = {
            "getitem": lambda: m[3],
            "get": lambda: m.get(3),
            "setdefault": lambda: m.setdefault(3),
            "values": lambda: next(iter(m.values())),
            "items": lambda: next(iter(m.items()))[1],
            "scan": lambda: next(m.scan())[1],
        }[way]()
        view[2] = 99.0
        assert m[3][2] == 99.0

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("row_shape", [(1,), (3,), (7,), (5, 3), (1, 1, 17)])
    def test_layout(self, make_case, dtype, row_shape):
        m = make_case(row_shape, dtype, 40).map
        for view in m.values():
            assert view.shape == row_shape
            assert view.flags.c_contiguous
            assert view.flags.aligned
            assert view.flags.writeable
            assert not view.flags.owndata
            assert view.dtype.isnative
            assert view.ctypes.data % m.dtype.alignment == 0
            assert view.ctypes.data % m.dtype.itemsize == 0
        addresses = sorted(view.ctypes.data for view in m.values())
        assert all(b - a >= view.nbytes for a, b in zip(addresses, addresses[1:], strict=False)), "rows do not overlap"

    def test_cannot_be_resized(self, make_case):
        view = make_case((4,), count=2).map[1]
        for arguments in ((8,), (2,)):
            with pytest.raises(ValueError):
                view.resize(arguments)
            with pytest.raises(ValueError):
                view.resize(arguments, refcheck=False)

    def test_cannot_reach_a_neighbour(self, make_case):
        m = make_case((4,), count=20).map
        view = m[5]
        assert memoryview(view).nbytes == 32
        base = view.base
        while isinstance(base, np.ndarray):
            assert base.nbytes <= 32
            base = base.base
        try:
            exported = memoryview(base)
        except TypeError:
            exported = None
        assert exported is None or exported.nbytes <= 32
        with pytest.raises(IndexError):
            view[4]
        with pytest.raises(ValueError):
            view.view("c16").reshape(3)


class TestLargeMaps:
    """Where a view's objects are made while its row is on its way from memory."""

    def test_every_key_gets_its_own_row(self):
        keys = np.arange(20_000, dtype=np.int64) ** 3
        m = IntArrayMap.from_arrays(keys, np.arange(40_000.0).reshape(-1, 2), index="hash")
        for place in range(0, keys.size, 7):
            view, same = m[int(keys[place])], m.get(int(keys[place]))
            assert view.tolist() == same.tolist() == [2.0 * place, 2.0 * place + 1]
            view[1] = -place
            assert same[1] == -place
        assert m.stats().rows_held == 0
        assert m._check() is None

    def test_missing_keys(self):
        m = IntArrayMap.from_arrays(np.arange(20_000) * 1_000_003, np.zeros((20_000, 4)), index="hash")
        with pytest.raises(KeyError) as error:
            m[1]
        assert error.value.args == (1,)
        assert m.get(1) is None
        assert m.get(1, 5) == 5


class TestReferences:
    def test_no_reference_to_the_map(self, make_case):
        m = make_case(count=10).map
        before = sys.getrefcount(m)
        views = [m[k] for k in range(10)]
        assert sys.getrefcount(m) == before
        assert all(m not in gc.get_referents(view.base) for view in views if view.base is not None)

    def test_map_goes_at_once_without_the_collector(self, make_map):
        m = build_map(make_map.kind, keys=range(10), cls=type("Child", (IntArrayMap,), {}))
        view = m[4]
        expected = view.copy()
        gc.disable()
        try:
            gone = weakref.ref(m)
            del m
            assert gone() is None
        finally:
            gc.enable()
        assert bits(view) == bits(expected)
        view[:] = 5.0
        assert view.tolist() == [5.0] * 3

    def test_map_in_a_cycle_is_collected(self):
        class Child(IntArrayMap):
            pass

        m = Child(3)
        m[1] = 2.0
        m.me = m
        m.view = m[1]
        view, gone = m[1], weakref.ref(m)
        del m
        gc.collect()
        assert gone() is None
        assert view.tolist() == [2.0] * 3

    def test_slices_hold_the_row(self, make_case):
        m = make_case((8,), count=10).map
        part = m[3][2:5][::-1]
        expected = part.copy()
        other = m[4].reshape(2, 4).T
        assert m.stats().views == 2
        del m[3]
        for key in range(10, 200):
            m[key] = -1.0
        assert bits(part) == bits(expected)
        assert np.shares_memory(other, m[4])
        del part
        assert m.stats().rows_held == 0

    def test_counts(self, make_case):
        m = make_case().map
        assert m.stats().views == 0
        views = [m[k] for k in range(50)]
        again = m[0]
        assert m.stats().views == 51
        assert m.stats().rows_held == 0
        m.delete_many(np.arange(20))
        assert m.stats().rows_held == 20
        del views
        assert m.stats().views == 1
        assert m.stats().rows_held == 1
        del again
        assert m.stats().views == 0
        assert m.stats().rows_held == 0
        assert m._check() is None

    def test_released_in_another_thread(self, make_case):
        m = make_case(count=100).map
        views = [m[k] for k in range(100)]
        m.delete_many(np.arange(50))
        thread = threading.Thread(target=views.clear)
        thread.start()
        thread.join()
        assert m.stats().views == 0
        assert m.stats().rows_held == 0
        assert m._check() is None


class TestRowsNeverMove:
    def test_growth(self, make_case):
        case = make_case((4,), count=64)
        m = case.map
        views = {key: m[key] for key in range(64)}
        places = {key: view.ctypes.data for key, view in views.items()}
        top = max(k for k in case.model if k < FAR_KEY)
        count = 1000 if make_case.traits.few_chains else 5000
        for key in range(top + 1, top + count):
            m[key] = float(key % 1000)
        m.reserve(6 * count)
        m.set_many(np.arange(top + count, top + 3 * count), 1.0)
        m.delete_many(np.arange(top + 100, top + 2 * count - 1000))
        for key, view in views.items():
            assert m[key].ctypes.data == places[key]
            view[0] = -float(key)
            assert m[key][0] == -float(key)
        assert m._check() is None

    def test_change_of_index(self):
        case = build_leaving((4,), count=6000)
        m = case.map
        views = {key: m[key] for key in range(0, 6000, 7)}
        places = {key: view.ctypes.data for key, view in views.items()}
        key = FAR_KEY
        while m.stats().leaving_direct:
            key += 1
            m[key] = 0.0
            for looked in (0, 7, 2996, 5999, FAR_KEY):
                assert looked in m
        assert m.index == "hash"
        for key, place in places.items():
            assert m[key].ctypes.data == place
            assert bits(views[key]) == bits(case.model[key])
        assert m._check() is None

    def test_overwriting(self, make_case):
        m = make_case((3,), count=10).map
        view = m[4]
        m[4] = [1.0, 2.0, 3.0]
        assert view.tolist() == [1.0, 2.0, 3.0]
        m.set_many([4], 9.0)
        assert view.tolist() == [9.0] * 3
        m.update({4: 8.0})
        assert view.tolist() == [8.0] * 3


#: Every way a key can go.
REMOVALS = {
    "del": lambda m: m.__delitem__(5),
    "pop": lambda m: m.pop(5),
    "pop default": lambda m: m.pop(5, None),
    "delete_many": lambda m: m.delete_many([5, 6]),
    "pop_many": lambda m: m.pop_many([4, 5]),
    "clear": lambda m: m.clear(),
    "popitem": lambda m: [m.popitem() for _ in range(len(m))],
}


class TestAfterDelete:
    @pytest.mark.parametrize("removal", REMOVALS)
    def test_keeps_its_memory_and_reaches_no_other_key(self, make_case, removal):
        case = make_case((4,), count=64)
        m = case.map
        view = m[5]
        before = view.copy()
        REMOVALS[removal](m)
        assert bits(view) == bits(before)
        keys = np.arange(200, 4000)
        for key in keys[:500].tolist():
            m[key] = float(key)
        m.set_many(keys, keys[:, None] * np.ones(4))
        m.ensure_many(np.arange(20_000, 21_000))
        assert bits(view) == bits(before), "shows another key's row"
        view[:] = -1.0
        assert not (m.to_arrays()[1] == -1.0).any(), "writes into another key's row"
        assert not any(np.shares_memory(view, m[key]) for key in list(m)[::20])
        assert m._check() is None

    @pytest.mark.parametrize("removal", REMOVALS)
    def test_inserting_the_key_again(self, make_case, removal):
        """May or may not bring the view back to life; the new row is as written, and nobody else is touched."""
        case = make_case((4,), count=64)
        m = case.map
        view = m[5]
        REMOVALS[removal](m)
        m[5] = [1.0, 2.0, 3.0, 4.0]
        assert m[5].tolist() == [1.0, 2.0, 3.0, 4.0]
        alive = np.shares_memory(view, m[5])
        view[0] = 9.0
        assert m[5][0] == (9.0 if alive else 1.0)
        for key in range(300, 600):
            m[key] = 0.0
        assert m[5].tolist() == [9.0 if alive else 1.0, 2.0, 3.0, 4.0]
        assert view[0] == 9.0

    @pytest.mark.parametrize("removal", REMOVALS)
    def test_the_new_row_starts_at_zero(self, make_case, removal):
        m = make_case((4,), count=64).map
        view = m[5]
        view[:] = 123.0
        REMOVALS[removal](m)
        assert m.setdefault(5).tolist() == [0.0] * 4

    def test_close(self, make_case):
        case = make_case((4,))
        m = case.map
        views = {key: m[key] for key in range(50)}
        m.close()
        for key, view in views.items():
            assert bits(view) == bits(case.model[key])
            view[:] = 5.0
            assert view.tolist() == [5.0] * 4

    def test_collected(self, make_map):
        m = build_map(make_map.kind, (4,), keys=range(500))
        expected = {key: m[key].copy() for key in range(0, 500, 5)}
        views = {key: m[key] for key in expected}
        del m
        others = [build_map(make_map.kind, (4,), keys=range(500), rows=np.full((500, 4), -3.0)) for _ in range(5)]
        for key, view in views.items():
            assert bits(view) == bits(expected[key])
            view[:] = 8.0
        assert all((other.to_arrays()[1] == -3.0).all() for other in others)

    def test_held_rows_are_not_reused_one_by_one(self, make_case):
        m = make_case((4,), count=40).map
        views = {}
        for key in range(40):
            views[key] = m[key]
            expected = views[key].copy()
            del m[key]
            m[1000 + key] = -1.0
            assert bits(views[key]) == bits(expected)
        places = {view.ctypes.data for view in views.values()}
        assert places.isdisjoint(row.ctypes.data for row in m.values())

    def test_rows_are_reused_when_the_view_goes(self, make_case):
        m = make_case((4,), count=1000).map
        views = [m[key] for key in range(1000)]
        m.delete_many(np.arange(1000))
        assert m.stats().rows_held == 1000
        del views
        assert m.stats().rows_held == 0
        size = m.nbytes
        for _ in range(20):
            m.set_many(np.arange(1000), 1.0)
            m.delete_many(np.arange(1000))
        assert m.nbytes <= size * 1.1 + 65536


class TestChurn:
    def test_flat_with_a_thousand_views(self, make_any_key_map):
        """A view holds back its own row, not what comes after it."""
        m = make_any_key_map((4,), keys=range(1000))
        views = [m[key] for key in range(1000)]
        expected = [view.copy() for view in views]
        m.delete_many(np.arange(1000))
        for key in range(1000, 1500):
            m[key] = 1.0
        sizes = []
        for turn in range(40):
            keys = np.arange(2000 + turn * 500, 2500 + turn * 500)
            m.set_many(keys, 2.0)
            for key in keys[::50].tolist():
                m[key] = 3.0
            m.delete_many(keys)
            sizes.append(m.nbytes)
        assert max(sizes[5:]) <= sizes[4] * 1.1 + COMMITTED_BYTES
        assert m.stats().rows_held == 1000
        assert all(bits(view) == bits(row) for view, row in zip(views, expected, strict=True))

    @pytest.mark.parametrize("index", ["hash", "direct", "auto"])
    def test_flat_with_views_of_living_keys(self, index):
        m = IntArrayMap(4, index=index)
        m.set_many(np.arange(3000), 1.0)
        views = [m[key] for key in range(1000)]
        sizes = []
        for _ in range(50):
            for key in range(1000, 1100):
                del m[key]
            for key in range(1000, 1100):
                m[key] = 2.0
            sizes.append(m.nbytes)
        assert max(sizes) <= sizes[0] * 1.05 + 4096
        assert all(np.shares_memory(view, m[key]) for key, view in enumerate(views))

    @pytest.mark.parametrize("index", ["hash", "direct", "auto"])
    def test_flat_with_short_lived_views(self, index):
        m = IntArrayMap(4, index=index)
        m.set_many(np.arange(100), 1.0)
        size = None
        for turn in range(5000):
            view = m[turn % 100]
            del m[turn % 100]
            m[turn % 100] = 1.0
            assert view.shape == (4,)
            if turn == 500:
                size = m.nbytes
        assert m.nbytes <= size * 1.05 + 4096
        del view
        assert m.stats().views == 0
        assert m.stats().rows_held == 0


class TestCompact:
    def test_needs_no_view_alive(self, make_case):
        case = make_case((4,))
        m = case.map
        view = m[5]
        with pytest.raises(BufferError):
            m.compact()
        case.check()
        assert np.shares_memory(view, m[5])
        del view
        m.compact()
        case.check()

    def test_a_view_of_a_deleted_key_counts(self, make_map):
        m = make_map(keys=range(10))
        view = m[5]
        del m[5]
        with pytest.raises(BufferError):
            m.compact()
        assert view.shape == (3,)
        del view
        m.compact()
        assert sorted(m) == [0, 1, 2, 3, 4, 6, 7, 8, 9]

    def test_a_view_from_before_clear_does_not(self, make_case):
        """The cleared map has storage of its own; if the old view still counts, compact must say so and no more."""
        m = make_case(count=10).map
        view = m[5]
        before = view.copy()
        m.clear()
        m[1] = 1.0
        try:
            m.compact()
        except BufferError:
            pass
        assert bits(view) == bits(before)
        assert m[1].tolist() == [1.0] * 3


class TestReadersSeeNoNeighbourByPointer:
    def test_row_bytes_are_the_rows_own(self, make_case):
        """What lies at the view's address is the row, for its whole length."""
        m = make_case((5,), "int16", 30).map
        for key in range(30):
            view = m[key]
            raw = ctypes.string_at(view.ctypes.data, view.nbytes)
            assert raw == bits(rows_for(30, (5,), "int16")[key])
