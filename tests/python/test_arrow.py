"""Promise §8: a map hands itself over by Arrow's C interface, and is built from whoever offers it.

Three layers: the structs themselves, read and made in ctypes (arrow_structs.py); whole maps there and back; and the
real pyarrow, polars, duckdb and pandas, as far as they are installed.
"""

from __future__ import annotations

import ctypes
import gc
import pickle
import threading
import tracemalloc

import numpy as np
import pytest
from arrow_structs import (
    ArrayProducer,
    Made,
    Producer,
    bits,
    fixed,
    integers,
    lists,
    moved,
    next_batch,
    notes,
    numbers,
    release,
    schema_of,
    stream_of,
    table,
)
from hypothesis import given
from hypothesis import strategies as st
from model import DTYPES, assert_same, build_map, copy_of, equal, rows_for

from intarraymap import IntArrayMap


def consumer(name: str):
    return pytest.importorskip(name, reason=f"{name.upper()} IS NOT INSTALLED: it reads nothing of ours here")


@pytest.fixture
def pa():
    return consumer("pyarrow")


@pytest.fixture
def pl():
    return consumer("polars")


@pytest.fixture
def duckdb():
    return consumer("duckdb")


@pytest.fixture
def pd():
    consumer("pyarrow")  # pandas reads Arrow with it
    pandas = consumer("pandas")
    if not hasattr(pandas.DataFrame, "from_arrow"):
        pytest.skip("PANDAS IS TOO OLD: DataFrame.from_arrow came with 3.0")
    return pandas


def read_all(source, items: int, dtype="float64"):
    """Keys and rows of a stream, by the ctypes consumer, and how many batches there were."""
    stream = stream_of(source)
    keys, rows, count = [np.empty(0, np.int64)], [np.empty((0, items), dtype)], 0
    while (batch := next_batch(stream)) is not None:
        count += 1
        length = batch.length
        assert (batch.n_buffers, batch.n_children, batch.null_count, batch.offset) == (1, 2, 0, 0)
        key, row = batch.children[0].contents, batch.children[1].contents
        assert (key.length, key.n_buffers, row.length, row.n_buffers, row.n_children) == (length, 2, length, 1, 1)
        item = row.children[0].contents
        assert (item.length, item.n_buffers, item.n_children) == (length * items, 2, 0)
        keys.append(numbers(key, np.int64, length))
        rows.append(numbers(item, dtype, length * items).reshape(length, items))
        release(batch)
    release(stream)
    return np.concatenate(keys), np.concatenate(rows), count


class TestStructs:
    def test_schema(self, make_map):
        m = make_map((2, 3), "int16", range(5))
        stream = stream_of(m)
        for _ in range(2):  # as often as one likes
            schema = schema_of(stream)
            key, row = schema.children[0].contents, schema.children[1].contents
            assert (schema.format, schema.n_children) == (b"+s", 2)
            assert (key.format, key.name, key.n_children) == (b"l", b"key", 0)
            assert (row.format, row.name, row.n_children) == (b"+w:6", b"row", 1)
            assert row.children[0].contents.format == b"s"
            assert notes(row) == {b"intarraymap.row_shape": b"[2, 3]", b"intarraymap.dtype": b"int16"}
            release(schema)
        release(stream)

    @pytest.mark.parametrize("copy", [None, True, False])
    def test_rows(self, make_case, copy):
        case = make_case((2, 3))
        keys, rows, count = read_all(case.map.to_arrow(copy=copy), 6)
        expected_keys, expected_rows = case.map.to_arrays()
        assert keys.tolist() == expected_keys.tolist()
        assert equal(rows, expected_rows.reshape(-1, 6))
        assert count >= 1
        assert case.map.stats().views == 0

    def test_a_batch_for_each_block(self, make_case):
        case = make_case((4,))
        full = [block for block in case.map.blocks() if block[3].any()]
        assert read_all(case.map, 4)[2] == len(full)

    @pytest.mark.parametrize("copy", [True, False])
    @pytest.mark.parametrize("gone", [range(0, 100, 2), range(20, 80), range(99), [0, 7, 8, 63, 64, 99], range(100)])
    def test_holes(self, make_map, copy, gone):
        m = make_map((2,), keys=range(100))
        m.delete_many(list(gone))
        keys, rows, _ = read_all(m.to_arrow(copy=copy), 2)
        expected_keys, expected_rows = m.to_arrays()
        assert keys.tolist() == expected_keys.tolist()
        assert equal(rows, expected_rows)

    def test_no_rows_no_batches(self, make_map):
        for copy in (True, False):
            assert read_all(make_map((2,)).to_arrow(copy=copy), 2)[2] == 0

    def test_children_may_be_moved_away(self, make_map):
        """As the specification allows: the parent is released, a child goes on."""
        m = make_map((2,), keys=range(50))
        expected = m.to_arrays()
        for copy in (True, False):
            stream = stream_of(m.to_arrow(copy=copy))
            batches = []
            while (batch := next_batch(stream)) is not None:
                batches.append(batch)
            release(stream)
            kept = []
            for batch in batches:
                kept.append((moved(batch.children[0].contents), moved(batch.children[1].contents.children[0].contents)))
                release(batch)
            gc.collect()
            keys = np.concatenate([numbers(key, np.int64, key.length) for key, _ in kept])
            rows = np.concatenate([numbers(row, "float64", row.length) for _, row in kept])
            assert keys.tolist() == expected[0].tolist()
            assert equal(rows, expected[1].ravel())
            assert (m.stats().views > 0) is not copy
            for each in (part for pair in kept for part in pair):
                release(each)
            assert m.stats().views == 0

    def test_outlives_the_map(self, make_map):
        m = make_map((2,), keys=range(50))
        expected = m.to_arrays()
        shown, copied = stream_of(m.to_arrow(copy=False)), stream_of(m)
        m.close()
        del m
        gc.collect()
        for stream in (shown, copied):
            batches = []
            while (batch := next_batch(stream)) is not None:
                batches.append(batch)
            keys = np.concatenate([numbers(batch.children[0].contents, np.int64, batch.length) for batch in batches])
            assert keys.tolist() == expected[0].tolist()
            for batch in batches:
                release(batch)
            release(stream)

    def test_released_in_the_middle(self, make_case):
        case = make_case()
        for copy in (True, False):
            stream = stream_of(case.map.to_arrow(copy=copy))
            batch = next_batch(stream)
            release(stream)
            assert case.map.stats().views == (0 if copy else 1)
            release(batch)
            assert case.map.stats().views == 0

    def test_never_consumed(self, make_case):
        case = make_case()
        capsules = [case.map.to_arrow(copy=False).__arrow_c_stream__() for _ in range(3)]
        assert case.map.stats().views >= 3
        with pytest.raises(BufferError):
            case.map.compact()
        del capsules
        assert case.map.stats().views == 0
        case.map.__arrow_c_schema__()

    def test_released_by_threads_without_the_gil(self, make_case):
        """ctypes.CDLL functions run without the GIL, ours must not ask for it."""
        case = make_case((4,))
        before = case.map.to_arrays()

        def work():
            for copy in (True, False):
                for _ in range(20):
                    stream = stream_of(case.map.to_arrow(copy=copy))
                    other = threading.Thread(target=lambda stream=stream: release(stream))
                    batch = next_batch(stream)
                    other.start()
                    release(batch)
                    other.join()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for key in range(100):  # views are counted beside the rows that go back: none is lost
                case.map[key]
        for thread in threads:
            thread.join()
        assert case.map.stats().views == 0
        assert equal(case.map.to_arrays()[1], before[1])

    def test_outlives_the_interpreter(self, run_child):
        """Whoever still has rows when Python ends may release them then, or never."""
        code = """
        import ctypes, threading, time
        import numpy as np
        from arrow_structs import next_batch, stream_of
        from intarraymap import IntArrayMap

        m = IntArrayMap.from_arrays(np.arange(1000), np.ones((1000, 4)))
        capsules = [m.__arrow_c_stream__(), m.to_arrow(copy=False).__arrow_c_stream__(), m.__arrow_c_schema__()]
        kept = []
        for table in (m, m.to_arrow(copy=False)):
            stream = stream_of(table)
            kept += [stream, next_batch(stream), stream_of(table)]

        def read_for_ever():
            while True:
                stream = stream_of(m.to_arrow(copy=False))
                batch = next_batch(stream)
                batch.release(ctypes.byref(batch))
                stream.release(ctypes.byref(stream))

        threading.Thread(target=read_for_ever, daemon=True).start()
        time.sleep(0.1)
        try:
            import pyarrow
            tables = [pyarrow.table(m), pyarrow.table(m.to_arrow(copy=False))]
        except ImportError:
            pass
        print("done")
        """
        assert run_child(code) == "done\n"

    @pytest.mark.thread_unsafe(reason="what the other threads hold is counted too")
    def test_nothing_leaks(self):
        m = IntArrayMap.from_arrays(np.arange(20_000), rows_for(20_000, (8,)))
        rss = []
        for _ in range(6):
            for _ in range(20):
                read_all(m, 8)
                read_all(m.to_arrow(copy=False), 8)
                m.__arrow_c_schema__()
            with open("/proc/self/statm") as file:
                rss.append(int(file.read().split()[1]) * 4096)
        assert rss[-1] - rss[1] < 20 << 20, rss

    def test_last_row_of_any_length(self, make_any_key_map):
        for count in (1, 7, 8, 9, 63, 64, 65, 129):
            m = make_any_key_map((1,), "int8", [k * 10**12 for k in range(count)])
            assert read_all(m, 1, "int8")[0].tolist() == list(m)

    def test_items_are_packed_bits(self):
        for count in (1, 3, 8, 21, 64):
            rows = rows_for(count, (5,), "bool")
            m = IntArrayMap.from_arrays(np.arange(count), rows, index="hash")
            stream = stream_of(m)
            batch = next_batch(stream)
            item = batch.children[1].contents.children[0].contents
            packed = ctypes.string_at(item.buffers[1], (count * 5 + 7) // 8)
            assert packed == np.packbits(rows.ravel(), bitorder="little").tobytes()
            release(batch)
            release(stream)

    def test_nat_is_null(self):
        m = IntArrayMap.from_arrays([1, 2], np.array([[1, 2, 3], [4, 5, 6]], "M8[s]"))
        m[2][1] = "NaT"
        for copy in (True, False):
            stream = stream_of(m.to_arrow(copy=copy))
            batches, valid = [], []
            while (batch := next_batch(stream)) is not None:
                item = batch.children[1].contents.children[0].contents
                if item.null_count:
                    packed = np.frombuffer(ctypes.string_at(item.buffers[0], 1), np.uint8)
                    valid += np.unpackbits(packed, count=item.length, bitorder="little").tolist()
                else:
                    assert not item.buffers[0]
                    valid += [1] * item.length
                batches.append(batch)
            assert valid == [1, 1, 1, 1, 0, 1]
            for batch in batches:
                release(batch)
            release(stream)


class TestCopyOrNot:
    def test_a_copy_never_changes(self, make_case):
        case = make_case((2,))
        for table_of in (case.map, case.map.to_arrow(), case.map.to_arrow(copy=True)):
            stream = stream_of(table_of)
            before = copy_of(case.map)
            case.map.add_many(list(case.model), 1.0)
            keys, rows = [], []
            while (batch := next_batch(stream)) is not None:
                keys += numbers(batch.children[0].contents, np.int64, batch.length).tolist()
                item = batch.children[1].contents.children[0].contents
                rows.append(numbers(item, "float64", item.length).reshape(-1, 2))
                release(batch)
            release(stream)
            assert equal(np.concatenate(rows), np.array([before[key] for key in keys]))

    def test_no_copy_shows_the_map(self, make_map):
        m = make_map((2,), keys=range(100))
        stream = stream_of(m.to_arrow(copy=False))
        m[50][:] = -7.0
        seen = {}
        while (batch := next_batch(stream)) is not None:
            keys = numbers(batch.children[0].contents, np.int64, batch.length)
            item = batch.children[1].contents.children[0].contents
            seen |= dict(zip(keys.tolist(), numbers(item, "float64", item.length).reshape(-1, 2).tolist(), strict=True))
            release(batch)
        release(stream)
        assert seen[50] == [-7.0, -7.0]

    def test_no_copy_holds_rows_back(self, make_map):
        """Deleted and inserted meanwhile: what was handed over keeps its rows."""
        m = make_map((2,), keys=range(100))
        expected = copy_of(m)
        stream = stream_of(m.to_arrow(copy=False))
        m.delete_many(range(100))
        m.set_many(range(2000, 2100), -1.0)
        batches = []
        while (batch := next_batch(stream)) is not None:
            batches.append(batch)
        for batch in batches:
            keys = numbers(batch.children[0].contents, np.int64, batch.length)
            item = batch.children[1].contents.children[0].contents
            rows = numbers(item, "float64", item.length).reshape(-1, 2)
            assert all(equal(row, expected[key]) for key, row in zip(keys.tolist(), rows, strict=True))
        with pytest.raises(BufferError):
            m.compact()
        for batch in batches:
            release(batch)
        release(stream)
        m.compact()
        assert m._check() is None

    @pytest.mark.parametrize("dtype", ["bool", "datetime64[D]", "timedelta64[h]", "datetime64[10ms]"])
    def test_what_arrow_stores_otherwise_is_copied(self, make_map, dtype):
        m = make_map((3,), dtype, range(10))
        assert IntArrayMap.from_arrow(m) == m
        with pytest.raises(BufferError, match="without a copy"):
            m.to_arrow(copy=False).__arrow_c_stream__()

    @pytest.mark.parametrize("dtype", ["datetime64[ps]", "timedelta64[as]", "timedelta64[M]", "timedelta64[Y]"])
    def test_units_that_arrow_has_not(self, dtype):
        m = IntArrayMap(2, dtype)
        for ask in (m.__arrow_c_schema__, m.__arrow_c_stream__, m.to_arrow):
            with pytest.raises(TypeError, match="unit"):
                ask()

    def test_times_too_far_for_seconds(self):
        m = IntArrayMap.from_arrays([1], np.array([[2**62]], "M8[D]"))
        with pytest.raises(OverflowError, match="rows"):
            m.__arrow_c_stream__()

    @pytest.mark.parametrize("copy", [0, 1, "no", [], 1.0], ids=repr)
    def test_copy_is_a_bool_or_none(self, copy):
        with pytest.raises(TypeError, match="copy"):
            IntArrayMap(2).to_arrow(copy=copy)

    def test_requested_schema(self):
        m = IntArrayMap.fromkeys([1], [1.0])
        request = IntArrayMap(3).__arrow_c_schema__()
        for source in (m, m.to_arrow()):
            source.__arrow_c_stream__(request)
            source.__arrow_c_stream__(requested_schema=None)
            for wrong in (5, "schema", source.__arrow_c_stream__(), object()):
                with pytest.raises(TypeError, match="requested_schema"):
                    source.__arrow_c_stream__(wrong)

    def test_closed_and_not_initialised(self):
        m = IntArrayMap(2)
        table_of = m.to_arrow()
        m.close()
        for ask in (m.__arrow_c_schema__, m.__arrow_c_stream__, m.to_arrow, table_of.__arrow_c_stream__,
                    table_of.__arrow_c_schema__):  # fmt: skip
            with pytest.raises(ValueError, match="closed"):
                ask()
        bare = IntArrayMap.__new__(IntArrayMap)
        for ask in (bare.__arrow_c_schema__, bare.__arrow_c_stream__, bare.to_arrow):
            with pytest.raises(RuntimeError):
                ask()
        assert "ArrowTable" in repr(table_of)

    def test_out_of_memory_leaves_nothing_behind(self):
        m = IntArrayMap.fromkeys(range(100), [1.0])
        m.to_arrow(copy=False).__arrow_c_stream__()
        assert m.stats().views == 0

    @pytest.mark.thread_unsafe(reason="tracemalloc counts for all threads")
    def test_memory_is_the_rows(self):
        """The snapshot needs the rows and keys once, and nothing that Python would count."""
        m = IntArrayMap.from_arrays(np.arange(1000), rows_for(1000, (8,)))
        tracemalloc.start()
        capsule = m.__arrow_c_stream__()
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()
        del capsule


@pytest.mark.skipif(
    not hasattr(IntArrayMap, "open"), reason="MAPS CAN'T BE OPENED IN THIS VERSION: nothing is read-only"
)
class TestOpened:
    """A read-only map is handed over as it lies in its file."""

    @pytest.fixture
    def reopen(self, tmp_path):
        def reopened(m):
            m.save(tmp_path / "m.iam")
            return IntArrayMap.open(tmp_path / "m.iam")

        return reopened

    def addresses(self, source):
        """Where the items of each batch lie, and all rows."""
        stream, found = stream_of(source), []
        while (batch := next_batch(stream)) is not None:
            found.append((batch.children[1].contents.children[0].contents.buffers[1], batch.length))
            release(batch)
        release(stream)
        return found

    @pytest.mark.parametrize("scale", [1, 10**12])
    def test_no_copy(self, reopen, scale):
        m = IntArrayMap.from_arrays(np.arange(1000) * scale, rows_for(1000))
        opened = reopen(m)
        begin = opened.blocks()[0][2].ctypes.data
        assert self.addresses(opened) == [(begin, 1000)]
        assert self.addresses(opened.to_arrow(copy=True)) != [(begin, 1000)]
        assert_same(IntArrayMap.from_arrow(opened), copy_of(m))
        keys, rows = opened._snapshot()
        assert rows.ctypes.data == begin
        assert keys.tolist() == m.to_arrays()[0].tolist()

    def test_outlives_close(self, reopen):
        m = IntArrayMap.from_arrays(np.arange(1000), rows_for(1000))
        opened = reopen(m)
        stream = stream_of(opened)
        opened.close()
        batch = next_batch(stream)
        release(stream)
        item = batch.children[1].contents.children[0].contents
        assert equal(numbers(item, "float64", 3000).reshape(1000, 3), m.to_arrays()[1])
        release(batch)

    def test_rows_in_many_pieces_are_copied(self, reopen):
        m = IntArrayMap.from_arrays(np.arange(1000) * 2, rows_for(1000), index="direct")
        opened = reopen(m)
        assert len(self.addresses(opened)) == 1
        assert len(self.addresses(opened.to_arrow(copy=False))) == 1000
        assert_same(IntArrayMap.from_arrow(opened), copy_of(m))

    @pytest.mark.parametrize("dtype", ["bool", "datetime64[D]"])
    def test_what_arrow_stores_otherwise(self, reopen, dtype):
        m = build_map("hash", (3,), dtype, range(10))
        assert IntArrayMap.from_arrow(reopen(m)) == m

    @pytest.mark.parametrize("scale", [1, 3, 10**12])
    def test_merge_and_pickle(self, reopen, scale):
        m = IntArrayMap.from_arrays(np.arange(1000) * scale, rows_for(1000))
        m.delete_many([0, 5 * scale])
        opened = reopen(m)
        into = IntArrayMap(3)
        into.merge(opened)
        into.merge(opened, "add")
        assert into[7 * scale].tolist() == (2 * m[7 * scale]).tolist()
        for protocol in (2, 5):
            other = pickle.loads(pickle.dumps(opened, protocol))
            assert other == m
            assert not other.read_only
        with pytest.raises(ValueError, match="read-only"):
            opened.merge(m)


class TestThereAndBack:
    @pytest.mark.parametrize("dtype", [*DTYPES, "datetime64[D]", "datetime64[Y]", "timedelta64[W]", "datetime64[25us]"])
    def test_every_dtype(self, make_map, dtype):
        m = make_map((2, 3), dtype, range(20))
        if np.dtype(dtype).kind in "mM":
            m[3][1, 1] = "NaT"
        m.delete_many([4, 5, 9])
        other = IntArrayMap.from_arrow(m)
        assert (other.dtype, other.row_shape) == (m.dtype, m.row_shape)
        assert_same(other, copy_of(m))

    def test_every_kind(self, make_case):
        case = make_case((2, 2))
        for copy in (True, False):
            assert_same(IntArrayMap.from_arrow(case.map.to_arrow(copy=copy)), case.model)
        assert case.map.stats().views == 0

    def test_numbers_survive(self):
        rows = np.array([[np.nan, -0.0, np.inf], [0.0, 5e-324, -np.inf]])
        rows.view(np.uint64)[0, 0] ^= 0x123
        m = IntArrayMap.from_arrays([-(2**63), 2**63 - 1], rows)
        assert_same(IntArrayMap.from_arrow(m), copy_of(m))

    def test_shapes(self, make_map):
        for shape in ((1,), (7,), (1, 1), (2, 3, 4)):
            m = make_map(shape, "int32", range(5))
            assert IntArrayMap.from_arrow(m).row_shape == shape
            assert IntArrayMap.from_arrow(make_map(shape, "int32")).row_shape == shape

    def test_arguments(self):
        class Mine(IntArrayMap):
            pass

        m = IntArrayMap.from_arrays([5, 6], [[1, 2, 3, 4], [5, 6, 7, 8]])
        other = Mine.from_arrow(m, row_shape=(2, 2), dtype="float32", index="hash", seed=1)
        assert type(other) is Mine
        assert (other.row_shape, other.dtype, other.index) == ((2, 2), np.dtype("float32"), "hash")
        assert other[6].tolist() == [[5, 6], [7, 8]]
        with pytest.raises(ValueError, match="4 items|items"):
            IntArrayMap.from_arrow(m, row_shape=3)
        with pytest.raises(OverflowError):
            IntArrayMap.from_arrow(IntArrayMap.from_arrays([1], [[300]]), dtype="int8")
        with pytest.raises(TypeError):
            IntArrayMap.from_arrow(IntArrayMap.from_arrays([1], [[0.5]]), dtype="int8")


def from_arrow(*batches: Made, **arguments):
    """from_arrow of a ctypes producer, which gets back all that it handed over."""
    producer = Producer(*batches)
    m = IntArrayMap.from_arrow(producer, **arguments)
    assert producer.alive == 0
    assert m._check() is None
    return m


class TestForeignTables:
    def test_fixed_size_lists(self):
        m = from_arrow(table(integers([5, 6, 5]), fixed([[1, 2], [3, 4], [9, 9]])))
        assert_same(m, {5: np.array([9.0, 9.0]), 6: np.array([3.0, 4.0])})

    @pytest.mark.parametrize("form", ["+l", "+L"])
    def test_lists(self, form):
        m = from_arrow(table(integers([5, 6]), lists([0, 2, 4], [1, 2, 3, 4], form)))
        assert m[6].tolist() == [3.0, 4.0]
        m = from_arrow(table(integers([5, 6]), lists([3, 5, 7], [0, 0, 0, 1, 2, 3, 4], form)))
        assert m[6].tolist() == [3.0, 4.0]

    @pytest.mark.parametrize("dtype", "int8 uint8 int16 uint16 int32 uint32 int64 uint64".split())
    def test_keys_of_any_integers(self, dtype):
        m = from_arrow(table(integers([5, 6], dtype), fixed([[1], [2]])))
        assert sorted(m) == [5, 6]

    def test_keys_outside_int64(self):
        one = table(integers([1, 2], "uint64"), fixed([[1], [2]]))
        two = table(integers([3, 2**63], "uint64"), fixed([[1], [2]]))
        with pytest.raises(OverflowError, match=r"key\[3\] = 9223372036854775808"):
            from_arrow(one, two)

    @pytest.mark.parametrize(
        "dtype", "int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64".split()
    )
    def test_items_of_any_numbers(self, dtype):
        m = from_arrow(table(integers([5, 6]), fixed([[1, 2], [3, 4]], dtype)))
        assert m.dtype == np.dtype(dtype)
        assert m[6].tolist() == [3, 4]

    def test_offsets_everywhere(self):
        """A slice of a slice: the table's offset and the columns' own add up."""
        key = integers([0, 0, 0, 5, 6, 7], offset=1)
        row = fixed(np.arange(12).reshape(6, 2), offset=1)
        row.children[0].offset = 0
        key.length, row.length = 5, 5
        m = from_arrow(table(key, row, length=2, offset=2))
        assert_same(m, {5: np.array([6.0, 7.0]), 6: np.array([8.0, 9.0])})
        row = fixed(np.arange(12).reshape(6, 2))
        row.children[0].buffers = [None, np.concatenate(([99.0], np.arange(12)))]
        row.children[0].offset = 1
        m = from_arrow(table(integers(range(6)), row))
        assert m[5].tolist() == [10.0, 11.0]
        row = lists([0, 0, 2, 4, 6], [9, 9, 1, 2, 3, 4], offset=2)
        row.length = 2
        m = from_arrow(table(integers([1, 2]), row))
        assert m[2].tolist() == [3.0, 4.0]

    def test_bits_with_offsets(self):
        flags = [1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1]
        item = Made("b", 10, [None, bits(flags)], offset=4)
        m = from_arrow(table(integers(range(5)), Made("+w:2", 5, [None], [item], "row")))
        assert m.dtype == np.dtype(bool)
        assert m.get_many(range(5)).ravel().tolist() == [bool(flag) for flag in flags[4:]]

    def test_lists_of_lists(self):
        inner = lists([0, 2, 4, 6, 8], range(8), name="item")
        outer = Made("+L", 2, [None, np.array([0, 2, 4], np.int64)], [inner], "row")
        m = from_arrow(table(integers([1, 2]), outer))
        assert m[2].tolist() == [[4.0, 5.0], [6.0, 7.0]]

    def test_batches(self):
        parts = [table(integers([k, k + 1]), fixed([[k, k], [k + 1, 0]])) for k in range(0, 20, 2)]
        parts.insert(3, table(integers([]), fixed(np.empty((0, 2)))))
        m = from_arrow(*parts)
        assert sorted(m) == list(range(20))
        assert m[8].tolist() == [8.0, 8.0]

    def test_names(self):
        one = table(integers([1, 2], name="id"), integers([7, 8], name="n"), fixed([[1], [2]], name="x"))
        assert from_arrow(one, key="id", row="x")[2].tolist() == [2.0]
        assert from_arrow(one, key="id", row="n")[2].tolist() == [8], "plain numbers: a row of one item"
        for arguments, text in (
            ({}, "'id', 'n', 'x'"),
            ({"key": "id"}, "'row'"),
            ({"key": "id", "row": ["n", "y"]}, "'y'"),
        ):
            with pytest.raises(ValueError, match=text):
                from_arrow(one, **arguments)
        twice = table(integers([1]), integers([1]), fixed([[1]]))
        with pytest.raises(ValueError, match="2 columns are called 'key'"):
            from_arrow(twice)
        for wrong in ({"key": 5}, {"key": None}, {"row": 5}, {"row": [5]}):
            with pytest.raises(TypeError):
                from_arrow(one, **{"key": "id", "row": "x"} | wrong)
        with pytest.raises(ValueError, match="no column"):
            from_arrow(one, key="id", row=[])

    def test_several_columns(self):
        one = table(integers([1, 2]), integers([1, 2], "int8", "a"), integers([3, 4], "int32", "b"))
        m = from_arrow(one, row=["b", "a"])
        assert (m.dtype, m.row_shape) == (np.dtype("int32"), (2,))
        assert m[2].tolist() == [4, 2]
        assert from_arrow(one, row=["b", "a"], dtype="float32", row_shape=(1, 2))[1].tolist() == [[3.0, 1.0]]
        with pytest.raises(TypeError, match="plain numbers"):
            from_arrow(table(integers([1]), fixed([[1]]), integers([1], name="a")), row=["row", "a"])

    def test_no_rows(self):
        empty = table(integers([]), fixed(np.empty((0, 3))))
        assert from_arrow(empty).row_shape == (3,)
        unknown = table(integers([]), lists([0], []))
        with pytest.raises(ValueError, match="no rows"):
            from_arrow(unknown)
        assert from_arrow(unknown, row_shape=4).row_shape == (4,)

    def test_times(self):
        for form, dtype in (
            ("tss:", "M8[s]"),
            ("tsn:UTC", "M8[ns]"),
            ("tsm:Europe/Paris", "M8[ms]"),
            ("tDu", "m8[us]"),
        ):
            item = Made(form, 2, [bits([1, 0]), np.array([5, 6])], null_count=1)
            m = from_arrow(table(integers([1]), Made("+w:2", 1, [None], [item], "row")))
            assert m.dtype == np.dtype(dtype)
            assert m[1].view(np.int64).tolist() == [5, -(2**63)], "null is NaT"
        days = Made("tdD", 2, [None, np.array([5, -6], np.int32)])
        m = from_arrow(table(integers([1]), Made("+w:2", 1, [None], [days], "row")))
        assert m[1].tolist() == np.array([5, -6], "M8[D]").tolist()

    def test_tensors_of_arrow(self):
        def tensor(metadata: bytes) -> Made:
            noted = {b"ARROW:extension:name": b"arrow.fixed_shape_tensor", b"ARROW:extension:metadata": metadata}
            return table(integers([1]), fixed([range(6)], notes=noted))

        assert from_arrow(tensor(b'{"shape": [2, 3]}')).row_shape == (2, 3)
        assert from_arrow(tensor(b'{"shape": [2, 3], "permutation": [0, 1]}')).row_shape == (2, 3)
        with pytest.raises(TypeError, match="permuted"):
            from_arrow(tensor(b'{"shape": [2, 3], "permutation": [1, 0]}'))
        for broken in (b"", b"{}", b"[]", b'{"shape": 6}', b'{"shape": [4]}', b'{"shape": ["a"]}'):
            with pytest.raises(ValueError):
                from_arrow(tensor(broken))

    def test_notes_that_lie(self):
        def noted(**pairs: bytes) -> Made:
            notes_of = {f"intarraymap.{name}".encode(): text for name, text in pairs.items()}
            return table(integers([1]), fixed([[1, 2]], notes=notes_of))

        for shape in (
            b"[3]",
            b"[]",
            b"[0]",
            b"[-2, -1]",
            b"2",
            b"[1.5]",
            b'["2"]',
            b"{",
            b"[[2]]",
            b"[true, 2]",
            b"\xff",
        ):
            with pytest.raises(ValueError, match="row|shape|items"):
                from_arrow(noted(row_shape=shape))
        for dtype in (b"nonsense", b"object", b"\xff", b"", b"V8", b"S4"):
            with pytest.raises(ValueError, match="dtype"):
                from_arrow(noted(dtype=dtype))
        assert from_arrow(noted(dtype=b"int8")).dtype == np.float64, "the column has been cast since"
        assert from_arrow(noted(dtype=b"int8"), dtype="float32").dtype == np.float32
        seconds = Made("tss:", 1, [None, np.array([86_401])])
        day = table(
            integers([1]), Made("+w:1", 1, [None], [seconds], "row", notes={b"intarraymap.dtype": b"datetime64[D]"})
        )
        with pytest.raises(ValueError, match="datetime64"):
            from_arrow(day)
        assert from_arrow(day, dtype="M8[s]")[1].view(np.int64).tolist() == [86_401]

    def test_arrays(self):
        producer = ArrayProducer(table(integers([5]), fixed([[1, 2]])))
        m = IntArrayMap.from_arrow(producer)
        assert m[5].tolist() == [1.0, 2.0]
        gc.collect()
        assert producer.alive == 0


@st.composite
def tables(draw):
    """(batches, keys, rows): the same rows in whatever layout a producer may choose."""
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    dtype = np.dtype(draw(st.sampled_from("bool int8 uint16 int32 int64 float32 float64 datetime64[s]".split())))
    layouts = [draw(st.sampled_from(["+w", "+l", "+L"])) for _ in shape]
    counts = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    total = sum(counts)
    rows = rows_for(total, shape, dtype, start=draw(st.integers(0, 50)))
    keys = np.arange(total) * 3 - 10
    batches, first = [], 0
    for count in counts:
        before, after, inner = (draw(st.integers(0, 11)) for _ in range(3))
        row = laid_out(rows[first : first + count], layouts, before, inner, draw(st.booleans()))
        key = padded(keys[first : first + count], before, 0)
        row.name, key.name = "row", "key"
        outer = draw(st.integers(0, before))  # part of the offset is the table's, part the columns' own
        for column in (row, key):
            column.offset, column.length = column.offset - outer, column.length + outer
        batches.append(table(key, row, length=count, offset=outer))
        first += count
    return batches, keys, rows


def padded(numbers_of: np.ndarray, before: int, after: int) -> Made:
    """A column of plain numbers from an offset on, among rubbish."""
    form = {"?": "b", "M": "tss:"}.get(numbers_of.dtype.char)
    rubbish = np.ones(before, numbers_of.dtype), np.ones(after, numbers_of.dtype)
    whole = np.concatenate((rubbish[0], numbers_of, rubbish[1]))
    made = integers(whole.view(np.int64) if form == "tss:" else whole.view(np.uint8) if form == "b" else whole,
                    np.int64 if form == "tss:" else np.uint8 if form == "b" else whole.dtype, "item")  # fmt: skip
    if form == "b":
        made.buffers = [None, bits(whole)]
    made.format = form or made.format
    made.length, made.offset = len(numbers_of), before
    return made


def laid_out(rows: np.ndarray, layouts: list[str], before: int, inner: int, unknown_nulls: bool) -> Made:
    """A column of lists from an offset on: all valid, said by no bitmap or by one that was not counted."""
    if rows.ndim == 1:
        return padded(rows, before, 3)
    count, length = rows.shape[:2]
    items = rows.reshape(-1, *rows.shape[2:])
    valid = bits([1] * (before + count)) if unknown_nulls else None
    if layouts[0] == "+w":
        child = laid_out(items, layouts[1:], before * length, inner, unknown_nulls)
        child.offset, child.length = child.offset - before * length, child.length + before * length
        made = Made(f"+w:{length}", count, [valid], [child])
    else:
        child = laid_out(items, layouts[1:], inner, inner, unknown_nulls)
        child.offset, child.length = child.offset - inner, child.length + inner
        places = inner + np.concatenate((np.zeros(before, int), np.arange(count + 1) * length))
        made = Made(layouts[0], count, [valid, places.astype(np.int32 if layouts[0] == "+l" else np.int64)], [child])
    made.offset, made.null_count = before, -1 if unknown_nulls else 0
    return made


class TestAnyLayout:
    @given(tables())
    def test_same_rows(self, drawn):
        batches, keys, rows = drawn
        producer = Producer(*batches)
        shape = rows.shape[1:]
        m = IntArrayMap.from_arrow(producer, row_shape=shape)
        assert producer.alive == 0
        assert m.dtype == rows.dtype
        assert_same(m, dict(zip(keys.tolist(), rows, strict=True)))


class TestRefused:
    """Each error names the column and the place, and the producer gets everything back."""

    @pytest.mark.parametrize(
        "make, error, text",
        [
            (lambda: table(integers([1, 2, 3], null_count=1), fixed([[1]] * 3)), ValueError, "say where"),
            (lambda: table(_nulls(integers([1, 2, 3]), [1, 0, 1]), fixed([[1]] * 3)), ValueError, r"key\[1\] is null"),
            (lambda: table(integers([1, 2, 3]), _nulls(fixed([[1]] * 3), [1, 1, 0])), ValueError, r"row\[2\] is null"),
            (
                lambda: table(integers([1, 2]), _null_items([1, 1, 1, 0, 0, 1])),
                ValueError,
                r"row\[1\], item 0 is null \(2",
            ),
            (lambda: table(integers([1, 2]), _null_items([1] * 5 + [0], -1)), ValueError, r"row\[1\], item 2 is null"),
            (lambda: _nulls(table(integers([1, 2]), fixed([[1]] * 2)), [1, 0]), ValueError, r"row\[1\] is null"),
            (lambda: table(integers([1, 2, 3]), lists([0, 2, 4, 5], range(5))), ValueError, r"row\[2\] has 1 items"),
            (lambda: table(integers([1, 2]), lists([0, 0, 0], [])), ValueError, "no items"),
            (lambda: table(integers([1]), fixed(np.empty((1, 0)))), ValueError, "no items"),
            (lambda: table(integers([1], "float64"), fixed([[1]])), TypeError, "key: keys are integers.*float64"),
            (lambda: table(_text("key"), fixed([[1]])), TypeError, "string"),
            (lambda: table(integers([1]), _text("row")), TypeError, "row: rows are lists of numbers.*string"),
            (lambda: table(integers([1]), Made("+w:1", 1, [None], [_text()], "row")), TypeError, "lists of string"),
            (lambda: table(integers([1]), Made("n", 1, [], name="row")), TypeError, "null"),
            (lambda: table(integers([1]), Made("d:9,2", 1, [None, np.zeros(2)], name="row")), TypeError, "d:9,2"),
            (lambda: table(integers([1], dictionary=True), fixed([[1]])), TypeError, "dictionary"),
            (lambda: table(integers([1]), fixed([[1]], dictionary=True)), TypeError, "dictionary"),
            (lambda: table(integers([1]), Made("+s", 1, [None], [integers([1])], "row")), TypeError, "struct"),
            (lambda: table(integers([1]), Made("+vl", 1, [None], [integers([1])], "row")), TypeError, "list_view"),
            (lambda: integers([1, 2]), TypeError, "table"),
            (lambda: fixed([[1, 2]]), TypeError, "table"),
        ],
    )
    def test_refused(self, make, error, text):
        producer = Producer(make())
        with pytest.raises(error, match=text):
            IntArrayMap.from_arrow(producer)
        gc.collect()
        assert producer.alive == 0

    def test_places_count_over_batches(self):
        good = table(integers([1, 2]), fixed([[1], [2]]))
        bad = table(_nulls(integers([3, 4]), [1, 0]), fixed([[1], [2]]))
        with pytest.raises(ValueError, match=r"key\[5\] is null"):
            from_arrow(good, good, bad)
        with pytest.raises(ValueError, match=r"row\[2\] has 3 items, those before have 2"):
            from_arrow(
                table(integers([1, 2]), lists([0, 2, 4], range(4))), table(integers([1, 2]), lists([0, 3, 6], range(6)))
            )

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda t: setattr(t, "length", -1),
            lambda t: setattr(t, "offset", -1),
            lambda t: setattr(t, "offset", 2**62),
            lambda t: setattr(t, "null_count", -2),
            lambda t: setattr(t, "length", 3),  # more than its columns have
            lambda t: setattr(t, "n_children", 1),
            lambda t: setattr(t, "n_children", -1),
            lambda t: setattr(t.children[0], "length", 1),
            lambda t: setattr(t.children[0], "length", -5),
            lambda t: setattr(t.children[0], "offset", 2**63 - 1),
            lambda t: setattr(t.children[0], "offset", 2**61),
            lambda t: setattr(t.children[1], "offset", 2**55),
            lambda t: setattr(t.children[1].children[0], "offset", 2**62),
            lambda t: setattr(t.children[0], "n_buffers", 1),
            lambda t: setattr(t.children[0], "n_buffers", 0),
            lambda t: setattr(t.children[0], "buffers", [None, None]),
            lambda t: setattr(t.children[1], "length", 1),
            lambda t: setattr(t.children[1], "n_children", 0),
            lambda t: setattr(t.children[1].children[0], "length", 3),
            lambda t: setattr(t.children[1].children[0], "buffers", [None, None]),
            lambda t: setattr(t.children[1], "format", "+w:99999999999999999999"),
            lambda t: setattr(t.children[1], "format", "+w:3"),
            lambda t: setattr(t.children[1], "format", "+l"),  # no offsets
        ],
    )
    def test_lies(self, spoil):
        self.refuse(spoil, ValueError, "the producer|a batch of 1 columns|2 lists of 99999999999999999999 items")

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda t: setattr(t.children[1], "format", "+w:x"),
            lambda t: setattr(t.children[1], "format", "+w:-2"),
            lambda t: setattr(t.children[1], "format", "+w:"),
            lambda t: setattr(t.children[1], "format", ""),
            lambda t: setattr(t.children[1], "format", "\x00"),
            lambda t: setattr(t.children[0], "format", "ts"),
            lambda t: setattr(t, "format", "+l"),
        ],
    )
    def test_lies_of_what_it_is(self, spoil):
        self.refuse(spoil, TypeError, "^(key: keys are integers|row: rows are lists of numbers|expected a table), ")

    def refuse(self, spoil, error, words):
        made = table(integers([1, 2]), fixed([[1, 2], [3, 4]]))
        spoil(made)
        producer = Producer(made)
        with pytest.raises(error, match=words):
            IntArrayMap.from_arrow(producer)
        gc.collect()
        assert producer.alive == 0

    def test_lists_whose_offsets_lie(self):
        for offsets in ([-2, 0, 2], [0, 2, 1], [2, 0, -2], [0, 2, 2**30], [0, 2, 4]):
            with pytest.raises(ValueError):
                from_arrow(table(integers([1, 2]), lists(offsets, [1, 2, 3])))

    def test_deeper_than_any_array(self):
        row = integers([1], "float64", "item")
        for _ in range(100):
            row = Made("+w:1", 1, [None], [row], "row")
        with pytest.raises(ValueError, match="65 deep"):
            from_arrow(table(integers([1]), row))

    @pytest.mark.parametrize(
        "source", [None, 5, "table", {"key": [1]}, np.zeros(3), object()], ids=lambda v: type(v).__name__
    )
    def test_no_producer(self, source):
        with pytest.raises(TypeError, match="__arrow_c_stream__"):
            IntArrayMap.from_arrow(source)

    def test_producers_that_answer_nonsense(self):
        class Answers:
            def __init__(self, answer):
                self.answer = answer

            def __arrow_c_stream__(self, requested_schema=None):
                if isinstance(self.answer, Exception):
                    raise self.answer
                return self.answer

        class Pairs(Answers):
            __arrow_c_array__ = Answers.__arrow_c_stream__

            def __getattribute__(self, name):
                if name == "__arrow_c_stream__":
                    raise AttributeError(name)
                return super().__getattribute__(name)

        schema = IntArrayMap(2).__arrow_c_schema__()
        for answer in (None, 5, schema, (schema, schema), object()):
            with pytest.raises(ValueError, match="PyCapsule"):
                IntArrayMap.from_arrow(Answers(answer))
            error, words = (
                (ValueError, "PyCapsule") if isinstance(answer, tuple) else (TypeError, "schema and an array")
            )
            with pytest.raises(error, match=words):
                IntArrayMap.from_arrow(Pairs(answer))
        with pytest.raises(ZeroDivisionError):
            IntArrayMap.from_arrow(Answers(ZeroDivisionError()))
        used = IntArrayMap.fromkeys([1], [1.0]).__arrow_c_stream__()
        IntArrayMap.from_arrow(Answers(used))
        with pytest.raises(ValueError, match="released"):
            IntArrayMap.from_arrow(Answers(used))

    @pytest.mark.parametrize(
        "error, expected", [(22, ValueError), (5, ValueError), (12, MemoryError), (999, ValueError)]
    )
    def test_producers_that_fail(self, error, expected):
        made = table(integers([1]), fixed([[1]]))
        producers = []
        for place in (-1, 0, 1):
            for words in (b"it rained", None, b"\xff\xfe"):
                producers.append(Producer(made, made, fail_at=place, error=error, words=words))
                with pytest.raises(expected, match="rained" if words == b"it rained" else "producer"):
                    IntArrayMap.from_arrow(producers[-1])
        gc.collect()
        assert [producer.alive for producer in producers] == [0] * 9


def _nulls(made: Made, valid: list[int]) -> Made:
    made.buffers[0] = bits(valid)
    made.null_count = valid.count(0)
    return made


def _null_items(valid: list[int], null_count: int | None = None) -> Made:
    made = fixed(np.arange(len(valid)).reshape(2, -1))
    _nulls(made.children[0], valid)
    if null_count is not None:
        made.children[0].null_count = null_count
    return made


def _text(name: str = "item") -> Made:
    return Made("u", 1, [None, np.array([0, 1], np.int32), np.array([65], np.uint8)], name=name)


# ---- Real consumers --------------------------------------------------------------------------------------------------


def example(dtype="float64", row_shape=(3,), count=50) -> IntArrayMap:
    """Some rows with gaps between them."""
    m = build_map("hash", row_shape, dtype, [k * 1000 - 7 for k in range(count)])
    m.delete_many([k * 1000 - 7 for k in range(0, count, 5)])
    return m


class TestPyarrow:
    @pytest.mark.parametrize(
        "dtype, copy", [(each, copy) for each in DTYPES for copy in (True, False) if copy or each != "bool"]
    )
    def test_every_dtype(self, pa, dtype, copy):
        """All but bool without a copy, which Arrow packs in bits."""
        m = example(dtype, (2, 3))
        read = pa.table(m.to_arrow(copy=copy))
        read.validate(full=True)
        keys, rows = m.to_arrays()
        assert read.column_names == ["key", "row"]
        assert read["key"].type == pa.int64()
        assert pa.types.is_fixed_size_list(read["row"].type)
        assert read["row"].type.list_size == 6
        assert read["key"].to_pylist() == keys.tolist()
        if np.dtype(dtype).kind in "biuf":
            assert read["row"].to_pylist() == rows.reshape(-1, 6).tolist()
        other = IntArrayMap.from_arrow(read)
        assert (other.dtype, other.row_shape) == (m.dtype, m.row_shape)
        assert_same(other, copy_of(m))

    def test_kinds(self, pa, make_case):
        case = make_case()
        read = pa.table(case.map)
        read.validate(full=True)
        assert_same(IntArrayMap.from_arrow(read), case.model)

    def test_schema(self, pa):
        schema = pa.schema(IntArrayMap((2, 3), "int16"))
        assert schema.field("key").type == pa.int64()
        assert schema.field("row").type == pa.list_(pa.int16(), 6)
        assert schema.field("row").metadata[b"intarraymap.row_shape"] == b"[2, 3]"
        assert pa.table(IntArrayMap((2, 3), "int16")).num_rows == 0

    def test_zero_copy(self, pa):
        m = IntArrayMap.from_arrays(np.arange(1000) * 10**9, rows_for(1000))
        read = pa.table(m.to_arrow(copy=False))
        rows = m.blocks()[0][2]
        chunk = read["row"].chunk(0)
        assert chunk.values.buffers()[1].address == rows.ctypes.data
        m[5 * 10**9][1] = -1.0
        assert read["row"][5].as_py()[1] == -1.0
        del rows, chunk
        with pytest.raises(BufferError):
            m.compact()
        del read
        m.compact()

    def test_reader_and_slices(self, pa):
        m = example()
        with pa.RecordBatchReader.from_stream(m) as reader:
            batches = list(reader)
        whole = pa.Table.from_batches(batches)
        part = whole.slice(3, 20)
        keys = whole["key"].to_pylist()[3:23]
        assert_same(IntArrayMap.from_arrow(part), {key: row for key, row in copy_of(m).items() if key in keys})
        assert_same(IntArrayMap.from_arrow(batches[0]), copy_of(m))

    def test_lists_of_theirs(self, pa):
        read = pa.table({"key": pa.array([1, 2, 3], pa.int32()), "row": [[1, 2], [3, 4], [5, 6]]})
        m = IntArrayMap.from_arrow(read.slice(1))
        assert_same(m, {2: np.array([3, 4]), 3: np.array([5, 6])})
        chunked = pa.concat_tables([read, read.slice(1, 1)])
        assert_same(IntArrayMap.from_arrow(chunked), {1: np.array([1, 2]), 2: np.array([3, 4]), 3: np.array([5, 6])})
        for rows, text in (
            ([[1, 2], None, [3, 4]], r"row\[1\] is null"),
            ([[1, 2], [3, None], [3, 4]], r"row\[1\], item 1 is null"),
            ([[1, 2], [3], [3, 4]], r"row\[1\] has 1 items"),
        ):
            with pytest.raises(ValueError, match=text):
                IntArrayMap.from_arrow(pa.table({"key": [1, 2, 3], "row": rows}))
        for rows in (["a", "b", "c"], [["a"], ["b"], ["c"]], [{"a": 1}] * 3):
            with pytest.raises(TypeError, match="row"):
                IntArrayMap.from_arrow(pa.table({"key": [1, 2, 3], "row": rows}))

    def test_tensors(self, pa):
        rows = np.arange(12.0).reshape(2, 2, 3)
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(rows)
        m = IntArrayMap.from_arrow(pa.table({"key": [1, 2], "row": tensors}))
        assert_same(m, {1: rows[0], 2: rows[1]})

    @pytest.mark.parametrize("dtype", ["float64", "bool", "complex64", "datetime64[D]", "datetime64[Y]"])
    def test_parquet_and_feather(self, pa, tmp_path, dtype):
        parquet, feather = consumer("pyarrow.parquet"), consumer("pyarrow.feather")
        m = example(dtype, (2, 2))
        parquet.write_table(pa.table(m), tmp_path / "m.parquet")
        assert_same(IntArrayMap.from_arrow(parquet.read_table(tmp_path / "m.parquet")), copy_of(m))
        feather.write_feather(pa.table(m), tmp_path / "m.feather")
        assert_same(IntArrayMap.from_arrow(feather.read_table(tmp_path / "m.feather")), copy_of(m))

    def test_read_by_threads_while_the_map_changes(self, pa):
        """Each copy is a moment: every row of it was written by one and the same batch."""
        keys = np.arange(5000) * 3
        m = IntArrayMap.from_arrays(keys, np.zeros((5000, 4)))
        stop = threading.Event()

        def write():
            number = 0.0
            while not stop.is_set():
                number += 1
                m.set_many(keys, number)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(20):
                rows = np.concatenate([chunk.values.to_numpy() for chunk in pa.table(m)["row"].chunks])
                assert (rows == rows[0]).all()
        finally:
            stop.set()
            writer.join()


class TestPolars:
    @pytest.mark.parametrize("dtype", [each for each in DTYPES if not each.startswith("complex")])
    def test_every_dtype(self, pl, dtype):
        if dtype == "float16" and not hasattr(pl, "Float16"):
            pytest.skip("POLARS IS TOO OLD: it has no float16")
        m = example(dtype, (2, 2))
        for copy in (True, False):
            if dtype == "bool" and not copy:
                continue
            read = pl.DataFrame(m.to_arrow(copy=copy))
            assert read.columns == ["key", "row"]
            assert read.schema["key"] == pl.Int64
            assert isinstance(read.schema["row"], pl.Array)
            assert_same(IntArrayMap.from_arrow(read, row_shape=(2, 2), dtype=dtype), copy_of(m))

    def test_query(self, pl):
        m = IntArrayMap.from_arrays([5, 6, 7], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        read = pl.DataFrame(m.to_arrow()).filter(pl.col("key") > 5).select(pl.col("row").arr.sum()).to_series()
        assert sorted(read.to_list()) == [7.0, 11.0]

    def test_kinds(self, pl, make_case):
        case = make_case()
        assert_same(IntArrayMap.from_arrow(pl.DataFrame(case.map.to_arrow())), case.model)

    def test_lists_and_columns(self, pl):
        frame = pl.DataFrame({"id": [1, 2], "x": [[1, 2], [3, 4]], "a": [1, 2], "b": [0.5, 1.5]})
        assert IntArrayMap.from_arrow(frame, key="id", row="x")[2].tolist() == [3, 4]
        assert IntArrayMap.from_arrow(frame, key="id", row=["a", "b"])[2].tolist() == [2.0, 1.5]

    def test_empty(self, pl):
        assert pl.DataFrame(IntArrayMap(3).to_arrow()).shape == (0, 2)

    def test_no_copy_outlives_the_map(self, pl):
        m = example()
        expected = copy_of(m)
        frame = pl.DataFrame(m.to_arrow(copy=False))
        m.close()
        del m
        gc.collect()
        assert_same(IntArrayMap.from_arrow(frame), expected)


class TestDuckdb:
    @pytest.mark.parametrize("dtype", "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split())
    def test_every_dtype(self, duckdb, dtype):
        m = example(dtype, (2, 2))
        assert duckdb.sql("select count(*) from m").fetchall() == [(40,)]
        assert_same(IntArrayMap.from_arrow(duckdb.sql("from m"), row_shape=(2, 2)), copy_of(m))

    def test_query(self, duckdb):
        m = IntArrayMap.from_arrays([5, 6, 7], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        shown = m.to_arrow(copy=False)  # noqa: F841  # duckdb finds it by its name
        for _ in range(2):  # it asks anew each time
            assert duckdb.sql("select sum(row[1]), max(key) from shown where key > 5").fetchall() == [(8.0, 7)]
        m[7][0] = 100
        assert duckdb.sql("select max(row[1]) from shown").fetchall() == [(100.0,)]

    def test_times_and_nat(self, duckdb):
        m = IntArrayMap.from_arrays([1], np.array([["2026-01-02T03:04:05", "NaT"]], "M8[s]"))  # noqa: F841
        ((row,),) = duckdb.sql("select row from m").fetchall()
        assert str(row[0]) == "2026-01-02 03:04:05"
        assert row[1] is None

    def test_join(self, duckdb):
        a = IntArrayMap.from_arrays(np.arange(100), rows_for(100))
        b = IntArrayMap.from_arrays(np.arange(50, 150), rows_for(100))
        assert duckdb.sql("select count(*) from a join b using (key)").fetchall() == [(50,)]
        assert len(a) == len(b)

    def test_empty(self, duckdb):
        m = IntArrayMap(3)
        assert duckdb.sql("from m").fetchall() == []
        assert len(m) == 0


class TestPandas:
    @pytest.mark.parametrize("dtype", "bool int8 int32 int64 uint64 float32 float64 datetime64[ns]".split())
    def test_every_dtype(self, pd, dtype):
        m = example(dtype)
        frame = pd.DataFrame.from_arrow(m)
        keys, rows = m.to_arrays()
        assert list(frame.columns) == ["key", "row"]
        assert frame["key"].tolist() == keys.tolist()
        assert np.array_equal(np.stack(frame["row"].tolist()).astype(dtype), rows)
        assert_same(IntArrayMap.from_arrow(frame, dtype=dtype), copy_of(m))

    def test_columns(self, pd):
        frame = pd.DataFrame({"key": [1, 2], "a": [1, 2], "b": [3, 4]})
        assert IntArrayMap.from_arrow(frame, row=["a", "b"])[2].tolist() == [2, 4]


class TestDlpack:
    """Views and blocks are NumPy arrays: DLPack comes with them."""

    def test_numpy(self, make_map):
        m = make_map((3,), "float32", range(100))
        view = np.from_dlpack(m[5])
        view[1] = -3.0
        assert m[5][1] == -3.0
        for block_of in m.blocks():
            rows = block_of[2]
            block = np.from_dlpack(rows)
            assert block.ctypes.data == rows.ctypes.data
        del block, rows, block_of
        assert m.stats().views == 1
        del view
        assert m.stats().views == 0

    def test_holds_like_a_view(self, make_map):
        m = make_map((3,), keys=range(10))
        view = np.from_dlpack(m[5])
        expected = view.copy()
        del m[5]
        m.set_many(range(20, 60), 9.0)
        assert equal(view, expected)
        with pytest.raises(BufferError):
            m.compact()

    def test_torch(self):
        torch = consumer("torch")
        m = IntArrayMap.from_arrays(np.arange(100) * 10**9, rows_for(100, (4,), "float32"))
        rows = m.blocks()[0][2]
        tensor = torch.from_dlpack(rows)
        assert tensor.data_ptr() == rows.ctypes.data
        tensor[7] += 1
        assert equal(m[7 * 10**9], rows_for(100, (4,), "float32")[7] + 1)

    def test_jax(self):
        """jax reads where it lies what is aligned to 64 bytes, and copies the rest by itself."""
        numpy_of_jax = consumer("jax.numpy")
        m = IntArrayMap.from_arrays(np.arange(100) * 10**9, rows_for(100, (4,), "float32"))
        rows = m.blocks()[0][2]
        array = numpy_of_jax.from_dlpack(rows)
        assert rows.ctypes.data % 64 != 0 or array.unsafe_buffer_pointer() == rows.ctypes.data
        assert equal(np.asarray(array), rows_for(100, (4,), "float32"))
        del rows, array
        gc.collect()
        assert m.stats().views == 0


def test_columns_without_a_dtype_in_common():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"key": [1, 2], "a": [1.0, 2.0], "b": pa.array([1, 2], pa.timestamp("s"))})
    with pytest.raises(TypeError, match="have no dtype in common; say dtype"):
        IntArrayMap.from_arrow(table, row=["a", "b"])


def test_noted_times_of_no_steps_ended_the_process():
    for dtype in (b"datetime64[0s]", b"datetime64[s/0]", b"<M8[-0s]"):
        seconds = Made("tss:", 1, [None, np.array([5])])
        noted = Made("+w:1", 1, [None], [seconds], "row", notes={b"intarraymap.dtype": dtype})
        with pytest.raises(ValueError, match="notes the dtype"):
            from_arrow(table(integers([1]), noted))


def test_tensors_that_lie_of_their_axes():
    def tensor(metadata: bytes) -> Made:
        noted = {b"ARROW:extension:name": b"arrow.fixed_shape_tensor", b"ARROW:extension:metadata": metadata}
        return table(integers([1]), fixed([range(6)], notes=noted))

    lies = [b"[" * 50000, b'{"shape": ' + b"[" * 50000, b"\xff"]
    for order in (b"5", b'["a", 1]', b"[0, 0]", b"[1, 2]", b'{"a": 1}', b"[null, 0]", b"[[0], 1]", b"1.5", b"true"):
        lies.append(b'{"shape": [2, 3], "permutation": ' + order + b"}")
    for lie in lies:
        with pytest.raises(ValueError, match="tensor type is not understood"):
            from_arrow(tensor(lie))
    assert from_arrow(tensor(b'{"shape": [2, 3], "permutation": null}')).row_shape == (2, 3)
