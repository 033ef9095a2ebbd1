"""Keys and rows out of anybody's Arrow table.

`read` takes any object with ``__arrow_c_stream__`` or ``__arrow_c_array__`` and gives an array of int64 keys and one of
rows. Numbers that lie as NumPy wants them are not copied. Whatever is no number, is missing, or has another length than
the row before is an error that names its column and its place, counted over all batches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from intarraymap import arrow, coerce
from intarraymap._producer import ArrowData, ArrowStream, take_array

__all__ = ["read"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

#: Canonical extension type of Arrow, whose storage is a fixed_size_list.
_TENSOR: Final = b"arrow.fixed_shape_tensor"
_OFFSETS: Final[dict[str, np.dtype[Any]]] = {"+l": np.dtype(np.int32), "+L": np.dtype(np.int64)}
#: What to call a format in an error; only what a table is likely to hold.
_NAMES: Final = {
    "n": "null",
    "u": "string",
    "U": "large_string",
    "vu": "string_view",
    "z": "binary",
    "Z": "large_binary",
    "vz": "binary_view",
    "+s": "struct",
    "+m": "map",
    "+l": "list",
    "+L": "large_list",
    "+vl": "list_view",
    "+vL": "large_list_view",
    "+r": "run_end_encoded",
}


class Field(NamedTuple):
    """A column, or the items of one, as the producer describes it."""

    name: str
    format: str
    metadata: dict[bytes, bytes]
    children: tuple[Field, ...]
    is_dictionary: bool

    @classmethod
    def of(cls, described: tuple[Any, ...]) -> Field:
        name, form, metadata, children, is_dictionary = described
        return cls(name, form, metadata, tuple(map(cls.of, children)), is_dictionary)

    def __str__(self) -> str:
        if self.is_dictionary:
            return "dictionary"
        if self.format.startswith("+w:"):
            return "fixed_size_list"
        known = arrow.dtype_of(self.format)
        return _NAMES.get(self.format, f"format {self.format!r:.40}") if known is None else str(known)


# ---- The table ------------------------------------------------------------------------------------------------------


def read(
    source: Any, key: str, row: str | Sequence[str], row_shape: Shape | None, row_dtype: np.dtype[Any] | None
) -> tuple[npt.NDArray[np.int64], Array]:
    """Exact keys (n,) and rows (n, *row_shape)."""
    described, batches = _open(source)
    table = Field.of(described)
    if table.format != "+s" or table.is_dictionary:
        raise TypeError(f"expected a table, a struct of columns; the producer has {table}")
    key_at = _find(table, key, "key")
    single = isinstance(row, str)
    rows_at = [_find(table, name, "row") for name in ([row] if isinstance(row, str) else row)]
    if not rows_at:
        raise ValueError("row names no column")
    key_field = _key_field(table.children[key_at])
    columns = [Column(table.children[at]) for at in rows_at]
    if not single and any(column.field.format[:1] == "+" for column in columns):
        raise TypeError("row: of several columns each must hold plain numbers; name one column of lists alone")
    keys: list[npt.NDArray[np.int64]] = []
    position = 0
    for batch in batches:
        if batch.length == 0:
            continue
        if batch.child_count != len(table.children):
            raise ValueError(f"a batch of {batch.child_count} columns in a table of {len(table.children)}")
        _refuse_nulls(batch, 0, batch.length, "row", position, ())
        keys.append(_keys(key_field, batch.child(key_at), batch.offset, batch.length, position))
        for column, at in zip(columns, rows_at, strict=True):
            column.add(batch.child(at), batch.offset, batch.length, position)
        position += batch.length
    numbers = np.concatenate(keys) if len(keys) > 1 else keys[0] if keys else np.empty(0, np.int64)
    given = [column.rows(row_shape) for column in columns]
    target = row_dtype
    if target is None:
        target = columns[0].noted_dtype() if single else None
        target = target or coerce.dtype(_common([each.dtype for each in given]))
    if single:
        exact = _restored(columns[0], given[0], target, row_dtype is not None)
    else:
        exact = np.empty((len(numbers), len(given)), target)
        for place, (column, each) in enumerate(zip(columns, given, strict=True)):
            exact[:, place] = coerce.cast(each[:, 0], target, False, column.field.name, 1)
    return numbers, _shaped(exact, row_shape, columns[0], single)


def _open(source: Any) -> tuple[tuple[Any, ...], Iterator[ArrowData]]:
    """The schema of a producer, and its batches."""
    if hasattr(source, "__arrow_c_stream__"):
        stream = ArrowStream(source.__arrow_c_stream__())
        return stream.schema(), stream
    if hasattr(source, "__arrow_c_array__"):
        both = source.__arrow_c_array__()
        if not isinstance(both, tuple) or len(both) != 2:
            raise TypeError("__arrow_c_array__() must return a schema and an array")
        described, batch = take_array(*both)
        return described, iter((batch,))
    raise TypeError(
        f"expected an object with __arrow_c_stream__ or __arrow_c_array__ (a table of pyarrow, polars, duckdb, "
        f"pandas …), not {type(source).__name__}"
    )


def _find(table: Field, name: Any, what: str) -> int:
    if not isinstance(name, str):
        raise TypeError(f"{what} must be the name of a column, not {type(name).__name__}")
    places = [at for at, column in enumerate(table.children) if column.name == name]
    if len(places) == 1:
        return places[0]
    if places:
        raise ValueError(f"{what}: {len(places)} columns are called {name!r}")
    known = ", ".join(repr(column.name) for column in table.children[:20]) or "none"
    raise ValueError(f"{what}: there is no column {name!r:.80}; the columns are {known}")


def _common(dtypes: list[np.dtype[Any]]) -> np.dtype[Any]:
    try:
        return np.result_type(*dtypes)
    except TypeError:
        raise TypeError(f"row: columns of {', '.join(map(str, dtypes))} have no dtype in common; say dtype") from None


def _shaped(rows: Array, row_shape: Shape | None, column: Column, single: bool) -> Array:
    shape = row_shape if row_shape is not None else column.noted_shape() if single else None
    if shape is None or rows.shape[1:] == shape:
        return rows
    item_count = math.prod(shape)
    if math.prod(rows.shape[1:]) != item_count:
        raise ValueError(f"rows of {rows.shape[1:]} in the table; expected {shape}, which has {item_count} items")
    return rows.reshape(len(rows), *shape)


def _restored(column: Column, rows: Array, target: np.dtype[Any], is_asked: bool) -> Array:
    """The rows in the target dtype; one that was only noted must hold every number as it is."""
    if target.kind == "c" and rows.dtype.kind == "f" and rows.shape[-1] == 2 and column.noted_dtype() is not None:
        noted = np.dtype(f"c{2 * rows.dtype.itemsize}")
        parts: Array = np.ascontiguousarray(rows)
        rows = parts.view(noted).reshape(rows.shape[:-1])
        if rows.ndim == 1:
            rows = rows.reshape(-1, 1)
    exact = coerce.cast(rows, target, False, column.field.name, 1)
    if (
        not is_asked
        and exact.dtype != rows.dtype
        and not np.array_equal(exact.astype(rows.dtype), rows, equal_nan=True)
    ):
        raise ValueError(f"{column.field.name}: the table notes {target}, which can't hold its {rows.dtype}; say dtype")
    return exact


# ---- The column of keys ---------------------------------------------------------------------------------------------


def _key_field(field: Field) -> Field:
    known = arrow.dtype_of(field.format)
    if field.is_dictionary or known is None or known.kind not in "iu":
        raise TypeError(f"{field.name}: keys are integers, the column holds {field}")
    return field


def _keys(field: Field, data: ArrowData, start: int, count: int, position: int) -> npt.NDArray[np.int64]:
    _within(data, start, count, field.name)
    _refuse_nulls(data, start, count, field.name, position, ())
    given = _numbers(field, data, start, count)
    if given.dtype.kind == "u" and given.dtype.itemsize == 8 and len(given) and int(given.max()) > coerce.INT64_MAX:
        place = int((given > coerce.INT64_MAX).argmax())
        raise OverflowError(f"{field.name}[{position + place}] = {given[place]} is outside int64")
    return given.astype(np.int64, copy=False)


# ---- A column of rows -----------------------------------------------------------------------------------------------


class Column:
    """Collects the rows of one column over all batches."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self._shape: Shape | None = None  # of a row, once a row has been seen
        self._parts: list[Array] = []
        leaf = field
        self._fixed: list[int | None] = []  # the lengths that the type says, outermost first
        while leaf.format[:1] == "+" and not leaf.is_dictionary:
            if leaf.format.startswith("+w:") and leaf.format[3:].isdigit() and len(leaf.children) == 1:
                self._fixed.append(int(leaf.format[3:]))
            elif leaf.format in _OFFSETS and len(leaf.children) == 1:
                self._fixed.append(None)
            else:
                break
            leaf = leaf.children[0]
        dtype = None if leaf.is_dictionary else arrow.dtype_of(leaf.format)
        if dtype is None:
            where = "" if leaf is field else "lists of "
            raise TypeError(f"{field.name}: rows are lists of numbers, the column holds {where}{leaf}")
        self._dtype = dtype

    def noted_shape(self) -> Shape | None:
        """The shape of a row that the producer noted in the metadata of the column."""
        notes = self.field.metadata
        if arrow.SHAPE in notes:
            return self._noted(notes[arrow.SHAPE])
        if notes.get(b"ARROW:extension:name") == _TENSOR:
            try:
                tensor = json.loads(notes.get(b"ARROW:extension:metadata", b""))
                order = list(tensor.get("permutation") or ())
                if sorted(order) != list(range(len(order))):
                    raise ValueError(order)
                shape = json.dumps(tensor["shape"]).encode()
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise ValueError(f"{self.field.name}: the metadata of its tensor type is not understood") from None
            if order != sorted(order):
                raise TypeError(f"{self.field.name}: tensors with permuted axes are not read")
            return self._noted(shape)
        return None

    def _noted(self, text: bytes) -> Shape:
        try:
            lengths = json.loads(text)
            if isinstance(lengths, list) and all(type(length) is int for length in lengths):
                return coerce.row_shape(tuple(lengths))
        except (ValueError, OverflowError, RecursionError):
            pass
        raise ValueError(f"{self.field.name}: its metadata notes the row shape {text[:40]!r}, which is none")

    def noted_dtype(self) -> np.dtype[Any] | None:
        """The dtype of a map that the producer noted, if it is one whose numbers are stored like this."""
        text = self.field.metadata.get(arrow.DTYPE)
        if text is None:
            return None
        try:
            noted = coerce.dtype(text.decode("ascii"))
            stored = arrow.form_of(noted)
        except (TypeError, ValueError):
            raise ValueError(f"{self.field.name}: its metadata notes the dtype {text[:40]!r}, which is none") from None
        if arrow.dtype_of(stored.format) == self._dtype or (noted.kind in "mM" and noted.kind == self._dtype.kind):
            return noted  # times: Parquet, for one, stores seconds as milliseconds
        return None  # somebody has cast the column since

    def add(self, data: ArrowData, start: int, count: int, position: int) -> None:
        """Reads `count` rows of a batch."""
        rows = self._read(self.field, data, start, count, position, ())
        self._shape = rows.shape[1:]
        self._parts.append(rows)

    def rows(self, row_shape: Shape | None) -> Array:
        """All rows (n, *shape); plain numbers are rows of one item."""
        shape = self._shape
        if not self._parts:
            shape = tuple(length for length in self._fixed if length is not None)
            if len(shape) != len(self._fixed):
                noted = row_shape if row_shape is not None else self.noted_shape()
                if noted is None:
                    raise ValueError(
                        f"{self.field.name}: there are no rows, and a list type does not tell how long one is"
                    )
                shape = noted
            self._parts.append(np.empty((0, *shape), self._dtype))
        if 0 in (shape or ()):
            raise ValueError(f"{self.field.name}: rows of no items; a row has at least one")
        rows = np.concatenate(self._parts) if len(self._parts) > 1 else self._parts[0]
        self._parts.clear()
        return rows.reshape(-1, 1) if rows.ndim == 1 and self.field.format[:1] != "+" else rows

    def _read(self, field: Field, data: ArrowData, start: int, count: int, position: int, path: Shape) -> Array:
        """`count` items from `start`: rows if path is (), or the items of rows of the shape `path`."""
        _within(data, start, count, self.field.name)
        if field.format[:1] == "+":
            _refuse_nulls(data, start, count, self.field.name, position, path)
            first, length = self._lists(field, data, start, count, position, path)
            items = self._read(field.children[0], data.child(0), first, count * length, position, (*path, length))
            return items.reshape(count, length, *items.shape[1:])
        if self._dtype.kind not in "mM":
            _refuse_nulls(data, start, count, self.field.name, position, path)
        numbers = _numbers(field, data, start, count)
        if self._dtype.kind in "mM":
            missing = _nulls(data, start, count, self.field.name)
            if missing is not None and missing.any():
                numbers = numbers.copy()
                numbers[missing] = "NaT"
        return numbers

    def _lists(
        self, field: Field, data: ArrowData, start: int, count: int, position: int, path: Shape
    ) -> tuple[int, int]:
        """Where the items of lists begin in the child, and how many each has: all the same, or ValueError."""
        begin = data.offset + start
        if field.format not in _OFFSETS:
            length = int(field.format[3:])
            if length * count > 2**60:
                raise ValueError(f"{self.field.name}: {count} lists of {length} items")
            return begin * length, length
        width = _OFFSETS[field.format].itemsize
        buffer = data.buffer(1, begin * width, (begin + count + 1) * width)
        if buffer is None:
            if count:
                raise ValueError(f"{self.field.name}: the producer's lists have no offsets")
            return 0, 0
        offsets = buffer.view(_OFFSETS[field.format]).astype(np.int64)
        lengths = np.diff(offsets)
        if not len(lengths):
            return 0, self._fixed_length(len(path)) or 0
        seen = self._shape[len(path)] if self._shape is not None else int(lengths[0])
        wrong = lengths != seen
        if wrong.any():
            place = int(wrong.argmax())
            named = _place(self.field.name, place, position, path)
            raise ValueError(
                f"{named} has {lengths[place]} items, those before have {seen}: a map's rows are equally long"
            )
        if offsets[0] < 0:
            raise ValueError(f"{self.field.name}: the producer's lists begin at {offsets[0]}")
        return int(offsets[0]), seen

    def _fixed_length(self, depth: int) -> int | None:
        return self._fixed[depth] if depth < len(self._fixed) else None


# ---- Buffers --------------------------------------------------------------------------------------------------------


def _within(data: ArrowData, start: int, count: int, name: str) -> None:
    if start < 0 or count < 0 or start + count > data.length:
        raise ValueError(f"{name}: the producer's array has {data.length} items, {start} to {start + count} are wanted")


def _bits(buffer: npt.NDArray[np.uint8], shift: int, count: int) -> npt.NDArray[np.bool_]:
    return np.unpackbits(buffer, count=shift + count, bitorder="little")[shift:].view(np.bool_)


def _numbers(field: Field, data: ArrowData, start: int, count: int) -> Array:
    """The numbers of a primitive array, not copied unless they are bits or 32-bit days."""
    dtype = arrow.dtype_of(field.format)
    assert dtype is not None
    if count == 0:
        return np.empty(0, dtype)
    begin = data.offset + start
    if dtype.kind == "b":
        buffer = data.buffer(1, begin // 8, (begin + count + 7) // 8)
    else:
        width = 4 if field.format == "tdD" else dtype.itemsize
        buffer = data.buffer(1, begin * width, (begin + count) * width)
    if buffer is None:
        raise ValueError(f"{field.name}: the producer's array has no numbers")
    if dtype.kind == "b":
        return _bits(buffer, begin % 8, count)
    if field.format == "tdD":
        return buffer.view(np.int32).astype(np.int64).view(dtype)
    return buffer.view(dtype)


def _nulls(data: ArrowData, start: int, count: int, name: str) -> npt.NDArray[np.bool_] | None:
    """Where items are null; None if none is."""
    if data.null_count == 0 or count == 0:
        return None
    begin = data.offset + start
    buffer = data.buffer(0, begin // 8, (begin + count + 7) // 8)
    if buffer is None:
        if data.null_count > 0:
            raise ValueError(f"{name}: the producer counts {data.null_count} nulls and does not say where")
        return None
    return ~_bits(buffer, begin % 8, count)


def _refuse_nulls(data: ArrowData, start: int, count: int, name: str, position: int, path: Shape) -> None:
    missing = _nulls(data, start, count, name)
    if missing is not None and missing.any():
        place = int(missing.argmax())
        more = f" ({int(missing.sum())} are)" if missing.sum() > 1 else ""
        raise ValueError(f"{_place(name, place, position, path)} is null{more}; fill or drop nulls first")


def _place(name: str, flat: int, position: int, path: Shape) -> str:
    """row[7], item 2: from a place among the items of rows of the shape `path`."""
    items: list[str] = []
    for length in reversed(path):
        flat, item = divmod(flat, length)
        items.insert(0, str(item))
    return f"{name}[{position + flat}]" + (f", item {', '.join(items)}" if items else "")
