"""Pickles and the state of subclasses.

A pickle holds the numbers as plain bytes (out of band from protocol 5 on), never the seed, and names only `rebuild`
here: old pickles must go on loading, so neither its name nor its arguments may change. Nothing in one is trusted.
"""

from __future__ import annotations

from pickle import PickleBuffer
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from intarraymap import coerce
from intarraymap._binding import Table

__all__ = ["get_state", "rebuild", "reduce", "set_state"]

VERSION = 1


def reduce(source: Table[Any], protocol: int) -> tuple[Any, ...]:
    """What ``__reduce_ex__`` returns."""
    # A pickle is one moment of the map, whatever becomes of it before the buffers are read: a map that may change is
    # copied out here, once, and never again where buffers go out of band. A read-only one is not copied at all.
    keys, rows = source._snapshot()
    parts = [PickleBuffer(cast("Any", array.reshape(-1).view(np.uint8))) for array in (keys, rows)]
    buffers = parts if protocol >= 5 else [bytes(part) for part in parts]
    header = (type(source), VERSION, source.row_shape, source.dtype.str, keys.dtype.str, source._index_asked())
    return rebuild, (*header, *buffers), get_state(source)


def rebuild(
    kind: Any, version: Any, row_shape: Any, row_dtype: Any, key_dtype: Any, index: Any, key_bytes: Any, row_bytes: Any
) -> Table[Any]:
    """Unpickles. Nothing is trusted: whatever does not fit together is an error, and makes no map."""
    if not (isinstance(kind, type) and issubclass(kind, Table)):
        raise TypeError("the pickle is broken: its class is not an IntArrayMap")
    if version != VERSION:
        raise ValueError(f"the pickle has version {version!r:.20}; this package reads {VERSION}")
    if not isinstance(row_dtype, str) or key_dtype not in ("<i8", ">i8"):
        raise TypeError("the pickle is broken: a dtype is not a string, or not that of keys")
    shape = coerce.row_shape(row_shape)
    target = coerce.dtype(row_dtype)
    stored = np.dtype(row_dtype)  # in the byte order of whoever pickled it
    coerce.row_fits(shape, target)
    keys = _unpack(key_bytes, np.dtype(key_dtype), (-1,))
    rows = _unpack(row_bytes, stored, (len(keys), *shape))
    if target.kind == "b":
        rows = rows.view(np.uint8) != 0  # a bool is 0 or 1, whatever the bytes
    new: Table[Any] = kind.__new__(kind)
    Table.__init__(new, shape, target, 0, coerce.index(index), coerce.fresh_seed(), None)
    new._update_many(coerce.keys_within(keys), coerce.cast(rows, target, False, "rows", 1), "set")
    if Table.__len__(new) != len(keys):
        raise ValueError("the pickle is broken: a key comes twice")
    return new


def _unpack(packed: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    flat = np.frombuffer(packed, np.uint8) if len(memoryview(packed)) else np.empty(0, np.uint8)
    expected = dtype.itemsize
    for length in shape[1:] if shape[0] == -1 else shape:
        expected *= length
    if (flat.size % expected if shape[0] == -1 else flat.size != expected) != 0:
        raise ValueError(f"the pickle is broken: {flat.size} bytes for arrays of {dtype} {shape}")
    return flat.view(dtype).reshape(shape)


def get_state(source: object) -> Any:
    """What a subclass adds: __dict__ and slots, as pickle wants them; None if there is nothing."""
    return source.__getstate__()


def set_state(target: object, state: Any) -> None:
    """As pickle does it."""
    if state is None:
        return
    set_state = getattr(target, "__setstate__", None)
    if set_state is not None:
        set_state(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes is not None:
        target.__dict__.update(attributes)
    for name, content in (slots or {}).items():
        setattr(target, name, content)
