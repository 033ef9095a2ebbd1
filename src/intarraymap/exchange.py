"""Hand-over: a map as a table of Arrow or of pandas or as an archive of NumPy, and from one.

Arrow's interface needs no package here; pandas is imported when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from intarraymap import _arrow, archive, arrow, coerce, columns, frames
from intarraymap._batch import Batch

if TYPE_CHECKING:
    import pandas as _pd  # type: ignore[import-untyped, import-not-found, unused-ignore]

    _Index: TypeAlias = Literal["auto", "hash", "direct"]

__all__ = ["ArrowTable", "Exchange"]

D = TypeVar("D", bound=np.generic)


class ArrowTable:
    """A map as whoever reads Arrow sees it: what `IntArrayMap.to_arrow` returns.

    It may be read more than once; each time shows the map as it is then.

    Examples
    --------
    >>> from intarraymap import IntArrayMap
    >>> IntArrayMap.from_arrow(IntArrayMap.fromkeys([5], [1.0]).to_arrow())[5]
    array([1.])
    """

    __slots__ = ("_copy", "_map")

    def __init__(self, source: Batch[Any], copy: bool | None) -> None:
        self._map = source
        self._copy = copy

    def __arrow_c_schema__(self) -> object:
        return self._map.__arrow_c_schema__()  # type: ignore[attr-defined]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        _accept(requested_schema)
        return arrow.stream(self._map, self._copy)

    def __repr__(self) -> str:
        return f"ArrowTable({self._map!r}, copy={self._copy})"


class Exchange(Batch[D]):
    """The methods of IntArrayMap that hand it over to other packages, and take it from them."""

    __slots__ = ()

    # ---- Arrow ------------------------------------------------------------------------------------------------------

    def __arrow_c_schema__(self) -> object:
        """Arrow's C interface: ``struct<key: int64, row: fixed_size_list<item>>``."""
        return _arrow.schema_capsule(arrow.schema(self.row_shape, self.dtype))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow's C interface: the rows as record batches, see `to_arrow`. A requested schema is not followed."""
        _accept(requested_schema)
        return arrow.stream(self, None)

    def to_arrow(self, *, copy: bool | None = None) -> ArrowTable:
        """The map as a table of Arrow, for any package that reads Arrow's C interface.

        Most take the map itself: ``pyarrow.table(m)``, ``duckdb.sql("from m")``, ``pandas.DataFrame.from_arrow(m)``.
        This is for those that would take a mapping for a dict of columns, ``polars.DataFrame(m.to_arrow())``, and for
        saying `copy`.

        Parameters
        ----------
        copy : bool, optional
            True: what is handed over is the map as it is when it is read, and never changes. False: it is the map's own
            memory (keys are copied); a row that is written to later changes there too, one that is deleted stays, and
            as long as any of it lives no row that is freed is used again and `compact` raises BufferError, as with
            `blocks`. Not given: no copy of a read-only map, unless its rows lie in very many pieces.

        Returns
        -------
        ArrowTable
            With ``__arrow_c_stream__`` and ``__arrow_c_schema__``. Columns: ``key`` (int64) and ``row``
            (fixed_size_list of as many items as a row has). Several axes are flattened; the shape is noted in the
            metadata of the column, and `from_arrow` reads it.

        Raises
        ------
        TypeError
            If Arrow has no unit that holds the dtype: times finer than ns, timedelta64 of months or years; if `copy` is
            not a bool.
        BufferError
            When it is read: if ``copy=False`` and Arrow stores the dtype otherwise: bool (packed in bits), and times
            of days, hours or minutes, which it has in seconds.
        MemoryError
            When it is read: if there is no room.

        Notes
        -----
        Reading is O(n), one call on the map under its lock with the GIL released. A batch for each block of `blocks`;
        without a copy one for each run of rows without a gap, so that deleted keys make more of them, and `compact`
        fewer. NaT is null. An item of complex numbers is a list of two. Released from any thread, without the GIL.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.from_arrays([5, 6], [[1.0, 2.0], [3.0, 4.0]])
        >>> table = m.to_arrow(copy=False)
        >>> IntArrayMap.from_arrow(table) == m
        True
        """
        if not (copy is None or isinstance(copy, bool | np.bool_)):
            raise TypeError(f"copy must be True, False or None, not {type(copy).__name__}")
        arrow.form_of(self.dtype)
        return ArrowTable(self, None if copy is None else bool(copy))

    @classmethod
    def from_arrow(
        cls,
        source: Any,
        *,
        key: str = "key",
        row: str | Sequence[str] = "row",
        row_shape: int | tuple[int, ...] | None = None,
        dtype: npt.DTypeLike | None = None,
        index: _Index = "auto",
        seed: int | None = None,
    ) -> Self:
        """Build a map from a table of any package that offers Arrow's C interface.

        Parameters
        ----------
        source : object with ``__arrow_c_stream__`` or ``__arrow_c_array__``
            A table, frame, relation or record batch of pyarrow, polars, duckdb, pandas and others, or a map.
        key : str, default "key"
            The column of keys: any integers within int64. The last of a duplicate wins.
        row : str or sequence of str, default "row"
            The column of rows: fixed_size_list, or list and large_list if all are equally long, of numbers; lists of
            lists are rows of several axes. Or several columns of plain numbers, which become the items of the row.
        row_shape : int or tuple of int, optional
            Of the map; what the table notes, or the shape it has, if not given.
        dtype : dtype_like, optional
            Of the map; what the table notes, or the dtype it has, if not given. Cast same-kind.
        index, seed
            As for the class.

        Returns
        -------
        IntArrayMap
            A new map of this class; keys and rows are copied in.

        Raises
        ------
        TypeError
            If `source` has no such interface, is no table, or a column holds something else.
        ValueError
            If there is no such column; if a key, a row or an item is null (null times become NaT); if rows differ in
            length or do not fit `row_shape`. The message names the column and the place.
        OverflowError
            If a key is outside int64 or a number does not fit `dtype`.
        MemoryError
            If there is no room.

        Notes
        -----
        O(n). A table of several batches is put together first, which needs its size once more. Times of a time zone
        are taken in UTC, which is how Arrow stores them.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.from_arrays([5, 6], [[1, 2], [3, 4]])
        >>> IntArrayMap.from_arrow(m) == m
        True
        """
        shape = None if row_shape is None else coerce.row_shape(row_shape)
        keys, rows = columns.read(source, key, row, shape, None if dtype is None else coerce.dtype(dtype))
        maker: Any = cls
        return cast("Self", maker.from_arrays(keys, rows, index=index, seed=seed))

    # ---- pandas -----------------------------------------------------------------------------------------------------

    def to_pandas(self, columns: Sequence[Any] | None = None) -> _pd.DataFrame:
        """The rows as a pandas DataFrame: the index holds the keys, each item of a row is a column.

        Parameters
        ----------
        columns : sequence, optional
            Names, as many as a row has items. Without them items are numbered: 0, 1, … or, for rows of several axes,
            (0, 0), (0, 1), … in a MultiIndex.

        Returns
        -------
        pandas.DataFrame
            In row order; independent of the map.

        Raises
        ------
        ImportError
            If pandas is not installed.
        TypeError
            If `columns` is a string, or no sequence.
        ValueError
            If there are not as many names as items.
        MemoryError
            If there is no room.

        Notes
        -----
        O(n): one copy of the rows, over which the frame lies. pandas has times of s, ms, us and ns only and converts
        others, or raises its own error.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.from_arrays([5, 6], [[1, 2], [3, 4]])
        >>> m.to_pandas(["low", "high"])  # doctest: +SKIP
             low  high
        key
        5      1     2
        6      3     4
        """
        return frames.to_frame(*self._to_arrays(), columns)

    @classmethod
    def from_pandas(
        cls,
        frame: _pd.DataFrame | _pd.Series[Any],
        *,
        key: Any = None,
        row_shape: int | tuple[int, ...] | None = None,
        dtype: npt.DTypeLike | None = None,
        index: _Index = "auto",
        seed: int | None = None,
    ) -> Self:
        """Build a map from a pandas DataFrame: a row for each of its rows, an item for each of its columns.

        Parameters
        ----------
        frame : pandas.DataFrame or pandas.Series
            Of numbers. A Series makes rows of one item.
        key : label, optional
            The column of keys; the index if not given. The last of a duplicate wins.
        row_shape : int or tuple of int, optional
            Of the map: as many items as there are columns. If not given, the shape that `to_pandas` noted in a
            MultiIndex, or one axis.
        dtype : dtype_like, optional
            Of the map; what NumPy finds common to the columns if not given. Cast same-kind.
        index, seed
            As for the class.

        Returns
        -------
        IntArrayMap
            A new map of this class.

        Raises
        ------
        ImportError
            If pandas is not installed.
        TypeError
            If `frame` is something else, or a column is not of numbers, or the keys are not integers.
        ValueError
            If a number is missing (``pandas.NA``; NaN and NaT are numbers), or `row_shape` does not fit.
        OverflowError
            If a key is outside int64 or a number does not fit `dtype`.
        MemoryError
            If there is no room.

        Notes
        -----
        O(n), column by column.

        Examples
        --------
        >>> import pandas  # doctest: +SKIP
        >>> from intarraymap import IntArrayMap
        >>> frame = pandas.DataFrame({"low": [1, 3], "high": [2, 4]}, index=[5, 6])  # doctest: +SKIP
        >>> IntArrayMap.from_pandas(frame)[6]  # doctest: +SKIP
        array([3, 4])
        """
        shape = None if row_shape is None else coerce.row_shape(row_shape)
        keys, rows = frames.from_frame(frame, key, shape, None if dtype is None else coerce.dtype(dtype))
        maker: Any = cls
        return cast("Self", maker.from_arrays(keys, rows, index=index, seed=seed))

    # ---- NumPy's archives -------------------------------------------------------------------------------------------

    def to_npz(self, path: str | os.PathLike[str], *, compress: bool = False) -> None:
        """Write keys and rows to an .npz archive, as ``numpy.load`` reads it: the arrays ``keys`` and ``rows``.

        Parameters
        ----------
        path : path-like
            Its name is taken as it is. A file that is there is replaced when the new one is whole and on the disk, as
            by `save`: its permissions stay, and a symbolic link is followed.
        compress : bool, default False
            As ``numpy.savez_compressed``.

        Raises
        ------
        OSError
            If the file can't be written; an old one is as it was.
        TypeError
            If `path` is not a path.
        ValueError
            If the path contains a zero byte.
        MemoryError
            If there is no room for a copy of the rows.

        Notes
        -----
        O(n). For other programs and other versions; opening it means reading it all.

        Examples
        --------
        >>> import os, tempfile
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.from_arrays([5, 6], [[1, 2], [3, 4]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     m.to_npz(os.path.join(folder, "m.npz"))
        ...     IntArrayMap.from_npz(os.path.join(folder, "m.npz")) == m
        True
        """
        archive.write(path, *self._snapshot(), bool(compress))

    @classmethod
    def from_npz(cls, path: str | os.PathLike[str], *, index: _Index = "auto", seed: int | None = None) -> Self:
        """Build a map from an .npz archive with the arrays ``keys`` and ``rows``. Nothing in it is ever unpickled.

        Parameters
        ----------
        path : path-like
            As `to_npz` or ``numpy.savez(path, keys=keys, rows=rows)`` wrote it. The last of a duplicate key wins.
        index, seed
            As for the class.

        Returns
        -------
        IntArrayMap
            A new map of this class.

        Raises
        ------
        OSError
            If the file can't be read.
        ValueError
            If it is not such an archive, or is broken (a checksum covers the rows).
        TypeError, OverflowError
            If `path` is not a path, its keys are not integers within int64 or its rows are not numbers.
        MemoryError
            If there is no room.

        Notes
        -----
        O(n).

        Examples
        --------
        See `to_npz`.
        """
        maker: Any = cls
        return cast("Self", maker.from_arrays(*archive.read(path), index=index, seed=seed))


def _accept(requested_schema: object | None) -> None:
    """A producer may leave a request unanswered, and the consumer then casts; but it must be a request."""
    if requested_schema is not None and not _arrow.is_schema_capsule(requested_schema):
        raise TypeError(f"requested_schema must be a capsule of an Arrow schema, not {type(requested_schema).__name__}")
