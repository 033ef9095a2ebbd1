"""What `IntArrayMap.stats` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["MapStats"]


@dataclass(frozen=True, slots=True)
class MapStats:
    """A map as it was at one moment. Bytes are of committed memory, row numbers as in ``blocks()``.

    Attributes
    ----------
    count : int
        Keys present.
    index : {"hash", "direct"}
        The index, as it is now.
    leaving_direct : bool
        Whether keys are on their way from the direct to the hash index.
    bucket_count, overflow_count : int
        Hash: home buckets; overflow buckets in chains.
    load : float
        Hash: keys per home bucket, of its 8 slots.
    longest_chain : int
        Hash: buckets in the longest chain.
    evacuated : float
        Share of this doubling's home buckets that have been evacuated, 0 to 1; while leaving direct, the share of
        pages left.
    page_count, page_rows : int
        Direct: pages in use; rows in a page.
    bytes : int
        All memory committed: ``nbytes``.
    bytes_rows, bytes_keys, bytes_presence, bytes_views, bytes_buckets, bytes_overflow, bytes_directory : int
        The same by part; what is left is the map itself, the same few kilobytes for every map.
    rows_used, rows_free, rows_held : int
        Row numbers handed out and not given back; of them, free for reuse; of them, kept back by views.
    views, scans : int
        Live views (a ``blocks()`` call counts as one); live scans.
    growths : int
        Splits of a bucket, in all.
    allocations : int
        Requests for memory, in all.
    """

    count: int
    index: Literal["hash", "direct"]
    leaving_direct: bool
    bucket_count: int
    overflow_count: int
    load: float
    longest_chain: int
    evacuated: float
    page_count: int
    page_rows: int
    bytes: int
    bytes_rows: int
    bytes_keys: int
    bytes_presence: int
    bytes_views: int
    bytes_buckets: int
    bytes_overflow: int
    bytes_directory: int
    rows_used: int
    rows_free: int
    rows_held: int
    views: int
    scans: int
    growths: int
    allocations: int
