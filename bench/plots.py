"""Plots as SVG for the page: drawn by matplotlib, their colours left to the page's style sheet, so that one drawing is
right on a light and on a dark ground. Each function returns SVG text, or None where the record has nothing for it.
"""

import io
import re

import numpy as np

from .sheets import name_of

# Colours that stand for names; the page says what they are, once for light and once for dark.
INK, GRID, FLOOR, OURS, WIN, LOSS = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
SERIES = ("#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d", "#0e0e0e")
NAMES = {INK: "ink", GRID: "grid", FLOOR: "floor", OURS: "ours", WIN: "win", LOSS: "loss"}
NAMES |= {colour: f"series-{number}" for number, colour in enumerate(SERIES, 1)}
MARKS = "osv^D<>p"
SIZE = (5.0, 3.6)  # inches: about the width of a phone, so that letters keep their size there
ROW_BYTES = 72  # of 8 × float64 and a key
SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "patch.edgecolor": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 9,
    "lines.markersize": 4,
    "lines.linewidth": 1.4,
}


def drawn(name, draw, size=SIZE):
    """Sets up a figure, lets `draw(axes)` draw, and returns SVG that takes its colours from the page."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": name}):
        chart, axes = pyplot.subplots(figsize=size, layout="constrained")
        draw(axes)
        text = io.StringIO()
        chart.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(chart)
    return for_page(text.getvalue(), name)


def for_page(svg, name):
    """Without headers; ids of its own; colours by name; the reader's font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    for colour, word in NAMES.items():
        svg = svg.replace(colour, f"var(--{word})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"; font-family: [^;\"]*", "", svg)
    # A drawing as wide as its place, however wide that is.
    opening, rest = svg.split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", opening).replace("<svg", '<svg role="img"', 1) + ">" + rest


def mark_caches(axes, caches, low, high):
    """A line where the map's keys and rows fill each cache."""
    for name, cache_bytes in caches.items():
        count = cache_bytes / ROW_BYTES
        if low < count < high:
            axes.axvline(count, color=GRID, linewidth=1.2, linestyle="--")
            axes.text(count, 0.99, f" {name}", transform=axes.get_xaxis_transform(), fontsize=7, va="top")


def cost_against_count(record, operation, title):
    """Log-log cost of one operation against the number of keys, floor and rivals included."""
    outcomes = {}
    for outcome in record.outcomes:
        case = outcome.case
        if case.operation == operation and (case.width, case.pattern, case.threads) == (8, "uniform", "one each"):
            outcomes.setdefault(case.key_count, outcome)
    if len(outcomes) < 2:
        return None
    counts = sorted(outcomes)
    curves = {}
    for count in counts:
        for name, timing in outcomes[count].timings.items():
            curves.setdefault((timing.role, name), []).append((count, outcomes[count].spread(name)))

    def draw(axes):
        rivals = sorted((name for role, name in curves if role == "rival"), key=lambda n: curves["rival", n][-1][1][0])
        shown = [("floor", name) for role, name in curves if role == "floor"]
        shown += [("map", name) for role, name in curves if role == "map"] + [("rival", name) for name in rivals[:8]]
        number = 0
        for role, name in shown:
            points = curves[role, name]
            across = [count for count, _ in points]
            middle, low, high = (np.array([three[i] for _, three in points]) for i in range(3))
            colour = {"floor": FLOOR, "map": OURS}.get(role) or SERIES[number % len(SERIES)]
            mark = "o" if role != "rival" else MARKS[number % len(MARKS)]
            number += role == "rival"
            width = 2.4 if role == "map" else 1.2
            style = ":" if role == "floor" else "-"
            axes.plot(across, middle, style, marker=mark, color=colour, label=name, linewidth=width)
            axes.fill_between(across, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel="keys", ylabel="ns per operation", title=title)
        mark_caches(axes, record.machine.get("caches", {}), counts[0], counts[-1])
        axes.legend(ncols=2, loc="upper left", bbox_to_anchor=(0, -0.2))

    return drawn("cost-" + re.sub(r"\W+", "-", operation), draw, (SIZE[0], SIZE[1] + 1.0))


def wins_and_losses(record):
    """The best rival's time over the map's, for each operation at its largest count."""
    bars = {}
    for outcome in record.group("operations")[0]:
        ratio = outcome.ratio(outcome.best_rival(), outcome.map_and_floor()[0])
        if ratio is not None:
            bars[f"{name_of(outcome.case)}, {outcome.case.key_count:,}"] = ratio
    if not bars:
        return None

    def draw(axes):
        names = sorted(bars, key=lambda name: bars[name][0], reverse=True)
        middle = np.array([bars[name][0] for name in names])
        low, high = (np.array([bars[name][i] for name in names]) for i in (1, 2))
        colours = [WIN if value > 1 else LOSS for value in middle]
        axes.barh(
            names, np.log2(middle), color=colours, height=0.7, xerr=np.log2([middle / low, high / middle]), ecolor=INK
        )
        axes.axvline(0, color=INK, linewidth=1)
        ends = np.arange(np.floor(np.log2(low.min())), np.ceil(np.log2(high.max())) + 1)
        axes.set_xticks(ends, [f"1/{2**-end:g}" if end < 0 else f"{2.0**end:g}" for end in ends])
        axes.tick_params(axis="y", labelsize=7)
        axes.set(title="Best rival's time over the map's")
        axes.grid(axis="y", visible=False)

    return drawn("wins", draw, (SIZE[0] + 1, 0.8 + 0.19 * len(bars)))


def memory(record):
    """Resident and peak bytes a row, everyone at the largest count that all have."""
    bars = {}
    for finding in record.group("memory")[1]:
        if finding.unit == "bytes/row" and finding.what.startswith("built by whole"):
            bars.setdefault(finding.keys, {}).setdefault(finding.who, {})[finding.what.split(": ")[1]] = finding.value
    if not bars:
        return None
    count = max(bars, key=lambda keys: (len(bars[keys]), keys))

    def draw(axes):
        names = sorted(bars[count], key=lambda name: -bars[count][name].get("resident", 0))
        places = np.arange(len(names))
        resident = [bars[count][name].get("resident", 0) for name in names]
        peak = [bars[count][name].get("peak", 0) for name in names]
        colours = [OURS if name == "IntArrayMap" else SERIES[1] for name in names]
        axes.barh(places + 0.2, resident, 0.38, color=colours, label="resident")
        axes.barh(places - 0.2, peak, 0.38, color=colours, alpha=0.45, label="peak while building (paler)")
        axes.axvline(ROW_BYTES, color=FLOOR, linestyle=":", linewidth=1.5, label=f"key and row: {ROW_BYTES}")
        axes.set_yticks(places, names)
        axes.set(title=f"Memory at {count:,} keys", xlabel="bytes a row")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2))

    return drawn("memory", draw, (SIZE[0], SIZE[1] + 0.6))


def pauses(record, verb="insert"):
    """How many single calls took longer than …"""
    curves = {}
    for finding in record.group("pauses")[1]:
        if "histogram" in finding.detail and finding.detail["what"].startswith(f"{verb}, random"):
            curves[finding.who] = finding
    if not curves:
        return None

    def draw(axes):
        number = 0
        for name, finding in curves.items():
            edges = np.array(finding.detail["histogram"]["edges_us"])
            counts = np.array(finding.detail["histogram"]["counts"])
            longer = counts[::-1].cumsum()[::-1]
            some = longer > 0
            colour = FLOOR if name.startswith("nothing") else OURS if name == "IntArrayMap" else SERIES[number % 8]
            number += colour in SERIES
            width = 2.4 if colour == OURS else 1.3
            axes.step(edges[:-1][some], longer[some], where="post", color=colour, label=name, linewidth=width)
        axes.axvline(50, color=GRID, linestyle="--", linewidth=1.2)
        axes.text(50, 0.99, " 50 µs", transform=axes.get_xaxis_transform(), fontsize=7, va="top")
        keys = next(iter(curves.values())).keys
        axes.set(xscale="log", yscale="log", xlabel="µs", ylabel="calls that took longer")
        axes.set(title=f"Pauses of single {verb}s, {keys:,} random keys")
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)

    return drawn(f"pauses-{verb}", draw, (SIZE[0], SIZE[1] + 0.6))


def latency(record, noisy):
    """Percentiles of the request loop: by itself, or beside a busy neighbour."""
    findings = [f for f in record.group("latency")[1] if f.detail["what"].endswith("neighbour") == noisy]
    if not findings:
        return None

    def draw(axes):
        colours = {"IntArrayMap": OURS, "dict of arrays": SERIES[0]}
        for finding in findings:
            points = finding.detail["percentiles"] | {"100": finding.detail["max"]}
            across = [1 / max(1 - float(name) / 100, 1e-5) for name in points]
            pinned = finding.detail["what"].startswith("pinned")
            label = f"{finding.who}, {'pinned' if pinned else 'unpinned'}"
            style = {"linestyle": "--" if pinned else "-", "marker": "s" if pinned else "o"}
            axes.plot(across, list(points.values()), color=colours.get(finding.who, FLOOR), label=label, **style)
        ticks = {2: "50", 10: "90", 100: "99", 1000: "99.9", 10_000: "99.99", 100_000: "max"}
        axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel="µs from when a request was due")
        axes.set(title="Latency " + ("beside a busy neighbour" if noisy else "without a neighbour"))
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xticks([], minor=True)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)

    return drawn("latency-noisy" if noisy else "latency", draw, (SIZE[0], SIZE[1] + 0.6))


def all_plots(record):
    """`(title, svg)` of every plot the record has figures for."""
    made = [
        ("Wins and losses", wins_and_losses(record)),
        ("Lookups", cost_against_count(record, "get_many hits", "get_many, all hits")),
        ("Dense lookups", cost_against_count(record, "get_many dense keys", "get_many, dense keys")),
        ("Building", cost_against_count(record, "build (from_arrays)", "from_arrays")),
        ("One key at a time", cost_against_count(record, "scalar copy", "m[k].copy(), one key at a time")),
        ("Single inserts", cost_against_count(record, "scalar insert", "m[k] = row, new keys, growth included")),
        ("Memory", memory(record)),
        ("Pauses of inserts", pauses(record, "insert")),
        ("Pauses of deletes", pauses(record, "delete")),
        ("Latency", latency(record, noisy=False)),
        ("Latency beside a neighbour", latency(record, noisy=True)),
    ]
    return [(title, svg) for title, svg in made if svg]
