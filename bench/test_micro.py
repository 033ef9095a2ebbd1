"""Micro-benchmarks by pytest-benchmark: one call each, where the fixed price of a call is what counts.

`pytest bench/test_micro.py` prints them and keeps the JSON in build/bench/micro;
`pytest-benchmark --storage file://build/bench/micro compare` sets kept runs beside each other;
`--benchmark-compare --benchmark-compare-fail=min:10%` makes a slower minimum an error. What the README says about speed
comes from `python -m bench run`, which interleaves.
"""

import numpy as np
import pytest

from bench import workloads
from bench.rivals import DictOfArrays

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed (dependency group bench)")
IntArrayMap = pytest.importorskip("intarraymap").IntArrayMap

SIZES = (1_000, 100_000)
BATCHES = (1, 10, 1_000, 10_000)
ROW = np.arange(workloads.ROW_ITEMS, dtype=np.float64)


def dict_of(keys, rows):
    return DictOfArrays.build(keys, rows).table


MAKERS = {"IntArrayMap": lambda keys, rows: IntArrayMap.from_arrays(keys, rows), "dict of arrays": dict_of}


@pytest.fixture(scope="module", params=SIZES, ids=lambda count: f"{count:,} keys")
def stored(request):
    """Keys and rows, and one key that is there and one that is not."""
    keys, missing = workloads.random_keys(request.param), workloads.random_keys(1, 10**9)
    return keys, workloads.make_rows(request.param), int(keys[request.param // 2]), int(missing[0])


@pytest.fixture(scope="module", params=list(MAKERS))
def table(request, stored):
    return MAKERS[request.param](*stored[:2])


@pytest.fixture(scope="module")
def ours(stored):
    return IntArrayMap.from_arrays(*stored[:2])


@pytest.mark.benchmark(group="m[k]")
def test_get(benchmark, table, stored):
    row = benchmark(lambda key: table[key], stored[2])
    assert np.array_equal(row, stored[1][stored[0].size // 2])


@pytest.mark.benchmark(group="m.get(k), missing")
def test_get_missing(benchmark, table, stored):
    assert benchmark(table.get, stored[3]) is None


@pytest.mark.benchmark(group="k in m")
def test_contains(benchmark, table, stored):
    assert benchmark(table.__contains__, stored[2]) is True


@pytest.mark.benchmark(group="k in m, missing")
def test_contains_missing(benchmark, table, stored):
    assert benchmark(table.__contains__, stored[3]) is False


@pytest.mark.benchmark(group="m[k] = row, then del m[k]")
def test_set_and_delete(benchmark, table, stored):
    is_dict, key = isinstance(table, dict), stored[3]

    def set_and_delete():
        table[key] = ROW.copy() if is_dict else ROW
        del table[key]

    benchmark(set_and_delete)
    assert key not in table and len(table) == stored[0].size


@pytest.mark.benchmark(group="m[k][3] += 1")
def test_add_to_an_item(benchmark, table, stored):
    key = stored[2]
    before = table[key][3]

    def add():
        table[key][3] += 1

    benchmark(add)
    assert table[key][3] > before


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.benchmark(group="get_many")
def test_get_many(benchmark, ours, stored, size):
    queries = workloads.hits(stored[0], 0, size)
    assert np.array_equal(benchmark(ours.get_many, queries.keys)[:, 0], ours.get_many(queries.keys)[:, 0])


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.benchmark(group="contains_many")
def test_contains_many(benchmark, ours, stored, size):
    queries = workloads.half_missing(stored[0], 0, size)
    assert np.array_equal(benchmark(ours.contains_many, queries.keys), queries.positions >= 0)


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.benchmark(group="add_many")
def test_add_many(benchmark, stored, size):
    table = IntArrayMap.from_arrays(*stored[:2])
    keys, rows = workloads.hits(stored[0], 0, size).keys, np.zeros((size, workloads.ROW_ITEMS))
    benchmark(table.add_many, keys, rows)
    assert np.array_equal(table.get_many(stored[0]), stored[1])


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.benchmark(group="add_at")
def test_add_at(benchmark, stored, size):
    table = IntArrayMap.from_arrays(*stored[:2])
    keys, items = workloads.hits(stored[0], 0, size).keys, np.zeros(size, np.int64)
    benchmark(table.add_at, keys, items, 0.0)
    assert np.array_equal(table.get_many(stored[0]), stored[1])


@pytest.mark.benchmark(group="making an empty one")
@pytest.mark.parametrize("make", [lambda: IntArrayMap(8), dict], ids=["IntArrayMap", "dict"])
def test_make(benchmark, make):
    assert len(benchmark(make)) == 0


@pytest.mark.benchmark(group="iterating over items")
def test_items(benchmark, table, stored):
    def walk():
        count = 0
        for _key, _row in table.items():
            count += 1
        return count

    assert benchmark(walk) == stored[0].size
