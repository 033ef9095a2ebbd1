"""IntArrayMap: the binding with the manners of a dict.

Here is what makes a class a good citizen: construction, copies, updates, equality, views, repr. What concerns many
keys is in batches.py, what concerns all rows in whole.py; ``m[k]``, ``in``, ``get``, ``pop`` and their like are the
binding's own and are not wrapped.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from intarraymap import coerce, equality, pickling
from intarraymap._binding import Table
from intarraymap.batches import Batches
from intarraymap.exchange import Exchange
from intarraymap.files import Files
from intarraymap.views import MapItems, MapKeys, MapValues
from intarraymap.whole import WholeMap

__all__ = ["IntArrayMap"]

D = TypeVar("D", bound=np.generic)
KeyLike: TypeAlias = SupportsIndex | np.bool_
Pairs: TypeAlias = Mapping[int, Any] | Iterable[tuple[KeyLike, npt.ArrayLike]]

if TYPE_CHECKING:
    _Index: TypeAlias = Literal["auto", "hash", "direct"]


#: What update() makes room for before it has read a pair: a page, but one row at least, which may be of 1 GiB.
_FIRST_BYTES = 4096


class IntArrayMap(Table[D], Batches[D], WholeMap[D], Exchange[D], Files[D], MutableMapping[int, npt.NDArray[D]]):
    """A map from int64 keys to rows: fixed-length arrays of numbers that lie side by side and never move.

    Parameters
    ----------
    row_shape : int or tuple of int
        The shape of every row. At most 2**31 - 1 items and 1 GiB.
    dtype : dtype_like, default "float64"
        bool, (u)int8 to 64, float16/32/64, complex64/128, datetime64 or timedelta64 with a unit; stored in native
        byte order.
    capacity : int, default 0
        The first `capacity` insertions allocate nothing (as `reserve` says it).
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
        index: _Index = "auto",
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
        index: _Index = "auto",
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
        index: _Index = "auto",
        seed: int | None = None,
        _options: dict[str, Any] | None = None,
    ) -> None: ...
    def __init__(
        self,
        row_shape: int | tuple[int, ...],
        dtype: npt.DTypeLike = "float64",
        *,
        capacity: int = 0,
        index: _Index = "auto",
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
            self, shape, row_dtype, rows_wanted, index_name, coerce.fresh_seed() if number is None else number, _options
        )

    # ---- Other ways to make one -------------------------------------------------------------------------------------

    @classmethod
    def from_arrays(
        cls,
        keys: npt.ArrayLike,
        rows: npt.ArrayLike,
        *,
        dtype: npt.DTypeLike | None = None,
        index: _Index = "auto",
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
    def fromkeys(
        cls, keys: Iterable[Any] | npt.ArrayLike, row: npt.ArrayLike, dtype: npt.DTypeLike | None = None
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
        new = cls(array.shape, row_dtype)  # which refuses rows that are too large, before one is copied
        exact = coerce.cast(array, row_dtype, by_value, "row", 0)
        new._update_many(numbers, exact, "set")
        return new

    def copy(self) -> Self:
        """An independent map with the same rows, in the same order as long as the index is the same.

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
        pickling.set_state(new, pickling.get_state(self))
        return new

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = self._copy_rows()
        memo[id(self)] = new
        pickling.set_state(new, copy.deepcopy(pickling.get_state(self), memo))
        return new

    def _copy_rows(self) -> Self:
        new = type(self).__new__(type(self))
        new._copy_from(self, coerce.fresh_seed())
        return new

    def _empty_like(self) -> Self:
        new = type(self).__new__(type(self))
        Table.__init__(new, self.row_shape, self.dtype, 0, self._index_asked(), coerce.fresh_seed(), None)
        return new

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        number = operator.index(protocol)
        if type(self).__reduce__ is not IntArrayMap.__reduce__:  # a subclass's own comes first, as a dict's does
            return self.__reduce__()
        return pickling.reduce(self, number)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return pickling.reduce(self, 2)  # for a subclass's own to build on

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
        self._require_writable()
        if isinstance(other, IntArrayMap):
            self.merge(other)
            return
        shape, row_dtype = self.row_shape, self.dtype
        if isinstance(other, Mapping) or hasattr(other, "keys"):
            source: Any = other
            pairs: Iterable[Any] = ((key, source[key]) for key in source.keys())  # noqa: SIM118
        else:
            pairs = _pairs(other)
        numbers: list[int] = []
        room = max(1, _FIRST_BYTES // (math.prod(shape) * row_dtype.itemsize))
        rows: npt.NDArray[Any] = np.empty((room, *shape), row_dtype)
        for key, row in pairs:
            count = len(numbers)
            number = coerce.key(key, f"keys[{count}]")
            exact = coerce.row(row, shape, row_dtype, f"rows[{count}], of key {number}")
            if count == len(rows):
                rows, full = np.empty((2 * count, *shape), row_dtype), rows
                rows[:count] = full
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
        pickling.set_state(new, pickling.get_state(self))
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
            if not equality.row_equals(row, theirs):
                return False
        return True

    def _equals_map(self, other: IntArrayMap[Any]) -> bool:
        if self.row_shape != other.row_shape:
            return False
        mine, theirs = self._to_arrays(), other._to_arrays()  # snapshots, so that two maps are never locked at once
        if not np.array_equal(mine[0], theirs[0]):  # other keys, or another order
            if len(mine[0]) != len(theirs[0]):
                return False
            orders = np.argsort(mine[0]), np.argsort(theirs[0])
            mine = mine[0][orders[0]], mine[1][orders[0]]
            theirs = theirs[0][orders[1]], theirs[1][orders[1]]
        return np.array_equal(mine[0], theirs[0]) and equality.numbers_equal(mine[1], theirs[1])

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
