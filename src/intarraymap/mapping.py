"""IntArrayMap: the binding's Table with the manners of a dict.

Here is whatever is not hot: arguments are made exact by coerce.py, batches go down to Table in one call each, and what
makes a class a good citizen (copies, pickles, equality, views, repr) is written in Python. ``m[k]``, ``in``, ``get``,
``pop`` and their like are the binding's own and are not wrapped.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from pickle import PickleBuffer
from typing import Any, Literal, Self, SupportsIndex, TypeAlias, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from intarraymap import coerce
from intarraymap._binding import Table
from intarraymap.coerce import RAISE, NoDefault
from intarraymap.errors import missing_keys
from intarraymap.stats import MapStats
from intarraymap.views import MapItems, MapKeys, MapValues

__all__ = ["IntArrayMap"]

D = TypeVar("D", bound=np.generic)
Index: TypeAlias = Literal["auto", "hash", "direct"]
Op: TypeAlias = Literal["set", "add", "sub", "mul", "min", "max", "and", "or", "xor"]
KeyLike: TypeAlias = SupportsIndex | np.bool_
Mask: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.int64]
Pairs: TypeAlias = Mapping[int, Any] | Iterable[tuple[KeyLike, npt.ArrayLike]]

OPS = ("set", "add", "sub", "mul", "min", "max", "and", "or", "xor")
PICKLE_VERSION = 1


class IntArrayMap(Table[D], MutableMapping[int, npt.NDArray[D]]):
    """A map from int64 keys to rows: fixed-length arrays of numbers that lie side by side and never move.

    Parameters
    ----------
    row_shape : int or tuple of int
        The shape of every row. At most 2**31 - 1 items and 1 GiB.
    dtype : dtype_like, default "float64"
        bool, (u)int8 to 64, float16/32/64, complex64/128, datetime64 or timedelta64 with a unit; stored in native
        byte order.
    capacity : int, default 0
        The first `capacity` insertions allocate nothing.
    index : {"auto", "hash", "direct"}, default "auto"
        How keys are found: by hashing, by arithmetic (dense keys), or whichever is better for the keys that come.
    seed : int, optional
        Of the hash, 0 <= seed < 2**64; drawn from the operating system if not given. Never shown, stored or pickled.

    Raises
    ------
    TypeError, ValueError, OverflowError
        If an argument is not as described; nothing has been allocated then.
    MemoryError
        If there is no room for `capacity` rows.
    RuntimeError
        If ``__init__`` is called again.

    See Also
    --------
    from_arrays : build from an array of keys and an array of rows.

    Notes
    -----
    It behaves like ``dict[int, numpy.ndarray]``, with three differences to know:

    - **Order is row order.** With the hash index that is insertion order until a key is deleted; then new keys may fill
      freed places. With the direct index (dense keys, also under "auto") keys ascend within a page, and pages come in
      the order in which they were first needed.
    - **Setting copies.** ``m[k] = row`` copies the numbers in; ``m[k]`` is a live view of them, which changes the map
      when written to, and stays valid through any growth for as long as the key is there.
    - **Keys are integers** of 64 bits: anything with ``__index__``, and ``numpy.bool_``.

    A view whose key is deleted keeps its memory and never shows another key's row.

    Every method is atomic with regard to the others on the same map, from any thread; batches release the GIL. Scalar
    methods are O(1) and never wait for a whole-table copy; ``clear``, ``compact``, ``reserve``, ``copy`` and
    deallocation are O(n).

    Examples
    --------
    >>> import numpy as np
    >>> from intarraymap import IntArrayMap
    >>> m = IntArrayMap(3)
    >>> m[10**15] = [1, 2, 3]
    >>> m[-7] = 0.5
    >>> m[-7][1] += 1
    >>> m[-7]
    array([0.5, 1.5, 0.5])
    >>> m.get_many([10**15, -7, 8], default=np.nan)
    array([[1. , 2. , 3. ],
           [0.5, 1.5, 0.5],
           [nan, nan, nan]])
    >>> m
    IntArrayMap((3,), float64, 2 keys, hash)
    """

    @overload
    def __init__(
        self: IntArrayMap[np.float64],
        row_shape: int | tuple[int, ...],
        dtype: Literal["float64"] = "float64",
        *,
        capacity: int = 0,
        index: Index = "auto",
        seed: int | None = None,
        _options: dict[str, Any] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        row_shape: int | tuple[int, ...],
        dtype: type[D] | np.dtype[D],
        *,
        capacity: int = 0,
        index: Index = "auto",
        seed: int | None = None,
        _options: dict[str, Any] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: IntArrayMap[Any],
        row_shape: int | tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        capacity: int = 0,
        index: Index = "auto",
        seed: int | None = None,
        _options: dict[str, Any] | None = None,
    ) -> None: ...
    def __init__(
        self,
        row_shape: int | tuple[int, ...],
        dtype: npt.DTypeLike = "float64",
        *,
        capacity: int = 0,
        index: Index = "auto",
        seed: int | None = None,
        _options: dict[str, Any] | None = None,
    ) -> None:
        self._refuse_second_init()
        shape = coerce.row_shape(row_shape)
        row_dtype = coerce.dtype(dtype)
        coerce.row_fits(shape, row_dtype)
        rows_wanted = coerce.capacity(capacity)
        index_name = coerce.index(index)
        number = coerce.seed(seed)
        Table.__init__(
            self, shape, row_dtype, rows_wanted, index_name, _fresh_seed() if number is None else number, _options
        )

    # ---- Other ways to make one -------------------------------------------------------------------------------------

    @classmethod
    def from_arrays(
        cls,
        keys: npt.ArrayLike,
        rows: npt.ArrayLike,
        *,
        dtype: npt.DTypeLike | None = None,
        index: Index = "auto",
        seed: int | None = None,
    ) -> Self:
        """Build a map from keys and their rows, as one batch.

        Parameters
        ----------
        keys : array_like of int
            Keys of any shape S. The last of a duplicate wins.
        rows : array_like of numbers
            Of shape S + row_shape: the axes after those of the keys are the shape of a row.
        dtype : dtype_like, optional
            Of the map; the dtype of `rows` if not given.
        index, seed
            As for the class.

        Returns
        -------
        IntArrayMap
            A new map; keys and rows are copied in.

        Raises
        ------
        TypeError
            If keys are not integers, or rows are not numbers or can't be cast to `dtype` same-kind.
        ValueError
            If the shape of `rows` does not begin with that of `keys`, or leaves no axis for the row; if
            ``index="direct"`` and the keys are too sparse for it.
        OverflowError
            If a key is outside int64 or a number does not fit `dtype`.
        MemoryError
            If there is no room.

        Notes
        -----
        O(n); memory is sized exactly, and the index is chosen for all keys at once. Releases the GIL.

        Examples
        --------
        >>> m = IntArrayMap.from_arrays([5, 6, 5], [[1, 2], [3, 4], [9, 9]])
        >>> m[5], m.dtype
        (array([9, 9]), dtype('int64'))
        """
        numbers = coerce.keys_within(keys)
        wanted = None if dtype is None else coerce.dtype(dtype)
        array, by_value = coerce.find_numbers(rows, "rows", wanted)
        key_axes = numbers.ndim
        if array.shape[:key_axes] != numbers.shape or array.ndim == key_axes:
            raise ValueError(f"rows of shape {array.shape}: expected {numbers.shape} and then the shape of a row")
        row_dtype = coerce.dtype(array.dtype) if wanted is None else wanted
        exact = coerce.cast(array, row_dtype, by_value, "rows", key_axes)
        new = cls(array.shape[key_axes:], row_dtype, index=index, seed=seed)
        new._update_many(numbers, exact, "set")
        return new

    @classmethod
    def fromkeys(  # type: ignore[override]  # dict's has no dtype
        cls, keys: Iterable[KeyLike] | npt.ArrayLike, row: npt.ArrayLike, dtype: npt.DTypeLike | None = None
    ) -> Self:
        """Build a map that holds a copy of the same row for every key.

        Parameters
        ----------
        keys : iterable of int, or array_like of int
            Read to its end first.
        row : array_like of numbers
            One row: it has at least one axis and its shape becomes ``row_shape``.
        dtype : dtype_like, optional
            Of the map; the dtype of `row` if not given.

        Returns
        -------
        IntArrayMap
            A new map of this class.

        Raises
        ------
        TypeError, OverflowError
            If a key or the row is not numeric, or does not fit.
        ValueError
            If `row` is a scalar.
        MemoryError
            If there is no room.

        Notes
        -----
        O(n), one batch. Releases the GIL.

        Examples
        --------
        >>> IntArrayMap.fromkeys(range(3), [0.5, 1.5])[2]
        array([0.5, 1.5])
        """
        if not isinstance(keys, Iterable):
            raise TypeError(f"keys must be iterable, not {type(keys).__name__}")
        if not isinstance(keys, np.ndarray | list | tuple | range):
            keys = list(keys)
        numbers = coerce.keys_within(keys)
        wanted = None if dtype is None else coerce.dtype(dtype)
        array, by_value = coerce.find_numbers(row, "row", wanted)
        if array.ndim == 0:
            raise ValueError("row must have at least one axis: its shape becomes row_shape")
        row_dtype = coerce.dtype(array.dtype) if wanted is None else wanted
        exact = coerce.cast(array, row_dtype, by_value, "row", 0)
        new = cls(array.shape, row_dtype)
        new._update_many(numbers, exact, "set")
        return new

    def copy(self) -> Self:
        """An independent map with the same rows in the same order.

        Returns
        -------
        IntArrayMap
            Of the same class, with its ``__dict__`` and slots; the hash seed is a fresh one.

        Raises
        ------
        MemoryError
            If there is no room.

        Notes
        -----
        O(n), a whole-map call. Releases the GIL; other readers go on meanwhile.

        Examples
        --------
        >>> m = IntArrayMap.from_arrays([1], [[1.0, 2.0]])
        >>> n = m.copy()
        >>> n[1][0] = 9
        >>> m[1]
        array([1., 2.])
        """
        new = self._copy_rows()
        _set_state(new, _get_state(self))
        return new

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = self._copy_rows()
        memo[id(self)] = new
        _set_state(new, copy.deepcopy(_get_state(self), memo))
        return new

    def _copy_rows(self) -> Self:
        new = type(self).__new__(type(self))
        new._copy_from(self, _fresh_seed())
        return new

    def _empty_like(self) -> Self:
        new = type(self).__new__(type(self))
        Table.__init__(new, self.row_shape, self.dtype, 0, self._index_asked(), _fresh_seed(), None)
        return new

    # ---- Pickling: the numbers as plain bytes, out of band from protocol 5 on; never the seed -----------------------

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        keys, rows = self._to_arrays()
        parts = [PickleBuffer(array.reshape(-1).view(np.uint8)) for array in (keys, rows)]
        buffers = parts if protocol.__index__() >= 5 else [bytes(part) for part in parts]
        header = (type(self), PICKLE_VERSION, self.row_shape, self.dtype.str, keys.dtype.str, self._index_asked())
        return _rebuild, (*header, *buffers), _get_state(self)

    # ---- Mapping ----------------------------------------------------------------------------------------------------

    def keys(self) -> MapKeys:
        """A live set-like view of the keys, in row order.

        Returns
        -------
        MapKeys
            Iterates over ints; supports ``in``, ``len``, ``reversed`` and the set operations.

        Notes
        -----
        O(1), no copy.

        Examples
        --------
        >>> m = IntArrayMap.fromkeys([5, 7], [0.0])
        >>> sorted(m.keys() & {7, 8})
        [7]
        """
        self.row_shape  # noqa: B018  # raises if the map is closed
        return MapKeys(self)

    def values(self) -> MapValues[D]:
        """A live view of the rows, in row order.

        Returns
        -------
        MapValues
            Iterates over writable zero-copy views; ``in`` compares rows as ``==`` on maps does.

        Notes
        -----
        O(1), no copy; ``in`` is O(n).

        Examples
        --------
        >>> m = IntArrayMap.fromkeys([5, 7], [0.0])
        >>> for row in m.values():
        ...     row += 1
        >>> m[7]
        array([1.])
        """
        self.row_shape  # noqa: B018
        return MapValues(self)

    def items(self) -> MapItems[D]:
        """A live view of the (key, row) pairs, in row order.

        Returns
        -------
        MapItems
            Iterates over pairs of an int and a writable zero-copy view; ``in`` compares rows as ``==`` on maps does.

        Notes
        -----
        O(1), no copy.

        Examples
        --------
        >>> m = IntArrayMap.fromkeys([5], [0.0])
        >>> list(m.items())
        [(5, array([0.]))]
        """
        self.row_shape  # noqa: B018
        return MapItems(self)

    def clear(self) -> None:
        """Remove all keys and give all memory back. Views keep their rows.

        Raises
        ------
        ValueError
            If the map is read-only.
        MemoryError
            If the little that an empty map needs is not there; the map is as before.

        Notes
        -----
        O(n), a whole-map call. Ends every scan. Under ``index="auto"`` the index is free to choose again.

        Examples
        --------
        >>> m = IntArrayMap.fromkeys([5], [0.0])
        >>> m.clear()
        >>> len(m)
        0
        """
        self._clear()

    def update(self, other: Pairs | IntArrayMap[Any] = (), /) -> None:  # type: ignore[override]  # keys are ints
        """Insert or replace many keys: all of them or none.

        Parameters
        ----------
        other : mapping, IntArrayMap, or iterable of (key, row) pairs
            Read to its end first, then applied as one batch. Each row is exactly ``row_shape`` or a scalar.

        Raises
        ------
        TypeError, ValueError, OverflowError
            If a key or row does not fit; nothing has been changed then. Whatever `other` itself raises.
        MemoryError
            If there is no room; the map is as before.

        Notes
        -----
        O(length of other). Two maps are never locked at once.

        Examples
        --------
        >>> m = IntArrayMap(2)
        >>> m.update({5: [1, 2], 6: 0})
        >>> m[5], m[6]
        (array([1., 2.]), array([0., 0.]))
        """
        if isinstance(other, IntArrayMap):
            self.merge(other)
            return
        shape, row_dtype = self.row_shape, self.dtype
        if isinstance(other, Mapping) or hasattr(other, "keys"):
            pairs: Iterable[Any] = ((key, other[key]) for key in other.keys())  # noqa: SIM118  # a mapping by its keys
        else:
            pairs = _pairs(other)
        numbers: list[int] = []
        rows: npt.NDArray[Any] = np.empty((16, *shape), row_dtype)
        for key, row in pairs:
            count = len(numbers)
            number = coerce.key(key, f"keys[{count}]")
            exact = coerce.row(row, shape, row_dtype, f"rows[{count}], of key {number}")
            if count == len(rows):
                rows = np.concatenate((rows, np.empty_like(rows)))
            rows[count] = exact
            numbers.append(number)
        self._update_many(np.array(numbers, np.int64), rows[: len(numbers)], "set")

    def __or__(self, other: Mapping[int, Any]) -> Self:
        """A copy, updated with another mapping."""
        if not isinstance(other, Mapping):
            return NotImplemented
        new = self.copy()
        new.update(other)
        return new

    def __ror__(self, other: Mapping[int, Any]) -> Self:
        """A map of this kind with the other mapping's rows, updated with this one's."""
        if not isinstance(other, Mapping):
            return NotImplemented
        new = self._empty_like()
        _set_state(new, _get_state(self))
        new.update(other)
        new.update(self)
        return new

    def __ior__(self, other: Pairs) -> Self:
        """update() in place."""
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        """Same keys, row_shape and equal numbers, whatever the order, dtype or index. NaN differs from NaN."""
        self.row_shape  # noqa: B018
        if not isinstance(other, Mapping):
            return NotImplemented
        if isinstance(other, IntArrayMap):
            return self._equals_map(other)
        keys, rows = self._to_arrays()
        if len(other) != len(keys):
            return False
        for key, row in zip(keys.tolist(), rows, strict=True):
            if key not in other:
                return False
            try:
                theirs = other[key]
            except KeyError:
                return False
            if not coerce.row_equals(row, theirs):
                return False
        return True

    def _equals_map(self, other: IntArrayMap[Any]) -> bool:
        if self.row_shape != other.row_shape or len(self) != len(other):
            return False
        keys, theirs = other._to_arrays()  # a snapshot, so that two maps are never locked at once
        found = np.empty(len(keys), np.bool_)
        mine = self._get_many(keys, np.zeros(self.row_shape, self.dtype), None, found)
        return len(self) == len(keys) and bool(found.all()) and coerce.numbers_equal(mine, theirs)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        described = self._describe()
        name = type(self).__name__
        if described is None:
            return f"{name}(not initialised)"
        shape, row_dtype, count, index = described
        if count is None:
            return f"{name}({shape}, {row_dtype}: {index})"
        return f"{name}({shape}, {row_dtype}, {count} key{'' if count == 1 else 's'}, {index})"

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.nbytes

    # ---- Life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give all memory back now. Views keep their rows.

        Afterwards every call and iterator step raises ValueError, except `close` and ``repr``.

        Notes
        -----
        O(n). Waits for a batch in progress. Twice is fine.

        Examples
        --------
        >>> with IntArrayMap(2) as m:
        ...     m[5] = 1
        >>> m[5]
        Traceback (most recent call last):
        ValueError: the map is closed
        """
        self._close()

    def __enter__(self) -> Self:
        self.row_shape  # noqa: B018
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def reserve(self, n: int) -> None:
        """Make room for `n` rows in all, so that insertions up to there allocate nothing.

        Parameters
        ----------
        n : int
            Rows in all, those present included. Less than there is room for changes nothing.

        Raises
        ------
        TypeError, ValueError, OverflowError
            If `n` is not an integer, is negative, or above 2**32 - 2.
        MemoryError
            If there is no room; the map is as before.

        Notes
        -----
        A whole-map call: buckets are split at once, rows stay where they are. Releases the GIL.

        Examples
        --------
        >>> m = IntArrayMap(2)
        >>> m.reserve(1000)
        """
        self._reserve(coerce.capacity(n, "n"))

    def compact(self) -> None:
        """Close holes, give spare memory back and choose the index anew. Row numbers change, order stays.

        Raises
        ------
        BufferError
            If a view, a block or a scan of this map is alive.
        ValueError
            If the map is read-only.
        MemoryError
            If there is no room for the new rows beside the old ones; the map is as before.

        Notes
        -----
        O(n), a whole-map call. Releases the GIL.

        Examples
        --------
        >>> m = IntArrayMap.fromkeys(range(1000), [0.0])
        >>> _ = m.delete_many(range(1, 1000))
        >>> m.compact()
        >>> m.stats().rows_free
        0
        """
        self._compact()

    def stats(self) -> MapStats:
        """What the map is made of now.

        Returns
        -------
        MapStats
            Counts, index, load, evacuation progress, bytes by part; a frozen snapshot.

        Notes
        -----
        O(buckets), for the longest chain. Releases the GIL.

        Examples
        --------
        >>> IntArrayMap.fromkeys(range(3), [0.0]).stats().count
        3
        """
        return MapStats(**self._stats())

    # ---- Batches: keys of any shape S ------------------------------------------------------------------------------

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

        Notes
        -----
        O(length of keys). Releases the GIL; a consistent picture: no write comes between.

        Examples
        --------
        >>> m = IntArrayMap.from_arrays([5, 6], [[1.0, 2.0], [3.0, 4.0]])
        >>> m.get_many([6, 7], default=0, return_mask=True)
        (array([[3., 4.],
               [0., 0.]]), array([ True, False]))
        """
        numbers, outside, given = coerce.keys(keys)
        defaults = None if default is RAISE else self._defaults(default, numbers)
        found = np.empty(numbers.shape, np.bool_) if return_mask else None
        if outside is None and out is None:
            rows = self._get_many(numbers, defaults, None, found)
        else:
            target = None if out is None else self._out(out, numbers, defaults)
            if outside is not None:
                rows = self._without(self._get_inside, numbers, outside, given, defaults, found)
            else:
                rows = self._get_many(numbers, defaults, target, found)
            if out is not None and target is None:
                out[...] = rows
            rows = rows if out is None else out
        return rows if found is None else (rows, found)

    def _defaults(self, default: Any, numbers: Numbers) -> npt.NDArray[D]:
        return coerce.rows(default, numbers.shape, self.row_shape, self.dtype, "default")

    def _out(
        self, out: npt.NDArray[D], numbers: Numbers, defaults: npt.NDArray[D] | None
    ) -> npt.NDArray[D] | None:
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
        if not (flags.c_contiguous and flags.aligned) or self._overlaps(out) or np.may_share_memory(out, numbers):
            return None
        return None if defaults is not None and np.may_share_memory(out, defaults) else out

    def _get_inside(
        self, numbers: Numbers, defaults: npt.NDArray[D] | None
    ) -> tuple[npt.NDArray[D], Mask]:
        found = np.empty(numbers.shape, np.bool_)
        return self._get_many(numbers, defaults, None, found), found

    def _pop_inside(
        self, numbers: Numbers, defaults: npt.NDArray[D] | None
    ) -> tuple[npt.NDArray[D], Mask]:
        return self._pop_many(numbers, defaults), np.ones(numbers.shape, np.bool_)

    def _without(
        self,
        take: Callable[[Numbers, npt.NDArray[D] | None], tuple[npt.NDArray[D], Mask]],
        numbers: Numbers,
        outside: Mask,
        given: npt.NDArray[Any] | None,
        defaults: npt.NDArray[D] | None,
        found_out: Mask | None,
    ) -> npt.NDArray[D]:
        """get_many and pop_many where some keys can't be int64: those are missing, the others are taken by `take`."""
        inside = ~outside
        if defaults is None:
            missing = outside | ~self._contains_many(numbers)
            position = int(missing.argmax())
            key = numbers if given is None else given
            raise missing_keys(int(key.reshape(-1)[position]), position, int(missing.sum()), numbers.shape)
        per_key = defaults.shape != self.row_shape
        rows: npt.NDArray[D] = np.empty(numbers.shape + self.row_shape, self.dtype)
        rows[inside], found = take(numbers[inside], defaults[inside] if per_key else defaults)
        rows[outside] = defaults[outside] if per_key else defaults
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
        >>> m = IntArrayMap.from_arrays([5, 6], [[1.0, 2.0], [3.0, 4.0]])
        >>> m.pop_many([6]), len(m)
        (array([[3., 4.]]), 1)
        """
        numbers, outside, given = coerce.keys(keys)
        defaults = None if default is RAISE else self._defaults(default, numbers)
        if outside is None:
            return self._pop_many(numbers, defaults)
        return self._without(self._pop_inside, numbers, outside, given, defaults, None)

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
        >>> IntArrayMap.fromkeys([5, 6], [0.0]).contains_many([[6, 7], [2**64 - 1, 5]])
        array([[ True, False],
               [False,  True]])
        """
        numbers, outside, _ = coerce.keys(keys)
        found = self._contains_many(numbers)
        return found if outside is None else found & ~outside

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
        >>> IntArrayMap.fromkeys([5, 6], [0.0]).delete_many([6, 6, 7])
        array([ True, False, False])
        """
        numbers, outside, _ = coerce.keys(keys)
        if outside is None:
            return self._delete_many(numbers)
        removed = np.zeros(numbers.shape, np.bool_)
        removed[~outside] = self._delete_many(numbers[~outside])
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
        >>> m = IntArrayMap(2)
        >>> m.set_many([5, 6], [[1, 2], [3, 4]])
        >>> m[6]
        array([3., 4.])
        """
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
        >>> m = IntArrayMap(2)
        >>> m.add_many([5, 6, 5], [[1, 1], [2, 2], [3, 3]])
        >>> m[5]
        array([4., 4.])
        """
        self.update_many(keys, rows, "add")

    def update_many(self, keys: npt.ArrayLike, rows: npt.ArrayLike, op: Op) -> None:
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
        >>> m = IntArrayMap(2, "int64")
        >>> m.update_many([5, 5, 6], [[1, 9], [4, 4], [7, 7]], "max")
        >>> m[5]
        array([4, 9])
        """
        self._require_op(op)
        numbers = coerce.keys_within(keys)
        exact = coerce.rows(rows, numbers.shape, self.row_shape, self.dtype)
        self._update_many(numbers, exact, op)

    def _require_op(self, op: str) -> None:
        if not isinstance(op, str):
            raise TypeError(f"op must be a string, not {type(op).__name__}")
        if op not in OPS:
            raise ValueError(f"op must be one of {', '.join(OPS)}, not {op!r:.40}")
        if not self._op_defined(op):
            raise TypeError(f"{op!r} is not defined on {self.dtype}")

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
        >>> m = IntArrayMap(4, "int64")
        >>> m.add_at([5, 5, 6], [0, 0, 3])
        >>> m[5], m[6]
        (array([2, 0, 0, 0]), array([0, 0, 0, 1]))
        """
        self._require_op("add")
        numbers = coerce.keys_within(keys)
        item_count = int(np.prod(self.row_shape, dtype=np.int64))
        places = coerce.items(items, numbers.shape, item_count)
        exact = coerce.values(values, numbers.shape, self.dtype)
        self._add_at(numbers, places, exact)

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
        >>> m = IntArrayMap(2, index="hash")
        >>> m.ensure_many([5, 6, 5])
        (array([0, 1, 0]), array([ True,  True, False]))
        """
        numbers = coerce.keys_within(keys)
        exact = coerce.rows(fill, (), self.row_shape, self.dtype, "fill")
        return self._ensure_many(numbers, exact)

    def merge(self, other: IntArrayMap[Any], op: Op = "set") -> None:
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
        O(length of other), and memory for a snapshot of it: two maps are never locked at once. Releases the GIL.

        Examples
        --------
        >>> m = IntArrayMap.fromkeys([5, 6], [1.0])
        >>> m.merge(IntArrayMap.fromkeys([6, 7], [10.0]), "add")
        >>> sorted((key, row.item()) for key, row in m.items())
        [(5, 1.0), (6, 11.0), (7, 10.0)]
        """
        self._require_op(op)
        if not isinstance(other, IntArrayMap):
            raise TypeError(f"merge() takes an IntArrayMap, not {type(other).__name__}")
        if other.row_shape != self.row_shape:
            raise ValueError(f"rows of shape {other.row_shape} can't go into a map of rows {self.row_shape}")
        keys, rows = other._to_arrays()
        self._update_many(keys, coerce.cast(rows, self.dtype, False, "rows", 1), op)

    # ---- The whole map as arrays ------------------------------------------------------------------------------------

    def to_arrays(self) -> tuple[Numbers, npt.NDArray[D]]:
        """All keys and rows, copied out.

        Returns
        -------
        keys : numpy.ndarray of int64
            Of shape (n,), in row order.
        rows : numpy.ndarray
            Of shape (n, *row_shape), C-ordered; row i belongs to keys[i].

        Raises
        ------
        MemoryError
            If there is no room.

        Notes
        -----
        O(n). Releases the GIL.

        Examples
        --------
        >>> IntArrayMap.from_arrays([5, 6], [[1.0], [2.0]]).to_arrays()
        (array([5, 6]), array([[1.],
               [2.]]))
        """
        return self._to_arrays()

    def blocks(self) -> list[tuple[int, Numbers, npt.NDArray[D], npt.NDArray[np.uint8]]]:
        """The storage itself, without a copy: runs of rows that lie side by side.

        Returns
        -------
        list of (first_row_number, keys, rows, present)
            first_row_number : int, as `index_many` counts;
            keys : int64 (k,), read-only (computed where the index is direct; undefined where no key is present);
            rows : (k, *row_shape), live and writable;
            present : uint8 (ceil(k / 8),), read-only, a little-endian bitmap: bit ``i % 8`` of byte ``i // 8``.

        Notes
        -----
        O(blocks). While any of the arrays lives, no freed row is used again and `compact` raises BufferError. They show
        what the storage shows: a key deleted later stays in ``keys`` and leaves ``present``.

        Examples
        --------
        >>> m = IntArrayMap.from_arrays([5, 6], [[1.0], [2.0]], index="hash")
        >>> for first, keys, rows, present in m.blocks():
        ...     rows *= 10
        >>> m[6]
        array([20.])
        """
        return self._blocks()

    def scan(self) -> Iterator[tuple[int, npt.NDArray[D]]]:
        """Iterate over (key, view) while the map may change, as Go's maps allow.

        Returns
        -------
        iterator of (int, numpy.ndarray)
            In row order. No key comes twice unless it was deleted and inserted again meanwhile; no deleted key comes; a
            key present throughout comes exactly once; a key inserted meanwhile may come or not. `clear` ends it.

        Notes
        -----
        O(1) a step. While a scan lives, `compact` raises BufferError. Iterate over ``items()`` to be told of changes
        instead.

        Examples
        --------
        >>> m = IntArrayMap.fromkeys(range(5), [0.0])
        >>> for key, row in m.scan():
        ...     if key % 2:
        ...         del m[key]
        >>> list(m)
        [0, 2, 4]
        """
        return self._scan()


def _fresh_seed() -> int:
    return int.from_bytes(os.urandom(8), "little")


def _pairs(source: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The pairs of an iterable, judged as dict.update does."""
    for position, pair in enumerate(source):
        try:
            both = tuple(pair)
        except TypeError:
            raise TypeError(f"element {position} is a {type(pair).__name__}, not a (key, row) pair") from None
        if len(both) != 2:
            raise ValueError(f"element {position} has length {len(both)}; a (key, row) pair has 2")
        yield both


def _get_state(source: object) -> Any:
    """What a subclass adds: __dict__ and slots, as pickle wants them; None if there is nothing."""
    return source.__getstate__() or None


def _set_state(target: object, state: Any) -> None:
    """As pickle does it."""
    if state is None:
        return
    set_state = getattr(target, "__setstate__", None)
    if set_state is not None:
        set_state(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        target.__dict__.update(attributes)
    for name, content in (slots or {}).items():
        setattr(target, name, content)


def _rebuild(
    kind: type[IntArrayMap[Any]],
    version: int,
    row_shape: tuple[int, ...],
    row_dtype: str,
    key_dtype: str,
    index: str,
    key_bytes: Any,
    row_bytes: Any,
) -> IntArrayMap[Any]:
    """Unpickles. Nothing is trusted: whatever does not fit together is a TypeError or ValueError."""
    if not (isinstance(kind, type) and issubclass(kind, IntArrayMap)):
        raise TypeError("the pickle is broken: its class is not an IntArrayMap")
    if version != PICKLE_VERSION:
        raise ValueError(f"the pickle has version {version!r:.20}; this package reads {PICKLE_VERSION}")
    if not isinstance(row_dtype, str) or key_dtype not in ("<i8", ">i8"):
        raise TypeError("the pickle is broken: a dtype is not a string, or not that of keys")
    shape = coerce.row_shape(row_shape)
    stored = np.dtype(row_dtype)
    target = coerce.dtype(stored)
    coerce.row_fits(shape, target)
    keys = _unpack(key_bytes, np.dtype(key_dtype), (-1,))
    rows = _unpack(row_bytes, stored, (len(keys), *shape))
    new = kind.__new__(kind)
    Table.__init__(new, shape, target, 0, coerce.index(index), _fresh_seed(), None)
    new._update_many(coerce.keys_within(keys), coerce.cast(rows, target, False, "rows", 1), "set")
    if len(new) != len(keys):
        raise ValueError("the pickle is broken: a key comes twice")
    return cast("IntArrayMap[Any]", new)


def _unpack(packed: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    flat = np.frombuffer(packed, np.uint8) if len(memoryview(packed)) else np.empty(0, np.uint8)
    expected = dtype.itemsize
    for length in shape[1:] if shape[0] == -1 else shape:
        expected *= length
    if (flat.size % expected if shape[0] == -1 else flat.size != expected) != 0:
        raise ValueError(f"the pickle is broken: {flat.size} bytes for arrays of {dtype} {shape}")
    return flat.view(dtype).reshape(shape)
