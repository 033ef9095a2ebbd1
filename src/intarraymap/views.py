"""keys(), values() and items(): live views of a map, as dict's are.

Keys and items come from ``collections.abc``, set operations included; here is only what they can't know: that the
binding has iterators of its own, and that rows are equal when their numbers are.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from intarraymap import equality
from intarraymap._binding import ITEMS, VALUES

if TYPE_CHECKING:
    from intarraymap.mapping import IntArrayMap

__all__ = ["MapItems", "MapKeys", "MapValues"]

D = TypeVar("D", bound=np.generic)


class MapKeys(KeysView[int]):
    """The keys of a map as a live set of ints, in row order."""

    __slots__ = ()
    _mapping: IntArrayMap[Any]

    @property
    def mapping(self) -> MappingProxyType[int, npt.NDArray[Any]]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)

    def __iter__(self) -> Iterator[int]:
        return iter(self._mapping)

    def __reversed__(self) -> Iterator[int]:
        return reversed(self._mapping)


class MapValues(ValuesView[npt.NDArray[D]]):
    """The rows of a map as live views, in row order."""

    __slots__ = ()
    _mapping: IntArrayMap[D]

    @property
    def mapping(self) -> MappingProxyType[int, npt.NDArray[D]]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)

    def __contains__(self, row: object) -> bool:
        for mine in self:  # noqa: SIM110  # CPython 3.11 loses the row if there is no memory for a generator
            if equality.row_equals(mine, row):
                return True
        return False

    def __iter__(self) -> Iterator[npt.NDArray[D]]:
        return self._mapping._cursor(VALUES, False)

    def __reversed__(self) -> Iterator[npt.NDArray[D]]:
        return self._mapping._cursor(VALUES, True)


class MapItems(ItemsView[int, npt.NDArray[D]]):
    """The (key, row) pairs of a map, rows as live views, in row order."""

    __slots__ = ()
    _mapping: IntArrayMap[D]

    @property
    def mapping(self) -> MappingProxyType[int, npt.NDArray[D]]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, row = item
        if key not in self._mapping:
            return False
        mine = self._mapping.get(key)
        return mine is not None and equality.row_equals(mine, row)

    def __iter__(self) -> Iterator[tuple[int, npt.NDArray[D]]]:
        return self._mapping._cursor(ITEMS, False)

    def __reversed__(self) -> Iterator[tuple[int, npt.NDArray[D]]]:
        return self._mapping._cursor(ITEMS, True)
