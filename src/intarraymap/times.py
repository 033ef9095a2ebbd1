"""Times of one unit in another: datetime64 and timedelta64, converted and compared exactly.

On the way from one unit to another NumPy multiplies and divides numbers of 64 bits and lets them wrap. Here what fits
is right, and what does not fit is told; coerce.py makes errors of it. Knows NumPy and nothing of ours.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["convert", "convertible", "equal", "is_sound"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

INT64: Final = np.dtype(np.int64)
INT64_MAX: Final = 2**63 - 1
NAT: Final = -(2**63)
_DAY: Final = np.dtype("M8[D]")
_MONTH: Final = np.dtype("M8[M]")

#: Attoseconds in a unit. Months and years have no number of them.
_ATTOSECONDS: Final = {"as": 1, "fs": 10**3, "ps": 10**6, "ns": 10**9, "us": 10**12, "ms": 10**15} | {
    unit: seconds * 10**18 for unit, seconds in {"s": 1, "m": 60, "h": 3600, "D": 86400, "W": 604800}.items()
}
_MONTHS: Final = {"M": 1, "Y": 12}


def is_sound(dtype: np.dtype[Any]) -> bool:
    """False for times such as "M8[0s]" and "M8[s/-1]", which NumPy lets exist.

    Even to compare dtypes, sound == unsound, it divides by zero, which ends the process. unsound == sound does not.
    """
    return dtype.kind not in "mM" or _unit(dtype)[1] > 0


def convertible(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether times of one dtype mean something in another: a timedelta of months is no number of days."""
    if source.kind != target.kind or not is_sound(source) or not is_sound(target):
        return False
    return source.kind == "M" or len({_unit(source)[0], _unit(target)[0]} - {"none"}) < 2


def convert(times: Array, target: np.dtype[Any]) -> tuple[Array, Mask | None]:
    """Native times in a dtype that they are convertible to, rounded down, and where they do not fit (None: nowhere)."""
    kind, length = _unit(times.dtype)
    target_kind, target_length = _unit(target)
    if "none" in (kind, target_kind):  # the numbers as they are
        return times.astype(target), None
    if kind == target_kind:
        return _scaled(times, target, length, target_length)
    if kind == "attoseconds":
        days, lost = _scaled(times, _DAY, length, _ATTOSECONDS["D"])
        return _scaled(_months(days), target, 1, target_length)[0], lost
    months, lost = _scaled(times, _MONTH, length, 1)
    days = months.astype(_DAY)
    wrapped = np.asarray(_months(days).view(INT64) != months.view(INT64))
    result, far = _scaled(days, target, _ATTOSECONDS["D"], target_length)
    for more in (lost, far):
        wrapped = wrapped if more is None else wrapped | more
    return result, wrapped if wrapped.any() else None


def equal(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape and kind hold the same times; NaT differs from NaT."""
    if not is_sound(a.dtype) or not is_sound(b.dtype):
        return a.size == 0
    units = _unit(a.dtype), _unit(b.dtype)
    kinds = {kind for kind, _ in units}
    if units[0] == units[1] or "none" in kinds:
        return bool(np.asarray(a == b).all())
    if len(kinds) == 2:
        if a.dtype.kind == "m":
            return a.size == 0
        return _same_months(b, a) if units[0][0] == "months" else _same_months(a, b)
    common = math.gcd(units[0][1], units[1][1])
    scale, other_scale = units[0][1] // common, units[1][1] // common
    numbers, others = _numbers(a), _numbers(b)
    if max(scale, other_scale) > INT64_MAX:
        return not numbers.any() and not others.any()
    # number * scale == other * other_scale, asked so that nothing wraps: the scales have no divisor in common.
    whole, other_whole = numbers // other_scale, others // scale
    same = (whole == other_whole) & (whole * other_scale == numbers) & (other_whole * scale == others)
    return bool((same & (numbers != NAT) & (others != NAT)).all())


def _unit(dtype: np.dtype[Any]) -> tuple[str, int]:
    """What a time counts, and how many of it one step is."""
    unit, steps = np.datetime_data(dtype)
    if unit in _MONTHS:
        return "months", steps * _MONTHS[unit]
    return ("attoseconds", steps * _ATTOSECONDS[unit]) if unit in _ATTOSECONDS else ("none", 1)


def _numbers(times: Array) -> npt.NDArray[np.int64]:
    return times.astype(times.dtype.newbyteorder("="), copy=False).view(INT64)


def _same_months(times: Array, months: Array) -> bool:
    """Whether times of days or less are the first moments of months."""
    times = _numbers(times).view(times.dtype.newbyteorder("="))
    rounded = convert(times, _MONTH)[0]
    back, lost = convert(rounded, times.dtype)
    return lost is None and bool((_numbers(back) == _numbers(times)).all()) and equal(rounded, months)


def _months(days: Array) -> Array:
    """The months that days lie in. Where NumPy's arithmetic would wrap it is asked one turn of the calendar later."""
    numbers = days.view(INT64)
    early = (numbers < NAT // 2) & (numbers != NAT)
    months = (numbers + early * np.int64(400 * 365 + 97)).view(_DAY).astype(_MONTH)
    return np.asarray(months.view(INT64) - early * np.int64(4800)).view(_MONTH)


def _scaled(times: Array, target: np.dtype[Any], length: int, target_length: int) -> tuple[Array, Mask | None]:
    """convert() where both count the same."""
    common = math.gcd(length, target_length)
    factor, divisor = length // common, target_length // common
    numbers = times.reshape(-1).view(INT64)
    missing = numbers == NAT
    if max(factor, divisor) <= INT64_MAX:
        beyond = np.abs(numbers) > INT64_MAX // factor  # not NaT, which stays negative
        result = numbers * factor // divisor  # not by astype: NumPy's own factor may not fit, and rounding down wraps
        result[missing] = NAT
    else:
        beyond, result = ~missing, np.full(numbers.shape, NAT, INT64)
    lost: Mask | None = None
    if beyond.any():
        exact = numbers[beyond].astype(object) * factor // divisor
        fits = np.asarray((exact > NAT) & (exact <= INT64_MAX), np.bool_)
        result[beyond] = np.where(fits, exact, 0).astype(INT64)
        if not fits.all():
            lost = np.zeros(numbers.shape, np.bool_)
            lost[beyond] = ~fits
            lost = lost.reshape(times.shape)
    return result.view(target).reshape(times.shape), lost
