"""Keys and rows to and from pandas. It is imported when it is needed and never before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from intarraymap import coerce

if TYPE_CHECKING:
    import pandas as _pd  # type: ignore[import-untyped, import-not-found, unused-ignore]

__all__ = ["from_frame", "to_frame"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


def _pandas() -> Any:
    try:
        import pandas  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise ImportError("pandas is not installed: pip install 'intarraymap[pandas]'") from error
    return pandas


def to_frame(keys: npt.NDArray[np.int64], rows: Array, names: object) -> _pd.DataFrame:
    """A frame over the rows themselves: index = keys, a column for each item."""
    pandas = _pandas()
    shape = rows.shape[1:]
    item_count = math.prod(shape)
    columns: Any
    if names is not None:
        if isinstance(names, str) or not isinstance(names, Iterable):
            came = "a string" if isinstance(names, str) else type(names).__name__
            raise TypeError(f"columns must be a sequence of names, not {came}")
        columns = list(names)
        if len(columns) != item_count:
            raise ValueError(f"columns: {len(columns)} names for rows of {item_count} items")
    elif len(shape) == 1:
        columns = pandas.RangeIndex(item_count)
    else:
        columns = pandas.MultiIndex.from_product([range(length) for length in shape])
    index = pandas.Index(keys, name="key")
    return pandas.DataFrame(rows.reshape(len(keys), item_count), index=index, columns=columns, copy=False)


def from_frame(
    frame: Any, key: Any, row_shape: Shape | None, row_dtype: np.dtype[Any] | None
) -> tuple[npt.NDArray[np.int64], Array]:
    """Exact keys (n,) and rows (n, *row_shape) of a frame; a Series is a frame of one column."""
    pandas = _pandas()
    if isinstance(frame, pandas.Series):
        frame = frame.to_frame()
    if not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"expected a pandas DataFrame or Series, not {type(frame).__name__}")
    if key is None:
        keys = _keys(frame.index, "index")
    else:
        if key not in frame.columns:
            raise ValueError(f"there is no column {key!r:.80} in the frame")
        if isinstance(frame[key], pandas.DataFrame):
            raise ValueError(f"more than one column is called {key!r:.80}")
        keys = _keys(frame[key], f"column {key!r:.80}")
        frame = frame.drop(columns=[key])
    count = len(frame.columns)
    if count == 0:
        raise ValueError("the frame has no columns to make rows of")
    rows = _together(frame, row_dtype)
    if rows is None:
        rows = _column_by_column(frame, row_dtype)
    shape = row_shape if row_shape is not None else _shape(frame.columns, pandas)
    if math.prod(shape) != count:
        raise ValueError(f"{count} columns can't be rows of shape {shape}")
    return keys, rows.reshape(len(keys), *shape)


def _together(frame: Any, row_dtype: np.dtype[Any] | None) -> Array | None:
    """All columns at once, if they have one dtype of NumPy's and keep it: then they mostly lie together."""
    found = set(frame.dtypes)
    one = found.pop()
    if found or not isinstance(one, np.dtype) or one.kind not in "biufcmM" or row_dtype not in (None, one):
        return None
    return np.asarray(frame.to_numpy())


def _column_by_column(frame: Any, row_dtype: np.dtype[Any] | None) -> Array:
    names = [f"column {name!r:.80}" for name in frame.columns]
    columns = [_numbers(frame.iloc[:, at], name) for at, name in enumerate(names)]
    target = row_dtype
    if target is None:
        try:
            target = coerce.dtype(np.result_type(*[column.dtype for column in columns]))
        except TypeError as error:
            raise TypeError(f"the columns have no dtype in common: {error}; say dtype") from None
    rows = np.empty((len(frame), len(names)), target)
    for at, (column, name) in enumerate(zip(columns, names, strict=True)):
        rows[:, at] = coerce.cast(column, target, False, name, 1)
    return rows


def _shape(columns: Any, pandas: Any) -> Shape:
    """Columns that number the items of an array, as to_frame makes them, give its shape back."""
    if isinstance(columns, pandas.MultiIndex):
        shape = tuple(len(level) for level in columns.levels)
        if math.prod(shape) == len(columns):  # else it may be far too many
            if columns.equals(pandas.MultiIndex.from_product([range(length) for length in shape])):
                return shape
    return (len(columns),)


def _keys(given: Any, what: str) -> npt.NDArray[np.int64]:
    """An index, or a column."""
    if getattr(given, "nlevels", 1) > 1:
        raise TypeError(f"{what}: a key is one integer, the index has {given.nlevels} levels")
    if given.dtype.kind not in "iu":
        raise TypeError(f"{what}: keys are integers, not {given.dtype}")
    return coerce.keys_within(_plain(given, what), what)


def _numbers(column: Any, what: str) -> Array:
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    numbers = _plain(column, what)
    if numbers.dtype.kind not in "biufcmM":
        raise TypeError(f"{what}: rows are of numbers, not {column.dtype}")
    return numbers


def _plain(column: Any, what: str) -> Array:
    """A NumPy array of what a column of pandas' own dtypes holds."""
    if isinstance(column.dtype, np.dtype):
        return np.asarray(column)
    numpy_dtype = getattr(column.dtype, "numpy_dtype", None)
    if not isinstance(numpy_dtype, np.dtype) or numpy_dtype.kind not in "biufcmM":
        return np.asarray(column)
    missing = np.asarray(column.isna())
    if missing.any() and numpy_dtype.kind not in "mM":
        place = int(missing.argmax())
        raise ValueError(f"{what}, row {place} is missing ({int(missing.sum())} in all); fill or drop such rows first")
    return np.asarray(column.to_numpy(dtype=numpy_dtype))
