"""The whole map at once: as arrays, as blocks, emptied, reserved, compacted, closed, described."""

from __future__ import annotations

from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from intarraymap import coerce
from intarraymap._batch import Batch
from intarraymap.stats import MapStats

__all__ = ["WholeMap"]

D = TypeVar("D", bound=np.generic)


class WholeMap(Batch[D]):
    """The methods of IntArrayMap that concern all of its rows."""

    __slots__ = ()

    def to_arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[D]]:
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
        >>> from intarraymap import IntArrayMap
        >>> IntArrayMap.from_arrays([5, 6], [[1.0], [2.0]]).to_arrays()
        (array([5, 6]), array([[1.],
               [2.]]))
        """
        return self._to_arrays()

    def blocks(self) -> list[tuple[int, npt.NDArray[np.int64], npt.NDArray[D], npt.NDArray[np.uint8]]]:
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
        O(blocks). While any of the arrays lives, no row that is freed is used again and `compact` raises BufferError.
        They show what the storage shows: a key deleted later leaves ``present``, and its place in ``keys`` is undefined
        then; a row that was free before may come to have a key.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.from_arrays([5, 6], [[1.0], [2.0]], index="hash")
        >>> for first, keys, rows, present in m.blocks():
        ...     rows *= 10
        >>> m[6]
        array([20.])
        """
        return self._blocks()

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
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap.fromkeys([5], [0.0])
        >>> m.clear()
        >>> len(m)
        0
        """
        self._clear()

    def reserve(self, n: int) -> None:
        """Make room for `n` rows in all, so that insertions up to there allocate nothing.

        Under ``index="direct"`` that is room for keys without gaps: others need more pages than that. A batch may ask
        for memory to work in, and does without where there is none.

        Parameters
        ----------
        n : int
            Rows in all, those present included. Less than there is room for changes nothing.

        Raises
        ------
        TypeError, ValueError, OverflowError
            If `n` is not an integer, is negative, or above 2**32 - 2; ValueError also if the map is read-only.
        MemoryError
            If there is no room; the map is as before.

        Notes
        -----
        A whole-map call: buckets are split at once, rows stay where they are. Releases the GIL.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2)
        >>> m.reserve(1000)
        """
        self._require_writable()
        self._reserve(coerce.capacity(n, "n"))

    def compact(self) -> None:
        """Close holes, give spare memory back and choose the index anew. Row numbers change.

        The order stays, but ascends within a page where the index becomes direct.

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
        >>> from intarraymap import IntArrayMap
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
        >>> from intarraymap import IntArrayMap
        >>> IntArrayMap.fromkeys(range(3), [0.0]).stats().count
        3
        """
        return MapStats(**self._stats())

    def close(self) -> None:
        """Give all memory back now. Views keep their rows.

        Afterwards every call and iterator step raises ValueError, except `close` and ``repr``.

        Notes
        -----
        O(n). Waits for a batch in progress. Twice is fine.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
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
