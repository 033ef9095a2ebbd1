"""A map from one kind of file to another: images, npz, Parquet, Feather.

All but images hold two columns: ``key`` (int64) and ``row``. In npz these are the arrays ``keys`` and ``rows``; in
Parquet and Feather ``row`` is a fixed-size list of the row's items in C order, and the schema's metadata say the
row's shape and dtype. pyarrow is imported when it is needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from intarraymap import arrow, coerce
from intarraymap.mapping import IntArrayMap
from intarraymap.paths import replace

__all__ = ["FORMATS", "convert", "format_of", "read", "write"]

Progress: TypeAlias = Callable[[int, int], object]
Pieces: TypeAlias = Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]

FORMATS = {
    ".iam": "image",
    ".npz": "npz",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
}
#: Rows written or read at a time: a row group of Parquet.
PIECE_ROWS = 1 << 17


def format_of(path: str) -> str:
    """By the end of its name; ValueError for an unknown one.

    >>> format_of("prices.parquet")
    'parquet'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{path!r}: the name must end in one of {', '.join(FORMATS)}, so that its format is known")
    return FORMATS[suffix]


def convert(source: str, target: str, progress: Progress | None = None) -> IntArrayMap[Any]:
    """Read one file, write another; the map, opened or loaded, is returned. Errors as of `read` and `write`."""
    format_of(target)
    m = IntArrayMap.open(source, verify="full") if format_of(source) == "image" else read(source)
    write(m, target, progress)
    return m


# ---- Reading --------------------------------------------------------------------------------------------------------


def read(path: str) -> IntArrayMap[Any]:
    """The map in a file of any of the formats.

    Raises OSError if the file can't be read, ValueError, TypeError or OverflowError if it does not hold a map,
    ImportError if pyarrow is needed and not installed.
    """
    kind = format_of(path)
    if kind == "image":
        return IntArrayMap.load(path)
    if kind == "npz":
        return IntArrayMap.from_npz(path)
    try:
        return _read_arrow(path, kind)
    except _arrow().ArrowException as error:
        if isinstance(error, OSError):
            raise
        raise ValueError(f"{path!r} is not a whole {kind} file of a map: {error}") from None


def _read_arrow(path: str, kind: str) -> IntArrayMap[Any]:
    pa = _arrow()
    with open(path, "rb") as file:
        if kind == "parquet":
            opened = _parquet().ParquetFile(file)
            schema, batches = opened.schema_arrow, opened.iter_batches(PIECE_ROWS)
            count = opened.metadata.num_rows
        else:
            opened = pa.ipc.open_file(file)
            schema = opened.schema
            batches = (opened.get_batch(place) for place in range(opened.num_record_batches))
            count = sum(opened.get_batch(place).num_rows for place in range(opened.num_record_batches))
        shape, dtype = _row_of(schema, path)
        m: IntArrayMap[Any] = IntArrayMap(shape, dtype)
        pieces = [_numbers_of(batch, shape, path) for batch in batches]
        if pieces:
            keys = np.concatenate([keys for keys, _ in pieces])
            m.set_many(keys, np.concatenate([rows for _, rows in pieces]))
        if len(m) != count:
            raise ValueError(f"{path!r} has a key twice")
    return m


def _row_of(schema: Any, path: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    pa = _arrow()
    if not {"key", "row"} <= set(schema.names):
        raise ValueError(f'{path!r} has no columns "key" and "row"')
    key_type, row_type = schema.field("key").type, schema.field("row").type
    if not pa.types.is_integer(key_type):
        raise TypeError(f'{path!r}: column "key" is {key_type}, not integers')
    if not pa.types.is_fixed_size_list(row_type):
        raise TypeError(f'{path!r}: column "row" is {row_type}, not lists of a fixed size')
    dtype = _dtype_of(row_type.value_type, path)
    shape: tuple[int, ...] = (row_type.list_size,)
    try:
        said = json.loads((schema.metadata or {}).get(b"intarraymap", b"{}"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path!r}: the metadata of intarraymap are not understood") from None
    if isinstance(said, dict) and "row_shape" in said:
        lengths = said["row_shape"]
        shape = coerce.row_shape(tuple(lengths) if isinstance(lengths, list) else lengths)
        if math.prod(shape) != row_type.list_size:
            raise ValueError(f"{path!r}: rows of {row_type.list_size} items do not have the shape {shape}")
    if isinstance(said, dict) and isinstance(said.get("dtype"), str):
        dtype = coerce.dtype(said["dtype"])
    return shape, dtype


def _dtype_of(item_type: Any, path: str) -> np.dtype[Any]:
    pa = _arrow()
    if pa.types.is_timestamp(item_type) or pa.types.is_duration(item_type):
        return np.dtype(f"{'M' if pa.types.is_timestamp(item_type) else 'm'}8[{item_type.unit}]")
    try:
        return coerce.dtype(np.dtype(item_type.to_pandas_dtype()))
    except NotImplementedError:
        raise TypeError(f'{path!r}: column "row" has items of {item_type}, not numbers') from None


def _numbers_of(batch: Any, shape: tuple[int, ...], path: str) -> tuple[Any, Any]:
    """Keys, and rows as they are stored: the map casts them to its dtype, or refuses."""
    keys, rows = batch.column("key"), batch.column("row")
    items = rows.flatten()
    is_time = _arrow().types.is_temporal(items.type)  # whose nulls are NaT
    if keys.null_count or rows.null_count or (items.null_count and not is_time):
        raise ValueError(f"{path!r} has nulls: a map has a number in every place")
    flat = items.to_numpy(zero_copy_only=False)
    if len(flat) != len(batch) * math.prod(shape):
        raise ValueError(f"{path!r}: {len(flat)} items for {len(batch)} rows of shape {shape}")
    return coerce.keys_within(keys.to_numpy(zero_copy_only=False)), flat.reshape((len(batch), *shape))


# ---- Writing --------------------------------------------------------------------------------------------------------


def write(m: IntArrayMap[Any], path: str, progress: Progress | None = None) -> None:
    """Write a map as any of the formats, in one step: the old file is replaced by a whole one.

    Raises OSError if it can't be written, TypeError if the format has no such numbers, OverflowError if they are times
    that it can't count that far, ImportError if pyarrow is needed and not installed.
    """
    kind = format_of(path)
    if kind == "image":
        m.save(path, progress=progress)
        return
    if kind != "npz":
        _arrow()
    keys, rows = m.to_arrays()

    def write_columns(descriptor: int) -> None:
        with open(descriptor, "wb", closefd=False) as file:
            if kind == "npz":
                np.savez(file, keys=keys, rows=rows)
                if progress is not None:
                    progress(len(keys), len(keys))
            else:
                _write_arrow(file, kind, keys, rows, progress)

    replace(path, write_columns)


def _write_arrow(file: Any, kind: str, keys: Any, rows: Any, progress: Progress | None) -> None:
    pa = _arrow()
    items = math.prod(rows.shape[1:])
    about = {b"intarraymap": json.dumps({"row_shape": rows.shape[1:], "dtype": rows.dtype.str}).encode()}
    if rows.dtype.kind in "mM":  # Arrow has four units, without multiples
        rows = coerce.cast(rows, arrow.form_of(rows.dtype).converted or rows.dtype, False, "rows", 1)
    try:
        item_type = pa.from_numpy_dtype(rows.dtype)
    except (pa.ArrowNotImplementedError, NotImplementedError):
        raise TypeError(f"{kind} has no numbers like {rows.dtype}; npz has") from None
    schema = pa.schema([("key", pa.int64()), ("row", pa.list_(item_type, items))], metadata=about)
    writer = _parquet().ParquetWriter(file, schema) if kind == "parquet" else pa.ipc.new_file(file, schema)
    with writer:
        for first in range(0, len(keys), PIECE_ROWS):
            piece = slice(first, first + PIECE_ROWS)
            flat = pa.array(rows[piece].reshape(-1), item_type)
            lists = pa.FixedSizeListArray.from_arrays(flat, items)
            batch = pa.record_batch([pa.array(keys[piece]), lists], schema=schema)
            writer.write_batch(batch)
            if progress is not None:
                progress(min(first + PIECE_ROWS, len(keys)), len(keys))


def _arrow() -> Any:
    try:
        return import_module("pyarrow")
    except ImportError:
        raise ImportError("Parquet and Feather need pyarrow: pip install pyarrow") from None


def _parquet() -> Any:
    return import_module("pyarrow.parquet")
