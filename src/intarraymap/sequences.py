"""Sequences of Python numbers and arrays: told apart, and made arrays of. Knows NumPy and no map."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["NUMPY_AXES_MAX", "array_of", "is_sequence", "offers_array", "refuse_masked"]

Array = npt.NDArray[Any]

NUMPY_AXES_MAX: Final = 64


def offers_array(value: object) -> bool:
    """Whether NumPy takes its memory or its own array for it, so that its numbers have a dtype before they are ours."""
    if isinstance(value, np.ndarray | np.generic):
        return True
    # Without a generator: where there is no memory for the cell it looks through, CPython 3.11 loses the value.
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__") or hasattr(value, "__array_struct__"):
        return True
    try:
        memoryview(value).release()  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return False
    return True


def is_sequence(value: object) -> bool:
    """Whether it has the methods of one. NumPy asks for no more."""
    return hasattr(type(value), "__len__") and hasattr(type(value), "__getitem__")


def refuse_masked(value: object, what: str) -> None:
    if "numpy.ma" not in sys.modules:  # NumPy imports it for those who use it
        return
    if isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value)):
        raise TypeError(f"{what} are masked; use .filled() or .compressed()")


def array_of(value: list[Any] | tuple[Any, ...], what: str) -> Array:
    """An array of whatever dtype NumPy finds for a (nested) sequence. It looks behind the masks of what is within."""
    try:
        array = np.array(value)
    except Exception as error:
        _refuse_masked_within(value, what, NUMPY_AXES_MAX)  # masked numbers that shall be integers
        if type(error) is ValueError and "inhomogeneous" in str(error):
            raise ValueError(f"{what}: an inhomogeneous sequence, what is in it is of several shapes") from None
        raise
    if "numpy.ma" in sys.modules:
        # Single numbers, most by far, need no look: masked ones are errors as integers, and NaN as floats.
        kind, is_long = array.dtype.kind, array.size > 64  # up to there a look is as fast as NumPy's
        is_clean = kind in "iu" or (kind == "f" and is_long and not np.isnan(array).any())
        _refuse_masked_within(value, what, array.ndim - is_clean)
    return array


_PLAIN: Final = frozenset((int, float, bool, complex))
_SEQUENCES: Final = (list, tuple)  # not list | tuple, which is made anew for each number


def _refuse_masked_within(value: list[Any] | tuple[Any, ...], what: str, depth: int) -> None:
    if "numpy.ma" not in sys.modules:
        return
    level: Any = value if type(value) in _SEQUENCES else list(_parts(value))
    for deeper in range(depth - 1, -1, -1):
        kinds = set(map(type, level))
        if kinds <= _PLAIN:
            return
        for kind in kinds:
            if issubclass(kind, np.ma.MaskedArray):
                for part in level:
                    refuse_masked(part, what)
        if not deeper or not any(issubclass(kind, _SEQUENCES) for kind in kinds):
            return
        inner = {id(part): part for part in level if isinstance(part, _SEQUENCES)}  # once each: it may hold itself
        level = list(chain.from_iterable(map(_parts, inner.values())))


def _parts(value: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
    """What is in a sequence, whatever a subclass says."""
    return list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)
