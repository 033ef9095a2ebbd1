"""The table in the terminal, and the same as JSON."""

import json
import platform
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("intarraymap", "numpy", "pandas", "cykhash", "numba", "scipy", "polars", "pyarrow")
HEADINGS = ("operation", "keys", "floor", "map", "best rival", "map/floor", "rival/map", "target", "")


def machine():
    """What the figures were measured on: processor, system, versions."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].strip() if names else processor
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": processor,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "huge_pages": huge.read_text().strip() if huge.exists() else "unknown",
        "versions": versions,
    }


def figure(value):
    """A number with three significant digits, without an exponent."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(three):
    """`median (min–max)`, or a dash."""
    return "–" if three is None else f"{figure(three[0])} ({figure(three[1])}–{figure(three[2])})"


def target_words(target):
    """A target as the issue writes it."""
    return f"≤ {target.ratio:g} × floor" if target.against == "floor" else f"rival ≥ {target.ratio:g} ×"


def timed_row(outcome):
    """One outcome as cells of the table."""
    ours, floor = outcome.map_and_floor()
    rival = outcome.best_rival()
    verdicts = [(target, outcome.reached(target)) for target in outcome.case.targets]
    verdict = " ".join("n/a" if reached is None else "met" if reached[1] else "MISSED" for _, reached in verdicts)
    return (
        outcome.case.operation,
        f"{outcome.case.key_count:,}",
        spread(outcome.spread(floor)) if floor else "–",
        spread(outcome.spread(ours)) if ours else "–",
        f"{rival} {spread(outcome.spread(rival))}" if rival else "–",
        spread(outcome.ratio(ours, floor)),
        spread(outcome.ratio(rival, ours)),
        ", ".join(target_words(target) for target, _ in verdicts) or "–",
        verdict,
    )


def print_table(headings, rows, stream=sys.stdout):
    """Plain text, columns as wide as they need to be."""
    cells = [tuple(map(str, row)) for row in [headings, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    for number, row in enumerate(cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=stream)
        if number == 0:
            print("  ".join("-" * width for width in widths), file=stream)


def print_timed(outcomes, stream=sys.stdout):
    """The table of the issue, then every contestant's own figure."""
    if not outcomes:
        return
    clock = outcomes[0].clock
    print(f"\nNanoseconds per operation ({clock} clock): median (min–max) over interleaved rounds.", file=stream)
    print("Ratios are taken within each round.\n", file=stream)
    print_table(HEADINGS, [timed_row(outcome) for outcome in outcomes], stream)
    print("\nEveryone (ns per operation, median):\n", file=stream)
    for outcome in outcomes:
        ranked = sorted(outcome.timings, key=lambda name: outcome.spread(name)[0])
        figures = " · ".join(f"{name} {figure(outcome.spread(name)[0])}" for name in ranked)
        note = f"  [{outcome.case.note}]" if outcome.case.note else ""
        print(f"{outcome.case.operation}, {outcome.case.key_count:,} keys: {figures}{note}", file=stream)


def print_measured(title, findings, stream=sys.stdout):
    """Findings that are one number each: pauses, memory, allocations."""
    if not findings:
        return
    print(f"\n{title}\n", file=stream)
    rows = []
    for finding in findings:
        limit = finding.get("limit")
        verdict = "" if limit is None else "met" if finding["value"] <= limit else "MISSED"
        target = "–" if limit is None else f"≤ {limit:g} {finding['unit']}"
        value = f"{figure(finding['value'])} {finding['unit']}"
        rows.append((finding["what"], f"{finding['keys']:,}", value, target, verdict))
    print_table(("measure", "keys", "value", "target", ""), rows, stream)


def as_json(outcomes, findings, settings):
    """Everything that was measured, every round of it."""
    timed = []
    for outcome in outcomes:
        timed.append(
            {
                "operation": outcome.case.operation,
                "keys": outcome.case.key_count,
                "operations_per_call": outcome.case.operation_count,
                "note": outcome.case.note,
                "targets": [
                    {"against": target.against, "ratio": target.ratio, "reached": outcome.reached(target)}
                    for target in outcome.case.targets
                ],
                "contestants": {
                    name: {"role": timing.role, "wall_ns": timing.wall, "cpu_ns": timing.cpu}
                    for name, timing in outcome.timings.items()
                },
            }
        )
    return {"settings": settings, "machine": machine(), "timed": timed, "measured": findings}


def write_json(path, outcomes, findings, settings):
    """Writes `as_json` to a file."""
    Path(path).write_text(json.dumps(as_json(outcomes, findings, settings), indent=1, ensure_ascii=False) + "\n")
