"""Keys, rows and queries: the same for every contestant, and for the native bench.

Keys are `splitmix64(0), splitmix64(1), …`: a bijection, so they are distinct by construction, look random over the
whole of int64, and any program in any language can make the same ones (`bench/native` does). A key whose number is
`count` or more is absent from a table of `count` keys.
"""

from dataclasses import dataclass

import numpy as np

ROW_ITEMS = 8
QUERY_COUNT = 1_000_000
ZIPF_EXPONENT = 1.2
SMALL = 1021  # a prime: sums of a million such numbers are exact in float64, of a few thousand in float32


def splitmix64(numbers):
    """Mix 64-bit numbers one to one (Steele, Lea, Flood 2014: the finalizer of SplittableRandom).

    Parameters
    ----------
    numbers : array of uint64

    Returns
    -------
    array of int64, same shape
    """
    golden, first, second = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * golden
    mixed = (mixed ^ (mixed >> np.uint64(30))) * first
    mixed = (mixed ^ (mixed >> np.uint64(27))) * second
    return (mixed ^ (mixed >> np.uint64(31))).view(np.int64)


def random_keys(count, first=0):
    """Keys number `first` … `first + count - 1`, scattered over the whole of int64."""
    return splitmix64(np.arange(first, first + count, dtype=np.uint64))


def dense_keys(count, first=0):
    """`first`, `first + 1`, …"""
    return np.arange(first, first + count, dtype=np.int64)


def make_rows(count, width=ROW_ITEMS, dtype="float64"):
    """Whole numbers: sums of them are exact, so answers are compared with `==`. As float64 all are different."""
    numbers = np.arange(count * width, dtype=np.int64)
    if dtype != "float64":
        numbers %= SMALL
    return numbers.astype(dtype).reshape(count, width)


# ---- Patterns: the same count of distinct keys, laid out as users and adversaries do ---------------------------------


def clustered_keys(count):
    """Runs of 64 consecutive keys at scattered places: ids handed out in blocks."""
    starts = splitmix64(np.arange(-(-count // 64), dtype=np.uint64)) & np.int64(-64)
    return (starts[:, None] + np.arange(64)).reshape(-1)[:count]


def strided_keys(count):
    """Multiples of 4096: addresses, page numbers."""
    return np.arange(count, dtype=np.int64) * 4096


def high_keys(count):
    """Multiples of 2^32: nothing in the low bits, which many tables take for the whole."""
    return np.arange(count, dtype=np.int64) << 32


def fibonacci_keys(count):
    """Keys that Fibonacci hashing sends to one slot: multiples of the inverse of its factor modulo 2^64."""
    inverse = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
    return (np.arange(count, dtype=np.uint64) * inverse).view(np.int64)


def dict_keys(count):
    """Keys that one bit pattern in CPython's dict sends through the same slots for long: multiples of 2^44."""
    return ((np.arange(count, dtype=np.uint64) << np.uint64(44)) + np.arange(count, dtype=np.uint64) // 2**20).view(
        np.int64
    )


def patterns():
    """`name: (keys of a count, how queries are drawn from them)`."""
    return {
        "uniform": (random_keys, hits),
        "Zipf(1.2) queries": (random_keys, zipf_hits),
        "sequential": (dense_keys, sequential_hits),
        "clustered": (clustered_keys, hits),
        "strided by 4096": (strided_keys, hits),
        "adversarial, multiples of 2^32": (high_keys, hits),
        "adversarial, against Fibonacci hashing": (fibonacci_keys, hits),
        "adversarial, against dict": (dict_keys, hits),
    }


@dataclass(frozen=True)
class Queries:
    """One call's worth of keys, and where their rows are: `positions[i]` is -1 where `keys[i]` is missing."""

    keys: np.ndarray
    positions: np.ndarray


def hits(keys, seed, count=QUERY_COUNT):
    """Queries drawn uniformly from `keys`: every one is there."""
    positions = np.random.default_rng(seed).integers(0, keys.size, count)
    return Queries(keys[positions], positions)


def zipf_hits(keys, seed, count=QUERY_COUNT):
    """Queries by Zipf's law with exponent 1.2: a few keys are asked for again and again."""
    positions = (np.random.default_rng(seed).zipf(ZIPF_EXPONENT, count) - 1) % keys.size
    return Queries(keys[positions], positions)


def sequential_hits(keys, seed, count=QUERY_COUNT):
    """Queries in the order of the keys, from some place on and around."""
    positions = (np.random.default_rng(seed).integers(0, keys.size) + np.arange(count)) % keys.size
    return Queries(keys[positions], positions)


def half_missing(keys, seed, count=QUERY_COUNT):
    """Queries of which about half are absent, in random order. `keys` must come from `random_keys`."""
    rng = np.random.default_rng(seed)
    positions = rng.integers(0, keys.size, count)
    absent = rng.random(count) < 0.5
    positions[absent] = -1
    fresh = splitmix64(rng.integers(keys.size, 2**63, count).astype(np.uint64))
    return Queries(np.where(absent, fresh, keys[positions]), positions)


def every_key(keys, seed):
    """Every key once, in random order."""
    positions = np.random.default_rng(seed).permutation(keys.size)
    return Queries(keys[positions], positions)


def uniform_updates(seed, count=QUERY_COUNT):
    """Update keys, uniform over `count / 10` random keys."""
    return random_keys(count // 10)[np.random.default_rng(seed).integers(0, count // 10, count)]


def zipf_updates(seed, count=QUERY_COUNT):
    """Update keys by NumPy's Zipf with exponent 1.2: ranks without bound (one in five is 1), scattered over int64."""
    return splitmix64(np.random.default_rng(seed).zipf(ZIPF_EXPONENT, count).astype(np.uint64))


def summed(keys, rows):
    """What accumulating `rows` by `keys` gives, by NumPy: `(distinct keys in ascending order, their sums)`."""
    distinct, positions = np.unique(keys, return_inverse=True)
    totals = [np.bincount(positions, weights=rows[:, item]) for item in range(rows.shape[1])]
    return distinct, np.column_stack(totals).astype(rows.dtype)
