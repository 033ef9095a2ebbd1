"""Batches: what is done to many keys at once.

Each method makes its arguments exact (coerce.py) and goes down to the binding in one call: ``m.get_many`` is
``Batch._get_many`` is ``iam_map_get_many``. Every one is all or nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from intarraymap import coerce
from intarraymap._batch import Batch, spread
from intarraymap.coerce import RAISE, NoDefault
from intarraymap.errors import missing_keys

__all__ = ["OPS", "Batches", "Mask", "Numbers"]

D = TypeVar("D", bound=np.generic)
Mask: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.int64]

if TYPE_CHECKING:
    _Op: TypeAlias = Literal["set", "add", "sub", "mul", "min", "max", "and", "or", "xor"]

OPS = ("set", "add", "sub", "mul", "min", "max", "and", "or", "xor")


class Batches(Batch[D]):
    """The batch methods of IntArrayMap. Keys are of any shape S, rows of S + row_shape."""

    __slots__ = ()

    @overload
    def get_many(
        self,
        keys: npt.ArrayLike,
        default: npt.ArrayLike | NoDefault = ...,
        *,
        out: npt.NDArray[D] | None = None,
        return_mask: Literal[False] = False,
    ) -> npt.NDArray[D]: ...
    @overload
    def get_many(
        self,
        keys: npt.ArrayLike,
        default: npt.ArrayLike | NoDefault = ...,
        *,
        out: npt.NDArray[D] | None = None,
        return_mask: Literal[True],
    ) -> tuple[npt.NDArray[D], Mask]: ...
    @overload
    def get_many(
        self,
        keys: npt.ArrayLike,
        default: npt.ArrayLike | NoDefault = ...,
        *,
        out: npt.NDArray[D] | None = None,
        return_mask: bool,
    ) -> npt.NDArray[D] | tuple[npt.NDArray[D], Mask]: ...
    def get_many(
        self,
        keys: npt.ArrayLike,
        default: npt.ArrayLike | NoDefault = RAISE,
        *,
        out: npt.NDArray[D] | None = None,
        return_mask: bool = False,
    ) -> npt.NDArray[D] | tuple[npt.NDArray[D], Mask]:
        """Copy out the rows of many keys.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S, duplicates allowed.
        default : array_like, optional
            The row of a missing key: a scalar, one row, or an array of shape S + row_shape. Without it a missing key
            is an error.
        out : numpy.ndarray, optional
            Written to and returned instead of a new array: exactly S + row_shape, the map's dtype, any strides. May
            overlap the map or the other arguments. Undefined after an error.
        return_mask : bool, default False
            Whether to return which keys were found, too.

        Returns
        -------
        rows : numpy.ndarray
            Of shape S + row_shape, C-ordered, a copy.
        found : numpy.ndarray of bool
            Of shape S; only with `return_mask`.

        Raises
        ------
        KeyError
            If a key is missing and there is no default. Its ``key``, ``position`` and ``missing_count`` say which.
        TypeError
            If keys are not integers; if the default is None, not numeric or of another kind; if `out` has another
            dtype.
        ValueError
            If the default or `out` has another shape, or `out` is read-only.
        OverflowError
            If the default does not fit the dtype.
        MemoryError
            If there is no room for the result.

        Notes
        -----
        O(length of keys). Releases the GIL; a consistent picture: no write comes between.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.from_arrays([5, 6], [[1.0, 2.0], [3.0, 4.0]])
        >>> m.get_many([6, 7], default=0, return_mask=True)
        (array([[3., 4.],
               [0., 0.]]), array([ True, False]))
        """
        numbers, outside, given = coerce.keys(keys)
        defaults = None if default is RAISE else self._defaults(default, numbers)
        found = np.empty(numbers.shape, np.bool_) if return_mask else None
        target = None if out is None else self._out(out, numbers, defaults)
        if outside is None:
            rows = self._get_many(numbers, defaults, target, found)
        else:
            rows = self._without(numbers, outside, given, defaults, found, pops=False)
        if out is not None and rows is not out:
            out[...] = rows
            rows = out
        return rows if found is None else (rows, found)

    def _defaults(self, default: Any, numbers: Numbers) -> npt.NDArray[D]:
        return coerce.rows(default, numbers.shape, self.row_shape, self.dtype, "default")

    def _out(self, out: npt.NDArray[D], numbers: Numbers, defaults: npt.NDArray[D] | None) -> npt.NDArray[D] | None:
        """Judges `out`: itself if the core may write straight into it, None if that needs a detour."""
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out must be an array, not {type(out).__name__}")
        shape = numbers.shape + self.row_shape
        if out.dtype != self.dtype:
            raise TypeError(f"out must be of {self.dtype}, not {out.dtype}")
        if out.shape != shape:
            raise ValueError(f"out must be of shape {shape}, not {out.shape}")
        flags = out.flags
        if not flags.writeable:
            raise ValueError("out is read-only")
        straight = flags.c_contiguous and flags.aligned and self._is_apart(out, numbers, defaults)
        return out if straight else None

    def _without(
        self,
        numbers: Numbers,
        outside: Mask,
        given: npt.NDArray[Any] | None,
        defaults: npt.NDArray[D] | None,
        found_out: Mask | None,
        *,
        pops: bool,
    ) -> npt.NDArray[D]:
        """get_many and pop_many where some keys can't be int64: those are missing."""
        inside = np.asarray(~outside)  # of a single key NumPy makes a scalar
        if defaults is None:
            missing = np.asarray(outside | ~self._contains_many(numbers))
            if pops:
                again = np.ones(int(inside.sum()), np.bool_)
                again[np.unique(numbers[inside], return_index=True)[1]] = False
                missing[inside] |= again  # the second of a duplicate
            position = int(missing.argmax())
            key = numbers if given is None else given
            raise missing_keys(int(key.reshape(-1)[position]), position, int(missing.sum()), numbers.shape)
        per_key = defaults.shape != self.row_shape
        rows: npt.NDArray[D] = np.empty(numbers.shape + self.row_shape, self.dtype)
        rows[outside] = defaults[outside] if per_key else defaults
        kept, kept_defaults = numbers[inside], defaults[inside] if per_key else defaults
        found = np.ones(kept.shape, np.bool_)
        taken = self._pop_many(kept, kept_defaults) if pops else self._get_many(kept, kept_defaults, None, found)
        spread(taken, inside, rows)  # after a pop nothing may fail
        if found_out is not None:
            found_out[inside] = found
            found_out[outside] = False
        return rows

    def pop_many(self, keys: npt.ArrayLike, default: npt.ArrayLike | NoDefault = RAISE) -> npt.NDArray[D]:
        """Remove many keys and return their rows: all of them or none.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S; the second of a duplicate is missing.
        default : array_like, optional
            The row of a missing key: a scalar, one row, or an array of shape S + row_shape. Without it a missing key
            is an error, and nothing is removed.

        Returns
        -------
        numpy.ndarray
            Of shape S + row_shape, C-ordered, a copy.

        Raises
        ------
        KeyError
            If a key is missing and there is no default. Its ``key``, ``position`` and ``missing_count`` say which.
        TypeError, ValueError, OverflowError
            As for `get_many`; ValueError also if the map is read-only.
        MemoryError
            If there is no room for the result; the map is as before.

        Notes
        -----
        O(length of keys). Releases the GIL.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.from_arrays([5, 6], [[1.0, 2.0], [3.0, 4.0]])
        >>> m.pop_many([6]), len(m)
        (array([[3., 4.]]), 1)
        """
        self._require_writable()
        numbers, outside, given = coerce.keys(keys)
        defaults = None if default is RAISE else self._defaults(default, numbers)
        if outside is None:
            return self._pop_many(numbers, defaults)
        return self._without(numbers, outside, given, defaults, None, pops=True)

    def contains_many(self, keys: npt.ArrayLike) -> Mask:
        """Which of many keys are present.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S.

        Returns
        -------
        numpy.ndarray of bool
            Of shape S.

        Raises
        ------
        TypeError
            If keys are not integers.

        Notes
        -----
        O(length of keys). Releases the GIL.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> IntArrayMap.fromkeys([5, 6], [0.0]).contains_many([[6, 7], [2**64 - 1, 5]])
        array([[ True, False],
               [False,  True]])
        """
        numbers, outside, _ = coerce.keys(keys)
        found = self._contains_many(numbers)
        return found if outside is None else np.asarray(found & ~outside)

    def index_many(self, keys: npt.ArrayLike) -> Numbers:
        """Row numbers of many keys, for use with `blocks`.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S.

        Returns
        -------
        numpy.ndarray of int64
            Of shape S: row numbers, -1 where missing. Valid until the key is deleted or the map compacted or cleared.

        Raises
        ------
        TypeError
            If keys are not integers.

        Notes
        -----
        O(length of keys). Releases the GIL.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.from_arrays([5, 6], [[1.0, 2.0], [3.0, 4.0]], index="hash")
        >>> m.index_many([6, 7])
        array([ 1, -1])
        """
        numbers, outside, _ = coerce.keys(keys)
        rows = self._index_many(numbers)
        if outside is not None:
            rows[outside] = -1
        return rows

    def delete_many(self, keys: npt.ArrayLike) -> Mask:
        """Remove many keys; missing ones are ignored.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S.

        Returns
        -------
        numpy.ndarray of bool
            Of shape S: which were removed. A duplicate counts once.

        Raises
        ------
        TypeError
            If keys are not integers.
        ValueError
            If the map is read-only.

        Notes
        -----
        O(length of keys). Releases the GIL. Needs no memory but for the result.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> IntArrayMap.fromkeys([5, 6], [0.0]).delete_many([6, 6, 7])
        array([ True, False, False])
        """
        self._require_writable()
        numbers, outside, _ = coerce.keys(keys)
        if outside is None:
            return self._delete_many(numbers)
        removed, inside = np.zeros(numbers.shape, np.bool_), np.asarray(~outside)
        kept = numbers[inside]
        spread(self._delete_many(kept), inside, removed)  # after the deletion nothing may fail
        return removed

    def set_many(self, keys: npt.ArrayLike, rows: npt.ArrayLike) -> None:
        """Insert or replace many rows: all of them or none.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S. The last of a duplicate wins.
        rows : array_like of numbers
            Exactly S + row_shape, one row, or a scalar. Copied in.

        Raises
        ------
        TypeError
            If keys are not integers, or rows are not numbers or of another kind.
        ValueError
            If rows have another shape; if the map is read-only; if ``index="direct"`` was asked for and the keys are
            too sparse for it.
        OverflowError
            If a key is outside int64, a number does not fit the dtype, or the map would exceed 2**32 - 2 rows.
        MemoryError
            If there is no room for the distinct new keys; the map is as before.

        Notes
        -----
        O(length of keys). Releases the GIL. Keys are read once.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2)
        >>> m.set_many([5, 6], [[1, 2], [3, 4]])
        >>> m[6]
        array([3., 4.])
        """
        self._require_writable()
        numbers = coerce.keys_within(keys)
        exact = coerce.rows(rows, numbers.shape, self.row_shape, self.dtype)
        self._update_many(numbers, exact, "set")

    def add_many(self, keys: npt.ArrayLike, rows: npt.ArrayLike) -> None:
        """Add rows to those of many keys, every duplicate counted, in order; a missing key starts at zero.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S.
        rows : array_like of numbers
            Exactly S + row_shape, one row, or a scalar.

        Raises
        ------
        TypeError, ValueError, OverflowError, MemoryError
            As for `set_many`; TypeError also for datetime64. Nothing has been changed then.

        Notes
        -----
        O(length of keys). Releases the GIL. Integers wrap as NumPy's do.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2)
        >>> m.add_many([5, 6, 5], [[1, 1], [2, 2], [3, 3]])
        >>> m[5]
        array([4., 4.])
        """
        self.update_many(keys, rows, "add")

    def update_many(self, keys: npt.ArrayLike, rows: npt.ArrayLike, op: _Op) -> None:
        """Combine the rows of many keys with others, in order: all of them or none.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S. A missing key takes the row itself ("sub": its negative).
        rows : array_like of numbers
            Exactly S + row_shape, one row, or a scalar.
        op : {"set", "add", "sub", "mul", "min", "max", "and", "or", "xor"}
            bool: set, and, or, xor, and add, which is or; float: no and, or, xor; complex: nor min, max; datetime64:
            set, min, max.

        Raises
        ------
        TypeError
            If `op` is not defined on the dtype; otherwise as for `set_many`.
        ValueError
            If `op` is unknown; otherwise as for `set_many`.
        OverflowError, MemoryError
            As for `set_many`.

        Notes
        -----
        O(length of keys). Releases the GIL. Integers wrap as NumPy's do; min and max propagate NaN and NaT.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2, "int64")
        >>> m.update_many([5, 5, 6], [[1, 9], [4, 4], [7, 7]], "max")
        >>> m[5]
        array([4, 9])
        """
        self._require_writable()
        name = self._require_op(op)
        numbers = coerce.keys_within(keys)
        exact = coerce.rows(rows, numbers.shape, self.row_shape, self.dtype)
        self._update_many(numbers, exact, name)

    def _require_op(self, op: str) -> str:
        """The name of an operation that is defined on the dtype, as a plain string."""
        if not isinstance(op, str):
            raise TypeError(f"op must be a string, not {type(op).__name__}")
        op = coerce.text(op)
        if op not in OPS:
            raise ValueError(f"op must be one of {', '.join(OPS)}, not {op!r:.40}")
        if not self._op_defined(op):
            raise TypeError(f"{op!r} is not defined on {self.dtype}")
        return op

    def add_at(self, keys: npt.ArrayLike, items: npt.ArrayLike, values: npt.ArrayLike = 1) -> None:
        """``m[key].flat[item] += value`` for many keys, every duplicate counted; a missing key starts at zero.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S.
        items : array_like of int
            Which item of the row, counted in C order from 0; broadcast to S.
        values : array_like of numbers, default 1
            Broadcast to S.

        Raises
        ------
        ValueError
            If an item is outside the row (negative ones are), naming ``items[i]``; if items or values don't broadcast
            to S; if the map is read-only.
        TypeError, OverflowError, MemoryError
            As for `set_many`; TypeError also for datetime64. Nothing has been changed then.

        Notes
        -----
        O(length of keys). Releases the GIL.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(4, "int64")
        >>> m.add_at([5, 5, 6], [0, 0, 3])
        >>> m[5], m[6]
        (array([2, 0, 0, 0]), array([0, 0, 0, 1]))
        """
        self._require_writable()
        self._require_op("add")
        numbers = coerce.keys_within(keys)
        item_count = math.prod(self.row_shape)
        places, items_shape = coerce.items(items, numbers.shape, item_count)
        exact = coerce.values(values, numbers.shape, self.dtype)
        self._add_at(numbers, places, exact, items_shape)

    def ensure_many(self, keys: npt.ArrayLike, fill: npt.ArrayLike = 0) -> tuple[Numbers, Mask]:
        """Find many keys, inserting the missing ones, in one probe each: all of them or none.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S.
        fill : array_like of numbers, default 0
            The row of a new key: one row or a scalar.

        Returns
        -------
        numbers : numpy.ndarray of int64
            Of shape S: row numbers, for use with `blocks`.
        created : numpy.ndarray of bool
            Of shape S: where the key was missing (its first occurrence).

        Raises
        ------
        TypeError, ValueError, OverflowError, MemoryError
            As for `set_many`. Nothing has been changed then.

        Notes
        -----
        O(length of keys). Releases the GIL.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2, index="hash")
        >>> m.ensure_many([5, 6, 5])
        (array([0, 1, 0]), array([ True,  True, False]))
        """
        self._require_writable()
        numbers = coerce.keys_within(keys)
        exact = coerce.rows(fill, (), self.row_shape, self.dtype, "fill")
        return self._ensure_many(numbers, exact)

    def merge(self, other: Batches[Any], op: _Op = "set") -> None:
        """Combine another map into this one, key by key: all of them or none.

        Parameters
        ----------
        other : IntArrayMap
            Of the same ``row_shape``; its rows are cast same-kind. May be this very map.
        op : {"set", "add", "sub", "mul", "min", "max", "and", "or", "xor"}, default "set"
            As for `update_many`.

        Raises
        ------
        TypeError
            If `other` is not an IntArrayMap, its dtype is of another kind, or `op` is not defined on the dtype.
        ValueError
            If `other` has another ``row_shape`` or `op` is unknown; if the map is read-only.
        OverflowError
            If an integer of `other` does not fit the dtype.
        MemoryError
            If there is no room; the map is as before.

        Notes
        -----
        O(length of other), one batch. Two maps are never locked at once: a map that may change is copied out first, a
        read-only one without deleted keys is read where it lies. A map and itself are one call. Releases the GIL.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.fromkeys([5, 6], [1.0])
        >>> m.merge(IntArrayMap.fromkeys([6, 7], [10.0]), "add")
        >>> sorted((key, row.item()) for key, row in m.items())
        [(5, 1.0), (6, 11.0), (7, 10.0)]
        """
        self._require_writable()
        name = self._require_op(op)
        if not isinstance(other, Batches):
            raise TypeError(f"merge() takes an IntArrayMap, not {type(other).__name__}")
        if other.row_shape != self.row_shape:
            raise ValueError(f"rows of shape {other.row_shape} can't go into a map of rows {self.row_shape}")
        if other is self:
            self._merge_itself(name)
            return
        keys, rows = other._snapshot()
        self._update_many(keys, coerce.cast(rows, self.dtype, False, "rows", 1), name)
