"""Promise §8: to and from pandas, which is imported only when it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from model import DTYPES, assert_same, build_map, copy_of, equal

from intarraymap import IntArrayMap

HAVE = "bool int8 int64 uint8 uint64 float16 float32 float64 complex64 complex128 datetime64[ns] timedelta64[s]".split()


@pytest.fixture
def pd():
    return pytest.importorskip("pandas", reason="PANDAS IS NOT INSTALLED: frames are not tested")


def test_not_imported_before_it_is_asked_for(run_child):
    code = """
    import sys, intarraymap
    intarraymap.IntArrayMap(2).__arrow_c_stream__()
    print({'pandas', 'pyarrow', 'polars'} & set(sys.modules))
    """
    assert run_child(code).strip() == "set()"


def test_says_how_to_get_it(run_child):
    code = """
    import sys
    sys.modules["pandas"] = None
    from intarraymap import IntArrayMap
    for call in (IntArrayMap(2).to_pandas, lambda: IntArrayMap.from_pandas(5)):
        try:
            call()
        except ImportError as error:
            print(error)
    """
    assert run_child(code).count("pip install") == 2


class TestToPandas:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, pd, make_map, dtype):
        m = make_map((3,), dtype, range(20))
        frame = m.to_pandas()
        keys, rows = m.to_arrays()
        assert frame.shape == (20, 3)
        assert frame.index.name == "key"
        assert frame.index.tolist() == keys.tolist()
        assert frame.columns.tolist() == [0, 1, 2]
        assert set(frame.dtypes) == {np.dtype(dtype)}
        assert equal(frame.to_numpy(), rows)

    def test_kinds(self, pd, make_case):
        case = make_case((2, 2))
        frame = case.map.to_pandas()
        assert len(frame) == len(case.model)
        assert frame.columns.tolist() == [(0, 0), (0, 1), (1, 0), (1, 1)]
        for key in list(case.model)[::17]:
            assert frame.loc[key].tolist() == case.model[key].ravel().tolist()

    def test_independent(self, pd, make_map):
        m = make_map((2,), keys=range(10))
        expected = copy_of(m)
        frame = m.to_pandas()
        frame.loc[5, 1] = -1.0
        assert_same(m, expected)
        assert m.stats().views == 0

    def test_names(self, pd):
        m = IntArrayMap.from_arrays([5, 6], [[1, 2], [3, 4]])
        frame = m.to_pandas(["low", "high"])
        assert frame["high"].to_dict() == {5: 2, 6: 4}
        assert m.to_pandas(columns=(k for k in "ab")).columns.tolist() == ["a", "b"]
        for wrong in (["a"], ["a", "b", "c"], []):
            with pytest.raises(ValueError, match="names"):
                m.to_pandas(wrong)
        for wrong in ("ab", 5):
            with pytest.raises(TypeError):
                m.to_pandas(wrong)

    def test_empty(self, pd):
        frame = IntArrayMap((2, 2), "int8").to_pandas()
        assert frame.shape == (0, 4)
        assert IntArrayMap.from_pandas(frame).row_shape == (2, 2)

    def test_closed(self, pd):
        m = IntArrayMap(2)
        m.close()
        with pytest.raises(ValueError, match="closed"):
            m.to_pandas()


class TestThereAndBack:
    @pytest.mark.parametrize("dtype", HAVE)
    @pytest.mark.parametrize("row_shape", [(1,), (3,), (2, 3), (1, 2, 2)])
    def test_same(self, pd, dtype, row_shape):
        m = build_map("hash", row_shape, dtype, [5, -(2**63), 2**63 - 1, 0])
        other = IntArrayMap.from_pandas(m.to_pandas())
        assert (other.dtype, other.row_shape) == (m.dtype, m.row_shape)
        assert_same(other, copy_of(m))

    def test_nan_and_nat_are_numbers(self, pd):
        m = IntArrayMap.from_arrays([1], [[np.nan, -0.0, np.inf]])
        assert_same(IntArrayMap.from_pandas(m.to_pandas()), copy_of(m))
        m = IntArrayMap.from_arrays([1], np.array([["NaT", "2026-01-02"]], "M8[s]"))
        assert_same(IntArrayMap.from_pandas(m.to_pandas()), copy_of(m))


class TestFromPandas:
    def test_index_or_column(self, pd):
        frame = pd.DataFrame({"id": [7, 8], "a": [1, 2], "b": [0.5, 1.5]}, index=[5, 6])
        m = IntArrayMap.from_pandas(frame)
        assert (m.row_shape, m.dtype) == ((3,), np.dtype("float64"))
        assert m[6].tolist() == [8.0, 2.0, 1.5]
        m = IntArrayMap.from_pandas(frame, key="id")
        assert m[8].tolist() == [2.0, 1.5]
        assert list(frame.columns) == ["id", "a", "b"], "the frame is only read"
        with pytest.raises(ValueError, match="no column 'x'"):
            IntArrayMap.from_pandas(frame, key="x")

    def test_arguments(self, pd):
        class Mine(IntArrayMap):
            pass

        frame = pd.DataFrame([[1, 2, 3, 4]], index=[5])
        m = Mine.from_pandas(frame, row_shape=(2, 2), dtype="float32", index="hash", seed=1)
        assert (type(m), m.row_shape, m.dtype, m.index) == (Mine, (2, 2), np.dtype("float32"), "hash")
        with pytest.raises(ValueError, match="4 columns"):
            IntArrayMap.from_pandas(frame, row_shape=3)
        with pytest.raises(OverflowError, match="column 3"):
            IntArrayMap.from_pandas(pd.DataFrame([[1, 2, 3, 400]]), dtype="int8")
        with pytest.raises(TypeError):
            IntArrayMap.from_pandas(pd.DataFrame([[0.5]]), dtype="int8")

    def test_series(self, pd):
        m = IntArrayMap.from_pandas(pd.Series([0.5, 1.5], index=[5, 6]))
        assert m[6].tolist() == [1.5]

    def test_last_of_a_duplicate_wins(self, pd):
        m = IntArrayMap.from_pandas(pd.DataFrame({"a": [1, 2, 3]}, index=[5, 6, 5]))
        assert {key: row.tolist() for key, row in m.items()} == {5: [3], 6: [2]}

    def test_mixed_columns(self, pd):
        frame = pd.DataFrame({"a": np.array([1], "int8"), "b": np.array([300], "int16"), "c": [True]})
        m = IntArrayMap.from_pandas(frame)
        assert m.dtype == np.dtype("int16")
        assert m[0].tolist() == [1, 300, 1]
        with pytest.raises(TypeError, match="in common"):
            IntArrayMap.from_pandas(pd.DataFrame({"a": [1], "b": pd.to_datetime(["2026-01-02"])}))

    def test_pandas_own_dtypes(self, pd):
        frame = pd.DataFrame({"a": pd.array([1, 2], "Int32"), "b": pd.array([0.5, 1.5], "Float32")}, index=[5, 6])
        assert IntArrayMap.from_pandas(frame)[6].tolist() == [2.0, 1.5]
        frame = pd.DataFrame({"a": pd.array([1, None], "Int32")})
        with pytest.raises(ValueError, match="column 'a', row 1 is missing"):
            IntArrayMap.from_pandas(frame)
        frame = pd.DataFrame({"k": pd.array([1, None], "Int64"), "a": [1, 2]})
        with pytest.raises(ValueError, match="column 'k', row 1 is missing"):
            IntArrayMap.from_pandas(frame, key="k")
        frame = pd.DataFrame({"k": pd.array([1, 2], "UInt8"), "a": [1, 2]})
        assert sorted(IntArrayMap.from_pandas(frame, key="k")) == [1, 2]

    def test_arrow_dtypes(self, pd):
        pa = pytest.importorskip("pyarrow", reason="PYARROW IS NOT INSTALLED: pandas' dtypes of it are not tested")
        frame = pd.DataFrame({"a": pd.array([1, 2], pd.ArrowDtype(pa.int16()))}, index=[5, 6])
        assert IntArrayMap.from_pandas(frame)[6].tolist() == [2]
        frame = pd.DataFrame({"a": pd.array([1.5, None], pd.ArrowDtype(pa.float64()))})
        with pytest.raises(ValueError, match="row 1 is missing"):
            IntArrayMap.from_pandas(frame)

    def test_time_zones(self, pd):
        frame = pd.DataFrame({"a": pd.to_datetime(["2026-01-02T03:00"]).tz_localize("Europe/Paris")})
        m = IntArrayMap.from_pandas(frame)
        assert m[0][0] == np.datetime64("2026-01-02T02:00")

    @pytest.mark.parametrize(
        "make, error, text",
        [
            (lambda pd: pd.DataFrame({"a": ["x"]}), TypeError, "column 'a': rows are of numbers"),
            (lambda pd: pd.DataFrame({"a": [object()]}), TypeError, "column 'a'"),
            (lambda pd: pd.DataFrame({"a": pd.Categorical(["x"])}), TypeError, "column 'a'"),
            (lambda pd: pd.DataFrame({"a": [1]}, index=["x"]), TypeError, "index: keys are integers"),
            (lambda pd: pd.DataFrame({"a": [1]}, index=[0.5]), TypeError, "index: keys are integers"),
            (lambda pd: pd.DataFrame({"a": [1]}, index=pd.to_datetime(["2026-01-02"])), TypeError, "index"),
            (lambda pd: pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])), TypeError, "2 levels"),
            (lambda pd: pd.DataFrame({"a": [1]}, index=np.array([2**63], np.uint64)), OverflowError, "outside int64"),
            (lambda pd: pd.DataFrame(index=[1]), ValueError, "no columns"),
            (lambda pd: {"a": [1]}, TypeError, "dict"),
            (lambda pd: None, TypeError, "NoneType"),
            (lambda pd: np.zeros((2, 2)), TypeError, "ndarray"),
        ],
    )
    def test_refused(self, pd, make, error, text):
        with pytest.raises(error, match=text):
            IntArrayMap.from_pandas(make(pd))

    def test_columns_with_one_name(self, pd):
        frame = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"], index=[5])
        assert IntArrayMap.from_pandas(frame)[5].tolist() == [1, 2, 3]
        with pytest.raises(ValueError, match="more than one column"):
            IntArrayMap.from_pandas(frame, key="a")
        assert IntArrayMap.from_pandas(frame, key="b")[3].tolist() == [1, 2]

    def test_many_columns_of_a_tuple(self, pd):
        """A MultiIndex that does not number the items of an array is just names."""
        columns = pd.MultiIndex.from_tuples([("a", 0), ("a", 1), ("b", 0), ("b", 1)])
        assert IntArrayMap.from_pandas(pd.DataFrame([[1, 2, 3, 4]], columns=columns)).row_shape == (4,)
        columns = pd.MultiIndex.from_tuples([(0, 0), (1, 1), (0, 1), (1, 0)])
        assert IntArrayMap.from_pandas(pd.DataFrame([[1, 2, 3, 4]], columns=columns)).row_shape == (4,)
        names = pd.MultiIndex.from_tuples([(k, k) for k in range(3000)])
        assert IntArrayMap.from_pandas(pd.DataFrame(np.zeros((1, 3000)), columns=names)).row_shape == (3000,)
