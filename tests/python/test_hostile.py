"""Promise §7: hostile objects, code that changes the map in the middle, and rubbish in every argument."""

from __future__ import annotations

import gc
import operator
import os
import pickle
import random

import numpy as np
import pytest
from hostile_objects import Array, ChildArray, HostileError, Index, child, quietly, refused_init
from model import DOCUMENTED_ERRORS, FAR_KEY, KEY_MAX, KEY_MIN, bits, build_map, copy_of, rows_for

from intarraymap import IntArrayMap


class Raises:
    """Raises from every method an argument could be asked for."""

    def _raise(self, *_, **__):
        raise HostileError

    __index__ = __int__ = __float__ = __complex__ = __len__ = __iter__ = __getitem__ = __array__ = __bool__ = _raise
    __contains__ = __hash__ = __eq__ = __ne__ = __lt__ = __str__ = __bytes__ = __buffer__ = __reversed__ = _raise

    @property
    def __array_interface__(self):
        raise HostileError

    @property
    def __array_struct__(self):
        raise HostileError

    @property
    def dtype(self):
        raise HostileError

    @property
    def shape(self):
        raise HostileError


class BadIndex:
    def __init__(self, answer):
        self.answer = answer

    def __index__(self):
        return self.answer


class LyingSequence:
    """Says one length and has another."""

    def __init__(self, says, has):
        self.says, self.has = says, has

    def __len__(self):
        return self.says

    def __getitem__(self, place):
        if place >= self.has:
            raise IndexError(place)
        return 1


#: What code in the middle of a call may do to the map it is called from.
ACTIONS = {
    "clear": lambda m: m.clear(),
    "close": lambda m: m.close(),
    "init": refused_init,
    "delete the key": lambda m: m.pop(5, None),
    "insert many": lambda m: m.set_many(np.arange(10_000, 11_500), 1.0),
    "delete many": lambda m: m.delete_many(np.arange(100)),
    "overwrite": lambda m: m.set_many(np.arange(50), 7.0),
    "compact": lambda m: quietly(m.compact),
    "use": lambda m: (m[6], m.get_many([7]), list(m)[:2], m.copy()),
    "collect": lambda m: gc.collect(0),
}


def outcome(call, *allowed):
    """The result, or the documented error; anything else fails the test."""
    try:
        return call()
    except (*DOCUMENTED_ERRORS, *allowed) as error:
        return error


def still_sound(m):
    try:
        len(m)
    except ValueError:
        return
    assert m._check() is None
    keys, rows = m.to_arrays()
    assert len(keys) == len(rows) == len(m)
    m[5] = 3.0
    assert m[5][0] == 3.0


class TestHostileKeys:
    @pytest.mark.parametrize("action", ACTIONS)
    def test_index_that_acts(self, make_map, action):
        calls = [
            lambda m, key: m[key],
            lambda m, key: m.__setitem__(key, 1.0),
            lambda m, key: m.__delitem__(key),
            lambda m, key: key in m,
            lambda m, key: m.get(key),
            lambda m, key: m.pop(key),
            lambda m, key: m.pop(key, None),
            lambda m, key: m.setdefault(key),
            lambda m, key: m.setdefault(key, 1.0),
            lambda m, key: m.update({6: 1.0}) or m.update([(key, 1.0)]),
            lambda m, key: m.reserve(key),
        ]
        for call in calls:
            m = make_map(keys=range(100))
            outcome(lambda m=m, call=call: call(m, Index(lambda: ACTIONS[action](m))))
            still_sound(m)

    @pytest.mark.parametrize("answer", [1.0, "1", None, 2**70, 5, np.int8(5)])
    def test_index_that_answers_nonsense(self, make_map, answer):
        m = make_map(keys=[1, 5])
        key = BadIndex(answer)
        legal = isinstance(answer, int)
        for call in (lambda: m[key], lambda: m.get(key), lambda: m.__setitem__(key, 1.0), lambda: m.pop(key, None)):
            got = outcome(call)
            assert legal or isinstance(got, TypeError)
        outcome(lambda: key in m)
        still_sound(m)

    def test_errors_come_through(self, make_map):
        m = make_map(keys=[1, 5])
        before = copy_of(m)
        calls = [
            lambda: m[Raises()],
            lambda: m.__setitem__(Raises(), 1.0),
            lambda: m.__delitem__(Raises()),
            lambda: Raises() in m,
            lambda: m.get(Raises()),
            lambda: m.pop(Raises(), None),
            lambda: m.setdefault(Raises()),
            lambda: m.update([(Raises(), 1.0)]),
            lambda: m.update(Raises()),
            lambda: m.reserve(Raises()),
        ]
        for call in calls:
            with pytest.raises((HostileError, TypeError)):
                call()
        with pytest.raises(HostileError):
            m[Raises()]
        assert copy_of(m).keys() == before.keys()

    def test_key_arrays(self, make_map):
        m = make_map(keys=range(20))
        objects = np.empty(2, object)
        objects[0], objects[1] = 1, Raises()
        for keys in (
            Raises(),
            [Raises()],
            [1, Raises()],
            objects,
            [Index(m.clear)],
            LyingSequence(5, 2),
            LyingSequence(2, 5),
            LyingSequence(-1, 5),
            LyingSequence(2**62, 5),
            Array(lambda: None, "nonsense"),
            Array(lambda: None, np.array([1.5])),
            Array(lambda: None, None),
        ):
            for name in ("get_many", "contains_many", "index_many", "delete_many", "pop_many", "ensure_many"):
                outcome(lambda name=name, keys=keys: getattr(m, name)(keys), HostileError)
                assert m._check() is None
            for name in ("set_many", "add_many"):
                outcome(lambda name=name, keys=keys: getattr(m, name)(keys, 1.0), HostileError)
                assert m._check() is None
        still_sound(m)

    @pytest.mark.parametrize("action", ACTIONS)
    @pytest.mark.parametrize(
        "call", ["get_many", "set_many", "add_many", "delete_many", "pop_many", "ensure_many", "contains_many"]
    )
    def test_key_array_that_acts(self, make_map, action, call):
        m = make_map(keys=range(100))
        keys = Array(lambda: ACTIONS[action](m), np.arange(50))
        arguments = (1.0,) if call in ("set_many", "add_many") else ()
        outcome(lambda: getattr(m, call)(keys, *arguments))
        still_sound(m)


class TestHostileRows:
    @pytest.mark.parametrize("action", ACTIONS)
    def test_array_that_acts(self, make_map, action):
        calls = [
            lambda m, row: m.__setitem__(5, row),
            lambda m, row: m.__setitem__(5000, row),
            lambda m, row: m.setdefault(5000, row),
            lambda m, row: m.update({5: row, 6: 1.0}),
            lambda m, row: m.set_many([5, 6], row),
            lambda m, row: m.add_many([5, 6000], row),
            lambda m, row: m.update_many([5, 6000], row, "max"),
            lambda m, row: m.ensure_many([5, 6000], row),
            lambda m, row: m.get_many([5, 6000], row),
            lambda m, row: m.pop_many([5, 6000], row),
            lambda m, row: m.add_at([5, 6000], [0, 1], Array(row.action, np.array(1.0))),
            lambda m, row: row in m.values(),
            lambda m, row: (5, row) in m.items(),
            lambda m, row: m == {5: row},
        ]
        for call in calls:
            m = make_map(keys=range(100))
            row = Array(lambda m=m: ACTIONS[action](m), np.ones(3))
            outcome(lambda m=m, call=call, row=row: call(m, row))
            still_sound(m)

    def test_nonsense(self, make_map):
        m = make_map(keys=range(10))
        endless = []
        endless.append(endless)
        deep = 1.0
        for _ in range(5000):
            deep = [deep]

        class Interface:
            def __init__(self, **fields):
                self.__array_interface__ = {"version": 3, **fields}

        rows = [
            Raises(),
            [Raises()] * 3,
            [1.0, 2.0, Raises()],
            endless,
            deep,
            LyingSequence(3, 1),
            LyingSequence(2**60, 1),
            Array(lambda: None, "x"),
            Array(lambda: None, None),
            Array(lambda: None, np.array([None] * 3)),
            Interface(shape=(-1,), typestr="<f8"),
            Interface(shape="x", typestr="q"),
            Interface(),
            np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]),
            np.array(b"abc"),
            memoryview(b"abcdefgh" * 3),
            bytearray(24),
            type,
            IntArrayMap(3),
            m,
            (x for x in (1.0, 2.0, 3.0)),
            range(3),
            np.random.default_rng(),
        ]
        for row in rows:
            for call in (
                lambda row=row: m.__setitem__(5, row),
                lambda row=row: m.__setitem__(77, row),
                lambda row=row: m.set_many([5, 78], row),
                lambda row=row: m.add_many([5], row),
                lambda row=row: m.update({5: row}),
                lambda row=row: m.get_many([99], row),
                lambda row=row: m.add_at([5], 0, row),
                lambda row=row: m.add_at([5], row, 1.0),
                lambda row=row: row in m.values(),
                lambda row=row: m == {5: row},
            ):
                outcome(call, HostileError)
        still_sound(m)

    def test_errors_come_through(self, make_map):
        m = make_map(keys=range(10))
        before = copy_of(m)
        for call in (
            lambda: m.__setitem__(5, Raises()),
            lambda: m.set_many([5], Raises()),
            lambda: m.update({5: Raises()}),
            lambda: m.setdefault(77, Raises()),
        ):
            with pytest.raises((HostileError, TypeError)):
                call()
        assert copy_of(m).keys() == before.keys()

    def test_float_is_not_asked(self, make_map):
        class Float:
            def __float__(self):
                raise AssertionError("objects are never parsed into numbers")

            __int__ = __complex__ = __float__

        m = make_map(keys=range(10))
        for row in (Float(), [Float()] * 3, np.array([Float()] * 3)):
            with pytest.raises(TypeError):
                m[5] = row


class TestHostileComparisons:
    def test_eq_that_raises(self, make_map):
        m = make_map(keys=[1, 2])
        outcome(lambda: m == {1: Raises(), 2: Raises()}, HostileError)
        outcome(lambda: Raises() in m.values(), HostileError)
        outcome(lambda: (1, Raises()) in m.items(), HostileError)
        outcome(lambda: Raises() in m.keys(), HostileError)
        outcome(lambda: m == Raises(), HostileError)
        still_sound(m)

    @pytest.mark.parametrize("action", ACTIONS)
    def test_mapping_that_acts(self, make_map, action):
        class Mapping(dict):
            def __getitem__(self, key):
                ACTIONS[action](m)
                return super().__getitem__(key)

            def get(self, key, default=None):
                ACTIONS[action](m)
                return super().get(key, default)

            def keys(self):
                ACTIONS[action](m)
                return super().keys()

            def items(self):
                ACTIONS[action](m)
                return super().items()

            def __iter__(self):
                ACTIONS[action](m)
                return super().__iter__()

        calls = [
            lambda m, other: m == other,
            lambda m, other: other == m,
            lambda m, other: m.update(other),
            lambda m, other: m | other,
            lambda m, other: m.__ior__(other),
            lambda m, other: m.keys() & other,
        ]
        for call in calls:
            m = make_map(keys=range(100))
            outcome(lambda m=m, call=call: call(m, Mapping({key: np.ones(3) for key in range(100)})))
            still_sound(m)


class TestGeneratorsThatChangeTheMap:
    @pytest.mark.parametrize("action", ACTIONS)
    @pytest.mark.parametrize("call", ["update", "__ior__", "fromkeys"])
    def test_in_the_middle(self, make_map, action, call):
        m = make_map(keys=range(100))

        def source():
            for key in range(50, 150):
                if key == 100:
                    ACTIONS[action](m)
                yield (key, np.full(3, 4.0)) if call != "fromkeys" else key

        arguments = (source(), np.full(3, 4.0)) if call == "fromkeys" else (source(),)
        got = outcome(lambda: getattr(m, call)(*arguments))
        if action == "close" and call != "fromkeys":
            assert isinstance(got, ValueError)
        else:
            assert not isinstance(got, Exception), got
            other = got if call == "fromkeys" else m
            assert (other.get_many(np.arange(50, 150)) == 4.0).all(), "read to its end first, then applied as a whole"
        still_sound(m)

    def test_map_as_its_own_source(self, make_map):
        m = make_map(keys=range(100))
        m.update((key + 100, row) for key, row in list(m.items()))
        assert len(m) == 200
        with pytest.raises(RuntimeError):
            m.update((key + 1000, m.setdefault(key + 5000)) for key in m)
        still_sound(m)

    def test_generator_that_iterates_the_map(self, make_map):
        m = make_map(keys=range(100))
        before = {key: row.tolist() for key, row in m.items()}
        m.update((key + 100, row) for key, row in m.items())
        assert len(m) == 200
        assert all(m[key + 100].tolist() == row for key, row in before.items())


class TestViewsMadeByHand:
    def test_base(self, make_map):
        m = make_map(keys=range(10))
        base = m[5].base
        kind = type(base)
        for call in (
            lambda: kind(),
            lambda: kind.__new__(kind),
            lambda: object.__new__(kind),
            lambda: kind(m),
            lambda: kind(m, 5),
            lambda: kind(0),
            lambda: np.asarray(base),
            lambda: memoryview(base),
            lambda: bytes(base),
            lambda: pickle.dumps(base),
            lambda: base.__init__(),
            lambda: base.__reduce_ex__(2),
            lambda: base.__setstate__({}),
            lambda: base.__array_interface__,
            lambda: gc.get_referents(base),
            lambda: repr(base),
            lambda: base == base,
        ):
            outcome(call, AttributeError, pickle.PicklingError)
        base = None
        assert m[5].tolist() == rows_for(10)[5].tolist()
        gc.collect()
        still_sound(m)

    def test_helper_types_of_the_map(self, make_map):
        """Iterators, scans, statistics, mapping views: none can be made or broken from outside."""
        m = make_map(keys=range(10))
        things = [
            iter(m),
            m.scan(),
            iter(m.items()),
            iter(m.values()),
            reversed(m),
            m.keys(),
            m.items(),
            m.values(),
            m.stats(),
        ]
        things += list(m.blocks())
        for thing in things:
            kind = type(thing)
            for call in (
                lambda kind=kind: kind(),
                lambda kind=kind: kind.__new__(kind),
                lambda kind=kind: kind(None),
                lambda kind=kind: kind(5, 6),
                lambda kind=kind: next(kind.__new__(kind)),
                lambda kind=kind: list(kind.__new__(kind)),
                lambda kind=kind: len(kind.__new__(kind)),
                lambda kind=kind: repr(kind.__new__(kind)),
                lambda thing=thing: thing.__reduce_ex__(2),
                lambda thing=thing: thing.__setstate__((1, 2, 3)),
                lambda thing=thing: thing.__init__(),
                lambda thing=thing: thing.__init__(7),
            ):
                outcome(call, AttributeError, pickle.PicklingError, StopIteration)
        things = thing = None
        gc.collect()
        still_sound(m)

    def test_base_class_of_the_binding(self):
        """Table on its own, and IntArrayMap with other bases' __new__."""
        table = IntArrayMap.__bases__[0]
        for call in (
            lambda: table(),
            lambda: table.__new__(table),
            lambda: len(table.__new__(table)),
            lambda: table.__new__(table)[1],
            lambda: object.__new__(IntArrayMap),
            lambda: table.__init__(IntArrayMap.__new__(IntArrayMap)),
            lambda: repr(table.__new__(table)),
        ):
            outcome(call, AttributeError)
        assert len(IntArrayMap(1)) == 0

    @pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")  # NumPy 2.5 on
    def test_attribute_changes(self, make_map):
        """Arrays are the caller's: shape, dtype and strides of a view may be set, the map stays sound."""
        m = make_map((4,), keys=range(10))
        view = m[5]
        view.shape = (2, 2)
        with pytest.raises(ValueError):
            view.shape = (5,)
        for array in (view, m.blocks()[0][2], m.to_arrays()[1]):
            outcome(lambda array=array: setattr(array, "flags", None), AttributeError)
        view = array = None
        still_sound(m)


class TestHostilePickles:
    def test_state(self, make_map):
        """What __reduce_ex__ gives, with something else in each place: an error or a sound map."""
        m = make_map(keys=range(10))
        rubbish = [None, (), 5, "x", b"", {}, [], (1,), (None, None), np.ones(3), -1, 2**70, b"\0" * 100, 1.5, object]
        for protocol in (2, 5):
            reduced = m.__reduce_ex__(protocol)
            function, arguments = reduced[0], reduced[1]
            for place in range(len(arguments)):
                for wrong in rubbish:
                    bad = (*arguments[:place], wrong, *arguments[place + 1 :])
                    got = outcome(lambda bad=bad, function=function: function(*bad), AttributeError)
                    if isinstance(got, IntArrayMap):
                        outcome(lambda got=got: (len(got), got._check(), got.to_arrays()), AttributeError)
            for wrong in rubbish:
                fresh = function(*arguments)
                if hasattr(fresh, "__setstate__"):
                    outcome(lambda fresh=fresh, wrong=wrong: fresh.__setstate__(wrong), AttributeError, KeyError)
                    outcome(lambda fresh=fresh: fresh._check())
        if hasattr(m, "__setstate__"):
            for wrong in rubbish:
                outcome(lambda wrong=wrong: m.__setstate__(wrong), AttributeError)
        still_sound(m)

    @pytest.mark.parametrize("protocol", [2, 5])
    def test_cut_and_flipped(self, protocol):
        """Pickle is no safe format, but bytes that only name our own types may not crash."""
        m = build_map("hash", (2,), "int16", range(20))
        data = pickle.dumps(m, protocol)
        rng = random.Random(1)
        allowed = (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, UnicodeDecodeError)
        for cut in range(0, len(data), max(1, len(data) // 60)):
            got = outcome(lambda cut=cut: pickle.loads(data[:cut]), *allowed)
            assert isinstance(got, Exception)
        rows_start = data.find(np.arange(20).tobytes()[:40])
        for _ in range(200):
            if rows_start < 0:
                break
            broken = bytearray(data)
            broken[rows_start + rng.randrange(100)] ^= 1 << rng.randrange(8)  # keys: duplicates, perhaps
            got = outcome(lambda broken=broken: pickle.loads(bytes(broken)), *allowed)
            if isinstance(got, IntArrayMap):
                assert got._check() is None
        assert pickle.loads(data) == m


class TestSubclassesThatOverride:
    def test_everything(self):
        class Odd(IntArrayMap):
            def __getitem__(self, key):
                raise HostileError

            __setitem__ = __len__ = __iter__ = __contains__ = get = keys = items = values = __getitem__

        m = Odd(2)
        m.set_many([1, 2], 3.0)
        plain = IntArrayMap(2)
        for call in (
            lambda: m.copy(),
            lambda: pickle.dumps(m),
            lambda: repr(m),
            lambda: m == plain,
            lambda: plain == m,
            lambda: plain.update(m),
            lambda: plain.merge(m),
            lambda: m.update(plain),
            lambda: plain | m,
            lambda: m.to_arrays(),
            lambda: m.stats(),
            lambda: m.popitem(),
        ):
            outcome(call, HostileError, AttributeError)  # a class inside a function cannot be pickled
        assert m._check() is None
        assert plain._check() is None

    def test_init_that_calls_twice(self):
        class Twice(IntArrayMap):
            def __init__(self):
                super().__init__(2)
                self[1] = 5.0
                with pytest.raises(RuntimeError):
                    super().__init__(3)

        assert Twice()[1].tolist() == [5.0, 5.0]

    def test_deleted_attributes(self):
        m = IntArrayMap(2)
        for name in ("row_shape", "dtype", "index", "nbytes", "_map", "_table", "__dict__", "__class__"):
            outcome(lambda name=name: delattr(m, name), AttributeError)
        m[1] = 1.0
        assert m._check() is None
        outcome(lambda: setattr(m, "__class__", dict))
        outcome(lambda: setattr(m, "__class__", IntArrayMap))
        assert m[1].tolist() == [1.0, 1.0]


class TestStrangeArrays:
    def test_huge_strides_and_zero_strides(self, make_map):
        m = make_map((2,), keys=range(100))
        one = np.array([5], "i8")
        keys = np.lib.stride_tricks.as_strided(one, (1000,), (0,))
        assert m.get_many(keys).shape == (1000, 2)
        m.add_many(keys, 1.0)
        rows = np.lib.stride_tricks.as_strided(np.array([1.0, 2.0]), (1000, 2), (0, 8))
        m.add_many(keys, rows)
        m.set_many(keys, rows)
        assert m[5].tolist() == [1.0, 2.0]
        out = np.lib.stride_tricks.as_strided(np.zeros(2), (1000, 2), (0, 8))
        outcome(lambda: m.get_many(keys, out=out))
        assert m._check() is None

    def test_shape_that_overflows(self, make_map):
        m = make_map((2,), keys=range(10))
        huge = np.broadcast_to(np.zeros((), "i1"), (2**62,))
        wide = np.broadcast_to(np.zeros((), "i1"), (2**31, 2**31))
        for call in (
            lambda: m.get_many(huge),
            lambda: m.get_many(wide),
            lambda: m.contains_many(wide),
            lambda: m.set_many(huge, np.zeros(2)),
            lambda: m.set_many(np.zeros(3, "i8"), np.broadcast_to(0.0, (2**40, 2))),
            lambda: m.add_at(np.zeros(3, "i8"), np.broadcast_to(np.int64(0), (2**40,))),
            lambda: m.__setitem__(5, np.broadcast_to(0.0, (2**40,))),
        ):
            outcome(call)
        still_sound(m)

    @pytest.mark.parametrize("shape", [(0, 2**40), (2**40, 0), (0, 2**62, 0)])
    def test_empty_with_enormous_axes(self, make_map, shape):
        m = make_map((2,), keys=range(10))
        keys = np.broadcast_to(np.zeros((), "i1"), shape)
        got = outcome(lambda: m.get_many(keys))
        assert isinstance(got, Exception) or got.shape == (*shape, 2)
        outcome(lambda: m.contains_many(keys))
        outcome(lambda: m.set_many(keys, 1.0))
        outcome(lambda: m.delete_many(keys))
        still_sound(m)

    def test_subclasses_of_ndarray(self, make_map):
        def give_up():
            raise HostileError

        m = make_map(keys=range(10))
        before = copy_of(m)
        keys = child(ChildArray, give_up, np.arange(5))
        rows = child(ChildArray, give_up, np.ones((5, 3)))
        row = child(ChildArray, give_up, np.ones(3))
        for call in (
            lambda: m.get_many(keys),
            lambda: m.set_many(keys, 1.0),
            lambda: m.set_many(np.arange(5), rows),
            lambda: m.get_many(np.arange(5), out=rows),
            lambda: m.get_many([77] * 5, rows),
            lambda: m.add_many(keys, 1.0),
            lambda: m.__setitem__(5, row),
        ):
            with pytest.raises(HostileError):
                call()
        after = copy_of(m)
        assert after.keys() == before.keys() and all(bits(after[key]) == bits(before[key]) for key in before)
        keys.action = rows.action = None
        m.set_many(keys, rows)
        assert m.get_many(keys).tolist() == np.ones((5, 3)).tolist()
        still_sound(m)
        matrix = np.array([[1.0, 2.0, 3.0]]).view(np.matrix)
        with pytest.raises(ValueError):
            m[5] = matrix
        masked = np.ma.masked_array([1, 2, 3], [False, True, False])
        got = outcome(lambda: m.get_many(masked))
        assert isinstance(got, TypeError) or type(got) is np.ndarray


RUBBISH = [
    None, True, False, 0, 1, -1, 5, 7, 12, 2**31, 2**63, -(2**63), 2**64, KEY_MAX, KEY_MIN, FAR_KEY, 10**30, 1.0, -0.0,
    float("nan"), float("inf"), 1e308, 1j, "", "add", "xor", "5", b"", b"abc", (), (1,), (1, 2), [], [1], [1, 2, 3],
    [[1, 2], [3, 4]], [1.5], ["a"], [None], {}, {1: 2}, {1: [1, 2, 3]}, {"a": 1}, set(), {1}, object(), int, len,
    np.arange(3), np.arange(6).reshape(2, 3), np.ones(3), np.ones((3, 3)), np.ones((2, 3), "f4"), np.zeros(0),
    np.zeros((0, 3)), np.array(5), np.array(5.0), np.array("x"), np.array([1, None]), np.arange(3, dtype="u8") + 2**63,
    np.arange(3, dtype=">i4"), np.datetime64("2020"), np.float16(1), np.int8(3), np.bool_(True), range(3), slice(1, 2),
    Ellipsis, NotImplemented, iter([1, 2]), memoryview(b"abcdefgh"), "float32", np.dtype("f4"), np.float64,
]  # fmt: skip
METHODS = """
__getitem__ __setitem__ __delitem__ __contains__ __eq__ __or__ __ior__ __ror__ get pop popitem setdefault update keys
values items copy get_many set_many add_many update_many add_at contains_many delete_many pop_many index_many
ensure_many merge to_arrays blocks reserve stats scan fromkeys from_arrays __reduce_ex__ __copy__
__getstate__ __init__ __format__ __sizeof__ __enter__ __exit__ compact clear _check __class_getitem__
save load open to_arrow from_arrow to_npz from_npz
""".split()


@pytest.mark.parametrize("seed", range(12))
def test_rubbish_in_every_argument(make_map, seed, tmp_path, monkeypatch):
    """Thousands of calls nobody means: the documented errors, no crash, and a sound map afterwards."""
    monkeypatch.chdir(tmp_path)  # some of the rubbish is a path
    is_open = os.open(".", os.O_RDONLY)  # and some a descriptor, which is not ours to close
    rng = random.Random(f"{make_map.kind}-{seed}-{os.environ.get('INTARRAYMAP_SEED', '')}")
    dtype = rng.choice(["float64", "int8", "bool", "complex64", "datetime64[ns]", "float16", "uint64"])
    m = build_map(make_map.kind, (3,), dtype, range(20))
    mine = [m, m.keys(), m.items(), m.copy()]
    for _ in range(1500):
        name = rng.choice(METHODS)
        if name in ("__exit__", "__enter__") and rng.random() < 0.95:
            continue
        method = getattr(m, name, None)
        if method is None:
            continue
        arguments = [rng.choice(mine if rng.random() < 0.05 else RUBBISH) for _ in range(rng.randrange(5))]
        # Room for a few thousand million rows may well be found: asking for it would be no test of errors.
        if name == "reserve" and any(
            isinstance(a, int) and not isinstance(a, bool) and a > 2**20 for a in arguments[:1]
        ):
            if arguments[0] < 2**32 - 1:
                continue
        keywords = {}
        for keyword in ("default", "out", "return_mask", "op", "fill", "dtype", "index"):
            if rng.random() < 0.03:
                keywords[keyword] = rng.choice(RUBBISH)
        # NotImplemented as a truth value is deprecated, and a warning is an error here.
        outcome(lambda: method(*arguments, **keywords), OSError, DeprecationWarning)  # noqa: B023
        if rng.random() < 0.05:
            try:
                assert m._check() is None
            except ValueError:  # __exit__ closed it
                m = build_map(make_map.kind, (3,), dtype, range(20))
                mine = [m, m.keys(), m.items(), m.copy()]
    outcome(lambda: m._check())
    os.close(is_open)


@pytest.mark.parametrize("seed", range(6))
def test_rubbish_in_the_constructor(seed):
    rng = random.Random(f"{seed}-{os.environ.get('INTARRAYMAP_SEED', '')}")
    made = 0
    for _ in range(800):
        arguments = [rng.choice(RUBBISH) for _ in range(rng.randrange(4))]
        keywords = {name: rng.choice(RUBBISH) for name in ("capacity", "index", "seed", "dtype") if rng.random() < 0.2}
        capacity = keywords.get("capacity")
        if isinstance(capacity, int) and 2**20 < capacity < 2**32 - 1:
            continue
        if rng.random() < 0.3:
            arguments[:1] = [3]
        for call in (IntArrayMap, IntArrayMap.fromkeys, IntArrayMap.from_arrays):
            got = outcome(lambda: call(*arguments, **keywords))  # noqa: B023
            if isinstance(got, IntArrayMap):
                made += 1
                assert got._check() is None
    assert made > 10


def test_operator_module(make_map):
    """The C-level slots by their operator names."""
    m = make_map(keys=range(5))
    assert operator.contains(m, 3)
    assert operator.length_hint(m) == 5
    assert operator.getitem(m, 3).tolist() == rows_for(5)[3].tolist()
    operator.delitem(m, 3)
    assert 3 not in m
    for use in (operator.add, operator.mul, operator.matmul, operator.sub, operator.xor, operator.and_):
        with pytest.raises(TypeError):
            use(m, m)
    for use in (int, float, operator.index, operator.neg, iter([m]).__next__().__class__.__call__):
        with pytest.raises(TypeError):
            use(m)
