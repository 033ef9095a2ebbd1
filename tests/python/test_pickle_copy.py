"""Promise §4: pickles and copies keep everything but the seed."""

from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
import weakref

import numpy as np
import pytest
from model import DTYPES, assert_same, bits, build_map, copy_of, rows_for

from intarraymap import IntArrayMap
from intarraymap.pickling import rebuild


class Plain(IntArrayMap):
    pass


class Slotted(IntArrayMap):
    __slots__ = ("color", "never_set")


class Both(Slotted):
    """Slots of the parent and a __dict__ of its own."""


class Custom(IntArrayMap):
    """A constructor of another shape: copies and pickles must not call it."""

    def __init__(self, name):
        super().__init__(2, "int32")
        self.name = name


def round_trip(m, protocol):
    return pickle.loads(pickle.dumps(m, protocol))


def out_of_band(m):
    buffers = []
    data = pickle.dumps(m, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])


WAYS = {
    "copy": lambda m: m.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle 2": lambda m: round_trip(m, 2),
    "pickle 3": lambda m: round_trip(m, 3),
    "pickle 4": lambda m: round_trip(m, 4),
    "pickle 5": lambda m: round_trip(m, 5),
    "out of band": out_of_band,
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


class TestContent:
    def test_every_kind(self, make_case, way):
        case = make_case((2, 3))
        other = way(case.map)
        assert type(other) is IntArrayMap
        assert (other.row_shape, other.dtype) == ((2, 3), np.dtype("float64"))
        assert_same(other, case.model)
        case.check()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, make_map, way, dtype):
        m = make_map((3,), dtype, range(20))
        other = way(m)
        assert other.dtype == m.dtype
        assert_same(other, copy_of(m))

    def test_empty(self, make_map, way):
        other = way(make_map((4, 5), "int16"))
        assert (len(other), other.row_shape, other.dtype) == (0, (4, 5), np.dtype("int16"))
        other[3] = 7
        assert list(other) == [3]

    def test_with_holes(self, make_case, way):
        case = make_case()
        gone = np.arange(0, 100, 3)
        case.map.delete_many(gone)
        for key in gone.tolist():
            del case.model[key]
        assert_same(way(case.map), case.model)

    def test_independent(self, make_case, way):
        case = make_case()
        other = way(case.map)
        other[5] = -1.0
        other.set_many(np.arange(30_000, 31_000), 1.0)
        other.delete_many(np.arange(50))
        assert other._check() is None
        case.check()
        case.map[60] = case.model[60] = np.full(3, 77.0)
        assert other[60].tolist() != [77.0] * 3

    def test_rows_are_writable(self, make_map, way):
        other = way(make_map(keys=range(10)))
        other[3][1] = 5.0
        other.add_many([3], 1.0)
        assert other[3][1] == 6.0

    def test_views_held_do_not_matter(self, make_case, way):
        case = make_case()
        views = [case.map[key] for key in range(20)]
        case.map.delete_many(np.arange(10))
        for key in range(10):
            del case.model[key]
        other = way(case.map)
        assert_same(other, case.model)
        assert other.stats().views == 0
        assert len(views) == 20

    def test_large(self, way):
        keys = np.arange(-50_000, 50_000) * 3
        rows = rows_for(100_000, (2,), "int32")
        m = IntArrayMap.from_arrays(keys, rows)
        other = way(m)
        assert bits(other.get_many(keys)) == bits(rows)
        assert other._check() is None


class TestSubclasses:
    def test_dict(self, way):
        m = Plain(2)
        m[1] = 5.0
        m.name, m.tags = "routes", ["a", "b"]
        other = way(m)
        assert type(other) is Plain
        assert other.name == "routes"
        assert other.tags == ["a", "b"]
        assert other[1].tolist() == [5.0, 5.0]

    def test_slots(self, way):
        m = Slotted(2)
        m[1] = 5.0
        m.color = "red"
        other = way(m)
        assert type(other) is Slotted
        assert other.color == "red"
        assert not hasattr(other, "never_set")

    def test_both(self, way):
        m = Both(2)
        m[1] = 5.0
        m.color, m.name = "red", "x"
        other = way(m)
        assert (type(other), other.color, other.name) == (Both, "red", "x")
        assert other[1].tolist() == [5.0, 5.0]

    def test_constructor_of_another_shape(self, way):
        m = Custom("mine")
        m[4] = [1, 2]
        other = way(m)
        assert (type(other), other.name) == (Custom, "mine")
        assert other[4].tolist() == [1, 2]

    def test_shallow_and_deep(self):
        m = Plain(2)
        m.tags = ["a"]
        assert m.copy().tags is m.tags
        assert copy.copy(m).tags is m.tags
        deep = copy.deepcopy(m)
        assert deep.tags == m.tags
        assert deep.tags is not m.tags

    def test_a_map_that_holds_itself(self):
        m = Plain(2)
        m[1] = 3.0
        m.me = [m]
        deep = copy.deepcopy(m)
        assert deep.me[0] is deep
        for protocol in (2, 3, 4, 5):
            other = round_trip(m, protocol)
            assert other.me[0] is other
            assert other[1].tolist() == [3.0, 3.0]
        gone = weakref.ref(m)
        del m, deep, other
        gc.collect()
        assert gone() is None

    def test_deepcopy_remembers(self):
        m = IntArrayMap(2)
        pair = copy.deepcopy([m, m])
        assert pair[0] is pair[1]
        assert pair[0] is not m

    def test_fromkeys_and_or_keep_the_class_and_nothing_else(self):
        m = Plain(1)
        m.name = "x"
        assert type(m | {1: 1.0}) is Plain
        assert type(Plain.fromkeys([1], [1.0])) is Plain
        assert not hasattr(Plain.fromkeys([1], [1.0]), "name")


class TestPickle:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_seed_never_goes_along(self, protocol):
        seed = 0xFEDCBA9876543210
        m = IntArrayMap(2, index="hash", seed=seed)
        m.set_many(np.arange(100), 1.0)
        data = pickle.dumps(m, protocol)
        for text in (seed.to_bytes(8, "little"), seed.to_bytes(8, "big"), str(seed).encode(), f"{seed:x}".encode()):
            assert text not in data

    def test_out_of_band_buffers_carry_the_rows(self):
        m = IntArrayMap.from_arrays(np.arange(10_000), rows_for(10_000, (8,)))
        buffers = []
        data = pickle.dumps(m, 5, buffer_callback=buffers.append)
        assert buffers
        assert len(data) < 4096
        assert sum(buffer.raw().nbytes for buffer in buffers) >= 10_000 * 64
        other = pickle.loads(data, buffers=buffers)
        assert other == m
        other[5] = -1.0
        assert m[5].tolist() != [-1.0] * 8
        assert pickle.loads(data, buffers=buffers) == m, "the buffers are only read"

    def test_out_of_band_buffers_are_a_moment(self):
        """Taken at the time of the pickle, whatever becomes of the map."""
        m = IntArrayMap.from_arrays(np.arange(1000), rows_for(1000, (4,)))
        before = m.copy()
        buffers = []
        data = pickle.dumps(m, 5, buffer_callback=buffers.append)
        m.add_many(np.arange(1000), 5.0)
        m.delete_many(np.arange(500))
        assert pickle.loads(data, buffers=buffers) == before

    def test_writable_buffers_are_copied(self):
        m = IntArrayMap.from_arrays(np.arange(100), rows_for(100, (4,)))
        buffers = []
        data = pickle.dumps(m, 5, buffer_callback=buffers.append)
        memory = [bytearray(buffer.raw()) for buffer in buffers]
        other = pickle.loads(data, buffers=memory)
        for block in memory:
            block[:] = bytes(len(block))
        assert other == m

    @pytest.mark.parametrize("protocol", [2, 5])
    def test_in_a_container_twice(self, protocol):
        m = build_map("hash", keys=range(5))
        a, b = pickle.loads(pickle.dumps((m, m), protocol))
        assert a is b
        assert a == m

    def test_kinds_of_index_survive_in_content(self, make_case):
        case = make_case((2,), "int8")
        other = round_trip(round_trip(case.map, 5), 2)
        assert_same(other, case.model)


class TestSharedMemory:
    """Protocol 5 through multiprocessing: the rows are in shared memory and never in the pickle."""

    @staticmethod
    def share(m):
        """(pickle, shared memory with all buffers, their lengths)."""
        from multiprocessing import shared_memory

        buffers = []
        data = pickle.dumps(m, 5, buffer_callback=buffers.append)
        lengths = [buffer.raw().nbytes for buffer in buffers]
        memory = shared_memory.SharedMemory(create=True, size=sum(lengths))
        at = 0
        for buffer, length in zip(buffers, lengths, strict=True):
            memory.buf[at : at + length] = buffer.raw()
            at += length
        return data, memory, lengths

    def test_another_process_reads_it(self, run_child):
        m = IntArrayMap.from_arrays(np.arange(5000) * 10**12, rows_for(5000, (8,)))
        data, memory, lengths = self.share(m)
        try:
            assert len(data) < 4096, "the rows are not in the pickle"
            code = f"""
            import pickle
            from multiprocessing import resource_tracker, shared_memory
            memory = shared_memory.SharedMemory({memory.name!r})
            resource_tracker.unregister(memory._name, "shared_memory")  # its maker unlinks it
            parts, at = [], 0
            for length in {lengths}:
                parts.append(memory.buf[at : at + length].toreadonly())
                at += length
            m = pickle.loads({data!r}, buffers=parts)
            for part in parts:
                part.release()
            memory.close()
            print(len(m), m._check(), m.to_arrays()[1].sum(), m[7 * 10**12].tolist())
            """
            expected = f"5000 None {m.to_arrays()[1].sum()} {m[7 * 10**12].tolist()}"
            assert run_child(code).strip() == expected
        finally:
            memory.close()
            memory.unlink()

    def test_workers_of_a_pool(self):
        """As multiprocessing itself hands a map over, with the protocol that it uses."""
        import multiprocessing

        m = IntArrayMap.from_arrays(np.arange(1000), rows_for(1000, (4,)))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(len, (m,)) == 1000
            assert pool.apply(copy.copy, (m,)) == m

    @pytest.mark.thread_unsafe(reason="what the other threads hold is counted too")
    def test_rows_are_copied_once_on_the_way_out(self):
        """The snapshot, and nothing besides: at protocol 5 the buffers are the snapshot itself."""
        m = IntArrayMap.from_arrays(np.arange(20_000), rows_for(20_000, (8,)))
        m.to_arrays()
        size = 20_000 * 72
        tracemalloc.start()
        try:
            buffers = []
            data = pickle.dumps(m, 5, buffer_callback=buffers.append)
            assert tracemalloc.get_traced_memory()[1] < 1.2 * size
        finally:
            tracemalloc.stop()
        assert pickle.loads(data, buffers=buffers) == m


class Stateful(IntArrayMap):
    """With state of its own, and its own way to take it back."""

    def __getstate__(self):
        return {"note": self.note}

    def __setstate__(self, state):
        self.note = state["note"] + ", restored"


def test_a_subclass_takes_its_state_back_itself():
    m = Stateful(2)
    m.note = "mine"
    m[3] = [1, 2]
    for back in (pickle.loads(pickle.dumps(m)), copy.deepcopy(m)):
        assert type(back) is Stateful and back.note == "mine, restored" and back[3].tolist() == [1, 2]


def test_a_protocol_that_is_no_int_was_an_attribute_error():
    m = IntArrayMap(2)
    for nonsense in (1.5, None, "2", {}):
        with pytest.raises(TypeError, match="integer"):
            m.__reduce_ex__(nonsense)


def rebuilt(dtype, row_bytes, shape=(1,)):
    return rebuild(IntArrayMap, 1, shape, dtype, "<i8", "auto", np.array([7]).tobytes(), row_bytes)


def test_bools_of_other_bytes_than_0_and_1_were_taken_in():
    m = rebuilt("|b1", b"\x02\x00\x01\xff", (4,))
    assert m[7].view(np.uint8).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("dtype", ["i4,(", "(", "f8,,", "M8[s/0]", "M8[0s]", "2147483648i4", "\ud800", ","])
def test_a_broken_dtype_was_a_syntax_error(dtype):
    with pytest.raises((TypeError, ValueError)):
        rebuilt(dtype, bytes(8))


def test_a_pickle_of_the_other_byte_order():
    assert rebuilt(">i4", b"\0\0\1\0")[7].tolist() == [256]


class AnyState(IntArrayMap):
    """Whatever `kept` is, is the state."""

    kept: object = None

    def __getstate__(self):
        return self.kept

    def __setstate__(self, state):
        self.got = state


@pytest.mark.parametrize("state", [0, "", (), {}, [], np.arange(3), np.zeros(1), np.zeros(0)], ids=repr)
def test_a_state_that_is_an_array_or_empty_was_lost(state):
    m = AnyState(2)
    m.kept = state
    m[3] = [1, 2]
    for back in (m.copy(), copy.copy(m), copy.deepcopy(m), pickle.loads(pickle.dumps(m)), m | {}, {} | m):
        assert np.array_equal(back.got, state) and type(back.got) is type(state)
        assert back[3].tolist() == [1.0, 2.0]


def test_no_state_at_all():
    m = AnyState(2)
    assert not hasattr(m.copy(), "got") and not hasattr(pickle.loads(pickle.dumps(m)), "got")
    assert IntArrayMap(2).__reduce_ex__(5)[2] is None


class Reduced(IntArrayMap):
    """Pickles as its own way is."""

    def __reduce__(self):
        return Reduced, (5,), {"note": "reduced"}


class Noted(IntArrayMap):
    """Pickles as every map does, with a note."""

    def __reduce__(self):
        make, arguments, _ = super().__reduce__()
        return make, arguments, {"note": "reduced"}


def test_the_reduce_of_a_subclass_may_build_on_ours():
    m = Noted(2)
    m[3] = [1, 2]
    back = pickle.loads(pickle.dumps(m))
    assert type(back) is Noted and back == m and back.note == "reduced"


def test_the_reduce_of_a_subclass_was_not_asked():
    m = Reduced(2)
    for protocol in (2, 3, 4, 5):
        back = pickle.loads(pickle.dumps(m, protocol))
        assert type(back) is Reduced and back.row_shape == (5,) and back.note == "reduced"
    with pytest.raises(TypeError):
        m.__reduce_ex__("5")
