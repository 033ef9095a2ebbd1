"""What the tests of files share: an image taken to pieces by docs/format.md alone, and sealed again over any lie."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

MASK = 2**64 - 1
FACTOR = 0x9FB21C651E98DF25
STEP = 0x9E3779B97F4A7C15
HEADER = 4096
BLOCK = 65536
PARTS = "rows keys presence buckets overflow directory pages checksums".split()
#: Fields of the header: name -> (offset, struct code).
FIELDS = {
    "version": (8, "<I"),
    "byte_order": (12, "<I"),
    "file_bytes": (16, "<Q"),
    "key_count": (24, "<Q"),
    "row_count": (32, "<Q"),
    "row_bytes": (40, "<Q"),
    "kind": (48, "<I"),
    "index": (52, "<I"),
    "index_asked": (56, "<I"),
    "axis_count": (60, "<I"),
    "time_multiple": (64, "<Q"),
    "time_unit": (72, "<8s"),
    "seed": (80, "<Q"),
    "bucket_count": (88, "<Q"),
    "overflow_count": (96, "<Q"),
    "page_log2": (104, "<Q"),
    "page_low": (112, "<Q"),
    "page_span": (120, "<Q"),
    "page_count": (128, "<Q"),
    "linear": (136, "<Q"),
}


def checksum(data: bytes, seed: int) -> int:
    """As docs/format.md says it, in the slowest and plainest words."""
    lanes = [(seed + STEP * (lane + 1)) & MASK for lane in range(8)]

    def step(lane: int, word: int) -> int:
        mixed = ((lane ^ word) * FACTOR) & MASK
        return ((mixed << 29) | (mixed >> 35)) & MASK

    for place, word in enumerate(np.frombuffer(data, "<u8").tolist()):
        lanes[place % 8] = step(lanes[place % 8], word)
    total = seed ^ len(data)
    for lane in lanes:
        total = step(total, lane)
    return total ^ (total >> 32)


class Image:
    """The bytes of an image, to be changed at will."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = bytearray(path.read_bytes())

    def get(self, field: str):
        offset, code = FIELDS[field]
        return struct.unpack_from(code, self.data, offset)[0]

    def set(self, field: str, number) -> Image:
        offset, code = FIELDS[field]
        struct.pack_into(code, self.data, offset, number)
        return self

    def section(self, name: str) -> tuple[int, int]:
        """(offset, bytes)."""
        return struct.unpack_from("<QQ", self.data, 144 + 16 * PARTS.index(name))

    def part(self, name: str, dtype: str) -> np.ndarray:
        """A section as a writable array."""
        offset, count = self.section(name)
        return np.frombuffer(memoryview(self.data)[offset : offset + count], dtype)

    def seal(self) -> Image:
        """All checksums made right."""
        self.seal_header()
        header = struct.unpack_from("<Q", self.data, HEADER - 8)[0]
        end, length = self.section("checksums")
        count = length // 8 - 1
        sums = []
        for block in range(count):
            first = HEADER + block * BLOCK
            sums.append(checksum(bytes(self.data[first : min(first + BLOCK, end)]), (header + block * FACTOR) & MASK))
        packed = struct.pack(f"<{count}Q", *sums)
        struct.pack_into(f"<{count}Q", self.data, end, *sums)
        struct.pack_into("<Q", self.data, end + 8 * count, checksum(packed, (header + count * FACTOR) & MASK))
        return self

    def seal_header(self) -> Image:
        struct.pack_into("<Q", self.data, HEADER - 8, checksum(bytes(self.data[: HEADER - 8]), 1))
        return self

    def write(self, path: Path | None = None) -> Path:
        path = self.path if path is None else path
        path.write_bytes(self.data)
        return path


def find(image: Image, key: int) -> bytes | None:
    """The row of a key, by docs/format.md alone."""
    row = _find_hash(image, key) if image.get("index") == 1 else _find_direct(image, key)
    if row is None:
        return None
    size = image.get("row_bytes")
    start = image.section("rows")[0] + row * size
    return bytes(image.data[start : start + size])


def _find_direct(image: Image, key: int) -> int | None:
    place = (key & MASK) ^ 2**63
    page, offset = divmod(place, 2 ** image.get("page_log2"))
    if not image.get("page_low") <= page < image.get("page_low") + image.get("page_span"):
        return None
    directory = image.part("directory", "<u4")
    entry = int(directory[page & (len(directory) - 1)])
    if entry == 0:
        return None
    assert image.part("pages", "<u8")[entry - 1] == page
    row = (entry - 1) * 2 ** image.get("page_log2") + offset
    return row if int(image.part("presence", "<u8")[row // 64]) >> row % 64 & 1 else None


def _find_hash(image: Image, key: int) -> int | None:
    count = image.get("bucket_count")
    if count == 0:
        return None
    state = image.get("seed")
    secret = []
    for _ in range(2):
        state = (state + STEP) & MASK
        mixed = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & MASK
        secret.append(mixed ^ mixed >> 31)
    first, second = secret[0], secret[1] | 1

    def fold(a: int, b: int) -> int:
        return (a * b & MASK) ^ (a * b >> 64)

    hashed = fold(fold((key & MASK) ^ first, second) ^ first, STEP ^ second)
    tophash = hashed >> 56
    tophash += 5 * (tophash < 5)
    level = 1 << (count.bit_length() - 1)
    home = hashed & (2 * level - 1)
    home -= level * (home >= count)
    bucket = image.part("buckets", "u1").reshape(-1, 128)[home]
    for _ in range(17):
        link, used = int(bucket[8:12].view("<u4")[0]), int(bucket[12])
        rows = [*bucket[16:32].view("<u4").tolist(), *bucket[96:112].view("<u4").tolist()]
        for slot, there in enumerate(bucket[32:96].view("<i8").tolist()[:used]):
            if bucket[slot] == tophash and there == key:
                return rows[slot]
        if link == 0:
            return None
        bucket = image.part("overflow", "u1").reshape(-1, 128)[link - 1]
    raise AssertionError("a chain is too long")
