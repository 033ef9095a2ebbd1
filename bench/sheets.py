"""A record as tables of words. Terminal, page and README draw the same sheets."""

from dataclasses import dataclass, field

from .cases import named

WIN, LOSS, PLAIN = "win", "loss", ""
# The groups of a record in reading order, and what their tables are called.
GROUPS = {
    "operations": "Operations, 8 × float64 rows, one thread each",
    "sizes": "Cost against the number of keys",
    "patterns": "Key patterns",
    "widths": "Widths and dtypes",
    "threads": "The same with default threads",
    "bandwidth": "What the memory allows",
    "native": "C level: one batch of hits or misses, no Python",
}


@dataclass(frozen=True)
class Cell:
    """A word and whether it is good news."""

    text: str
    verdict: str = PLAIN


@dataclass
class Sheet:
    """One table."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    note: str = ""
    group: str = ""

    def row(self, *cells):
        self.rows.append(tuple(cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in cells))


@dataclass(frozen=True)
class Claim:
    """One target of the project and what became of it."""

    what: str
    keys: int
    measured: str
    target: str
    met: bool | None  # None: a side was missing


def figure(value):
    """A number with three significant digits, without an exponent."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value != 0 and abs(value) < 0.1:
        return f"{value:.3g}" if abs(value) >= 0.0001 else f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(three):
    """`median (min–max)`, or a dash."""
    return "–" if three is None else f"{figure(three[0])} ({figure(three[1])}–{figure(three[2])})"


def measured_words(value, unit):
    """A figure and its unit."""
    return f"{figure(value)} {unit}".rstrip()


def target_words(target):
    """A target as a reader says it."""
    if target.against == "floor":
        return f"≤ {target.ratio:g} × floor"
    return f"best rival{' it names' if target.names else ''} ≥ {target.ratio:g} × map"


def judged(three, better_above_one):
    """A ratio, coloured by which side of one its median lies on, if all of its rounds agree."""
    if three is None:
        return Cell("–")
    low, high = three[1:]
    good, bad = (low > 1, high < 1) if better_above_one else (high < 1, low > 1)
    return Cell(spread(three), WIN if good else LOSS if bad else PLAIN)


def verdict(met):
    return Cell("") if met is None else Cell("met", WIN) if met else Cell("MISSED", LOSS)


def name_of(case):
    """The operation with whatever is not as usual."""
    name = named(case.operation, case.pattern, case.width, case.dtype)
    return name if case.threads == "one each" else f"{name}, {case.threads}"


def claims(record):
    """Every target that was measured, losses first."""
    found = []
    for outcome in record.outcomes:
        for target in outcome.case.targets:
            reached = outcome.reached(target)
            against = "floor" if target.against == "floor" else outcome.best_rival(target.names)
            measured = "a side is missing" if reached is None else f"{spread(reached[0])} × ({against})"
            met = None if reached is None else reached[1]
            found.append(Claim(name_of(outcome.case), outcome.case.key_count, measured, target_words(target), met))
    for finding in record.findings:
        if finding.limit is not None:
            limit = f"≤ {measured_words(finding.limit, finding.unit)}"
            measured = measured_words(finding.value, finding.unit)
            found.append(Claim(f"{finding.who}: {finding.what}", finding.keys, measured, limit, finding.met()))
    return sorted(found, key=lambda claim: {False: 0, None: 1, True: 2}[claim.met])


def claims_sheet(record):
    """The claims, each met or missed with its ratio."""
    found = claims(record)
    missed = sum(claim.met is False for claim in found)
    unknown = sum(claim.met is None for claim in found)
    title = f"Targets: {len(found) - missed - unknown} met, {missed} missed"
    title += f", {unknown} without a side to compare" if unknown else ""
    sheet = Sheet(title, ("operation", "keys", "measured", "target", ""), group="claims")
    for claim in found:
        met = Cell("n/a") if claim.met is None else verdict(claim.met)
        # The figure has the colour too: on a phone the last column is out of sight.
        sheet.row(claim.what, f"{claim.keys:,}", Cell(claim.measured, met.verdict), claim.target, met)
    return sheet


def timed_sheet(group, outcomes):
    """Floor, map and best rival of every case of one group."""
    headings = ("operation", "keys", "floor", "map", "map CPU", "best rival", "its time", "map/floor", "rival/map", "")
    sheet = Sheet(GROUPS.get(group, group), headings, group=group)
    sheet.note = "ns per operation: median (min–max) over interleaved rounds; ratios are taken within each round"
    for outcome in outcomes:
        ours, floor = outcome.map_and_floor()
        rival = outcome.best_rival()
        reached = [outcome.reached(target) for target in outcome.case.targets]
        reached = [one[1] for one in reached if one is not None]
        sheet.row(
            name_of(outcome.case),
            f"{outcome.case.key_count:,}",
            spread(outcome.spread(floor)),
            spread(outcome.spread(ours)),
            spread(outcome.spread(ours, "cpu")),
            rival or "–",
            spread(outcome.spread(rival)),
            judged(outcome.ratio(ours, floor), better_above_one=False),
            judged(outcome.ratio(rival, ours), better_above_one=True),
            verdict(all(reached) if reached else None),
        )
    return sheet


def everyone_sheet(outcomes):
    """Every contestant's own figures: wall and CPU time."""
    headings = ("operation", "keys", "contestant", "wall ns", "CPU ns", "÷ map")
    sheet = Sheet("Everyone", headings, group="everyone")
    for outcome in outcomes:
        ours, _floor = outcome.map_and_floor()
        for name in sorted(outcome.timings, key=lambda name: outcome.spread(name)[0]):
            against = Cell("–")
            if name != ours and outcome.timings[name].role == "rival":
                against = judged(outcome.ratio(name, ours), better_above_one=True)
            timed = spread(outcome.spread(name, "wall")), spread(outcome.spread(name, "cpu"))
            sheet.row(name_of(outcome.case), f"{outcome.case.key_count:,}", name, *timed, against)
    return sheet


def mechanisms_sheet(outcomes):
    """Native against patched: one mechanism switched at a time."""
    headings = ("operation", "keys", "variant", "ns/op", "÷ defaults", "allocations/op", "bytes/op", "Python blocks/op")
    sheet = Sheet("Native against patched: each mechanism off and on", headings, group="mechanisms")
    sheet.note = (
        "÷ defaults: a variant's time over the time of the release defaults in the same round; "
        "allocations and bytes are the core's own, blocks are of Python's allocator. On dense keys mechanisms of the "
        "hash index (pipeline, SIMD, growth) are to be compared with the line index=hash"
    )
    for outcome in outcomes:
        ours, _floor = outcome.map_and_floor()
        for name, timing in outcome.timings.items():
            counts = timing.counts
            against = "1" if name == ours else judged(outcome.ratio(name, ours), better_above_one=True)
            counted = (figure(counts.get(what)) for what in ("allocations", "bytes", "blocks"))
            row = (name_of(outcome.case), f"{outcome.case.key_count:,}", name, spread(outcome.spread(name)))
            sheet.row(*row, against, *counted)
    return sheet


def measured_sheet(title, findings, note=""):
    """Findings, one number each."""
    group = findings[0].group if findings else ""
    sheet = Sheet(title, ("contestant", "measure", "keys", "value", "limit", ""), note=note, group=group)
    for finding in findings:
        limit = "–" if finding.limit is None else f"≤ {measured_words(finding.limit, finding.unit)}"
        value = measured_words(finding.value, finding.unit)
        sheet.row(finding.who, finding.what, f"{finding.keys:,}", value, limit, verdict(finding.met()))
    return sheet


def percentiles_sheet(title, findings, unit, note=""):
    """Findings whose detail holds percentiles, and maybe counts above thresholds."""
    columns = list(findings[0].detail["percentiles"])
    above = list(findings[0].detail.get("above", {}))
    more = list(findings[0].detail.get("columns", {}))
    headings = ("contestant", "what", "keys", *(f"p{name}" for name in columns), "max")
    headings += tuple(f"> {name}" for name in above) + tuple(more)
    sheet = Sheet(f"{title} ({unit})", headings, note=note, group=findings[0].group)
    for finding in findings:
        detail = finding.detail
        figures = [figure(detail["percentiles"].get(name)) for name in columns] + [figure(detail["max"])]
        figures += [f"{detail['above'][name]:,}" for name in above]
        figures += [figure(detail["columns"].get(name)) for name in more]
        sheet.row(finding.who, detail["what"], f"{finding.keys:,}", *figures)
    return sheet


def all_sheets(record):
    """Every table of a record, in reading order. Everyone's own figures are not among them."""
    sheets = [claims_sheet(record)]
    for group in GROUPS:
        outcomes, findings = record.group(group)
        if outcomes:
            sheets.append(timed_sheet(group, outcomes))
        if findings:
            sheets.append(measured_sheet(GROUPS[group], findings))
    outcomes, _ = record.group("mechanisms")
    if outcomes:
        sheets.append(mechanisms_sheet(outcomes))
    for group, make in MEASURED.items():
        _, findings = record.group(group)
        if findings:
            sheets.append(make(findings))
    known = set(GROUPS) | set(MEASURED) | {"mechanisms"}
    for group in dict.fromkeys(finding.group for finding in record.findings):
        if group not in known:
            sheets.append(measured_sheet(group.capitalize(), record.group(group)[1]))
    return sheets


def pauses_sheet(findings):
    note = (
        "every single call timed; of each call the least of several runs, so that interruptions by the machine drop "
        "out; the line that does nothing shows what noise is left"
    )
    kept = [finding for finding in findings if "percentiles" in finding.detail and finding.detail.get("shown", True)]
    return percentiles_sheet("Pauses of single operations", kept, "µs", note)


MEASURED = {
    "pauses": pauses_sheet,
    "gc": lambda findings: measured_sheet("Pauses of the garbage collector while so many rows are alive", findings),
    "latency": lambda findings: percentiles_sheet(
        "Latency of requests at a fixed rate, from the moment each was due", findings, "µs"
    ),
    "scheduler": lambda findings: measured_sheet("The scheduler, traced by perf", findings),
    "memory": lambda findings: measured_sheet("Memory, in fresh child processes", findings),
    "allocations": lambda findings: measured_sheet("Allocations: four counters beside each other", findings),
    "steps": lambda findings: measured_sheet(
        "Work of the longest single operations, counted", findings, "a step: a basic block, or 32 bytes moved"
    ),
}
