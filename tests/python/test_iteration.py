"""Promise §4: iteration refuses changes; scan() lives with them under Go's rules."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model import FAR_KEY, KINDS, bits, build_case

WAYS = {
    "iter": iter,
    "keys": lambda m: iter(m.keys()),
    "values": lambda m: iter(m.values()),
    "items": lambda m: iter(m.items()),
    "reversed": reversed,
    "reversed items": lambda m: reversed(m.items()),
}
CHANGES = {
    "insert": lambda m: m.__setitem__(90_000, 1.0),
    "setdefault": lambda m: m.setdefault(90_000),
    "update": lambda m: m.update({90_000: 1.0}),
    "set_many": lambda m: m.set_many([1, 90_000], 1.0),
    "add_many": lambda m: m.add_many([90_000], 1.0),
    "add_at": lambda m: m.add_at([90_000], 0),
    "ensure_many": lambda m: m.ensure_many([90_000]),
    "del": lambda m: m.__delitem__(50),
    "pop": lambda m: m.pop(50),
    "popitem": lambda m: m.popitem(),
    "delete_many": lambda m: m.delete_many([50]),
    "pop_many": lambda m: m.pop_many([50]),
    "clear": lambda m: m.clear(),
    "insert and delete": lambda m: (m.__setitem__(90_000, 1.0), m.__delitem__(50)),
    "delete and insert": lambda m: (m.__delitem__(50), m.__setitem__(90_000, 1.0)),
    "delete and insert the same": lambda m: (m.__delitem__(50), m.__setitem__(50, 1.0)),
    "insert and delete the same": lambda m: (m.__setitem__(90_000, 1.0), m.__delitem__(90_000)),
}
OVERWRITES = {
    "setitem": lambda m: m.__setitem__(50, 1.0),
    "view": lambda m: m[50].fill(2.0),
    "setdefault": lambda m: m.setdefault(50, 9.0),
    "update": lambda m: m.update({50: 1.0}),
    "set_many": lambda m: m.set_many([50, 51, 50], 1.0),
    "add_many": lambda m: m.add_many([50, 50], 1.0),
    "add_at": lambda m: m.add_at([50], [2]),
    "ensure_many": lambda m: m.ensure_many([50]),
    "delete nothing": lambda m: m.delete_many([90_000]),
    "pop nothing": lambda m: (m.pop(90_000, None), m.pop_many([90_000], 0)),
    "merge": lambda m: m.merge(m),
    "reserve": lambda m: m.reserve(20_000),
    "lookups": lambda m: (m.get(50), 51 in m, m.get_many([50]), m == {}, m.copy()),
}


class TestIteration:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("change", CHANGES)
    def test_adding_or_deleting_raises_at_the_next_step(self, make_case, way, change):
        m = make_case().map
        steps = WAYS[way](m)
        next(steps)
        next(steps)
        CHANGES[change](m)
        with pytest.raises(RuntimeError):
            next(steps)

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("overwrite", OVERWRITES)
    def test_overwriting_is_fine(self, make_case, way, overwrite):
        m = make_case().map
        expected = len(m)
        steps = WAYS[way](m)
        next(steps)
        OVERWRITES[overwrite](m)
        assert sum(1 for _ in steps) == expected - 1

    @pytest.mark.parametrize("way", WAYS)
    def test_before_the_first_step(self, make_case, way):
        m = make_case().map
        steps = WAYS[way](m)
        m[90_000] = 1.0
        with pytest.raises(RuntimeError):
            next(steps)

    @pytest.mark.parametrize("way", WAYS)
    def test_at_the_end(self, make_map, way):
        m = make_map(keys=range(10))
        steps = WAYS[way](m)
        for _ in range(10):
            next(steps)
        m[11] = 1.0
        with pytest.raises(RuntimeError, match="changed during iteration"):
            next(steps)

    @pytest.mark.parametrize("way", WAYS)
    def test_exhausted_stays_exhausted(self, make_map, way):
        m = make_map(keys=range(10))
        steps = WAYS[way](m)
        assert len(list(steps)) == 10
        for _ in range(3):
            with pytest.raises(StopIteration):
                next(steps)

    def test_writing_through_the_views(self, make_case):
        case = make_case()
        for key, row in case.map.items():
            row += key % 7
            case.model[key] += key % 7
        for row in case.map.values():
            row *= 2
        for row in case.model.values():
            row *= 2
        case.check()

    def test_two_at_once(self, make_case):
        m = make_case().map
        assert sum(1 for a, b in zip(m, m.items(), strict=True) if a == b[0]) == len(m)

    def test_iterators_keep_the_map_alive(self, make_map):
        steps = iter(make_map(keys=range(10)).items())
        assert sorted(key for key, _ in steps) == list(range(10))

    @pytest.mark.parametrize("way", WAYS)
    def test_compact_in_between(self, make_case, way):
        """No promise which; but nothing wrong may come out."""
        case = make_case()
        m = case.map
        steps = WAYS[way](m)
        next(steps)
        try:
            m.compact()
            rest = sum(1 for _ in steps)
        except (RuntimeError, BufferError):
            rest = len(m) - 1
        assert rest == len(m) - 1
        del steps
        case.check()

    def test_length_hint_is_no_lie(self, make_map):
        m = make_map(keys=range(100))
        assert len(list(m)) == len([*m.items()]) == len(tuple(m.values())) == 100


class TestScan:
    def test_walks_the_rows(self, make_case):
        case = make_case()
        came = {}
        for key, view in case.map.scan():
            assert type(key) is int
            assert np.shares_memory(view, case.map[key])
            assert key not in came
            came[key] = view.copy()
        assert came.keys() == case.model.keys()
        assert all(bits(came[key]) == bits(row) for key, row in case.model.items())

    def test_views_are_writable(self, make_case):
        case = make_case()
        for key, view in case.map.scan():
            view[0] = key % 5
            case.model[key][0] = key % 5
        case.check()

    def test_is_an_iterator(self, make_map):
        scan = make_map(keys=[1]).scan()
        assert iter(scan) is scan
        next(scan)
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(scan)

    def test_deleted_keys_do_not_come(self, make_case):
        m = make_case().map
        scan = m.scan()
        first = next(scan)[0]
        gone = [key for key in m if key != first and key % 2]
        m.delete_many(np.array(gone))
        came = [first] + [key for key, _ in scan]
        assert len(came) == len(set(came))
        assert set(came) == set(m)

    def test_deleting_the_current_key(self, make_case):
        m = make_case().map
        count = len(m)
        came = []
        for key, _ in m.scan():
            came.append(key)
            del m[key]
        assert len(set(came)) == len(came) == count
        assert len(m) == 0

    def test_growth_in_between(self, make_any_key_map):
        m = make_any_key_map(keys=range(200))
        count = 10 if make_any_key_map.traits.few_chains else 100
        came = []
        for turn, (key, _) in enumerate(m.scan()):
            came.append(key)
            if turn < 100:
                start = 1000 + turn * count
                m.set_many(np.arange(start, start + count), 1.0)
                if turn == 50:
                    m[FAR_KEY] = 1.0
        assert len(came) == len(set(came))
        assert set(range(200)) <= set(came) <= set(m)

    def test_clear_ends_it(self, make_case):
        m = make_case().map
        scan = m.scan()
        next(scan)
        m.clear()
        for key in range(50):
            m[key] = 1.0
        for _ in range(3):
            with pytest.raises(StopIteration):
                next(scan)

    def test_compact_waits_for_scans(self, make_case):
        case = make_case()
        m = case.map
        scan = m.scan()
        next(scan)
        assert m.stats().scans == 1
        with pytest.raises(BufferError):
            m.compact()
        case.check()
        del scan
        assert m.stats().scans == 0
        m.compact()
        case.check()

    def test_on_an_empty_map(self, make_map):
        m = make_map()
        assert list(m.scan()) == []
        assert m.stats().scans == 0

    def test_keeps_the_map_alive(self, make_map):
        assert sorted(key for key, _ in make_map(keys=range(20)).scan()) == list(range(20))

    def test_leaving_in_between(self):
        """The index changes under the scan's feet, the rows do not."""
        case = build_case("leaving")
        m = case.map
        came = []
        for turn, (key, _) in enumerate(m.scan()):
            came.append(key)
            m[FAR_KEY + 1 + turn % 500] = 1.0
        assert len(came) == len(set(came))
        assert set(case.model) <= set(came) <= set(m)
        assert m._check() is None

    @pytest.mark.parametrize("kind", list(KINDS))
    @given(seed=st.integers(0, 2**32))
    def test_rules_under_random_changes(self, kind, seed):
        rng = random.Random(seed)
        case = build_case(kind, (1,), count=rng.choice([0, 1, 10, 64, 65]) or 1)
        m = case.map
        present = set(m)
        throughout = set(present)
        born: dict[int, int] = {}  # key -> how often it was deleted and inserted again
        deleted: dict[int, int] = {}
        came: dict[int, int] = {}
        scan = m.scan()
        cleared = False
        top = max(k for k in present if k < FAR_KEY) + 1
        for _ in range(rng.choice([20, 100, 300])):
            for _ in range(rng.randrange(4)):
                key = rng.randrange(300)
                if key in present and rng.random() < 0.7:
                    del m[key]
                    present.discard(key)
                    throughout.discard(key)
                    deleted[key] = deleted.get(key, 0) + 1
                else:
                    key = rng.choice([top, rng.randrange(top + 200), *list(deleted)[:5]])
                    top = max(top, key + 1)
                    if key not in present and deleted.get(key):
                        born[key] = born.get(key, 0) + 1
                    m[key] = float(key % 100)
                    present.add(key)
            if rng.random() < 0.003:
                m.clear()
                present.clear()
                cleared = True
            step = next(scan, None)
            if step is None:
                break
            key, view = step
            assert not cleared, "clear ends a scan"
            assert key in present, "a deleted key came"
            assert np.shares_memory(view, m[key])
            came[key] = came.get(key, 0) + 1
            assert came[key] <= 1 + born.get(key, 0), "a key came twice"
            del view, step
        else:
            if not cleared:
                for key, _ in scan:
                    came[key] = came.get(key, 0) + 1
                    assert key in present
        if not cleared:
            assert all(came.get(key) == 1 for key in throughout), "a key present throughout comes exactly once"
        assert m._check() is None
