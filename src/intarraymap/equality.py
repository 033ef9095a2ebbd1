"""Whether rows are equal: by their numbers, whatever the dtypes, and exactly. Knows NumPy and no map."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from intarraymap import sequences, times

__all__ = ["numbers_equal", "row_equals"]

Array = npt.NDArray[Any]

_PYTHON_NUMBERS: Final = frozenset((bool, int, float, complex))
_TO_PYTHON: Final[tuple[type[np.generic], ...]] = (
    np.bool_,
    np.integer,
    np.float16,
    np.float32,
    np.float64,
    np.complex64,
    np.complex128,
)


def row_equals(mine: Array, other: object) -> bool:
    """Whether something has the shape of this row and equal numbers. What can't be compared is unequal."""
    try:
        array = np.asarray(other)
        if array.shape != mine.shape:
            return False
        if array.dtype.kind in "fcO" and mine.dtype.kind in "biufc" and not sequences.offers_array(other):
            return _list_equals(mine, other, array)
    except (TypeError, ValueError, OverflowError):
        return False
    return numbers_equal(mine, array)


def _list_equals(mine: Array, other: object, array: Array) -> bool:
    """Of integers that no integer dtype holds together NumPy makes floats, or objects: then number by number."""
    if array.dtype.kind in "fc":
        if not bool(np.asarray(mine == array).all()):  # what is equal is equal rounded
            return False
        if array.size == 0 or np.abs(array).max() < 2.0**53:
            return True
    numbers = [number.item() if isinstance(number, _TO_PYTHON) else number for number in np.array(other, object).flat]
    return set(map(type, numbers)) <= _PYTHON_NUMBERS and numbers == mine.ravel().tolist()


def numbers_equal(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape hold equal numbers: NaN differs from NaN, times equal only times of their kind,
    and an integer equals a float only if it is exactly that float."""
    kinds = {a.dtype.kind, b.dtype.kind}
    if not kinds <= set("biufcmM") or (kinds & set("mM") and len(kinds) > 1):
        return a.size == 0
    try:
        if kinds & set("mM"):
            return times.equal(a, b)
        equal = np.asarray(a == b)
    except (TypeError, ValueError, OverflowError):
        return False
    if not bool(equal.all()):
        return False
    if kinds & set("iu") and kinds & set("fc") and max(a.dtype.itemsize, b.dtype.itemsize) > 4:
        return _equal_exactly(a, b) if a.dtype.kind in "iu" else _equal_exactly(b, a)
    return True


def _equal_exactly(integers: Array, floats: Array) -> bool:
    """For integers and floats that are equal once the integers are rounded to floats: whether nothing was rounded."""
    real = np.asarray(floats.real, np.longdouble)  # which holds every float64
    if real.size == 0 or np.abs(real).max() < 2.0**53:
        return True
    return bool((integers.astype(object) == np.frompyfunc(int, 1, 1)(real)).all())
