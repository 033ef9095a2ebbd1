"""The picture of the year: the worst routes, and how late the days were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from flights_table import Table
from numpy.typing import NDArray

INK, QUIET, BLUE, RED = "#222222", "#767676", "#2f6db3", "#c4432b"


def draw(
    path: Path,
    table: Table,
    routes: Sequence[str],
    route_delays: NDArray[np.float64],
    route_flights: NDArray[np.int64],
    days: NDArray[np.int64],
    day_delays: NDArray[np.float64],
) -> None:
    """Draw mean arrival delays by route (bars) and by day (line) into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import dates, pyplot

    style = {
        "font.size": 11,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#bbbbbb",
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
    }
    with pyplot.rc_context(style):
        figure, (left, right) = pyplot.subplots(
            1, 2, figsize=(15, 6.4), width_ratios=(1, 1.5), layout="constrained", gridspec_kw={"wspace": 0.05}
        )
        what = "New York City, 2013" if table.real else "generated numbers, not real flights"
        figure.suptitle(f"Who arrives late, and when: {what}", fontsize=17, fontweight="bold", x=0.01, ha="left")

        places = np.arange(len(routes))
        left.barh(places, route_delays, color=[RED, *[BLUE] * (len(routes) - 1)], height=0.72)
        left.set_yticks(places, routes, family="monospace")
        left.invert_yaxis()
        left.set_xlim(0, route_delays.max() * 1.12)
        for place, (delay, flights) in enumerate(zip(route_delays, route_flights, strict=True)):
            left.text(delay + route_delays.max() * 0.015, place, f"{delay:.1f}", va="center", fontweight="bold")
            left.text(route_delays.max() * 0.015, place, f"{flights:,} arrivals", va="center", color="white")
        left.set_xlabel("mean arrival delay, minutes")
        left.set_title("The worst routes", loc="left", fontsize=13)
        left.tick_params(axis="y", length=0)

        when = days.astype("datetime64[D]")
        right.axhline(0, color="#999999", linewidth=0.8)
        right.bar(when, day_delays, width=1.0, color=BLUE, alpha=0.55, linewidth=0, label="each day")
        week = np.convolve(day_delays, np.ones(7) / 7, mode="valid")
        right.plot(when[3 : 3 + len(week)], week, color=INK, linewidth=2, label="mean of seven days")
        for place in _peaks(day_delays, 4):
            right.plot(when[place], day_delays[place], "o", color=RED, markersize=6)
            right.annotate(
                f"{when[place].item():%d %b}\n{day_delays[place]:.0f} min",
                (when[place], day_delays[place]),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                color=RED,
                fontweight="bold",
            )
        right.set_ylim(None, day_delays.max() * 1.16)
        right.xaxis.set_major_locator(dates.MonthLocator())
        right.xaxis.set_major_formatter(dates.DateFormatter("%b"))
        right.set_xlim(when[0], when[-1] + 1)
        right.set_ylabel("mean arrival delay, minutes")
        right.set_title("Every day of the year", loc="left", fontsize=13)
        right.grid(axis="y", color="#eeeeee")
        right.set_axisbelow(True)
        right.legend(frameon=False, loc="upper right")

        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


def _peaks(delays: NDArray[np.float64], most: int) -> list[int]:
    """The latest days, no two within a month, so that their labels stand apart."""
    chosen: list[int] = []
    for place in np.argsort(-delays).tolist():
        if all(abs(place - other) > 31 for other in chosen):
            chosen.append(place)
        if len(chosen) == most:
            break
    return chosen
