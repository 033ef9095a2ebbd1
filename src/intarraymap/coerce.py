"""Array-likes in, exact arrays out.

Everything that a caller may hand over as a row shape, a dtype, keys or rows is judged here, before the map is touched:
what comes out is int64 keys and rows of the map's own dtype, C-ordered, aligned and in native byte order, or an error
that names the item. Exact input is handed on as it is, without a copy.

This may run the caller's Python code (``__index__``, ``__array__``, ``__len__`` …), which may do anything to the map;
the binding therefore calls it before it takes the map's lock. Lies under the binding: knows NumPy and no map.

Two kinds of numbers are told apart, as NumPy 2 does:

- Python numbers, alone or in (nested) sequences, are taken **by value**: they fit or ``OverflowError``;
- arrays (and whatever offers ``__array__`` or a buffer) are cast **same-kind**; from integers to narrower integers only
  where every value fits.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterator, Mapping, Set
from enum import Enum
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from intarraymap import sequences, times
from intarraymap.errors import shown

__all__ = [
    "INDEXES",
    "RAISE",
    "Keys",
    "NoDefault",
    "capacity",
    "cast",
    "dtype",
    "farthest",
    "find_numbers",
    "fresh_seed",
    "index",
    "item_place",
    "items",
    "key",
    "keys",
    "keys_within",
    "native",
    "row",
    "row_fits",
    "row_shape",
    "rows",
    "seed",
    "text",
    "values",
]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

ROWS_MAX: Final = 2**32 - 2  # IAM_ROWS_MAX of the core
ROW_ITEMS_MAX: Final = 2**31 - 1
ROW_BYTES_MAX: Final = 2**30
ROW_AXES_MAX: Final = sequences.NUMPY_AXES_MAX - 1  # less the axis of the keys
INT64: Final = np.dtype(np.int64)
UINT64: Final = np.dtype(np.uint64)
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
INDEXES: Final = ("auto", "hash", "direct")


class NoDefault(Enum):
    """The type of `RAISE`: no default was given, a missing key is an error."""

    RAISE = "raise"

    def __repr__(self) -> str:
        return "<raise>"


RAISE: Final = NoDefault.RAISE


# ---- Arguments of the constructor -----------------------------------------------------------------------------------


def row_shape(value: object) -> Shape:
    """The shape of a row as a tuple of Python ints."""
    if isinstance(value, tuple):
        lengths = value
    elif isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim > 0):
        raise TypeError(f"row_shape must be an int or a tuple of ints, not {type(value).__name__}")
    else:
        lengths = (value,)
    if not lengths:
        raise ValueError("row_shape must have at least one axis, not ()")
    shape = tuple(_integer(length, "row_shape") for length in lengths)
    if min(shape) < 1:
        raise ValueError(f"row_shape must be of ints >= 1, not {shown(min(shape))}")
    if len(shape) > ROW_AXES_MAX:
        raise ValueError(f"row_shape has {len(shape)} axes; NumPy's arrays leave room for {ROW_AXES_MAX}")
    item_count = 1
    for length in shape:
        item_count *= length
    if item_count > ROW_ITEMS_MAX:
        raise OverflowError(f"a row of {shown(item_count)} items is too large: at most {ROW_ITEMS_MAX}")
    return shape


def row_fits(shape: Shape, row_dtype: np.dtype[Any]) -> None:
    """OverflowError if a row of this shape and dtype would be too large."""
    byte_count = row_dtype.itemsize
    for length in shape:
        byte_count *= length
    if byte_count > ROW_BYTES_MAX:
        raise OverflowError(f"a row of {byte_count} bytes is too large: at most {ROW_BYTES_MAX}")


_SIZES: Final = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16), "M": (8,), "m": (8,)}
#: In "M8[D/24]" anything but 1 … 999999999: NumPy 2.4 divides by 0, and by what is left of 2**32 in 32 bits.
_BAD_DIVISOR: Final = re.compile(r"/(?![1-9][0-9]{0,8}(?![0-9]))")
_INSTEAD: Final = {
    "O": "rows hold numbers, not objects; use a numeric dtype, or a dict",
    "U": "strings can't be stored; store numbers that stand for them",
    "S": "bytes can't be stored; use uint8 rows",
    "T": "strings can't be stored; store numbers that stand for them",
    "V": "structured, subarray and void dtypes can't be stored; use one numeric dtype and row_shape",
    "f": "use float64",
    "c": "use complex128",
}


def dtype(value: Any) -> np.dtype[Any]:
    """A dtype that a map can hold, in native byte order and without metadata."""
    if value is None:
        raise TypeError("dtype can't be None; say float64, for example")
    spelled = value.decode("latin-1") if isinstance(value, bytes) else value
    if isinstance(spelled, str) and _BAD_DIVISOR.search(spelled):
        raise TypeError("dtype is not understood: what a unit of time is divided by is no such number")
    try:
        asked: np.dtype[Any] = np.dtype(value)
    except (ValueError, SyntaxError, OverflowError) as error:
        raise TypeError(f"dtype is not understood: {error}") from None
    kind = "V" if asked.names is not None else asked.kind  # an int32 may have fields, too
    if asked.num >= 24 or asked.char in "gG" or asked.itemsize not in _SIZES.get(kind, ()):
        instead = _INSTEAD.get(kind, "use a fixed-size numeric dtype")
        raise TypeError(f"dtype {asked} is not supported: {instead}")
    if asked.kind in "mM" and np.datetime_data(asked)[0] == "generic":
        raise TypeError(f"dtype {asked} has no unit; say {asked}[ns], for example")
    if not times.is_sound(asked):
        raise TypeError(f"dtype {asked} has no steps that time could be counted in; say {asked.kind}8[ns], for example")
    return native(asked)


def native(given: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in native byte order, without metadata."""
    return np.dtype(given.newbyteorder("=").str)


def capacity(value: Any, what: str = "capacity") -> int:
    """A number of rows."""
    rows_wanted = _integer(value, what)
    if rows_wanted < 0:
        raise ValueError(f"{what} must be >= 0, not {shown(rows_wanted)}")
    if rows_wanted > ROWS_MAX:
        raise OverflowError(f"{what} = {shown(rows_wanted)}: a map holds at most {ROWS_MAX} rows")
    return rows_wanted


def index(value: object) -> str:
    """The name of an index."""
    name = text(value) if isinstance(value, str) else None
    if name is None or name not in INDEXES:
        came = type(value).__name__ if name is None else repr(name[:40])
        raise ValueError(f"index must be one of {', '.join(map(repr, INDEXES))}, not {came}")
    return name


def text(value: str) -> str:
    """A plain string of a NumPy one, a member of an enum, or of another subclass."""
    return str.__str__(value)


def seed(value: Any) -> int | None:
    """A hash seed, or None: to be drawn."""
    if value is None:
        return None
    number = _integer(value, "seed")
    if not 0 <= number < 2**64:
        raise OverflowError("seed must be >= 0 and < 2**64")
    return number


def fresh_seed() -> int:
    """A seed from the operating system."""
    return int.from_bytes(os.urandom(8), "little")


def _integer(value: Any, what: str) -> int:
    """An int from whatever is one, but no bool: a True here is a slip."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{what} must be an integer, not a bool")
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}") from None


# ---- Keys -----------------------------------------------------------------------------------------------------------


class Keys(NamedTuple):
    """Keys of any shape S. Those that no int64 can be are marked in `outside` and have an undefined number."""

    numbers: npt.NDArray[np.int64]
    outside: npt.NDArray[np.bool_] | None = None  # None: all of them are int64
    given: Array | None = None  # the keys as they came, where some are outside


def keys(value: Any, what: str = "keys") -> Keys:
    """Keys for readers: those outside int64 are marked."""
    if type(value) is np.ndarray and value.dtype == INT64:
        flags = value.flags
        if flags.c_contiguous and flags.aligned:
            return Keys(value)
    array, is_sequence = _integers(value, what)
    if array.dtype.kind == "i":
        return Keys(_exact(array, INT64))
    if array.dtype.kind == "u":
        if array.dtype.itemsize < 8:
            return Keys(array.astype(INT64, order="C"))
        unsigned = array.astype(UINT64, order="C")  # a copy: what is judged is what is used
        outside = np.asarray(unsigned > INT64_MAX)  # of a single key NumPy makes a scalar
        return Keys(unsigned.view(INT64), outside, unsigned) if outside.any() else Keys(unsigned.view(INT64))
    if array.size == 0:
        return Keys(np.empty(array.shape, INT64))
    if array.dtype.kind == "O" or (is_sequence and array.dtype.kind != "b"):
        # Integers that NumPy's own guess of a dtype would make objects or floats of (2**64, or 2**63 beside -1), or
        # a sequence with something else in it, which is to be named.
        return _keys_one_by_one(np.array(value, dtype=object), what)
    raise TypeError(f"{what} must be integers, not {array.dtype}")


def keys_within(value: Any, what: str = "keys") -> npt.NDArray[np.int64]:
    """Keys for writers: OverflowError names the first that is outside int64."""
    numbers, outside, given = keys(value, what)
    if outside is not None and given is not None:
        place = _first(outside)
        raise OverflowError(f"{_named(what, place)} = {shown(int(given[place]))} is outside int64")
    return numbers


def _integers(value: Any, what: str) -> tuple[Array, bool]:
    """An array of whatever dtype NumPy finds, and whether it was made from a sequence of Python objects."""
    if isinstance(value, list | tuple):
        return sequences.array_of(value, what), True
    if isinstance(value, np.ndarray):
        sequences.refuse_masked(value, what)
        return np.asarray(value), False
    if isinstance(value, range):
        return _integers_of_range(value, what), True
    if isinstance(value, str | bytes | bytearray | Mapping | Set | Iterator):
        raise TypeError(f"{what} must be an array or a sequence of integers, not {type(value).__name__}")
    array = np.asarray(value)
    sequences.refuse_masked(value, what)
    return array, not hasattr(type(value), "__array__") and array.ndim > 0


def _integers_of_range(value: range, what: str) -> Array:
    if not value:
        return np.empty(0, INT64)
    first, last, step = value[0], value[-1], value.step
    count = (last - first) // step + 1
    if count > 2**40:
        raise MemoryError(f"{what}: a range of {shown(count)} integers")
    if min(first, last) < INT64_MIN or max(first, last) > INT64_MAX or abs(step) > INT64_MAX:
        return np.array(list(value), dtype=object)
    return first + np.arange(count, dtype=INT64) * step


def _keys_one_by_one(objects: npt.NDArray[np.object_], what: str) -> Keys:
    numbers = np.zeros(objects.shape, INT64)
    outside = np.zeros(objects.shape, np.bool_)
    given = np.empty(objects.shape, object)
    for place in np.ndindex(objects.shape):
        key: Any = objects[place]
        try:
            number = int(key) if isinstance(key, np.bool_) else operator.index(key)
        except TypeError:
            raise TypeError(f"{_named(what, place)} must be an integer, not {type(key).__name__}") from None
        given[place] = number
        if INT64_MIN <= number <= INT64_MAX:
            numbers[place] = number
        else:
            outside[place] = True
    return Keys(numbers, outside, given) if outside.any() else Keys(numbers)


def key(value: Any, what: str = "key") -> int:
    """One key for a writer."""
    number: int
    try:
        number = int(value) if isinstance(value, np.bool_) else int(operator.index(value))
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}") from None
    if not INT64_MIN <= number <= INT64_MAX:
        raise OverflowError(f"{what} = {shown(number)} is outside int64")
    return number


def farthest(keys: npt.NDArray[np.int64], anchor: int | None) -> str:
    """Names the key that a direct index found too far away: farthest from `anchor`, or else from the other keys."""
    flat = keys.reshape(-1)
    middle = float(np.median(flat)) if anchor is None else float(anchor)
    position = int(np.abs(flat.astype(np.float64) - middle).argmax())
    return f"{_named('keys', tuple(int(i) for i in np.unravel_index(position, keys.shape)))} = {flat[position]}"


def items(value: Any, key_shape: Shape, item_count: int) -> tuple[npt.NDArray[np.int64], Shape]:
    """Item numbers of `add_at`: an exact array of shape S, or of one item, and the shape in which they were given.
    The binding checks their range."""
    if isinstance(value, np.ndarray) and value.size > math.prod(key_shape):
        _broadcast(value, key_shape, "items")  # which refuses it before it is copied: there may be no room for that
    numbers, outside, given = keys(value, "items")
    if outside is not None and given is not None:
        place = _first(outside)
        outlier = shown(int(given[place]))
        raise ValueError(f"{_named('items', place)} = {outlier} is outside a row of {item_count} items")
    return _spread(numbers, key_shape, "items"), numbers.shape


def item_place(position: int, shape: Shape, given: Shape) -> str:
    """Names an item of `add_at`, which stands at a position of an array of some shape, as it was given."""
    place = np.unravel_index(position, shape)[len(shape) - len(given) :]
    return _named("items", tuple(int(i) if length > 1 else 0 for i, length in zip(place, given, strict=True)) or (0,))


def values(value: Any, key_shape: Shape, row_dtype: np.dtype[Any]) -> Array:
    """Values of `add_at`: an exact array of shape S, or of one item."""
    array, by_value = find_numbers(value, "values", row_dtype)
    if array.size > math.prod(key_shape):
        _broadcast(array, key_shape, "values")  # as in items()
    return _spread(cast(array, row_dtype, by_value, "values", array.ndim), key_shape, "values")


def _spread(array: Array, key_shape: Shape, what: str) -> Array:
    if array.size == 1 and array.ndim <= len(key_shape):
        return array
    return _exact(_broadcast(array, key_shape, what), array.dtype)


def _broadcast(array: Array, key_shape: Shape, what: str) -> Array:
    try:
        return np.broadcast_to(array, key_shape)
    except ValueError:
        raise ValueError(f"{what} of shape {array.shape} don't broadcast to the shape of keys, {key_shape}") from None


# Python numbers that ndarray.fill takes by value or refuses with OverflowError, as we do: the common scalars, fast.
# By subscript and not by get(): without a GIL, at 3.13, that takes the lock of the dict, which nobody would ever give
# back in the child of a fork that came meanwhile.
_FILLS: Final = (
    dict[str, tuple[type, ...]].fromkeys("?efFMm", ())
    | dict.fromkeys("bhilqBHILQ", (int,))
    | {"d": (int, float), "D": (int, float, complex)}
)


# ---- Rows -----------------------------------------------------------------------------------------------------------


def row(value: Any, shape: Shape, row_dtype: np.dtype[Any], what: str = "row") -> Array:
    """One exact row from exactly that shape or from a scalar."""
    return rows(value, (), shape, row_dtype, what)


def rows(value: Any, key_shape: Shape, shape: Shape, row_dtype: np.dtype[Any], what: str = "rows") -> Array:
    """Exact rows: of shape S + row_shape, or one row of shape row_shape (from one row or a scalar)."""
    if type(value) in _FILLS[row_dtype.char]:
        try:
            one = np.empty(shape, row_dtype)
            one.fill(value)
            return one
        except OverflowError:
            pass  # said in our own words below
    array, by_value = find_numbers(value, what, row_dtype)
    given = array.shape
    if given == key_shape + shape:
        return cast(array, row_dtype, by_value, what, len(key_shape))
    if given == shape:
        return cast(array, row_dtype, by_value, what, 0)
    if given == ():
        one = np.empty(shape, row_dtype)
        one[...] = cast(array, row_dtype, by_value, what, 0)
        return one
    expected = f"{shape} or a scalar" if not key_shape else f"{key_shape + shape}, one row {shape} or a scalar"
    raise ValueError(f"{what} of shape {given}: expected {expected}")


def find_numbers(value: Any, what: str, target: np.dtype[Any] | None = None) -> tuple[Array, bool]:
    """An array of whatever dtype NumPy finds, and whether its numbers are to be taken by value."""
    if type(value) is np.ndarray:
        return value, False
    if isinstance(value, list | tuple):
        array = sequences.array_of(value, what)
    elif isinstance(value, bool | int | float | complex | range) and not isinstance(value, np.generic):
        array = np.array(value)
    elif value is None or isinstance(value, str | bytes | Mapping | Set | Iterator):
        raise TypeError(f"{what} must be numbers, not {type(value).__name__}")
    else:
        sequences.refuse_masked(value, what)
        if sequences.offers_array(value):
            return np.asarray(value), False
        if sequences.is_sequence(value):
            try:
                value = list(value)
            except KeyError:  # it is something like a mapping
                raise TypeError(f"{what} must be numbers, not {type(value).__name__}") from None
            array = sequences.array_of(value, what)
        else:
            array = np.asarray(value)
    if array.dtype.kind == "f" and target is not None and target.kind in "biumM" and array.size:
        array = np.array(value, dtype=object)  # NumPy makes floats of 2**63 and of its neighbours
    return array, True


def cast(array: Array, target: np.dtype[Any], by_value: bool, what: str, key_axes: int) -> Array:
    """The array in the target dtype, exact; an error blames what[place in the first key_axes axes]."""
    source = array.dtype
    if source == target:
        return _exact(array, target)
    if by_value and source.kind == "O":
        array = _one_by_one(array, target, what, key_axes)
        source = array.dtype
        if source == target:
            return array
    if source.kind in "biu":
        return _cast_integers(array, target, by_value, what, key_axes)
    if source.kind == "f" and target.kind in "fc":
        return _cast_floats(array, target, by_value, what, key_axes)
    if source.kind == "c" and target.kind == "c":
        return _cast_floats(array, target, by_value, what, key_axes)
    if source.kind in "mM" and times.convertible(source, target):
        return _cast_times(array, target, what, key_axes)
    if array.size == 0 and by_value:  # an empty list has no dtype of its own
        return np.empty(array.shape, target)
    return _refuse(what, source, target)


def _cast_integers(array: Array, target: np.dtype[Any], by_value: bool, what: str, key_axes: int) -> Array:
    """From bool or integers."""
    source = array.dtype
    if source.kind == "b" and target.kind in "iufc":
        return array.astype(target, order="C")
    if target.kind in "iu":
        _within(array, int(np.iinfo(target).min), int(np.iinfo(target).max), target, what, key_axes)
        return array.astype(target, order="C")
    if target.kind in "mM" and source.kind != "b" and (by_value or target.kind == "m"):
        _within(array, INT64_MIN + 1, INT64_MAX, target, what, key_axes)  # the smallest int64 is NaT
        return array.astype(INT64, order="C").view(target)
    if target.kind == "b" and by_value:
        _within(array, 0, 1, target, what, key_axes)
        return array.astype(target, order="C")
    if target.kind in "fc":
        return _cast_floats(array, target, by_value, what, key_axes)
    return _refuse(what, source, target)


def _cast_floats(array: Array, target: np.dtype[Any], by_value: bool, what: str, key_axes: int) -> Array:
    """To float or complex: numbers taken by value must not become infinite, arrays are cast as NumPy does."""
    if array.dtype.kind in "biu" and np.can_cast(array.dtype, target):  # every number fits, and nothing warns
        return array.astype(target, order="C")
    with np.errstate(all="ignore"):
        result = array.astype(target, order="C")
    if by_value:
        lost = np.isinf(result) & ~np.isinf(array)
        if lost.any():
            _overflow(array, lost, target, what, key_axes)
    return result


def _cast_times(array: Array, target: np.dtype[Any], what: str, key_axes: int) -> Array:
    """From one unit to another: to a coarser one they are rounded down, to a finer one every value must fit."""
    array = _exact(array, native(array.dtype))
    result, lost = times.convert(array, target)
    if lost is not None:
        _overflow(array, lost, target, what, key_axes)
    return result


def _within(array: Array, low: int, high: int, target: np.dtype[Any], what: str, key_axes: int) -> None:
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        _overflow(array, np.asarray((array < low) | (array > high)), target, what, key_axes)


def _one_by_one(array: Array, target: np.dtype[Any], what: str, key_axes: int) -> Array:
    """Python numbers that NumPy made objects or floats of, taken by value."""
    integral = target.kind in "biumM"
    wide: dict[str, type[np.number[Any]]] = {"u": np.uint64, "f": np.float64, "c": np.complex128}
    result: Array = np.empty(array.shape, wide.get(target.kind, np.int64))
    for place in np.ndindex(array.shape):
        number: Any = array[place]
        if isinstance(number, np.bool_):
            number = bool(number)
        is_number = isinstance(number, int | float | complex | np.number) and not isinstance(number, np.timedelta64)
        if not is_number:
            raise TypeError(f"{_blamed(what, place, key_axes)} must be a number, not {type(number).__name__}")
        try:
            if integral:
                result[place] = operator.index(number)
            elif target.kind == "c":
                result[place] = complex(number)
            elif isinstance(number, np.complexfloating):  # NumPy would leave out the imaginary part
                raise TypeError
            else:
                result[place] = float(number)
            if isinstance(number, np.inexact) and np.isinf(result[place]) and not np.isinf(number):
                raise OverflowError
        except TypeError:
            raise TypeError(
                f"{_blamed(what, place, key_axes)}: a {type(number).__name__} can't be stored as {target}"
            ) from None
        except OverflowError:
            raise OverflowError(f"{_blamed(what, place, key_axes)} does not fit {target}") from None
    return result


def _refuse(what: str, source: np.dtype[Any], target: np.dtype[Any]) -> NoReturn:
    raise TypeError(f"{what} of {source} can't be stored as {target}")


def _overflow(array: Array, wrong: npt.NDArray[np.bool_], target: np.dtype[Any], what: str, key_axes: int) -> NoReturn:
    place = _first(wrong)
    raise OverflowError(f"{_blamed(what, place, key_axes)}: {array[place]} does not fit {target}")


# ---- Both -----------------------------------------------------------------------------------------------------------


def _exact(array: Array, target: np.dtype[Any]) -> Array:
    """C-ordered, aligned, native, of the dtype: the array itself, if it is."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype == target:
        return array
    result = np.empty(array.shape, target)
    result[...] = array
    return result


def _first(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape)) if mask.ndim else ()


def _named(what: str, place: tuple[int, ...]) -> str:
    return f"{what}[{', '.join(map(str, place))}]" if place else what


def _blamed(what: str, place: tuple[int, ...], key_axes: int) -> str:
    """rows[i], item j: the row by the place of its key, the item within the row."""
    item = place[key_axes:]
    return _named(what, place[:key_axes]) + (f", item {', '.join(map(str, item))}" if item else "")
