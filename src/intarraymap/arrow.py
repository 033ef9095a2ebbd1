"""What Arrow calls our keys and rows: dtypes and formats both ways, and the schema of a map.

A map is a table of two columns, ``key: int64`` and ``row: fixed_size_list<item>``. Rows of several axes are flattened;
their shape and dtype are noted in the metadata of the column, so that `from_arrow` gives the same map back. The
capsules are made in _arrow.pyx, columns of others are read in columns.py.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from intarraymap import _arrow, coerce
from intarraymap._batch import Batch

__all__ = ["DTYPE", "SHAPE", "TIME_UNITS", "Form", "dtype_of", "form_of", "schema", "stream"]

#: Metadata of the row column.
SHAPE: Final = b"intarraymap.row_shape"
DTYPE: Final = b"intarraymap.dtype"

TIME_UNITS: Final = {"s": "s", "ms": "m", "us": "u", "ns": "n"}
_FORMATS: Final = {
    "?": "b",
    "i1": "c",
    "u1": "C",
    "i2": "s",
    "u2": "S",
    "i4": "i",
    "u4": "I",
    "i8": "l",
    "u8": "L",
    "f2": "e",
    "f4": "f",
    "f8": "g",
}
_DTYPES: Final = {form: np.dtype(name) for name, form in _FORMATS.items()}


class Form(NamedTuple):
    """How rows of a dtype go into Arrow."""

    format: str  # of an item, or of a part of it
    parts: int  # 2: an item is a list of two, real and imaginary part
    converted: np.dtype[Any] | None  # the dtype that Arrow has instead of a unit that it has not


def form_of(row_dtype: np.dtype[Any]) -> Form:
    """TypeError if Arrow has nothing that holds every number of the dtype."""
    if row_dtype.kind in "mM":
        unit, steps = np.datetime_data(row_dtype)
        nearest = unit if unit in TIME_UNITS else "s"
        form = f"ts{TIME_UNITS[nearest]}:" if row_dtype.kind == "M" else f"tD{TIME_UNITS[nearest]}"
        target = np.dtype(f"{row_dtype.kind}8[{nearest}]")
        if not np.can_cast(row_dtype, target, "safe"):
            raise TypeError(f"Arrow has no unit that holds {row_dtype}; use s, ms, us or ns")
        return Form(form, 0, None if (unit, steps) == (nearest, 1) else target)
    if row_dtype.kind == "c":
        return Form("f" if row_dtype.itemsize == 8 else "g", 2, None)
    return Form(_FORMATS["?" if row_dtype.kind == "b" else row_dtype.str[1:]], 0, None)


def dtype_of(form: str) -> np.dtype[Any] | None:
    """The dtype of an Arrow format that holds numbers, as they come out; None for all others."""
    if form in _DTYPES:
        return _DTYPES[form]
    units = {short: unit for unit, short in TIME_UNITS.items()}
    if form[:2] == "ts" and form[2:3] in units and form[3:4] == ":":
        return np.dtype(f"M8[{units[form[2]]}]")  # of a time zone: the instant in UTC, which is what Arrow stores
    if form[:2] == "tD" and form[2:] in units:
        return np.dtype(f"m8[{units[form[2]]}]")
    return {"tdD": np.dtype("M8[D]"), "tdm": np.dtype("M8[ms]")}.get(form)


def schema(row_shape: tuple[int, ...], row_dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """The schema of a map, as _arrow.pyx takes it."""
    form = form_of(row_dtype)
    item: tuple[Any, ...] = (b"item", form.format.encode(), None, ())
    if form.parts:
        item = (b"item", b"+w:2", None, (item,))
    item_count = math.prod(row_shape)
    notes = _metadata({SHAPE: json.dumps(list(row_shape)).encode(), DTYPE: str(row_dtype).encode()})
    row = (b"row", f"+w:{item_count}".encode(), notes, (item,))
    return (b"", b"+s", None, ((b"key", b"l", None, ()), row))


def _metadata(pairs: dict[bytes, bytes]) -> bytes:
    packed = struct.pack("=i", len(pairs))
    for key, text in pairs.items():
        packed += struct.pack("=i", len(key)) + key + struct.pack("=i", len(text)) + text
    return packed


def stream(source: Batch[Any], copy: bool | None) -> object:
    """The capsule of ``__arrow_c_stream__``. copy=None: if the map may change, or Arrow stores the dtype otherwise."""
    row_dtype = source.dtype
    form = form_of(row_dtype)
    described = schema(source.row_shape, row_dtype)
    if form.converted is None:
        must_show = copy is False
        if copy is None:
            copy = not source.read_only or row_dtype.kind == "b"
        return _arrow.map_stream(source, described, copy, must_show)
    if copy is False:
        raise BufferError(f"Arrow has no unit of {row_dtype}: such rows can't be handed over without a copy")
    keys, rows = source._snapshot()
    times: npt.NDArray[Any] = coerce.cast(rows, form.converted, False, "rows", 1)
    return _arrow.rows_stream(keys, times.reshape(len(keys), -1) if len(keys) else times, described)
